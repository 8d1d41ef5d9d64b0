// SPDX-License-Identifier: MIT
//
// Whole reads and writes on a descriptor, which read(2) and write(2) do in
// pieces.

#ifndef FLEET_FD_H
#define FLEET_FD_H

#include <stdbool.h>
#include <stddef.h>

// Reads until the end of the file or until `size` bytes are there, across
// signals. ret_used is how many; less than size means that the file ended.
// False with errno if it failed.
bool fleet_fd_read(int fd, void *buffer, size_t size, size_t *ret_used);

// Writes all of it, across signals.  False with errno if it failed; a part may
// have been written then.
bool fleet_fd_write(int fd, const void *bytes, size_t size);

#endif
