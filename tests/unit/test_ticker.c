// SPDX-License-Identifier: MIT
//
// Elapsed time that is never too little, and holes in it (rule P20).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/ticker.h"

#define SECOND UINT64_C(1000000)

static ticker_clocks_t at(uint64_t us) {
    return (ticker_clocks_t){.boot_us = 100 * SECOND + us,
                             .mono_us = 90 * SECOND + us,
                             .wall_us = 1700000000 * SECOND + us};
}

static ticker_t begin(void) {
    ticker_t ticker;
    ticker_clocks_t now = at(0);
    ticker_init(&ticker, &now);
    return ticker;
}

static void rounds_up_but_not_each_time(void **state) {
    (void)state;
    ticker_t ticker = begin();
    uint64_t sum_ms = 0;
    // Many inputs a millisecond must not make a lease run faster.
    for (uint64_t us = 100; us <= 10 * SECOND; us += 100) {
        ticker_clocks_t now = at(us);
        sum_ms += ticker_elapsed_ms(&ticker, &now);
        assert_true(sum_ms * 1000 >= us);
        assert_true(sum_ms * 1000 < us + 1000);
    }
    ticker_clocks_t now = at(10 * SECOND + 1);
    assert_int_equal(ticker_passed_ms(&ticker, &now), 1);
    assert_int_equal(ticker_elapsed_ms(&ticker, &now), 1);
    assert_int_equal(ticker_elapsed_ms(&ticker, &now), 0);
}

static uint64_t hole_after(uint64_t wait_ms, ticker_clocks_t now) {
    ticker_t ticker = begin();
    ticker_clocks_t before = at(0);
    ticker_wait(&ticker, &before, wait_ms);
    return ticker_hole_ms(&ticker, &now);
}

static void sees_no_hole_in_a_wait(void **state) {
    (void)state;
    assert_int_equal(hole_after(5000, at(5 * SECOND)), 0);
    assert_int_equal(hole_after(5000, at(1 * SECOND)), 0);
    assert_int_equal(hole_after(UINT64_MAX, at(500 * SECOND)), 0);
}

static void sees_that_it_was_stopped(void **state) {
    (void)state;
    assert_int_equal(hole_after(5000, at(35 * SECOND)), 30000);
    // In the middle of its work, too.
    ticker_t ticker = begin();
    ticker_clocks_t now = at(0);
    assert_int_equal(ticker_hole_ms(&ticker, &now), 0);
    now = at(20 * SECOND);
    assert_int_equal(ticker_hole_ms(&ticker, &now), 20000);
    // Once.
    assert_int_equal(ticker_hole_ms(&ticker, &now), 0);
}

static void sees_a_suspend(void **state) {
    (void)state;
    ticker_clocks_t now = at(60 * SECOND);
    now.mono_us -= 58 * SECOND;
    assert_int_equal(hole_after(UINT64_MAX, now), 58000);
}

static void sees_a_guest_that_was_paused(void **state) {
    (void)state;
    ticker_clocks_t now = at(1 * SECOND);
    now.wall_us += 45 * SECOND;
    assert_int_equal(hole_after(5000, now), 45000);
    // A wall clock that is set back is no hole.
    now = at(1 * SECOND);
    now.wall_us -= 45 * SECOND;
    assert_int_equal(hole_after(5000, now), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_up_but_not_each_time),
        cmocka_unit_test(sees_no_hole_in_a_wait),
        cmocka_unit_test(sees_that_it_was_stopped),
        cmocka_unit_test(sees_a_suspend),
        cmocka_unit_test(sees_a_guest_that_was_paused),
    };
    return cmocka_run_group_tests_name("ticker", tests, NULL, NULL);
}
