// SPDX-License-Identifier: MIT
//
// Would the address of a set work on this node: an interface to have, a
// carrier, nobody else with its addresses.

#include <stdlib.h>
#include <string.h>

#include "node/agents/address.h"
#include "proto/text.h"

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

static void look_for_slot(address_job_t *job, const net_view_t *view,
                          const address_found_t *found) {
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
static void look_for_doubles(address_job_t *job, const net_view_t *view,
                             const address_found_t *found) {
    int own = found->has_link ? found->link.index : 0;
    for (uint32_t i = 0; i < view->addresses_n; i++) {
        const net_address_t *address = &view->addresses[i];
        if (address->index == own ||
            !address_has_ip(job->ips, job->ips_n, &address->ip)) {
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

void address_problems(address_job_t *job, const address_found_t *found) {
    net_view_t *view = calloc(1, sizeof *view);
    if (view == NULL) {
        abort();
    }
    int err = net_view(job->net, view);
    if (err != 0) {
        address_fail(job, FLEET_NOT_READY, job->ctx->node,
                     "list its interfaces", err);
    } else {
        look_for_slot(job, view, found);
        look_for_doubles(job, view, found);
    }
    free(view);
}
