// SPDX-License-Identifier: MIT
//
// The paper's notify_switch: frames that make switches learn a set's new port
// and neighbours its MAC address.  They are built here and leave by a packet
// socket, so that they neither need nor wait for anything of the kernel's
// address state.

#ifndef FLEET_NODE_ANNOUNCE_H
#define FLEET_NODE_ANNOUNCE_H

#include "node/netlink.h"

// Sends one round out of the link: a RARP request from the MAC, which moves the
// switch's entry and needs no address; then for each IPv4 address a gratuitous
// ARP request and reply, for each IPv6 address an unsolicited neighbour
// advertisement that overrides.  The link must be up.  0, or errno; every frame
// is tried.
int announce_once(int index, const net_mac_t *mac, const net_ip_t *ips,
                  uint32_t ips_n);

// Repeats the round four times over about a second, from a process of its own
// that belongs to nobody (the caller may exit) and holds no descriptor of the
// caller.  It ends by itself as soon as the link is gone or down, bears another
// MAC, or has one of the addresses no more.  0, or errno if it could not be
// started.
int announce_repeat(int index, const net_mac_t *mac, const net_ip_t *ips,
                    uint32_t ips_n);

// The frames themselves; each returns its size.  Pure.
#define ANNOUNCE_FRAME_MAX 128
size_t announce_rarp(const net_mac_t *mac, uint8_t frame[ANNOUNCE_FRAME_MAX]);
size_t announce_arp(const net_mac_t *mac, const net_ip_t *ip, bool reply,
                    uint8_t frame[ANNOUNCE_FRAME_MAX]);
size_t announce_na(const net_mac_t *mac, const net_ip_t *ip,
                   uint8_t frame[ANNOUNCE_FRAME_MAX]);

#endif
