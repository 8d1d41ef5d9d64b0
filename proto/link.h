// SPDX-License-Identifier: MIT
//
// The inside of a client: its connection to one of the brokers of its list, who
// was last heard when, and what the connection's monitor said.  client.c and
// watch.c put questions on top of it; nobody else includes this.

#ifndef FLEET_LINK_H
#define FLEET_LINK_H

#include "proto/client.h"

// After so long without a word the client says `open` and asks again, unless
// its configuration says otherwise.
#define FLEET_LINK_REPEAT_MS 1000

// What the monitor saw of the connection so far; the worst excuse that we know.
typedef enum fleet_link_state {
    FLEET_LINK_NOTHING,      // no attempt has ended yet
    FLEET_LINK_REFUSED,      // nobody listens there
    FLEET_LINK_CONNECTED,    // TCP stands, the handshake does not
    FLEET_LINK_MUTE,         // again and again the other side hung up in it
    FLEET_LINK_UNAUTHORIZED, // our key is not on the broker's list
    FLEET_LINK_UP
} fleet_link_state_t;

struct fleet_client {
    fleet_client_config_t config;
    void *context;
    void *control;
    void *monitor;
    void *events; // NULL until something is watched
    fleet_link_state_t state;
    uint32_t hangups;   // handshakes that the other side broke off in a row
    uint32_t broker;    // index of the broker that control is connected to
    uint64_t made_ms;   // when control was made
    uint64_t heard_ms;  // when the broker last said anything
    uint64_t opened_ms; // when `open` was last sent
    bool welcomed;
    fleet_welcome_t welcome;
    fleet_parcel_t parcel; // the message received last
    fleet_message_t event; // watch: the entry's two frames
    fleet_message_t beside;
};

// Milliseconds of a clock that only grows and counts through suspend.
uint64_t fleet_link_now_ms(void);

// Makes the socket to the broker that is the current one of the list.
fleet_err_t fleet_link_connect(fleet_client_t *client, fleet_reason_t *reason);
void fleet_link_close(fleet_client_t *client);

// A new question begins: silence counts from now.
void fleet_link_begin(fleet_client_t *client);
uint64_t fleet_link_silence_ms(const fleet_client_t *client);
bool fleet_link_interrupted(const fleet_client_t *client);

// Sends, waiting for a connection until until_ms.  False: nothing left.
bool fleet_link_send(fleet_client_t *client, const fleet_message_t *message,
                     uint64_t until_ms);

// Receives one message into client->parcel.  A `welcome` is taken in and
// received like any other.  False at until_ms, or if interrupted, or, where
// also_events is set, when the events socket has something to read.
bool fleet_link_recv(fleet_client_t *client, uint64_t until_ms,
                     bool also_events);

// To be called about once a second while something is awaited: says `open`
// after a silence, goes to the next broker of the list after a long one.
void fleet_link_tend(fleet_client_t *client);

// Why nothing is heard: fills a reason (no-broker or bad-key).
fleet_err_t fleet_link_excuse(const fleet_client_t *client,
                              fleet_reason_t *ret_reason);

// Connects to the events endpoint of the current broker and subscribes.
fleet_err_t fleet_link_open_events(fleet_client_t *client, bool with_steps,
                                   fleet_reason_t *ret_reason);

#endif
