// SPDX-License-Identifier: MIT
//
// The door: ZeroMQ's authentication protocol (RFC 27), answered in the broker's
// own loop and thread.  Only mechanism CURVE in domain "fleet" with a key on
// the list gets in; its User-Id is the key in hexadecimal digits.  What a key
// may do is asked again at every message: an admission here lasts only as long
// as the list.

#ifndef FLEET_BROKER_ZAP_H
#define FLEET_BROKER_ZAP_H

#include "proto/messages.h"

typedef struct zap zap_t;

// Is the key on the list?
typedef bool zap_on_key_t(void *context, const fleet_key_t key);

// Told of every refusal: who (an address) and why (a word).
typedef void zap_on_refusal_t(void *context, const char *address,
                              const char *why, const fleet_key_t key);

// Binds the handler; must come before any server socket of the context.  NULL
// with why if it cannot.
zap_t *zap_new(void *zmq_context, zap_on_key_t *on_key,
               zap_on_refusal_t *on_refusal, void *context,
               fleet_text_t ret_why);
void zap_destroy(zap_t **zap_p);

// The socket to poll for reading.
void *zap_socket(zap_t *zap);

// Answers at most `limit` requests that wait; returns how many it did.
uint32_t zap_serve(zap_t *zap, uint32_t limit);

#endif
