// SPDX-License-Identifier: MIT
//
// The core's effects, one after the other.  What must be durable is durable
// before the next effect is looked at; if it cannot be, none is, and the node
// ends: what it did not write down it has not promised.

#include <inttypes.h>
#include <string.h>

#include "node/log.h"
#include "node/loop_state.h"
#include "proto/text.h"

void loop_fail(loop_t *loop, const char *what, const char *why) {
    log_error("node: %s: %s -> ends, to be started again", what, why);
    loop->over = true;
    loop->status = 1;
}

static uint64_t now_ms(void) {
    ticker_clocks_t now = ticker_now();
    return now.boot_us / 1000;
}

static const fleet_setdef_t *find_setdef(const loop_t *loop,
                                         const node_effect_t *effect) {
    const fleet_setdef_t *setdef =
        defs_find(loop->defs, effect->set, effect->rev);
    if (!setdef && loop->setdef &&
        strcmp(loop->setdef->set, effect->set) == 0) {
        setdef = loop->setdef; // came with this very message
    }
    return setdef ? setdef : defs_find(loop->defs, effect->set, 0);
}

static void send_step(loop_t *loop, const job_t *job,
                      const runner_event_t *event) {
    if (jobs_step(job, loop->config.config.node, event, &loop->message)) {
        (void)uplink_send(loop->uplink, &loop->message); // only progress
        asks_step(loop->asks, &loop->message);
    }
}

static void fill_job(loop_t *loop, const node_effect_t *effect,
                     const fleet_setdef_t *setdef) {
    runner_job_t *job = &loop->job;
    *job = (runner_job_t){.job = effect->job,
                          .act = effect->act,
                          .resource = effect->resource,
                          .limit_ms = effect->limit_ms,
                          .setdef = *setdef};
    agent_ctx_t *ctx = &job->ctx;
    FLEET_COPY(ctx->node, loop->config.config.node);
    FLEET_COPY(ctx->kernel_id, loop->inventory.kernel_id);
    ctx->token = effect->token;
    ctx->from_token = effect->from_token;
    FLEET_COPY(ctx->victim, effect->victim);
    ctx->victim_token = effect->victim_token;
    ctx->lease_ms = effect->lease_ms;
    FLEET_COPY(ctx->run, loop->config.config.run);
    FLEET_COPY(ctx->state, loop->config.config.state);
    FLEET_COPY(ctx->cgroup, loop->cgroup);
    FLEET_COPY(ctx->parent, loop->slots.parent);
    ctx->interfaces_n = loop->slots.interfaces_n;
    memcpy(ctx->interfaces, loop->slots.interfaces, sizeof(ctx->interfaces));
    FLEET_COPY(ctx->private_interface, loop->slots.private_interface);
}

static void do_act(loop_t *loop, const node_effect_t *effect) {
    const fleet_setdef_t *setdef = find_setdef(loop, effect);
    const job_t *job = jobs_add(loop->jobs, effect, setdef);
    if (!setdef) {
        runner_event_t *event = &loop->undone;
        *event = (runner_event_t){.kind = RUNNER_DONE, .job = effect->job};
        event->result.err = FLEET_NOT_READY;
        FLEET_FORMAT(event->result.text,
                     "the definition of %s, revision %" PRIu64 ", is not here",
                     effect->set, effect->rev);
        runner_return(loop->runner, event);
        return;
    }
    fill_job(loop, effect, setdef);
    runner_submit(loop->runner, &loop->job);
    send_step(loop, job, NULL);
}

static void do_record(loop_t *loop, const node_effect_t *effect) {
    fleet_text_t why;
    if (record_write(loop->records, &effect->record, effect->rev, why) !=
        FLEET_OK) {
        loop_fail(loop, "a record is not durable", why);
        return;
    }
    bool closed = effect->record.phase == fleet_phase_CLOSED;
    defs_pin(loop->defs, effect->record.set, closed ? 0 : effect->rev);
    if (closed) {
        record_deadline_write(loop->records, effect->record.set, 0, 0);
    }
    loop->status_changed = true;
}

static void do_keep(loop_t *loop, const node_effect_t *effect) {
    fleet_text_t why;
    if (!loop->yaml || !loop->setdef) {
        log_warning("%s: the core keeps a definition that did not come",
                    effect->set);
        return;
    }
    if (defs_keep(loop->defs, effect->set, effect->rev, loop->yaml,
                  loop->yaml_size, loop->setdef, why) != FLEET_OK) {
        loop_fail(loop, "a definition is not durable", why);
    }
}

static void do_forget(loop_t *loop, const node_effect_t *effect) {
    fleet_text_t why;
    if (record_forget(loop->records, effect->set, why) != FLEET_OK) {
        loop_fail(loop, "a record cannot be removed", why);
        return;
    }
    defs_forget(loop->defs, effect->set);
    loop->status_changed = true;
}

static void do_term(loop_t *loop, const node_effect_t *effect) {
    fleet_text_t why;
    if (record_term_write(loop->records, effect->term, why) != FLEET_OK) {
        loop_fail(loop, "the term is not durable", why);
    }
}

static void do_send(loop_t *loop, node_effect_t *effect) {
    if (effect->message.type == FLEET_MESSAGE_heartbeat) {
        effect->message.heartbeat.load_milli = inventory_load_milli();
    }
    // What is lost with the connection is asked for again (P11).
    (void)uplink_send(loop->uplink, &effect->message);
}

static void do_effect(loop_t *loop, node_effect_t *effect) {
    switch (effect->kind) {
    case NODE_OUT_RECORD:
        do_record(loop, effect);
        break;
    case NODE_OUT_FORGET:
        do_forget(loop, effect);
        break;
    case NODE_OUT_TERM:
        do_term(loop, effect);
        break;
    case NODE_OUT_DEADLINE:
        record_deadline_write(loop->records, effect->set, now_ms(),
                              effect->lease_ms);
        break;
    case NODE_OUT_KEEP:
        do_keep(loop, effect);
        break;
    case NODE_OUT_SEND:
        do_send(loop, effect);
        break;
    case NODE_OUT_ACT:
        do_act(loop, effect);
        break;
    case NODE_OUT_ABANDON:
        runner_abandon(loop->runner, effect->job);
        break;
    case NODE_OUT_NOTE:
        log_info("%s", effect->text);
        break;
    case NODE_OUT_LEFT:
        loop->left = true;
        break;
    }
}

// What is left of a lease was so when the core was asked; a write that came
// before may have taken any time since.  0 is not what becomes of it: to an
// agent that would be no lease at all.
static void shorten(node_effect_t *effect, uint64_t asked_ms) {
    uint64_t late_ms = now_ms() - asked_ms;
    if (effect->lease_ms > 0) {
        effect->lease_ms =
            effect->lease_ms > late_ms ? effect->lease_ms - late_ms : 1;
    }
}

void loop_step(loop_t *loop, node_input_t *input) {
    if (loop->over) {
        return;
    }
    ticker_clocks_t now = ticker_now();
    uint64_t elapsed_ms = ticker_elapsed_ms(&loop->ticker, &now);
    // A hole that only the wall clock saw is longer than what has elapsed.
    input->elapsed_ms =
        elapsed_ms > input->elapsed_ms ? elapsed_ms : input->elapsed_ms;
    node_core_step(loop->core, input, loop->effects);
    for (uint32_t i = 0; i < loop->effects->n && !loop->over; i++) {
        shorten(&loop->effects->items[i], now.boot_us / 1000);
        do_effect(loop, &loop->effects->items[i]);
    }
}

void loop_job_said(loop_t *loop, const runner_event_t *event) {
    const job_t *job = jobs_find(loop->jobs, event->job);
    if (job) {
        send_step(loop, job, event);
    }
}

void loop_job_done(loop_t *loop, const runner_event_t *event) {
    const job_t *job = jobs_find(loop->jobs, event->job);
    if (!job) {
        return; // it was given up with the helper
    }
    jobs_input(job, event, &loop->input);
    send_step(loop, job, event);
    jobs_remove(loop->jobs, event->job);
    loop_step(loop, &loop->input);
}
