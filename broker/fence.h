// SPDX-License-Identifier: MIT
//
// Fence commands: child processes with a time limit, run beside the loop and
// never waited for in it.  A command is split into words here and given to no
// shell. What a success means is the core's to say.

#ifndef FLEET_BROKER_FENCE_H
#define FLEET_BROKER_FENCE_H

#include <poll.h>

#include "proto/messages.h"

#define FENCE_RUNNING_MAX 64
#define FENCE_POLLS_MAX (2 * FENCE_RUNNING_MAX)
#define FENCE_WORDS_MAX 32

typedef struct fence fence_t;

fence_t *fence_new(void);
// Kills what still runs.
void fence_destroy(fence_t **fence_p);

// Splits a command into words: blanks separate, '...' and "..." keep together,
// a backslash takes the next character as it is (not within '...').  words
// point into `room`.  False if a quote is open at the end, or there is no word
// or too many.
bool fence_split(const char *command, fleet_text_t room,
                 char *words[FENCE_WORDS_MAX + 1]);

// Begins to fence a node.  A command that cannot be started ends at once like
// one that failed: fence_ended tells of every one.
void fence_start(fence_t *fence, const char *node, const char *command,
                 uint64_t limit_ms, uint64_t now_ms);

// What to poll for reading, at most FENCE_POLLS_MAX; returns how many.
uint32_t fence_polls(const fence_t *fence, struct pollfd *polls);

// Milliseconds until the next limit runs out; UINT64_MAX: none.
uint64_t fence_deadline(const fence_t *fence, uint64_t now_ms);

// Reads what was said, kills what is over its limit, and takes one that has
// ended; false if none has.  ret_text is the last 256 bytes that it said, or
// why it did not end well.
bool fence_ended(fence_t *fence, uint64_t now_ms, fleet_name_t ret_node,
                 bool *ret_ok, fleet_text_t ret_text);

#endif
