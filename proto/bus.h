// SPDX-License-Identifier: MIT
//
// The one place that makes ZeroMQ sockets, with every option that must be set
// before they bind or connect, and the one that moves frames.  What goes over a
// socket is a message, optionally followed by one or two raw frames (a
// definition; an event and what is beside it).

#ifndef FLEET_BUS_H
#define FLEET_BUS_H

#include "proto/keys.h"

// A received or outgoing message with its raw frames.  Frames are owned by the
// parcel once received; for sending they are loans.
typedef struct fleet_parcel {
    fleet_message_t message;
    uint32_t frames_n; // 0 to 2
    struct {
        uint8_t *data;
        size_t size;
    } frames[2];
    int peer_fd; // received on a ROUTER: its connection, -1 if not known
} fleet_parcel_t;

// Routing id of a peer on a ROUTER; as ZeroMQ chose it, never an identity.
typedef struct fleet_route {
    uint8_t size;
    uint8_t bytes[16];
} fleet_route_t;

// Sockets.  `context` is a zmq context.  They return NULL with why.
// Server sockets use ZAP domain "fleet", enforced; without a handler nobody
// gets in. The handler answers with the 64 hex digits of the client's public
// key as User-Id.
void *fleet_bus_router(void *context, const char *endpoint,
                       const fleet_key_pair_t *pair, fleet_text_t ret_why);
void *fleet_bus_xpub(void *context, const char *endpoint,
                     const fleet_key_pair_t *pair, fleet_text_t ret_why);
void *fleet_bus_dealer(void *context, const char *endpoint,
                       const fleet_key_t server, const fleet_key_pair_t *pair,
                       fleet_text_t ret_why);
void *fleet_bus_sub(void *context, const char *endpoint,
                    const fleet_key_t server, const fleet_key_pair_t *pair,
                    fleet_text_t ret_why);

// Adds a topic, by its first letters, to what a SUB receives.
void fleet_bus_subscribe(void *socket, const char *topic);

typedef enum fleet_recv {
    FLEET_RECV_OK,
    FLEET_RECV_NONE, // nothing waits
    FLEET_RECV_BAD // something came that is no message; it is gone, see ret_why
} fleet_recv_t;

// Never block.  On a ROUTER ret_route is who sent it and ret_key the public key
// that ZAP authenticated, read from the last frame (stores.md Z6: the first
// frame may lack it); a frame without one is FLEET_RECV_BAD.  On a DEALER both
// may be NULL. After FLEET_RECV_BAD route and key are valid as far as they were
// there (else empty), message.type is none and message.open.protocol is the
// version that a first message of another protocol claims, or 0; there is
// nothing to clear.
fleet_recv_t fleet_bus_recv(void *socket, fleet_route_t *ret_route,
                            fleet_key_t ret_key, fleet_parcel_t *ret_parcel,
                            fleet_text_t *ret_why);
void fleet_parcel_clear(fleet_parcel_t *parcel); // frees received frames

// False if the peer is gone or its queue is full: the message is dropped and
// the caller may count it.  route is NULL on a DEALER.
bool fleet_bus_send(void *socket, const fleet_route_t *route,
                    const fleet_parcel_t *parcel);

// Publishes on an XPUB: topic frame, message, raw frames.  Topics: "e" events
// of the journal (message entry, two raw frames), "n/NODE" "s/SET" latest
// values, "p/SET" steps.
bool fleet_bus_publish(void *socket, const char *topic,
                       const fleet_parcel_t *parcel);

// Receives from a SUB; ret_topic is at most 63 bytes.
fleet_recv_t fleet_bus_recv_topic(void *socket, char ret_topic[64],
                                  fleet_parcel_t *ret_parcel,
                                  fleet_text_t *ret_why);

// Receives from an XPUB who subscribes to what, or ends to (ret_on); the key is
// zero where the connection is gone already, ret_fd its descriptor or -1.  Must
// be read: the queue has no bound.
fleet_recv_t fleet_bus_recv_subscriber(void *socket, fleet_key_t ret_key,
                                       char ret_topic[64], bool *ret_on,
                                       int *ret_fd);

// The descriptor to poll for reading.  It is edge-triggered: after it was
// readable and after every send, receive until FLEET_RECV_NONE.
int fleet_bus_fd(void *socket);

#endif
