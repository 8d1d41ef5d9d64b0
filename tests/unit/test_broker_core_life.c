// SPDX-License-Identifier: MIT
//
// Stories of nodes, of the broker's own restarts, of definitions and keys.

#include "tests/unit/broker_story.h"

// A new boot that closed its record: it starts there again under a larger
// token.
static void test_boot(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_hello_t *hello = story_hello(story, 1, "boot2");
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_say(story, 1);
    story_acquired(story, 1, "www", 2);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "+ set.released www node1 1 rebooted by-itself\n"
                 "+ transfer.requested www node1 1 boot\n"
                 "+ set.granted www node1 2 rebooted\n"
                 "> node1 acquire www 2\n"
                 "+ set.acquired www node1 2\n"
                 "+ transfer.ended www node1 2 moved\n");
    assert_false(story_problem(story, "debt"));
    story_end(story);
}

// P8: a hello that shows nothing is no proof.
static void test_boot_without_a_record(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_hello(story, 1, "boot2");
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "> node1 release www 1 silence\n");
    story_wait(story, 2000);
    story_expect(story, "> node1 release www 1 silence\n");
    story_closed(story, 1, "www", 1, "boot");
    story_expect(story,
                 "+ set.released www node1 1 rebooted by-itself\n"
                 "+ transfer.requested www node1 1 boot\n"
                 "+ set.granted www node1 2 rebooted\n"
                 "> node1 acquire www 2\n");
    story_end(story);
}

static void test_boot_by_hand(void **state) {
    (void)state;
    story_t *story = story_new();
    fleet_facts_t facts = {
        .boot = fleet_at_boot_MANUAL, .start_ms = 1000, .stop_ms = 1000};
    (void)story_message(story, FLEET_MESSAGE_apply);
    broker_input_t input = {.kind = BROKER_IN_MESSAGE,
                            .role = fleet_role_OPERATOR,
                            .name = "op1",
                            .set = "web",
                            .message = &story->message,
                            .facts = &facts};
    story_step(story, &input);
    story_wait(story, 0);
    story_port(story, 1, "web", true, false);
    (void)story_ask(story, fleet_verb_START, "web", "node1");
    story_op(story);
    story_prepared(story, 1, "web");
    story_acquired(story, 1, "web", 1);
    story_forget(story);
    fleet_hello_t *hello = story_hello(story, 1, "boot2");
    story_record(hello, "web", 1, fleet_phase_CLOSED);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "+ set.released web node1 1 rebooted by-itself\n");
    fleet_set_row_t row;
    assert_true(story_set_row(story, "web", &row));
    assert_int_equal(row.state, fleet_set_state_PARKED);
    assert_true(row.wanted_up);
    story_end(story);
}

static void test_shutdown_and_boot(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_closed(story, 1, "www", 1, "leave");
    fleet_goodbye_t *bye =
        &story_message(story, FLEET_MESSAGE_goodbye)->goodbye;
    bye->session = story->sessions[0];
    story_say(story, 1);
    story_expect(story,
                 "+ set.released www node1 1 released by-itself\n"
                 "+ node.down - node1 0 shutdown\n");
    story_restart(story); // it is remembered
    fleet_hello_t *hello = story_hello(story, 1, "boot2");
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_forget(story);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "+ transfer.requested www node1 1 boot\n"
                 "+ set.granted www node1 2 released\n"
                 "> node1 acquire www 2\n");
    story_end(story);
}

// Somebody moved it on meanwhile: the boot leaves it alone.
static void test_boot_of_a_set_that_went_on(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_closed(story, 1, "www", 1, "leave");
    (void)story_ask(story, fleet_verb_START, "www", "node2");
    story_op(story);
    story_prepared(story, 2, "www");
    story_acquired(story, 2, "www", 2);
    story_forget(story);
    fleet_hello_t *hello = story_hello(story, 1, "boot2");
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n");
    story_end(story);
}

// A stop between shutdown and boot: it stays down.
static void test_stopped_before_the_boot(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_closed(story, 1, "www", 1, "leave");
    story_forget(story);
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_expect(story,
                 "+ transfer.requested www - 1 stop\n"
                 "< accepted\n"
                 "+ transfer.ended www - 1 parked\n");
    fleet_hello_t *hello = story_hello(story, 1, "boot2");
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n");
    story_end(story);
}

static void test_stopped_by_its_lapse(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_closed(story, 1, "www", 1, "lapse");
    story_expect(story, "+ set.released www node1 1 released by-itself\n");
    (void)story_hello(story, 1, "boot1");
    story_say(story, 1);
    story_expect(story, "> node1 hello_ok\n");
    story_end(story);
}

// The source boots in the middle of a move: the move goes on.
static void test_boot_during_a_move(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    fleet_hello_t *hello = story_hello(story, 1, "boot2");
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_forget(story);
    story_say(story, 1);
    story_expect(story,
                 "+ node.online - node1 0\n"
                 "> node1 hello_ok\n"
                 "+ set.released www node1 1 rebooted\n"
                 "+ set.granted www node3 2 rebooted\n"
                 "> node3 acquire www 2\n");
    // And then the target: a lapse or boot undoes an acquire (P2).
    hello = story_hello(story, 3, "boot2");
    story_record(hello, "www", 2, fleet_phase_CLOSED);
    story_say(story, 3);
    story_expect(story,
                 "+ node.online - node3 0\n"
                 "> node3 hello_ok\n"
                 "+ set.acquire-failed www node3 2 undone\n"
                 "+ set.granted www node1 3 released returning\n"
                 "> node1 acquire www 3\n");
    story_end(story);
}

static void test_no_memory(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    hello->no_memory = true;
    story_record(hello, "www", 1, fleet_phase_CLOSED);
    story_say(story, 1);
    story_expect(story,
                 "> node1 hello_ok floors\n"
                 "> node1 release www 1 silence\n");
    story_end(story);
}

static void test_sessions(void **state) {
    (void)state;
    story_t *story = story_new_www();
    uint64_t old = story->sessions[0];
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    assert_true(story->sessions[0] != old);
    story_forget(story);
    uint64_t now = story->sessions[0];
    // The same hello again: the same session.
    story->hellos[0]--;
    hello = story_hello(story, 1, "boot1");
    story_record(hello, "www", 1, fleet_phase_HELD);
    story_say(story, 1);
    assert_true(story->sessions[0] == now);
    // An older one, late: nothing.
    story_forget(story);
    hello->hello--;
    story_say(story, 1);
    story_expect(story, "");
    // What is said in an old session means nothing (P2).
    story->sessions[0] = old;
    story_closed(story, 1, "www", 1, "release");
    story_expect(story, "");
    story_beat(story, 1, "www", 1);
    story_expect(story, "< say_hello\n");
    story_end(story);
}

static void test_turned_away(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_hello_t *hello = story_hello(story, 1, "boot1");
    hello->protocol = 99;
    story_say(story, 1);
    hello = story_hello(story, 1, "boot1");
    FLEET_COPY(hello->site, "staging");
    story_say(story, 1);
    (void)story_hello(story, 2, "boot1");
    story_send(story, fleet_role_NODE, "node1"); // speaks for node2
    story_expect(story,
                 "< turned_away\n"
                 "< turned_away\n"
                 "< turned_away\n");
    story_end(story);
}

// P15: something shows more than the journal knows.
static void test_journal_behind(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_hello_t *hello = story_hello(story, 2, "boot1");
    story_record(hello, "www", 4, fleet_phase_HELD);
    story_say(story, 2);
    story_forget(story);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_expect(story, "< refused journal-behind\n");
    assert_true(story_problem(story, "journal-behind"));
    story_end(story);
}

static void test_lock_above_the_journal(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    fleet_port_t *port = &story_message(story, FLEET_MESSAGE_port)->port;
    port->session = story->sessions[1];
    FLEET_COPY(port->set, "www");
    port->visible = true;
    FLEET_COPY(port->lock_owner, "node2");
    port->lock_token = 2;
    story_say(story, 2);
    story_forget(story);
    story_closed(story, 1, "www", 1, "release");
    story_expect(story,
                 "+ set.released www node1 1 released\n"
                 "+ set.stuck www - 1 journal-behind\n"
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www - 1 stuck\n");
    story_end(story);
}

// A lock that was given back refuses what is below one more: that is in order.
static void test_lock_given_back(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_closed(story, 1, "www", 1, "release");
    fleet_port_t *port = &story_message(story, FLEET_MESSAGE_port)->port;
    port->session = story->sessions[1];
    FLEET_COPY(port->set, "www");
    port->visible = true;
    port->lock_token = 2;
    story_say(story, 2);
    assert_false(story_problem(story, "journal-behind"));
    story_end(story);
}

// P11: whatever stood is sent again; P12: the longest lease of the journal.
static void test_restart_at_every_step(void **state) {
    (void)state;
    for (int at = 0; at < 4; at++) {
        story_t *story = story_new_www();
        (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
        story_op(story);
        if (at > 0) {
            story_prepared(story, 3, "www");
        }
        if (at > 1) {
            story_closed(story, 1, "www", 1, "release");
        }
        story_restart(story);
        assert_int_equal(broker_core_no_lapse_ms(story->core), 12000);
        // The nodes come back as they are.
        fleet_hello_t *hello = story_hello(story, 1, "boot1");
        story_record(hello, "www", 1,
                     at == 0   ? fleet_phase_HELD
                     : at == 1 ? fleet_phase_RELEASING
                               : fleet_phase_CLOSED);
        story_say(story, 1);
        hello = story_hello(story, 3, "boot1");
        if (at == 3) {
            story_record(hello, "www", 2, fleet_phase_HELD);
        }
        story_say(story, 3);
        if (at == 0) {
            assert_non_null(strstr(story->trace, "> node3 prepare www\n"));
            story_prepared(story, 3, "www");
        }
        if (at <= 1) {
            assert_non_null(strstr(story->trace, "> node1 release www 1\n"));
            story_closed(story, 1, "www", 1, "release");
        }
        assert_non_null(strstr(story->trace, "> node3 acquire www 2\n"));
        story_acquired(story, 3, "www", 2);
        assert_int_equal(story->outcome, fleet_outcome_MOVED);
        story_end(story);
    }
}

// The owner was not heard since: nobody can say that nothing was touched.
static void test_restart_and_silence(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_restart(story);
    for (int i = 0; i < 20; i++) {
        story_wait(story, 2000);
    }
    assert_int_equal(story->outcome, fleet_outcome_STUCK);
    story_end(story);
}

static void test_leases_after_a_restart(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story->config.lease_ms = 3000;
    story->config.margin_ms = 500;
    story_restart(story);
    story_forget(story);
    story_wait(story, 11999);
    story_expect(story, "");
    story_wait(story, 1);
    assert_non_null(strstr(story->trace, "+ node.lapsed - node1 0\n"));
    story_end(story);
}

static void test_health(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_health_t *health =
        &story_message(story, FLEET_MESSAGE_health)->health;
    health->session = story->sessions[0];
    FLEET_COPY(health->set, "www");
    health->token = 1;
    FLEET_COPY(health->resource, "nginx");
    FLEET_COPY(health->text, "no answer on port 80");
    story_say(story, 1);
    story_say(story, 1);
    assert_true(story_problem(story, "degraded"));
    health->ok = true;
    story_say(story, 1);
    story_say(story, 1);
    story_expect(story,
                 "+ set.degraded www node1 1\n"
                 "+ set.recovered www node1 1\n");
    assert_false(story_problem(story, "degraded"));
    story_end(story);
}

static void test_stale(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_stale_t *stale = &story_message(story, FLEET_MESSAGE_stale)->stale;
    stale->session = story->sessions[1];
    FLEET_COPY(stale->set, "www");
    stale->token_shown = 1;
    stale->token_now = 1;
    FLEET_COPY(stale->where, "lock");
    story_say(story, 2);
    story_expect(story, "+ node.stale-refused www node2 1\n");
    story_end(story);
}

// ----------------------------------------------------------- definitions, keys

static void test_apply(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_define(story, "www", true, "192.0.2.80/24"); // the same digest
    story_expect(story, "< applied rev 1\n");
    story_define(story, "mail", true, "192.0.2.80/32");
    story_expect(story, "< refused address-taken\n");
    story_define(story, "node2", false, NULL);
    story_expect(story, "< refused name-taken\n");
    fleet_facts_t facts = {.start_ms = 1000, .stop_ms = 1000};
    facts.nodes_n = 2;
    FLEET_COPY(facts.nodes[0].name, "node1");
    FLEET_COPY(facts.nodes[1].name, "node2");
    (void)story_message(story, FLEET_MESSAGE_apply);
    broker_input_t input = {.kind = BROKER_IN_MESSAGE,
                            .role = fleet_role_OPERATOR,
                            .name = "op1",
                            .set = "www",
                            .message = &story->message,
                            .facts = &facts};
    story_step(story, &input);
    story_wait(story, 0);
    story_expect(story,
                 "+ set.changed www node1 1\n"
                 "< applied rev 2 changed pending\n"
                 "> node3 watch_set www gone\n");
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_expect(story, "< refused node-not-listed\n");
    story_end(story);
}

static void test_remove(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_REMOVE, "www", "");
    story_op(story);
    story_expect(story, "< refused not-parked\n");
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_closed(story, 1, "www", 1, "release");
    story_forget(story);
    (void)story_ask(story, fleet_verb_REMOVE, "www", "");
    story_op(story);
    story_wait(story, 0);
    story_expect(story,
                 "+ set.removed www - 1\n"
                 "< done changed\n"
                 "> node1 watch_set www gone\n"
                 "> node2 watch_set www gone\n"
                 "> node3 watch_set www gone\n");
    fleet_set_row_t row;
    assert_false(story_set_row(story, "www", &row));
    // Defined again: its token goes on.
    story_define(story, "www", true, "192.0.2.80/24");
    story_port(story, 2, "www", true, true);
    (void)story_ask(story, fleet_verb_START, "www", "");
    story_op(story);
    story_prepared(story, 2, "www");
    story_acquired(story, 2, "www", 2);
    assert_int_equal(story->outcome, fleet_outcome_MOVED);
    story_end(story);
}

static void key_change(story_t *story, bool admit, fleet_role_t role,
                       const char *name, uint8_t digit, fleet_role_t asker) {
    fleet_key_change_t *change =
        &story_message(story, FLEET_MESSAGE_key_change)->key_change;
    change->admit = admit;
    change->role = role;
    FLEET_COPY(change->name, name);
    memset(change->key, digit, sizeof(change->key));
    story_send(story, asker, "root");
}

static void test_keys(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_key_t key;
    fleet_name_t name;
    memset(key, 2, sizeof(key));
    assert_int_equal(broker_core_key(story->core, key, name),
                     fleet_role_OPERATOR);
    assert_string_equal(name, "op1");
    key_change(story, true, fleet_role_MONITOR, "page", 7, fleet_role_OPERATOR);
    story_expect(story, "< refused not-permitted\n");
    key_change(story, true, fleet_role_MONITOR, "page", 7, fleet_role_ADMIN);
    key_change(story, true, fleet_role_MONITOR, "page2", 7, fleet_role_ADMIN);
    key_change(story, true, fleet_role_NODE, "page", 8, fleet_role_ADMIN);
    key_change(story, true, fleet_role_NODE, "www", 8, fleet_role_ADMIN);
    story_expect(story,
                 "+ key.admitted - - 0\n"
                 "< done changed\n"
                 "< refused key-taken\n"
                 "< refused key-taken\n"
                 "< refused name-taken\n");
    key_change(story, false, fleet_role_NONE, "root", 0, fleet_role_ADMIN);
    key_change(story, false, fleet_role_NONE, "nobody", 0, fleet_role_ADMIN);
    story_expect(story,
                 "< refused last-admin\n"
                 "< refused key-unknown\n");
    key_change(story, false, fleet_role_NONE, "node1", 0, fleet_role_ADMIN);
    story_expect(story,
                 "+ key.revoked - - 0\n"
                 "* cut node1\n"
                 "< done changed\n");
    memset(key, 3, sizeof(key));
    assert_int_equal(broker_core_key(story->core, key, name), fleet_role_NONE);
    fleet_key_row_t row;
    assert_true(broker_core_key_row(story->core, 0, &row));
    assert_string_equal(row.name, "node2");
    assert_true(broker_core_has_admin(story->core));
    story_end(story);
}

// Whatever a node may send, in any state: the core stays whole.
static void test_nonsense(void **state) {
    (void)state;
    story_t *story = story_new_www();
    size_t n = 0;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    for (size_t i = 0; i < n; i++) {
        if (specs[i]->type == FLEET_MESSAGE_apply) {
            continue; // comes with its facts
        }
        (void)story_message(story, specs[i]->type);
        story_say(story, 2);
        (void)story_message(story, specs[i]->type);
        story_op(story);
        (void)story_message(story, specs[i]->type);
        story_send(story, fleet_role_ADMIN, "root");
    }
    (void)story_message(story, FLEET_MESSAGE_hello);
    story_send(story, fleet_role_NODE, "node7"); // no such node
    story_end(story);
}

static void test_damaged_journal(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_message_t event = story->journal[story->journal_n - 1];
    assert_int_equal(broker_core_apply(story->core, &event),
                     FLEET_BAD_MESSAGE); // its seq was
    event.event.head.seq++;
    assert_int_equal(broker_core_apply(story->core, &event),
                     FLEET_BAD_MESSAGE); // no transfer runs
    (void)story_message(story, FLEET_MESSAGE_set_granted);
    story->message.event.head.seq = event.event.head.seq;
    FLEET_COPY(story->message.event.head.set, "www");
    FLEET_COPY(story->message.event.head.node, "node2");
    story->message.event.head.token = 2;
    assert_int_equal(broker_core_apply(story->core, &story->message),
                     FLEET_BAD_MESSAGE);
    story_end(story);
}

// A node that lost its memory starts anew what it finds; what becomes of that
// counts although the set was running.
static void test_failure_of_what_ran(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_acquire_failed(story, 1, "www", 1, false);
    story_expect(story, "+ set.stuck www node1 1 start-failed\n");
    story_acquire_failed(story, 1, "www", 1, false);
    story_expect(story, "");
    story_acquire_failed(story, 1, "www", 1, true);
    story_expect(story,
                 "+ set.unstuck www node1 1\n"
                 "+ set.released www node1 1 released by-itself\n");
    story_end(story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot),
        cmocka_unit_test(test_boot_without_a_record),
        cmocka_unit_test(test_boot_by_hand),
        cmocka_unit_test(test_shutdown_and_boot),
        cmocka_unit_test(test_boot_of_a_set_that_went_on),
        cmocka_unit_test(test_stopped_before_the_boot),
        cmocka_unit_test(test_stopped_by_its_lapse),
        cmocka_unit_test(test_boot_during_a_move),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_turned_away),
        cmocka_unit_test(test_journal_behind),
        cmocka_unit_test(test_lock_above_the_journal),
        cmocka_unit_test(test_lock_given_back),
        cmocka_unit_test(test_restart_at_every_step),
        cmocka_unit_test(test_restart_and_silence),
        cmocka_unit_test(test_leases_after_a_restart),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_damaged_journal),
        cmocka_unit_test(test_failure_of_what_ran),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
