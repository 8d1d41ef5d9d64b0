// SPDX-License-Identifier: MIT

#include "broker/outbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

// A message without its tag is its struct, wherever the union puts it.
#define BODY(message) ((uint8_t *)(message) + offsetof(fleet_message_t, event))

struct outbox {
    uint8_t *bytes;
    size_t n;
    size_t room;
    size_t taken;
};

outbox_t *outbox_new(void) {
    outbox_t *outbox = calloc(1, sizeof *outbox);
    if (outbox == NULL) {
        abort();
    }
    return outbox;
}

void outbox_destroy(outbox_t **outbox_p) {
    if (*outbox_p == NULL) {
        return;
    }
    free((*outbox_p)->bytes);
    free(*outbox_p);
    *outbox_p = NULL;
}

size_t outbox_size(const outbox_t *outbox) {
    return outbox->n;
}

static void put(outbox_t *outbox, const void *bytes, size_t size) {
    if (outbox->room - outbox->n < size) {
        outbox->room = outbox->room * 2 + size + 65536;
        uint8_t *grown = realloc(outbox->bytes, outbox->room);
        if (grown == NULL) {
            abort();
        }
        outbox->bytes = grown;
    }
    if (size > 0) {
        memcpy(outbox->bytes + outbox->n, bytes, size);
    }
    outbox->n += size;
}

static void put_item(outbox_t *outbox, outbox_item_t *item,
                     const fleet_message_t *message,
                     const fleet_bytes_t frames[2]) {
    if (message != NULL) {
        const fleet_struct_spec_t *spec = fleet_message_spec(message->type);
        assert(spec != NULL);
        item->type = message->type;
        item->message_size = spec->size;
    }
    assert(frames != NULL || item->frames_n == 0);
    for (size_t i = 0; frames != NULL && i < item->frames_n; i++) {
        item->sizes[i] = frames[i].size;
    }
    put(outbox, item, sizeof *item);
    if (message != NULL) {
        put(outbox, BODY(message), item->message_size);
    }
    for (size_t i = 0; frames != NULL && i < item->frames_n; i++) {
        put(outbox, frames[i].data, frames[i].size);
    }
}

void outbox_send(outbox_t *outbox, uint64_t peer,
                 const fleet_message_t *message) {
    outbox_item_t item = {.kind = OUTBOX_SEND, .peer = peer};
    put_item(outbox, &item, message, NULL);
}

void outbox_send_frames(outbox_t *outbox, uint64_t peer,
                        const fleet_message_t *message,
                        const fleet_bytes_t frames[2]) {
    outbox_item_t item = {.kind = OUTBOX_SEND, .peer = peer, .frames_n = 2};
    put_item(outbox, &item, message, frames);
}

void outbox_send_definition(outbox_t *outbox, uint64_t peer,
                            const fleet_message_t *message, const char *set,
                            uint64_t rev) {
    outbox_item_t item = {
        .kind = OUTBOX_SEND, .peer = peer, .rev = rev, .definition = true};
    FLEET_COPY(item.name, set);
    put_item(outbox, &item, message, NULL);
}

void outbox_publish(outbox_t *outbox, const char *topic,
                    const fleet_message_t *message) {
    outbox_item_t item = {.kind = OUTBOX_PUBLISH};
    FLEET_COPY(item.name, topic);
    put_item(outbox, &item, message, NULL);
}

void outbox_cut(outbox_t *outbox, const fleet_key_t key) {
    outbox_item_t item = {.kind = OUTBOX_CUT};
    memcpy(item.key, key, FLEET_KEY_SIZE);
    put_item(outbox, &item, NULL, NULL);
}

void outbox_fence(outbox_t *outbox, const char *node) {
    outbox_item_t item = {.kind = OUTBOX_FENCE};
    FLEET_COPY(item.name, node);
    put_item(outbox, &item, NULL, NULL);
}

void outbox_note(outbox_t *outbox, const char *text) {
    outbox_item_t item = {.kind = OUTBOX_NOTE};
    FLEET_COPY(item.text, text);
    put_item(outbox, &item, NULL, NULL);
}

static void get(outbox_t *outbox, void *ret_bytes, size_t size) {
    assert(outbox->n - outbox->taken >= size);
    memcpy(ret_bytes, outbox->bytes + outbox->taken, size);
    outbox->taken += size;
}

bool outbox_next(outbox_t *outbox, outbox_item_t *ret_item,
                 fleet_message_t *ret_message, uint8_t *ret_frames[2]) {
    if (outbox->taken == outbox->n) {
        return false;
    }
    get(outbox, ret_item, sizeof *ret_item);
    ret_message->type = ret_item->type;
    if (ret_item->message_size > 0) {
        get(outbox, BODY(ret_message), ret_item->message_size);
    }
    for (size_t i = 0; i < ret_item->frames_n; i++) {
        ret_frames[i] = outbox->bytes + outbox->taken;
        outbox->taken += ret_item->sizes[i];
    }
    return true;
}

void outbox_reset(outbox_t *outbox) {
    outbox->n = 0;
    outbox->taken = 0;
}
