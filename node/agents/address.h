// SPDX-License-Identifier: MIT
//
// One call of the address agent in the kernel's terms, for its files: address.c
// (the agent), address_raise.c (from silent to heard), address_lower.c (and
// back), address_look.c (would it work here).  For nobody else.

#ifndef FLEET_NODE_ADDRESS_H
#define FLEET_NODE_ADDRESS_H

#include "node/agents/agent.h"
#include "node/agents/connections.h"
#include "node/agents/interface.h"

#define ADDRESS_ON_LINK_MAX (CONNECTIONS_IPS_MAX - FLEET_ADDRESSES_MAX)
// Routes of what is sent from a set's address: one table for each interface.
// Link indexes are not used again, so neither are tables.
#define ADDRESS_TABLE_BASE 20000U

// One call, in the kernel's terms.
typedef struct address_job {
    const agent_ctx_t *ctx;
    agent_result_t *result;
    net_t *net;
    net_mac_t mac;
    uint32_t ips_n;
    net_ip_t ips[FLEET_ADDRESSES_MAX];
    net_ip_t gateway; // family 0: none
} address_job_t;

// What is there of it.
typedef struct address_found {
    bool has_link;
    net_link_t link;
    uint32_t addresses_n; // of the set, on its interface
    uint32_t on_link_n;   // whosever, without link-local ones
    net_address_t on_link[ADDRESS_ON_LINK_MAX];
} address_found_t;

// Opens a call: false after an agent_fail.  The caller closes ret_job->net.
bool address_open(const agent_ctx_t *ctx, agent_result_t *result,
                  address_job_t *ret_job);

// Finds the set's interface and what is on it.  False after an agent_fail with
// `code`; a set that has none is no failure.
bool address_survey(address_job_t *job, fleet_err_t code,
                    address_found_t *ret_found);

// Makes the private interface less preferred than any of the set's.  False
// after an agent_fail.
bool address_prefer_public(address_job_t *job);

// From an interface that the set has to one that is heard.  Every step finds
// its work done if it was.  Fails with agent_fail.
void address_raise(address_job_t *job, const net_link_t *link);

// Installs or renews the lease, if the set wants one.  False after an
// agent_fail.
bool address_lease(address_job_t *job, const net_link_t *link);

// From whatever is there to nothing.  Fails with agent_fail.
void address_lower(address_job_t *job, const address_found_t *found);

// Adds to the result's problems why it would not start here.
void address_problems(address_job_t *job, const address_found_t *found);

bool address_wants_lease(const agent_ctx_t *ctx);
bool address_has_ip(const net_ip_t *ips, uint32_t ips_n, const net_ip_t *ip);

// "eth1: cannot WHAT: why"
void address_fail(address_job_t *job, fleet_err_t code, const char *name,
                  const char *what, int err);

// The result's text: "192.0.2.80 WHAT fl-www"
void address_describe(address_job_t *job, const net_link_t *link,
                      const char *what);

#endif
