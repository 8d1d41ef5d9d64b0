// SPDX-License-Identifier: MIT
//
// A broker's core in a story: inputs go in by hand, what comes out is read as
// lines of text.  Every commit is kept; story_end replays them into a fresh
// core and compares the durable bytes (S5), and the invariants are checked
// after each step.
//
//   + event SET NODE TOKEN ...      committed
//   > NODE message SET TOKEN ...    sent to a node
//   < message ...                   answered to who asked
//   * effect NAME                   any other effect that matters

#ifndef BROKER_STORY_H
#define BROKER_STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/core.h"
#include "proto/text.h"

#define STORY_EVENTS_MAX 400
#define STORY_NODES 3

typedef struct story {
    broker_config_t config;
    void *memory;
    broker_core_t *core;
    broker_effects_t *effects;
    fleet_message_t *journal;
    uint32_t journal_n;
    uint64_t time_us;
    uint64_t sessions[STORY_NODES]; // of node1, node2, node3
    uint64_t hellos[STORY_NODES];
    fleet_reason_t reasons[FLEET_REASONS_MAX]; // of the last refusal or end
    uint32_t reasons_n;
    fleet_outcome_t outcome; // of the last end
    bool changed;
    uint64_t transfer; // the last one that was accepted
    char trace[16384];
    fleet_message_t message; // to be filled in and sent
} story_t;

static inline void story_line(story_t *story, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void story_line(story_t *story, const char *format, ...) {
    size_t at = strlen(story->trace);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(story->trace + at, sizeof(story->trace) - at, format,
                    arguments);
    va_end(arguments);
    at = strlen(story->trace);
    assert_true(at + 1 < sizeof(story->trace));
    story->trace[at] = '\n';
    story->trace[at + 1] = '\0';
}

typedef unsigned long long story_number_t;

static inline void story_keep(story_t *story, const fleet_reason_t *reasons,
                              uint32_t n) {
    story->reasons_n = n;
    memcpy(story->reasons, reasons, n * sizeof(*reasons));
}

static inline void story_event(story_t *story, const fleet_message_t *event) {
    const fleet_head_t *head = &event->event.head;
    const char *word = fleet_message_spec(event->type)->word;
    fleet_text_t more = "";
    if (event->type == FLEET_MESSAGE_transfer_requested) {
        FLEET_FORMAT(more, " %s",
                     fleet_kind_word(event->transfer_requested.kind));
    } else if (event->type == FLEET_MESSAGE_set_released) {
        FLEET_FORMAT(more, " %s%s",
                     fleet_evidence_word(event->set_released.evidence),
                     event->set_released.by_itself ? " by-itself" : "");
    } else if (event->type == FLEET_MESSAGE_set_granted) {
        FLEET_FORMAT(more, " %s%s%s",
                     fleet_evidence_word(event->set_granted.evidence),
                     event->set_granted.in_place ? " in-place" : "",
                     event->set_granted.returning ? " returning" : "");
    } else if (event->type == FLEET_MESSAGE_transfer_ended) {
        FLEET_FORMAT(more, " %s",
                     fleet_outcome_word(event->transfer_ended.outcome));
        story->outcome = event->transfer_ended.outcome;
        story->changed = event->transfer_ended.changed;
        story_keep(story, event->transfer_ended.reasons,
                   event->transfer_ended.reasons_n);
    } else if (event->type == FLEET_MESSAGE_set_stuck) {
        FLEET_FORMAT(more, " %s", event->set_stuck.code);
    } else if (event->type == FLEET_MESSAGE_node_down) {
        FLEET_FORMAT(more, " %s", fleet_down_how_word(event->node_down.how));
    } else if (event->type == FLEET_MESSAGE_set_acquired) {
        FLEET_COPY(more, event->set_acquired.late ? " late" : "");
    } else if (event->type == FLEET_MESSAGE_acquire_failed_event) {
        FLEET_COPY(more,
                   event->acquire_failed_event.undone ? " undone" : " left");
    }
    story_line(story, "+ %s %s %s %llu%s", word,
               head->set[0] != '\0' ? head->set : "-",
               head->node[0] != '\0' ? head->node : "-",
               (story_number_t)head->token, more);
    assert_true(story->journal_n < STORY_EVENTS_MAX);
    story->journal[story->journal_n++] = *event;
}

static inline void story_command(story_t *story,
                                 const broker_effect_t *effect) {
    const fleet_message_t *m = &effect->message;
    const char *name = effect->name;
    if (m->type == FLEET_MESSAGE_hello_ok) {
        int i = name[4] - '1';
        story->sessions[i] = m->hello_ok.session;
        story_line(story, "> %s hello_ok%s", name,
                   m->hello_ok.floors_n > 0 ? " floors" : "");
    } else if (m->type == FLEET_MESSAGE_confirmed) {
        fleet_text_t pairs = "";
        for (uint32_t i = 0; i < m->confirmed.pairs_n; i++) {
            fleet_text_t before;
            FLEET_COPY(before, pairs);
            FLEET_FORMAT(pairs, "%.200s %s/%llu", before,
                         m->confirmed.pairs[i].set,
                         (story_number_t)m->confirmed.pairs[i].token);
        }
        story_line(story, "> %s confirmed%s", name, pairs);
    } else if (m->type == FLEET_MESSAGE_watch_set) {
        if (m->watch_set.gone) {
            story_line(story, "> %s watch_set %s gone", name, m->watch_set.set);
        }
    } else if (m->type == FLEET_MESSAGE_prepare) {
        story_line(story, "> %s prepare %s%s", name, m->prepare.set,
                   m->prepare.undo ? " undo" : "");
    } else if (m->type == FLEET_MESSAGE_acquire) {
        story_line(story, "> %s acquire %s %llu%s", name, m->acquire.set,
                   (story_number_t)m->acquire.token,
                   m->acquire.in_place ? " in-place" : "");
    } else if (m->type == FLEET_MESSAGE_release) {
        story_line(story, "> %s release %s %llu%s", name, m->release.set,
                   (story_number_t)m->release.token,
                   m->release.silence_first ? " silence" : "");
    } else if (m->type == FLEET_MESSAGE_evict) {
        story_line(story, "> %s evict %s %llu victim %s/%llu", name,
                   m->evict.set, (story_number_t)m->evict.token,
                   m->evict.victim, (story_number_t)m->evict.victim_token);
    } else if (m->type == FLEET_MESSAGE_restart) {
        story_line(story, "> %s restart %s %s", name, m->restart.set,
                   m->restart.resource);
    } else {
        story_line(story, "> %s %s", name, fleet_message_spec(m->type)->name);
    }
}

static inline void story_answer(story_t *story, const fleet_message_t *m) {
    if (m->type == FLEET_MESSAGE_refused) {
        fleet_text_t codes = "";
        for (uint32_t i = 0; i < m->refused.reasons_n; i++) {
            fleet_text_t before;
            FLEET_COPY(before, codes);
            FLEET_FORMAT(codes, "%.200s %s", before,
                         m->refused.reasons[i].code);
        }
        story_line(story, "< refused%s", codes);
        story_keep(story, m->refused.reasons, m->refused.reasons_n);
    } else if (m->type == FLEET_MESSAGE_transfer) {
        story_line(story, "< transfer t%llu %s %s %llu%s",
                   (story_number_t)m->transfer.transfer,
                   fleet_outcome_word(m->transfer.outcome), m->transfer.to,
                   (story_number_t)m->transfer.token,
                   m->transfer.changed ? " changed" : "");
    } else if (m->type == FLEET_MESSAGE_accepted) {
        story->transfer = m->accepted.transfer;
        story_line(story, "< accepted");
    } else if (m->type == FLEET_MESSAGE_done) {
        story_line(story, "< done%s", m->done.changed ? " changed" : "");
    } else if (m->type == FLEET_MESSAGE_applied) {
        story_line(story, "< applied rev %llu%s%s",
                   (story_number_t)m->applied.rev,
                   m->applied.changed ? " changed" : "",
                   m->applied.pending ? " pending" : "");
    } else {
        story_line(story, "< %s", fleet_message_spec(m->type)->name);
    }
}

static inline void story_step(story_t *story, const broker_input_t *input) {
    broker_core_step(story->core, input, story->effects);
    broker_core_check(story->core);
    for (uint32_t i = 0; i < story->effects->n; i++) {
        const broker_effect_t *effect = &story->effects->items[i];
        switch (effect->kind) {
        case BROKER_OUT_COMMIT:
            story_event(story, &effect->message);
            break;
        case BROKER_OUT_NODE:
            story_command(story, effect);
            break;
        case BROKER_OUT_PEER:
            story_answer(story, &effect->message);
            break;
        case BROKER_OUT_CUT:
            story_line(story, "* cut %s", effect->name);
            break;
        case BROKER_OUT_FENCE:
            story_line(story, "* fence %s", effect->name);
            break;
        case BROKER_OUT_SESSION:
        case BROKER_OUT_CHANGED:
            break;
        case BROKER_OUT_NOTE:
            assert_true(strstr(effect->text, " -> ") != NULL ||
                        strlen(effect->text) > 150);
            break;
        }
    }
}

static inline void story_forget(story_t *story) {
    story->trace[0] = '\0';
}

// The trace since the last one is exactly this.
static inline void story_expect(story_t *story, const char *expected) {
    if (strcmp(story->trace, expected) != 0) {
        fprintf(stderr, "--- expected\n%s--- actual\n%s---\n", expected,
                story->trace);
        fail();
    }
    story_forget(story);
}

static inline void story_input(story_t *story, broker_input_kind_t kind,
                               uint64_t elapsed_ms) {
    broker_input_t input = {.kind = kind, .elapsed_ms = elapsed_ms};
    story->time_us += elapsed_ms * 1000;
    input.time_us = story->time_us;
    story_step(story, &input);
}

// Time passes, and whatever is due by then is done.
static inline void story_wait(story_t *story, uint64_t ms) {
    story_input(story, BROKER_IN_TICK, ms);
    for (int i = 0; i < 100 && broker_core_deadline(story->core) == 0; i++) {
        story_input(story, BROKER_IN_TICK, 0);
    }
    assert_true(broker_core_deadline(story->core) > 0);
}

static inline fleet_message_t *story_message(story_t *story,
                                             fleet_message_type_t type) {
    memset(&story->message, 0, sizeof(story->message));
    story->message.type = type;
    return &story->message;
}

static inline void story_send(story_t *story, fleet_role_t role,
                              const char *name) {
    broker_input_t input = {
        .kind = BROKER_IN_MESSAGE,
        .time_us = story->time_us,
        .peer = role == fleet_role_NODE ? (uint64_t)(name[4] - '0') : 9,
        .role = role,
        .message = &story->message};
    FLEET_COPY(input.name, name);
    story_step(story, &input);
}

// ------------------------------------------------------------------- the site

static inline void story_key(story_t *story, fleet_role_t role,
                             const char *name, uint8_t digit) {
    fleet_key_change_t *change =
        &story_message(story, FLEET_MESSAGE_key_change)->key_change;
    change->admit = true;
    change->role = role;
    FLEET_COPY(change->name, name);
    memset(change->key, digit, sizeof(change->key));
    broker_input_t input = {.kind = BROKER_IN_KEY,
                            .time_us = story->time_us,
                            .message = &story->message};
    story_step(story, &input);
}

static inline void story_define(story_t *story, const char *set, bool has_disk,
                                const char *address) {
    fleet_facts_t facts = {.start_ms = 20000, .stop_ms = 10000};
    FLEET_COPY(facts.home, "node1");
    if (has_disk) {
        FLEET_COPY(facts.disk_group, set);
        FLEET_COPY(facts.driver, "image");
    }
    if (address != NULL) {
        facts.addresses_n = 1;
        FLEET_COPY(facts.addresses[0].address, address);
        FLEET_FORMAT(facts.mac, "02:%s", address);
    }
    memset(facts.digest, set[0], sizeof(facts.digest));
    fleet_apply_t *apply = &story_message(story, FLEET_MESSAGE_apply)->apply;
    FLEET_FORMAT(apply->request, "apply-%s", set);
    broker_input_t input = {.kind = BROKER_IN_MESSAGE,
                            .time_us = story->time_us,
                            .peer = 9,
                            .role = fleet_role_OPERATOR,
                            .message = &story->message,
                            .facts = &facts};
    FLEET_COPY(input.name, "op1");
    FLEET_COPY(input.set, set);
    story_step(story, &input);
    story_wait(story, 0);
}

static inline fleet_hello_t *story_hello(story_t *story, int node,
                                         const char *boot) {
    fleet_hello_t *hello = &story_message(story, FLEET_MESSAGE_hello)->hello;
    hello->protocol = FLEET_PROTOCOL;
    FLEET_COPY(hello->site, "campus");
    FLEET_FORMAT(hello->node, "node%d", node);
    FLEET_COPY(hello->boot_id, boot);
    FLEET_FORMAT(hello->agent_id, "agent-%s", boot);
    hello->hello = ++story->hellos[node - 1];
    hello->slots = 2;
    return hello;
}

static inline void story_record(fleet_hello_t *hello, const char *set,
                                uint64_t token, fleet_phase_t phase) {
    fleet_pair_t *record = &hello->records[hello->records_n++];
    FLEET_COPY(record->set, set);
    record->token = token;
    record->phase = phase;
}

static inline void story_say(story_t *story, int node) {
    fleet_name_t name;
    FLEET_FORMAT(name, "node%d", node);
    story_send(story, fleet_role_NODE, name);
}

static inline void story_port(story_t *story, int node, const char *set,
                              bool visible, bool can_evict) {
    fleet_port_t *port = &story_message(story, FLEET_MESSAGE_port)->port;
    port->session = story->sessions[node - 1];
    FLEET_COPY(port->set, set);
    port->rev = 1;
    port->visible = visible;
    port->can_evict = can_evict;
    story_say(story, node);
}

static inline void story_beat(story_t *story, int node, const char *set,
                              uint64_t token) {
    fleet_heartbeat_t *beat =
        &story_message(story, FLEET_MESSAGE_heartbeat)->heartbeat;
    beat->session = story->sessions[node - 1];
    beat->number = 1;
    if (set != NULL) {
        beat->pairs_n = 1;
        FLEET_COPY(beat->pairs[0].set, set);
        beat->pairs[0].token = token;
        beat->pairs[0].phase = fleet_phase_HELD;
    }
    story_say(story, node);
}

static inline fleet_request_t *story_ask(story_t *story, fleet_verb_t verb,
                                         const char *set, const char *node) {
    fleet_request_t *request =
        &story_message(story, FLEET_MESSAGE_request)->request;
    request->verb = verb;
    FLEET_COPY(request->set, set);
    FLEET_COPY(request->node, node);
    return request;
}

static inline void story_op(story_t *story) {
    story_send(story, fleet_role_OPERATOR, "op1");
}

static inline void story_prepared(story_t *story, int node, const char *set) {
    fleet_prepared_t *answer =
        &story_message(story, FLEET_MESSAGE_prepared)->prepared;
    answer->session = story->sessions[node - 1];
    FLEET_COPY(answer->set, set);
    answer->transfer = story->transfer;
    answer->ok = true;
    story_say(story, node);
}

static inline void story_closed(story_t *story, int node, const char *set,
                                uint64_t token, const char *why) {
    fleet_closed_t *answer =
        &story_message(story, FLEET_MESSAGE_closed)->closed;
    answer->session = story->sessions[node - 1];
    FLEET_COPY(answer->set, set);
    answer->token = token;
    FLEET_COPY(answer->why, why);
    story_say(story, node);
}

static inline void story_acquired(story_t *story, int node, const char *set,
                                  uint64_t token) {
    fleet_acquired_t *answer =
        &story_message(story, FLEET_MESSAGE_acquired)->acquired;
    answer->session = story->sessions[node - 1];
    FLEET_COPY(answer->set, set);
    answer->token = token;
    story_say(story, node);
}

static inline void story_acquire_failed(story_t *story, int node,
                                        const char *set, uint64_t token,
                                        bool undone) {
    fleet_acquire_failed_t *answer =
        &story_message(story, FLEET_MESSAGE_acquire_failed)->acquire_failed;
    answer->session = story->sessions[node - 1];
    FLEET_COPY(answer->set, set);
    answer->token = token;
    answer->undone = undone;
    FLEET_COPY(answer->code, "start-failed");
    FLEET_COPY(answer->resource, "nginx");
    FLEET_COPY(answer->text, "nginx: [emerg] bind() failed");
    story_say(story, node);
}

static inline void story_release_failed(story_t *story, int node,
                                        const char *set, uint64_t token) {
    fleet_release_failed_t *answer =
        &story_message(story, FLEET_MESSAGE_release_failed)->release_failed;
    answer->session = story->sessions[node - 1];
    FLEET_COPY(answer->set, set);
    answer->token = token;
    FLEET_COPY(answer->resource, "data");
    FLEET_COPY(answer->text, "held by pid 4121 (rsync)");
    story_say(story, node);
}

static inline void story_evicted(story_t *story, int node, const char *set,
                                 uint64_t token, bool stamped, bool blocked) {
    fleet_evicted_t *answer =
        &story_message(story, FLEET_MESSAGE_evicted)->evicted;
    answer->session = story->sessions[node - 1];
    FLEET_COPY(answer->set, set);
    answer->token = token;
    answer->stamped = stamped;
    answer->blocked = blocked;
    FLEET_COPY(answer->text, "label read back");
    story_say(story, node);
}

static inline void story_start_core(story_t *story) {
    free(story->memory);
    story->memory = malloc(broker_core_size(&story->config.limits));
    assert_non_null(story->memory);
    story->core = broker_core_init(story->memory, &story->config);
}

// The broker dies and comes back: what it knows is the journal.
static inline void story_restart(story_t *story) {
    story_start_core(story);
    for (uint32_t i = 0; i < story->journal_n; i++) {
        assert_int_equal(broker_core_apply(story->core, &story->journal[i]),
                         FLEET_OK);
    }
    memset(story->sessions, 0, sizeof(story->sessions));
    story_input(story, BROKER_IN_START, 0);
    story_wait(story, 0);
}

// A site of three nodes that are online, each with two slots.
static inline story_t *story_new(void) {
    story_t *story = calloc(1, sizeof(*story));
    story->effects = malloc(sizeof(*story->effects));
    story->journal = calloc(STORY_EVENTS_MAX, sizeof(*story->journal));
    assert_non_null(story->effects);
    assert_non_null(story->journal);
    story->config = (broker_config_t){
        .limits = {.nodes = 4, .sets = 4, .keys = 8, .requests = 16},
        .site = "campus",
        .broker = "b1",
        .version = "0.1.0",
        .lease_ms = 10000,
        .margin_ms = 2000,
        .renew_ms = 2500,
        .resend_ms = 2000};
    story->time_us = 1000000;
    story_start_core(story);
    story_input(story, BROKER_IN_START, 0);
    story_key(story, fleet_role_ADMIN, "root", 1);
    story_key(story, fleet_role_OPERATOR, "op1", 2);
    story_key(story, fleet_role_NODE, "node1", 3);
    story_key(story, fleet_role_NODE, "node2", 4);
    story_key(story, fleet_role_NODE, "node3", 5);
    for (int node = 1; node <= STORY_NODES; node++) {
        (void)story_hello(story, node, "boot1");
        story_say(story, node);
    }
    story_forget(story);
    return story;
}

// www runs on node1 under token 1, every node sees its disk group.
static inline story_t *story_new_www(void) {
    story_t *story = story_new();
    story_define(story, "www", true, "192.0.2.80/24");
    for (int node = 1; node <= STORY_NODES; node++) {
        story_port(story, node, "www", true, true);
    }
    (void)story_ask(story, fleet_verb_START, "www", "");
    story_op(story);
    story_prepared(story, 1, "www");
    story_acquired(story, 1, "www", 1);
    assert_int_equal(story->outcome, fleet_outcome_MOVED);
    story_forget(story);
    return story;
}

static inline void story_end_unreplayed(story_t *story) {
    free(story->memory);
    free(story->journal);
    free(story->effects);
    free(story);
}

static inline void story_end(story_t *story) {
    size_t size = broker_core_durable_size(story->core);
    void *memory = malloc(broker_core_size(&story->config.limits));
    broker_core_t *again = broker_core_init(memory, &story->config);
    for (uint32_t i = 0; i < story->journal_n; i++) {
        assert_int_equal(broker_core_apply(again, &story->journal[i]),
                         FLEET_OK);
    }
    assert_memory_equal(broker_core_durable(story->core),
                        broker_core_durable(again), size);
    // And from a snapshot.
    void *third = malloc(broker_core_size(&story->config.limits));
    broker_core_t *restored = broker_core_init(third, &story->config);
    assert_int_equal(
        broker_core_restore(restored, broker_core_durable(story->core), size),
        FLEET_OK);
    assert_memory_equal(broker_core_durable(restored),
                        broker_core_durable(again), size);
    free(third);
    free(memory);
    story_end_unreplayed(story);
}

static inline bool story_set_row(const story_t *story, const char *set,
                                 fleet_set_row_t *ret_row) {
    for (uint32_t i = 0; broker_core_set_row(story->core, i, ret_row); i++) {
        if (strcmp(ret_row->name, set) == 0) {
            return true;
        }
    }
    return false;
}

static inline bool story_problem(const story_t *story, const char *code) {
    fleet_reason_t reason;
    for (uint32_t i = 0; broker_core_problem(story->core, i, &reason); i++) {
        if (strcmp(reason.code, code) == 0) {
            return true;
        }
    }
    return false;
}

#endif
