// SPDX-License-Identifier: MIT
//
// How an act runs: in a child of a helper process ("fleet-node: runner"), so
// that nothing that an agent waits for ever blocks the loop, and so that fork
// never happens in a process with threads.  The helper is single-threaded,
// small (fork is quick) and adopts what the children leave behind.
//
// The runner knows no set and no rule: jobs go in, lines and results come out.

#ifndef FLEET_NODE_RUNNER_H
#define FLEET_NODE_RUNNER_H

#include <sys/types.h>

#include "node/agents/agent.h"

// An act with all that it is about, as one value.  ctx.setdef, ctx.resource and
// ctx.progress are filled in where it runs.
typedef struct runner_job {
    uint64_t job; // from the effect; unique
    node_act_t act;
    uint32_t resource; // index into setdef.resources, or NODE_WHOLE_SET
    uint64_t limit_ms; // from when it begins; then SIGKILL
    agent_ctx_t ctx;
    fleet_setdef_t setdef;
} runner_job_t;

typedef enum runner_event_kind {
    RUNNER_NONE, // nothing waits
    RUNNER_SAID, // the act said `line`
    RUNNER_DONE, // it ended: `result`, after `us`
    RUNNER_LOST  // the helper is gone, and every act with it
} runner_event_kind_t;

typedef struct runner_event {
    runner_event_kind_t kind;
    uint64_t job;
    uint64_t us; // since it began
    fleet_text_t line;
    agent_result_t result;
} runner_event_t;

typedef struct runner runner_t;

// What a job's child calls; may block.  act_call in the daemon, a fake in
// tests.
typedef void runner_call_t(node_act_t act, const agent_ctx_t *ctx,
                           agent_result_t *result);

// Forks the helper.  To be called before this process has any thread, and
// before it opens anything that the helper and its children should not have.
//
// lock_path: a file that the helper and all its children hold locked, so that
// the acts of an agent that was killed are over before those of the next one
// begin; it is waited for at most wait_ms, and then ret_why says who is still
// there although the runner starts (an act that cannot be killed must not keep
// the node down). NULL: none.
//
// NULL, with ret_why, if it cannot be made.  The caller destroys it.
runner_t *runner_new(runner_call_t *call, const char *lock_path,
                     uint64_t wait_ms, fleet_text_t ret_why);

// Ends the helper and every act that still runs.  What services were started
// goes on: they are in groups of their own.
void runner_destroy(runner_t **runner_p);

// Never blocks; what the helper cannot take yet waits here.
void runner_submit(runner_t *runner, const runner_job_t *job);

// An event of a job that was not submitted, because it cannot be done: it comes
// back from runner_recv in its turn, so that the caller has one way for all
// results.
void runner_return(runner_t *runner, const runner_event_t *event);

// SIGKILL to the act and all that it started; its result (NO_ANSWER) still
// comes. A job that has not begun yet ends the same way.
void runner_abandon(runner_t *runner, uint64_t job);

// For poll: the descriptor, and the events to wait for.  A returned event makes
// nothing readable: before waiting, take events until RUNNER_NONE.
int runner_fd(const runner_t *runner);
short runner_events(const runner_t *runner);

// Sends what waits, then takes one event.  Call it until RUNNER_NONE.
runner_event_kind_t runner_recv(runner_t *runner, runner_event_t *ret_event);

// Process id of the helper; for tests and the log.
pid_t runner_pid(const runner_t *runner);

#endif
