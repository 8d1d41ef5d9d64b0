// SPDX-License-Identifier: MIT
//
// Who knocks and never gets as far as a key: raw garbage, another protocol, a
// frame that is too large.  libzmq drops them by itself; its monitor says so,
// and here it becomes the line of the log that a human looks for.

#ifndef FLEET_BROKER_STRANGERS_H
#define FLEET_BROKER_STRANGERS_H

#include "proto/messages.h"

typedef struct strangers strangers_t;

// Told of every connection that was given up in its handshake: from where, to
// which endpoint, and why (a word).
typedef void strangers_on_failure_t(void *context, const char *address,
                                    const char *endpoint, const char *why);

// Watches a server socket; `name` is its word in what is told, a loan.  NULL
// with why if it cannot.
strangers_t *strangers_new(void *zmq_context, void *server, const char *name,
                           strangers_on_failure_t *on_failure, void *context,
                           fleet_text_t ret_why);
void strangers_destroy(strangers_t **strangers_p);

// The socket to poll for reading.
void *strangers_socket(strangers_t *strangers);

// Takes at most `limit` of what the monitor says.
void strangers_take(strangers_t *strangers, uint32_t limit);

#endif
