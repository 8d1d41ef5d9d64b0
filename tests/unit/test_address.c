// SPDX-License-Identifier: MIT
//
// The address agent on real interfaces: what a switch, a neighbour and a client
// see when an address comes, goes and moves (promise S1; issue: the paper's
// notify_switch and its thirteen-minute trap).

#include "tests/unit/world.h"

#include "node/agents/interface.h"

#define MAC "02:00:c6:33:64:50"
#define IP4 "198.51.100.80"
#define IP6 "fd09::80"
#define PORT 8080

// One world for all: the kernel takes a second to tell a new bridge of its
// ports.
static int build(void **state) {
    static world_t world;
    world_build(&world);
    *state = &world;
    return 0;
}

static int destroy(void **state) {
    world_destroy(*state);
    return 0;
}

// As it was, also after a test that failed.
static int restore(void **state) {
    static const char *const sets[] = {"www", "mail"};
    const world_t *world = *state;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        fleet_setdef_t setdef;
        world_setdef(&setdef, sets[i]);
        agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
        world_ok(world->alpha, agent_address.stop, &ctx);
        world_ok(world->beta, agent_address.stop, &ctx);
    }
    world_enter(world->alpha);
    world_sh(
        "ip addr flush dev eth1 scope global; ip link del eth0 2> /dev/null; "
        "ip link del x 2> /dev/null; true");
    world_enter(world->wire);
    world_sh("ip link set dev pa up");
    world_enter(world->client);
    world_sh("ip neigh flush dev eth0 nud all");
    return 0;
}

static bool learnt(const world_t *world, const char *port) {
    char entry[64];
    (void)snprintf(entry, sizeof entry, MAC " dev %s ", port);
    world_enter(world->wire);
    return world_says(entry, "bridge fdb show br public");
}

// The client cannot help: it has fixed entries and says nothing.  IPv6 is off
// on the second host, so that only what the agent sends can move the switch's
// entry.
static void test_switch_follows_a_silent_move(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    setdef.resources[0].address.ips_n = 1;
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_enter(world->beta);
    world_sh(
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; "
        "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    world_enter(world->client);
    world_sh("ip neigh replace " IP4 " lladdr " MAC " dev eth0 nud permanent");

    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(learnt(world, "pa"));
    world_ok(world->alpha, agent_address.stop, &ctx);
    int sniffer = world_sniff(world, "pb");
    world_ok(world->beta, agent_address.start, &ctx);
    assert_true(learnt(world, "pb"));
    WORLD_SOON(world_heard(sniffer, MAC, ETH_P_RARP) > 0);
    (void)close(sniffer);
    world_ok(world->beta, agent_address.stop, &ctx);
}

static void check_connection_dies(const world_t *world, const char *ip,
                                  const agent_ctx_t *ctx, int listener) {
    world_ok(world->alpha, agent_address.start, ctx);
    int client = world_connect(world->client, ip, PORT, 2000);
    assert_true(client >= 0);
    world_enter(world->alpha);
    int served = accept(listener, NULL, NULL);
    assert_true(served >= 0);
    world_ok(world->alpha, agent_address.stop, ctx);

    char byte;
    struct pollfd ready = {.fd = client, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 1000), 1);
    assert_int_equal(read(client, &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(read(served, &byte, 1), -1);
    assert_int_equal(errno, ECONNABORTED);
    (void)close(client);
    (void)close(served);
}

static void test_connections_are_reset(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    // On a socket of family AF_INET6, as most daemons have it: IPv4 is mapped.
    int any = world_listen(world->alpha, "::", PORT);
    check_connection_dies(world, IP6, &ctx, any);
    check_connection_dies(world, IP4, &ctx, any);
    (void)close(any);
    any = world_listen(world->alpha, "0.0.0.0", PORT);
    check_connection_dies(world, IP4, &ctx, any);
    (void)close(any);
}

static void test_only_its_own_connections_are_reset(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    int any = world_listen(world->alpha, "::", PORT);
    int other = world_connect(world->alpha, "127.0.0.1", PORT, 1000);
    assert_true(other >= 0);
    world_ok(world->alpha, agent_address.start, &ctx);
    world_ok(world->alpha, agent_address.stop, &ctx);
    assert_int_equal(write(other, "x", 1), 1);
    (void)close(other);
    (void)close(any);
}

static void test_no_frame_after_stop(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_ok(world->alpha, agent_address.start, &ctx);
    int sniffer = world_sniff(world, "pa");
    world_enter(world->client);
    world_sh("ping -c 1 -W 0.3 " IP4 " > /dev/null");
    assert_true(world_heard(sniffer, MAC, -1) > 0);
    world_ok(world->alpha, agent_address.stop, &ctx);
    (void)world_heard(sniffer, MAC, -1);

    // The announcements of the start would still go on, and somebody asks.
    world_enter(world->client);
    world_sh("ping -c 5 -i 0.2 -W 0.2 " IP4 " > /dev/null; test $? -eq 1");
    assert_int_equal(world_heard(sniffer, MAC, -1), 0);
    (void)close(sniffer);
}

static void test_neighbours_are_told(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_enter(world->client);
    world_sh("ip neigh replace " IP4
             " lladdr 02:00:00:00:00:99 dev eth0 "
             "nud stale; ip neigh replace " IP6
             " lladdr 02:00:00:00:00:99 dev eth0 nud stale");
    world_ok(world->alpha, agent_address.start, &ctx);
    world_enter(world->client);
    WORLD_SOON(world_says(MAC, "ip neigh show " IP4));
    WORLD_SOON(world_says(MAC, "ip neigh show " IP6));
    world_ok(world->alpha, agent_address.stop, &ctx);
}

// What is prepared is not heard, and what is not needed goes again.
static void test_prepare_is_silent(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    int sniffer = world_sniff(world, "pa");
    world_ok(world->alpha, agent_address.prepare, &ctx);
    world_ok(world->alpha, agent_address.prepare, &ctx);
    assert_true(world_says(MAC, "ip link show fl-www"));
    assert_false(world_says("UP", "ip link show fl-www"));
    agent_result_t result = world_call(world->alpha, agent_address.probe, &ctx);
    assert_int_equal(result.found, NODE_FOUND_PART);
    assert_int_equal(world_heard(sniffer, MAC, -1), 0);
    (void)close(sniffer);
    world_ok(world->alpha, agent_address.unprepare, &ctx);
    result = world_call(world->alpha, agent_address.probe, &ctx);
    assert_int_equal(result.found, NODE_FOUND_NOTHING);

    // Taking back a preparation leaves what runs.
    world_ok(world->alpha, agent_address.start, &ctx);
    world_ok(world->alpha, agent_address.unprepare, &ctx);
    result = world_call(world->alpha, agent_address.probe, &ctx);
    assert_int_equal(result.found, NODE_FOUND_ALL);
    world_ok(world->alpha, agent_address.stop, &ctx);
}

static void test_again_and_again(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    int any = world_listen(world->alpha, "::", PORT);
    for (int i = 0; i < 5; i++) {
        world_ok(world->alpha, agent_address.start, &ctx);
        world_ok(world->alpha, agent_address.start, &ctx);
        assert_true(world_reaches(world->client, IP4, PORT, 1000));
        assert_true(world_reaches(world->client, IP6, PORT, 1000));
        world_ok(world->alpha, agent_address.stop, &ctx);
        world_ok(world->alpha, agent_address.stop, &ctx);
        agent_result_t result =
            world_call(world->alpha, agent_address.probe, &ctx);
        assert_int_equal(result.found, NODE_FOUND_NOTHING);
    }
    (void)close(any);
    // What the kernel was slow to remove is gone in the end, rules and all.
    WORLD_SOON(!world_says("fl", "ip link"));
    assert_false(world_says("proto 241", "ip rule; ip -6 rule"));
    assert_false(world_says(IP4, "ip route show table all"));
}

static void test_silence_and_speak(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    int any = world_listen(world->alpha, "::", PORT);
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(world_reaches(world->client, IP6, PORT, 1000));
    world_ok(world->alpha, agent_address.silence, &ctx);
    agent_result_t result = world_call(world->alpha, agent_address.probe, &ctx);
    assert_int_equal(result.found, NODE_FOUND_PART);
    int sniffer = world_sniff(world, "pa");
    assert_false(world_reaches(world->client, IP4, PORT, 100));
    assert_false(world_reaches(world->client, IP6, PORT, 100));
    assert_int_equal(world_heard(sniffer, MAC, -1), 0);
    world_ok(world->alpha, agent_address.speak, &ctx);
    WORLD_SOON(world_heard(sniffer, MAC, ETH_P_RARP) > 0);
    assert_true(world_reaches(world->client, IP4, PORT, 2000));
    assert_true(world_reaches(world->client, IP6, PORT, 2000));
    result = world_call(world->alpha, agent_address.probe, &ctx);
    assert_int_equal(result.found, NODE_FOUND_ALL);
    world_ok(world->alpha, agent_address.stop, &ctx);
    (void)close(sniffer);
    (void)close(any);
}

static void test_borrowed_interface_goes_back(void **state) {
    world_t *world = *state;
    fleet_setdef_t www, mail;
    world_setdef(&www, "www");
    world_setdef(&mail, "mail");
    agent_ctx_t ctx = world_ctx(world, &www, "");
    ctx.interfaces_n = 1;
    FLEET_COPY(ctx.interfaces[0], "eth1");
    world_enter(world->alpha);
    world_sh("ip link set eth1 address 02:00:00:00:00:07");
    int any = world_listen(world->alpha, "::", PORT);

    world_ok(world->alpha, agent_address.prepare, &ctx);
    assert_true(world_says("02:00:00:00:00:07", "ip link show eth1"));
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(world_says(MAC, "ip link show eth1"));
    assert_true(world_reaches(world->client, IP4, PORT, 1000));
    assert_true(world_reaches(world->client, IP6, PORT, 1000));

    agent_ctx_t other = ctx;
    other.setdef = &mail;
    other.resource = &mail.resources[0];
    agent_result_t result =
        world_call(world->alpha, agent_address.start, &other);
    assert_int_equal(result.err, FLEET_NO_SLOT);
    assert_non_null(strstr(result.text, "eth1 has www"));

    int sniffer = world_sniff(world, "pa");
    world_ok(world->alpha, agent_address.stop, &ctx);
    (void)world_heard(sniffer, MAC, -1);
    assert_true(world_says("02:00:00:00:00:07", "ip link show eth1"));
    assert_true(world_says(",UP", "ip link show eth1"));
    assert_false(world_says("alias", "ip link show eth1"));
    assert_false(world_says(IP4, "ip addr; ip route show table all"));
    assert_false(world_reaches(world->client, IP4, PORT, 100));
    assert_int_equal(world_heard(sniffer, MAC, -1), 0);
    (void)close(sniffer);

    world_ok(world->alpha, agent_address.start, &other);
    world_ok(world->alpha, agent_address.stop, &other);
    (void)close(any);
}

static void test_the_interface_with_a_carrier(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "");
    ctx.interfaces_n = 2;
    FLEET_COPY(ctx.interfaces[0], "eth0");
    FLEET_COPY(ctx.interfaces[1], "eth1");
    // Its other end is down.
    world_cable(world, world->alpha, "eth0", "pp", "");
    world_ok(world->alpha, agent_address.prepare, &ctx);
    assert_true(world_says("fleet:www", "ip link show eth1"));
    world_ok(world->alpha, agent_address.unprepare, &ctx);
    assert_false(world_says("fleet:www", "ip link"));
    assert_true(world_says(",UP", "ip link show eth1"));
}

static void test_private_interface_is_less_preferred(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    FLEET_COPY(ctx.private_interface, "eth0");
    world_cable(world, world->alpha, "eth0", "pp",
                "addr add 198.51.100.1/24 dev eth0\n"
                "addr add fd09::1/64 dev eth0 nodad");
    world_enter(world->wire);
    world_sh("ip link set dev pp master public up");
    world_enter(world->alpha);
    assert_true(world_says("dev eth0", "ip route get 198.51.100.9"));
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(world_says("dev fl-www", "ip route get 198.51.100.9"));
    assert_true(world_says("dev fl-www", "ip route get fd09::9"));
    assert_true(world_says("metric 1024", "ip route show dev eth0"));
    assert_true(world_says("metric 1280", "ip -6 route show dev eth0"));
    world_ok(world->alpha, agent_address.stop, &ctx);
    assert_true(world_says("dev eth0", "ip route get 198.51.100.9"));
    assert_true(world_says("dev eth0", "ip route get fd09::9"));
}

static void test_answers_leave_by_its_gateway(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    FLEET_COPY(setdef.resources[0].address.gateway, "198.51.100.9");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(world_says("via 198.51.100.9 dev fl-www",
                           "ip route get 203.0.113.5 from " IP4));
    // The node's own traffic has no use for it.
    assert_false(world_says("fl-www", "ip route get 203.0.113.5 2>&1"));
    world_ok(world->alpha, agent_address.stop, &ctx);
}

static void test_parent_does_not_answer(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    setdef.resources[0].address.ips_n = 1;
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_enter(world->alpha);
    world_sh(
        "ip link set eth1 address 02:00:00:00:00:07 && "
        "ip addr add 198.51.100.2/24 dev eth1");
    world_ok(world->alpha, agent_address.start, &ctx);
    int sniffer = world_sniff(world, "pa");
    world_enter(world->client);
    world_sh("ping -c 1 -W 0.3 " IP4 " > /dev/null");
    assert_int_equal(world_heard(sniffer, "02:00:00:00:00:07", ETH_P_ARP), 0);
    (void)close(sniffer);
    world_ok(world->alpha, agent_address.stop, &ctx);
}

static void test_failures_say_why(void **state) {
    world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth9");
    agent_result_t result =
        world_call(world->alpha, agent_address.prepare, &ctx);
    assert_int_equal(result.err, FLEET_NO_SLOT);
    assert_string_equal(result.text, "eth9: no such interface");
    result = world_call(world->alpha, agent_address.look, &ctx);
    assert_int_equal(result.problems_n, 1);
    assert_string_equal(result.problems[0].code, "no-slot");

    FLEET_COPY(ctx.parent, "eth1");
    result = world_call(world->alpha, agent_address.look, &ctx);
    assert_int_equal(result.err, FLEET_OK);
    assert_int_equal(result.problems_n, 0);
    world_sh("ip link add x type bridge && ip addr add " IP4 "/32 dev x");
    result = world_call(world->alpha, agent_address.look, &ctx);
    assert_int_equal(result.problems_n, 1);
    assert_string_equal(result.problems[0].text, IP4 " is on x already");
    world_sh("ip link del x");

    setdef.resources[0].start_ms = 200;
    world_enter(world->wire);
    world_sh("ip link set dev pa down");
    result = world_call(world->alpha, agent_address.look, &ctx);
    assert_int_equal(result.problems_n, 1);
    assert_string_equal(result.problems[0].text, "eth1 has no carrier");
    result = world_call(world->alpha, agent_address.start, &ctx);
    assert_int_equal(result.err, FLEET_START_FAILED);
    assert_string_equal(result.text, "eth1 has no carrier");
}

static void test_names_do_not_collide(void **state) {
    (void)state;
    fleet_name_t a, b, c;
    interface_name("www", a);
    assert_string_equal(a, "fl-www");
    interface_name("twelve-chars", a);
    assert_string_equal(a, "fl-twelve-chars");
    interface_name("thirteen-char", a);
    interface_name("thirteen-chas", b);
    interface_name("thirteen-char-and-many-more-3210", c);
    assert_string_not_equal(a, b);
    assert_string_not_equal(a, c);
    assert_int_equal(strlen(a), NET_NAME_MAX);
    assert_int_equal(strlen(c), NET_NAME_MAX);
    assert_memory_equal(a, "fl-thirt_", 9);
}

#define WORLD_TEST(f) cmocka_unit_test_teardown(f, restore)

int main(void) {
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_switch_follows_a_silent_move),
        WORLD_TEST(test_connections_are_reset),
        WORLD_TEST(test_only_its_own_connections_are_reset),
        WORLD_TEST(test_no_frame_after_stop),
        WORLD_TEST(test_neighbours_are_told),
        WORLD_TEST(test_prepare_is_silent),
        WORLD_TEST(test_again_and_again),
        WORLD_TEST(test_silence_and_speak),
        WORLD_TEST(test_borrowed_interface_goes_back),
        WORLD_TEST(test_the_interface_with_a_carrier),
        WORLD_TEST(test_private_interface_is_less_preferred),
        WORLD_TEST(test_answers_leave_by_its_gateway),
        WORLD_TEST(test_parent_does_not_answer),
        WORLD_TEST(test_failures_say_why),
        cmocka_unit_test(test_names_do_not_collide),
    };
    const struct CMUnitTest without_root[] = {
        cmocka_unit_test(test_names_do_not_collide),
    };
    if (geteuid() != 0) {
        print_message("test_address: skipped, it needs root\n");
        return cmocka_run_group_tests(without_root, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, build, destroy);
}
