// SPDX-License-Identifier: MIT
//
// A lease that the kernel keeps: the addresses of a set whose definition says
// `without_lease: silence` go silent when it runs out, with nobody awake (an
// agent that hangs or is stopped cannot take them down).

#ifndef FLEET_NODE_SILENCE_H
#define FLEET_NODE_SILENCE_H

#include "node/netlink.h"

// From now on, for lease_ms, the interface may send and receive and the
// addresses may be used; after that neither, until the next call.  It installs
// what is needed, as often as it is called (somebody may have flushed the rule
// set).  The interface must exist.  False with why if the kernel refuses.
bool silence_lease(const char *interface, const net_ip_t *ips, uint32_t ips_n,
                   uint64_t lease_ms, fleet_text_t ret_why);

// No lease is needed any more.  The interface must be down, or given back, by
// then. It succeeds if there was none.
bool silence_end(const char *interface, const net_ip_t *ips, uint32_t ips_n,
                 fleet_text_t ret_why);

#endif
