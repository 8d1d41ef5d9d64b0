// SPDX-License-Identifier: MIT
//
// From an interface that is silent to one that is heard: lease, addresses, MAC,
// link, carrier, routes, announcement.

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "node/agents/address.h"
#include "node/agents/announce.h"
#include "node/agents/silence.h"

// What a route over the private interface costs more than it did.
#define PRIVATE_METRIC 1024U
// What an IPv6 prefix route costs unless it is said.
#define IPV6_METRIC 256U
// For a carrier; a link that was just brought up needs some seconds to agree on
// its speed.  Never more than half of what the whole start may take.
#define CARRIER_MS 3000U
#define CARRIER_POLL_US 2000
// Where a renewal does not say for how long.
#define LEASE_MS_DEFAULT 10000

// ------------------------------------------------------- the private interface

// The kernel's own route of an address follows the address.
static int raise_metrics(address_job_t *job, int index,
                         const net_ip_t *prefix) {
    net_address_t there[ADDRESS_ON_LINK_MAX];
    uint32_t n = 0;
    int err = net_addresses(job->net, index, there, ADDRESS_ON_LINK_MAX, &n);
    for (uint32_t i = 0; err == 0 && i < n; i++) {
        net_ip_t its = net_ip_prefix(&there[i].ip);
        if (its.prefix == prefix->prefix && net_ip_equal(&its, prefix) &&
            there[i].metric < PRIVATE_METRIC) {
            uint32_t now = there[i].metric;
            if (now == 0 && its.family == AF_INET6) {
                now = IPV6_METRIC;
            }
            err = net_address_set_metric(job->net, &there[i],
                                         now + PRIVATE_METRIC);
        }
    }
    return err;
}

// Routes that somebody else made for the prefix.
static int raise_routes(address_job_t *job, int index, const net_ip_t *prefix) {
    net_route_t *routes = calloc(NET_ROUTES_MAX, sizeof *routes);
    uint32_t n = 0;
    if (routes == NULL) {
        abort();
    }
    int err = net_routes(job->net, index, routes, NET_ROUTES_MAX, &n);
    for (uint32_t i = 0; err == 0 && i < n; i++) {
        net_route_t route = routes[i];
        if (route.table != RT_TABLE_MAIN || route.gateway.family != 0 ||
            route.to.prefix != prefix->prefix ||
            !net_ip_equal(&route.to, prefix) ||
            route.metric >= PRIVATE_METRIC) {
            continue;
        }
        route.metric += PRIVATE_METRIC;
        err = net_route_add(job->net, &route);
        if (err == 0 || err == EEXIST) {
            err = net_route_remove(job->net, &routes[i]);
        }
    }
    free(routes);
    return err;
}

// Where the private interface is in a set's subnet too, what is sent into that
// subnet leaves by the set's interface.
bool address_prefer_public(address_job_t *job) {
    const char *name = job->ctx->private_interface;
    net_link_t link;
    if (name[0] == '\0' || net_link_find(job->net, name, &link) != 0) {
        return true;
    }
    for (uint32_t i = 0; i < job->ips_n; i++) {
        net_ip_t prefix = net_ip_prefix(&job->ips[i]);
        int err = raise_metrics(job, link.index, &prefix);
        if (err == 0) {
            err = raise_routes(job, link.index, &prefix);
        }
        if (err != 0) {
            address_fail(job, FLEET_START_FAILED, name, "make its route dearer",
                         err);
            return false;
        }
    }
    return true;
}

// ----------------------------------------------------------------------- raise

static bool add_addresses(address_job_t *job, const net_link_t *link) {
    for (uint32_t i = 0; i < job->ips_n; i++) {
        int err = net_address_add(job->net, link->index, &job->ips[i]);
        if (err != 0 && err != EEXIST) {
            fleet_id_t ip;
            net_ip_print(&job->ips[i], ip);
            agent_fail(job->result, FLEET_START_FAILED, "%s: cannot add %s: %s",
                       link->name, ip, strerror(err));
            return false;
        }
    }
    return true;
}

static uint64_t clock_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// What sends on the wire: the parent, where a macvlan hands it every frame.
static int read_wire(address_job_t *job, const net_link_t *link,
                     net_link_t *ret_wire) {
    return net_link_read(
        job->net, interface_is_macvlan(link) ? link->parent : link->index,
        ret_wire);
}

static bool wait_for_carrier(address_job_t *job, const net_link_t *link) {
    uint64_t half_ms = job->ctx->resource->start_ms / 2;
    uint64_t end_ms =
        clock_ms() + (half_ms < CARRIER_MS ? half_ms : CARRIER_MS);
    bool said = false;
    net_link_t wire;
    int err;
    while ((err = read_wire(job, link, &wire)) == 0 &&
           !(wire.carrier && wire.operates) && clock_ms() < end_ms) {
        if (!said) {
            agent_say(job->ctx, "waiting for the carrier of %s", wire.name);
            said = true;
        }
        struct timespec wait = {.tv_nsec = CARRIER_POLL_US * 1000L};
        (void)nanosleep(&wait, NULL);
    }
    if (err != 0) {
        address_fail(job, FLEET_START_FAILED, link->name, "find it again", err);
        return false;
    }
    if (!wire.carrier) {
        agent_fail(job->result, FLEET_START_FAILED, "%s has no carrier",
                   wire.name);
        return false;
    }
    return true;
}

// What is sent from an address of the set leaves by its interface, by its own
// gateway if it has one: answers go back on the wire on which they were asked.
static int add_routes(address_job_t *job, const net_link_t *link,
                      const net_ip_t *ip) {
    uint32_t table = ADDRESS_TABLE_BASE + (uint32_t)link->index;
    net_route_t route = {.to = net_ip_prefix(ip),
                         .from = *ip,
                         .index = link->index,
                         .table = table};
    int err = net_route_add(job->net, &route);
    if ((err == 0 || err == EEXIST) && job->gateway.family == ip->family) {
        route.to = (net_ip_t){.family = ip->family};
        route.gateway = job->gateway;
        err = net_route_add(job->net, &route);
    }
    if (err == 0 || err == EEXIST) {
        // One of an interface that it had before would come first.
        err = net_rule_remove(job->net, ip);
    }
    if (err == 0) {
        err = net_rule_add(job->net, ip, table);
    }
    return err == EEXIST ? 0 : err;
}

static bool announce(address_job_t *job, const net_link_t *link) {
    int err = announce_once(link->index, &job->mac, job->ips, job->ips_n);
    // A frame was dropped: by a full queue, or because the lease ran out
    // already.
    if (err == ENOBUFS) {
        agent_say(job->ctx, "%s is not heard yet: %s", link->name,
                  strerror(err));
        err = 0;
    }
    if (err != 0) {
        address_fail(job, FLEET_START_FAILED, link->name, "announce it", err);
        return false;
    }
    // The first round did its work, or else the kernel's answers will.
    err = announce_repeat(link->index, &job->mac, job->ips, job->ips_n);
    if (err != 0) {
        agent_say(job->ctx, "announced once only: %s", strerror(err));
    }
    return true;
}

static uint64_t lease_ms(const agent_ctx_t *ctx) {
    return ctx->lease_ms != 0 ? ctx->lease_ms : LEASE_MS_DEFAULT;
}

bool address_lease(address_job_t *job, const net_link_t *link) {
    fleet_text_t why;
    if (!address_wants_lease(job->ctx)) {
        return true;
    }
    if (!silence_lease(link->name, job->ips, job->ips_n, lease_ms(job->ctx),
                       why)) {
        agent_fail(job->result, FLEET_START_FAILED, "%s: no lease: %s",
                   link->name, why);
        return false;
    }
    return true;
}

void address_raise(address_job_t *job, const net_link_t *link) {
    if (!address_lease(job, link) || !address_prefer_public(job) ||
        !add_addresses(job, link)) {
        return;
    }
    int err = interface_dress(job->net, link, &job->mac);
    if (err != 0) {
        address_fail(job, FLEET_START_FAILED, link->name,
                     "give it the MAC address", err);
        return;
    }
    err = net_link_set_up(job->net, link->index, true);
    if (err != 0) {
        address_fail(job, FLEET_START_FAILED, link->name,
                     err == EADDRINUSE || err == EBUSY
                         ? "bring it up (another interface has its MAC address)"
                         : "bring it up",
                     err);
        return;
    }
    if (!wait_for_carrier(job, link)) {
        return;
    }
    // Routes cannot be made before the link is up.
    for (uint32_t i = 0; i < job->ips_n; i++) {
        err = add_routes(job, link, &job->ips[i]);
        if (err != 0) {
            address_fail(job, FLEET_START_FAILED, link->name, "route by it",
                         err);
            return;
        }
    }
    if (announce(job, link)) {
        address_describe(job, link, "on");
    }
}
