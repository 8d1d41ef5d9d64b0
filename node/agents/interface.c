// SPDX-License-Identifier: MIT
//
// See interface.h.
//
// Macvlans are made in bridge mode.  Two sets on one parent can then reach each
// other also where one of them serves from a network namespace of its own; in
// private mode the parent would drop what they send to each other, and no
// switch sends a frame back to the port that it came from.  To the wire the two
// modes look alike.

#include "node/agents/interface.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/text.h"

#define PREFIX "fl-"
// A removed macvlan has this name until the kernel is done with it.
#define GONE_PREFIX "fl~"
#define PLAIN_MAX 12 // characters of a set's name that fit behind the prefix
#define CUT_PREFIX 5
#define CUT_HASH 6

void interface_name(const char *set, fleet_name_t ret_name) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    fleet_name_t name;
    if (strlen(set) <= PLAIN_MAX) {
        FLEET_FORMAT(name, PREFIX "%s", set);
    } else {
        uint64_t hash = UINT64_C(14695981039346656037); // FNV-1a
        char tail[CUT_HASH + 1] = {0};
        for (const char *c = set; *c != '\0'; c++) {
            hash = (hash ^ (uint8_t)*c) * UINT64_C(1099511628211);
        }
        hash ^= hash >> 32;
        for (int i = 0; i < CUT_HASH; i++) {
            tail[i] = digits[hash >> (5 * i) & 31];
        }
        FLEET_FORMAT(name, PREFIX "%.*s_%s", CUT_PREFIX, set, tail);
    }
    fleet_text_copy(ret_name, sizeof(fleet_name_t), name);
}

bool interface_is_macvlan(const net_link_t *link) {
    return strcmp(link->kind, "macvlan") == 0 &&
           strncmp(link->name, PREFIX, sizeof PREFIX - 1) == 0;
}

// ---------------------------------------------------------------- sysctls

// A file that is not there (no IPv6) or may not be written is passed over: what
// these forbid is noise, and the probes see what matters.
static void write_sysctl(const char *family, const char *interface,
                         const char *key, const char *value) {
    char path[128];
    (void)snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s/%s", family,
                   interface, key);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, value, strlen(value));
        (void)n;
        (void)close(fd);
    }
}

void interface_deaf(const char *name) {
    // 1: answers only for an address that is on the interface which was asked.
    write_sysctl("ipv4", name, "arp_ignore", "1");
    // 2: asks with an address of the asking interface.
    write_sysctl("ipv4", name, "arp_announce", "2");
}

void interface_quiet(const net_link_t *link, bool ipv6) {
    interface_deaf(link->name);
    // Loose: the way back may be another interface.  The kernel takes the
    // larger of this and conf/all, so that a strict conf/all is loosened for
    // this one.
    write_sysctl("ipv4", link->name, "rp_filter", "2");
    write_sysctl("ipv4", link->name, "promote_secondaries", "1");
    if (ipv6) {
        write_sysctl("ipv6", link->name, "disable_ipv6", "0");
    }
    write_sysctl("ipv6", link->name, "addr_gen_mode", "1"); // none
    write_sysctl("ipv6", link->name, "accept_ra", "0");
    write_sysctl("ipv6", link->name, "autoconf", "0");
    write_sysctl("ipv6", link->name, "accept_dad", "0");
    write_sysctl("ipv6", link->name, "dad_transmits", "0");
    // Silencing takes the link down and leaves everything else.
    write_sysctl("ipv6", link->name, "keep_addr_on_down", "1");
}

// ------------------------------------------------------------------- find

static bool has_mark(const net_link_t *link, const char *set) {
    fleet_name_t marked;
    return net_mark_read(link->alias, marked) && strcmp(marked, set) == 0;
}

static int list_links(net_t *net, net_link_t **ret_links, uint32_t *ret_n) {
    net_link_t *links = calloc(NET_LINKS_MAX, sizeof *links);
    if (links == NULL) {
        abort();
    }
    int err = net_links(net, links, NET_LINKS_MAX, ret_n);
    if (err != 0) {
        free(links);
        return err;
    }
    *ret_links = links;
    return 0;
}

int interface_find(net_t *net, const agent_ctx_t *ctx, net_link_t *ret_link) {
    fleet_name_t name;
    net_link_t link;
    interface_name(ctx->setdef->set, name);
    int err = net_link_find(net, name, &link);
    fleet_name_t marked;
    // Without a mark it is ours too: we ended between making and marking it.
    if (err == 0 && interface_is_macvlan(&link) &&
        (!net_mark_read(link.alias, marked) ||
         strcmp(marked, ctx->setdef->set) == 0)) {
        *ret_link = link;
        return 0;
    }
    if (err != 0 && err != ENODEV) {
        return err;
    }
    // By its mark, whatever node.yaml says by now.
    net_link_t *links = NULL;
    uint32_t n = 0;
    err = list_links(net, &links, &n);
    if (err != 0) {
        return err;
    }
    err = ENODEV;
    for (uint32_t i = 0; i < n && err != 0; i++) {
        if (has_mark(&links[i], ctx->setdef->set)) {
            *ret_link = links[i];
            err = 0;
        }
    }
    free(links);
    return err;
}

// ------------------------------------------------------------------- take

static bool failed(agent_result_t *result, const char *what, const char *name,
                   int err) {
    agent_fail(result, FLEET_START_FAILED, "%s: cannot %s: %s", name, what,
               strerror(err));
    return false;
}

static int mark(net_t *net, const net_link_t *link, const char *words) {
    return strcmp(link->alias, words) == 0
               ? 0
               : net_link_set_alias(net, link->index, words);
}

// A macvlan of this set that was made on another parent, before node.yaml
// changed.
static int drop_other(net_t *net, net_link_t *link, int parent) {
    if (link->parent == parent) {
        return 0;
    }
    int err = interface_remove(net, link);
    return err == 0 ? ENODEV : err;
}

static bool make_macvlan(net_t *net, const agent_ctx_t *ctx,
                         const net_mac_t *mac, agent_result_t *result,
                         net_link_t *ret_link) {
    fleet_name_t name;
    fleet_id_t alias;
    net_link_t parent;
    int err = net_link_find(net, ctx->parent, &parent);
    if (err != 0) {
        agent_fail(result, FLEET_NO_SLOT, "%s: no such interface", ctx->parent);
        return false;
    }
    interface_deaf(parent.name);
    if (!parent.up) {
        err = net_link_set_up(net, parent.index, true);
        if (err != 0) {
            return failed(result, "bring it up", parent.name, err);
        }
    }
    interface_name(ctx->setdef->set, name);
    err = interface_find(net, ctx, ret_link);
    if (err == 0) {
        err = drop_other(net, ret_link, parent.index);
    }
    if (err == ENODEV) {
        err = net_macvlan_add(net, name, parent.index, mac);
        if (err == EEXIST) {
            agent_fail(result, FLEET_NO_SLOT,
                       "%s: another set's interface has this name", name);
            return false;
        }
        err = err == 0 ? net_link_find(net, name, ret_link) : err;
    }
    if (err == 0) {
        FLEET_FORMAT(alias, "fleet:%s", ctx->setdef->set);
        err = mark(net, ret_link, alias);
    }
    return err == 0 ? true : failed(result, "make it", name, err);
}

// At most one process of this node chooses at a time.
static int lock(const agent_ctx_t *ctx) {
    char path[sizeof(fleet_text_t) + 32];
    (void)snprintf(path, sizeof path, "%s/interfaces.lock", ctx->run);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int borrow(net_t *net, const agent_ctx_t *ctx, net_link_t *link) {
    fleet_id_t alias;
    char mac[18];
    net_mac_print(&link->mac, mac);
    FLEET_FORMAT(alias, "fleet:%s %s %s", ctx->setdef->set, mac,
                 link->up ? "up" : "down");
    int err = mark(net, link, alias);
    FLEET_COPY(link->alias, alias);
    return err;
}

// "eth1 has www, eth2 is not there"
static void describe_taken(net_t *net, const agent_ctx_t *ctx,
                           fleet_text_t ret_text) {
    fleet_text_t text = "none is named in node.yaml";
    for (uint32_t i = 0; i < ctx->interfaces_n; i++) {
        net_link_t link;
        fleet_text_t before = "";
        fleet_name_t set = "";
        bool there = net_link_find(net, ctx->interfaces[i], &link) == 0 &&
                     net_mark_read(link.alias, set);
        if (i > 0) {
            FLEET_FORMAT(before, "%s, ", text);
        }
        FLEET_FORMAT(text, "%s%s %s%s", before, ctx->interfaces[i],
                     there ? "has " : "is not there", set);
    }
    fleet_text_copy(ret_text, sizeof(fleet_text_t), text);
}

static bool choose_physical(net_t *net, const agent_ctx_t *ctx,
                            agent_result_t *result, net_link_t *ret_link) {
    // Rather one with a carrier; one that is down may have it once it is up.
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < ctx->interfaces_n; i++) {
            net_link_t link;
            fleet_name_t set;
            if (net_link_find(net, ctx->interfaces[i], &link) != 0 ||
                net_mark_read(link.alias, set) ||
                (round == 0 && link.up && !link.carrier)) {
                continue;
            }
            int err = borrow(net, ctx, &link);
            *ret_link = link;
            return err == 0 ? true : failed(result, "mark it", link.name, err);
        }
    }
    fleet_text_t taken;
    describe_taken(net, ctx, taken);
    agent_fail(result, FLEET_NO_SLOT, "no public interface is free: %s", taken);
    return false;
}

bool interface_take(net_t *net, const agent_ctx_t *ctx, const net_mac_t *mac,
                    agent_result_t *result, net_link_t *ret_link) {
    if (ctx->parent[0] != '\0') {
        return make_macvlan(net, ctx, mac, result, ret_link);
    }
    for (uint32_t i = 0; i < ctx->interfaces_n; i++) {
        interface_deaf(ctx->interfaces[i]);
    }
    if (interface_find(net, ctx, ret_link) == 0) {
        return true;
    }
    int fd = lock(ctx);
    if (fd < 0) {
        return failed(result, "lock interfaces.lock", ctx->run, errno);
    }
    bool ok = choose_physical(net, ctx, result, ret_link);
    (void)close(fd);
    return ok;
}

// -------------------------------------------------------------- MAC address

int interface_dress(net_t *net, const net_link_t *link, const net_mac_t *mac) {
    if (net_mac_equal(&link->mac, mac)) {
        return 0;
    }
    // Most drivers change it under way, which keeps the carrier; the others
    // want the link down.
    int err = net_link_set_mac(net, link->index, mac);
    if (err == EBUSY) {
        err = net_link_set_up(net, link->index, false);
        if (err == 0) {
            err = net_link_set_mac(net, link->index, mac);
        }
    }
    return err;
}

// What a borrowed interface was, from its mark.
static bool read_before(const net_link_t *link, net_mac_t *ret_mac,
                        bool *ret_up) {
    fleet_id_t text;
    const char *words = strchr(link->alias, ' ');
    if (words == NULL || strlen(words) < 19 || words[18] != ' ') {
        return false;
    }
    FLEET_COPY(text, words + 1);
    text[17] = '\0';
    *ret_up = strcmp(words + 19, "up") == 0;
    return net_mac_parse(text, ret_mac);
}

int interface_hush(net_t *net, const net_link_t *link) {
    net_mac_t before;
    bool up;
    if (!interface_is_macvlan(link) && read_before(link, &before, &up) && up &&
        net_link_set_mac(net, link->index, &before) == 0) {
        // It stays up, so that the next set need not wait for its carrier.  A
        // frame that another processor was just building is gone once every
        // processor has left the kernel's sending path; going down waits
        // likewise.
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
        return 0;
    }
    return net_link_set_up(net, link->index, false);
}

// -------------------------------------------------------------------- give

void interface_sweep(void) {
    net_t *net = net_open();
    net_link_t *links = NULL;
    uint32_t n = 0;
    if (net != NULL && list_links(net, &links, &n) == 0) {
        for (uint32_t i = 0; i < n; i++) {
            // Also those that an earlier process was killed over.
            if (strncmp(links[i].name, GONE_PREFIX, sizeof GONE_PREFIX - 1) ==
                0) {
                (void)net_link_remove(net, links[i].index);
            }
        }
        free(links);
    }
    net_close(&net);
}

int interface_remove(net_t *net, const net_link_t *link) {
    int err = net_link_remove(net, link->index);
    return err == ENODEV ? 0 : err;
}

static int give_macvlan(net_t *net, const net_link_t *link) {
    char name[NET_NAME_MAX + 1];
    (void)snprintf(name, sizeof name, GONE_PREFIX "%d", link->index);
    // A start of the same set right afterwards finds the name free, and the MAC
    // too: the kernel compares it among links that are up.
    int err = net_link_set_alias(net, link->index, "");
    if (err == 0) {
        err = net_link_rename(net, link->index, name);
    }
    // Whatever went wrong: slower, but gone.
    return err == 0 ? 0 : interface_remove(net, link);
}

static int give_borrowed(net_t *net, const net_link_t *link) {
    net_mac_t before;
    bool up;
    int err = 0;
    if (read_before(link, &before, &up)) {
        net_link_t now;
        err = net_link_read(net, link->index, &now);
        if (err == 0 && !net_mac_equal(&now.mac, &before)) {
            err = net_link_set_mac(net, link->index, &before);
        }
        if (err == 0 && now.up != up) {
            err = net_link_set_up(net, link->index, up);
        }
    }
    if (err == 0) {
        err = net_link_set_alias(net, link->index, "");
    }
    return err == ENODEV ? 0 : err;
}

int interface_give(net_t *net, const net_link_t *link) {
    return interface_is_macvlan(link) ? give_macvlan(net, link)
                                      : give_borrowed(net, link);
}
