// SPDX-License-Identifier: MIT
//
// From whatever is there of a set's address to nothing: connections, addresses,
// MAC, routes, lease, interface.

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/agents/address.h"
#include "node/agents/detach.h"
#include "node/agents/silence.h"

// Those of the definition, and those that are on the interface by an older one.
static uint32_t list_ips(const address_job_t *job, const address_found_t *found,
                         net_ip_t ips[CONNECTIONS_IPS_MAX]) {
    uint32_t ips_n = 0;
    for (uint32_t i = 0; i < job->ips_n; i++) {
        ips[ips_n++] = job->ips[i];
    }
    for (uint32_t i = 0; i < found->on_link_n; i++) {
        if (!address_has_ip(ips, ips_n, &found->on_link[i].ip)) {
            ips[ips_n++] = found->on_link[i].ip;
        }
    }
    return ips_n;
}

static void end_connections(address_job_t *job, const net_ip_t *ips,
                            uint32_t ips_n) {
    uint32_t ended = 0;
    int err = connections_destroy(ips, ips_n, &ended);
    if (err != 0) {
        agent_say(job->ctx, "connections were left: %s", strerror(err));
    } else if (ended != 0) {
        agent_say(job->ctx, "%" PRIu32 " connections ended", ended);
    }
}

// Nobody waits for this.  Connections that came between the first look and the
// silence have lost their address; unless it is back already.
static void clean_up(const net_ip_t *ips, uint32_t ips_n) {
    net_t *net = net_open();
    net_address_t *there = calloc(NET_ADDRESSES_MAX, sizeof *there);
    uint32_t n = 0;
    uint32_t ended = 0;
    if (net != NULL && there != NULL &&
        net_addresses(net, 0, there, NET_ADDRESSES_MAX, &n) == 0) {
        bool back = false;
        for (uint32_t i = 0; i < n && !back; i++) {
            back = address_has_ip(ips, ips_n, &there[i].ip);
        }
        if (!back) {
            (void)connections_destroy(ips, ips_n, &ended);
        }
    }
    free(there);
    net_close(&net);
    interface_sweep();
}

static void clean_up_later(const net_ip_t *ips, uint32_t ips_n) {
    int err = 0;
    if (detach(&err)) {
        clean_up(ips, ips_n);
        _exit(0);
    }
    if (err != 0) {
        clean_up(ips, ips_n);
    }
}

static int remove_addresses(address_job_t *job, const address_found_t *found) {
    int err = 0;
    for (uint32_t i = 0; i < found->on_link_n && err == 0; i++) {
        err = net_address_remove(job->net, found->link.index,
                                 &found->on_link[i].ip);
        // With its first address an interface may lose the others of the
        // prefix.
        if (err == EADDRNOTAVAIL) {
            err = 0;
        }
    }
    return err;
}

// A macvlan takes them with it; an interface that goes back has none of ours
// left.
static void remove_routes(address_job_t *job, const address_found_t *found) {
    for (uint32_t i = 0; i < job->ips_n; i++) {
        (void)net_rule_remove(job->net, &job->ips[i]);
    }
    for (uint32_t i = 0; i < found->on_link_n; i++) {
        (void)net_rule_remove(job->net, &found->on_link[i].ip);
    }
    if (!found->has_link || interface_is_macvlan(&found->link)) {
        return;
    }
    net_route_t *routes = calloc(NET_ROUTES_MAX, sizeof *routes);
    uint32_t n = 0;
    if (routes == NULL) {
        abort();
    }
    if (net_routes(job->net, found->link.index, routes, NET_ROUTES_MAX, &n) ==
        0) {
        uint32_t table = ADDRESS_TABLE_BASE + (uint32_t)found->link.index;
        for (uint32_t i = 0; i < n; i++) {
            if (routes[i].table == table) {
                (void)net_route_remove(job->net, &routes[i]);
            }
        }
    }
    free(routes);
}

static bool end_lease(address_job_t *job, const char *interface) {
    fleet_text_t why;
    if (!address_wants_lease(job->ctx) ||
        silence_end(interface, job->ips, job->ips_n, why)) {
        return true;
    }
    agent_fail(job->result, FLEET_STOP_FAILED, "%s: the lease stays: %s",
               interface, why);
    return false;
}

// The order is that of what must not be seen: connections first, while their
// resets can still leave; then the addresses; then the MAC.  From there on no
// frame of the set leaves.  What takes long and is not seen comes after the
// answer.  Measured on kernel 6.18, undisturbed, in ms: to find the connections
// 2.5 (the kernel walks its hash), addresses 0.1, link down 0.3 to 0.7, the new
// name 0.3; then, unwaited for, connections again 2.5 and the removal 16 to 20.
static void lower_link(address_job_t *job, const address_found_t *found) {
    const net_link_t *link = &found->link;
    net_ip_t ips[CONNECTIONS_IPS_MAX];
    uint32_t ips_n = list_ips(job, found, ips);
    end_connections(job, ips, ips_n);
    int err = remove_addresses(job, found);
    if (err == 0) {
        err = interface_hush(job->net, link);
    }
    if (err != 0 && err != ENODEV) {
        address_fail(job, FLEET_STOP_FAILED, link->name, "silence it", err);
        return;
    }
    remove_routes(job, found);
    if (!end_lease(job, link->name)) {
        return;
    }
    err = interface_give(job->net, link);
    if (err != 0) {
        address_fail(job, FLEET_STOP_FAILED, link->name, "remove it", err);
        return;
    }
    clean_up_later(ips, ips_n);
    address_describe(job, link, "gone from");
}

void address_lower(address_job_t *job, const address_found_t *found) {
    if (found->has_link) {
        lower_link(job, found);
        return;
    }
    fleet_name_t name;
    interface_name(job->ctx->setdef->set, name);
    remove_routes(job, found);
    (void)end_lease(job, name);
}
