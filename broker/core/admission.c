// SPDX-License-Identifier: MIT
//
// May it begin?  Every reason against it at once, each with what would help.
// Pure reads: a refusal touches nothing.

#include <stdio.h>

#include "broker/core/state.h"

typedef unsigned long long number_t; // for %llu

fleet_reason_t *reason_next(fleet_refused_t *no) {
    if (no->reasons_n < FLEET_REASONS_MAX) {
        no->reasons_n++;
    }
    return &no->reasons[no->reasons_n - 1];
}

void reason_about(fleet_reason_t *why, const char *set, const char *node) {
    FLEET_COPY(why->set, set);
    FLEET_COPY(why->node, node);
}

bool set_behind(const broker_core_t *core, uint32_t set) {
    return soft_of(core)->behind || set_soft_of(core, set)->behind;
}

static void for_people(uint64_t ms, fleet_name_t ret_text) {
    fleet_duration_print(ms * 1000, ret_text, sizeof(fleet_name_t));
}

// ------------------------------------------------------------------ the target

static void say_offline(const broker_core_t *core, uint32_t set, uint32_t node,
                        fleet_refused_t *no) {
    const broker_node_t *n = node_of(core, node);
    fleet_reason_t *why = reason_next(no);
    fleet_name_t age;
    for_people(u32s_of(core, core->age_at)[node], age);
    if (n->state == fleet_node_state_ONLINE) {
        fleet_reason_make(why, FLEET_NODE_OFFLINE, "%s %s", n->name,
                          node_soft_of(core, node)->heard
                              ? "is about to say hello again"
                              : "was not heard since the broker started");
        why->retry = true; // it has a lease: its hello is a moment away
    } else if (n->state == fleet_node_state_NEW) {
        fleet_reason_make(why, FLEET_NODE_OFFLINE, "%s was never heard",
                          n->name);
    } else if (n->state == fleet_node_state_SILENT) {
        fleet_reason_make(why, FLEET_NODE_OFFLINE, "%s is silent for %s",
                          n->name, age);
    } else {
        fleet_reason_make(why, FLEET_NODE_OFFLINE, "%s is down (%s)", n->name,
                          fleet_down_how_word(n->how));
    }
    fleet_reason_hint(why, "fleet status %s", n->name);
    reason_about(why, set_of(core, set)->name, n->name);
}

// "www and mail" of the sets that take a node's slots.
static void users_of(const broker_core_t *core, uint32_t node,
                     fleet_text_t ret_text) {
    size_t at = 0;
    fleet_text_t text = "";
    for (uint32_t i = 0; at < 160; i++) {
        uint32_t nodes[BROKER_USES_MAX];
        uint32_t set = nth_set(core, i);
        if (set == NOBODY) {
            break;
        }
        const broker_set_t *s = set_of(core, set);
        uint32_t n = s->facts.addresses_n > 0 ? uses_of(s, nodes) : 0;
        for (uint32_t j = 0; j < n; j++) {
            if (nodes[j] == node) {
                int add = snprintf(text + at, sizeof(text) - at, "%s%s",
                                   at > 0 ? ", " : "", s->name);
                at += add > 0 ? (size_t)add : 0;
            }
        }
    }
    fleet_text_copy(ret_text, sizeof(fleet_text_t),
                    at > 0 ? text : "sets that it should not have");
}

static bool takes_place(const broker_set_t *s, uint32_t node) {
    uint32_t nodes[BROKER_USES_MAX];
    for (uint32_t i = uses_of(s, nodes); i > 0; i--) {
        if (nodes[i - 1] == node) {
            return true;
        }
    }
    return false;
}

static void admit_place(const broker_core_t *core, uint32_t set, uint32_t node,
                        fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const broker_node_t *n = node_of(core, node);
    if (takes_place(s, node)) {
        return;
    }
    if (s->facts.addresses_n > 0 && slots_free(core, node) == 0) {
        fleet_text_t users;
        users_of(core, node, users);
        fleet_reason_t *why = reason_next(no);
        if (n->slots == 0) {
            fleet_reason_make(why, FLEET_NO_SLOT,
                              "%s has no public interface at all", n->name);
        } else {
            fleet_reason_make(
                why, FLEET_NO_SLOT,
                "%s has no free slot: all %llu are used by %.180s", n->name,
                (number_t)n->slots, users);
        }
        fleet_reason_hint(why, "fleet status %s", n->name);
        reason_about(why, s->name, n->name);
    } else if (n->sets >= FLEET_PAIRS_MAX) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_SITE_FULL,
                          "%s has %u sets: a node can hold no more", n->name,
                          n->sets);
        reason_about(why, s->name, n->name);
    }
}

static void say_no_port(const broker_core_t *core, uint32_t set, uint32_t node,
                        const char *as_of, fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    fleet_reason_t *why = reason_next(no);
    fleet_text_t see = "";
    size_t at = 0;
    for (uint32_t i = set_soft_of(core, set)->first_port;
         i != NOBODY && at < 100; i = port_of(core, i)->next_of_set) {
        if (port_of(core, i)->visible) {
            int add =
                snprintf(see + at, sizeof(see) - at, "%s%s", at > 0 ? ", " : "",
                         node_name(core, port_of(core, i)->node));
            at += add > 0 ? (size_t)add : 0;
        }
    }
    fleet_reason_make(why, FLEET_NO_PORT,
                      "%s does not see disk group %s%s%s%s%s",
                      node_name(core, node), s->facts.disk_group,
                      at > 0 ? "; it is seen by " : "", see,
                      as_of[0] != '\0' ? ", as of " : "", as_of);
    fleet_reason_hint(why, "fleet check %s", s->name);
    reason_about(why, s->name, node_name(core, node));
}

static void admit_port(const broker_core_t *core, uint32_t set, uint32_t node,
                       fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const char *name = node_name(core, node);
    const broker_port_t *port = find_port(core, set, node);
    bool online = node_online(core, node);
    if (port == NULL) {
        if (online) { // else the silence says it
            fleet_reason_t *why = reason_next(no);
            fleet_reason_make(why, FLEET_NOT_READY,
                              "%s has not said yet whether it could run %s",
                              name, s->name);
            why->retry = true;
            fleet_reason_hint(why, "fleet check %s", s->name);
            reason_about(why, s->name, name);
        }
        return;
    }
    fleet_text_t as_of = "";
    if (!online) {
        fleet_name_t age;
        for_people(u32s_of(core, core->age_at)[node], age);
        FLEET_FORMAT(as_of, "%s ago", age);
    }
    if (!port->visible) {
        say_no_port(core, set, node, as_of, no);
    }
    for (uint32_t i = 0; i < port->problems_n; i++) {
        const broker_problem_t *problem = &port->problems[i];
        if (strcmp(problem->code, "no-port") == 0 ||
            (strcmp(problem->code, "lock-foreign") == 0 &&
             strcmp(port->lock_owner, node_name(core, s->holder)) == 0)) {
            continue; // said above; the present owner's lock is no problem
        }
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_NOT_READY, "%s: %.200s%s%s", name,
                          problem->text, as_of[0] != '\0' ? ", as of " : "",
                          as_of);
        fleet_reason_hint(why, "%s",
                          problem->hint[0] != '\0' ? problem->hint : "");
        FLEET_COPY(why->resource, problem->resource);
        reason_about(why, s->name, name);
    }
}

void admit_target(const broker_core_t *core, uint32_t set, uint32_t node,
                  fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const char *name = node_name(core, node);
    if (!node_online(core, node)) {
        say_offline(core, set, node, no);
    }
    if (!set_allows(s, name)) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_NODE_NOT_LISTED,
                          "the definition of %s does not list %s", s->name,
                          name);
        fleet_reason_hint(why, "fleet show %s", s->name);
        reason_about(why, s->name, name);
    }
    admit_place(core, set, node, no);
    admit_port(core, set, node, no);
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (s->debts[i].node == node) {
            fleet_reason_t *why = reason_next(no);
            fleet_reason_make(why, FLEET_DEBT,
                              "%s was displaced from %s under token %llu and "
                              "has not dropped it yet",
                              name, s->name, (number_t)s->debts[i].token);
            fleet_reason_hint(why, "fleet status %s", name);
            reason_about(why, s->name, name);
        }
    }
}

void admit_in_place(const broker_core_t *core, uint32_t set,
                    fleet_refused_t *no) {
    uint32_t holder = set_of(core, set)->holder;
    if (!node_online(core, holder)) {
        say_offline(core, set, holder, no);
    }
}

void admit_set(const broker_core_t *core, uint32_t set, bool busy_ends,
               fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    no->token = s->token;
    FLEET_COPY(no->from, node_name(core, s->holder));
    if (s->transfer.id != 0 && !busy_ends) {
        fleet_reason_t *why = reason_next(no);
        no->transfer = s->transfer.id;
        fleet_reason_make(why, FLEET_BUSY, "a %s of %s by %s is running: t%llu",
                          fleet_kind_word(s->transfer.kind), s->name,
                          s->transfer.by, (number_t)s->transfer.id);
        fleet_reason_hint(why, "fleet wait t%llu", (number_t)s->transfer.id);
        reason_about(why, s->name, "");
    }
    if (set_behind(core, set)) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_JOURNAL_BEHIND,
                          "a node or a lock shows more of %s than the journal "
                          "knows: nothing is granted",
                          s->name);
        fleet_reason_hint(why, "fleet status %s", s->name);
        reason_about(why, s->name, "");
    }
    // A transfer takes two at most: there, and back.
    if (s->token + 2 > FLEET_TOKEN_MAX) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_TOKENS_USED_UP,
                          "the token of %s is at its largest", s->name);
        reason_about(why, s->name, "");
    }
}

void admit_owner(const broker_core_t *core, uint32_t set,
                 const fleet_request_t *request, fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const broker_node_t *owner = node_of(core, s->holder);
    if (owner->state == fleet_node_state_ONLINE) {
        return;
    }
    fleet_reason_t *why = reason_next(no);
    fleet_name_t age;
    for_people(u32s_of(core, core->age_at)[s->holder], age);
    fleet_reason_make(why, FLEET_OWNER_SILENT,
                      "%s is owned by %s, which is %s for %s and cannot be "
                      "asked for its release",
                      s->name, owner->name, fleet_node_state_word(owner->state),
                      age);
    if (request->verb == fleet_verb_MOVE) {
        fleet_reason_hint(why, "fleet move %s %s --force", s->name,
                          request->node);
    } else {
        fleet_reason_hint(why, "fleet unlock %s --force", s->name);
    }
    reason_about(why, s->name, owner->name);
}

fleet_ready_t admit_ready(const broker_core_t *core, uint32_t set,
                          uint32_t node, fleet_refused_t *no) {
    admit_target(core, set, node, no);
    if (!node_online(core, node) || find_port(core, set, node) == NULL) {
        return fleet_ready_UNKNOWN;
    }
    return no->reasons_n == 0 ? fleet_ready_YES : fleet_ready_NO;
}

static bool ready_with(const broker_core_t *core, uint32_t set, uint32_t node,
                       const fleet_request_t *request, bool *ret_retry) {
    fleet_refused_t no = {0};
    if (node == NOBODY) {
        return false;
    }
    admit_target(core, set, node, &no);
    admit_waive(&no, request);
    bool retry = no.reasons_n > 0;
    for (uint32_t i = 0; i < no.reasons_n; i++) {
        retry = retry && no.reasons[i].retry;
    }
    *ret_retry = *ret_retry || retry;
    return no.reasons_n == 0;
}

uint32_t admit_choose(const broker_core_t *core, uint32_t set,
                      const fleet_request_t *request, fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    bool retry = false;
    uint32_t home = find_node(core, s->facts.home);
    if (ready_with(core, set, home, request, &retry)) {
        return home;
    }
    if (ready_with(core, set, s->last_owner, request, &retry)) {
        return s->last_owner;
    }
    uint32_t best = NOBODY;
    for (uint32_t i = set_soft_of(core, set)->first_port; i != NOBODY;
         i = port_of(core, i)->next_of_set) {
        uint32_t node = port_of(core, i)->node;
        if (!ready_with(core, set, node, request, &retry)) {
            continue;
        }
        uint32_t free = slots_free(core, node);
        uint32_t most = best == NOBODY ? 0 : slots_free(core, best);
        if (best == NOBODY || free > most ||
            (free == most &&
             strcmp(node_name(core, node), node_name(core, best)) < 0)) {
            best = node;
        }
    }
    if (best == NOBODY) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_NO_NODE, "no node could run %s now",
                          s->name);
        // Right after a definition the nodes have not looked at it yet.
        why->retry = retry || set_soft_of(core, set)->first_port == NOBODY;
        fleet_reason_hint(why, "fleet check %s", s->name);
        reason_about(why, s->name, "");
    }
    return best;
}

// -------------------------------------------------------------------- evidence

// P3: a lapse counts where a watchdog, fed only while the lease is valid, has
// stopped the machine by now.
static bool lapse_counts(const broker_core_t *core, uint32_t node) {
    const broker_node_t *n = node_of(core, node);
    uint64_t age_ms = u32s_of(core, core->age_at)[node];
    return n->state == fleet_node_state_SILENT && n->watchdog_ms > 0 &&
           (n->watchdog_ms <= core->config.margin_ms ||
            age_ms >= durable_of(core)->longest_ms + n->watchdog_ms);
}

fleet_evidence_t evidence_now(const broker_core_t *core, uint32_t node,
                              bool blocked) {
    const broker_node_t *n = node_of(core, node);
    bool down = n->state == fleet_node_state_DOWN;
    if (lapse_counts(core, node)) {
        return fleet_evidence_LAPSED;
    }
    if (blocked) {
        return fleet_evidence_PREEMPTED;
    }
    if (down && n->how == fleet_down_how_FENCED) {
        return fleet_evidence_FENCED;
    }
    return down && n->how == fleet_down_how_ATTESTED ? fleet_evidence_ATTESTED
                                                     : fleet_evidence_NONE;
}

// An owner that renews, or whose lease is not over yet.
static void say_alive(const broker_core_t *core, uint32_t set,
                      const fleet_request_t *request, fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const char *owner = node_name(core, s->holder);
    uint32_t age_ms = u32s_of(core, core->age_at)[s->holder];
    uint32_t left_ms = u32s_of(core, core->left_at)[s->holder];
    fleet_reason_t *why = reason_next(no);
    fleet_name_t age;
    fleet_name_t left;
    for_people(age_ms, age);
    for_people(left_ms, left);
    if (age_ms > 2 * core->config.renew_ms) {
        fleet_reason_make(why, FLEET_LEASE_VALID,
                          "%s is silent for %s; its lease runs out in %s",
                          owner, age, left);
        fleet_reason_hint(why, "in %s: fleet %s %s%s%s%s", left,
                          fleet_verb_word(request->verb), s->name,
                          request->node[0] != '\0' ? " " : "", request->node,
                          request->force ? " --force" : "");
    } else if (request->owner_is_down[0] != '\0') {
        fleet_reason_make(why, FLEET_NOT_DOWN,
                          "you say %s is down, but it renewed its lease %s "
                          "ago (boot %.8s)",
                          owner, age, node_of(core, s->holder)->boot_id);
        fleet_reason_hint(why, "fleet status %s", owner);
    } else {
        fleet_reason_make(why, FLEET_OWNER_ONLINE,
                          "%s is online, it renewed its lease %s ago: its "
                          "release is asked for without --force",
                          owner, age);
        fleet_reason_hint(why, "fleet %s %s%s%s",
                          request->verb == fleet_verb_UNLOCK ? "stop" : "move",
                          s->name, request->node[0] != '\0' ? " " : "",
                          request->node);
    }
    reason_about(why, s->name, owner);
}

static void say_no_evidence(const broker_core_t *core, uint32_t set,
                            const fleet_request_t *request,
                            fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const broker_node_t *owner = node_of(core, s->holder);
    const char *verb = fleet_verb_word(request->verb);
    fleet_name_t age;
    for_people(u32s_of(core, core->age_at)[s->holder], age);
    fleet_reason_t *why = reason_next(no);
    fleet_reason_make(why, FLEET_NO_EVIDENCE,
                      "no evidence that %s has stopped: %s for %s, %s, %s",
                      owner->name, fleet_node_state_word(owner->state), age,
                      owner->watchdog_ms > 0 ? "its watchdog had time left"
                                             : "no watchdog was armed",
                      node_soft_of(core, s->holder)->fenceable
                          ? "it was not fenced"
                          : "it has no fence command");
    if (node_soft_of(core, s->holder)->fenceable) {
        fleet_reason_hint(why, "fleet fence %s --reason TEXT", owner->name);
    } else {
        fleet_reason_hint(why,
                          "if you have seen that %s is off: fleet %s %s%s%s "
                          "--owner-is-down %s --reason TEXT",
                          owner->name, verb, s->name,
                          request->node[0] != '\0' ? " " : "", request->node,
                          owner->name);
    }
    reason_about(why, s->name, owner->name);
    if (s->facts.disk_group[0] != '\0') {
        why = reason_next(no);
        fleet_reason_make(why, FLEET_CANNOT_EVICT,
                          "the %s driver of disk group %s cannot block %s",
                          s->facts.driver, s->facts.disk_group, owner->name);
        fleet_reason_hint(why, "fleet check %s", s->name);
        reason_about(why, s->name, owner->name);
    }
}

static void admit_attested(const broker_core_t *core, uint32_t set,
                           const fleet_request_t *request,
                           fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const char *said = request->owner_is_down;
    if (find_node(core, said) == NOBODY) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_NODE_UNKNOWN, "no node is called %s",
                          said);
        fleet_reason_hint(why, "fleet status");
        reason_about(why, s->name, said);
    } else if (find_node(core, said) != s->holder) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_NOT_OWNER,
                          "you say %s is down, but %s is owned by %s", said,
                          s->name, node_name(core, s->holder));
        fleet_reason_hint(why, "fleet status %s", s->name);
        reason_about(why, s->name, said);
    }
    if (request->reason[0] == '\0') {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_BAD_ARGUMENT,
                          "the word that %s is down needs a reason for the "
                          "record",
                          said);
        fleet_reason_hint(why, "--owner-is-down %s --reason TEXT", said);
        reason_about(why, s->name, said);
    }
}

void admit_forced(const broker_core_t *core, uint32_t set, uint32_t executor,
                  const fleet_request_t *request, fleet_refused_t *no) {
    const broker_set_t *s = set_of(core, set);
    const broker_port_t *port =
        executor == NOBODY ? NULL : find_port(core, set, executor);
    bool attests = request->owner_is_down[0] != '\0';
    bool online = node_of(core, s->holder)->state == fleet_node_state_ONLINE;
    bool blocks = s->facts.disk_group[0] != '\0' && port != NULL &&
                  port->visible && port->can_evict;
    assert(s->holder != NOBODY);
    if (attests) {
        admit_attested(core, set, request, no);
    }
    if (online && (!s->stuck || attests)) {
        say_alive(core, set, request, no);
    } else if (!attests &&
               evidence_now(core, s->holder, blocks) == fleet_evidence_NONE) {
        say_no_evidence(core, set, request, no);
    }
    if (s->debts_n == BROKER_DEBTS_MAX) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_DEBT,
                          "%u displaced nodes have not dropped %s yet",
                          s->debts_n, s->name);
        fleet_reason_hint(why, "fleet status");
        reason_about(why, s->name, "");
    }
}

void admit_waive(fleet_refused_t *no, const fleet_request_t *request) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < no->reasons_n; i++) {
        bool waived = false;
        for (uint32_t j = 0; request != NULL && j < request->ignore_n; j++) {
            waived = waived || (no->reasons[i].waivable &&
                                strcmp(no->reasons[i].code,
                                       request->ignore[j].name) == 0);
        }
        if (!waived && kept != i) {
            no->reasons[kept] = no->reasons[i];
        }
        kept += waived ? 0 : 1;
    }
    no->reasons_n = kept;
}
