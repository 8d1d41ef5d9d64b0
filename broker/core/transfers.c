// SPDX-License-Identifier: MIT
//
// A transfer from its request to one of the four ends: what is decided, by the
// state of the set.  What is sent is commands.c's, what nodes answer
// reports.c's.

#include <stdio.h>

#include "broker/core/state.h"

typedef unsigned long long number_t; // for %llu

static const char *kind_of(const broker_set_t *s) {
    return fleet_kind_word(s->transfer.kind);
}

static bool forced(const broker_transfer_t *t) {
    return t->kind == fleet_kind_FORCED || t->kind == fleet_kind_TAKEOVER ||
           t->kind == fleet_kind_UNLOCK;
}

// ------------------------------------------------------------------ the limits

static uint64_t phase_ms(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    uint64_t lease_ms = core->config.lease_ms;
    if (t->granted) {
        return s->facts.start_ms + lease_ms;
    }
    if (t->kind == fleet_kind_RESTART) {
        return s->facts.start_ms + s->facts.stop_ms + lease_ms;
    }
    if (forced(t)) {
        return BROKER_EVICT_MS;
    }
    bool prepares = t->kind == fleet_kind_MOVE || t->kind == fleet_kind_START;
    if (prepares && !set_soft_of(core, set)->prepared) {
        return BROKER_PREPARE_MS;
    }
    return s->facts.stop_ms + lease_ms;
}

void transfer_arm(broker_core_t *core, uint32_t set) {
    uint64_t ms = phase_ms(core, set);
    u32s_of(core, core->limit_at)[set] =
        ms < NEVER - 1 ? (uint32_t)ms : NEVER - 1;
}

uint32_t transfer_waits_for(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    assert(t->id != 0);
    if (t->granted) {
        return s->holder;
    }
    if (forced(t)) {
        return t->executor;
    }
    bool prepares = t->kind == fleet_kind_MOVE || t->kind == fleet_kind_START;
    if (prepares && !t->cancelled && !set_soft_of(core, set)->prepared) {
        return t->to;
    }
    return s->holder;
}

// ------------------------------------------------------------------- beginning

uint64_t transfer_begin(step_t *step, const broker_begin_t *begin) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, begin->set);
    bool stamps = begin->kind == fleet_kind_FORCED ||
                  begin->kind == fleet_kind_TAKEOVER ||
                  begin->kind == fleet_kind_UNLOCK;
    assert(s->transfer.id == 0);
    fleet_transfer_requested_t *event = NEW_EVENT(step, transfer_requested);
    uint64_t id = event->head.seq;
    FLEET_COPY(event->head.set, s->name);
    FLEET_COPY(event->head.node, node_name(core, begin->to));
    FLEET_COPY(event->head.by, begin->by);
    FLEET_COPY(event->head.reason, begin->reason);
    event->head.token = stamps ? s->token + 1 : s->token;
    event->head.transfer = id;
    FLEET_COPY(event->request, begin->request);
    event->kind = begin->kind;
    FLEET_COPY(event->from, node_name(core, begin->from));
    FLEET_COPY(event->to, node_name(core, begin->to));
    FLEET_COPY(event->executor, node_name(core, begin->executor));
    FLEET_COPY(event->resource, begin->resource);
    event->in_place = begin->in_place;
    for (uint32_t i = 0; begin->ignore && i < begin->ignore->ignore_n; i++) {
        FLEET_COPY(event->ignored[i].name, begin->ignore->ignore[i].name);
        event->ignored_n++;
    }
    step_commit(step);
    set_soft_of(core, begin->set)->prepared = false;
    set_soft_of(core, begin->set)->recall = false;
    transfer_arm(core, begin->set);
    step_note(step, "%s asks %s %s to %s -> t%llu", begin->by,
              fleet_kind_word(begin->kind), s->name,
              begin->to == NOBODY ? "nobody" : node_name(core, begin->to),
              (number_t)id);
    return id;
}

// ---------------------------------------------------------------------- ending

// What the target did before the release is taken back where it did not lead to
// the set running there.
static void undo_prepare(step_t *step, uint32_t set, fleet_outcome_t outcome) {
    const broker_set_t *s = set_of(step->core, set);
    const broker_transfer_t *t = &s->transfer;
    bool prepares = t->kind == fleet_kind_MOVE || t->kind == fleet_kind_START;
    if (!prepares || outcome == fleet_outcome_MOVED || s->holder == t->to ||
        t->in_place || !node_online(step->core, t->to)) {
        return;
    }
    fleet_prepare_t *prepare = TO_NODE(step, t->to, prepare);
    prepare->term = durable_of(step->core)->term;
    prepare->session = node_soft_of(step->core, t->to)->session;
    FLEET_COPY(prepare->set, s->name);
    prepare->transfer = t->id;
    prepare->rev = s->rev;
    prepare->undo = true;
}

static void end_reasons(const broker_set_t *s, fleet_transfer_ended_t *event) {
    const broker_transfer_t *t = &s->transfer;
    if (event->outcome == fleet_outcome_MOVED) {
        return;
    }
    if (t->failed) {
        event->reasons[event->reasons_n++] = t->why;
    }
    if (t->cancelled) {
        fleet_reason_t *why = &event->reasons[event->reasons_n++];
        fleet_reason_make(why, FLEET_CANCELLED, "the transfer was called off");
        FLEET_COPY(why->set, s->name);
    }
    if (event->outcome == fleet_outcome_STUCK && s->stuck) {
        fleet_err_t err = fleet_error_find(s->stuck_code);
        fleet_reason_t *why = &event->reasons[event->reasons_n++];
        fleet_reason_make(why, err == FLEET_OK ? FLEET_STUCK : err, "%s",
                          s->stuck_text);
        FLEET_COPY(why->set, s->name);
        FLEET_COPY(why->resource, s->stuck_resource);
    }
}

// extra: why, where the state does not say it; may be NULL.
static void end(step_t *step, uint32_t set, fleet_outcome_t outcome,
                bool changed, const fleet_reason_t *extra) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    number_t id = s->transfer.id;
    const char *kind = kind_of(s);
    undo_prepare(step, set, outcome);
    fleet_transfer_ended_t *event = NEW_EVENT(step, transfer_ended);
    head_set(step, &event->head, set, s->holder, s->token);
    event->outcome = outcome;
    event->changed = changed;
    end_reasons(s, event);
    if (extra != NULL) {
        event->reasons[event->reasons_n++] = *extra;
    }
    step_commit(step);
    step_note(step, "%s %s t%llu is over -> %s", s->name, kind, id,
              fleet_outcome_word(outcome));
    set_soft_of(core, set)->prepared = false;
    u32s_of(core, core->limit_at)[set] = NEVER;
    u32s_of(core, core->resend_at)[set] =
        s->debts_n > 0 ? (uint32_t)core->config.resend_ms : NEVER;
}

void transfer_end(step_t *step, uint32_t set, fleet_outcome_t outcome,
                  bool changed) {
    end(step, set, outcome, changed, NULL);
}

void transfer_stuck(step_t *step, uint32_t set, const char *code,
                    const char *resource, const char *text) {
    const broker_set_t *s = set_of(step->core, set);
    fleet_set_stuck_t *event = NEW_EVENT(step, set_stuck);
    head_set(step, &event->head, set, s->holder, s->token);
    FLEET_COPY(event->code, code);
    FLEET_COPY(event->resource, resource);
    FLEET_COPY(event->text, text);
    step_commit(step);
    step_note(step, "%s is held by %s: %.160s -> stuck, %s", s->name,
              node_name(step->core, s->holder), text, code);
    if (s->transfer.id != 0) {
        end(step, set, fleet_outcome_STUCK, true, NULL);
    }
}

// -------------------------------------------------------------------- granting

static void grant(step_t *step, uint32_t set, uint32_t node, bool in_place,
                  bool returning, const char *reason) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (set_behind(core, set)) {
        transfer_stuck(step, set, "journal-behind", "",
                       "the journal is older than the site: no more grants");
        return;
    }
    bool stamped = forced(t) && !t->granted;
    if (!stamped && s->token >= FLEET_TOKEN_MAX) {
        transfer_stuck(step, set, "tokens-used-up", "",
                       "the set's token is at its largest");
        return;
    }
    uint64_t token = stamped ? t->token : s->token + 1;
    uint64_t from_token = in_place ? s->holder_token : s->token;
    fleet_set_granted_t *event = NEW_EVENT(step, set_granted);
    head_set(step, &event->head, set, node, token);
    if (reason != NULL) {
        FLEET_COPY(event->head.reason, reason);
    }
    event->evidence = in_place ? fleet_evidence_RELEASED : s->evidence;
    event->from_token = from_token;
    event->in_place = in_place;
    event->returning = returning;
    step_commit(step);
    step_note(step, "%s t%llu -> granted to %s under %llu on %s%s%s", s->name,
              (number_t)t->id, node_name(core, node), (number_t)token,
              fleet_evidence_word(s->evidence), in_place ? ", in place" : "",
              returning ? ", returning" : "");
    set_soft_of(core, set)->recall = false;
    transfer_arm(core, set);
    commands_send(step, set, node);
}

static bool owes(const broker_set_t *s, uint32_t node) {
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (s->debts[i].node == node) {
            return true;
        }
    }
    return false;
}

// Nobody holds it and it cannot go on: to where it was, or nowhere.
static void go_back(step_t *step, uint32_t set, const char *reason) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    uint32_t from = s->transfer.from;
    if (from != NOBODY && node_online(core, from) && !owes(s, from)) {
        grant(step, set, from, false, true, reason);
        return;
    }
    fleet_reason_t why;
    fleet_reason_make(&why, FLEET_NODE_OFFLINE,
                      "%s is not online: %s could not go back there",
                      node_name(core, from), s->name);
    FLEET_COPY(why.set, s->name);
    FLEET_COPY(why.node, node_name(core, from));
    end(step, set, fleet_outcome_PARKED, true, &why);
}

void transfer_grant_in_place(step_t *step, uint32_t set, const char *why) {
    grant(step, set, set_of(step->core, set)->holder, true, true, why);
}

// ------------------------------------------------------------------- releasing

void transfer_released(step_t *step, uint32_t set, uint32_t node,
                       uint64_t token, fleet_evidence_t evidence,
                       const char *proof, const char *by_itself) {
    const broker_set_t *s = set_of(step->core, set);
    if (s->stuck) {
        fleet_set_unstuck_t *event = NEW_EVENT(step, set_unstuck);
        head_set(step, &event->head, set, node, token);
        step_commit(step);
    }
    fleet_set_released_t *event = NEW_EVENT(step, set_released);
    head_set(step, &event->head, set, node, token);
    event->evidence = evidence;
    FLEET_COPY(event->proof, proof);
    if (by_itself != NULL) {
        event->by_itself = true;
        FLEET_COPY(event->head.reason, by_itself);
        FLEET_FORMAT(event->head.by, "node:%s", node_name(step->core, node));
    }
    step_commit(step);
    step_note(step, "%s let go of %s under %llu%s%s -> %s",
              node_name(step->core, node), s->name, (number_t)token,
              by_itself != NULL ? " by itself: " : "",
              by_itself != NULL ? by_itself : "",
              fleet_evidence_word(evidence));
}

static void after_release(step_t *step, uint32_t set) {
    broker_core_t *core = step->core;
    const broker_transfer_t *t = &set_of(core, set)->transfer;
    fleet_text_t reason;
    switch (t->kind) {
    case fleet_kind_START:
        if (set_soft_of(core, set)->prepared) {
            grant(step, set, t->to, false, false, NULL);
        } else {
            commands_send(step, set, NOBODY);
        }
        break;
    case fleet_kind_MOVE:
        if (t->cancelled) {
            go_back(step, set, NULL);
        } else if (node_online(core, t->to)) {
            grant(step, set, t->to, false, false, NULL);
        } else {
            FLEET_FORMAT(reason, "%s is not online any more",
                         node_name(core, t->to));
            go_back(step, set, reason);
        }
        break;
    case fleet_kind_STOP:
        if (t->cancelled) {
            go_back(step, set, NULL);
        } else {
            transfer_end(step, set, fleet_outcome_PARKED, true);
        }
        break;
    case fleet_kind_RESTART: {
        fleet_reason_t why;
        fleet_reason_make(&why, FLEET_NOT_RUNNING,
                          "%s was stopped by its node meanwhile",
                          set_of(core, set)->name);
        FLEET_COPY(why.set, set_of(core, set)->name);
        end(step, set, fleet_outcome_PARKED, true, &why);
        break;
    }
    case fleet_kind_BOOT:
    case fleet_kind_FORCED:
    case fleet_kind_TAKEOVER:
        grant(step, set, t->to, false, false, NULL);
        break;
    case fleet_kind_UNLOCK:
        transfer_end(step, set, fleet_outcome_PARKED, true);
        break;
    case fleet_kind_NONE:
        assert(false);
    }
}

void transfer_advance(step_t *step, uint32_t set) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (t->id == 0) {
        return;
    }
    bool stamps = forced(t) && !t->granted && !t->released;
    if (stamps && t->executor == NOBODY) {
        transfer_evidence(step, set, false, "nothing to stamp: no disk group");
    } else if (!stamps && !t->granted && s->holder == NOBODY) {
        after_release(step, set);
    } else if (t->in_place && !t->granted) {
        grant(step, set, s->holder, true, false, NULL);
    } else {
        commands_send(step, set, NOBODY);
    }
}

// -------------------------------------------------------------------- evidence

uint64_t victim_token(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    const broker_port_t *port =
        t->executor == NOBODY ? NULL : find_port(core, set, t->executor);
    if (s->holder == t->from) {
        return s->holder_token;
    }
    // Only the lock names it.
    bool seen = port != NULL && port->lock_owner[0] != '\0' &&
                port->lock_token < t->token;
    return seen ? port->lock_token : t->token - 1;
}

static void prove(const broker_core_t *core, uint32_t node,
                  fleet_evidence_t evidence, const char *read_back,
                  fleet_text_t ret_proof) {
    const broker_node_t *n = node_of(core, node);
    if (evidence == fleet_evidence_LAPSED) {
        fleet_text_format(ret_proof, sizeof(fleet_text_t),
                          "node.lapsed, seq %llu; watchdog of %llu ms; %s",
                          (number_t)n->state_seq, (number_t)n->watchdog_ms,
                          read_back);
    } else if (evidence == fleet_evidence_FENCED ||
               evidence == fleet_evidence_ATTESTED) {
        fleet_text_format(ret_proof, sizeof(fleet_text_t),
                          "node.down, seq %llu, by %s; %s",
                          (number_t)n->state_seq, n->down_by, read_back);
    } else {
        fleet_text_copy(ret_proof, sizeof(fleet_text_t), read_back);
    }
}

void transfer_evidence(step_t *step, uint32_t set, bool blocked,
                       const char *read_back) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    uint32_t victim = t->from;
    bool holds = s->holder == victim;
    uint64_t token = victim_token(core, set);
    fleet_evidence_t evidence = evidence_now(core, victim, blocked);
    if (evidence == fleet_evidence_NONE && !holds) {
        // Only the lock still names it: the journal has its release.
        evidence = fleet_evidence_RELEASED;
    }
    if (evidence == fleet_evidence_NONE) {
        fleet_text_t text;
        FLEET_FORMAT(text, "nothing shows that %s can no longer write: %.160s",
                     node_name(core, victim), read_back);
        transfer_stuck(step, set, "cannot-evict", "", text);
        return;
    }
    fleet_text_t proof;
    prove(core, victim, evidence, read_back, proof);
    transfer_released(step, set, victim, token, evidence, proof, NULL);
    if (owes(s, victim)) {
        member_session_end(step, victim, "displaced");
    }
    transfer_advance(step, set);
}

// ------------------------------------------------------------------- giving up

void transfer_failed(step_t *step, uint32_t set, bool undone,
                     const fleet_acquire_failed_t *failed) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    fleet_acquire_failed_event_t *event = NEW_EVENT(step, acquire_failed_event);
    head_set(step, &event->head, set, s->holder, s->holder_token);
    FLEET_COPY(event->resource, failed->resource);
    event->undone = undone;
    FLEET_COPY(event->text, failed->text);
    FLEET_COPY(event->said, failed->said);
    uint32_t node = s->holder;
    step_commit(step);
    step_note(step, "%s could not start %s: %.160s -> %s",
              node_name(core, node), s->name, failed->text,
              undone ? "undone" : "not undone");
    if (!undone) {
        transfer_stuck(step, set,
                       failed->code[0] != '\0' ? failed->code : "start-failed",
                       failed->resource, failed->text);
    } else if (t->id != 0 && t->kind == fleet_kind_MOVE && !t->returning) {
        go_back(step, set, NULL);
    } else if (t->id != 0) {
        end(step, set, fleet_outcome_PARKED, t->from != NOBODY, NULL);
    }
}

// Nothing was touched so far.  After a restart of the broker that is not known
// before the owner was heard: a release may have been sent.
static bool preparing(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    bool prepares = t->kind == fleet_kind_MOVE || t->kind == fleet_kind_START;
    return prepares && !t->granted && !t->released &&
           !set_soft_of(core, set)->prepared &&
           (s->holder == NOBODY || node_soft_of(core, s->holder)->heard);
}

static void end_untouched(step_t *step, uint32_t set,
                          const fleet_reason_t *why) {
    bool held = set_of(step->core, set)->holder != NOBODY;
    end(step, set, held ? fleet_outcome_RETURNED : fleet_outcome_PARKED, false,
        why);
}

void transfer_untouched(step_t *step, uint32_t set, const fleet_reason_t *why) {
    const broker_set_t *s = set_of(step->core, set);
    if (preparing(step->core, set) || s->holder == NOBODY ||
        s->transfer.kind == fleet_kind_RESTART) {
        end_untouched(step, set, why);
    }
}

void transfer_give_up(step_t *step, uint32_t set) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (t->id == 0) {
        return;
    }
    uint32_t node = transfer_waits_for(core, set);
    const char *name = node_name(core, node);
    bool silent =
        node != NOBODY && node_of(core, node)->state != fleet_node_state_ONLINE;
    fleet_reason_t why;
    fleet_reason_make(&why, silent ? FLEET_OWNER_SILENT : FLEET_NO_ANSWER,
                      silent ? "%s is silent; %s t%llu waited for it"
                             : "%s did not answer for %s t%llu in time",
                      name, s->name, (number_t)t->id);
    FLEET_COPY(why.set, s->name);
    FLEET_COPY(why.node, name);
    if (preparing(core, set) || s->holder == NOBODY) {
        if (silent) {
            FLEET_COPY(why.code, "node-offline");
        }
        end_untouched(step, set, &why);
    } else {
        transfer_stuck(step, set, why.code, "", why.text);
    }
}

void transfer_cancel(step_t *step, uint32_t set, const char *by,
                     const char *reason) {
    const broker_set_t *s = set_of(step->core, set);
    bool untouched = preparing(step->core, set);
    assert(s->transfer.id != 0 && !s->transfer.granted);
    fleet_cancel_requested_t *event = NEW_EVENT(step, cancel_requested);
    head_set(step, &event->head, set, s->holder, s->token);
    FLEET_COPY(event->head.by, by);
    FLEET_COPY(event->head.reason, reason);
    step_commit(step);
    step_note(step, "%s calls off %s t%llu -> %s", by, s->name,
              (number_t)s->transfer.id,
              untouched ? "nothing was touched" : "it goes back");
    if (untouched) {
        end_untouched(step, set, NULL);
    } else {
        transfer_advance(step, set);
    }
}

// ------------------------------------------------------------------- boot rule

void boot_rule(step_t *step, uint32_t set, uint32_t node) {
    broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    const char *why = NULL;
    if (!s->defined || s->resume != node || s->holder != NOBODY ||
        s->transfer.id != 0 || !s->wanted_up || !node_online(core, node)) {
        return;
    }
    if (s->facts.boot != fleet_at_boot_AS_BEFORE) {
        why = "boot: manual";
    } else if (set_behind(core, set)) {
        why = "the journal is older than the site";
    } else if (!set_allows(s, node_name(core, node))) {
        why = "it may not run there any more";
    } else if (s->facts.addresses_n > 0 && slots_free(core, node) == 0) {
        why = "no slot is free";
    } else if (s->token + 2 > FLEET_TOKEN_MAX) {
        why = "its tokens are used up";
    }
    if (why != NULL) {
        step_note(step, "%s is back and ran %s -> parked, %s",
                  node_name(core, node), s->name, why);
        return;
    }
    const broker_begin_t begin = {.set = set,
                                  .kind = fleet_kind_BOOT,
                                  .from = NOBODY,
                                  .to = node,
                                  .executor = NOBODY,
                                  .request = "",
                                  .resource = "",
                                  .by = "policy:boot",
                                  .reason = "it ran there before"};
    transfer_begin(step, &begin);
    transfer_advance(step, set);
}
