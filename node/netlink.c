// SPDX-License-Identifier: MIT
//
// Links: find, list, make and change them; and the view of all there is.

#include "node/netlink.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "node/netlink_read.h"
#include "node/nettalk.h"
#include "proto/text.h"

// A dump that was overtaken by a change is read again, at most so often.
#define DUMP_TRIES 8

bool net_link_decode(const struct nlmsghdr *message, net_link_t *ret_link) {
    const struct ifinfomsg *head = mnl_nlmsg_get_payload(message);
    const struct nlattr *at[IFLA_MAX + 1] = {0};
    net_link_t link = {.index = head->ifi_index, .type = head->ifi_type};

    nettalk_attributes(message, sizeof *head, at, IFLA_MAX);
    if (at[IFLA_IFNAME] == NULL) {
        return false;
    }
    FLEET_COPY(link.name, mnl_attr_get_str(at[IFLA_IFNAME]));
    link.loopback = (head->ifi_flags & IFF_LOOPBACK) != 0;
    link.up = (head->ifi_flags & IFF_UP) != 0;
    if (at[IFLA_CARRIER] != NULL) {
        link.carrier = mnl_attr_get_u8(at[IFLA_CARRIER]) != 0;
    }
    if (at[IFLA_OPERSTATE] != NULL) {
        uint8_t state = mnl_attr_get_u8(at[IFLA_OPERSTATE]);
        link.operates = state == IF_OPER_UP || state == IF_OPER_UNKNOWN;
    }
    if (at[IFLA_ADDRESS] != NULL &&
        mnl_attr_get_payload_len(at[IFLA_ADDRESS]) == sizeof link.mac) {
        memcpy(link.mac.bytes, mnl_attr_get_payload(at[IFLA_ADDRESS]),
               sizeof link.mac);
    }
    if (at[IFLA_LINK] != NULL) {
        link.parent = (int)mnl_attr_get_u32(at[IFLA_LINK]);
    }
    if (at[IFLA_MASTER] != NULL) {
        link.master = (int)mnl_attr_get_u32(at[IFLA_MASTER]);
    }
    if (at[IFLA_IFALIAS] != NULL) {
        FLEET_COPY(link.alias, mnl_attr_get_str(at[IFLA_IFALIAS]));
    }
    if (at[IFLA_LINKINFO] != NULL) {
        const struct nlattr *info[IFLA_INFO_MAX + 1] = {0};
        nettalk_nested(at[IFLA_LINKINFO], info, IFLA_INFO_MAX);
        if (info[IFLA_INFO_KIND] != NULL) {
            FLEET_COPY(link.kind, mnl_attr_get_str(info[IFLA_INFO_KIND]));
        }
    }
    *ret_link = link;
    return true;
}

typedef struct links {
    net_link_t *items;
    uint32_t max;
    uint32_t n;
} links_t;

static void on_link(const struct nlmsghdr *message, void *data) {
    links_t *links = data;
    if (message->nlmsg_type == RTM_NEWLINK && links->n < links->max &&
        net_link_decode(message, &links->items[links->n])) {
        links->n++;
    }
}

static int one_link(net_t *net, nettalk_request_t *request,
                    net_link_t *ret_link) {
    net_link_t link = {0};
    links_t found = {.items = &link, .max = 1};
    int err = nettalk_ask(net, request, on_link, &found);
    if (err == 0 && found.n == 0) {
        err = ENODEV;
    }
    if (err == 0) {
        *ret_link = link;
    }
    return err;
}

int net_link_find(net_t *net, const char *name, net_link_t *ret_link) {
    nettalk_request_t request;
    if (name[0] == '\0' || strlen(name) > NET_NAME_MAX) {
        return ENODEV;
    }
    nettalk_begin(&request, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(request.header, IFLA_IFNAME, name);
    return one_link(net, &request, ret_link);
}

int net_link_read(net_t *net, int index, net_link_t *ret_link) {
    nettalk_request_t request;
    struct ifinfomsg *head =
        nettalk_begin(&request, RTM_GETLINK, 0, sizeof *head);
    head->ifi_index = index;
    return one_link(net, &request, ret_link);
}

int net_links(net_t *net, net_link_t *links, uint32_t max, uint32_t *ret_n) {
    links_t found = {.items = links, .max = max};
    int err = EINTR;
    for (int i = 0; i < DUMP_TRIES && err == EINTR; i++) {
        nettalk_request_t request;
        nettalk_begin(&request, RTM_GETLINK, NLM_F_DUMP,
                      sizeof(struct ifinfomsg));
        found.n = 0;
        err = nettalk_ask(net, &request, on_link, &found);
    }
    if (err == 0) {
        *ret_n = found.n;
    }
    return err;
}

static int default_route(net_t *net, int *ret_index) {
    net_route_t *routes = calloc(NET_ROUTES_MAX, sizeof *routes);
    uint32_t n = 0;
    const net_route_t *best = NULL;
    if (routes == NULL) {
        abort();
    }
    int err = net_routes(net, 0, routes, NET_ROUTES_MAX, &n);
    for (uint32_t i = 0; err == 0 && i < n; i++) {
        const net_route_t *route = &routes[i];
        if (route->to.prefix != 0 || route->table != RT_TABLE_MAIN) {
            continue;
        }
        // IPv4 before IPv6, then the smallest metric.
        if (best == NULL || route->to.family < best->to.family ||
            (route->to.family == best->to.family &&
             route->metric < best->metric)) {
            best = route;
        }
    }
    if (err == 0) {
        *ret_index = best == NULL ? 0 : best->index;
    }
    free(routes);
    return err;
}

int net_view(net_t *net, net_view_t *ret_view) {
    memset(ret_view, 0, sizeof *ret_view);
    int err =
        net_links(net, ret_view->links, NET_LINKS_MAX, &ret_view->links_n);
    if (err == 0) {
        err = net_addresses(net, 0, ret_view->addresses, NET_ADDRESSES_MAX,
                            &ret_view->addresses_n);
    }
    if (err == 0) {
        err = default_route(net, &ret_view->default_index);
    }
    return err;
}

int net_macvlan_add(net_t *net, const char *name, int parent,
                    const net_mac_t *mac) {
    nettalk_request_t request;
    nettalk_begin(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
                  sizeof(struct ifinfomsg));
    mnl_attr_put_strz(request.header, IFLA_IFNAME, name);
    mnl_attr_put_u32(request.header, IFLA_LINK, (uint32_t)parent);
    mnl_attr_put(request.header, IFLA_ADDRESS, sizeof mac->bytes, mac->bytes);
    struct nlattr *info = mnl_attr_nest_start(request.header, IFLA_LINKINFO);
    mnl_attr_put_strz(request.header, IFLA_INFO_KIND, "macvlan");
    struct nlattr *data = mnl_attr_nest_start(request.header, IFLA_INFO_DATA);
    mnl_attr_put_u32(request.header, IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
    mnl_attr_nest_end(request.header, data);
    mnl_attr_nest_end(request.header, info);
    return nettalk_do(net, &request);
}

int net_link_remove(net_t *net, int index) {
    nettalk_request_t request;
    struct ifinfomsg *head =
        nettalk_begin(&request, RTM_DELLINK, 0, sizeof *head);
    head->ifi_index = index;
    return nettalk_do(net, &request);
}

int net_link_set_up(net_t *net, int index, bool up) {
    nettalk_request_t request;
    struct ifinfomsg *head =
        nettalk_begin(&request, RTM_NEWLINK, 0, sizeof *head);
    head->ifi_index = index;
    head->ifi_change = IFF_UP;
    head->ifi_flags = up ? IFF_UP : 0;
    return nettalk_do(net, &request);
}

int net_link_set_mac(net_t *net, int index, const net_mac_t *mac) {
    nettalk_request_t request;
    struct ifinfomsg *head =
        nettalk_begin(&request, RTM_NEWLINK, 0, sizeof *head);
    head->ifi_index = index;
    mnl_attr_put(request.header, IFLA_ADDRESS, sizeof mac->bytes, mac->bytes);
    return nettalk_do(net, &request);
}

int net_link_set_alias(net_t *net, int index, const char *alias) {
    nettalk_request_t request;
    struct ifinfomsg *head =
        nettalk_begin(&request, RTM_NEWLINK, 0, sizeof *head);
    head->ifi_index = index;
    // Without its NUL: the kernel keeps the bytes as they come, and takes an
    // empty attribute as "no alias".
    mnl_attr_put_str(request.header, IFLA_IFALIAS, alias);
    return nettalk_do(net, &request);
}

int net_link_rename(net_t *net, int index, const char *name) {
    nettalk_request_t request;
    struct ifinfomsg *head =
        nettalk_begin(&request, RTM_NEWLINK, 0, sizeof *head);
    head->ifi_index = index;
    mnl_attr_put_strz(request.header, IFLA_IFNAME, name);
    return nettalk_do(net, &request);
}
