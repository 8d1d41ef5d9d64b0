// SPDX-License-Identifier: MIT
//
// Whether the cables of the sets' interfaces are in: a netlink descriptor for
// the node's loop.  Which set an interface belongs to is read from the mark
// that the address agent leaves on it (its alias, "fleet:SET"), so nothing has
// to be told to the loop when sets come and go, and a restarted agent knows at
// once.

#ifndef FLEET_NODE_CARRIER_H
#define FLEET_NODE_CARRIER_H

#include "proto/messages.h"

typedef struct carrier carrier_t;

typedef struct carrier_event {
    fleet_name_t set;
    fleet_name_t interface;
    bool up; // it is administratively up and has carrier
} carrier_event_t;

// Subscribes to the links of this network namespace.  NULL, with errno, if the
// kernel refuses.
carrier_t *carrier_new(void);

// Accepts a null pointer, and nulls it.
void carrier_destroy(carrier_t **carrier_p);

// To be polled for reading; non-blocking, close-on-exec.  A loan.
int carrier_fd(const carrier_t *carrier);

// The next event; false if none waits.  Never blocks.  First comes the present
// state of every interface that belongs to a set, then each change.  Call it
// until it says false, once right after carrier_new and then whenever the
// descriptor is readable.  Lost messages are made good by reading all links
// anew.  An interface that is removed, or loses its mark, is reported as down
// if it was up; one that gets its mark while it is down is not reported before
// it is up.
bool carrier_next(carrier_t *carrier, carrier_event_t *ret_event);

#endif
