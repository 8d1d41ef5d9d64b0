// SPDX-License-Identifier: MIT
//
// The JSON that is contract: every key there, null where there is no value.

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "proto/errors.h"
#include "proto/json.h"
#include "proto/text.h"

// One line of text; drops the document.
static void expect(json_t *document, const char *text) {
    char *line = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&line, &size);

    assert_non_null(stream);
    assert_true(fleet_json_write(stream, document, false));
    fclose(stream);
    assert_true(size > 0 && line[size - 1] == '\n');
    line[size - 1] = '\0';
    assert_string_equal(line, text);
    free(line);
    json_decref(document);
}

static const char *text_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);

    assert_non_null(value);
    return json_string_value(value);
}

static void test_reason(void **state) {
    fleet_reason_t reason;

    (void)state;
    fleet_reason_make(&reason, FLEET_NO_SLOT, "node3 is full");
    FLEET_COPY(reason.node, "node3");
    reason.since_us = 1763867642123456;
    expect(fleet_reason_json(&reason),
           "{\"code\":\"no-slot\",\"severity\":\"critical\",\"set\":null,"
           "\"node\":\"node3\",\"resource\":null,\"text\":\"node3 is full\","
           "\"hint\":null,\"since\":\"2025-11-23T03:14:02.123456Z\","
           "\"waivable\":false,\"retry\":false}");
}

static void test_empty_transfer_has_every_key(void **state) {
    fleet_transfer_t *transfer = calloc(1, sizeof(*transfer));

    (void)state;
    assert_non_null(transfer);
    expect(fleet_transfer_json(transfer),
           "{\"transfer\":null,\"request\":null,\"kind\":null,\"set\":null,"
           "\"from\":null,\"to\":null,\"token\":null,\"evidence\":null,"
           "\"by\":null,\"reason\":null,\"requested\":null,\"ended\":null,"
           "\"outcome\":\"unfinished\",\"changed\":false,\"reasons\":[],"
           "\"ignored\":[],\"steps\":[],\"pause_ms\":null,\"total_ms\":null,"
           "\"said\":null}");
    free(transfer);
}

static fleet_transfer_t *some_transfer(void) {
    fleet_transfer_t *transfer = calloc(1, sizeof(*transfer));

    assert_non_null(transfer);
    transfer->transfer = 4183;
    transfer->kind = fleet_kind_MOVE;
    FLEET_COPY(transfer->set, "www");
    FLEET_COPY(transfer->from, "node1");
    FLEET_COPY(transfer->to, "node3");
    transfer->token = 58;
    transfer->evidence = fleet_evidence_RELEASED;
    transfer->requested_us = 1763867561100000;
    transfer->ended_us = 1763867561393000;
    transfer->outcome = fleet_outcome_RETURNED;
    transfer->pause_us = 41200;
    transfer->total_us = 293000;
    FLEET_COPY(transfer->said, "bind() failed");
    transfer->steps_n = 2;
    FLEET_COPY(transfer->steps[0].step, "stop");
    FLEET_COPY(transfer->steps[0].node, "node1");
    transfer->steps[0].at_us = 212000;
    transfer->steps[0].us = 18300;
    transfer->steps[0].ok = true;
    FLEET_COPY(transfer->steps[1].step, "start");
    FLEET_COPY(transfer->steps[1].detail, "nginx: exit status 1");
    return transfer;
}

static void test_transfer(void **state) {
    fleet_transfer_t *transfer = some_transfer();
    json_t *json = fleet_transfer_json(transfer);
    json_t *steps = json_object_get(json, "steps");
    json_t *first = json_array_get(steps, 0);
    json_t *second = json_array_get(steps, 1);

    (void)state;
    assert_string_equal(text_of(json, "transfer"), "t4183");
    assert_string_equal(text_of(json, "outcome"), "returned");
    assert_string_equal(text_of(json, "evidence"), "released");
    assert_true(json_real_value(json_object_get(json, "pause_ms")) > 41.19 &&
                json_real_value(json_object_get(json, "pause_ms")) < 41.21);
    assert_true(json_is_null(json_object_get(first, "detail")));
    assert_true(json_is_null(json_object_get(first, "resource")));
    // What the daemon said stands where it failed.
    assert_string_equal(text_of(second, "detail"),
                        "nginx: exit status 1: bind() failed");
    json_decref(json);
    free(transfer);
}

static void test_event(void **state) {
    fleet_message_t event = {.type = FLEET_MESSAGE_set_granted};
    fleet_set_granted_t *granted = &event.set_granted;

    (void)state;
    granted->head.seq = 4185;
    granted->head.term = 7;
    granted->head.token = 58;
    granted->head.transfer = 4183;
    FLEET_COPY(granted->head.set, "www");
    FLEET_COPY(granted->head.node, "node3");
    granted->evidence = fleet_evidence_RELEASED;
    granted->from_token = 57;
    expect(fleet_event_json("campus", &event, NULL),
           "{\"seq\":4185,\"term\":7,\"time\":null,\"site\":\"campus\","
           "\"event\":\"set.granted\",\"set\":\"www\",\"node\":\"node3\","
           "\"token\":58,\"transfer\":\"t4183\",\"by\":null,\"reason\":null,"
           "\"evidence\":\"released\",\"from_token\":57,\"in_place\":false,"
           "\"returning\":false}");
}

static void test_event_with_lists(void **state) {
    fleet_message_t event = {.type = FLEET_MESSAGE_node_lapsed};
    json_t *json;
    json_t *sets;

    (void)state;
    event.node_lapsed.lease_ms = 10000;
    event.node_lapsed.sets_n = 2;
    FLEET_COPY(event.node_lapsed.sets[0].name, "mail");
    FLEET_COPY(event.node_lapsed.sets[1].name, "www");
    json = fleet_event_json("campus", &event, NULL);
    sets = json_object_get(json, "sets");
    assert_int_equal(json_array_size(sets), 2);
    assert_string_equal(json_string_value(json_array_get(sets, 1)), "www");
    assert_int_equal(json_integer_value(json_object_get(json, "lease_ms")),
                     10000);
    json_decref(json);
}

static void test_ended_carries_the_transfer(void **state) {
    fleet_transfer_t *transfer = some_transfer();
    fleet_message_t *beside = calloc(1, sizeof(*beside));
    fleet_message_t event = {.type = FLEET_MESSAGE_transfer_ended};
    json_t *json;

    (void)state;
    assert_non_null(beside);
    beside->type = FLEET_MESSAGE_transfer;
    beside->transfer = *transfer;
    event.transfer_ended.head.seq = 4187;
    event.transfer_ended.head.transfer = 4183;
    event.transfer_ended.outcome = fleet_outcome_RETURNED;
    json = fleet_event_json("campus", &event, beside);
    assert_string_equal(text_of(json, "event"), "transfer.ended");
    assert_string_equal(text_of(json, "transfer"), "t4183");
    assert_string_equal(text_of(json, "set"), "www"); // the head says none
    assert_int_equal(json_array_size(json_object_get(json, "steps")), 2);
    json_decref(json);
    // Without it, every key is still there.
    json = fleet_event_json("campus", &event, NULL);
    assert_string_equal(text_of(json, "outcome"), "returned");
    assert_non_null(json_object_get(json, "pause_ms"));
    assert_non_null(json_object_get(json, "steps"));
    json_decref(json);
    free(beside);
    free(transfer);
}

static void test_key_event_hides_the_key(void **state) {
    fleet_message_t event = {.type = FLEET_MESSAGE_key_admitted};
    json_t *json;

    (void)state;
    event.key_admitted.role = fleet_role_OPERATOR;
    memset(event.key_admitted.key, 0xab, FLEET_KEY_SIZE);
    json = fleet_event_json("campus", &event, NULL);
    assert_string_equal(text_of(json, "fingerprint"), "abababab");
    assert_null(json_object_get(json, "key"));
    json_decref(json);
}

static void test_mark_has_no_seq(void **state) {
    json_t *json = fleet_mark_json("campus", "stream.live");

    (void)state;
    assert_true(json_is_null(json_object_get(json, "seq")));
    assert_string_equal(text_of(json, "event"), "stream.live");
    json_decref(json);
}

static void test_node_that_is_silent(void **state) {
    fleet_node_row_t *node = calloc(1, sizeof(*node));
    json_t *json;

    (void)state;
    assert_non_null(node);
    FLEET_COPY(node->name, "node1");
    node->state = fleet_node_state_SILENT;
    node->lease_age_ms = 81000;
    node->slots = 2;
    node->slots_free = 1;
    json = fleet_node_json(node);
    assert_int_equal(json_integer_value(json_object_get(json, "lease_age_ms")),
                     81000);
    assert_true(json_is_null(json_object_get(json, "slots_free")));
    assert_true(json_is_null(json_object_get(json, "frozen")));
    json_decref(json);
    node->state = fleet_node_state_NEW;
    json = fleet_node_json(node);
    assert_true(json_is_null(json_object_get(json, "lease_age_ms")));
    assert_true(json_is_null(json_object_get(json, "since")));
    json_decref(json);
    free(node);
}

static void test_set(void **state) {
    fleet_set_row_t *set = calloc(1, sizeof(*set));
    json_t *json;

    (void)state;
    assert_non_null(set);
    FLEET_COPY(set->name, "www");
    set->addresses_n = 1;
    FLEET_COPY(set->addresses[0].address, "192.0.2.80/24");
    set->wanted_up = true;
    set->state = fleet_set_state_STUCK;
    json = fleet_set_json(set);
    assert_string_equal(text_of(json, "state"), "stuck");
    assert_string_equal(text_of(json, "wanted"), "up");
    assert_true(json_is_null(json_object_get(json, "owner")));
    assert_int_equal(json_array_size(json_object_get(json, "addresses")), 1);
    assert_int_equal(json_array_size(json_object_get(json, "ready_nodes")), 0);
    json_decref(json);
    free(set);
}

// Every event of the table becomes an object with the head's keys.
static void test_all_events(void **state) {
    size_t n = 0;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        fleet_message_t *event = calloc(1, sizeof(*event));
        json_t *json;

        assert_non_null(event);
        if (fleet_message_is_event(specs[i]->type)) {
            event->type = specs[i]->type;
            json = fleet_event_json("", event, NULL);
            assert_string_equal(text_of(json, "event"), specs[i]->word);
            assert_non_null(json_object_get(json, "reason"));
            json_decref(json);
        }
        free(event);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reason),
        cmocka_unit_test(test_empty_transfer_has_every_key),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_event_with_lists),
        cmocka_unit_test(test_ended_carries_the_transfer),
        cmocka_unit_test(test_key_event_hides_the_key),
        cmocka_unit_test(test_mark_has_no_seq),
        cmocka_unit_test(test_node_that_is_silent),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_all_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
