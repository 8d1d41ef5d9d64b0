// SPDX-License-Identifier: MIT
//
// Waiting for what the kernel does in its own time: a file lock, a device that
// goes away, a process that dies.  Every wait of an agent has an end that is
// known when it begins.

#ifndef FLEET_NODE_PATIENCE_H
#define FLEET_NODE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

// An instant of CLOCK_BOOTTIME in microseconds, and how long the next nap is.
typedef struct patience {
    uint64_t end_us;
    uint64_t nap_us;
} patience_t;

uint64_t patience_now_us(void);

// A wait that ends in ms.
patience_t patience_of_ms(uint64_t ms);

// A wait that ends a tenth before an act's limit, at which the runner kills: so
// that there is time to say who held what.
patience_t patience_of_limit(uint64_t limit_ms);

// Milliseconds until the end, rounded up; 0 when it has come.
uint64_t patience_left_ms(const patience_t *patience);

// Naps, each time somewhat longer (0.2 ms to 20 ms), never past the end. False,
// at once, when the end has come.
bool patience_nap(patience_t *patience);

#endif
