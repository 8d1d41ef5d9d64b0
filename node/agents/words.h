// SPDX-License-Identifier: MIT
//
// Output of programs made fit for a message: valid UTF-8, no control characters
// but newlines, no half character at its beginning, no blank ends.

#ifndef FLEET_NODE_WORDS_H
#define FLEET_NODE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/messages.h"

// `cut` says that something stood before `bytes`: then everything up to its
// first newline is dropped, if there is one, so that the words begin with a
// whole line. At most FLEET_WORDS_MAX bytes are taken, the last ones.
void words_clean(const char *bytes, size_t size, bool cut,
                 fleet_words_t ret_words);

#endif
