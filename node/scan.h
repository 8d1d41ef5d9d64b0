// SPDX-License-Identifier: MIT
//
// Reading back the small texts that this node wrote itself: words and numbers,
// one after the other.  Each function skips white space, moves *at behind what
// it took on success and leaves it alone on failure.

#ifndef FLEET_NODE_SCAN_H
#define FLEET_NODE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Exactly that word.
bool scan_word(const char **at, const char *word);

// Any word that fits into size bytes with its NUL.
bool scan_text(const char **at, char *ret_text, size_t size);

// Decimal digits below 2^64.
bool scan_u64(const char **at, uint64_t *ret_number);

// Nothing but white space is left.
bool scan_end(const char *at);

#endif
