// SPDX-License-Identifier: MIT
//
// The book of running transfers: what an ended one looks like, times that come
// from one clock only, and steps that do not belong.

#include "broker/book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/text.h"

#define MS 1000

typedef struct world {
    book_t *book;
    fleet_message_t event;
    fleet_transfer_t read;
} world_t;

static int set_up(void **state) {
    world_t *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->book = book_new();
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    world_t *world = *state;
    book_destroy(&world->book);
    free(world);
    return 0;
}

static fleet_message_t *event(world_t *world, fleet_message_type_t type,
                              uint64_t transfer) {
    memset(&world->event, 0, sizeof world->event);
    world->event.type = type;
    world->event.event.head.transfer = transfer;
    world->event.event.head.time_us = 1000000 + transfer;
    FLEET_COPY(world->event.event.head.set, "www");
    return &world->event;
}

// Transfer 8, of www from n1 to n3, requested at one second.
static void request(world_t *world) {
    fleet_transfer_requested_t *requested =
        &event(world, FLEET_MESSAGE_transfer_requested, 8)->transfer_requested;
    requested->head.seq = 8;
    requested->head.token = 4;
    requested->kind = fleet_kind_MOVE;
    FLEET_COPY(requested->request, "r1");
    FLEET_COPY(requested->from, "n1");
    FLEET_COPY(requested->to, "n3");
    FLEET_COPY(requested->head.by, "operator:op1");
    book_fold(world->book, &world->event, 1000 * MS);
}

static bool step(world_t *world, const char *node, const char *resource,
                 const char *name, int64_t now_us, uint64_t us, bool running) {
    fleet_step_t step = {
        .transfer = 8, .us = us, .running = running, .ok = true};
    FLEET_COPY(step.set, "www");
    FLEET_COPY(step.resource, resource);
    FLEET_COPY(step.step, name);
    return book_step(world->book, node, now_us, &step);
}

static void end(world_t *world, fleet_outcome_t outcome, int64_t now_us) {
    fleet_transfer_ended_t *ended =
        &event(world, FLEET_MESSAGE_transfer_ended, 8)->transfer_ended;
    ended->outcome = outcome;
    ended->changed = true;
    ended->head.token = 5;
    ended->head.time_us = 2000000;
    book_fold(world->book, &world->event, now_us);
}

static void move_from_request_to_end(void **state) {
    world_t *world = *state;
    request(world);
    assert_int_equal(book_of_set(world->book, "www"), 8);
    assert_int_equal(book_of_set(world->book, "nfs"), 0);
    assert_true(step(world, "n3", "fs", "prepare", 1010 * MS, 5 * MS, false));
    assert_true(step(world, "n1", "web", "stop", 1020 * MS, 0, true));
    assert_true(step(world, "n1", "web", "stop", 1030 * MS, 10 * MS, false));
    fleet_set_released_t *released =
        &event(world, FLEET_MESSAGE_set_released, 8)->set_released;
    released->evidence = fleet_evidence_RELEASED;
    book_fold(world->book, &world->event, 1031 * MS);
    event(world, FLEET_MESSAGE_set_granted, 8)->event.head.token = 5;
    book_fold(world->book, &world->event, 1031 * MS);
    assert_true(step(world, "n3", "web", "start", 1060 * MS, 20 * MS, false));
    end(world, fleet_outcome_MOVED, 1061 * MS);
    assert_true(book_read(world->book, 8, 9999 * MS, &world->read));
    assert_int_equal(world->read.outcome, fleet_outcome_MOVED);
    assert_int_equal(world->read.token, 5);
    assert_int_equal(world->read.evidence, fleet_evidence_RELEASED);
    assert_string_equal(world->read.request, "r1");
    assert_string_equal(world->read.from, "n1");
    assert_string_equal(world->read.by, "operator:op1");
    assert_int_equal(world->read.ended_us, 2000000);
    assert_int_equal(world->read.total_us, 61 * MS);
    assert_int_equal(world->read.pause_us, 40 * MS);
    assert_int_equal(world->read.steps_n, 3);
    assert_string_equal(world->read.steps[0].step, "prepare");
    assert_int_equal(world->read.steps[0].at_us, 5 * MS);
    assert_int_equal(world->read.steps[1].at_us, 20 * MS);
    assert_int_equal(world->read.steps[1].us, 10 * MS);
    assert_string_equal(world->read.steps[1].node, "n1");
    // It ran no more the moment it ended, and goes when it is in the journal.
    assert_int_equal(book_of_set(world->book, "www"), 0);
    book_settle(world->book);
    assert_false(book_read(world->book, 8, 0, &world->read));
}

static void running_step_grows(void **state) {
    world_t *world = *state;
    request(world);
    step(world, "n1", "web", "stop", 1010 * MS, 2 * MS, true);
    assert_true(book_read(world->book, 8, 1050 * MS, &world->read));
    assert_int_equal(world->read.outcome, fleet_outcome_UNFINISHED);
    assert_int_equal(world->read.ended_us, 0);
    assert_int_equal(world->read.steps_n, 1);
    assert_int_equal(world->read.steps[0].at_us, 8 * MS);
    assert_int_equal(world->read.steps[0].us, 42 * MS);
    assert_int_equal(world->read.total_us, 50 * MS);
}

static void steps_are_in_the_order_they_began(void **state) {
    world_t *world = *state;
    request(world);
    step(world, "n3", "a", "start", 1040 * MS, 5 * MS, false);  // from 35
    step(world, "n3", "b", "start", 1050 * MS, 40 * MS, false); // from 10
    step(world, "n3", "c", "start", 1055 * MS, 45 * MS, true);  // from 10
    book_read(world->book, 8, 1060 * MS, &world->read);
    assert_string_equal(world->read.steps[0].resource, "b");
    assert_string_equal(world->read.steps[1].resource, "c");
    assert_string_equal(world->read.steps[2].resource, "a");
    // What was running is still the one that ends.
    step(world, "n3", "c", "start", 1070 * MS, 60 * MS, false);
    book_read(world->book, 8, 1080 * MS, &world->read);
    assert_int_equal(world->read.steps_n, 3);
    assert_string_equal(world->read.steps[1].resource, "c");
    assert_int_equal(world->read.steps[1].us, 60 * MS);
}

static void foreign_steps_are_dropped(void **state) {
    world_t *world = *state;
    fleet_step_t foreign = {.transfer = 8};
    assert_false(step(world, "n1", "web", "stop", 1010 * MS, 0, false));
    request(world);
    FLEET_COPY(foreign.set, "nfs");
    assert_false(book_step(world->book, "n1", 1010 * MS, &foreign));
    end(world, fleet_outcome_PARKED, 1020 * MS);
    assert_false(step(world, "n1", "web", "stop", 1030 * MS, 0, false));
}

static void step_older_than_its_request_begins_with_it(void **state) {
    world_t *world = *state;
    fleet_step_t step = {.transfer = 8, .us = 900 * MS};
    request(world);
    FLEET_COPY(step.set, "www");
    FLEET_COPY(step.step, "stop");
    assert_true(book_step(world->book, "n1", 1100 * MS, &step));
    assert_int_equal(step.at_us, 0);
    assert_string_equal(step.node, "n1");
}

static void stop_alone_has_no_pause(void **state) {
    world_t *world = *state;
    request(world);
    step(world, "n1", "web", "stop", 1020 * MS, 10 * MS, false);
    end(world, fleet_outcome_PARKED, 1030 * MS);
    book_read(world->book, 8, 0, &world->read);
    assert_int_equal(world->read.pause_us, 0);
}

static void first_evidence_stays(void **state) {
    world_t *world = *state;
    request(world);
    event(world, FLEET_MESSAGE_set_released, 8)->set_released.evidence =
        fleet_evidence_PREEMPTED;
    book_fold(world->book, &world->event, 0);
    event(world, FLEET_MESSAGE_set_released, 8)->set_released.evidence =
        fleet_evidence_RELEASED;
    book_fold(world->book, &world->event, 0);
    book_read(world->book, 8, 0, &world->read);
    assert_int_equal(world->read.evidence, fleet_evidence_PREEMPTED);
}

static void more_steps_than_there_is_room(void **state) {
    world_t *world = *state;
    request(world);
    for (int i = 0; i < 3 * FLEET_STEPS_MAX; i++) {
        assert_true(step(world, "n1", "web", "stop", 1020 * MS, 0, false));
    }
    book_read(world->book, 8, 1100 * MS, &world->read);
    assert_int_equal(world->read.steps_n, FLEET_STEPS_MAX);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(move_from_request_to_end),
        TEST(running_step_grows),
        TEST(steps_are_in_the_order_they_began),
        TEST(foreign_steps_are_dropped),
        TEST(step_older_than_its_request_begins_with_it),
        TEST(stop_alone_has_no_pause),
        TEST(first_evidence_stays),
        TEST(more_steps_than_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
