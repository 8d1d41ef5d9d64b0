// SPDX-License-Identifier: MIT
//
// Acts under way: what is a step and by which name, what the core is told.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "node/jobs.h"
#include "proto/text.h"

static fleet_setdef_t setdef;
static node_effect_t effect;
static fleet_message_t message;
static runner_event_t event;
static node_input_t input;

static void define(void) {
    memset(&setdef, 0, sizeof(setdef));
    FLEET_COPY(setdef.set, "www");
    setdef.resources_n = 2;
    setdef.resources[0].kind = FLEET_RESOURCE_DISK_GROUP;
    FLEET_COPY(setdef.resources[0].name, "disk");
    setdef.resources[1].kind = FLEET_RESOURCE_SERVICE;
    FLEET_COPY(setdef.resources[1].name, "httpd");
}

static const job_t *add(jobs_t *jobs, uint64_t number, node_act_t act,
                        uint32_t resource, uint64_t transfer) {
    memset(&effect, 0, sizeof(effect));
    effect.kind = NODE_OUT_ACT;
    FLEET_COPY(effect.set, "www");
    effect.act = act;
    effect.resource = resource;
    effect.job = number;
    effect.transfer = transfer;
    return jobs_add(jobs, &effect, &setdef);
}

static void is_step(const job_t *job, const char *resource, const char *step) {
    assert_true(jobs_step(job, "node1", NULL, &message));
    assert_int_equal(message.type, FLEET_MESSAGE_step);
    assert_int_equal(message.step.transfer, 77);
    assert_string_equal(message.step.set, "www");
    assert_string_equal(message.step.node, "node1");
    assert_string_equal(message.step.resource, resource);
    assert_string_equal(message.step.step, step);
    assert_true(message.step.running);
    assert_true(message.step.ok);
}

static void names_steps(void **state) {
    (void)state;
    jobs_t *jobs = jobs_new();
    define();
    is_step(add(jobs, 1, NODE_ACT_PREPARE, 1, 77), "httpd", "prepare");
    is_step(add(jobs, 2, NODE_ACT_START, 0, 77), "disk", "acquire");
    is_step(add(jobs, 3, NODE_ACT_START, 1, 77), "httpd", "start");
    is_step(add(jobs, 4, NODE_ACT_STOP, 0, 77), "disk", "release");
    is_step(add(jobs, 5, NODE_ACT_STOP, 1, 77), "httpd", "stop");
    is_step(add(jobs, 6, NODE_ACT_EVICT, 0, 77), "disk", "evict");
    assert_false(
        jobs_step(add(jobs, 7, NODE_ACT_START, 1, 0), "n", NULL, &message));
    assert_false(
        jobs_step(add(jobs, 8, NODE_ACT_PROBE, 1, 77), "n", NULL, &message));
    assert_false(jobs_step(add(jobs, 9, NODE_ACT_LOOK, NODE_WHOLE_SET, 77), "n",
                           NULL, &message));
    jobs_destroy(&jobs);
    assert_null(jobs);
}

static void tells_lines_and_ends(void **state) {
    (void)state;
    jobs_t *jobs = jobs_new();
    define();
    const job_t *job = add(jobs, 1, NODE_ACT_STOP, 1, 77);
    event = (runner_event_t){.kind = RUNNER_SAID, .job = 1, .us = 1500};
    FLEET_COPY(event.line, "waiting for pid 4121");
    assert_true(jobs_step(job, "node1", &event, &message));
    assert_true(message.step.running);
    assert_int_equal(message.step.us, 1500);
    assert_string_equal(message.step.detail, "waiting for pid 4121");
    event = (runner_event_t){.kind = RUNNER_DONE, .job = 1, .us = 9000};
    event.result.err = FLEET_HELD;
    event.result.found = NODE_FOUND_PART;
    FLEET_COPY(event.result.text, "held by pid 4121");
    FLEET_COPY(event.result.said, "busy");
    event.result.problems_n = 1;
    FLEET_COPY(event.result.problems[0].code, "not-ready");
    assert_true(jobs_step(job, "node1", &event, &message));
    assert_false(message.step.running);
    assert_false(message.step.ok);
    assert_string_equal(message.step.detail, "held by pid 4121");
    assert_string_equal(message.step.said, "busy");
    jobs_input(job, &event, &input);
    assert_int_equal(input.kind, NODE_IN_RESULT);
    assert_int_equal(input.job, 1);
    assert_int_equal(input.act, NODE_ACT_STOP);
    assert_int_equal(input.resource, 1);
    assert_string_equal(input.set, "www");
    assert_false(input.ok);
    assert_int_equal(input.err, FLEET_HELD);
    assert_int_equal(input.found, NODE_FOUND_PART);
    assert_string_equal(input.text, "held by pid 4121");
    assert_int_equal(input.problems_n, 1);
    assert_string_equal(input.problems[0].code, "not-ready");
    jobs_destroy(&jobs);
}

static void finds_and_removes(void **state) {
    (void)state;
    jobs_t *jobs = jobs_new();
    define();
    for (uint64_t i = 1; i <= 200; i++) {
        add(jobs, i, NODE_ACT_PROBE, 1, 0);
    }
    for (uint64_t i = 1; i <= 200; i += 2) {
        jobs_remove(jobs, i);
    }
    jobs_remove(jobs, 999);
    for (uint64_t i = 1; i <= 200; i++) {
        const job_t *job = jobs_find(jobs, i);
        assert_int_equal(job != NULL, i % 2 == 0);
        assert_true(!job || job->number == i);
    }
    jobs_destroy(&jobs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_steps),
        cmocka_unit_test(tells_lines_and_ends),
        cmocka_unit_test(finds_and_removes),
    };
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
