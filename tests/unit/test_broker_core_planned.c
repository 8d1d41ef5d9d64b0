// SPDX-License-Identifier: MIT
//
// Stories of planned transfers: the four ends, refusals, request ids.

#include "tests/unit/broker_story.h"

static void test_move(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_closed(story, 1, "www", 1, "release");
    story_acquired(story, 3, "www", 2);
    story_expect(story,
                 "+ transfer.requested www node3 1 move\n"
                 "< accepted\n"
                 "> node3 prepare www\n"
                 "> node1 release www 1\n"
                 "+ set.released www node1 1 released\n"
                 "+ set.granted www node3 2 released\n"
                 "> node3 acquire www 2\n"
                 "+ set.acquired www node3 2\n"
                 "+ transfer.ended www node3 2 moved\n");
    assert_true(story->changed);
    story_beat(story, 3, "www", 2);
    story_beat(story, 1, "www", 1);
    story_expect(story,
                 "> node3 confirmed www/2\n"
                 "> node1 confirmed\n");
    // Late and double answers mean nothing.
    story_closed(story, 1, "www", 1, "release");
    story_acquired(story, 3, "www", 2);
    story_acquired(story, 1, "www", 1);
    story_expect(story, "");
    story_end(story);
}

static void test_resend(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_forget(story);
    story_wait(story, 1999);
    story_expect(story, "");
    story_wait(story, 1);
    story_expect(story, "> node3 prepare www\n");
    story_prepared(story, 3, "www");
    story_wait(story, 2000);
    story_expect(story,
                 "> node1 release www 1\n"
                 "> node1 release www 1\n");
    story_end(story);
}

static void test_prepare_fails(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_forget(story);
    fleet_prepared_t *answer =
        &story_message(story, FLEET_MESSAGE_prepared)->prepared;
    answer->session = story->sessions[2];
    FLEET_COPY(answer->set, "www");
    answer->transfer = story->transfer;
    FLEET_COPY(answer->resource, "nginx");
    FLEET_COPY(answer->text, "nginx: [emerg] unknown directive");
    story_say(story, 3);
    story_expect(story,
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www node1 1 returned\n");
    assert_false(story->changed);
    assert_string_equal(story->reasons[0].code, "start-failed");
    assert_string_equal(story->reasons[0].text,
                        "nginx: [emerg] unknown directive");
    story_end(story);
}

static void test_prepare_is_not_answered(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    for (int i = 0; i < 15; i++) {
        story_wait(story, 2000);
        story_beat(story, 1, "www", 1);
        story_beat(story, 3, NULL, 0);
    }
    assert_int_equal(story->outcome, fleet_outcome_RETURNED);
    assert_false(story->changed);
    assert_string_equal(story->reasons[0].code, "no-answer");
    story_end(story);
}

static void test_returned(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_closed(story, 1, "www", 1, "release");
    story_forget(story);
    story_acquire_failed(story, 3, "www", 2, true);
    story_acquired(story, 1, "www", 3);
    story_expect(story,
                 "+ set.acquire-failed www node3 2 undone\n"
                 "+ set.granted www node1 3 released returning\n"
                 "> node1 acquire www 3\n"
                 "+ set.acquired www node1 3\n"
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www node1 3 returned\n");
    assert_string_equal(story->reasons[0].code, "start-failed");
    assert_string_equal(story->reasons[0].node, "node3");
    story_end(story);
}

static void test_parked(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_closed(story, 1, "www", 1, "release");
    story_acquire_failed(story, 3, "www", 2, true);
    story_forget(story);
    story_acquire_failed(story, 1, "www", 3, true);
    story_expect(story,
                 "+ set.acquire-failed www node1 3 undone\n"
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www - 3 parked\n");
    fleet_set_row_t row;
    assert_true(story_set_row(story, "www", &row));
    assert_int_equal(row.state, fleet_set_state_PARKED);
    assert_true(row.wanted_up);
    // L1: a plain start brings it back.
    (void)story_ask(story, fleet_verb_START, "www", "node2");
    story_op(story);
    story_prepared(story, 2, "www");
    story_acquired(story, 2, "www", 4);
    assert_int_equal(story->outcome, fleet_outcome_MOVED);
    story_end(story);
}

static void test_stuck_at_the_target(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_closed(story, 1, "www", 1, "release");
    story_forget(story);
    story_acquire_failed(story, 3, "www", 2, false);
    story_expect(story,
                 "+ set.acquire-failed www node3 2 left\n"
                 "+ set.stuck www node3 2 start-failed\n"
                 "+ transfer.ended www node3 2 stuck\n");
    assert_true(story_problem(story, "stuck"));
    // P17: it comes up after all.
    story_acquired(story, 3, "www", 2);
    story_expect(story,
                 "+ set.unstuck www node3 2\n"
                 "+ set.acquired www node3 2 late\n");
    assert_false(story_problem(story, "stuck"));
    story_end(story);
}

// P7: a silent target is the holder for every purpose.
static void test_target_does_not_answer(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_closed(story, 1, "www", 1, "release");
    for (int i = 0; i < 15; i++) {
        story_wait(story, 2000);
        story_beat(story, 3, "www", 2);
    }
    assert_int_equal(story->outcome, fleet_outcome_STUCK);
    assert_string_equal(story->reasons[0].code, "no-answer");
    // Moved on by its release; a late `acquired` means nothing then.
    (void)story_hello(story, 1, "boot1");
    story_say(story, 1);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node1");
    story_op(story);
    story_prepared(story, 1, "www");
    story_forget(story);
    story_acquired(story, 3, "www", 2);
    story_expect(story, "");
    story_closed(story, 3, "www", 2, "release");
    story_acquired(story, 1, "www", 3);
    assert_int_equal(story->outcome, fleet_outcome_MOVED);
    story_end(story);
}

// decisions/0003: a release that failed is undone in place.
static void test_release_fails(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_forget(story);
    story_release_failed(story, 1, "www", 1);
    story_acquired(story, 1, "www", 2);
    story_expect(story,
                 "+ set.granted www node1 2 released in-place returning\n"
                 "> node1 acquire www 2 in-place\n"
                 "+ set.acquired www node1 2\n"
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www node1 2 returned\n");
    assert_string_equal(story->reasons[0].code, "held");
    assert_non_null(strstr(story->reasons[0].text, "4121"));
    story_end(story);
}

static void test_stop(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_closed(story, 1, "www", 1, "release");
    story_expect(story,
                 "+ transfer.requested www - 1 stop\n"
                 "< accepted\n"
                 "> node1 release www 1\n"
                 "+ set.released www node1 1 released\n"
                 "+ transfer.ended www - 1 parked\n");
    assert_int_equal(story->reasons_n, 0);
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_expect(story, "< transfer t0 parked  1\n");
    story_end(story);
}

static void test_stop_is_stuck(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_forget(story);
    story_release_failed(story, 1, "www", 1);
    story_expect(story,
                 "+ set.stuck www node1 1 held\n"
                 "+ transfer.ended www node1 1 stuck\n");
    assert_non_null(strstr(story->reasons[0].text, "rsync"));
    // In place again.
    (void)story_ask(story, fleet_verb_START, "www", "");
    story_op(story);
    story_acquired(story, 1, "www", 2);
    story_expect(story,
                 "+ transfer.requested www node1 1 start\n"
                 "< accepted\n"
                 "+ set.granted www node1 2 released in-place\n"
                 "> node1 acquire www 2 in-place\n"
                 "+ set.unstuck www node1 2\n"
                 "+ set.acquired www node1 2\n"
                 "+ transfer.ended www node1 2 moved\n");
    // Stuck again, and the holder lets go later by itself.
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    story_release_failed(story, 1, "www", 2);
    story_forget(story);
    story_closed(story, 1, "www", 2, "release");
    story_expect(story,
                 "+ set.unstuck www node1 2\n"
                 "+ set.released www node1 2 released by-itself\n");
    story_end(story);
}

static void test_already_there(void **state) {
    (void)state;
    story_t *story = story_new_www();
    uint32_t events = story->journal_n;
    (void)story_ask(story, fleet_verb_MOVE, "www", "node1");
    story_op(story);
    (void)story_ask(story, fleet_verb_START, "www", "");
    story_op(story);
    story_expect(story,
                 "< transfer t0 moved node1 1\n"
                 "< transfer t0 moved node1 1\n");
    assert_int_equal(events, story->journal_n);
    story_end(story);
}

static void test_cancel(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_CANCEL, "www", "");
    story_op(story);
    story_expect(story, "< refused no-transfer\n");
    // While it is prepared: nothing was touched.
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_forget(story);
    (void)story_ask(story, fleet_verb_CANCEL, "www", "");
    story_op(story);
    story_expect(story,
                 "+ transfer.cancel-requested www node1 1\n"
                 "> node3 prepare www undo\n"
                 "+ transfer.ended www node1 1 returned\n"
                 "< done changed\n");
    assert_string_equal(story->reasons[0].code, "cancelled");
    assert_false(story->changed);
    // While it is released: the grant goes back.
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_prepared(story, 3, "www");
    story_forget(story);
    (void)story_ask(story, fleet_verb_CANCEL, "www", "");
    story_op(story);
    story_closed(story, 1, "www", 1, "release");
    story_expect(story,
                 "+ transfer.cancel-requested www node1 1\n"
                 "> node1 release www 1\n"
                 "< done changed\n"
                 "+ set.released www node1 1 released\n"
                 "+ set.granted www node1 2 released returning\n"
                 "> node1 acquire www 2\n");
    // After the grant it is too late.
    (void)story_ask(story, fleet_verb_CANCEL, "www", "");
    story_op(story);
    story_expect(story, "< refused too-late\n");
    story_acquired(story, 1, "www", 2);
    assert_int_equal(story->outcome, fleet_outcome_RETURNED);
    story_end(story);
}

static void test_cancelled_stop_wants_it_up(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_op(story);
    (void)story_ask(story, fleet_verb_CANCEL, "www", "");
    story_op(story);
    story_closed(story, 1, "www", 1, "release");
    story_acquired(story, 1, "www", 2);
    assert_int_equal(story->outcome, fleet_outcome_RETURNED);
    fleet_set_row_t row;
    assert_true(story_set_row(story, "www", &row));
    assert_true(row.wanted_up);
    assert_int_equal(row.state, fleet_set_state_RUNNING);
    story_end(story);
}

static void test_restart(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_request_t *request = story_ask(story, fleet_verb_RESTART, "www", "");
    FLEET_COPY(request->resource, "nginx");
    story_op(story);
    fleet_restarted_t *answer =
        &story_message(story, FLEET_MESSAGE_restarted)->restarted;
    answer->session = story->sessions[0];
    FLEET_COPY(answer->set, "www");
    answer->token = 1;
    answer->transfer = story->transfer;
    answer->ok = true;
    story_say(story, 1);
    story_expect(story,
                 "+ transfer.requested www node1 1 restart\n"
                 "< accepted\n"
                 "> node1 restart www nginx\n"
                 "+ transfer.ended www node1 1 moved\n");
    story_end(story);
}

static void test_restart_of_nothing(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_request_t *request = story_ask(story, fleet_verb_RESTART, "www", "");
    FLEET_COPY(request->resource, "ngnix");
    story_op(story);
    story_forget(story);
    fleet_restarted_t *answer =
        &story_message(story, FLEET_MESSAGE_restarted)->restarted;
    answer->session = story->sessions[0];
    FLEET_COPY(answer->set, "www");
    answer->token = 1;
    answer->transfer = story->transfer;
    FLEET_COPY(answer->code, "resource-unknown");
    story_say(story, 1);
    story_expect(story, "+ transfer.ended www node1 1 returned\n");
    assert_false(story->changed);
    // One that did not come up again is another matter.
    (void)story_ask(story, fleet_verb_RESTART, "www", "");
    story_op(story);
    story_forget(story);
    answer = &story_message(story, FLEET_MESSAGE_restarted)->restarted;
    answer->session = story->sessions[0];
    FLEET_COPY(answer->set, "www");
    answer->token = 1;
    answer->transfer = story->transfer;
    FLEET_COPY(answer->code, "start-failed");
    FLEET_COPY(answer->text, "nginx: [emerg] bind() failed");
    story_say(story, 1);
    story_expect(story,
                 "+ set.stuck www node1 1 start-failed\n"
                 "+ transfer.ended www node1 1 stuck\n");
    // L1: in place.
    (void)story_ask(story, fleet_verb_START, "www", "");
    story_op(story);
    story_acquired(story, 1, "www", 2);
    assert_int_equal(story->outcome, fleet_outcome_MOVED);
    story_end(story);
}

static void test_refusals_say_everything(void **state) {
    (void)state;
    story_t *story = story_new_www();
    uint32_t events = story->journal_n;
    (void)story_ask(story, fleet_verb_MOVE, "nfs", "node9");
    story_op(story);
    story_expect(story, "< refused set-unknown node-unknown\n");
    (void)story_ask(story, fleet_verb_MOVE, "node2", "www");
    story_op(story);
    assert_non_null(strstr(story->reasons[0].hint, "is a node"));
    story_forget(story);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node9");
    story_op(story);
    story_expect(story, "< refused node-unknown\n");
    story_port(story, 3, "www", false, false);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_expect(story, "< refused no-port\n");
    assert_non_null(strstr(story->reasons[0].text, "node1"));
    // Silent, and what it lacked as of then.
    story_beat(story, 1, "www", 1);
    story_beat(story, 2, NULL, 0);
    story_wait(story, 6000);
    story_beat(story, 1, "www", 1);
    story_wait(story, 6001);
    story_forget(story);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_expect(story, "< refused node-offline no-port\n");
    assert_non_null(strstr(story->reasons[1].text, "as of"));
    assert_false(story->reasons[0].retry);
    assert_int_equal(events + 2, story->journal_n); // the two lapses
    story_end(story);
}

static void test_slots(void **state) {
    (void)state;
    story_t *story = story_new_www();
    story_define(story, "mail", false, "192.0.2.81/24");
    story_define(story, "ftp", false, "192.0.2.82/24");
    story_port(story, 2, "mail", true, false);
    story_port(story, 2, "ftp", true, false);
    story_port(story, 2, "www", true, false);
    (void)story_ask(story, fleet_verb_START, "mail", "node2");
    story_op(story);
    (void)story_ask(story, fleet_verb_START, "ftp", "node2");
    story_op(story);
    story_forget(story);
    // Both slots are reserved, though nothing runs there yet (P19).
    story_port(story, 2, "www", false, false);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node2");
    story_op(story);
    story_expect(story, "< refused no-slot no-port\n");
    assert_non_null(strstr(story->reasons[0].text, "ftp, mail"));
    fleet_node_row_t row;
    assert_true(broker_core_node_row(story->core, 1, &row));
    assert_int_equal(row.slots_free, 0);
    story_end(story);
}

static void test_not_ready_is_waived(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_port_t *port = &story_message(story, FLEET_MESSAGE_port)->port;
    port->session = story->sessions[2];
    FLEET_COPY(port->set, "www");
    port->visible = true;
    port->problems_n = 1;
    FLEET_COPY(port->problems[0].code, "not-ready");
    FLEET_COPY(port->problems[0].text, "nginx is not installed");
    story_say(story, 3);
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    story_expect(story, "< refused not-ready\n");
    fleet_request_t *request =
        story_ask(story, fleet_verb_MOVE, "www", "node3");
    request->ignore_n = 1;
    FLEET_COPY(request->ignore[0].name, "not-ready");
    story_op(story);
    story_expect(story,
                 "+ transfer.requested www node3 1 move\n"
                 "< accepted\n"
                 "> node3 prepare www\n");
    fleet_transfer_t transfer;
    assert_true(broker_core_transfer(story->core, "www", 0, &transfer));
    assert_int_equal(transfer.ignored_n, 1);
    // A reason that is not waivable stays.
    request = story_ask(story, fleet_verb_MOVE, "www", "node2");
    request->ignore_n = 1;
    FLEET_COPY(request->ignore[0].name, "busy");
    story_op(story);
    story_expect(story, "< refused busy\n");
    story_end(story);
}

static void test_request_ids(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_request_t *request =
        story_ask(story, fleet_verb_MOVE, "www", "node3");
    FLEET_COPY(request->request, "r1");
    story_op(story);
    uint64_t first = story->transfer;
    story_forget(story);
    story_op(story); // the same again
    story_expect(story, "< accepted\n");
    assert_int_equal(story->transfer, first);
    request = story_ask(story, fleet_verb_MOVE, "www", "node2");
    FLEET_COPY(request->request, "r1");
    story_op(story);
    story_expect(story, "< refused request-reused\n");
    story_prepared(story, 3, "www");
    story_closed(story, 1, "www", 1, "release");
    story_acquired(story, 3, "www", 2);
    // Also when it is over, and after a restart of the broker.
    story_restart(story);
    story->transfer = 0;
    story_forget(story);
    request = story_ask(story, fleet_verb_MOVE, "www", "node3");
    FLEET_COPY(request->request, "r1");
    story_op(story);
    story_expect(story, "< accepted\n");
    assert_int_equal(story->transfer, first);
    story_end(story);
}

static void test_done_is_remembered(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_op(story);
    fleet_request_t *request = story_ask(story, fleet_verb_CANCEL, "www", "");
    FLEET_COPY(request->request, "c1");
    story_op(story);
    story_forget(story);
    story_op(story);
    story_expect(story, "< done changed\n");
    request = story_ask(story, fleet_verb_REMOVE, "www", "");
    FLEET_COPY(request->request, "c1");
    story_op(story);
    story_expect(story, "< refused request-reused\n");
    story_end(story);
}

static void test_permissions(void **state) {
    (void)state;
    story_t *story = story_new_www();
    (void)story_ask(story, fleet_verb_MOVE, "www", "node3");
    story_send(story, fleet_role_MONITOR, "page");
    story_expect(story, "< refused not-permitted\n");
    assert_non_null(strstr(story->reasons[0].text, "monitor"));
    // A node: to itself, and stop what it owns.
    story_send(story, fleet_role_NODE, "node2");
    story_expect(story, "< refused not-permitted\n");
    (void)story_ask(story, fleet_verb_STOP, "www", "");
    story_send(story, fleet_role_NODE, "node2");
    story_expect(story, "< refused not-owner\n");
    (void)story_ask(story, fleet_verb_MOVE, "www", "node2");
    story_send(story, fleet_role_NODE, "node2");
    story_expect(story,
                 "+ transfer.requested www node2 1 move\n"
                 "< accepted\n"
                 "> node2 prepare www\n");
    assert_string_equal(story->journal[story->journal_n - 1].event.head.by,
                        "node:node2");
    story_end(story);
}

static void test_dry_run(void **state) {
    (void)state;
    story_t *story = story_new_www();
    fleet_request_t *request =
        story_ask(story, fleet_verb_MOVE, "www", "node3");
    request->dry_run = true;
    story_op(story);
    request = story_ask(story, fleet_verb_MOVE, "www", "node9");
    request->dry_run = true;
    story_op(story);
    story_expect(story,
                 "< done\n"
                 "< refused node-unknown\n");
    story_end(story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_resend),
        cmocka_unit_test(test_prepare_fails),
        cmocka_unit_test(test_prepare_is_not_answered),
        cmocka_unit_test(test_returned),
        cmocka_unit_test(test_parked),
        cmocka_unit_test(test_stuck_at_the_target),
        cmocka_unit_test(test_target_does_not_answer),
        cmocka_unit_test(test_release_fails),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_is_stuck),
        cmocka_unit_test(test_already_there),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancelled_stop_wants_it_up),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_restart_of_nothing),
        cmocka_unit_test(test_refusals_say_everything),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_not_ready_is_waived),
        cmocka_unit_test(test_request_ids),
        cmocka_unit_test(test_done_is_remembered),
        cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_dry_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
