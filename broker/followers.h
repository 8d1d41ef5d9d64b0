// SPDX-License-Identifier: MIT
//
// Who follows which transfer: connections that get its steps and its end pushed
// to them.  Bounded for each connection and in all; who is past the bound asks
// again.

#ifndef FLEET_BROKER_FOLLOWERS_H
#define FLEET_BROKER_FOLLOWERS_H

#include "proto/messages.h"

typedef struct followers followers_t;

followers_t *followers_new(void);
void followers_destroy(followers_t **followers_p);

// The same connection following the same transfer again only changes `ask`.
// False past a bound.
bool followers_add(followers_t *followers, uint64_t peer, uint64_t transfer,
                   const char *ask);

// The i-th follower of a transfer, from 0; false past the last.
bool followers_of(const followers_t *followers, uint64_t transfer, uint32_t i,
                  uint64_t *ret_peer, fleet_id_t ret_ask);

// The transfer has ended; the connection is gone.
void followers_ended(followers_t *followers, uint64_t transfer);
void followers_gone(followers_t *followers, uint64_t peer);

#endif
