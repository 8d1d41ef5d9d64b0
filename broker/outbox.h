// SPDX-License-Identifier: MIT
//
// What a round wants to let out, in order, kept until its commit is durable
// (S3). A message is kept as the bytes of its own struct, not of the largest
// one.

#ifndef FLEET_BROKER_OUTBOX_H
#define FLEET_BROKER_OUTBOX_H

#include "proto/keys.h"

typedef enum outbox_kind {
    OUTBOX_SEND,    // message to connection `peer`
    OUTBOX_PUBLISH, // message under topic `name`
    OUTBOX_CUT,     // the connections of `key`
    OUTBOX_FENCE,   // node `name`
    OUTBOX_NOTE     // a line of the log
} outbox_kind_t;

typedef struct outbox_item {
    outbox_kind_t kind;
    uint64_t peer;
    char name[64];
    fleet_key_t key;
    fleet_text_t text;
    uint64_t rev;    // SEND: the definition of set `name` follows, of this
    bool definition; // revision (0: the newest)
    size_t frames_n; // raw frames, behind the message
    size_t sizes[2];
    fleet_message_type_t type;
    size_t message_size;
} outbox_item_t;

typedef struct outbox outbox_t;

outbox_t *outbox_new(void);
void outbox_destroy(outbox_t **outbox_p);

// Bytes that wait; a round that has many takes no more inputs.
size_t outbox_size(const outbox_t *outbox);

// Each puts one item at the end.
void outbox_send(outbox_t *outbox, uint64_t peer,
                 const fleet_message_t *message);
void outbox_send_frames(outbox_t *outbox, uint64_t peer,
                        const fleet_message_t *message,
                        const fleet_bytes_t frames[2]);
void outbox_send_definition(outbox_t *outbox, uint64_t peer,
                            const fleet_message_t *message, const char *set,
                            uint64_t rev);
void outbox_publish(outbox_t *outbox, const char *topic,
                    const fleet_message_t *message);
void outbox_cut(outbox_t *outbox, const fleet_key_t key);
void outbox_fence(outbox_t *outbox, const char *node);
void outbox_note(outbox_t *outbox, const char *text);

// Takes the next item: the item, its message (if it has one) and its raw
// frames, which stay valid until outbox_reset.  False at the end.
bool outbox_next(outbox_t *outbox, outbox_item_t *ret_item,
                 fleet_message_t *ret_message, uint8_t *ret_frames[2]);

// Forgets everything.
void outbox_reset(outbox_t *outbox);

#endif
