// SPDX-License-Identifier: MIT
//
// Eviction from an image (rules P9 and P10): a new token on the lock, and no
// loop device of this kernel that an older holder could still write through.
//
// It blocks loop devices.  A process that writes the file itself, beside fleet,
// is not seen; nor is another kernel that has the file on a shared file system,
// and then the answer says so.

#ifndef FLEET_NODE_EVICT_H
#define FLEET_NODE_EVICT_H

#include "node/agents/agent.h"

// result->stamped: read back, the lock names nobody and refuses every token
// below ctx->token.  result->blocked: read back, no device of an older holder
// can write. Repeating it is right; coming late, when a later owner has the
// lock, is refused with LOCK_FOREIGN and touches no device of that owner's.
void evict_image(const agent_ctx_t *ctx, agent_result_t *result);

#endif
