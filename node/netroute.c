// SPDX-License-Identifier: MIT
//
// Addresses, routes and source rules over rtnetlink.

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "node/netlink.h"
#include "node/nettalk.h"

#define DUMP_TRIES 8

// Who made a rule or a route.  The numbers up to 255 are free for whoever wants
// to know its own again (linux/rtnetlink.h); rt_protos(5) names none at 241.
#define PROTOCOL_FLEET 241

// Before the rules for the main table (32766), behind whatever an operator puts
// at small numbers.
#define RULE_PRIORITY 20000

// ------------------------------------------------------------- addresses

static struct ifaddrmsg *address_begin(nettalk_request_t *request, int type,
                                       int flags, int index,
                                       const net_ip_t *ip) {
    struct ifaddrmsg *head = nettalk_begin(request, type, flags, sizeof *head);
    head->ifa_family = ip->family;
    head->ifa_prefixlen = ip->prefix;
    head->ifa_index = (uint32_t)index;
    nettalk_put_ip(request, IFA_LOCAL, ip);
    if (ip->family == AF_INET) {
        nettalk_put_ip(request, IFA_ADDRESS, ip);
    }
    return head;
}

int net_address_add(net_t *net, int index, const net_ip_t *ip) {
    nettalk_request_t request;
    address_begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, ip);
    if (ip->family == AF_INET6) {
        mnl_attr_put_u32(request.header, IFA_FLAGS, IFA_F_NODAD);
    } else if (ip->prefix < 31) {
        net_ip_t broadcast = net_ip_prefix(ip);
        for (unsigned bit = ip->prefix; bit < 32; bit++) {
            broadcast.bytes[bit / 8] |= (uint8_t)(0x80U >> (bit % 8));
        }
        nettalk_put_ip(&request, IFA_BROADCAST, &broadcast);
    }
    return nettalk_do(net, &request);
}

int net_address_remove(net_t *net, int index, const net_ip_t *ip) {
    nettalk_request_t request;
    address_begin(&request, RTM_DELADDR, 0, index, ip);
    return nettalk_do(net, &request);
}

typedef struct addresses {
    net_address_t *items;
    uint32_t max;
    uint32_t n;
    int index;
} addresses_t;

static void on_address(const struct nlmsghdr *message, void *data) {
    addresses_t *found = data;
    const struct ifaddrmsg *head = mnl_nlmsg_get_payload(message);
    const struct nlattr *at[IFA_MAX + 1] = {0};
    int index = (int)head->ifa_index;
    if (message->nlmsg_type != RTM_NEWADDR || found->n == found->max ||
        (found->index != 0 && found->index != index)) {
        return;
    }
    nettalk_attributes(message, sizeof *head, at, IFA_MAX);
    // IFA_ADDRESS is the peer where there is one; IPv6 has no IFA_LOCAL then.
    const struct nlattr *own =
        at[IFA_LOCAL] != NULL ? at[IFA_LOCAL] : at[IFA_ADDRESS];
    net_address_t address = {
        .index = index,
        .ip = nettalk_get_ip(own, head->ifa_family, head->ifa_prefixlen),
        .flags = head->ifa_flags,
        .valid_s = UINT32_MAX,
        .preferred_s = UINT32_MAX};
    if (address.ip.family == 0) {
        return;
    }
    if (at[IFA_FLAGS] != NULL) {
        address.flags = mnl_attr_get_u32(at[IFA_FLAGS]);
    }
    if (at[IFA_RT_PRIORITY] != NULL) {
        address.metric = mnl_attr_get_u32(at[IFA_RT_PRIORITY]);
    }
    if (at[IFA_CACHEINFO] != NULL) {
        const struct ifa_cacheinfo *info =
            mnl_attr_get_payload(at[IFA_CACHEINFO]);
        address.valid_s = info->ifa_valid;
        address.preferred_s = info->ifa_prefered;
    }
    found->items[found->n++] = address;
}

int net_addresses(net_t *net, int index, net_address_t *addresses, uint32_t max,
                  uint32_t *ret_n) {
    addresses_t found = {.items = addresses, .max = max, .index = index};
    int err = EINTR;
    for (int i = 0; i < DUMP_TRIES && err == EINTR; i++) {
        nettalk_request_t request;
        nettalk_begin(&request, RTM_GETADDR, NLM_F_DUMP,
                      sizeof(struct ifaddrmsg));
        found.n = 0;
        err = nettalk_ask(net, &request, on_address, &found);
    }
    if (err == 0) {
        *ret_n = found.n;
    }
    return err;
}

int net_address_set_metric(net_t *net, const net_address_t *address,
                           uint32_t metric) {
    nettalk_request_t request;
    struct ifa_cacheinfo info = {.ifa_valid = address->valid_s,
                                 .ifa_prefered = address->preferred_s};
    address_begin(&request, RTM_NEWADDR, NLM_F_REPLACE, address->index,
                  &address->ip);
    mnl_attr_put_u32(request.header, IFA_FLAGS,
                     address->flags &
                         (IFA_F_NODAD | IFA_F_HOMEADDRESS |
                          IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE));
    mnl_attr_put(request.header, IFA_CACHEINFO, sizeof info, &info);
    mnl_attr_put_u32(request.header, IFA_RT_PRIORITY, metric);
    return nettalk_do(net, &request);
}

// ---------------------------------------------------------------- routes

static void route_begin(nettalk_request_t *request, int type, int flags,
                        const net_route_t *route) {
    struct rtmsg *head = nettalk_begin(request, type, flags, sizeof *head);
    head->rtm_family = route->to.family;
    head->rtm_dst_len = route->to.prefix;
    // Tables above 255 only fit into the attribute.
    head->rtm_table = RT_TABLE_UNSPEC;
    head->rtm_protocol =
        route->protocol != 0 ? route->protocol : PROTOCOL_FLEET;
    head->rtm_type = RTN_UNICAST;
    head->rtm_scope = RT_SCOPE_LINK;
    if (route->to.prefix != 0) {
        nettalk_put_ip(request, RTA_DST, &route->to);
    }
    if (route->gateway.family != 0) {
        head->rtm_scope = RT_SCOPE_UNIVERSE;
        // A gateway may be outside the prefix (an address with /32).
        head->rtm_flags = RTNH_F_ONLINK;
        nettalk_put_ip(request, RTA_GATEWAY, &route->gateway);
    }
    if (route->from.family != 0) {
        nettalk_put_ip(request, RTA_PREFSRC, &route->from);
    }
    mnl_attr_put_u32(request->header, RTA_OIF, (uint32_t)route->index);
    mnl_attr_put_u32(request->header, RTA_TABLE, route->table);
    if (route->metric != 0) {
        mnl_attr_put_u32(request->header, RTA_PRIORITY, route->metric);
    }
}

int net_route_add(net_t *net, const net_route_t *route) {
    nettalk_request_t request;
    route_begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route);
    return nettalk_do(net, &request);
}

int net_route_remove(net_t *net, const net_route_t *route) {
    nettalk_request_t request;
    route_begin(&request, RTM_DELROUTE, 0, route);
    return nettalk_do(net, &request);
}

typedef struct routes {
    net_route_t *items;
    uint32_t max;
    uint32_t n;
    int index;
} routes_t;

static void on_route(const struct nlmsghdr *message, void *data) {
    routes_t *found = data;
    const struct rtmsg *head = mnl_nlmsg_get_payload(message);
    const struct nlattr *at[RTA_MAX + 1] = {0};
    if (message->nlmsg_type != RTM_NEWROUTE || found->n == found->max ||
        head->rtm_type != RTN_UNICAST ||
        (head->rtm_flags & RTM_F_CLONED) != 0) {
        return;
    }
    nettalk_attributes(message, sizeof *head, at, RTA_MAX);
    if (at[RTA_OIF] == NULL) {
        return;
    }
    uint8_t whole = head->rtm_family == AF_INET ? 32 : 128;
    net_route_t route = {
        .to = {.family = head->rtm_family, .prefix = head->rtm_dst_len},
        .from = nettalk_get_ip(at[RTA_PREFSRC], head->rtm_family, whole),
        .gateway = nettalk_get_ip(at[RTA_GATEWAY], head->rtm_family, whole),
        .index = (int)mnl_attr_get_u32(at[RTA_OIF]),
        .table = at[RTA_TABLE] != NULL ? mnl_attr_get_u32(at[RTA_TABLE])
                                       : head->rtm_table,
        .protocol = head->rtm_protocol};
    if (found->index != 0 && found->index != route.index) {
        return;
    }
    if (at[RTA_DST] != NULL) {
        route.to =
            nettalk_get_ip(at[RTA_DST], head->rtm_family, head->rtm_dst_len);
    }
    if (at[RTA_PRIORITY] != NULL) {
        route.metric = mnl_attr_get_u32(at[RTA_PRIORITY]);
    }
    found->items[found->n++] = route;
}

int net_routes(net_t *net, int index, net_route_t *routes, uint32_t max,
               uint32_t *ret_n) {
    routes_t found = {.items = routes, .max = max, .index = index};
    int err = EINTR;
    for (int i = 0; i < DUMP_TRIES && err == EINTR; i++) {
        nettalk_request_t request;
        nettalk_begin(&request, RTM_GETROUTE, NLM_F_DUMP, sizeof(struct rtmsg));
        found.n = 0;
        err = nettalk_ask(net, &request, on_route, &found);
    }
    if (err == 0) {
        *ret_n = found.n;
    }
    return err;
}

// ----------------------------------------------------------------- rules

static void rule_begin(nettalk_request_t *request, int type, int flags,
                       const net_ip_t *from) {
    struct fib_rule_hdr *head =
        nettalk_begin(request, type, flags, sizeof *head);
    head->family = from->family;
    head->src_len = (uint8_t)(8 * net_ip_size(from));
    head->action = FR_ACT_TO_TBL;
    nettalk_put_ip(request, FRA_SRC, from);
    mnl_attr_put_u32(request->header, FRA_PRIORITY, RULE_PRIORITY);
    mnl_attr_put_u8(request->header, FRA_PROTOCOL, PROTOCOL_FLEET);
}

int net_rule_add(net_t *net, const net_ip_t *from, uint32_t table) {
    nettalk_request_t request;
    rule_begin(&request, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, from);
    mnl_attr_put_u32(request.header, FRA_TABLE, table);
    return nettalk_do(net, &request);
}

int net_rule_remove(net_t *net, const net_ip_t *from) {
    for (;;) {
        nettalk_request_t request;
        rule_begin(&request, RTM_DELRULE, 0, from);
        int err = nettalk_do(net, &request);
        if (err == ENOENT) {
            return 0;
        }
        if (err != 0) {
            return err;
        }
    }
}
