// SPDX-License-Identifier: MIT
//
// Whole reads and writes.

#include "proto/fd.h"

#include <errno.h>
#include <unistd.h>

bool fleet_fd_read(int fd, void *buffer, size_t size, size_t *ret_used) {
    size_t used = 0;
    while (used < size) {
        ssize_t got = read(fd, (char *)buffer + used, size - used);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return false;
        }
        if (got == 0) {
            break;
        }
        used += (size_t)got;
    }
    *ret_used = used;
    return true;
}

bool fleet_fd_write(int fd, const void *bytes, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t written = write(fd, (const char *)bytes + done, size - done);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        done += (size_t)written;
    }
    return true;
}
