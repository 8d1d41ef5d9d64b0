// SPDX-License-Identifier: MIT
//
// The address of a set: its IP addresses and its MAC on an interface of this
// node, announced to the switch and the neighbours; silent, and its connections
// ended, when it leaves.  Which interface that is, is interface.c's to know;
// frames are announce.c's, the kernel-kept lease silence.c's.

#include <errno.h>
#include <inttypes.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "node/agents/agent.h"
#include "node/agents/announce.h"
#include "node/agents/connections.h"
#include "node/agents/detach.h"
#include "node/agents/interface.h"
#include "node/agents/silence.h"
#include "node/netlink.h"
#include "proto/text.h"

// Routes of what is sent from a set's address: one table for each interface.
// Link indexes are not used again, so neither are tables.
#define TABLE_BASE 20000U
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
#define ON_LINK_MAX (CONNECTIONS_IPS_MAX - FLEET_ADDRESSES_MAX)

// One call, in the kernel's terms.
typedef struct job {
    const agent_ctx_t *ctx;
    agent_result_t *result;
    net_t *net;
    net_mac_t mac;
    uint32_t ips_n;
    net_ip_t ips[FLEET_ADDRESSES_MAX];
    net_ip_t gateway; // family 0: none
} job_t;

static void fail(job_t *job, fleet_err_t code, const char *name,
                 const char *what, int err) {
    agent_fail(job->result, code, "%s: cannot %s: %s", name, what,
               strerror(err));
}

static bool job_open(const agent_ctx_t *ctx, agent_result_t *result,
                     job_t *ret_job) {
    const fleet_address_t *address = &ctx->resource->address;
    job_t job = {.ctx = ctx, .result = result, .ips_n = address->ips_n};
    if (!net_mac_parse(address->mac, &job.mac)) {
        agent_fail(result, FLEET_BAD_FILE, "\"%s\" is no MAC address",
                   address->mac);
        return false;
    }
    for (uint32_t i = 0; i < address->ips_n; i++) {
        if (!net_ip_parse(address->ips[i], &job.ips[i])) {
            agent_fail(result, FLEET_BAD_FILE, "\"%s\" is no address",
                       address->ips[i]);
            return false;
        }
    }
    if (address->gateway[0] != '\0' &&
        !net_ip_parse(address->gateway, &job.gateway)) {
        agent_fail(result, FLEET_BAD_FILE, "\"%s\" is no gateway",
                   address->gateway);
        return false;
    }
    if (agent_below(ctx, FLEET_RESOURCE_ADDRESS) != NULL) {
        agent_fail(result, FLEET_BAD_FILE,
                   "a set has one address resource, for it has one interface; "
                   "list all its addresses there");
        return false;
    }
    job.net = net_open();
    if (job.net == NULL) {
        agent_fail(result, FLEET_START_FAILED, "no netlink socket: %s",
                   strerror(errno));
        return false;
    }
    *ret_job = job;
    return true;
}

static bool wants_lease(const agent_ctx_t *ctx) {
    return ctx->setdef->facts.without_lease == fleet_without_lease_SILENCE;
}

static bool has_ipv6(const job_t *job) {
    for (uint32_t i = 0; i < job->ips_n; i++) {
        if (job->ips[i].family == AF_INET6) {
            return true;
        }
    }
    return false;
}

static bool is_link_local(const net_ip_t *ip) {
    return ip->family == AF_INET6 && ip->bytes[0] == 0xfe &&
           (ip->bytes[1] & 0xc0) == 0x80;
}

// ------------------------------------------------------- the private interface

// The kernel's own route of an address follows the address.
static int raise_metrics(job_t *job, int index, const net_ip_t *prefix) {
    net_address_t there[ON_LINK_MAX];
    uint32_t n = 0;
    int err = net_addresses(job->net, index, there, ON_LINK_MAX, &n);
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
static int raise_routes(job_t *job, int index, const net_ip_t *prefix) {
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
static bool prefer_public(job_t *job) {
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
            fail(job, FLEET_START_FAILED, name, "make its route dearer", err);
            return false;
        }
    }
    return true;
}

// ----------------------------------------------------------------------- raise

static bool add_addresses(job_t *job, const net_link_t *link) {
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
static int read_wire(job_t *job, const net_link_t *link, net_link_t *ret_wire) {
    return net_link_read(
        job->net, interface_is_macvlan(link) ? link->parent : link->index,
        ret_wire);
}

static bool wait_for_carrier(job_t *job, const net_link_t *link) {
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
        fail(job, FLEET_START_FAILED, link->name, "find it again", err);
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
static int add_routes(job_t *job, const net_link_t *link, const net_ip_t *ip) {
    uint32_t table = TABLE_BASE + (uint32_t)link->index;
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

static bool announce(job_t *job, const net_link_t *link) {
    int err = announce_once(link->index, &job->mac, job->ips, job->ips_n);
    // A frame was dropped: by a full queue, or because the lease ran out
    // already.
    if (err == ENOBUFS) {
        agent_say(job->ctx, "%s is not heard yet: %s", link->name,
                  strerror(err));
        err = 0;
    }
    if (err != 0) {
        fail(job, FLEET_START_FAILED, link->name, "announce it", err);
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

static bool start_lease(job_t *job, const net_link_t *link) {
    fleet_text_t why;
    if (!wants_lease(job->ctx)) {
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

static void describe(job_t *job, const net_link_t *link, const char *what) {
    fleet_id_t ip = "";
    if (job->ips_n > 0) {
        net_ip_print(&job->ips[0], ip);
    }
    FLEET_FORMAT(job->result->text, "%s%s %s %s", ip,
                 job->ips_n > 1 ? " and others" : "", what, link->name);
}

// From an interface that the set has to one that is heard.  Every step finds
// its work done if it was.
static void raise_link(job_t *job, const net_link_t *link) {
    if (!start_lease(job, link) || !prefer_public(job) ||
        !add_addresses(job, link)) {
        return;
    }
    int err = interface_dress(job->net, link, &job->mac);
    if (err != 0) {
        fail(job, FLEET_START_FAILED, link->name, "give it the MAC address",
             err);
        return;
    }
    err = net_link_set_up(job->net, link->index, true);
    if (err != 0) {
        fail(job, FLEET_START_FAILED, link->name,
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
            fail(job, FLEET_START_FAILED, link->name, "route by it", err);
            return;
        }
    }
    if (announce(job, link)) {
        describe(job, link, "on");
    }
}

// --------------------------------------------------------------- what is there

typedef struct found {
    bool has_link;
    net_link_t link;
    uint32_t addresses_n; // of the set, on its interface
    uint32_t on_link_n;   // whosever, without link-local ones
    net_address_t on_link[ON_LINK_MAX];
} found_t;

static bool has_ip(const net_ip_t *ips, uint32_t ips_n, const net_ip_t *ip) {
    for (uint32_t i = 0; i < ips_n; i++) {
        if (net_ip_equal(&ips[i], ip)) {
            return true;
        }
    }
    return false;
}

static int look_around(job_t *job, found_t *ret_found) {
    found_t found = {0};
    net_address_t there[ON_LINK_MAX];
    uint32_t n = 0;
    int err = interface_find(job->net, job->ctx, &found.link);
    if (err == ENODEV) {
        *ret_found = found;
        return 0;
    }
    found.has_link = err == 0;
    if (err == 0) {
        err = net_addresses(job->net, found.link.index, there, ON_LINK_MAX, &n);
    }
    for (uint32_t i = 0; err == 0 && i < n; i++) {
        if (is_link_local(&there[i].ip) &&
            !has_ip(job->ips, job->ips_n, &there[i].ip)) {
            continue;
        }
        found.on_link[found.on_link_n++] = there[i];
        if (has_ip(job->ips, job->ips_n, &there[i].ip)) {
            found.addresses_n++;
        }
    }
    if (err == 0) {
        *ret_found = found;
    }
    return err;
}

static bool must_look_around(job_t *job, fleet_err_t code, found_t *ret_found) {
    int err = look_around(job, ret_found);
    if (err != 0) {
        fail(job, code, job->ctx->setdef->set, "find its interface", err);
    }
    return err == 0;
}

// -------------------------------------------------------------------------
// stop

// Those of the definition, and those that are on the interface by an older one.
static uint32_t list_ips(const job_t *job, const found_t *found,
                         net_ip_t ips[CONNECTIONS_IPS_MAX]) {
    uint32_t ips_n = 0;
    for (uint32_t i = 0; i < job->ips_n; i++) {
        ips[ips_n++] = job->ips[i];
    }
    for (uint32_t i = 0; i < found->on_link_n; i++) {
        if (!has_ip(ips, ips_n, &found->on_link[i].ip)) {
            ips[ips_n++] = found->on_link[i].ip;
        }
    }
    return ips_n;
}

static void end_connections(job_t *job, const net_ip_t *ips, uint32_t ips_n) {
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
            back = has_ip(ips, ips_n, &there[i].ip);
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

static int remove_addresses(job_t *job, const found_t *found) {
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
static void remove_routes(job_t *job, const found_t *found) {
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
        uint32_t table = TABLE_BASE + (uint32_t)found->link.index;
        for (uint32_t i = 0; i < n; i++) {
            if (routes[i].table == table) {
                (void)net_route_remove(job->net, &routes[i]);
            }
        }
    }
    free(routes);
}

static bool end_lease(job_t *job, const char *interface) {
    fleet_text_t why;
    if (!wants_lease(job->ctx) ||
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
static void stop_found(job_t *job, const found_t *found) {
    const net_link_t *link = &found->link;
    net_ip_t ips[CONNECTIONS_IPS_MAX];
    uint32_t ips_n = list_ips(job, found, ips);
    end_connections(job, ips, ips_n);
    int err = remove_addresses(job, found);
    if (err == 0) {
        err = interface_hush(job->net, link);
    }
    if (err != 0 && err != ENODEV) {
        fail(job, FLEET_STOP_FAILED, link->name, "silence it", err);
        return;
    }
    remove_routes(job, found);
    if (!end_lease(job, link->name)) {
        return;
    }
    err = interface_give(job->net, link);
    if (err != 0) {
        fail(job, FLEET_STOP_FAILED, link->name, "remove it", err);
        return;
    }
    clean_up_later(ips, ips_n);
    describe(job, link, "gone from");
}

// ------------------------------------------------------------------- the agent

static void address_prepare(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    net_link_t link;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (interface_take(job.net, ctx, &job.mac, result, &link)) {
        interface_quiet(&link, has_ipv6(&job));
        if (prefer_public(&job)) {
            FLEET_FORMAT(result->text, "%s is there", link.name);
        }
    }
    net_close(&job.net);
}

static void address_unprepare(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (must_look_around(&job, FLEET_STOP_FAILED, &found) && found.has_link &&
        found.on_link_n == 0) {
        int err = interface_hush(job.net, &found.link);
        if (err == 0) {
            err = interface_give(job.net, &found.link);
        }
        if (err != 0) {
            fail(&job, FLEET_STOP_FAILED, found.link.name, "remove it", err);
        }
        interface_sweep();
    }
    net_close(&job.net);
}

static void address_start(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    net_link_t link;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (interface_take(job.net, ctx, &job.mac, result, &link)) {
        interface_quiet(&link, has_ipv6(&job));
        raise_link(&job, &link);
    }
    net_close(&job.net);
}

static void address_stop(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (must_look_around(&job, FLEET_STOP_FAILED, &found)) {
        if (found.has_link) {
            stop_found(&job, &found);
        } else {
            fleet_name_t name;
            interface_name(ctx->setdef->set, name);
            remove_routes(&job, &found);
            (void)end_lease(&job, name);
        }
    }
    net_close(&job.net);
}

static void address_silence(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (must_look_around(&job, FLEET_STOP_FAILED, &found) && found.has_link) {
        int err = net_link_set_up(job.net, found.link.index, false);
        if (err != 0 && err != ENODEV) {
            fail(&job, FLEET_STOP_FAILED, found.link.name, "bring it down",
                 err);
        } else {
            describe(&job, &found.link, "silent on");
        }
    }
    net_close(&job.net);
}

// Addresses and routes that went with the link come back with it.
static void address_speak(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (must_look_around(&job, FLEET_START_FAILED, &found)) {
        if (found.has_link) {
            raise_link(&job, &found.link);
        } else {
            agent_fail(result, FLEET_START_FAILED,
                       "%s has no interface here any more", ctx->setdef->set);
        }
    }
    net_close(&job.net);
}

static void address_renew(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!wants_lease(ctx) || !job_open(ctx, result, &job)) {
        return;
    }
    if (must_look_around(&job, FLEET_START_FAILED, &found) && found.has_link) {
        (void)start_lease(&job, &found.link);
    }
    net_close(&job.net);
}

static void address_probe(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    if (must_look_around(&job, FLEET_START_FAILED, &found)) {
        const net_link_t *link = &found.link;
        result->found = NODE_FOUND_PART;
        if (!found.has_link) {
            result->found = NODE_FOUND_NOTHING;
            FLEET_COPY(result->text, "no interface of it is here");
        } else if (found.addresses_n < job.ips_n) {
            FLEET_FORMAT(result->text, "%s has %u of %u addresses", link->name,
                         found.addresses_n, job.ips_n);
        } else if (!net_mac_equal(&link->mac, &job.mac)) {
            FLEET_FORMAT(result->text, "%s has another MAC address",
                         link->name);
        } else if (!link->up) {
            FLEET_FORMAT(result->text, "%s is down", link->name);
        } else if (!link->carrier) {
            FLEET_FORMAT(result->text, "%s has no carrier",
                         interface_is_macvlan(link) ? ctx->parent : link->name);
        } else {
            result->found = NODE_FOUND_ALL;
            describe(&job, link, "on");
        }
    }
    net_close(&job.net);
}

// -------------------------------------------------------------------------
// look

static void problem(agent_result_t *result, fleet_err_t err, const char *name,
                    const char *what) {
    if (result->problems_n < FLEET_REASONS_MAX) {
        fleet_reason_make(&result->problems[result->problems_n++], err, "%s %s",
                          name, what);
    }
}

static const net_link_t *view_find(const net_view_t *view, const char *name) {
    for (uint32_t i = 0; i < view->links_n; i++) {
        if (strcmp(view->links[i].name, name) == 0) {
            return &view->links[i];
        }
    }
    return NULL;
}

// One that is down has no carrier to speak of; preparing brings it up.
static bool dead(const net_link_t *link) {
    return link->up && !link->carrier;
}

static void look_for_slot(job_t *job, const net_view_t *view,
                          const found_t *found) {
    const agent_ctx_t *ctx = job->ctx;
    if (ctx->parent[0] != '\0') {
        const net_link_t *parent = view_find(view, ctx->parent);
        if (parent == NULL) {
            problem(job->result, FLEET_NO_SLOT, ctx->parent, "does not exist");
        } else if (dead(parent)) {
            problem(job->result, FLEET_NOT_READY, ctx->parent,
                    "has no carrier");
        }
        return;
    }
    if (found->has_link) {
        if (dead(&found->link)) {
            problem(job->result, FLEET_NOT_READY, found->link.name,
                    "has no carrier");
        }
        return;
    }
    uint32_t unused = 0;
    const net_link_t *without_carrier = NULL;
    for (uint32_t i = 0; i < ctx->interfaces_n; i++) {
        const net_link_t *link = view_find(view, ctx->interfaces[i]);
        fleet_name_t set;
        if (link == NULL || net_mark_read(link->alias, set)) {
            continue;
        }
        if (dead(link)) {
            without_carrier = link;
        } else {
            unused++;
        }
    }
    if (unused == 0 && without_carrier != NULL) {
        problem(job->result, FLEET_NOT_READY, without_carrier->name,
                "has no carrier");
    } else if (unused == 0) {
        problem(job->result, FLEET_NO_SLOT, ctx->node,
                "has no free public interface");
    }
}

// The addresses, or the MAC, on another interface of this node.
static void look_for_doubles(job_t *job, const net_view_t *view,
                             const found_t *found) {
    int own = found->has_link ? found->link.index : 0;
    for (uint32_t i = 0; i < view->addresses_n; i++) {
        const net_address_t *address = &view->addresses[i];
        if (address->index == own ||
            !has_ip(job->ips, job->ips_n, &address->ip)) {
            continue;
        }
        fleet_id_t ip;
        fleet_text_t what = "is on another interface of this node";
        net_ip_print(&address->ip, ip);
        for (uint32_t k = 0; k < view->links_n; k++) {
            if (view->links[k].index == address->index) {
                FLEET_FORMAT(what, "is on %s already", view->links[k].name);
            }
        }
        problem(job->result, FLEET_NOT_READY, ip, what);
    }
    for (uint32_t i = 0; i < view->links_n; i++) {
        const net_link_t *link = &view->links[i];
        if (link->index != own && link->up &&
            net_mac_equal(&link->mac, &job->mac)) {
            problem(job->result, FLEET_NOT_READY, link->name,
                    "has the set's MAC address");
        }
    }
}

static void address_look(const agent_ctx_t *ctx, agent_result_t *result) {
    job_t job;
    found_t found;
    if (!job_open(ctx, result, &job)) {
        return;
    }
    net_view_t *view = calloc(1, sizeof *view);
    if (view == NULL) {
        abort();
    }
    if (must_look_around(&job, FLEET_NOT_READY, &found)) {
        int err = net_view(job.net, view);
        if (err != 0) {
            fail(&job, FLEET_NOT_READY, ctx->node, "list its interfaces", err);
        } else {
            look_for_slot(&job, view, &found);
            look_for_doubles(&job, view, &found);
        }
    }
    free(view);
    net_close(&job.net);
}

const agent_t agent_address = {
    .kind = FLEET_RESOURCE_ADDRESS,
    .prepare = address_prepare,
    .unprepare = address_unprepare,
    .start = address_start,
    .stop = address_stop,
    .probe = address_probe,
    .look = address_look,
    .silence = address_silence,
    .speak = address_speak,
    .renew = address_renew,
};
