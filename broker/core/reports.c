// SPDX-License-Identifier: MIT
//
// What nodes answer to commands, and what they report of sets.  An answer
// counts by its (set, token): one of an older token, or of a set that went on,
// means nothing.

#include "broker/core/state.h"

typedef unsigned long long number_t; // for %llu

// ---------------------------------------------------------------------- closed

static bool pay_debt(step_t *step, uint32_t set, uint32_t node,
                     uint64_t token) {
    const broker_set_t *s = set_of(step->core, set);
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (s->debts[i].node == node && s->debts[i].token <= token) {
            uint64_t owed = s->debts[i].token;
            fleet_debt_paid_t *event = NEW_EVENT(step, debt_paid);
            head_set(step, &event->head, set, node, owed);
            event->head.transfer = 0;
            FLEET_COPY(event->head.by, "broker");
            step_commit(step);
            step_note(step, "%s has dropped %s under %llu -> debt paid",
                      node_name(step->core, node), s->name, (number_t)owed);
            return true;
        }
    }
    return false;
}

// The grantee closed its grant by itself: a lapse undid it, or it booted.
static void grantee_closed(step_t *step, uint32_t set, const char *why) {
    static const fleet_acquire_failed_t nothing;
    fleet_acquire_failed_t failed = nothing;
    FLEET_FORMAT(failed.text, "%s closed it before it ran: %s",
                 node_name(step->core, set_of(step->core, set)->holder), why);
    transfer_failed(step, set, true, &failed);
}

void report_closed(step_t *step, uint32_t set, uint32_t node, uint64_t token,
                   const char *why, bool rebooted) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (s->holder != node) {
        (void)pay_debt(step, set, node, token);
        return;
    }
    if (token < s->holder_token) {
        return;
    }
    set_soft_of(core, set)->recall = false;
    if (t->id != 0 && t->granted) {
        grantee_closed(step, set, why);
        return;
    }
    fleet_evidence_t evidence =
        rebooted ? fleet_evidence_REBOOTED : fleet_evidence_RELEASED;
    fleet_text_t proof;
    FLEET_FORMAT(proof, "closed %llu: %s", (number_t)token, why);
    const char *by_itself = t->id != 0 ? NULL : why;
    if (t->id == 0 && s->stuck && strcmp(why, "release") == 0) {
        by_itself = "late release";
    }
    transfer_released(step, set, node, s->holder_token, evidence, proof,
                      by_itself);
    if (t->id != 0) {
        transfer_advance(step, set);
    } else if (strcmp(why, "boot") == 0 && *greet_of(core, node) == NEVER) {
        boot_rule(step, set, node);
    }
}

// -------------------------------------------------------------------- acquired

void report_acquired(step_t *step, uint32_t set, uint32_t node,
                     uint64_t token) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    bool waited = t->id != 0 && t->granted;
    // P7: once a release may be on its way, a late `acquired` means nothing.
    bool late = t->id == 0 && s->stuck;
    if (s->holder != node || token != s->holder_token || token != s->token ||
        s->up || !(waited || late)) {
        return;
    }
    if (s->stuck) {
        fleet_set_unstuck_t *event = NEW_EVENT(step, set_unstuck);
        head_set(step, &event->head, set, node, s->holder_token);
        step_commit(step);
    }
    fleet_set_acquired_t *event = NEW_EVENT(step, set_acquired);
    head_set(step, &event->head, set, node, s->holder_token);
    event->late = late;
    step_commit(step);
    set_soft_of(core, set)->recall = false;
    step_note(step, "%s runs %s under %llu -> acquired%s",
              node_name(core, node), s->name, (number_t)token,
              late ? ", late" : "");
    if (waited) {
        transfer_end(
            step, set,
            t->returning ? fleet_outcome_RETURNED : fleet_outcome_MOVED, true);
    }
}

static void acquired(step_t *step, uint32_t node,
                     const fleet_acquired_t *answer) {
    uint32_t set = find_set(step->core, answer->set);
    if (set != NOBODY) {
        report_acquired(step, set, node, answer->token);
    }
}

// It ran.  A node that lost its memory starts again what it finds (P16), and
// now could not.
static void failed_again(step_t *step, uint32_t set, uint32_t node,
                         const fleet_acquire_failed_t *answer) {
    const broker_set_t *s = set_of(step->core, set);
    if (answer->undone) {
        report_closed(step, set, node, answer->token, "start failed", false);
    } else if (s->transfer.id == 0 && !s->stuck) {
        transfer_stuck(step, set,
                       answer->code[0] != '\0' ? answer->code : "start-failed",
                       answer->resource, answer->text);
    }
}

static void acquire_failed(step_t *step, uint32_t node,
                           const fleet_acquire_failed_t *answer) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, answer->set);
    if (set == NOBODY) {
        return;
    }
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    bool waited = t->id != 0 && t->granted;
    if (s->holder != node || answer->token != s->holder_token) {
        return;
    }
    if (s->up || (t->id != 0 && !waited)) {
        failed_again(step, set, node, answer);
        return;
    }
    if (t->id == 0 && s->stuck && !answer->undone) {
        return; // it is known
    }
    transfer_failed(step, set, answer->undone, answer);
}

// ---------------------------------------------------------- prepared, released

static void prepared(step_t *step, uint32_t node,
                     const fleet_prepared_t *answer) {
    broker_core_t *core = step->core;
    uint32_t set = find_set(core, answer->set);
    if (set == NOBODY) {
        return;
    }
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    broker_set_soft_t *soft = set_soft_of(core, set);
    if (t->id == 0 || t->id != answer->transfer || t->to != node ||
        t->granted || t->released || soft->prepared) {
        return;
    }
    if (!answer->ok) {
        step_note(step, "%s cannot prepare %s: %.160s -> nothing was touched",
                  node_name(core, node), s->name, answer->text);
        fleet_reason_t why;
        fleet_reason_make(&why, FLEET_START_FAILED, "%s", answer->text);
        FLEET_COPY(why.set, s->name);
        FLEET_COPY(why.node, node_name(core, node));
        FLEET_COPY(why.resource, answer->resource);
        transfer_untouched(step, set, &why);
        return;
    }
    soft->prepared = true;
    step_note(step, "%s is prepared for %s -> %s", node_name(core, node),
              s->name, s->holder == NOBODY ? "grant" : "release");
    transfer_arm(core, set);
    transfer_advance(step, set);
}

static void release_failed(step_t *step, uint32_t node,
                           const fleet_release_failed_t *answer) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, answer->set);
    if (set == NOBODY) {
        return;
    }
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (s->holder != node || answer->token != s->holder_token) {
        return;
    }
    bool goes_back =
        (t->kind == fleet_kind_MOVE && set_soft_of(core, set)->prepared) ||
        (t->kind == fleet_kind_STOP && t->cancelled);
    if (t->id != 0 && !t->granted && goes_back) {
        fleet_text_t why;
        FLEET_FORMAT(why, "%s%s%.200s", answer->resource,
                     answer->resource[0] != '\0' ? ": " : "", answer->text);
        step_note(step, "%s cannot let go of %s: %.160s -> it goes on there",
                  node_name(core, node), s->name, answer->text);
        transfer_grant_in_place(step, set, why);
    } else if ((t->id != 0 && t->kind == fleet_kind_STOP && !t->granted) ||
               (t->id == 0 && set_soft_of(core, set)->recall)) {
        set_soft_of(core, set)->recall = false;
        transfer_stuck(step, set, "held", answer->resource, answer->text);
    }
}

static void closed(step_t *step, uint32_t node, const fleet_closed_t *answer) {
    uint32_t set = find_set(step->core, answer->set);
    if (set != NOBODY) {
        report_closed(step, set, node, answer->token, answer->why,
                      strcmp(answer->why, "boot") == 0);
    }
}

// --------------------------------------------------------------------- evicted

static void evicted(step_t *step, uint32_t node,
                    const fleet_evicted_t *answer) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, answer->set);
    if (set == NOBODY) {
        return;
    }
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (t->id == 0 || t->granted || t->released || t->executor != node ||
        answer->token != t->token) {
        return; // P10: evidence only if it carries the token
    }
    if (answer->stamped) {
        transfer_evidence(step, set, answer->blocked, answer->text);
    } else if (s->holder == NOBODY) {
        fleet_reason_t why;
        fleet_reason_make(&why, FLEET_LOCK_FOREIGN, "%s", answer->text);
        FLEET_COPY(why.set, s->name);
        FLEET_COPY(why.node, node_name(core, node));
        transfer_untouched(step, set, &why);
    } else {
        transfer_stuck(step, set, "cannot-evict", "", answer->text);
    }
}

// --------------------------------------------------------------------- restart

static void restarted(step_t *step, uint32_t node,
                      const fleet_restarted_t *answer) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, answer->set);
    if (set == NOBODY) {
        return;
    }
    const broker_set_t *s = set_of(core, set);
    if (s->transfer.id == 0 || s->transfer.id != answer->transfer ||
        s->transfer.kind != fleet_kind_RESTART || s->holder != node ||
        s->holder_token != answer->token) {
        return;
    }
    if (!answer->ok && strcmp(answer->code, "resource-unknown") == 0) {
        fleet_reason_t why;
        fleet_reason_make(&why, FLEET_RESOURCE_UNKNOWN, "%s", answer->text);
        FLEET_COPY(why.set, s->name);
        FLEET_COPY(why.resource, answer->resource);
        fleet_reason_hint(&why, "fleet show %s", s->name);
        transfer_untouched(step, set, &why);
        return;
    }
    if (!answer->ok) {
        transfer_stuck(step, set, "start-failed", answer->resource,
                       answer->text);
        return;
    }
    if (s->stuck) {
        fleet_set_unstuck_t *event = NEW_EVENT(step, set_unstuck);
        head_set(step, &event->head, set, node, s->holder_token);
        step_commit(step);
    }
    transfer_end(step, set, fleet_outcome_MOVED, true);
}

// -------------------------------------------------------- health, stale owners

static void health(step_t *step, uint32_t node, const fleet_health_t *said) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, said->set);
    if (set == NOBODY) {
        return;
    }
    const broker_set_t *s = set_of(core, set);
    if (s->holder != node || said->token != s->holder_token || !s->up) {
        return;
    }
    bool bad = false;
    for (uint32_t i = 0; i < s->bad_n; i++) {
        bad = bad || strcmp(s->bad[i], said->resource) == 0;
    }
    if (bad == !said->ok) {
        return;
    }
    if (said->ok) {
        fleet_set_recovered_t *event = NEW_EVENT(step, set_recovered);
        head_set(step, &event->head, set, node, s->holder_token);
        FLEET_COPY(event->resource, said->resource);
    } else {
        fleet_set_degraded_t *event = NEW_EVENT(step, set_degraded);
        head_set(step, &event->head, set, node, s->holder_token);
        FLEET_COPY(event->resource, said->resource);
        FLEET_COPY(event->text, said->text);
    }
    step_commit(step);
    step_note(step, "%s probed %s of %s: %.150s -> %s", node_name(core, node),
              said->resource, s->name, said->text,
              s->bad_n > 0 ? "degraded" : "running");
}

static void stale(step_t *step, uint32_t node, const fleet_stale_t *said) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, said->set);
    if (set == NOBODY) {
        return;
    }
    fleet_stale_refused_t *event = NEW_EVENT(step, stale_refused);
    head_node(step, &event->head, node, "broker", "");
    FLEET_COPY(event->head.set, said->set);
    event->head.token = set_of(core, set)->token;
    event->token_shown = said->token_shown;
    event->token_now = said->token_now;
    FLEET_COPY(event->where, said->where);
    step_commit(step);
    step_note(step,
              "%s turned away %s under %llu by its %s, it knows %llu -> "
              "recorded",
              node_name(core, node), said->set, (number_t)said->token_shown,
              said->where, (number_t)said->token_now);
}

void report_message(step_t *step, uint32_t node) {
    const fleet_message_t *message = step->in->message;
    const fleet_message_type_t type = message->type;
    if (type == FLEET_MESSAGE_prepared) {
        prepared(step, node, &message->prepared);
    } else if (type == FLEET_MESSAGE_acquired) {
        acquired(step, node, &message->acquired);
    } else if (type == FLEET_MESSAGE_acquire_failed) {
        acquire_failed(step, node, &message->acquire_failed);
    } else if (type == FLEET_MESSAGE_closed) {
        closed(step, node, &message->closed);
    } else if (type == FLEET_MESSAGE_release_failed) {
        release_failed(step, node, &message->release_failed);
    } else if (type == FLEET_MESSAGE_evicted) {
        evicted(step, node, &message->evicted);
    } else if (type == FLEET_MESSAGE_restarted) {
        restarted(step, node, &message->restarted);
    } else if (type == FLEET_MESSAGE_health) {
        health(step, node, &message->health);
    } else if (type == FLEET_MESSAGE_stale) {
        stale(step, node, &message->stale);
    }
}
