// SPDX-License-Identifier: MIT
//
// What operators, admins and nodes ask for: may they, was it asked before, what
// is it, and does anything speak against it.

#include "broker/core/state.h"

typedef unsigned long long number_t; // for %llu

void refuse(step_t *step, uint64_t peer, fleet_refused_t *no) {
    fleet_refused_t *answer =
        &step_peer(step, peer, FLEET_MESSAGE_refused, sizeof(*answer))->refused;
    *answer = *no;
    step_note(step, "%s asks -> refused, %u reasons: %s %.160s", step->in->name,
              no->reasons_n, no->reasons[0].code, no->reasons[0].text);
}

static void refuse_for(step_t *step, const char *id, fleet_err_t err,
                       const char *set, const char *node, const char *text) {
    fleet_refused_t no = {0};
    FLEET_COPY(no.request, id);
    fleet_reason_t *why = reason_next(&no);
    fleet_reason_make(why, err, "%s", text);
    reason_about(why, set, node);
    refuse(step, step->in->peer, &no);
}

// ---------------------------------------------------------------- asked before

uint64_t request_content(const fleet_request_t *request) {
    uint64_t hash = text_hash(0, fleet_verb_word(request->verb));
    hash = text_hash(hash, request->set);
    hash = text_hash(hash, request->node);
    hash = text_hash(hash, request->resource);
    hash = text_hash(hash, request->owner_is_down);
    return text_hash(hash, request->force ? "force" : "");
}

void answer_done(step_t *step, uint64_t peer, const fleet_done_t *done,
                 uint64_t content) {
    broker_core_t *core = step->core;
    step_peer(step, peer, FLEET_MESSAGE_done, sizeof(*done))->done = *done;
    if (done->request[0] != '\0' && done->changed) {
        uint32_t i = soft_of(core)->answers_next;
        soft_of(core)->answers_next = (i + 1) % core->answers_max;
        broker_answer_t *answer =
            (broker_answer_t *)core_at(core, core->answers_at) + i;
        answer->content = content;
        answer->done = *done;
    }
}

// Could this request have begun that transfer?
static bool began(const broker_core_t *core, const fleet_request_t *request,
                  const broker_request_t *asked) {
    if (strcmp(set_of(core, asked->set)->name, request->set) != 0) {
        return false;
    }
    bool there = find_node(core, request->node) == asked->to;
    switch (request->verb) {
    case fleet_verb_MOVE:
        return there && (asked->kind == fleet_kind_MOVE ||
                         asked->kind == fleet_kind_START ||
                         asked->kind == fleet_kind_FORCED);
    case fleet_verb_START:
        return asked->kind == fleet_kind_START &&
               (there || request->node[0] == '\0');
    case fleet_verb_STOP:
        return asked->kind == fleet_kind_STOP;
    case fleet_verb_RESTART:
        return asked->kind == fleet_kind_RESTART &&
               strcmp(asked->resource, request->resource) == 0;
    case fleet_verb_UNLOCK:
        return asked->kind == fleet_kind_UNLOCK;
    case fleet_verb_CANCEL:
    case fleet_verb_REMOVE:
    case fleet_verb_FENCE:
        return false;
    }
    return false;
}

static void reused(step_t *step, const char *id) {
    fleet_text_t text;
    FLEET_FORMAT(text, "the request id %s was used for something else", id);
    refuse_for(step, id, FLEET_REQUEST_REUSED, "", "", text);
}

static bool asked_before(step_t *step, const fleet_request_t *request) {
    const broker_core_t *core = step->core;
    if (request->request[0] == '\0') {
        return false;
    }
    uint32_t i = find_request(core, request->request);
    if (i != NOBODY) {
        const broker_request_t *asked = request_of(core, i);
        if (!began(core, request, asked)) {
            reused(step, request->request);
            return true;
        }
        fleet_accepted_t *accepted = TO_PEER(step, accepted);
        FLEET_COPY(accepted->request, request->request);
        accepted->transfer = asked->transfer;
        step_note(step, "%s asks again -> t%llu", step->in->name,
                  (number_t)asked->transfer);
        return true;
    }
    const broker_answer_t *answers = core_at(core, core->answers_at);
    for (uint32_t j = 0; j < core->answers_max; j++) {
        if (strcmp(answers[j].done.request, request->request) != 0) {
            continue;
        }
        if (answers[j].content != request_content(request)) {
            reused(step, request->request);
        } else {
            TO_PEER(step, done)[0] = answers[j].done;
            step_note(step, "%s asks again -> it was done", step->in->name);
        }
        return true;
    }
    return false;
}

// --------------------------------------------------------------------- answers

// What was asked for is so already: no transfer, no event.
static void already(step_t *step, const fleet_request_t *request, uint32_t set,
                    fleet_kind_t kind, fleet_outcome_t outcome,
                    const char *by) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    fleet_transfer_t *answer = TO_PEER(step, transfer);
    FLEET_COPY(answer->request, request->request);
    answer->kind = kind;
    FLEET_COPY(answer->set, s->name);
    FLEET_COPY(answer->from, node_name(core, s->holder));
    FLEET_COPY(answer->to, node_name(core, s->holder));
    answer->token = s->token;
    answer->evidence = s->holder == NOBODY ? fleet_evidence_NONE : s->evidence;
    FLEET_COPY(answer->by, by);
    FLEET_COPY(answer->reason, request->reason);
    answer->requested_us = step->in->time_us;
    answer->ended_us = step->in->time_us;
    answer->outcome = outcome;
    step_note(step, "%s asks %s %s -> it is so already", by,
              fleet_verb_word(request->verb), s->name);
}

static void would(step_t *step, const fleet_request_t *request, uint32_t to) {
    fleet_done_t *done = TO_PEER(step, done);
    FLEET_COPY(done->request, request->request);
    FLEET_FORMAT(done->text, "would %s %s%s%s", fleet_verb_word(request->verb),
                 request->set[0] != '\0' ? request->set : request->node,
                 to != NOBODY ? " to " : "", node_name(step->core, to));
    step_note(step, "%s asks -> %s", step->in->name, done->text);
}

// Refuses, or answers a dry run; false: go on.
static bool settled(step_t *step, const fleet_request_t *request,
                    fleet_refused_t *no, uint32_t to) {
    admit_waive(no, request);
    if (no->reasons_n > 0) {
        FLEET_COPY(no->request, request->request);
        refuse(step, step->in->peer, no);
        return true;
    }
    if (request->dry_run) {
        would(step, request, to);
        return true;
    }
    return false;
}

static void go(step_t *step, const fleet_request_t *request, uint32_t set,
               fleet_kind_t kind, uint32_t to, uint32_t executor, bool in_place,
               const char *by) {
    const broker_set_t *s = set_of(step->core, set);
    const broker_begin_t begin = {.set = set,
                                  .kind = kind,
                                  .from = s->holder,
                                  .to = to,
                                  .executor = executor,
                                  .in_place = in_place,
                                  .request = request->request,
                                  .resource = request->resource,
                                  .by = by,
                                  .reason = request->reason,
                                  .ignore = request};
    uint64_t id = transfer_begin(step, &begin);
    fleet_accepted_t *accepted = TO_PEER(step, accepted);
    FLEET_COPY(accepted->request, request->request);
    accepted->transfer = id;
    transfer_advance(step, set);
}

// P18: a transfer that waits for a silent node gives way to --force.
static bool gives_way(const broker_core_t *core, uint32_t set,
                      const fleet_request_t *request) {
    bool force = request->force || request->owner_is_down[0] != '\0';
    if (set_of(core, set)->transfer.id == 0 || !force) {
        return false;
    }
    uint32_t node = transfer_waits_for(core, set);
    return node != NOBODY &&
           (node_of(core, node)->state == fleet_node_state_SILENT ||
            node_of(core, node)->state == fleet_node_state_DOWN);
}

// The operator's word, on record before what rests on it.
static void attest(step_t *step, uint32_t node, const fleet_request_t *request,
                   const char *by) {
    const broker_core_t *core = step->core;
    const broker_node_t *n = node_of(core, node);
    if (request->owner_is_down[0] == '\0' ||
        (n->state == fleet_node_state_DOWN &&
         n->how == fleet_down_how_ATTESTED)) {
        return;
    }
    fleet_name_t age;
    fleet_text_t detail;
    fleet_duration_print((uint64_t)u32s_of(core, core->age_at)[node] * 1000,
                         age, sizeof(age));
    FLEET_FORMAT(detail, "it was %s, last heard %s%s ago, boot %.8s",
                 fleet_node_state_word(n->state),
                 node_soft_of(core, node)->heard ? "" : "more than ", age,
                 n->boot_id);
    member_down(step, node, fleet_down_how_ATTESTED, by, request->reason,
                detail);
}

// ----------------------------------------------------------------------- verbs

static void unknown_node(step_t *step, const fleet_request_t *request,
                         fleet_refused_t *no) {
    fleet_reason_t *why = reason_next(no);
    fleet_reason_make(why, FLEET_NODE_UNKNOWN, "no node is called \"%s\"",
                      request->node);
    if (find_set(step->core, request->node) != NOBODY) {
        fleet_reason_hint(why, "%s is a set: the set comes first",
                          request->node);
    } else {
        fleet_reason_hint(why, "fleet status");
    }
    reason_about(why, request->set, request->node);
}

static void in_place(step_t *step, const fleet_request_t *request, uint32_t set,
                     const char *by) {
    const broker_core_t *core = step->core;
    uint32_t holder = set_of(core, set)->holder;
    fleet_refused_t no = {0};
    admit_set(core, set, false, &no);
    admit_in_place(core, set, &no);
    if (!settled(step, request, &no, holder)) {
        go(step, request, set, fleet_kind_START, holder, NOBODY, true, by);
    }
}

static void move(step_t *step, const fleet_request_t *request, uint32_t set,
                 const char *by) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    bool force = request->force || request->owner_is_down[0] != '\0';
    uint32_t node = find_node(core, request->node);
    // The holder is not forced out of a set to get it.
    bool ends = gives_way(core, set, request) && node != s->holder;
    fleet_refused_t no = {0};
    if (node != NOBODY && node == s->holder && s->transfer.id == 0) {
        if (s->stuck) {
            in_place(step, request, set, by);
        } else {
            already(step, request, set, fleet_kind_MOVE, fleet_outcome_MOVED,
                    by);
        }
        return;
    }
    bool has_disk = s->facts.disk_group[0] != '\0';
    admit_set(core, set, ends, &no);
    if (node == NOBODY) {
        unknown_node(step, request, &no);
    } else {
        admit_target(core, set, node, &no);
    }
    if (s->holder != NOBODY && force) {
        admit_forced(core, set, node, request, &no);
    } else if (s->holder != NOBODY) {
        admit_owner(core, set, request, &no);
    }
    if (settled(step, request, &no, node)) {
        return;
    }
    if (ends) {
        transfer_give_up(step, set);
    }
    if (s->holder == NOBODY) {
        go(step, request, set, fleet_kind_START, node, NOBODY, false, by);
    } else if (force) {
        attest(step, s->holder, request, by);
        go(step, request, set, fleet_kind_FORCED, node,
           has_disk ? node : NOBODY, false, by);
    } else {
        go(step, request, set, fleet_kind_MOVE, node, NOBODY, false, by);
    }
}

static void start(step_t *step, const fleet_request_t *request, uint32_t set,
                  const char *by) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    uint32_t node = find_node(core, request->node);
    bool named = request->node[0] != '\0';
    fleet_refused_t no = {0};
    if (s->holder != NOBODY && s->transfer.id == 0 &&
        (!named || node == s->holder)) {
        if (s->stuck) {
            in_place(step, request, set, by);
        } else {
            already(step, request, set, fleet_kind_START, fleet_outcome_MOVED,
                    by);
        }
        return;
    }
    admit_set(core, set, false, &no);
    if (s->holder != NOBODY && s->transfer.id == 0) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_NOT_PARKED, "%s is held by %s", s->name,
                          node_name(core, s->holder));
        fleet_reason_hint(why, "fleet move %s %s", s->name, request->node);
        reason_about(why, s->name, node_name(core, s->holder));
    }
    if (named && node == NOBODY) {
        unknown_node(step, request, &no);
    } else if (named) {
        admit_target(core, set, node, &no);
    } else if (no.reasons_n == 0) {
        node = admit_choose(core, set, request, &no);
    }
    if (!settled(step, request, &no, node)) {
        go(step, request, set, fleet_kind_START, node, NOBODY, false, by);
    }
}

static void stop(step_t *step, const fleet_request_t *request, uint32_t set,
                 const char *by) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    fleet_refused_t no = {0};
    if (s->holder == NOBODY && s->transfer.id == 0 && !s->wanted_up) {
        already(step, request, set, fleet_kind_STOP, fleet_outcome_PARKED, by);
        return;
    }
    admit_set(core, set, false, &no);
    if (s->holder != NOBODY) {
        admit_owner(core, set, request, &no);
    }
    if (!settled(step, request, &no, NOBODY)) {
        go(step, request, set, fleet_kind_STOP, NOBODY, NOBODY, false, by);
    }
}

static void restart(step_t *step, const fleet_request_t *request, uint32_t set,
                    const char *by) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    fleet_refused_t no = {0};
    admit_set(core, set, false, &no);
    if (s->holder == NOBODY || (!s->up && s->transfer.id == 0)) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_NOT_RUNNING, "%s is %s", s->name,
                          s->holder == NOBODY ? "parked" : "not running");
        fleet_reason_hint(why, "fleet start %s", s->name);
        reason_about(why, s->name, node_name(core, s->holder));
    } else {
        admit_owner(core, set, request, &no);
    }
    if (!settled(step, request, &no, NOBODY)) {
        go(step, request, set, fleet_kind_RESTART, s->holder, NOBODY, false,
           by);
    }
}

// Who stamps the lock for nobody: an online node that sees it, one that could
// block the victim before one that could not.
static uint32_t choose_executor(const broker_core_t *core, uint32_t set,
                                uint32_t victim) {
    uint32_t best = NOBODY;
    bool best_evicts = false;
    for (uint32_t i = set_soft_of(core, set)->first_port; i != NOBODY;
         i = port_of(core, i)->next_of_set) {
        const broker_port_t *port = port_of(core, i);
        if (!node_online(core, port->node) || !port->visible ||
            port->node == victim) {
            continue;
        }
        bool before =
            best == NOBODY || (port->can_evict && !best_evicts) ||
            (port->can_evict == best_evicts &&
             strcmp(node_name(core, port->node), node_name(core, best)) < 0);
        if (before) {
            best = port->node;
            best_evicts = port->can_evict;
        }
    }
    return best;
}

// The node that the lock of a parked set names, as far as anybody sees it.
static uint32_t named_by_lock(const broker_core_t *core, uint32_t set) {
    for (uint32_t i = set_soft_of(core, set)->first_port; i != NOBODY;
         i = port_of(core, i)->next_of_set) {
        const broker_port_t *port = port_of(core, i);
        uint32_t node = find_node(core, port->lock_owner);
        if (node != NOBODY && node_online(core, port->node)) {
            return node;
        }
    }
    return NOBODY;
}

static void unlock(step_t *step, const fleet_request_t *request, uint32_t set,
                   const char *by) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    bool has_disk = s->facts.disk_group[0] != '\0';
    bool held = s->holder != NOBODY;
    bool ends = held && gives_way(core, set, request);
    uint32_t victim = held ? s->holder : named_by_lock(core, set);
    fleet_refused_t no = {0};
    if (victim == NOBODY && s->transfer.id == 0) {
        already(step, request, set, fleet_kind_UNLOCK, fleet_outcome_PARKED,
                by);
        return;
    }
    uint32_t executor = has_disk ? choose_executor(core, set, victim) : NOBODY;
    admit_set(core, set, ends, &no);
    if (has_disk && executor == NOBODY) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_NO_PORT,
                          "no other node that is online sees disk group %s",
                          s->facts.disk_group);
        fleet_reason_hint(why, "fleet check %s", s->name);
        reason_about(why, s->name, "");
    }
    if (held) {
        admit_forced(core, set, executor, request, &no);
    }
    if (settled(step, request, &no, NOBODY)) {
        return;
    }
    if (ends) {
        transfer_give_up(step, set);
    }
    if (held) {
        attest(step, victim, request, by);
    }
    const broker_begin_t begin = {.set = set,
                                  .kind = fleet_kind_UNLOCK,
                                  .from = victim,
                                  .to = NOBODY,
                                  .executor = executor,
                                  .request = request->request,
                                  .resource = "",
                                  .by = by,
                                  .reason = request->reason,
                                  .ignore = request};
    uint64_t id = transfer_begin(step, &begin);
    fleet_accepted_t *accepted = TO_PEER(step, accepted);
    FLEET_COPY(accepted->request, request->request);
    accepted->transfer = id;
    transfer_advance(step, set);
}

static void cancel(step_t *step, const fleet_request_t *request, uint32_t set,
                   const char *by) {
    const broker_set_t *s = set_of(step->core, set);
    const broker_transfer_t *t = &s->transfer;
    fleet_refused_t no = {0};
    no.token = s->token;
    no.transfer = t->id;
    bool goes_back = t->kind == fleet_kind_MOVE || t->kind == fleet_kind_STOP ||
                     t->kind == fleet_kind_START;
    if (t->id == 0) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_NO_TRANSFER,
                          "no transfer of %s is running", s->name);
        reason_about(why, s->name, "");
    } else if (t->granted || !goes_back) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_TOO_LATE,
                          "the %s of %s is past the point where it could go "
                          "back",
                          fleet_kind_word(t->kind), s->name);
        fleet_reason_hint(why, "fleet wait t%llu", (number_t)t->id);
        reason_about(why, s->name, "");
    }
    if (settled(step, request, &no, NOBODY)) {
        return;
    }
    fleet_done_t done = {.changed = true, .transfer = t->id};
    FLEET_COPY(done.request, request->request);
    FLEET_FORMAT(done.text, "t%llu is called off", (number_t)t->id);
    if (!t->cancelled) {
        transfer_cancel(step, set, by, request->reason);
    }
    answer_done(step, step->in->peer, &done, request_content(request));
}

static void fence(step_t *step, const fleet_request_t *request,
                  const char *by) {
    const broker_core_t *core = step->core;
    uint32_t node = find_node(core, request->node);
    fleet_refused_t no = {0};
    if (node == NOBODY) {
        unknown_node(step, request, &no);
    } else {
        const broker_node_t *n = node_of(core, node);
        if (!node_soft_of(core, node)->fenceable) {
            fleet_reason_t *why = reason_next(&no);
            fleet_reason_make(why, FLEET_NO_FENCE,
                              "no fence command is configured for %s", n->name);
            reason_about(why, "", n->name);
        }
        if (n->fencing) {
            fleet_reason_t *why = reason_next(&no);
            fleet_reason_make(why, FLEET_BUSY,
                              "the fence command of %s is running", n->name);
            reason_about(why, "", n->name);
        }
    }
    if (!settled(step, request, &no, node)) {
        member_fence(step, node, request, by);
    }
}

// ------------------------------------------------------------------ who may it

static bool node_may(step_t *step, const fleet_request_t *request) {
    const broker_core_t *core = step->core;
    const char *name = step->in->name;
    if (request->verb == fleet_verb_MOVE && strcmp(request->node, name) == 0 &&
        !request->force && request->owner_is_down[0] == '\0') {
        return true;
    }
    if (request->verb != fleet_verb_STOP) {
        fleet_text_t text;
        FLEET_FORMAT(
            text, "node %s may only take a set itself, or park its own", name);
        refuse_for(step, request->request, FLEET_NOT_PERMITTED, request->set,
                   name, text);
        return false;
    }
    uint32_t set = find_set(core, request->set);
    if (set != NOBODY && set_of(core, set)->holder != NOBODY &&
        set_of(core, set)->holder != find_node(core, name)) {
        fleet_text_t text;
        FLEET_FORMAT(text, "%s is owned by %s, not by %s", request->set,
                     node_name(core, set_of(core, set)->holder), name);
        refuse_for(step, request->request, FLEET_NOT_OWNER, request->set, name,
                   text);
        return false;
    }
    return true;
}

static bool may(step_t *step, const char *id, bool admins_only,
                const char *what) {
    fleet_role_t role = step->in->role;
    if (role == fleet_role_ADMIN ||
        (role == fleet_role_OPERATOR && !admins_only)) {
        return true;
    }
    fleet_refused_t no = {0};
    FLEET_COPY(no.request, id);
    fleet_reason_t *why = reason_next(&no);
    fleet_reason_make(why, FLEET_NOT_PERMITTED,
                      "the key \"%s\" is of role %s; only %s may %s",
                      step->in->name, fleet_role_word(role),
                      admins_only ? "an admin" : "an operator", what);
    fleet_reason_hint(why,
                      "an admin can admit a key: fleet keys admit %s "
                      "NAME HEX",
                      admins_only ? "admin" : "operator");
    refuse(step, step->in->peer, &no);
    return false;
}

static void about_set(step_t *step, const fleet_request_t *request,
                      const char *by) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, request->set);
    if (set == NOBODY || !set_of(core, set)->defined) {
        fleet_refused_t no = {0};
        FLEET_COPY(no.request, request->request);
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_SET_UNKNOWN, "no set is called \"%s\"",
                          request->set);
        if (find_node(core, request->set) != NOBODY) {
            fleet_reason_hint(why, "%s is a node: the set comes first",
                              request->set);
        } else {
            fleet_reason_hint(why, "fleet status");
        }
        reason_about(why, request->set, "");
        if (request->verb == fleet_verb_MOVE &&
            find_node(core, request->node) == NOBODY) {
            unknown_node(step, request, &no);
        }
        refuse(step, step->in->peer, &no);
        return;
    }
    switch (request->verb) {
    case fleet_verb_MOVE:
        move(step, request, set, by);
        break;
    case fleet_verb_START:
        start(step, request, set, by);
        break;
    case fleet_verb_STOP:
        stop(step, request, set, by);
        break;
    case fleet_verb_RESTART:
        restart(step, request, set, by);
        break;
    case fleet_verb_UNLOCK:
        unlock(step, request, set, by);
        break;
    case fleet_verb_CANCEL:
        cancel(step, request, set, by);
        break;
    case fleet_verb_REMOVE:
        definition_remove(step, request, by);
        break;
    case fleet_verb_FENCE:
        break;
    }
}

static void request(step_t *step, const fleet_request_t *request,
                    const char *by) {
    bool allowed = step->in->role == fleet_role_NODE
                       ? node_may(step, request)
                       : may(step, request->request, false, "move sets");
    if (!allowed || asked_before(step, request)) {
        return;
    }
    if (request->verb == fleet_verb_FENCE) {
        fence(step, request, by);
    } else {
        about_set(step, request, by);
    }
}

void request_message(step_t *step) {
    const fleet_message_t *message = step->in->message;
    fleet_id_t by;
    FLEET_FORMAT(by, "%s:%s", fleet_role_word(step->in->role), step->in->name);
    if (message->type == FLEET_MESSAGE_request) {
        request(step, &message->request, by);
    } else if (message->type == FLEET_MESSAGE_apply) {
        if (may(step, message->apply.request, false, "define sets")) {
            definition_apply(step, by);
        }
    } else if (message->type == FLEET_MESSAGE_key_change) {
        if (may(step, message->key_change.request, true, "change keys")) {
            keyring_change(step, by);
        }
    } else {
        step_note(step, "%s sends message %d -> not for the core, ignored", by,
                  (int)message->type);
    }
}
