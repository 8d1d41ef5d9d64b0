// SPDX-License-Identifier: MIT
//
// See detach.h.

#include "node/agents/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void let_go(void) {
    (void)setsid();
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        for (int fd = 0; fd < 3; fd++) {
            (void)dup2(null, fd);
        }
    }
    // Everything from 3 on, whatever it is.
    (void)close_range(3, ~0U, 0);
}

bool detach(int *ret_err) {
    // Not the usual two forks: waiting for the first child to end would cost
    // the caller a turn at the processor, some 20 ms on a busy machine.
    pid_t child = fork();
    if (child == 0) {
        let_go();
        return true;
    }
    *ret_err = child < 0 ? errno : 0;
    return false;
}
