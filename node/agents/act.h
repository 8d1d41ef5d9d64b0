// SPDX-License-Identifier: MIT
//
// One act, carried out: which agent, which of its functions, and for a whole
// set the answers of all its agents made into one.  Called in a child of the
// runner.

#ifndef FLEET_NODE_ACT_H
#define FLEET_NODE_ACT_H

#include "node/agents/agent.h"

// Does `act` with ctx->resource, or with the whole set where that is NULL (LOOK
// only).  May block.  `result` is zeroed by the caller.
void act_call(node_act_t act, const agent_ctx_t *ctx, agent_result_t *result);

// "prepare" "start" ...: for messages to people.
const char *act_word(node_act_t act);

#endif
