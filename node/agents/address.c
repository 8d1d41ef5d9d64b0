// SPDX-License-Identifier: MIT
//
// The address of a set: its IP addresses and its MAC on an interface of this
// node, announced to the switch and the neighbours; silent, and its connections
// ended, when it leaves.  Which interface that is, is interface.c's to know;
// frames are announce.c's, the kernel-kept lease silence.c's.

#include "node/agents/address.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/text.h"

void address_fail(address_job_t *job, fleet_err_t code, const char *name,
                  const char *what, int err) {
    agent_fail(job->result, code, "%s: cannot %s: %s", name, what,
               strerror(err));
}

bool address_open(const agent_ctx_t *ctx, agent_result_t *result,
                  address_job_t *ret_job) {
    const fleet_address_t *address = &ctx->resource->address;
    address_job_t job = {.ctx = ctx, .result = result, .ips_n = address->ips_n};
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
    job.net = net_open();
    if (job.net == NULL) {
        agent_fail(result, FLEET_START_FAILED, "no netlink socket: %s",
                   strerror(errno));
        return false;
    }
    *ret_job = job;
    return true;
}

bool address_wants_lease(const agent_ctx_t *ctx) {
    return ctx->setdef->facts.without_lease == fleet_without_lease_SILENCE;
}

static bool has_ipv6(const address_job_t *job) {
    for (uint32_t i = 0; i < job->ips_n; i++) {
        if (job->ips[i].family == AF_INET6) {
            return true;
        }
    }
    return false;
}

void address_describe(address_job_t *job, const net_link_t *link,
                      const char *what) {
    fleet_id_t ip = "";
    if (job->ips_n > 0) {
        net_ip_print(&job->ips[0], ip);
    }
    FLEET_FORMAT(job->result->text, "%s%s %s %s", ip,
                 job->ips_n > 1 ? " and others" : "", what, link->name);
}

// --------------------------------------------------------------- what is there

static bool is_link_local(const net_ip_t *ip) {
    return ip->family == AF_INET6 && ip->bytes[0] == 0xfe &&
           (ip->bytes[1] & 0xc0) == 0x80;
}

bool address_has_ip(const net_ip_t *ips, uint32_t ips_n, const net_ip_t *ip) {
    for (uint32_t i = 0; i < ips_n; i++) {
        if (net_ip_equal(&ips[i], ip)) {
            return true;
        }
    }
    return false;
}

static int look_around(address_job_t *job, address_found_t *ret_found) {
    address_found_t found = {0};
    net_address_t there[ADDRESS_ON_LINK_MAX];
    uint32_t n = 0;
    int err = interface_find(job->net, job->ctx, &found.link);
    if (err == ENODEV) {
        *ret_found = found;
        return 0;
    }
    found.has_link = err == 0;
    if (err == 0) {
        err = net_addresses(job->net, found.link.index, there,
                            ADDRESS_ON_LINK_MAX, &n);
    }
    for (uint32_t i = 0; err == 0 && i < n; i++) {
        if (is_link_local(&there[i].ip) &&
            !address_has_ip(job->ips, job->ips_n, &there[i].ip)) {
            continue;
        }
        found.on_link[found.on_link_n++] = there[i];
        if (address_has_ip(job->ips, job->ips_n, &there[i].ip)) {
            found.addresses_n++;
        }
    }
    if (err == 0) {
        *ret_found = found;
    }
    return err;
}

bool address_survey(address_job_t *job, fleet_err_t code,
                    address_found_t *ret_found) {
    int err = look_around(job, ret_found);
    if (err != 0) {
        address_fail(job, code, job->ctx->setdef->set, "find its interface",
                     err);
    }
    return err == 0;
}

// ------------------------------------------------------------------- the agent

static void address_prepare(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    net_link_t link;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (interface_take(job.net, ctx, &job.mac, result, &link)) {
        interface_quiet(&link, has_ipv6(&job));
        if (address_prefer_public(&job)) {
            FLEET_FORMAT(result->text, "%s is there", link.name);
        }
    }
    net_close(&job.net);
}

static void address_unprepare(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_STOP_FAILED, &found) && found.has_link &&
        found.on_link_n == 0) {
        int err = interface_hush(job.net, &found.link);
        if (err == 0) {
            err = interface_give(job.net, &found.link);
        }
        if (err != 0) {
            address_fail(&job, FLEET_STOP_FAILED, found.link.name, "remove it",
                         err);
        }
        interface_sweep();
    }
    net_close(&job.net);
}

static void address_start(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    net_link_t link;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (interface_take(job.net, ctx, &job.mac, result, &link)) {
        interface_quiet(&link, has_ipv6(&job));
        address_raise(&job, &link);
    }
    net_close(&job.net);
}

static void address_stop(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_STOP_FAILED, &found)) {
        address_lower(&job, &found);
    }
    net_close(&job.net);
}

static void address_silence(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_STOP_FAILED, &found) && found.has_link) {
        int err = net_link_set_up(job.net, found.link.index, false);
        if (err != 0 && err != ENODEV) {
            address_fail(&job, FLEET_STOP_FAILED, found.link.name,
                         "bring it down", err);
        } else {
            address_describe(&job, &found.link, "silent on");
        }
    }
    net_close(&job.net);
}

// Addresses and routes that went with the link come back with it.
static void address_speak(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_START_FAILED, &found)) {
        if (found.has_link) {
            address_raise(&job, &found.link);
        } else {
            agent_fail(result, FLEET_START_FAILED,
                       "%s has no interface here any more", ctx->setdef->set);
        }
    }
    net_close(&job.net);
}

static void address_renew(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_wants_lease(ctx) || !address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_START_FAILED, &found) && found.has_link) {
        (void)address_lease(&job, &found.link);
    }
    net_close(&job.net);
}

static void address_probe(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_START_FAILED, &found)) {
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
            address_describe(&job, link, "on");
        }
    }
    net_close(&job.net);
}

static void address_look(const agent_ctx_t *ctx, agent_result_t *result) {
    address_job_t job;
    address_found_t found;
    if (!address_open(ctx, result, &job)) {
        return;
    }
    if (address_survey(&job, FLEET_NOT_READY, &found)) {
        address_problems(&job, &found);
    }
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
