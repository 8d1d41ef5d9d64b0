// SPDX-License-Identifier: MIT
//
// The node's clocks: how long since the last input, and whether there was a
// hole in time (rule P20): a suspend, a pause of this process, a pause of a
// virtual machine.

#ifndef FLEET_NODE_TICKER_H
#define FLEET_NODE_TICKER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ticker_clocks {
    uint64_t boot_us; // counts on through a suspend
    uint64_t mono_us; // does not
    uint64_t wall_us;
} ticker_clocks_t;

typedef struct ticker {
    ticker_clocks_t seen; // when the hole was last looked for
    uint64_t
        expected_us;   // by boot_us: when it should have been looked at again
    uint64_t given_ms; // time that inputs have been told of
} ticker_t;

ticker_clocks_t ticker_now(void);

void ticker_init(ticker_t *ticker, const ticker_clocks_t *now);

// Milliseconds since the last call: whole ones, rounded up over the whole life
// of the ticker, so that no sum of them is ever less than what has passed.
uint64_t ticker_elapsed_ms(ticker_t *ticker, const ticker_clocks_t *now);

// What it would say, without saying it.
uint64_t ticker_passed_ms(const ticker_t *ticker, const ticker_clocks_t *now);

// Before waiting at most wait_ms (UINT64_MAX: for ever).
void ticker_wait(ticker_t *ticker, const ticker_clocks_t *now,
                 uint64_t wait_ms);

// The largest hole since the last call, in milliseconds: the machine was
// suspended, this process did not run although it was due, or the wall clock
// has jumped ahead, which is all that a guest sees of a pause of its clock.
uint64_t ticker_hole_ms(ticker_t *ticker, const ticker_clocks_t *now);

#endif
