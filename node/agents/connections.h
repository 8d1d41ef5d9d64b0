// SPDX-License-Identifier: MIT
//
// TCP connections that are bound to an address which leaves this node.  Left
// alone, each would be sent again for up to a quarter of an hour (tcp_retries2)
// to a client that talks to another node by then.

#ifndef FLEET_NODE_CONNECTIONS_H
#define FLEET_NODE_CONNECTIONS_H

#include "node/netlink.h"

#define CONNECTIONS_IPS_MAX 40

// Ends every TCP socket whose local address is one of these, in whatever state:
// its owner sees ECONNABORTED, and its peer a reset, provided that the address
// can still send.  IPv4 addresses are found on IPv6 sockets too.  0, or the
// errno value with which the kernel refused (ENOENT, EOPNOTSUPP: it cannot do
// this). ret_n is how many were ended.
int connections_destroy(const net_ip_t *ips, uint32_t ips_n, uint32_t *ret_n);

#endif
