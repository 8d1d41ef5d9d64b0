// SPDX-License-Identifier: MIT
//
// The check of a journal: every change of an entry is found, with its number.

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <string.h>

#include "cli/chain.h"
#include "proto/codec.h"
#include "proto/text.h"

#define ENTRIES 6

typedef struct row {
    fleet_entry_t entry;
    uint8_t event[2048];
    size_t event_n;
    uint8_t beside[8];
    size_t beside_n;
} row_t;

typedef struct journal {
    row_t rows[ENTRIES];
    fleet_sign_pair_t sign;
} journal_t;

static void seal(journal_t *journal, size_t i, const fleet_message_t *event,
                 bool is_signed) {
    row_t *row = &journal->rows[i];

    assert_int_equal(
        fleet_encode(event, row->event, sizeof(row->event), &row->event_n),
        FLEET_OK);
    row->beside_n = i % 3;
    row->entry.seq = i + 1;
    if (i > 0) {
        memcpy(row->entry.previous, journal->rows[i - 1].entry.hash,
               FLEET_KEY_SIZE);
    }
    fleet_entry_hash(row->entry.previous, row->entry.seq,
                     (fleet_bytes_t){row->event, row->event_n},
                     (fleet_bytes_t){row->beside, row->beside_n},
                     row->entry.hash);
    row->entry.is_signed = is_signed;
    if (is_signed) {
        fleet_sign(&journal->sign, row->entry.hash, row->entry.signature);
    }
}

// A reign begins, then sets are acquired; every second entry is signed.
static void make(journal_t *journal) {
    fleet_message_t event = {.type = FLEET_MESSAGE_reign_began};
    fleet_key_pair_t pair;

    memset(journal, 0, sizeof(*journal));
    fleet_key_pair_make(&pair);
    fleet_sign_pair_derive(&pair, &journal->sign);
    event.reign_began.head.seq = 1;
    memcpy(event.reign_began.sign_key, journal->sign.public_key,
           FLEET_KEY_SIZE);
    seal(journal, 0, &event, false);
    for (size_t i = 1; i < ENTRIES; i++) {
        memset(&event, 0, sizeof(event));
        event.type = FLEET_MESSAGE_set_acquired;
        event.set_acquired.head.seq = i + 1;
        FLEET_COPY(event.set_acquired.head.set, "www");
        seal(journal, i, &event, i % 2 == 1);
    }
}

static bool take(chain_t *chain, const row_t *row) {
    return chain_take(chain, &row->entry,
                      (fleet_bytes_t){row->event, row->event_n},
                      (fleet_bytes_t){row->beside, row->beside_n});
}

// The number of the first wrong entry; 0: all is well.
static uint64_t check(const journal_t *journal, size_t n, uint64_t to) {
    chain_t chain;

    chain_begin(&chain);
    for (size_t i = 0; i < n; i++) {
        take(&chain, &journal->rows[i]);
    }
    chain_end(&chain, to);
    return chain.broken;
}

static void test_good(void **state) {
    journal_t journal;

    (void)state;
    make(&journal);
    assert_int_equal(check(&journal, ENTRIES, 0), 0);
    assert_int_equal(check(&journal, ENTRIES, ENTRIES), 0);
}

static void test_every_byte_of_every_entry(void **state) {
    journal_t journal;

    (void)state;
    make(&journal);
    for (size_t i = 0; i < ENTRIES; i++) {
        for (size_t at = 0; at < journal.rows[i].event_n; at++) {
            journal.rows[i].event[at] ^= 1;
            assert_int_equal(check(&journal, ENTRIES, 0), i + 1);
            journal.rows[i].event[at] ^= 1;
        }
    }
    assert_int_equal(check(&journal, ENTRIES, 0), 0);
}

static void test_what_is_beside_counts(void **state) {
    journal_t journal;

    (void)state;
    make(&journal);
    journal.rows[2].beside[0] = 1;
    assert_int_equal(check(&journal, ENTRIES, 0), 3);
}

static void test_signature(void **state) {
    journal_t journal;

    (void)state;
    make(&journal);
    journal.rows[3].entry.signature[5] ^= 1;
    assert_int_equal(check(&journal, ENTRIES, 0), 4);
}

// Written anew by somebody who does not have the broker's key.
static void test_rewritten(void **state) {
    journal_t journal;
    fleet_key_pair_t pair;
    fleet_message_t event = {.type = FLEET_MESSAGE_set_acquired};

    (void)state;
    make(&journal);
    fleet_key_pair_make(&pair);
    fleet_sign_pair_derive(&pair, &journal.sign);
    event.set_acquired.head.seq = ENTRIES;
    FLEET_COPY(event.set_acquired.head.set, "mail");
    seal(&journal, ENTRIES - 1, &event, true);
    assert_int_equal(check(&journal, ENTRIES, 0), ENTRIES);
}

static void test_removed_repeated_swapped(void **state) {
    journal_t journal;
    chain_t chain;

    (void)state;
    make(&journal);
    chain_begin(&chain);
    assert_true(take(&chain, &journal.rows[0]));
    assert_false(take(&chain, &journal.rows[2]));
    assert_int_equal(chain.broken, 2);
    assert_false(take(&chain, &journal.rows[1])); // once broken, broken

    chain_begin(&chain);
    assert_true(take(&chain, &journal.rows[0]));
    assert_false(take(&chain, &journal.rows[0]));
    assert_int_equal(chain.broken, 2);
}

static void test_cut_tail(void **state) {
    journal_t journal;

    (void)state;
    make(&journal);
    // In the middle of a commit no signature covers what is left.
    assert_int_equal(check(&journal, ENTRIES - 1, 0), ENTRIES - 1);
    // Between two commits only who knows the end can tell.
    assert_int_equal(check(&journal, ENTRIES - 2, 0), 0);
    assert_int_equal(check(&journal, ENTRIES - 2, ENTRIES), ENTRIES - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_every_byte_of_every_entry),
        cmocka_unit_test(test_what_is_beside_counts),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_rewritten),
        cmocka_unit_test(test_removed_repeated_swapped),
        cmocka_unit_test(test_cut_tail),
    };

    fleet_keys_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
