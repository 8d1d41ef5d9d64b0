// SPDX-License-Identifier: MIT
//
// See detach.h.

#include "node/agents/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
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
    pid_t child = fork();
    if (child < 0) {
        *ret_err = errno;
        return false;
    }
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild != 0) {
            _exit(grandchild < 0 ? 1 : 0);
        }
        let_go();
        return true;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            *ret_err = errno;
            return false;
        }
    }
    *ret_err = status == 0 ? 0 : EAGAIN;
    return false;
}
