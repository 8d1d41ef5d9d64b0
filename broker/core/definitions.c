// SPDX-License-Identifier: MIT
//
// Defining, changing and removing sets.  Never stops, starts or moves anything.

#include <stdio.h>

#include "broker/core/state.h"

// "192.0.2.80" of "192.0.2.80/24".
static bool same_address(const char *a, const char *b) {
    size_t n = strcspn(a, "/");
    return n == strcspn(b, "/") && strncmp(a, b, n) == 0;
}

static void say_taken(fleet_refused_t *no, const char *set, const char *other,
                      const char *what, const char *which) {
    fleet_reason_t *why = reason_next(no);
    fleet_reason_make(why, FLEET_ADDRESS_TAKEN, "%s has %s %s already", other,
                      what, which);
    fleet_reason_hint(why, "fleet show %s", other);
    reason_about(why, set, "");
}

static void admit_against(const fleet_facts_t *facts, const char *set,
                          const broker_set_t *other, fleet_refused_t *no) {
    for (uint32_t i = 0; i < facts->addresses_n; i++) {
        for (uint32_t j = 0; j < other->facts.addresses_n; j++) {
            if (same_address(facts->addresses[i].address,
                             other->facts.addresses[j].address)) {
                say_taken(no, set, other->name, "the address",
                          facts->addresses[i].address);
            }
        }
    }
    if (facts->addresses_n > 0 && other->facts.addresses_n > 0 &&
        strcmp(facts->mac, other->facts.mac) == 0) {
        say_taken(no, set, other->name, "the MAC address", facts->mac);
    }
    if (facts->disk_group[0] != '\0' &&
        strcmp(facts->disk_group, other->facts.disk_group) == 0) {
        say_taken(no, set, other->name, "the disk group", facts->disk_group);
    }
}

static void admit_definition(const broker_core_t *core, const char *set,
                             const fleet_facts_t *facts, uint32_t known,
                             fleet_refused_t *no) {
    const broker_durable_t *durable = durable_of(core);
    if (!fleet_name_ok(set)) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_BAD_ARGUMENT,
                          "\"%s\" cannot be the name of a set", set);
        reason_about(why, set, "");
    }
    if (find_node(core, set) != NOBODY) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_NAME_TAKEN, "%s is a node", set);
        reason_about(why, set, set);
    }
    if (known == NOBODY && durable->sets_n == durable->limits.sets) {
        fleet_reason_t *why = reason_next(no);
        fleet_reason_make(why, FLEET_SITE_FULL,
                          "the broker's limit of %u sets is reached",
                          durable->limits.sets);
        fleet_reason_hint(why, "raise limits.sets in broker.yaml");
        reason_about(why, set, "");
    }
    for (uint32_t i = 0; i < durable->sets_n; i++) {
        if (i != known && set_of(core, i)->defined) {
            admit_against(facts, set, set_of(core, i), no);
        }
    }
    // What is on its way would be done by two definitions.
    if (known != NOBODY && set_of(core, known)->transfer.id != 0) {
        fleet_reason_t *why = reason_next(no);
        no->transfer = set_of(core, known)->transfer.id;
        fleet_reason_make(why, FLEET_BUSY, "a transfer of %s is running", set);
        fleet_reason_hint(why, "fleet wait %s", set);
        reason_about(why, set, "");
    }
}

// ---------------------------------------------------------------- what changed

typedef struct lines {
    size_t at;
    fleet_words_t text;
} lines_t;

static void line(lines_t *lines, const char *what, const char *before,
                 const char *after) {
    if (strcmp(before, after) == 0 || lines->at >= sizeof(lines->text) - 1) {
        return;
    }
    int add =
        snprintf(lines->text + lines->at, sizeof(lines->text) - lines->at,
                 "%s: %s -> %s\n", what, before[0] != '\0' ? before : "none",
                 after[0] != '\0' ? after : "none");
    lines->at += add > 0 ? (size_t)add : 0;
}

static void join_nodes(const fleet_facts_t *facts, fleet_text_t ret_text) {
    fleet_text_t text = "";
    size_t at = 0;
    for (uint32_t i = 0; i < facts->nodes_n && at < sizeof(text) - 1; i++) {
        int add = snprintf(text + at, sizeof(text) - at, "%s%s",
                           i > 0 ? " " : "", facts->nodes[i].name);
        at += add > 0 ? (size_t)add : 0;
    }
    fleet_text_copy(ret_text, sizeof(fleet_text_t), text);
}

static void join_addresses(const fleet_facts_t *facts, fleet_text_t ret_text) {
    fleet_text_t text = "";
    size_t at = 0;
    for (uint32_t i = 0; i < facts->addresses_n && at < sizeof(text) - 1; i++) {
        int add = snprintf(text + at, sizeof(text) - at, "%s%s",
                           i > 0 ? " " : "", facts->addresses[i].address);
        at += add > 0 ? (size_t)add : 0;
    }
    fleet_text_copy(ret_text, sizeof(fleet_text_t), text);
}

static void compare(const fleet_facts_t *before, const fleet_facts_t *after,
                    fleet_words_t ret_diff) {
    lines_t lines = {0};
    fleet_text_t a;
    fleet_text_t b;
    line(&lines, "home", before->home, after->home);
    join_nodes(before, a);
    join_nodes(after, b);
    line(&lines, "nodes", a, b);
    line(&lines, "disk group", before->disk_group, after->disk_group);
    line(&lines, "driver", before->driver, after->driver);
    join_addresses(before, a);
    join_addresses(after, b);
    line(&lines, "addresses", a, b);
    line(&lines, "mac", before->mac, after->mac);
    line(&lines, "without_lease",
         fleet_without_lease_word(before->without_lease),
         fleet_without_lease_word(after->without_lease));
    line(&lines, "boot", fleet_at_boot_word(before->boot),
         fleet_at_boot_word(after->boot));
    line(&lines, "takeover", fleet_takeover_word(before->takeover),
         fleet_takeover_word(after->takeover));
    if (lines.at == 0) {
        FLEET_COPY(lines.text, "resources or their limits\n");
    }
    fleet_text_copy(ret_diff, sizeof(fleet_words_t), lines.text);
}

// ----------------------------------------------------------------------- apply

static void commit_definition(step_t *step, const char *by, uint32_t known,
                              uint64_t rev, bool is_new, bool pending) {
    const broker_input_t *in = step->in;
    if (is_new) {
        fleet_set_defined_t *event = NEW_EVENT(step, set_defined);
        FLEET_COPY(event->head.set, in->set);
        FLEET_COPY(event->head.by, by);
        event->head.token =
            known == NOBODY ? 0 : set_of(step->core, known)->token;
        event->rev = rev;
        event->facts = *in->facts;
    } else {
        fleet_set_changed_t *event = NEW_EVENT(step, set_changed);
        head_set(step, &event->head, known, set_of(step->core, known)->holder,
                 set_of(step->core, known)->token);
        FLEET_COPY(event->head.by, by);
        event->rev = rev;
        event->pending = pending;
        event->facts = *in->facts;
    }
    step_commit(step);
    step_note(step, "%s applies %s -> revision %llu%s", by, in->set,
              (unsigned long long)rev,
              pending ? ", from its next start on" : "");
}

void definition_apply(step_t *step, const char *by) {
    broker_core_t *core = step->core;
    const broker_input_t *in = step->in;
    const fleet_apply_t *apply = &in->message->apply;
    assert(in->facts != NULL);
    uint32_t known = find_set(core, in->set);
    const broker_set_t *s = known == NOBODY ? NULL : set_of(core, known);
    bool is_new = s == NULL || !s->defined;
    fleet_applied_t applied = {.is_new = is_new, .changed = true};
    FLEET_COPY(applied.request, apply->request);
    FLEET_COPY(applied.set, in->set);
    if (!is_new && memcmp(s->facts.digest, in->facts->digest,
                          sizeof(s->facts.digest)) == 0) {
        applied.changed = false;
        applied.pending = s->pending;
        applied.rev = s->rev;
        TO_PEER(step, applied)[0] = applied;
        step_note(step, "%s applies %s -> it is so already", by, in->set);
        return;
    }
    fleet_refused_t no = {0};
    admit_definition(core, in->set, in->facts, known, &no);
    if (no.reasons_n > 0) {
        FLEET_COPY(no.request, apply->request);
        refuse(step, in->peer, &no);
        return;
    }
    applied.rev = s == NULL ? 1 : s->rev + 1;
    applied.pending = !is_new && s->holder != NOBODY;
    if (!is_new) {
        compare(&s->facts, in->facts, applied.diff);
    }
    if (!apply->dry_run) {
        commit_definition(step, by, known, applied.rev, is_new,
                          applied.pending);
        *tell_of(core, find_set(core, in->set)) = 0;
    }
    TO_PEER(step, applied)[0] = applied;
}

void definition_remove(step_t *step, const fleet_request_t *request,
                       const char *by) {
    broker_core_t *core = step->core;
    uint32_t set = find_set(core, request->set);
    const broker_set_t *s = set_of(core, set);
    fleet_refused_t no = {0};
    FLEET_COPY(no.request, request->request);
    FLEET_COPY(no.from, node_name(core, s->holder));
    no.token = s->token;
    no.transfer = s->transfer.id;
    if (s->transfer.id != 0) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_BUSY, "a transfer of %s is running",
                          s->name);
        fleet_reason_hint(why, "fleet wait %s", s->name);
        reason_about(why, s->name, "");
    }
    if (s->holder != NOBODY) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_NOT_PARKED, "%s is held by %s", s->name,
                          node_name(core, s->holder));
        fleet_reason_hint(why, "fleet stop %s", s->name);
        reason_about(why, s->name, node_name(core, s->holder));
    }
    for (uint32_t i = 0; i < s->debts_n; i++) {
        fleet_reason_t *why = reason_next(&no);
        fleet_reason_make(why, FLEET_DEBT,
                          "%s was displaced from %s and has not dropped it yet",
                          node_name(core, s->debts[i].node), s->name);
        reason_about(why, s->name, node_name(core, s->debts[i].node));
    }
    if (no.reasons_n > 0) {
        refuse(step, step->in->peer, &no);
        return;
    }
    fleet_done_t done = {.changed = !request->dry_run};
    FLEET_COPY(done.request, request->request);
    FLEET_FORMAT(done.text,
                 request->dry_run ? "would remove %s" : "%s is removed",
                 s->name);
    if (!request->dry_run) {
        fleet_set_removed_t *event = NEW_EVENT(step, set_removed);
        head_set(step, &event->head, set, NOBODY, s->token);
        FLEET_COPY(event->head.by, by);
        FLEET_COPY(event->head.reason, request->reason);
        step_commit(step);
        step_note(step, "%s removes %s -> removed", by, s->name);
        ports_forget_set(core, set);
        *tell_of(core, set) = 0;
    }
    answer_done(step, step->in->peer, &done, request_content(request));
}
