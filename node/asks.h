// SPDX-License-Identifier: MIT
//
// What is asked of a node on its own machine, and its answers.
//
//   status   local_head, local_row for every set, end
//   owns     local_row of the set, end; or refused (set-unknown)
//   acquire  move the set here           root only; over the node's connection
//   to release  park it, if it is here      the broker: accepted, step ...,
//   transfer;
//                                        or refused
//   leave    stop everything in order    root only: step ..., end
//
// The first two need no broker.

#ifndef FLEET_NODE_ASKS_H
#define FLEET_NODE_ASKS_H

#include "node/core.h"
#include "node/local.h"

typedef struct asks asks_t;

// Hands a message to the broker; false if there is no connection.
typedef bool asks_send_t(void *context, const fleet_message_t *message);

// core and local are loans for its life.
asks_t *asks_new(const node_core_t *core, const char *node, local_t *local,
                 asks_send_t *send, void *context);
void asks_destroy(asks_t **asks_p);

// True if the node is to leave: then *ret_reason says why.
bool asks_take(asks_t *asks, const local_event_t *event,
               fleet_text_t *ret_reason);

// A message of the broker: relayed to whoever waits for it.  True if it is an
// answer to a question, and so nothing for the core.
bool asks_relay(asks_t *asks, const fleet_message_t *message);

// A step that this node itself has made; who waits for the leave sees them all.
void asks_step(asks_t *asks, const fleet_message_t *step);

// Repeats what the broker may have lost.  Milliseconds until it is to be called
// again, or UINT64_MAX.
uint64_t asks_repeat(asks_t *asks, uint64_t now_ms);

// Everything is stopped and said: tells who asked for it.
void asks_left(asks_t *asks);

#endif
