// SPDX-License-Identifier: MIT
//
// What goes over the socket between the two halves of the runner, and where the
// helper's half begins.  Both are the same program, so plain structs do.

#ifndef FLEET_NODE_RUNNER_WIRE_H
#define FLEET_NODE_RUNNER_WIRE_H

#include "node/runner.h"

typedef enum runner_order_kind {
    RUNNER_ORDER_RUN = 1,
    RUNNER_ORDER_ABANDON
} runner_order_kind_t;

// An ABANDON is sent without its last member.
typedef struct runner_order {
    runner_order_kind_t kind;
    uint64_t job;
    runner_job_t run;
} runner_order_t;

#define RUNNER_ORDER_SHORT offsetof(runner_order_t, run)

// The helper; returns when the socket's other end is closed or a signal asks.
// Nothing that it started still runs then, as far as it can be killed.
void runner_helper(int socket, runner_call_t *call);

#endif
