// SPDX-License-Identifier: MIT
//
// Between two looks at a condition that a test waits for, with its deadline.

#ifndef FLEET_TEST_MOMENT_H
#define FLEET_TEST_MOMENT_H

#include <poll.h>
#include <stddef.h>

static inline void moment(void) {
    (void)poll(NULL, 0, 10);
}

#endif
