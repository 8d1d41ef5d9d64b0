// SPDX-License-Identifier: MIT
//
// How many sets with an address a node can run, and on which interfaces: what
// node.yaml names, or what the machine shows.  What takes a slot and gives it
// back is the address agent (node/agents/address.c).

#ifndef FLEET_NODE_SLOTS_H
#define FLEET_NODE_SLOTS_H

#include "node/netlink.h"
#include "proto/errors.h"

#define SLOTS_INTERFACES_MAX 16
#define SLOTS_MACVLANS_MAX 128

// What node.yaml says.  All zero: find out.
typedef struct slots_wish {
    fleet_name_t parent;   // macvlans are made on it; then `macvlans` is needed
    uint32_t macvlans;     // how many sets with an address may be on the parent
    uint32_t interfaces_n; // physical ones, each for one set; not with a parent
    fleet_name_t interfaces[SLOTS_INTERFACES_MAX];
    fleet_name_t private_interface; // never public; empty: find out
} slots_wish_t;

// What a node has; `parent`, `interfaces` and `private_interface` go into each
// agent_ctx_t as they are.
typedef struct slots {
    uint32_t n; // slots
    fleet_name_t parent;
    uint32_t interfaces_n;
    fleet_name_t interfaces[SLOTS_INTERFACES_MAX];
    fleet_name_t private_interface; // may be empty
    // For the log: why each interface is taken or not.
    uint32_t notes_n;
    fleet_text_t notes[NET_LINKS_MAX];
} slots_t;

// Reads the machine's links and chooses.  A parent or an interface that does
// not exist, or is the private one, is FLEET_BAD_FILE with why in ret_why.  No
// public interface at all is no failure: then n is 0.
fleet_err_t slots_find(const slots_wish_t *wish, slots_t *ret_slots,
                       fleet_text_t ret_why);

// The same for links, addresses and the default route's interface that were
// read before.  Pure.
fleet_err_t slots_choose(const slots_wish_t *wish, const net_view_t *view,
                         slots_t *ret_slots, fleet_text_t ret_why);

#endif
