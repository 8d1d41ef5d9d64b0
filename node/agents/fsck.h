// SPDX-License-Identifier: MIT
//
// The check of a file system before it is mounted, by the policy of its
// definition. It is never silent: what was done, or why nothing was, is always
// said.

#ifndef FLEET_NODE_FSCK_H
#define FLEET_NODE_FSCK_H

#include "node/agents/agent.h"

// Checks, and repairs what the policy allows.  ret_note says what was done:
// "clean", "journal replayed", "checked" ...  False if the file system must not
// be mounted; then the result has why, and the checker's own words.
bool fsck_run(const agent_ctx_t *ctx, const char *device, uint64_t limit_ms,
              fleet_text_t ret_note, agent_result_t *result);

// The checker that this policy needs for the type; NULL if it needs none.
const char *fsck_helper(const fleet_filesystem_t *filesystem);

#endif
