// SPDX-License-Identifier: MIT
//
// A link as the kernel's messages say it: shared by netlink.c, which asks, and
// carrier.c, which is told.

#ifndef FLEET_NODE_NETLINK_READ_H
#define FLEET_NODE_NETLINK_READ_H

#include <libmnl/libmnl.h>

#include "node/netlink.h"

// An RTM_NEWLINK or RTM_DELLINK; false if it names no interface.
bool net_link_decode(const struct nlmsghdr *message, net_link_t *ret_link);

#endif
