// SPDX-License-Identifier: MIT
//
// A set with `without_lease: silence`: its address goes silent when its lease
// runs out although nobody is awake (rule P4, promise L2).

#include "tests/unit/world.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MAC "02:00:c6:33:64:50"
#define IP4 "198.51.100.80"
#define IP6 "fd09::80"
#define PORT 8080
#define LEASE_MS 400

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
    const world_t *world = *state;
    fleet_setdef_t setdef;
    world_setdef(&setdef, "mail");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_ok(world->alpha, agent_address.stop, &ctx);
    world_setdef(&setdef, "www");
    world_ok(world->alpha, agent_address.stop, &ctx);
    world_sh("nft flush ruleset");
    return 0;
}

static void leased_setdef(fleet_setdef_t *setdef) {
    world_setdef(setdef, "www");
    setdef->facts.without_lease = fleet_without_lease_SILENCE;
}

static bool answers_arp(const world_t *world) {
    world_enter(world->client);
    return system(
               "ip neigh flush dev eth0 nud all; "
               "ping -c 1 -W 0.1 " IP4 " > /dev/null") == 0;
}

static void check_silent(const world_t *world) {
    int sniffer = world_sniff(world, "pa");
    assert_false(answers_arp(world));
    assert_false(world_reaches(world->client, IP4, PORT, 50));
    assert_false(world_reaches(world->client, IP6, PORT, 50));
    assert_int_equal(world_heard(sniffer, MAC, -1), 0);
    (void)close(sniffer);
}

static void check_speaks(const world_t *world) {
    WORLD_SOON(answers_arp(world));
    assert_true(world_reaches(world->client, IP4, PORT, 1000));
    assert_true(world_reaches(world->client, IP6, PORT, 1000));
}

// The process that would renew it, as an agent does.
static pid_t start_renewing(const world_t *world, const agent_ctx_t *ctx) {
    pid_t renewer = fork();
    assert_true(renewer >= 0);
    if (renewer == 0) {
        // Also when the test fails.
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (setns(world->alpha, CLONE_NEWNET) != 0) {
            _exit(1);
        }
        for (;;) {
            struct timespec wait = {.tv_nsec = 50000000};
            agent_result_t result = {.err = FLEET_OK};
            agent_address.renew(ctx, &result);
            if (result.err != FLEET_OK) {
                _exit(1);
            }
            (void)nanosleep(&wait, NULL);
        }
    }
    return renewer;
}

static void test_stopped_agent(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef;
    leased_setdef(&setdef);
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    ctx.lease_ms = LEASE_MS;
    int any = world_listen(world->alpha, "::", PORT);
    world_ok(world->alpha, agent_address.start, &ctx);
    pid_t renewer = start_renewing(world, &ctx);

    // Twice as long as the lease it answers, for it is renewed.
    uint64_t end_ms = world_ms() + 2UL * LEASE_MS;
    check_speaks(world);
    while (world_ms() < end_ms) {
        assert_true(world_reaches(world->client, IP4, PORT, 200));
        world_nap();
    }

    assert_int_equal(kill(renewer, SIGSTOP), 0);
    uint64_t stopped_ms = world_ms();
    while (world_reaches(world->client, IP4, PORT, 20)) {
        assert_true(world_ms() < stopped_ms + LEASE_MS + 100);
        world_nap();
    }
    check_silent(world);

    assert_int_equal(kill(renewer, SIGCONT), 0);
    check_speaks(world);
    assert_int_equal(kill(renewer, SIGKILL), 0);
    assert_int_equal(waitpid(renewer, NULL, 0), renewer);
    world_ok(world->alpha, agent_address.stop, &ctx);
    (void)close(any);
}

static void test_start_without_a_renewal(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef;
    leased_setdef(&setdef);
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    ctx.lease_ms = 300;
    int any = world_listen(world->alpha, "::", PORT);
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(world_reaches(world->client, IP4, PORT, 200));
    // A connection that is open hears nothing more either.
    int client = world_connect(world->client, IP6, PORT, 200);
    assert_true(client >= 0);
    WORLD_SOON(!world_reaches(world->client, IP4, PORT, 20));
    check_silent(world);
    assert_int_equal(write(client, "x", 1), 1);
    check_silent(world);
    (void)close(client);
    world_ok(world->alpha, agent_address.stop, &ctx);
    (void)close(any);
}

// The node itself goes on, and so do other sets.
static void test_only_that_set_is_silent(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef, mail;
    leased_setdef(&setdef);
    world_setdef(&mail, "mail");
    FLEET_COPY(mail.resources[0].address.ips[0], "198.51.100.81/24");
    FLEET_COPY(mail.resources[0].address.ips[1], "fd09::81/64");
    FLEET_COPY(mail.resources[0].address.mac, "02:00:c6:33:64:51");
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    agent_ctx_t other = world_ctx(world, &mail, "eth1");
    ctx.lease_ms = 1;
    int any = world_listen(world->alpha, "::", PORT);
    world_ok(world->alpha, agent_address.start, &other);
    world_ok(world->alpha, agent_address.start, &ctx);
    check_silent(world);
    assert_true(world_reaches(world->client, "198.51.100.81", PORT, 1000));
    assert_true(world_reaches(world->client, "fd09::81", PORT, 1000));
    assert_true(world_reaches(world->alpha, IP4, PORT, 200)); // over lo
    world_ok(world->alpha, agent_address.stop, &ctx);
    world_ok(world->alpha, agent_address.stop, &other);
    (void)close(any);
}

static void test_renewal_repairs_a_flushed_rule_set(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef;
    leased_setdef(&setdef);
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    int any = world_listen(world->alpha, "::", PORT);
    world_ok(world->alpha, agent_address.start, &ctx);
    check_speaks(world);
    world_enter(world->alpha);
    world_sh("nft flush ruleset");
    ctx.lease_ms = 1;
    world_ok(world->alpha, agent_address.renew, &ctx);
    check_silent(world);
    world_ok(world->alpha, agent_address.stop, &ctx);
    (void)close(any);
}

static void test_nothing_is_left(void **state) {
    const world_t *world = *state;
    fleet_setdef_t setdef;
    leased_setdef(&setdef);
    agent_ctx_t ctx = world_ctx(world, &setdef, "eth1");
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_true(world_says("fl-www", "nft list ruleset"));
    world_ok(world->alpha, agent_address.stop, &ctx);
    assert_false(world_says("fl-www", "nft list ruleset"));
    assert_false(world_says("elements", "nft list ruleset"));
    world_ok(world->alpha, agent_address.stop, &ctx);

    // A set that needs no lease comes with no rule.
    world_sh("nft flush ruleset");
    setdef.facts.without_lease = fleet_without_lease_KEEP;
    world_ok(world->alpha, agent_address.start, &ctx);
    assert_false(world_says("fleet", "nft list ruleset"));
    world_ok(world->alpha, agent_address.stop, &ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_stopped_agent, restore),
        cmocka_unit_test_teardown(test_start_without_a_renewal, restore),
        cmocka_unit_test_teardown(test_only_that_set_is_silent, restore),
        cmocka_unit_test_teardown(test_renewal_repairs_a_flushed_rule_set,
                                  restore),
        cmocka_unit_test_teardown(test_nothing_is_left, restore),
    };
    if (geteuid() != 0) {
        print_message("test_silence: skipped, it needs root\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, build, destroy);
}
