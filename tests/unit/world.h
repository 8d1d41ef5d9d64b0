// SPDX-License-Identifier: MIT
//
// A small world of network namespaces for tests of what is around interfaces:
//
//     alpha eth1 --- pa |        |
//     beta  eth1 --- pb | public | pc --- eth0 client
//                        (bridge, in the namespace `wire`)
//
// The test process walks between them.  Everything is gone when the process
// ends.

#ifndef FLEET_TESTS_WORLD_H
#define FLEET_TESTS_WORLD_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/agents/agent.h"
#include "node/netlink.h"
#include "proto/text.h"

typedef struct world {
    int wire, alpha, beta, client; // namespaces
    fleet_text_t run;
} world_t;

static inline uint64_t world_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void world_nap(void) {
    struct timespec wait = {.tv_nsec = 5000000};
    (void)nanosleep(&wait, NULL);
}

// Waits for a condition, at most 2 s, and fails without it.
#define WORLD_SOON(condition)                                                  \
    do {                                                                       \
        uint64_t end_ms_ = world_ms() + 2000;                                  \
        bool so_ = (condition);                                                \
        while (!so_ && world_ms() < end_ms_) {                                 \
            world_nap();                                                       \
            so_ = (condition);                                                 \
        }                                                                      \
        assert_true(so_);                                                      \
    } while (0)

static inline void world_sh(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static inline void world_sh(const char *format, ...) {
    char command[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (system(command) != 0) {
        fail_msg("failed: %s", command);
    }
}

// Does the output of a command have this text?
static inline bool world_says(const char *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline bool world_says(const char *text, const char *format, ...) {
    char command[512];
    static char output[65536];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = '\0';
    (void)pclose(pipe);
    return strstr(output, text) != NULL;
}

static inline void world_enter(int ns) {
    assert_int_equal(setns(ns, CLONE_NEWNET), 0);
}

static inline int world_new_ns(void) {
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_true(ns >= 0);
    return ns;
}

// A cable from `host`'s interface to a port of the bridge; more lines for ip(8)
// there.
static inline void world_cable(const world_t *world, int host,
                               const char *interface, const char *port,
                               const char *more) {
    world_enter(host);
    world_sh(
        "ip -batch - <<END\n"
        "link set dev lo up\n"
        "link add %s type veth peer name %s netns /proc/%d/fd/%d\n"
        "link set dev %s up\n"
        "%s\nEND\n",
        interface, port, (int)getpid(), world->wire, interface, more);
}

static inline void world_build(world_t *world) {
    FLEET_COPY(world->run, "/tmp/fleet-test-XXXXXX");
    assert_non_null(mkdtemp(world->run));
    world->alpha = world_new_ns();
    world->beta = world_new_ns();
    world->client = world_new_ns();
    world->wire = world_new_ns();
    world_cable(world, world->alpha, "eth1", "pa", "");
    world_cable(world, world->beta, "eth1", "pb", "");
    world_cable(world, world->client, "eth0", "pc",
                "addr add 198.51.100.9/24 dev eth0\n"
                "addr add fd09::9/64 dev eth0 nodad");
    world_enter(world->wire);
    world_sh(
        "ip -batch - <<END\n"
        "link add public type bridge mcast_snooping 0\n"
        "link set dev public up\n"
        "link set dev pa master public up\n"
        "link set dev pb master public up\n"
        "link set dev pc master public up\nEND\n");
    // The kernel tells the bridge of a carrier some time after it is there.
    WORLD_SOON(!world_says("state disabled", "bridge link show") &&
               !world_says("DOWN", "ip -brief link show master public"));
}

static inline void world_destroy(world_t *world) {
    char lock[sizeof(fleet_text_t) + 32];
    (void)snprintf(lock, sizeof lock, "%s/interfaces.lock", world->run);
    (void)unlink(lock);
    assert_int_equal(rmdir(world->run), 0);
    (void)close(world->alpha);
    (void)close(world->beta);
    (void)close(world->client);
    (void)close(world->wire);
}

// A set "www" with one IPv4 and one IPv6 address.
static inline void world_setdef(fleet_setdef_t *setdef, const char *set) {
    *setdef = (fleet_setdef_t){.resources_n = 1};
    FLEET_COPY(setdef->set, set);
    fleet_resource_t *resource = &setdef->resources[0];
    resource->kind = FLEET_RESOURCE_ADDRESS;
    resource->start_ms = FLEET_START_MS_DEFAULT;
    resource->stop_ms = FLEET_STOP_MS_DEFAULT;
    FLEET_COPY(resource->name, "address");
    fleet_address_t *address = &resource->address;
    address->ips_n = 2;
    FLEET_COPY(address->ips[0], "198.51.100.80/24");
    FLEET_COPY(address->ips[1], "fd09::80/64");
    FLEET_COPY(address->mac, "02:00:c6:33:64:50");
}

static inline agent_ctx_t world_ctx(const world_t *world,
                                    const fleet_setdef_t *setdef,
                                    const char *parent) {
    agent_ctx_t ctx = {
        .setdef = setdef, .resource = &setdef->resources[0], .progress = -1};
    FLEET_COPY(ctx.node, "alpha");
    FLEET_COPY(ctx.run, world->run);
    FLEET_COPY(ctx.parent, parent);
    return ctx;
}

typedef void world_call_t(const agent_ctx_t *ctx, agent_result_t *result);

// Calls an agent in a namespace, and stays there.
static inline agent_result_t world_call(int ns, world_call_t *call,
                                        const agent_ctx_t *ctx) {
    agent_result_t result = {.err = FLEET_OK};
    world_enter(ns);
    call(ctx, &result);
    return result;
}

static inline void world_ok(int ns, world_call_t *call,
                            const agent_ctx_t *ctx) {
    agent_result_t result = world_call(ns, call, ctx);
    if (result.err != FLEET_OK) {
        fail_msg("%s", result.text);
    }
}

static inline socklen_t world_address(const char *ip, uint16_t port,
                                      struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    struct sockaddr_in *four = (struct sockaddr_in *)to;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
    if (inet_pton(AF_INET, ip, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    assert_int_equal(inet_pton(AF_INET6, ip, &six->sin6_addr), 1);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    return sizeof *six;
}

static inline int world_listen(int ns, const char *ip, uint16_t port) {
    struct sockaddr_storage at;
    int yes = 1;
    world_enter(ns);
    socklen_t size = world_address(ip, port, &at);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    // A process that an agent left behind may hold the last one a moment
    // longer.
    WORLD_SOON(bind(fd, (struct sockaddr *)&at, size) == 0);
    assert_int_equal(listen(fd, 512), 0);
    return fd;
}

// -1: no connection within that time.
static inline int world_connect(int ns, const char *ip, uint16_t port,
                                int within_ms) {
    struct sockaddr_storage to;
    world_enter(ns);
    socklen_t size = world_address(ip, port, &to);
    int fd =
        socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, size) == 0) {
        return fd;
    }
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int err = 0;
    socklen_t err_size = sizeof err;
    if (errno == EINPROGRESS && poll(&ready, 1, within_ms) == 1 &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_size) == 0 &&
        err == 0) {
        return fd;
    }
    (void)close(fd);
    return -1;
}

static inline bool world_reaches(int ns, const char *ip, uint16_t port,
                                 int within_ms) {
    int fd = world_connect(ns, ip, port, within_ms);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

// Listens on a port of the bridge for frames that a host sends.
static inline int world_sniff(const world_t *world, const char *port) {
    world_enter(world->wire);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    htons(ETH_P_ALL));
    assert_true(fd >= 0);
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(port)};
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

// Reads what was heard so far; returns how many frames came in with this source
// MAC, or, with type 0 or more, of this type only.
static inline unsigned world_heard(int fd, const char *mac, int type) {
    net_mac_t from;
    unsigned n = 0;
    uint8_t frame[2048];
    struct sockaddr_ll at = {0};
    assert_true(net_mac_parse(mac, &from));
    for (;;) {
        socklen_t size = sizeof at;
        ssize_t got =
            recvfrom(fd, frame, sizeof frame, 0, (struct sockaddr *)&at, &size);
        if (got < 14) {
            return n;
        }
        if (at.sll_pkttype != PACKET_OUTGOING &&
            memcmp(frame + 6, from.bytes, 6) == 0 &&
            (type < 0 || (frame[12] << 8 | frame[13]) == type)) {
            n++;
        }
    }
}

#endif
