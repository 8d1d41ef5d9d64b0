// SPDX-License-Identifier: MIT
//
// The node's one connection to a broker: made, watched, and made to the next
// broker on the list when this one says nothing for too long.

#ifndef FLEET_NODE_UPLINK_H
#define FLEET_NODE_UPLINK_H

#include "proto/bus.h"

#define UPLINK_BROKERS_MAX 8

typedef struct uplink_broker {
    fleet_text_t control; // tcp://host:port
    fleet_key_t key;
} uplink_broker_t;

typedef struct uplink_config {
    uint32_t brokers_n; // at least 1
    uplink_broker_t brokers[UPLINK_BROKERS_MAX];
    fleet_key_pair_t pair;
} uplink_config_t;

typedef enum uplink_event {
    UPLINK_NONE,      // nothing waits
    UPLINK_CONNECTED, // to ret_text; a handshake has succeeded
    UPLINK_LOST,      // the connection to ret_text is gone
    UPLINK_REFUSED,   // ret_text says why a handshake failed
    UPLINK_PARCEL,    // *ret_parcel; to be cleared by the caller
    UPLINK_BAD        // something that is no message came; ret_text says what
} uplink_event_t;

typedef struct uplink uplink_t;

// Makes a ZeroMQ context, and so a thread.  NULL with why.  The caller destroys
// it.
uplink_t *uplink_new(const uplink_config_t *config, fleet_text_t ret_why);
void uplink_destroy(uplink_t **uplink_p);

// Another list.  The connection stays if its broker is still on it.
bool uplink_configure(uplink_t *uplink, const uplink_config_t *config,
                      fleet_text_t ret_why);

// To be polled for reading.  Edge-triggered: call uplink_recv after every wake
// and after every send until UPLINK_NONE.  They change when a broker is
// changed.
int uplink_bus_fd(const uplink_t *uplink);
int uplink_monitor_fd(const uplink_t *uplink);

uplink_event_t uplink_recv(uplink_t *uplink, fleet_parcel_t *ret_parcel,
                           fleet_text_t *ret_text);

// False if there is no connection; the message is then dropped.
bool uplink_send(uplink_t *uplink, const fleet_message_t *message);

// If nothing came for patience_ms, goes to the next broker.  True if it did.
bool uplink_turn(uplink_t *uplink, uint64_t now_ms, uint64_t patience_ms,
                 fleet_text_t ret_text);

// Which broker it is about now.
const char *uplink_endpoint(const uplink_t *uplink);

#endif
