// SPDX-License-Identifier: MIT
//
// Links, addresses, routes and rules of this network namespace over rtnetlink,
// as plain values.  It knows nothing of sets.
//
// A function that returns int returns 0, or the errno value with which the
// kernel refused, so that a caller which only wants a state (idempotence) can
// tell "there already" (EEXIST) and "gone already" (ENODEV, EADDRNOTAVAIL,
// ESRCH) from a failure.  Each call waits for the kernel's answer.

#ifndef FLEET_NODE_NETLINK_H
#define FLEET_NODE_NETLINK_H

#include "proto/messages.h"

#define NET_LINKS_MAX 256
#define NET_ADDRESSES_MAX 512
#define NET_ROUTES_MAX 512
#define NET_NAME_MAX 15 // the kernel's IFNAMSIZ without its NUL

typedef struct net net_t; // a connection to the kernel

typedef struct net_mac {
    uint8_t bytes[6];
} net_mac_t;

// An address, or a prefix whose host bits are zero.
typedef struct net_ip {
    uint8_t family;    // AF_INET, AF_INET6
    uint8_t prefix;    // bits
    uint8_t bytes[16]; // network order; IPv4 in the first four
} net_ip_t;

typedef struct net_link {
    int index;
    fleet_name_t name;
    char kind[16]; // "macvlan" "veth" ...; empty: a physical device, or lo
    fleet_id_t alias;
    net_mac_t mac;
    uint16_t type; // ARPHRD_ETHER ...
    int parent;    // index of the link below it; 0: none
    int master;    // bridge or bond that it is a port of; 0: none
    bool loopback;
    bool up; // administratively
    bool carrier;
    bool operates; // and the kernel has acted upon that: it sends (RFC 2863)
} net_link_t;

typedef struct net_address {
    int index; // of its link
    net_ip_t ip;
    uint32_t flags;  // IFA_F_*
    uint32_t metric; // of its prefix route; 0: the kernel's default
    uint32_t valid_s, preferred_s; // UINT32_MAX: for ever
} net_address_t;

typedef struct net_route {
    net_ip_t to;      // family and prefix; prefix 0: the default route
    net_ip_t from;    // preferred source; family 0: none
    net_ip_t gateway; // family 0: on the link
    int index;        // outgoing link
    uint32_t table;
    uint32_t metric;
    uint8_t protocol; // RTPROT_KERNEL ...
} net_route_t;

// Links and addresses as they were at one moment, and where the default route
// goes.
typedef struct net_view {
    uint32_t links_n;
    net_link_t links[NET_LINKS_MAX];
    uint32_t addresses_n;
    net_address_t addresses[NET_ADDRESSES_MAX];
    int default_index; // link of the IPv4 or else IPv6 default route; 0: none
} net_view_t;

// NULL, with errno, if the kernel refuses.
net_t *net_open(void);
// Accepts a null pointer, and nulls it.
void net_close(net_t **net_p);

// "02:00:c0:00:02:50"; false if it is none.
bool net_mac_parse(const char *text, net_mac_t *ret_mac);
void net_mac_print(const net_mac_t *mac, char text[18]);
bool net_mac_equal(const net_mac_t *a, const net_mac_t *b);

// The mark that a set leaves on its interface: an alias "fleet:SET", perhaps
// with more words behind.  False if the alias is no mark.
bool net_mark_read(const char *alias, fleet_name_t ret_set);

// "192.0.2.80/24" "2001:db8::80/64"; without a length the prefix is the whole
// address.  False if it is none.
bool net_ip_parse(const char *text, net_ip_t *ret_ip);
void net_ip_print(const net_ip_t *ip,
                  fleet_id_t ret_text);                  // without its prefix
size_t net_ip_size(const net_ip_t *ip);                  // 4 or 16
bool net_ip_equal(const net_ip_t *a, const net_ip_t *b); // whatever the prefix
// The prefix that it is in: host bits zeroed.
net_ip_t net_ip_prefix(const net_ip_t *ip);

// ENODEV: there is none of that name.
int net_link_find(net_t *net, const char *name, net_link_t *ret_link);
int net_link_read(net_t *net, int index, net_link_t *ret_link);
// At most max of them; ret_n says how many.
int net_links(net_t *net, net_link_t *links, uint32_t max, uint32_t *ret_n);
int net_view(net_t *net, net_view_t *ret_view);

// Makes a macvlan in bridge mode, down.  EEXIST: there is a link of that name.
int net_macvlan_add(net_t *net, const char *name, int parent,
                    const net_mac_t *mac);
int net_link_remove(net_t *net, int index);
int net_link_set_up(net_t *net, int index, bool up);
// EBUSY: the driver wants it down for that.
int net_link_set_mac(net_t *net, int index, const net_mac_t *mac);
int net_link_set_alias(net_t *net, int index, const char *alias);
// The link must be down.  EEXIST: there is a link of that name.
int net_link_rename(net_t *net, int index, const char *name);

// IPv6 without duplicate address detection.  EEXIST: it is there.
int net_address_add(net_t *net, int index, const net_ip_t *ip);
int net_address_remove(net_t *net, int index, const net_ip_t *ip);
// Those of one link, or of all with index 0.
int net_addresses(net_t *net, int index, net_address_t *addresses, uint32_t max,
                  uint32_t *ret_n);
// Gives an address that is there another metric for its prefix route; all else
// of it stays.
int net_address_set_metric(net_t *net, const net_address_t *address,
                           uint32_t metric);

int net_route_add(net_t *net, const net_route_t *route);    // EEXIST
int net_route_remove(net_t *net, const net_route_t *route); // ESRCH
// Unicast routes out of this link, or of any with index 0, in all tables.
int net_routes(net_t *net, int index, net_route_t *routes, uint32_t max,
               uint32_t *ret_n);

// Packets from this very address look into `table`.  Our rules bear a protocol
// number of our own; remove takes all of those with this source, whatever their
// table, and succeeds if there is none.
int net_rule_add(net_t *net, const net_ip_t *from, uint32_t table);
int net_rule_remove(net_t *net, const net_ip_t *from);

#endif
