// SPDX-License-Identifier: MIT
//
// A sequence of (n bytes as they are, m zeros): both numbers as 4 bytes of this
// machine's order, then the n bytes.  A snapshot never leaves its machine.

#include "broker/squeeze.h"

#include <stdlib.h>
#include <string.h>

#define ZEROS_MIN 16 // a shorter run costs more to name than to keep

typedef struct run {
    uint32_t kept;
    uint32_t zeros;
} run_t;

static size_t zeros_at(const uint8_t *bytes, size_t at, size_t size) {
    size_t n = 0;
    while (at + n < size && n < UINT32_MAX && bytes[at + n] == 0) {
        n++;
    }
    return n;
}

// The next run from `at` on.
static run_t next_run(const uint8_t *bytes, size_t at, size_t size) {
    run_t run = {0, 0};
    size_t end = at;
    while (end < size && end - at < UINT32_MAX / 2) {
        size_t zeros = zeros_at(bytes, end, size);
        if (zeros >= ZEROS_MIN) {
            run.zeros = (uint32_t)zeros;
            break;
        }
        end += zeros > 0 ? zeros : 1;
    }
    run.kept = (uint32_t)(end - at);
    return run;
}

void squeeze(const uint8_t *bytes, size_t size, uint8_t **ret_squeezed,
             size_t *ret_size) {
    // At the worst every ZEROS_MIN zeros are alone between two bytes, and a
    // run's head is shorter than they are: it never grows by more than one
    // head.
    uint8_t *squeezed = malloc(size + sizeof(run_t));
    size_t used = 0;
    if (squeezed == NULL) {
        abort();
    }
    for (size_t at = 0; at < size;) {
        run_t run = next_run(bytes, at, size);
        memcpy(squeezed + used, &run, sizeof run);
        used += sizeof run;
        memcpy(squeezed + used, bytes + at, run.kept);
        used += run.kept;
        at += (size_t)run.kept + run.zeros;
    }
    *ret_squeezed = squeezed;
    *ret_size = used;
}

bool squeeze_undo(const uint8_t *squeezed, size_t squeezed_size, uint8_t *bytes,
                  size_t size) {
    size_t from = 0;
    size_t to = 0;
    while (from < squeezed_size) {
        run_t run;
        if (squeezed_size - from < sizeof run) {
            return false;
        }
        memcpy(&run, squeezed + from, sizeof run);
        from += sizeof run;
        if (run.kept > squeezed_size - from || run.kept > size - to ||
            run.zeros > size - to - run.kept) {
            return false;
        }
        memcpy(bytes + to, squeezed + from, run.kept);
        memset(bytes + to + run.kept, 0, run.zeros);
        from += run.kept;
        to += (size_t)run.kept + run.zeros;
    }
    return to == size;
}
