// SPDX-License-Identifier: MIT
//
// The local socket of a node: who asks, bytes in, bytes out.  What is answered
// is in asks.c.  One message is one packet (SOCK_SEQPACKET).  A client that
// does not read what it asked for is dropped; nobody is waited for.

#ifndef FLEET_NODE_LOCAL_H
#define FLEET_NODE_LOCAL_H

#include <poll.h>
#include <sys/types.h>

#include "proto/messages.h"

#define LOCAL_CLIENTS_MAX 64

typedef struct local local_t;

// Listens at `path`; anyone may connect.  A socket that is left from before is
// replaced.  NULL with why.  The caller destroys it, which removes the socket.
local_t *local_new(const char *path, fleet_text_t ret_why);
void local_destroy(local_t **local_p);

typedef enum local_event_kind {
    LOCAL_NONE, // nothing waits
    LOCAL_ASK,  // `client` of user `uid` says `message`
    LOCAL_GONE  // `client` has left, or was dropped
} local_event_kind_t;

typedef struct local_event {
    local_event_kind_t kind;
    uint64_t client; // never used twice
    uid_t uid;
    fleet_message_t message;
} local_event_t;

// For poll: fills in at most LOCAL_CLIENTS_MAX + 1 entries.
size_t local_poll(const local_t *local, struct pollfd *ret_ready);

// Accepts, reads and writes what can be without waiting, then tells one event.
// Call it until LOCAL_NONE.
local_event_kind_t local_recv(local_t *local, local_event_t *ret_event);

// Queues a message; a client that is gone is ignored.
void local_send(local_t *local, uint64_t client,
                const fleet_message_t *message);

// True once everything that was queued is written.
bool local_is_idle(const local_t *local);

#endif
