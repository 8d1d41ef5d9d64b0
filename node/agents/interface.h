// SPDX-License-Identifier: MIT
//
// The interface of a set on this node: a macvlan of its own on the public
// parent, or a physical public interface that it borrows.  Either bears the
// set's mark, the alias "fleet:SET" (node/netlink.h), for as long as the set
// has it; a borrowed one also says there what it was before, so nothing but the
// kernel need remember it.

#ifndef FLEET_NODE_INTERFACE_H
#define FLEET_NODE_INTERFACE_H

#include "node/agents/agent.h"
#include "node/netlink.h"

// The name of a set's macvlan: "fl-" and the set's name, or, where that is
// longer than 12 characters, its first five, "_", which no set's name has, and
// six of a hash.  Pure.
void interface_name(const char *set, fleet_name_t ret_name);

// The interface that the set has.  0, ENODEV if it has none, or another errno.
int interface_find(net_t *net, const agent_ctx_t *ctx, net_link_t *ret_link);

// Finds, makes or borrows it.  One that is made is down, has the MAC and no
// address; a borrowed one keeps its own MAC until interface_dress.  False after
// an agent_fail: FLEET_NO_SLOT if there is none to have, FLEET_START_FAILED.
bool interface_take(net_t *net, const agent_ctx_t *ctx, const net_mac_t *mac,
                    agent_result_t *result, net_link_t *ret_link);

// Gives it the MAC, if it has another.  0 or errno.
int interface_dress(net_t *net, const net_link_t *link, const net_mac_t *mac);

// Afterwards no frame with the set's MAC leaves by it; the mark and the
// addresses stay.  0 or errno.
int interface_hush(net_t *net, const net_link_t *link);

// Takes the mark off, after interface_hush.  A borrowed one is then as it was
// before.  A macvlan no longer has the set's name, and waits for
// interface_sweep: removing it costs the kernel some 20 ms.  0 or errno.
int interface_give(net_t *net, const net_link_t *link);

// Removes every macvlan that was given.
void interface_sweep(void);

// Removes it at once.  0 or errno; for a macvlan only.
int interface_remove(net_t *net, const net_link_t *link);

// What the set's kernel must not say by itself on this interface: answers for
// addresses of others, IPv6 autoconfiguration, duplicate detection.
void interface_quiet(const net_link_t *link, bool ipv6);

// A public interface that is not a set's, or the parent: it does not answer for
// the addresses of sets.
void interface_deaf(const char *name);

// A macvlan, or a borrowed one.
bool interface_is_macvlan(const net_link_t *link);

#endif
