// SPDX-License-Identifier: MIT
//
// Stories of owners that fall silent: leases, evidence, debts, the fence,
// unlock.

#include "tests/unit/broker_story.h"

// node1, which owns www, is heard no more; the others are.
static void silence_node1(story_t *story) {
    for (int i = 0; i < 6; i++) {
        story_beat(story, 2, NULL, 0);
        story_beat(story, 3, NULL, 0);
        story_wait(story, 2000);
    }
    story_beat(story, 2, NULL, 0);
    story_beat(story, 3, NULL, 0);
    fleet_node_row_t row;
    assert_true(broker_core_node_row(story->core, 0, &row));
    assert_int_equal(row.state, fleet_node_state_SILENT);
    story_forget(story);
}

static void ask_force(story_t *story, const char *node) {
    fleet_request_t *request = story_ask(story, fleet_verb_MOVE, "www", node);
    request->force = true;
    story_op(story);
}

static void ask_attested(story_t *story, const char *node, const char *down) {
    fleet_request_t *request = story_ask(story, fleet_verb_MOVE, "www", node);
    FLEET_COPY(request->owner_is_down, down);
    FLEET_COPY(request->reason, "I pulled the plug");
    story_op(story);
}

static void test_lapse(void **state) {
    (void)state;
    story_t *story = story_new_www();
    for (int i = 0; i < 6; i++) {
        story_beat(story, 2, NULL, 0);
        story_beat(story, 3, NULL, 0);
        story_forget(story);
        story_wait(story, i < 5 ? 2000 : 1999);
        story_expect(story, "");
    }
    story_wait(story, 1);
    story_expect(story, "+ node.lapsed - node1 0\n");
    fleet_set_row_t row;
    assert_true(story_set_row(story, "www", &row));
    assert_int_equal(row.state, fleet_set_state_UNKNOWN);
    assert_true(story_problem(story, "owner-silent"));
    assert_true(story_problem(story, "node-silent"));
    // P5: never renewed, but told to say hello.
    story_beat(story, 1, "www", 1);
    story_expect(story, "< say_hello\n");
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n");
    story_beat(story, 1, "www", 1);
    story_expect(story, "> node1 confirmed www/1\n");
    story_end(story);
}

static void test_plain_move_of_a_silent_owner(void **state) {
    (void)state;
    story_t *story = story_new_www();
    silence_node1(story);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node2");
    story_op(story);
    story_expect(story, "< refused owner-silent\n");
    assert_string_equal(story->reasons[0].hint, "fleet move www node2 --force");
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_expect(story, "< refused owner-silent\n");
    story_end(story);
}

static void test_force_on_a_live_owner(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_beat(story, 1, "www", 1);
    story_forget(story);
    ask_force(story, "node2");
    story_expect(story, "< refused owner-online\n");
    ask_attested(story, "node2", "node1");
    story_expect(story, "< refused not-down\n");
    ask_attested(story, "node2", "node3");
    story_expect(story, "< refused not-owner not-down\n");
    story_beat(story, 2, NULL, 0);
    story_wait(story, 5001);
    story_forget(story);
    ask_force(story, "node2");
    story_expect(story, "< refused lease-valid\n");
    assert_true(story->reasons[0].retry);
    story_end(story);
}

// P1, P5: stamped first, then the evidence, and a debt.
static void test_preempted(void **state) {
    (void)state;
    story_t *story = story_new_www();
    silence_node1(story);
    ask_force(story, "node2");
    story_expect(story,
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n");
    story_evicted(story, 2, "www", 2, true, true);
    story_acquired(story, 2, "www", 2);
    story_expect(story,
                 "+ set.released www node1 1 preempted\n"
                 "+ set.granted www node2 2 preempted\n"
                 "> node2 acquire www 2\n"
                 "+ set.acquired www node2 2\n"
                 "+ transfer.ended www node2 2 moved\n");
    assert_true(story_problem(story, "debt"));
    // The stale owner comes back: told to drop it, not eligible, then paid.
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "+ node.stale-refused www node1 2\n"
                 "> node1 release www 1 silence\n");
    story_beat(story, 1, "www", 1);
    story_expect(story, "> node1 confirmed\n");
    (void)story_ask(story, fleet_verb_MOVE, "www", "node1");
    story_op(story);
    story_expect(story, "< refused debt\n");
    story_wait(story, 2000);
    story_expect(story, "> node1 release www 1 silence\n");
    story_closed(story, 1, "www", 1, "release");
    story_expect(story, "+ node.debt-paid www node1 1\n");
    assert_false(story_problem(story, "debt"));
    story_end(story);
}

// P10: an answer counts only with the token; ordered again after a restart.
static void test_evict_across_a_restart(void **state) {
    (void)state;
    story_t *story = story_new_www();
    silence_node1(story);
    ask_force(story, "node2");
    story_restart(story);
    (void)story_hello(story, 2, "boot1");
    story_forget(story);
    story_say(story, 2);
    story_expect(story,
                 "> node2 hello_ok\n"
                 "> node2 evict www 2 victim node1/1\n");
    story_evicted(story, 2, "www", 1, true, true);
    story_expect(story, "");
    story_evicted(story, 2, "www", 2, true, true);
    story_expect(story,
                 "+ set.released www node1 1 preempted\n"
                 "+ set.granted www node2 2 preempted\n"
                 "> node2 acquire www 2\n");
    story_end(story);
}

static void test_cannot_evict(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_port(story, 2, "www", true, false);
    silence_node1(story);
    uint32_t events = story->journal_n;
    ask_force(story, "node2");
    story_expect(story, "< refused no-evidence cannot-evict\n");
    assert_non_null(strstr(story->reasons[0].hint, "--owner-is-down node1"));
    assert_int_equal(events, story->journal_n);
    story_end(story);
}

static void test_stamp_fails(void **state) {
    (void)state;
    story_t *story = story_new_www();
    silence_node1(story);
    ask_force(story, "node2");
    story_forget(story);
    story_evicted(story, 2, "www", 2, true, false); // stamped, not blocked
    story_expect(story,
                 "+ set.stuck www node1 2 cannot-evict\n"
                 "+ transfer.ended www node1 2 stuck\n");
    // The victim's pair is confirmed no more; what it closes parks the set.
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    story_forget(story);
    story_beat(story, 1, "www", 1);
    story_expect(story, "> node1 confirmed\n");
    story_closed(story, 1, "www", 1, "drop");
    story_expect(story,
                 "+ set.unstuck www node1 1\n"
                 "+ set.released www node1 1 released by-itself\n");
    // L1
    (void)story_ask(story, fleet_verb_START, "www", "node2");
    story_op(story);
    story_prepared(story, 2, "www");
    story_acquired(story, 2, "www", 3);
    assert_int_equal(story->outcome, fleet_outcome_MOVED);
    story_end(story);
}

static void test_attested(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_port(story, 2, "www", true, false);
    silence_node1(story);
    fleet_request_t *request =
        story_ask(story, fleet_verb_MOVE, "www", "node2");
    FLEET_COPY(request->owner_is_down, "node1");
    story_op(story);
    story_expect(story, "< refused bad-argument\n"); // no reason given
    ask_attested(story, "node2", "node1");
    story_evicted(story, 2, "www", 2, true, false);
    story_expect(story,
                 "+ node.down - node1 0 attested\n"
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n"
                 "+ set.released www node1 1 attested\n"
                 "+ set.granted www node2 2 attested\n"
                 "> node2 acquire www 2\n");
    story_end(story);
}

// The word holds until the node is heard again.
static void test_attested_and_heard(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_port(story, 2, "www", true, false);
    silence_node1(story);
    ask_attested(story, "node2", "node1");
    story_forget(story);
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "> node1 release www 1 silence\n");
    story_beat(story, 1, "www", 1);
    story_expect(story, "> node1 confirmed\n"); // P1: from the commit on
    story_evicted(story, 2, "www", 2, true, false);
    story_expect(story,
                 "+ set.stuck www node1 2 cannot-evict\n"
                 "+ transfer.ended www node1 2 stuck\n");
    story_end(story);
}

static void test_victim_lets_go(void **state) {
    (void)state;
    story_t *story = story_new_www();
    silence_node1(story);
    ask_force(story, "node2");
    (void)story_hello(story, 1, "boot1");
    story_say(story, 1);
    story_forget(story);
    story_closed(story, 1, "www", 1, "release");
    story_expect(story,
                 "+ set.released www node1 1 released\n"
                 "+ set.granted www node2 2 released\n"
                 "> node2 acquire www 2\n");
    assert_false(story_problem(story, "debt"));
    story_evicted(story, 2, "www", 2, true, true); // late
    story_expect(story, "");
    story_end(story);
}

// P3: a lapse counts with an armed watchdog only.
static void test_lapsed_with_watchdog(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    hello->watchdog_ms = 1500;
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    story_port(story, 2, "www", true, false);
    silence_node1(story);
    ask_force(story, "node2");
    story_evicted(story, 2, "www", 2, true, false);
    story_expect(story,
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n"
                 "+ set.released www node1 1 lapsed\n"
                 "+ set.granted www node2 2 lapsed\n"
                 "> node2 acquire www 2\n");
    story_end(story);
}

static void test_watchdog_longer_than_the_margin(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    hello->watchdog_ms = 10000;
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    story_port(story, 2, "www", true, false);
    silence_node1(story);
    ask_force(story, "node2");
    story_expect(story, "< refused no-evidence cannot-evict\n");
    for (int i = 0; i < 5; i++) {
        story_beat(story, 2, NULL, 0);
        story_wait(story, 2000);
    }
    story_forget(story);
    ask_force(story, "node2");
    story_expect(story,
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n");
    story_end(story);
}

// Without a disk group there is nothing to stamp: one step.
static void test_forced_without_a_disk(void **state) {
    (void)state;
    story_t *story = story_new();
    story_define(story, "web", false, "192.0.2.90/24");
    story_port(story, 1, "web", true, false);
    story_port(story, 2, "web", true, false);
    (void)story_ask(story, fleet_verb_START, "web", "node1");
    story_op(story);
    story_prepared(story, 1, "web");
    story_acquired(story, 1, "web", 1);
    silence_node1(story);
    fleet_request_t *request =
        story_ask(story, fleet_verb_MOVE, "web", "node2");
    request->force = true;
    story_op(story);
    story_expect(story, "< refused no-evidence\n");
    request = story_ask(story, fleet_verb_MOVE, "web", "node2");
    FLEET_COPY(request->owner_is_down, "node1");
    FLEET_COPY(request->reason, "it is off");
    story_op(story);
    story_expect(story,
                 "+ node.down - node1 0 attested\n"
                 "+ transfer.requested web node2 2 forced\n"
                 "< accepted\n"
                 "+ set.released web node1 1 attested\n"
                 "+ set.granted web node2 2 attested\n"
                 "> node2 acquire web 2\n");
    story_end(story);
}

// P18: a transfer that waits for a silent node gives way to --force.
static void test_force_ends_what_waits(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    ask_force(story, "node2");
    assert_string_equal(story->reasons[0].code, "busy");
    for (int i = 0; i < 6; i++) {
        story_beat(story, 2, NULL, 0);
        story_beat(story, 3, NULL, 0);
        story_wait(story, 2000);
    }
    story_forget(story);
    ask_force(story, "node2");
    story_expect(story,
                 "+ set.stuck www node1 1 owner-silent\n"
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www node1 1 stuck\n"
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n");
    story_end(story);
}

// It is refused without having touched the transfer that runs.
static void test_force_that_is_refused_ends_nothing(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_port(story, 2, "www", true, false);
    for (int i = 0; i < 6; i++) {
        story_beat(story, 2, NULL, 0);
        story_beat(story, 3, NULL, 0);
        story_wait(story, 2000);
    }
    story_forget(story);
    ask_force(story, "node2");
    story_expect(story, "< refused no-evidence cannot-evict\n");
    story_end(story);
}

static void test_unlock(void **state) {
    (void)state;
    story_t *story = story_new_www();
    silence_node1(story);
    fleet_request_t *request = story_ask(story, fleet_verb_UNLOCK, "www", "");
    request->force = true;
    story_op(story);
    story_evicted(story, 2, "www", 2, true, true);
    story_expect(story,
                 "+ transfer.requested www - 2 unlock\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n"
                 "+ set.released www node1 1 preempted\n"
                 "+ transfer.ended www - 2 parked\n");
    (void)story_ask(story, fleet_verb_UNLOCK, "www", "");
    story_op(story);
    story_expect(story, "< transfer t0 parked  2\n");
    story_end(story);
}

// A lock that still names a node, of a set that the journal says is parked.
static void test_unlock_of_a_parked_set(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_closed(story, 1, "www", 1, "release");
    fleet_port_t *port = &story_message(story, FLEET_MESSAGE_port)->port;
    port->session = story->sessions[1];
    FLEET_COPY(port->set, "www");
    port->visible = true;
    FLEET_COPY(port->lock_owner, "node1");
    port->lock_token = 1;
    story_say(story, 2);
    story_forget(story);
    (void)story_ask(story, fleet_verb_UNLOCK, "www", "");
    story_op(story);
    story_evicted(story, 3, "www", 2, true, false);
    story_expect(story,
                 "+ transfer.requested www - 2 unlock\n"
                 "< accepted\n"
                 "> node3 evict www 2 victim node1/1\n"
                 "+ set.released www node1 1 released\n"
                 "+ transfer.ended www - 2 parked\n");
    story_end(story);
}

static void fenced(story_t *story, bool ok) {
    broker_input_t input = {.kind = BROKER_IN_FENCED,
                            .time_us = story->time_us,
                            .name = "node1",
                            .ok = ok,
                            .text = "power is off"};
    story_step(story, &input);
}

static void test_fence(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_port(story, 2, "www", true, false);
    (void)story_ask(story, fleet_verb_FENCE, "", "node1");
    story_op(story);
    story_expect(story, "< refused no-fence\n");
    broker_input_t fenceable = {.kind = BROKER_IN_FENCEABLE, .name = "node1"};
    story_step(story, &fenceable);
    silence_node1(story);
    ask_force(story, "node2");
    assert_string_equal(story->reasons[0].hint,
                        "fleet fence node1 --reason TEXT");
    story_forget(story);
    fleet_request_t *request = story_ask(story, fleet_verb_FENCE, "", "node1");
    FLEET_COPY(request->request, "f1");
    FLEET_COPY(request->reason, "smoke");
    story_op(story);
    story_expect(story,
                 "+ node.fence-requested - node1 0\n"
                 "* fence node1\n");
    (void)story_ask(story, fleet_verb_FENCE, "", "node1");
    story_op(story);
    story_expect(story, "< refused busy\n");
    fenced(story, true);
    story_expect(story,
                 "+ node.down - node1 0 fenced\n"
                 "< done changed\n");
    // The same request does it once.
    request = story_ask(story, fleet_verb_FENCE, "", "node1");
    FLEET_COPY(request->request, "f1");
    story_op(story);
    story_expect(story, "< done changed\n");
    ask_force(story, "node2");
    story_evicted(story, 2, "www", 2, true, false);
    story_expect(story,
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n"
                 "+ set.released www node1 1 fenced\n"
                 "+ set.granted www node2 2 fenced\n"
                 "> node2 acquire www 2\n");
    story_end(story);
}

static void test_fence_fails(void **state) {
    (void)state;
    story_t *story = story_new_www();
    broker_input_t fenceable = {.kind = BROKER_IN_FENCEABLE, .name = "node1"};
    story_step(story, &fenceable);
    fleet_request_t *request = story_ask(story, fleet_verb_FENCE, "", "node1");
    FLEET_COPY(request->request, "f1");
    story_op(story);
    story_forget(story);
    fenced(story, false);
    story_expect(story,
                 "+ node.fence-failed - node1 0\n"
                 "< refused fence-failed\n");
    // How it ended is not known after a restart.
    story_op(story);
    story_restart(story);
    assert_non_null(strstr(story->trace, "node.fence-failed"));
    story_end(story);
}

// The cut was real, but the node is up again before its command has ended: that
// it was down is no evidence any more (P1).
static void test_fence_of_a_node_that_is_back(void **state) {
    (void)state;
    story_t *story = story_new_www();
    broker_input_t fenceable = {.kind = BROKER_IN_FENCEABLE, .name = "node1"};
    story_step(story, &fenceable);
    fleet_request_t *request = story_ask(story, fleet_verb_FENCE, "", "node1");
    FLEET_COPY(request->request, "f1");
    story_op(story);
    (void)story_hello(story, 1, "another-boot");
    story_say(story, 1);
    story_forget(story);
    fenced(story, true);
    story_expect(story,
                 "+ node.fence-failed - node1 0\n"
                 "< refused fence-failed\n");
    story_end(story);
}

// A stuck set is displaced from a node that is online.
static void test_forced_off_a_stuck_holder(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_release_failed(story, 1, "www", 1);
    story_forget(story);
    ask_force(story, "node2");
    story_expect(story,
                 "+ transfer.requested www node2 2 forced\n"
                 "< accepted\n"
                 "> node2 evict www 2 victim node1/1\n"
                 "> node1 release www 1 silence\n");
    story_evicted(story, 2, "www", 2, true, true);
    // P5: what it says in this session does not pay the debt.
    story_expect(story,
                 "+ set.unstuck www node1 1\n"
                 "+ set.released www node1 1 preempted\n"
                 "< say_hello\n"
                 "+ set.granted www node2 2 preempted\n"
                 "> node2 acquire www 2\n");
    story_closed(story, 1, "www", 1, "release");
    story_expect(story, "");
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_say(story, 1);
    story_expect(story,
                 "> node1 hello_ok\n"
                 "+ node.debt-paid www node1 1\n");
    story_end(story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lapse),
        cmocka_unit_test(test_plain_move_of_a_silent_owner),
        cmocka_unit_test(test_force_on_a_live_owner),
        cmocka_unit_test(test_preempted),
        cmocka_unit_test(test_evict_across_a_restart),
        cmocka_unit_test(test_cannot_evict),
        cmocka_unit_test(test_stamp_fails),
        cmocka_unit_test(test_attested),
        cmocka_unit_test(test_attested_and_heard),
        cmocka_unit_test(test_victim_lets_go),
        cmocka_unit_test(test_lapsed_with_watchdog),
        cmocka_unit_test(test_watchdog_longer_than_the_margin),
        cmocka_unit_test(test_forced_without_a_disk),
        cmocka_unit_test(test_force_ends_what_waits),
        cmocka_unit_test(test_force_that_is_refused_ends_nothing),
        cmocka_unit_test(test_unlock),
        cmocka_unit_test(test_unlock_of_a_parked_set),
        cmocka_unit_test(test_fence),
        cmocka_unit_test(test_fence_fails),
        cmocka_unit_test(test_fence_of_a_node_that_is_back),
        cmocka_unit_test(test_forced_off_a_stuck_holder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
