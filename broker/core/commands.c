// SPDX-License-Identifier: MIT
//
// What stands to be sent: a function of the state (P11), asked after each
// decision, at each hello, and every resend_ms while it stands.  Every command
// is idempotent by (set, token, phase) and carries the session that it is sent
// in (P2).

#include "broker/core/state.h"

static void send_prepare(step_t *step, uint32_t set) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    uint32_t node = s->transfer.to;
    fleet_prepare_t *prepare = TO_NODE(step, node, prepare);
    prepare->term = durable_of(core)->term;
    prepare->session = node_soft_of(core, node)->session;
    FLEET_COPY(prepare->set, s->name);
    prepare->transfer = s->transfer.id;
    prepare->rev = s->rev;
}

static void send_acquire(step_t *step, uint32_t set) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    fleet_acquire_t *acquire = TO_NODE(step, s->holder, acquire);
    acquire->term = durable_of(core)->term;
    acquire->session = node_soft_of(core, s->holder)->session;
    FLEET_COPY(acquire->set, s->name);
    acquire->token = s->holder_token;
    acquire->transfer = s->transfer.id;
    acquire->rev = s->rev;
    acquire->in_place = s->transfer.grant_in_place;
    acquire->from_token = acquire->in_place ? s->transfer.from_token : 0;
}

void release_send(step_t *step, uint32_t set, uint32_t node, uint64_t token,
                  uint64_t transfer, bool silence_first) {
    const broker_core_t *core = step->core;
    fleet_release_t *release = TO_NODE(step, node, release);
    release->term = durable_of(core)->term;
    release->session = node_soft_of(core, node)->session;
    FLEET_COPY(release->set, set_of(core, set)->name);
    release->token = token;
    release->transfer = transfer;
    release->silence_first = silence_first;
}

static void send_evict(step_t *step, uint32_t set) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    fleet_evict_t *evict = TO_NODE(step, t->executor, evict);
    evict->term = durable_of(core)->term;
    evict->session = node_soft_of(core, t->executor)->session;
    FLEET_COPY(evict->set, s->name);
    evict->token = t->token;
    evict->transfer = t->id;
    FLEET_COPY(evict->victim, node_name(core, t->from));
    evict->victim_token = victim_token(core, set);
}

static void send_restart(step_t *step, uint32_t set) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    fleet_restart_t *restart = TO_NODE(step, s->holder, restart);
    restart->term = durable_of(core)->term;
    restart->session = node_soft_of(core, s->holder)->session;
    FLEET_COPY(restart->set, s->name);
    restart->token = s->holder_token;
    restart->transfer = s->transfer.id;
    FLEET_COPY(restart->resource, s->transfer.resource);
}

// The node is asked, or anybody is, and it can be reached.
static bool due(const broker_core_t *core, uint32_t asked, uint32_t node) {
    return node != NOBODY && (asked == NOBODY || asked == node) &&
           node_online(core, node);
}

static bool send_ungranted(step_t *step, uint32_t set, uint32_t asked) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    bool prepared = set_soft_of(core, set)->prepared;
    bool sent = false;
    switch (t->kind) {
    case fleet_kind_MOVE:
        if (!prepared && !t->cancelled && !t->released) {
            sent = due(core, asked, t->to);
            if (sent) {
                send_prepare(step, set);
            }
            break;
        }
        sent = due(core, asked, s->holder);
        if (sent) {
            release_send(step, set, s->holder, s->holder_token, t->id, false);
        }
        break;
    case fleet_kind_START:
        sent = !prepared && due(core, asked, t->to);
        if (sent) {
            send_prepare(step, set);
        }
        break;
    case fleet_kind_STOP:
        sent = due(core, asked, s->holder);
        if (sent) {
            release_send(step, set, s->holder, s->holder_token, t->id, false);
        }
        break;
    case fleet_kind_RESTART:
        sent = due(core, asked, s->holder);
        if (sent) {
            send_restart(step, set);
        }
        break;
    case fleet_kind_FORCED:
    case fleet_kind_TAKEOVER:
    case fleet_kind_UNLOCK:
        if (due(core, asked, t->executor)) {
            send_evict(step, set);
            sent = true;
        }
        // A victim that is heard is told; if it closes, that will do.
        if (due(core, asked, s->holder)) {
            release_send(step, set, s->holder, s->holder_token, t->id, true);
            sent = true;
        }
        break;
    case fleet_kind_BOOT:
    case fleet_kind_NONE:
        break;
    }
    return sent;
}

void commands_send(step_t *step, uint32_t set, uint32_t node) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    bool sent = false;
    if (t->id != 0 && t->granted) {
        if (due(core, node, s->holder)) {
            send_acquire(step, set);
            sent = true;
        }
    } else if (t->id != 0) {
        sent = send_ungranted(step, set, node);
    } else if (set_soft_of(core, set)->recall && due(core, node, s->holder)) {
        release_send(step, set, s->holder, s->holder_token, 0, true);
        sent = true;
    }
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (due(core, node, s->debts[i].node)) {
            release_send(step, set, s->debts[i].node, s->debts[i].token, 0,
                         true);
            sent = true;
        }
    }
    uint32_t *resend = &u32s_of(core, core->resend_at)[set];
    uint32_t again_ms = (uint32_t)core->config.resend_ms;
    if (sent && *resend > again_ms) {
        *resend = again_ms;
    }
}
