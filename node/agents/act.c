// SPDX-License-Identifier: MIT
//
// The table of all agents, and the one place that picks a function from it.

#include "node/agents/act.h"

#include <stdio.h>
#include <string.h>

#include "proto/text.h"

static const agent_t *const agents[] = {
    &agent_image,
    &agent_filesystem,
    &agent_address,
    &agent_service,
};

const agent_t *agent_find(const fleet_resource_t *resource) {
    for (size_t i = 0; i < sizeof(agents) / sizeof(agents[0]); i++) {
        const agent_t *agent = agents[i];
        if (agent->kind != resource->kind) {
            continue;
        }
        if (!agent->driver ||
            strcmp(agent->driver, resource->disk_group.driver) == 0) {
            return agent;
        }
    }
    return NULL;
}

const char *act_word(node_act_t act) {
    switch (act) {
    case NODE_ACT_PREPARE:
        return "prepare";
    case NODE_ACT_UNPREPARE:
        return "unprepare";
    case NODE_ACT_START:
        return "start";
    case NODE_ACT_STOP:
        return "stop";
    case NODE_ACT_PROBE:
        return "probe";
    case NODE_ACT_EVICT:
        return "evict";
    case NODE_ACT_LOOK:
        return "look";
    case NODE_ACT_SILENCE:
        return "silence";
    case NODE_ACT_SPEAK:
        return "speak";
    case NODE_ACT_RENEW:
        return "renew";
    }
    return "?";
}

typedef void agent_function_t(const agent_ctx_t *ctx, agent_result_t *result);

static agent_function_t *function_of(const agent_t *agent, node_act_t act) {
    switch (act) {
    case NODE_ACT_PREPARE:
        return agent->prepare;
    case NODE_ACT_UNPREPARE:
        return agent->unprepare;
    case NODE_ACT_START:
        return agent->start;
    case NODE_ACT_STOP:
        return agent->stop;
    case NODE_ACT_PROBE:
        return agent->probe;
    case NODE_ACT_EVICT:
        return agent->evict;
    case NODE_ACT_LOOK:
        return agent->look;
    case NODE_ACT_SILENCE:
        return agent->silence;
    case NODE_ACT_SPEAK:
        return agent->speak;
    case NODE_ACT_RENEW:
        return agent->renew;
    }
    return NULL;
}

static void call_one(node_act_t act, const agent_ctx_t *ctx,
                     agent_result_t *result) {
    const agent_t *agent = agent_find(ctx->resource);
    if (!agent) {
        agent_fail(result, FLEET_NOT_READY,
                   "this node has no agent for the driver \"%s\" of %s",
                   ctx->resource->disk_group.driver, ctx->resource->name);
        return;
    }
    agent_function_t *function = function_of(agent, act);
    if (function) {
        function(ctx, result);
    } else if (act == NODE_ACT_LOOK) {
        result->visible = true;
    } else if (act == NODE_ACT_EVICT) {
        agent_fail(result, FLEET_CANNOT_EVICT,
                   "nothing of %s can be blocked from here",
                   ctx->resource->name);
    }
}

static void add_problem(agent_result_t *all, const agent_ctx_t *ctx,
                        const fleet_reason_t *problem) {
    if (all->problems_n == FLEET_REASONS_MAX) {
        return; // sixteen reasons are enough to be not ready
    }
    fleet_reason_t *added = &all->problems[all->problems_n++];
    *added = *problem;
    if (added->set[0] == '\0') {
        FLEET_COPY(added->set, ctx->setdef->set);
    }
    if (added->node[0] == '\0') {
        FLEET_COPY(added->node, ctx->node);
    }
    if (added->resource[0] == '\0') {
        FLEET_COPY(added->resource, ctx->resource->name);
    }
}

// The readiness of a set is what its resources say, one after the other.  Only
// a disk group knows a lock; the others leave those fields alone.
static void look_whole(const agent_ctx_t *set_ctx, agent_result_t *all) {
    all->visible = true;
    for (uint32_t i = 0; i < set_ctx->setdef->resources_n; i++) {
        agent_ctx_t ctx = *set_ctx;
        ctx.resource = &set_ctx->setdef->resources[i];
        agent_result_t one = {.err = FLEET_OK};
        call_one(NODE_ACT_LOOK, &ctx, &one);
        for (uint32_t k = 0; k < one.problems_n; k++) {
            add_problem(all, &ctx, &one.problems[k]);
        }
        if (one.err != FLEET_OK) {
            fleet_reason_t reason;
            fleet_reason_make(&reason, one.err, "%s", one.text);
            add_problem(all, &ctx, &reason);
        }
        if (ctx.resource->kind == FLEET_RESOURCE_DISK_GROUP) {
            all->visible = all->visible && one.visible;
            all->can_evict = one.can_evict;
            FLEET_COPY(all->lock_owner, one.lock_owner);
            all->lock_token = one.lock_token;
        }
    }
}

void act_call(node_act_t act, const agent_ctx_t *ctx, agent_result_t *result) {
    if (ctx->resource) {
        call_one(act, ctx, result);
    } else if (act == NODE_ACT_LOOK) {
        look_whole(ctx, result);
    } else {
        agent_fail(result, FLEET_BUG, "%s is no act of a whole set",
                   act_word(act));
    }
}
