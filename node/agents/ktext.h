// SPDX-License-Identifier: MIT
//
// Reading what the kernel says as text, in /proc and /sys: a small file as a
// whole, then piece by piece from the left.

#ifndef FLEET_NODE_KTEXT_H
#define FLEET_NODE_KTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The beginning of a file, relative to the directory `dir` (AT_FDCWD: as open),
// as far as it fits, without a newline at its end.  False if it cannot be read.
bool ktext_read(int dir, const char *path, char *text, size_t size);

// The id of the mount that an open file, also one of O_PATH, is on.  Asks the
// file system nothing, and so works where it answers no more.
bool ktext_mount_id(int fd, uint64_t *ret_id);

// Each takes one piece and moves *at behind it; false, and *at as it was, if
// something else stands there.

// A number without sign, after any blanks; base 10 or 16.
bool ktext_number(const char **at, int base, uint64_t *ret_number);

// This very word; no blanks are skipped.
bool ktext_word(const char **at, const char *word);

// `n` pieces between blanks, whatever they are.
bool ktext_skip(const char **at, unsigned n);

#endif
