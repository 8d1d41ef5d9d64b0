// SPDX-License-Identifier: MIT
//
// Carriers of sets' interfaces, as the node's loop is told of them.

#include "tests/unit/world.h"

#include "node/carrier.h"

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

static bool next(carrier_t *carrier, carrier_event_t *ret_event) {
    uint64_t end_ms = world_ms() + 2000;
    while (world_ms() < end_ms) {
        struct pollfd ready = {.fd = carrier_fd(carrier), .events = POLLIN};
        if (carrier_next(carrier, ret_event)) {
            return true;
        }
        (void)poll(&ready, 1, 100);
    }
    return false;
}

static void expect(carrier_t *carrier, const char *set, const char *interface,
                   bool up) {
    carrier_event_t event = {0};
    assert_true(next(carrier, &event));
    assert_string_equal(event.set, set);
    assert_string_equal(event.interface, interface);
    assert_int_equal(event.up, up);
}

static void test_a_cable_is_pulled(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    carrier_event_t event = {0};
    world_enter(world->alpha);
    carrier_t *carrier = carrier_new();
    assert_non_null(carrier);
    assert_false(carrier_next(carrier, &event)); // eth1 belongs to no set

    world_ok(world->alpha, agent_address.prepare, &ctx);
    assert_false(carrier_next(carrier, &event)); // it has no carrier to lose
    world_ok(world->alpha, agent_address.start, &ctx);
    expect(carrier, "www", "fl-www", true);
    assert_false(carrier_next(carrier, &event)); // no change is no event

    world_enter(world->wire);
    world_sh("ip link set dev pa down");
    world_enter(world->alpha);
    expect(carrier, "www", "fl-www", false);
    world_enter(world->wire);
    world_sh("ip link set dev pa up");
    world_enter(world->alpha);
    expect(carrier, "www", "fl-www", true);

    // A restarted agent hears the present state first.
    carrier_t *again = carrier_new();
    assert_non_null(again);
    expect(again, "www", "fl-www", true);
    assert_false(carrier_next(again, &event));
    carrier_destroy(&again);
    assert_null(again);

    world_ok(world->alpha, agent_address.stop, &ctx);
    expect(carrier, "www", "fl-www", false);
    assert_false(carrier_next(carrier, &event));
    carrier_destroy(&carrier);
    carrier_destroy(&carrier);
}

static void test_messages_are_lost(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "www");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    carrier_event_t event = {0};
    world_enter(world->alpha);
    carrier_t *carrier = carrier_new();
    assert_non_null(carrier);
    assert_false(carrier_next(carrier, &event));
    int small = 1;
    assert_int_equal(setsockopt(carrier_fd(carrier), SOL_SOCKET, SO_RCVBUF,
                                &small, sizeof small),
                     0);
    world_ok(world->alpha, agent_address.start, &ctx);
    net_t *net = net_open();
    net_link_t link;
    assert_int_equal(net_link_find(net, "eth1", &link), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(
            net_link_set_alias(net, link.index, i % 2 == 0 ? "x" : "y"), 0);
    }
    net_close(&net);
    expect(carrier, "www", "fl-www", true);
    world_ok(world->alpha, agent_address.stop, &ctx);
    carrier_destroy(&carrier);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cable_is_pulled),
        cmocka_unit_test(test_messages_are_lost),
    };
    if (geteuid() != 0) {
        print_message("test_carrier: skipped, it needs root\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, build, destroy);
}
