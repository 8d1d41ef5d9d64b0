// SPDX-License-Identifier: MIT
//
// Entries: the chain over a batch, the signature of its last, and every way in
// which an entry can be wrong.

#include "broker/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "proto/text.h"

typedef struct world {
    entry_batch_t *batch;
    fleet_sign_pair_t sign;
    fleet_key_t previous;
    fleet_message_t event;
    fleet_message_t beside;
    fleet_message_t read;
    fleet_text_t why;
} world_t;

static int set_up(void **state) {
    world_t *world = calloc(1, sizeof *world);
    fleet_key_pair_t pair;
    assert_non_null(world);
    fleet_keys_init();
    fleet_key_pair_make(&pair);
    fleet_sign_pair_derive(&pair, &world->sign);
    world->batch = entry_batch_new();
    memset(world->previous, 7, sizeof world->previous);
    world->event.type = FLEET_MESSAGE_set_granted;
    world->event.event.head.seq = 41;
    world->event.event.head.token = 5;
    FLEET_COPY(world->event.event.head.set, "www");
    world->beside.type = FLEET_MESSAGE_definition;
    FLEET_COPY(world->beside.definition.yaml, "format: 1\n");
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    world_t *world = *state;
    entry_batch_destroy(&world->batch);
    free(world);
    return 0;
}

static const store_entry_t *three(world_t *world) {
    for (uint64_t i = 0; i < 3; i++) {
        world->event.event.head.seq = 41 + i;
        entry_batch_add(world->batch, &world->event,
                        i == 1 ? &world->beside : NULL);
    }
    return entry_batch_seal(world->batch, world->previous, &world->sign);
}

static void batch_is_a_chain(void **state) {
    world_t *world = *state;
    const store_entry_t *entries = three(world);
    const uint8_t *previous = world->previous;
    assert_int_equal(entry_batch_count(world->batch), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            entry_open(&entries[i], previous, &world->read, world->why),
            FLEET_OK);
        assert_int_equal(world->read.event.head.seq, 41 + i);
        assert_int_equal(entries[i].beside.size > 0, i == 1);
        previous = entries[i].hash;
    }
}

static void last_is_signed(void **state) {
    world_t *world = *state;
    const store_entry_t *entries = three(world);
    assert_false(entries[0].is_signed);
    assert_false(entries[1].is_signed);
    assert_true(entries[2].is_signed);
    assert_true(fleet_sign_ok(world->sign.public_key, entries[2].hash,
                              entries[2].signature));
    assert_false(fleet_sign_ok(world->sign.public_key, entries[1].hash,
                               entries[2].signature));
}

static void reset_batch_is_empty(void **state) {
    world_t *world = *state;
    three(world);
    entry_batch_reset(world->batch);
    assert_int_equal(entry_batch_count(world->batch), 0);
    world->event.event.head.seq = 44;
    entry_batch_add(world->batch, &world->event, NULL);
    const store_entry_t *entries =
        entry_batch_seal(world->batch, world->previous, &world->sign);
    assert_int_equal(
        entry_open(&entries[0], world->previous, &world->read, world->why),
        FLEET_OK);
}

// Larger than the first block of bytes, so that it moves while it is filled.
static void large_batch_keeps_its_bytes(void **state) {
    world_t *world = *state;
    memset(world->beside.definition.yaml, 'x', FLEET_YAML_MAX);
    for (uint64_t i = 0; i < 100; i++) {
        world->event.event.head.seq = i + 1;
        entry_batch_add(world->batch, &world->event, &world->beside);
    }
    const store_entry_t *entries =
        entry_batch_seal(world->batch, world->previous, &world->sign);
    const uint8_t *previous = world->previous;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(
            entry_open(&entries[i], previous, &world->read, world->why),
            FLEET_OK);
        assert_int_equal(fleet_decode(entries[i].beside.data,
                                      entries[i].beside.size, &world->read,
                                      NULL),
                         FLEET_OK);
        previous = entries[i].hash;
    }
}

static void every_flipped_bit_is_found(void **state) {
    world_t *world = *state;
    const store_entry_t *entries = three(world);
    store_entry_t entry = entries[1];
    uint8_t *event = malloc(entry.event.size);
    assert_non_null(event);
    memcpy(event, entry.event.data, entry.event.size);
    entry.event.data = event;
    assert_int_equal(
        entry_open(&entry, entries[0].hash, &world->read, world->why),
        FLEET_OK);
    for (size_t bit = 0; bit < entry.event.size * 8; bit++) {
        event[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(
            entry_open(&entry, entries[0].hash, &world->read, world->why),
            FLEET_BAD_MESSAGE);
        assert_non_null(strstr(world->why, "entry 42"));
        event[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < FLEET_KEY_SIZE * 8; bit++) {
        entry.hash[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(
            entry_open(&entry, entries[0].hash, &world->read, world->why),
            FLEET_BAD_MESSAGE);
        entry.hash[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(event);
}

static void swapped_and_repeated_are_found(void **state) {
    world_t *world = *state;
    const store_entry_t *entries = three(world);
    assert_int_equal(
        entry_open(&entries[2], entries[0].hash, &world->read, world->why),
        FLEET_BAD_MESSAGE);
    assert_int_equal(
        entry_open(&entries[1], entries[1].hash, &world->read, world->why),
        FLEET_BAD_MESSAGE);
    assert_non_null(strstr(world->why, "does not follow"));
}

static void message_before_the_frames(void **state) {
    world_t *world = *state;
    const store_entry_t *entries = three(world);
    entry_message(&entries[2], "q1", &world->read);
    assert_int_equal(world->read.type, FLEET_MESSAGE_entry);
    assert_string_equal(world->read.entry.ask, "q1");
    assert_int_equal(world->read.entry.seq, 43);
    assert_true(world->read.entry.is_signed);
    assert_memory_equal(world->read.entry.hash, entries[2].hash,
                        FLEET_KEY_SIZE);
    entry_message(&entries[0], "", &world->read);
    assert_false(world->read.entry.is_signed);
    for (int i = 0; i < FLEET_SIGNATURE_SIZE; i++) {
        assert_int_equal(world->read.entry.signature[i], 0);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(batch_is_a_chain),           TEST(last_is_signed),
        TEST(reset_batch_is_empty),       TEST(large_batch_keeps_its_bytes),
        TEST(every_flipped_bit_is_found), TEST(swapped_and_repeated_are_found),
        TEST(message_before_the_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
