// SPDX-License-Identifier: MIT
//
// Squeezing zeros out of a snapshot and back: every shape of runs, and damage.

#include "broker/squeeze.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void there_and_back(const uint8_t *bytes, size_t size) {
    uint8_t *squeezed = NULL;
    size_t squeezed_size = 0;
    uint8_t *back = malloc(size + 1);
    assert_non_null(back);
    memset(back, 0xee, size + 1);
    squeeze(bytes, size, &squeezed, &squeezed_size);
    assert_true(squeezed_size <= size + 8);
    assert_true(squeeze_undo(squeezed, squeezed_size, back, size));
    if (size > 0) {
        assert_memory_equal(back, bytes, size);
    }
    assert_int_equal(back[size], 0xee);
    // Every cut of it, and another size, is found.
    for (size_t cut = 0; cut < squeezed_size && cut < 600; cut++) {
        assert_false(squeeze_undo(squeezed, cut, back, size));
    }
    assert_false(squeeze_undo(squeezed, squeezed_size, back, size + 1));
    free(squeezed);
    free(back);
}

static void runs_of_every_length(void **state) {
    uint8_t bytes[256];
    (void)state;
    for (size_t zeros = 0; zeros < 40; zeros++) {
        for (size_t kept = 0; kept < 5; kept++) {
            size_t size = 0;
            while (size + zeros + kept <= sizeof bytes && zeros + kept > 0) {
                memset(bytes + size, 0, zeros);
                memset(bytes + size + zeros, 7, kept);
                size += zeros + kept;
            }
            there_and_back(bytes, size);
        }
    }
}

static void nothing_and_only_zeros(void **state) {
    uint8_t bytes[512] = {0};
    uint8_t *squeezed = NULL;
    size_t size = 0;
    (void)state;
    squeeze(bytes, 0, &squeezed, &size);
    assert_int_equal(size, 0);
    assert_true(squeeze_undo(squeezed, 0, bytes, 0));
    free(squeezed);
    squeeze(bytes, sizeof bytes, &squeezed, &size);
    assert_int_equal(size, 8);
    free(squeezed);
    there_and_back(bytes, sizeof bytes);
}

static void numbers_too_large(void **state) {
    static const uint32_t heads[][2] = {
        {UINT32_MAX, 0}, {0, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}, {9, 0}};
    uint8_t bytes[16];
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        uint8_t squeezed[16] = {0};
        memcpy(squeezed, heads[i], sizeof heads[i]);
        assert_false(squeeze_undo(squeezed, sizeof squeezed, bytes, 16));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_of_every_length),
        cmocka_unit_test(nothing_and_only_zeros),
        cmocka_unit_test(numbers_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
