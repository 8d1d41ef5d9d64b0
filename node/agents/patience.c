// SPDX-License-Identifier: MIT
//
// See patience.h.

#include "node/agents/patience.h"

#include <assert.h>
#include <time.h>

#define NAP_FIRST_US 200
#define NAP_LONGEST_US 20000

uint64_t patience_now_us(void) {
    struct timespec now;
    int rc = clock_gettime(CLOCK_BOOTTIME, &now);
    assert(rc == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

patience_t patience_of_ms(uint64_t ms) {
    return (patience_t){.end_us = patience_now_us() + ms * 1000,
                        .nap_us = NAP_FIRST_US};
}

patience_t patience_of_limit(uint64_t limit_ms) {
    return patience_of_ms(limit_ms - limit_ms / 10);
}

uint64_t patience_left_ms(const patience_t *patience) {
    uint64_t now_us = patience_now_us();
    if (now_us >= patience->end_us) {
        return 0;
    }
    return (patience->end_us - now_us + 999) / 1000;
}

bool patience_nap(patience_t *patience) {
    uint64_t now_us = patience_now_us();
    if (now_us >= patience->end_us) {
        return false;
    }
    uint64_t us = patience->nap_us;
    if (us > patience->end_us - now_us) {
        us = patience->end_us - now_us;
    }
    struct timespec nap = {.tv_sec = 0, .tv_nsec = (long)(us * 1000)};
    nanosleep(&nap, NULL);
    if (patience->nap_us < NAP_LONGEST_US) {
        patience->nap_us *= 2;
    }
    return true;
}
