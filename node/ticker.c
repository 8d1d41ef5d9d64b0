// SPDX-License-Identifier: MIT

#include "node/ticker.h"

#include <time.h>

static uint64_t read_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

ticker_clocks_t ticker_now(void) {
    return (ticker_clocks_t){.boot_us = read_us(CLOCK_BOOTTIME),
                             .mono_us = read_us(CLOCK_MONOTONIC),
                             .wall_us = read_us(CLOCK_REALTIME)};
}

static uint64_t up_ms(uint64_t us) {
    return us / 1000 + (us % 1000 != 0);
}

void ticker_init(ticker_t *ticker, const ticker_clocks_t *now) {
    *ticker = (ticker_t){.seen = *now,
                         .expected_us = UINT64_MAX,
                         .given_ms = up_ms(now->boot_us)};
}

uint64_t ticker_passed_ms(const ticker_t *ticker, const ticker_clocks_t *now) {
    return up_ms(now->boot_us) - ticker->given_ms;
}

uint64_t ticker_elapsed_ms(ticker_t *ticker, const ticker_clocks_t *now) {
    uint64_t elapsed_ms = ticker_passed_ms(ticker, now);
    ticker->given_ms += elapsed_ms;
    return elapsed_ms;
}

void ticker_wait(ticker_t *ticker, const ticker_clocks_t *now,
                 uint64_t wait_ms) {
    ticker->expected_us = wait_ms < UINT64_MAX / 1000
                              ? now->boot_us + wait_ms * 1000
                              : UINT64_MAX;
}

static uint64_t beyond(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

uint64_t ticker_hole_ms(ticker_t *ticker, const ticker_clocks_t *now) {
    uint64_t boot = now->boot_us - ticker->seen.boot_us;
    uint64_t mono = now->mono_us - ticker->seen.mono_us;
    uint64_t hole_us = beyond(boot, mono);
    uint64_t late_us = beyond(now->boot_us, ticker->expected_us);
    uint64_t ahead_us =
        beyond(beyond(now->wall_us, ticker->seen.wall_us), boot);
    hole_us = late_us > hole_us ? late_us : hole_us;
    hole_us = ahead_us > hole_us ? ahead_us : hole_us;
    ticker->seen = *now;
    // Until it waits again it works, which takes no time worth mentioning: a
    // stop in the middle of that is a hole too.
    ticker->expected_us = now->boot_us;
    return hole_us / 1000;
}
