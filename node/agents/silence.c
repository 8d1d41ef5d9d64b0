// SPDX-License-Identifier: MIT
//
// nftables sets whose elements have a timeout, which the kernel counts by
// itself.
//
// Two tables called fleet.  The one of family netdev holds the interface:
// without an element for it nothing leaves or enters, ARP, neighbour discovery
// and the kernel's own frames included, which the family inet never sees.  The
// one of family inet holds the addresses, in case one of them is used over
// another interface. Local connections over lo stay.
//
// `add element` does not renew an element that is there, and `delete element`
// fails once it has run out; add, delete, add in one transaction does both.

#include "node/agents/silence.h"

#include <inttypes.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/text.h"

#define SCRIPT_MAX 8192

typedef struct script {
    char text[SCRIPT_MAX];
    size_t n;
} script_t;

static void add(script_t *script, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(script_t *script, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(script->text + script->n, SCRIPT_MAX - script->n, format,
                      args);
    va_end(args);
    if (n < 0 || (size_t)n >= SCRIPT_MAX - script->n) {
        abort(); // the bounds of a set's definition make this impossible
    }
    script->n += (size_t)n;
}

static bool run(const script_t *script, fleet_text_t ret_why) {
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (nft == NULL) {
        fleet_text_copy(ret_why, sizeof(fleet_text_t), "nftables: no memory");
        return false;
    }
    (void)nft_ctx_buffer_output(nft);
    (void)nft_ctx_buffer_error(nft);
    bool ok = nft_run_cmd_from_buffer(nft, script->text) == 0;
    if (!ok) {
        const char *said = nft_ctx_get_error_buffer(nft);
        fleet_text_format(ret_why, sizeof(fleet_text_t), "nftables: %.*s",
                          (int)strcspn(said, "\n"), said);
    }
    nft_ctx_free(nft);
    return ok;
}

static bool is_there(const char *what) {
    script_t script = {.n = 0};
    fleet_text_t ignored;
    add(&script, "list %s\n", what);
    return run(&script, ignored);
}

static void add_inet_table(script_t *script) {
    add(script,
        "add table inet fleet\n"
        "add set inet fleet held4 { type ipv4_addr; }\n"
        "add set inet fleet held6 { type ipv6_addr; }\n"
        "add set inet fleet lease4 { type ipv4_addr; flags timeout; }\n"
        "add set inet fleet lease6 { type ipv6_addr; flags timeout; }\n"
        "add chain inet fleet in"
        " { type filter hook input priority -300; }\n"
        "add chain inet fleet out"
        " { type filter hook output priority -300; }\n"
        "flush chain inet fleet in\n"
        "flush chain inet fleet out\n"
        "add rule inet fleet in iifname \"lo\" accept\n"
        "add rule inet fleet in ip daddr @held4"
        " ip daddr != @lease4 drop\n"
        "add rule inet fleet in ip6 daddr @held6"
        " ip6 daddr != @lease6 drop\n"
        "add rule inet fleet out oifname \"lo\" accept\n"
        "add rule inet fleet out ip saddr @held4"
        " ip saddr != @lease4 drop\n"
        "add rule inet fleet out ip6 saddr @held6"
        " ip6 saddr != @lease6 drop\n");
}

static void add_chain(script_t *script, const char *direction, const char *hook,
                      const char *key, const char *interface) {
    add(script,
        "add chain netdev fleet %s-%s"
        " { type filter hook %s device \"%s\" priority -300; }\n",
        direction, interface, hook, interface);
    add(script, "flush chain netdev fleet %s-%s\n", direction, interface);
    add(script, "add rule netdev fleet %s-%s %s != @lease drop\n", direction,
        interface, key);
}

static void add_interface(script_t *script, const char *interface) {
    add(script,
        "add table netdev fleet\n"
        "add set netdev fleet lease { type ifname; flags timeout; }\n");
    add_chain(script, "in", "ingress", "iifname", interface);
    add_chain(script, "out", "egress", "oifname", interface);
}

static void add_timed(script_t *script, const char *set, const char *element,
                      uint64_t lease_ms) {
    add(script, "add element %s { %s timeout %" PRIu64 "ms }\n", set, element,
        lease_ms);
}

static void remove_element(script_t *script, const char *set,
                           const char *element) {
    add(script, "delete element %s { %s }\n", set, element);
}

// Whether it is there or not, run out or not.
static void renew_element(script_t *script, const char *set,
                          const char *element, uint64_t lease_ms) {
    add_timed(script, set, element, lease_ms);
    remove_element(script, set, element);
    add_timed(script, set, element, lease_ms);
}

typedef char quoted_t[NET_NAME_MAX + 3];

static void quote(const char *interface, quoted_t ret_quoted) {
    (void)snprintf(ret_quoted, sizeof(quoted_t), "\"%.*s\"", NET_NAME_MAX,
                   interface);
}

static const char *held_set(const net_ip_t *ip) {
    return ip->family == AF_INET ? "inet fleet held4" : "inet fleet held6";
}

static const char *lease_set(const net_ip_t *ip) {
    return ip->family == AF_INET ? "inet fleet lease4" : "inet fleet lease6";
}

bool silence_lease(const char *interface, const net_ip_t *ips, uint32_t ips_n,
                   uint64_t lease_ms, fleet_text_t ret_why) {
    script_t script = {.n = 0};
    quoted_t quoted;
    if (lease_ms == 0) {
        lease_ms = 1; // nft reads 0 as "for ever"
    }
    quote(interface, quoted);
    add_interface(&script, interface);
    add_inet_table(&script);
    renew_element(&script, "netdev fleet lease", quoted, lease_ms);
    for (uint32_t i = 0; i < ips_n; i++) {
        fleet_id_t ip;
        net_ip_print(&ips[i], ip);
        add(&script, "add element %s { %s }\n", held_set(&ips[i]), ip);
        renew_element(&script, lease_set(&ips[i]), ip, lease_ms);
    }
    return run(&script, ret_why);
}

// An element that may be there or not is added first, so that removing it
// cannot fail; likewise a chain.
static void remove_elements(script_t *script, const net_ip_t *ips,
                            uint32_t ips_n) {
    for (uint32_t i = 0; i < ips_n; i++) {
        fleet_id_t ip;
        net_ip_print(&ips[i], ip);
        add(script, "add element %s { %s }\n", held_set(&ips[i]), ip);
        remove_element(script, held_set(&ips[i]), ip);
        add_timed(script, lease_set(&ips[i]), ip, 1000);
        remove_element(script, lease_set(&ips[i]), ip);
    }
}

static void remove_interface(script_t *script, const char *interface) {
    quoted_t quoted;
    quote(interface, quoted);
    add_timed(script, "netdev fleet lease", quoted, 1000);
    remove_element(script, "netdev fleet lease", quoted);
}

static void remove_chain(script_t *script, const char *direction,
                         const char *interface) {
    add(script, "flush chain netdev fleet %s-%s\n", direction, interface);
    add(script, "delete chain netdev fleet %s-%s\n", direction, interface);
}

// Where the interface is gone, a chain can neither be added first nor, with
// older kernels, be there.
static bool end_without_interface(const char *interface, const net_ip_t *ips,
                                  uint32_t ips_n, fleet_text_t ret_why) {
    static const char *const directions[] = {"in", "out"};
    script_t script = {.n = 0};
    if (is_there("table netdev fleet")) {
        for (size_t i = 0; i < 2; i++) {
            script_t one = {.n = 0};
            fleet_text_t ignored;
            remove_chain(&one, directions[i], interface);
            (void)run(&one, ignored);
        }
        remove_interface(&script, interface);
    }
    if (is_there("table inet fleet")) {
        remove_elements(&script, ips, ips_n);
    }
    return script.n == 0 || run(&script, ret_why);
}

bool silence_end(const char *interface, const net_ip_t *ips, uint32_t ips_n,
                 fleet_text_t ret_why) {
    script_t script = {.n = 0};
    if (if_nametoindex(interface) == 0) {
        return end_without_interface(interface, ips, ips_n, ret_why);
    }
    add_interface(&script, interface);
    add_inet_table(&script);
    remove_chain(&script, "in", interface);
    remove_chain(&script, "out", interface);
    remove_interface(&script, interface);
    remove_elements(&script, ips, ips_n);
    return run(&script, ret_why);
}
