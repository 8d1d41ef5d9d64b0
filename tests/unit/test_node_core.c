// SPDX-License-Identifier: MIT
//
// Stories of the node's core: inputs go in, the trace of effects that comes out
// is the expectation. A line an effect; looks, notes and deadlines are left
// out.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/core.h"
#include "proto/text.h"

typedef struct world {
    node_core_t *core;
    void *memory;
    node_effects_t *effects;
    fleet_setdef_t setdef;
    fleet_message_t message;
    char trace[8192];
    uint64_t term, session, hello, beat;
    // The last job of each (act, resource).
    uint64_t jobs[NODE_ACT_RENEW + 1][FLEET_RESOURCES_MAX];
    uint64_t look;
} world_t;

static void add(fleet_setdef_t *setdef, fleet_resource_kind_t kind,
                const char *name, uint32_t needs) {
    fleet_resource_t *resource = &setdef->resources[setdef->resources_n++];
    resource->kind = kind;
    FLEET_COPY(resource->name, name);
    resource->needs = needs;
    resource->start_ms = 1000;
    resource->stop_ms = 1000;
}

// disk, then data on it; the address beside them; nginx needs all.
static void define(fleet_setdef_t *setdef) {
    memset(setdef, 0, sizeof(*setdef));
    FLEET_COPY(setdef->set, "www");
    add(setdef, FLEET_RESOURCE_DISK_GROUP, "disk", 0);
    add(setdef, FLEET_RESOURCE_FILESYSTEM, "data", 1);
    add(setdef, FLEET_RESOURCE_ADDRESS, "public", 0);
    add(setdef, FLEET_RESOURCE_SERVICE, "nginx", 7);
}

static const char *const acts[] = {
    [NODE_ACT_PREPARE] = "PREPARE", [NODE_ACT_UNPREPARE] = "UNPREPARE",
    [NODE_ACT_START] = "START",     [NODE_ACT_STOP] = "STOP",
    [NODE_ACT_PROBE] = "PROBE",     [NODE_ACT_EVICT] = "EVICT",
    [NODE_ACT_LOOK] = "LOOK",       [NODE_ACT_SILENCE] = "SILENCE",
    [NODE_ACT_SPEAK] = "SPEAK",     [NODE_ACT_RENEW] = "RENEW",
};

static void say(world_t *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(world_t *w, const char *format, ...) {
    size_t used = strlen(w->trace);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(w->trace + used, sizeof(w->trace) - used, format,
                    arguments);
    va_end(arguments);
}

static void take_act(world_t *w, const node_effect_t *effect) {
    if (effect->act == NODE_ACT_LOOK) {
        w->look = effect->job;
        return;
    }
    w->jobs[effect->act][effect->resource] = effect->job;
    say(w, "%s %s\n", acts[effect->act],
        w->setdef.resources[effect->resource].name);
}

static void take_message(world_t *w, const fleet_message_t *message) {
    switch ((int)message->type) {
    case FLEET_MESSAGE_hello:
        w->hello = message->hello.hello;
        say(w, "hello");
        for (uint32_t i = 0; i < message->hello.records_n; i++) {
            const fleet_pair_t *pair = &message->hello.records[i];
            say(w, " %s:%u:%s", pair->set, (unsigned)pair->token,
                fleet_phase_word(pair->phase));
        }
        say(w, "\n");
        break;
    case FLEET_MESSAGE_heartbeat:
        w->beat = message->heartbeat.number;
        break; // many, and not what most stories are about
    case FLEET_MESSAGE_acquired:
        say(w, "acquired %u\n", (unsigned)message->acquired.token);
        break;
    case FLEET_MESSAGE_acquire_failed:
        say(w, "acquire_failed %u %s %s\n",
            (unsigned)message->acquire_failed.token,
            message->acquire_failed.undone ? "undone" : "not-undone",
            message->acquire_failed.code);
        break;
    case FLEET_MESSAGE_closed:
        say(w, "closed %u %s\n", (unsigned)message->closed.token,
            message->closed.why);
        break;
    case FLEET_MESSAGE_release_failed:
        say(w, "release_failed %u %s\n",
            (unsigned)message->release_failed.token,
            message->release_failed.resource);
        break;
    case FLEET_MESSAGE_prepared:
        say(w, "prepared %s\n", message->prepared.ok ? "ok" : "failed");
        break;
    case FLEET_MESSAGE_restarted:
        say(w, "restarted %s\n", message->restarted.ok ? "ok" : "failed");
        break;
    case FLEET_MESSAGE_evicted:
        say(w, "evicted %u %d %d\n", (unsigned)message->evicted.token,
            message->evicted.stamped, message->evicted.blocked);
        break;
    case FLEET_MESSAGE_health:
        say(w, "health %s %s\n", message->health.resource,
            message->health.ok ? "ok" : "failed");
        break;
    case FLEET_MESSAGE_stale:
        say(w, "stale %u<%u\n", (unsigned)message->stale.token_shown,
            (unsigned)message->stale.token_now);
        break;
    case FLEET_MESSAGE_port:
        say(w, "port\n");
        break;
    case FLEET_MESSAGE_goodbye:
        say(w, "goodbye\n");
        break;
    default:
        fail_msg("an unexpected message %d", (int)message->type);
    }
}

static void step(world_t *w, const node_input_t *input) {
    node_core_step(w->core, input, w->effects);
    for (uint32_t i = 0; i < w->effects->n; i++) {
        const node_effect_t *effect = &w->effects->items[i];
        switch (effect->kind) {
        case NODE_OUT_RECORD:
            say(w, "RECORD %u %s\n", (unsigned)effect->record.token,
                fleet_phase_word(effect->record.phase));
            break;
        case NODE_OUT_ACT:
            take_act(w, effect);
            break;
        case NODE_OUT_ABANDON:
            say(w, "ABANDON %s\n", acts[effect->act]);
            break;
        case NODE_OUT_SEND:
            take_message(w, &effect->message);
            break;
        case NODE_OUT_TERM:
            say(w, "TERM %u\n", (unsigned)effect->term);
            break;
        case NODE_OUT_LEFT:
            say(w, "LEFT\n");
            break;
        case NODE_OUT_FORGET:
        case NODE_OUT_DEADLINE:
        case NODE_OUT_KEEP:
        case NODE_OUT_NOTE:
            break;
        }
    }
}

static void simple(world_t *w, node_input_kind_t kind, uint64_t elapsed_ms) {
    node_input_t input = {.kind = kind, .elapsed_ms = elapsed_ms};
    step(w, &input);
}

static void tick(world_t *w, uint64_t elapsed_ms) {
    simple(w, NODE_IN_TICK, elapsed_ms);
}

static fleet_message_t *from_broker(world_t *w, fleet_message_type_t type) {
    memset(&w->message, 0, sizeof(w->message));
    w->message.type = type;
    return &w->message;
}

static void deliver(world_t *w) {
    node_input_t input = {.kind = NODE_IN_MESSAGE,
                          .message = &w->message,
                          .setdef = &w->setdef,
                          .rev = 1};
    step(w, &input);
}

// The next session, in the present term.
static void hello_ok(world_t *w) {
    fleet_hello_ok_t *ok = &from_broker(w, FLEET_MESSAGE_hello_ok)->hello_ok;
    ok->protocol = FLEET_PROTOCOL;
    ok->hello = w->hello;
    ok->term = w->term;
    ok->session = ++w->session;
    ok->lease_ms = 1000;
    ok->renew_ms = 250;
    deliver(w);
}

static void acquire(world_t *w, uint64_t token, uint64_t in_place_from) {
    fleet_acquire_t *acquire = &from_broker(w, FLEET_MESSAGE_acquire)->acquire;
    acquire->term = w->term;
    acquire->session = w->session;
    FLEET_COPY(acquire->set, "www");
    acquire->token = token;
    acquire->transfer = token;
    acquire->rev = 1;
    acquire->in_place = in_place_from != 0;
    acquire->from_token = in_place_from;
    deliver(w);
}

static void release(world_t *w, uint64_t token, bool silence_first) {
    fleet_release_t *release = &from_broker(w, FLEET_MESSAGE_release)->release;
    release->term = w->term;
    release->session = w->session;
    FLEET_COPY(release->set, "www");
    release->token = token;
    release->silence_first = silence_first;
    deliver(w);
}

// Answers the last heartbeat; token 0 confirms nothing.
static void confirm(world_t *w, uint64_t token) {
    fleet_confirmed_t *answer =
        &from_broker(w, FLEET_MESSAGE_confirmed)->confirmed;
    answer->term = w->term;
    answer->session = w->session;
    answer->number = w->beat;
    if (token != 0) {
        answer->pairs_n = 1;
        FLEET_COPY(answer->pairs[0].set, "www");
        answer->pairs[0].token = token;
        answer->pairs[0].phase = fleet_phase_HELD;
    }
    deliver(w);
}

static uint32_t part(const world_t *w, const char *name) {
    for (uint32_t i = 0; i < w->setdef.resources_n; i++) {
        if (strcmp(w->setdef.resources[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no resource %s", name);
    return 0;
}

static void ends(world_t *w, node_act_t act, const char *name, fleet_err_t err,
                 node_found_t found) {
    node_input_t input = {.kind = NODE_IN_RESULT, .act = act};
    FLEET_COPY(input.set, "www");
    input.resource = part(w, name);
    input.job = w->jobs[act][input.resource];
    input.ok = err == FLEET_OK;
    input.err = err;
    input.found = found;
    if (err != FLEET_OK) {
        FLEET_COPY(input.text, "it does not");
    }
    step(w, &input);
}

static void done(world_t *w, node_act_t act, const char *name) {
    ends(w, act, name, FLEET_OK, NODE_FOUND_ALL);
}

static void expect_trace(world_t *w, const char *wanted) {
    if (strcmp(w->trace, wanted) != 0) {
        print_error("--- wanted\n%s--- seen\n%s", wanted, w->trace);
    }
    assert_string_equal(w->trace, wanted);
    w->trace[0] = '\0';
}

static void forget(world_t *w) {
    w->trace[0] = '\0';
}

static void make(world_t *w, bool no_memory) {
    node_config_t config = {.slots = 2, .no_memory = no_memory};
    FLEET_COPY(config.site, "campus");
    FLEET_COPY(config.node, "node1");
    FLEET_COPY(config.boot_id, "boot-1");
    config.term = no_memory ? 0 : 1;
    w->term = 1;
    w->core = node_core_init(w->memory, &config);
    w->session = 0;
    forget(w);
}

static int setup(void **state) {
    world_t *w = calloc(1, sizeof(*w));
    w->memory = calloc(1, node_core_size());
    w->effects = calloc(1, sizeof(*w->effects));
    define(&w->setdef);
    make(w, false);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    world_t *w = *state;
    free(w->effects);
    free(w->memory);
    free(w);
    return 0;
}

static void open_session(world_t *w) {
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    hello_ok(w);
    forget(w);
}

static void hold(world_t *w, uint64_t token) {
    acquire(w, token, 0);
    done(w, NODE_ACT_START, "disk");
    done(w, NODE_ACT_START, "public");
    done(w, NODE_ACT_START, "data");
    done(w, NODE_ACT_START, "nginx");
    forget(w);
}

static void loaded(world_t *w, uint64_t token, fleet_phase_t phase,
                   bool same_boot) {
    node_input_t input = {.kind = NODE_IN_LOADED,
                          .same_boot = same_boot,
                          .lease_left_ms = same_boot ? 500 : 0,
                          .setdef = &w->setdef,
                          .rev = 1};
    FLEET_COPY(input.record.set, "www");
    input.record.token = token;
    input.record.phase = phase;
    step(w, &input);
}

static void an_acquire_starts_in_order(void **state) {
    world_t *w = *state;
    open_session(w);
    acquire(w, 5, 0);
    expect_trace(w, "RECORD 5 acquiring\nSTART disk\nSTART public\n");
    done(w, NODE_ACT_START, "disk");
    expect_trace(w, "START data\n");
    done(w, NODE_ACT_START, "data");
    expect_trace(w, "");
    done(w, NODE_ACT_START, "public");
    expect_trace(w, "START nginx\n");
    done(w, NODE_ACT_START, "nginx");
    expect_trace(w, "RECORD 5 held\nacquired 5\n");
    assert_true(node_core_owns(w->core, "www"));
}

static void a_release_stops_in_reverse(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    release(w, 5, false);
    expect_trace(w, "RECORD 5 releasing\nSTOP nginx\n");
    assert_false(node_core_owns(w->core, "www"));
    done(w, NODE_ACT_STOP, "nginx");
    expect_trace(w, "STOP data\nSTOP public\n");
    done(w, NODE_ACT_STOP, "public");
    done(w, NODE_ACT_STOP, "data");
    expect_trace(w, "STOP disk\n");
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 5 closed\nclosed 5 release\n");
    // Final, and said again as often as it is asked (P6).
    release(w, 5, false);
    expect_trace(w, "closed 5 release\n");
    acquire(w, 5, 0);
    expect_trace(w, "closed 5 release\n");
    acquire(w, 4, 0);
    expect_trace(w, "stale 4<5\n");
}

static void a_release_closes_what_was_never_seen(void **state) {
    world_t *w = *state;
    open_session(w);
    release(w, 7, false);
    expect_trace(w, "RECORD 7 closed\nclosed 7 release\n");
    acquire(w, 6, 0);
    expect_trace(w, "stale 6<7\n");
}

// The message may have been lost with the session that it was said in (L1).
static void a_failure_that_stands_is_said_in_each_session(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    acquire(w, 6, 5);
    ends(w, NODE_ACT_START, "public", FLEET_START_FAILED, NODE_FOUND_PART);
    done(w, NODE_ACT_START, "disk");
    assert_non_null(strstr(w->trace, "acquire_failed 6 not-undone"));
    simple(w, NODE_IN_CONNECTED, 0);
    forget(w);
    hello_ok(w);
    expect_trace(w, "acquire_failed 6 not-undone start-failed\n");
    hello_ok(w); // of no hello: nothing new
    expect_trace(w, "");
}

static void a_failed_start_is_undone(void **state) {
    world_t *w = *state;
    open_session(w);
    acquire(w, 5, 0);
    done(w, NODE_ACT_START, "disk");
    done(w, NODE_ACT_START, "public");
    forget(w);
    ends(w, NODE_ACT_START, "data", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    expect_trace(w, "STOP data\nSTOP public\n");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    expect_trace(w, "STOP disk\n");
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 5 closed\nacquire_failed 5 undone start-failed\n");
}

static void a_release_that_fails_can_go_on_in_place(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    release(w, 5, false);
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    ends(w, NODE_ACT_STOP, "data", FLEET_HELD, NODE_FOUND_ALL);
    expect_trace(w, "release_failed 5 data\n");
    acquire(w, 6, 5);
    expect_trace(w, "RECORD 6 acquiring\nSTART disk\nSTART public\n");
    done(w, NODE_ACT_START, "disk");
    done(w, NODE_ACT_START, "public");
    done(w, NODE_ACT_START, "data");
    done(w, NODE_ACT_START, "nginx");
    expect_trace(w, "START data\nSTART nginx\nRECORD 6 held\nacquired 6\n");
    // The release of the token before comes late: it means nothing now.
    release(w, 5, false);
    expect_trace(w, "stale 5<6\n");
}

// A debt of an older token is paid by a node that has forgotten and was told
// the floor (P5, P16); not by one that runs the set, perhaps in place.
static void a_release_below_the_record_is_answered(void **state) {
    world_t *w = *state;
    open_session(w);
    release(w, 7, false);
    forget(w);
    release(w, 5, false);
    expect_trace(w, "closed 7 release\n");
    hold(w, 9);
    release(w, 7, false);
    expect_trace(w, "stale 7<9\n");
}

// A release that failed, of a set that is not its any more, is not forgotten.
static void a_stray_that_is_held_is_tried_again(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    release(w, 5, false);
    ends(w, NODE_ACT_STOP, "nginx", FLEET_HELD, NODE_FOUND_ALL);
    tick(w, 250);
    forget(w);
    confirm(w, 0);
    expect_trace(w, "SILENCE public\n");
    done(w, NODE_ACT_SILENCE, "public");
    expect_trace(w, "STOP nginx\n");
    ends(w, NODE_ACT_STOP, "nginx", FLEET_HELD, NODE_FOUND_ALL);
    forget(w);
    tick(w, 10000);
    assert_non_null(strstr(w->trace, "STOP nginx\n"));
}

static void commands_of_another_session_are_refused(void **state) {
    world_t *w = *state;
    open_session(w);
    w->session -= 1;
    acquire(w, 5, 0);
    expect_trace(w, "");
}

static void a_lower_term_confirms_nothing(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    w->term = 2;
    acquire(w, 6, 0);
    // The higher term is durable, and the session is over.
    expect_trace(w, "TERM 2\nhello www:5:held\n");
}

static void a_pair_that_is_not_confirmed_is_dropped(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    tick(w, 250);
    confirm(w, 5);
    expect_trace(w, "");
    tick(w, 250);
    confirm(w, 0);
    // Nothing is stopped before the address is silent.
    expect_trace(w, "SILENCE public\nRECORD 5 releasing\n");
    done(w, NODE_ACT_SILENCE, "public");
    expect_trace(w, "STOP nginx\n");
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "public");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w,
                 "STOP data\nSTOP public\nSTOP disk\nRECORD 5 closed\n"
                 "closed 5 drop\n");
}

static void a_lapse_keeps_what_runs(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    tick(w, 1001);
    expect_trace(w, "hello www:5:held\n");
    assert_true(node_core_owns(w->core, "www"));
}

static void a_lapse_stops_where_the_policy_says_so(void **state) {
    world_t *w = *state;
    w->setdef.facts.without_lease = fleet_without_lease_STOP;
    open_session(w);
    hold(w, 5);
    tick(w, 1001);
    expect_trace(w,
                 "hello www:5:held\nSILENCE public\n"
                 "RECORD 5 releasing\n");
    done(w, NODE_ACT_SILENCE, "public");
    expect_trace(w, "STOP nginx\n");
}

static void a_lapse_undoes_a_start(void **state) {
    world_t *w = *state;
    open_session(w);
    acquire(w, 5, 0);
    forget(w);
    tick(w, 1001);
    expect_trace(w,
                 "hello www:5:acquiring\nABANDON START\nABANDON START\n"
                 "RECORD 5 releasing\n");
}

static void a_cable_that_returns_is_silent(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    node_input_t input = {.kind = NODE_IN_CARRIER, .ok = false};
    FLEET_COPY(input.set, "www");
    step(w, &input);
    expect_trace(w, "");
    tick(w, 1001);
    expect_trace(w, "hello www:5:held\nSILENCE public\n");
    done(w, NODE_ACT_SILENCE, "public");
    input.ok = true;
    step(w, &input);
    expect_trace(w, "");
    hello_ok(w);
    confirm(w, 5);
    expect_trace(w, "SPEAK public\n");
}

static void a_restarted_agent_adopts(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, true);
    simple(w, NODE_IN_START, 0);
    expect_trace(w, "PROBE disk\nPROBE data\nPROBE public\nPROBE nginx\n");
    simple(w, NODE_IN_CONNECTED, 0);
    expect_trace(w, "hello www:5:held\n");
    hello_ok(w);
    done(w, NODE_ACT_PROBE, "disk");
    done(w, NODE_ACT_PROBE, "data");
    done(w, NODE_ACT_PROBE, "public");
    ends(w, NODE_ACT_PROBE, "nginx", FLEET_OK, NODE_FOUND_NOTHING);
    expect_trace(w, "health nginx failed\n");
    assert_true(node_core_owns(w->core, "www"));
}

static void a_restarted_agent_goes_on_starting(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_ACQUIRING, true);
    simple(w, NODE_IN_START, 0);
    forget(w);
    done(w, NODE_ACT_PROBE, "disk");
    ends(w, NODE_ACT_PROBE, "data", FLEET_OK, NODE_FOUND_NOTHING);
    ends(w, NODE_ACT_PROBE, "public", FLEET_OK, NODE_FOUND_NOTHING);
    ends(w, NODE_ACT_PROBE, "nginx", FLEET_OK, NODE_FOUND_NOTHING);
    expect_trace(w, "START disk\nSTART public\n");
}

static void a_restarted_agent_drops_what_is_anothers(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, true);
    simple(w, NODE_IN_START, 0);
    forget(w);
    ends(w, NODE_ACT_PROBE, "disk", FLEET_OK, NODE_FOUND_NOTHING);
    done(w, NODE_ACT_PROBE, "data");
    done(w, NODE_ACT_PROBE, "public");
    done(w, NODE_ACT_PROBE, "nginx");
    // The sequence waits until the address is silent.
    tick(w, 0);
    expect_trace(w, "RECORD 5 releasing\nSILENCE public\n");
}

static void a_boot_closes_before_it_says_hello(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, false);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    expect_trace(w, "RECORD 5 releasing\nSTOP nginx\n");
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 5 closed\nhello www:5:closed\n");
}

static void without_memory_nothing_is_obeyed(void **state) {
    world_t *w = *state;
    make(w, true);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    expect_trace(w, "hello\n");
    acquire(w, 5, 0);
    expect_trace(w, "");
    fleet_hello_ok_t *ok = &from_broker(w, FLEET_MESSAGE_hello_ok)->hello_ok;
    ok->hello = w->hello;
    ok->term = w->term;
    ok->session = ++w->session;
    ok->lease_ms = 1000;
    ok->floors_n = 1;
    FLEET_COPY(ok->floors[0].set, "www");
    ok->floors[0].token = 9;
    deliver(w);
    expect_trace(w, "RECORD 9 closed\nTERM 1\n");
    acquire(w, 9, 0);
    expect_trace(w, "closed 9 release\n");
}

static void prepared_and_not_used_is_taken_back(void **state) {
    world_t *w = *state;
    open_session(w);
    fleet_prepare_t *prepare = &from_broker(w, FLEET_MESSAGE_prepare)->prepare;
    prepare->term = w->term;
    prepare->session = w->session;
    FLEET_COPY(prepare->set, "www");
    prepare->transfer = 3;
    prepare->rev = 1;
    deliver(w);
    expect_trace(w,
                 "PREPARE disk\nPREPARE data\nPREPARE public\n"
                 "PREPARE nginx\n");
    done(w, NODE_ACT_PREPARE, "disk");
    done(w, NODE_ACT_PREPARE, "data");
    done(w, NODE_ACT_PREPARE, "public");
    done(w, NODE_ACT_PREPARE, "nginx");
    expect_trace(w, "prepared ok\n");
    prepare->undo = true;
    deliver(w);
    expect_trace(w,
                 "UNPREPARE disk\nUNPREPARE data\nUNPREPARE public\n"
                 "UNPREPARE nginx\n");
}

static void a_set_of_nothing_takes_one_write_each_way(void **state) {
    world_t *w = *state;
    w->setdef.resources_n = 0;
    open_session(w);
    acquire(w, 5, 0);
    expect_trace(w, "RECORD 5 held\nacquired 5\n");
    release(w, 5, false);
    expect_trace(w, "RECORD 5 closed\nclosed 5 release\n");
}

static void a_restart_leaves_the_disk(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    fleet_restart_t *restart = &from_broker(w, FLEET_MESSAGE_restart)->restart;
    restart->term = w->term;
    restart->session = w->session;
    FLEET_COPY(restart->set, "www");
    restart->token = 5;
    restart->transfer = 8;
    deliver(w);
    expect_trace(w, "STOP nginx\n");
    done(w, NODE_ACT_STOP, "nginx");
    expect_trace(w, "START nginx\n");
    done(w, NODE_ACT_START, "nginx");
    expect_trace(w, "restarted ok\n");
}

static void an_eviction_is_ordered_and_answered(void **state) {
    world_t *w = *state;
    open_session(w);
    fleet_evict_t *evict = &from_broker(w, FLEET_MESSAGE_evict)->evict;
    evict->term = w->term;
    evict->session = w->session;
    FLEET_COPY(evict->set, "www");
    evict->token = 8;
    FLEET_COPY(evict->victim, "node2");
    evict->victim_token = 7;
    deliver(w);
    expect_trace(w, "EVICT disk\n");
    node_input_t input = {.kind = NODE_IN_RESULT,
                          .act = NODE_ACT_EVICT,
                          .job = w->jobs[NODE_ACT_EVICT][0],
                          .ok = true,
                          .stamped = true,
                          .blocked = true};
    FLEET_COPY(input.set, "www");
    step(w, &input);
    expect_trace(w, "evicted 8 1 1\n");
}

static void leaving_stops_everything_and_says_so(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    simple(w, NODE_IN_LEAVE, 0);
    expect_trace(w, "RECORD 5 releasing\nSTOP nginx\n");
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 5 closed\nclosed 5 leave\ngoodbye\nLEFT\n");
}

static void a_larger_token_tears_down_first(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    acquire(w, 7, 0);
    expect_trace(w, "RECORD 5 releasing\nSTOP nginx\n");
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 7 acquiring\nSTART disk\nSTART public\n");
}

static void a_hole_in_time_silences_all(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    simple(w, NODE_IN_CLOCK, 5000);
    expect_trace(w, "hello www:5:held\nSILENCE public\n");
}

static void what_comes_after_the_lease_finds_no_session(void **state) {
    world_t *w = *state;
    open_session(w);
    fleet_acquire_t *acquire = &from_broker(w, FLEET_MESSAGE_acquire)->acquire;
    acquire->term = w->term;
    acquire->session = w->session;
    FLEET_COPY(acquire->set, "www");
    acquire->token = 5;
    node_input_t input = {.kind = NODE_IN_MESSAGE,
                          .elapsed_ms = 1001,
                          .message = &w->message,
                          .setdef = &w->setdef,
                          .rev = 1};
    step(w, &input);
    expect_trace(w, "hello\n");
}

static void a_boot_closes_half_started_sets_first_too(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_ACQUIRING, false);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    expect_trace(w, "RECORD 5 releasing\nSTOP nginx\n");
}

static void a_boot_that_cannot_close_says_so(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, false);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    forget(w);
    ends(w, NODE_ACT_STOP, "nginx", FLEET_HELD, NODE_FOUND_ALL);
    expect_trace(w, "hello www:5:releasing\n");
    tick(w, 10000);
    expect_trace(w, "hello www:5:releasing\nSTOP nginx\n");
}

// What could not be closed before the first hello is said when it is.
static void a_boot_that_closes_late_says_so(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, false);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    ends(w, NODE_ACT_STOP, "nginx", FLEET_HELD, NODE_FOUND_ALL);
    hello_ok(w);
    tick(w, 10000);
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    hello_ok(w);
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 5 closed\nclosed 5 boot\n");
}

// A release does not wait for the probes: what they have not found yet has to
// go as well.
static void a_release_while_adopting_stops_all(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, true);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    hello_ok(w);
    done(w, NODE_ACT_PROBE, "public");
    forget(w);
    release(w, 5, false);
    expect_trace(w,
                 "ABANDON PROBE\nABANDON PROBE\nABANDON PROBE\n"
                 "RECORD 5 releasing\n");
    ends(w, NODE_ACT_PROBE, "disk", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    ends(w, NODE_ACT_PROBE, "data", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    ends(w, NODE_ACT_PROBE, "nginx", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    expect_trace(w, "STOP nginx\n");
}

// A new agent does not know that the one before silenced the address.
static void a_silenced_address_that_is_adopted_is_heard_again(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, true);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    hello_ok(w);
    done(w, NODE_ACT_PROBE, "disk");
    done(w, NODE_ACT_PROBE, "data");
    ends(w, NODE_ACT_PROBE, "public", FLEET_OK, NODE_FOUND_PART);
    forget(w);
    done(w, NODE_ACT_PROBE, "nginx");
    expect_trace(w, "health public failed\n");
    confirm(w, 5);
    expect_trace(w, "SPEAK public\n");
    // One that fails is tried again when the set is confirmed again.
    ends(w, NODE_ACT_SPEAK, "public", FLEET_START_FAILED, NODE_FOUND_PART);
    expect_trace(w, "");
    confirm(w, 5);
    expect_trace(w, "SPEAK public\n");
    done(w, NODE_ACT_SPEAK, "public");
    expect_trace(w, "health public ok\n");
}

// Nor is it known where the probe does not end; the broker's word comes first.
static void an_address_that_cannot_be_probed_is_heard_again(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, true);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    hello_ok(w);
    done(w, NODE_ACT_PROBE, "disk");
    done(w, NODE_ACT_PROBE, "data");
    ends(w, NODE_ACT_PROBE, "public", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    forget(w);
    done(w, NODE_ACT_PROBE, "nginx");
    expect_trace(w, "health public failed\n");
    confirm(w, 5);
    expect_trace(w, "SPEAK public\n");
}

// A stop that an earlier agent began is tried again, whoever asked for it.
static void a_stop_that_was_begun_is_tried_again(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_RELEASING, true);
    simple(w, NODE_IN_START, 0);
    forget(w);
    for (uint32_t i = 0; i < 4; i++) {
        done(w, NODE_ACT_PROBE, w->setdef.resources[i].name);
    }
    expect_trace(w, "STOP nginx\n");
    ends(w, NODE_ACT_STOP, "nginx", FLEET_HELD, NODE_FOUND_ALL);
    expect_trace(w, "");
    tick(w, 10000);
    expect_trace(w, "STOP nginx\n");
}

// What the lock says is ours is on disk before the memory is (P16).
static void what_runs_without_memory_is_recorded(void **state) {
    world_t *w = *state;
    make(w, true);
    loaded(w, 5, fleet_phase_ACQUIRING, true);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    forget(w);
    hello_ok(w);
    expect_trace(w, "RECORD 5 acquiring\nTERM 1\n");
}

// Nothing asks for a tick at once while there is nothing but waiting.
static void a_node_without_a_broker_sleeps(void **state) {
    world_t *w = *state;
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    assert_true(node_core_deadline(w->core) > 0);
    hello_ok(w);
    fleet_watch_set_t *watch =
        &from_broker(w, FLEET_MESSAGE_watch_set)->watch_set;
    watch->term = w->term;
    watch->session = w->session;
    FLEET_COPY(watch->set, "www");
    watch->rev = 1;
    deliver(w);
    tick(w, 1001); // the lease lapses, and the look has ended
    node_input_t look = {.kind = NODE_IN_RESULT,
                         .act = NODE_ACT_LOOK,
                         .set = "www",
                         .resource = NODE_WHOLE_SET,
                         .job = w->look,
                         .ok = true};
    step(w, &look);
    tick(w, 20000); // another one is due, but for a session
    tick(w, 0);
    assert_true(node_core_deadline(w->core) > 0);
}

// A lock that says otherwise ends what was to go on in place (P9).
static void in_place_under_a_foreign_lock_is_undone(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    acquire(w, 6, 5);
    expect_trace(w, "RECORD 6 acquiring\nSTART disk\nSTART public\n");
    ends(w, NODE_ACT_START, "disk", FLEET_LOCK_FOREIGN, NODE_FOUND_NOTHING);
    forget(w);
    ends(w, NODE_ACT_START, "public", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    expect_trace(w, "STOP nginx\n");
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w,
                 "RECORD 6 closed\n"
                 "acquire_failed 6 undone lock-foreign\n");
}

static void a_lost_definition_is_waited_for(void **state) {
    world_t *w = *state;
    node_input_t input = {
        .kind = NODE_IN_LOADED, .same_boot = true, .lease_left_ms = 5000};
    FLEET_COPY(input.record.set, "www");
    input.record.token = 5;
    input.record.phase = fleet_phase_ACQUIRING;
    step(w, &input);
    simple(w, NODE_IN_START, 0);
    simple(w, NODE_IN_CONNECTED, 0);
    expect_trace(w, "hello www:5:acquiring\n");
    hello_ok(w);
    release(w, 5, false);
    expect_trace(w, "RECORD 5 releasing\nrelease_failed 5 \n");
    // The definition comes with what is looked at; the next release succeeds.
    fleet_watch_set_t *watch =
        &from_broker(w, FLEET_MESSAGE_watch_set)->watch_set;
    watch->term = w->term;
    watch->session = w->session;
    FLEET_COPY(watch->set, "www");
    watch->rev = 1;
    deliver(w);
    expect_trace(w, "PROBE disk\nPROBE data\nPROBE public\nPROBE nginx\n");
    release(w, 5, false);
    for (uint32_t i = 0; i < 4; i++) {
        done(w, NODE_ACT_PROBE, w->setdef.resources[i].name);
    }
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 5 closed\nclosed 5 release\n");
}

static void a_lock_beyond_the_token_is_anothers(void **state) {
    world_t *w = *state;
    loaded(w, 5, fleet_phase_HELD, true);
    simple(w, NODE_IN_START, 0);
    done(w, NODE_ACT_PROBE, "data");
    done(w, NODE_ACT_PROBE, "public");
    done(w, NODE_ACT_PROBE, "nginx");
    forget(w);
    // Its device is still attached, but somebody has stamped the lock.
    node_input_t input = {.kind = NODE_IN_RESULT,
                          .act = NODE_ACT_PROBE,
                          .job = w->jobs[NODE_ACT_PROBE][0],
                          .ok = true,
                          .found = NODE_FOUND_PART,
                          .lock_token = 6};
    FLEET_COPY(input.set, "www");
    step(w, &input);
    tick(w, 0);
    expect_trace(w, "RECORD 5 releasing\nSILENCE public\n");
}

static void leaving_ends_where_a_release_has_failed(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    release(w, 5, false);
    simple(w, NODE_IN_LEAVE, 0);
    forget(w);
    ends(w, NODE_ACT_STOP, "nginx", FLEET_HELD, NODE_FOUND_ALL);
    expect_trace(w, "release_failed 5 nginx\nLEFT\n");
}

static void a_release_reaches_beyond_a_grant_that_comes_late(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    release(w, 8, false);
    forget(w);
    acquire(w, 7, 0);
    expect_trace(w, "stale 7<8\n");
    acquire(w, 8, 0);
    expect_trace(w, "");
    done(w, NODE_ACT_STOP, "nginx");
    done(w, NODE_ACT_STOP, "data");
    done(w, NODE_ACT_STOP, "public");
    forget(w);
    done(w, NODE_ACT_STOP, "disk");
    expect_trace(w, "RECORD 8 closed\nclosed 8 release\n");
}

static void an_old_eviction_is_stale(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 9);
    fleet_evict_t *evict = &from_broker(w, FLEET_MESSAGE_evict)->evict;
    evict->term = w->term;
    evict->session = w->session;
    FLEET_COPY(evict->set, "www");
    evict->token = 8;
    deliver(w);
    expect_trace(w, "stale 8<9\n");
}

static void a_restart_of_what_is_not_held_is_refused(void **state) {
    world_t *w = *state;
    open_session(w);
    fleet_restart_t *restart = &from_broker(w, FLEET_MESSAGE_restart)->restart;
    restart->term = w->term;
    restart->session = w->session;
    FLEET_COPY(restart->set, "www");
    restart->token = 5;
    restart->transfer = 8;
    deliver(w);
    expect_trace(w, "restarted failed\n");
}

static void a_failed_restart_makes_it_sick(void **state) {
    world_t *w = *state;
    open_session(w);
    hold(w, 5);
    fleet_restart_t *restart = &from_broker(w, FLEET_MESSAGE_restart)->restart;
    restart->term = w->term;
    restart->session = w->session;
    FLEET_COPY(restart->set, "www");
    restart->token = 5;
    restart->transfer = 8;
    deliver(w);
    done(w, NODE_ACT_STOP, "nginx");
    forget(w);
    ends(w, NODE_ACT_START, "nginx", FLEET_START_FAILED, NODE_FOUND_NOTHING);
    expect_trace(w, "restarted failed\nhealth nginx failed\n");
    assert_true(node_core_owns(w->core, "www"));
}

static void a_probe_has_to_fail_twice(void **state) {
    world_t *w = *state;
    w->setdef.resources[3].service.probe_every_ms = 100;
    open_session(w);
    hold(w, 5);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(node_core_deadline(w->core), 100);
        tick(w, 100);
        expect_trace(w, "PROBE nginx\n");
        ends(w, NODE_ACT_PROBE, "nginx", FLEET_OK, NODE_FOUND_NOTHING);
        expect_trace(w, i == 0 ? "" : "health nginx failed\n");
    }
    hello_ok(w); // not asked for
    tick(w, 100);
    forget(w);
    done(w, NODE_ACT_PROBE, "nginx");
    expect_trace(w, "health nginx ok\n");
}

static void without_a_token_nothing_is_done(void **state) {
    world_t *w = *state;
    open_session(w);
    release(w, 0, false);
    acquire(w, 0, 0);
    expect_trace(w, "");
}

static void a_refused_import_names_the_lock(void **state) {
    world_t *w = *state;
    open_session(w);
    acquire(w, 5, 0);
    forget(w);
    node_input_t input = {.kind = NODE_IN_RESULT,
                          .act = NODE_ACT_START,
                          .job = w->jobs[NODE_ACT_START][0],
                          .err = FLEET_LOCK_FOREIGN,
                          .lock_token = 9};
    FLEET_COPY(input.set, "www");
    step(w, &input);
    expect_trace(w, "stale 5<9\nABANDON START\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_acquire_starts_in_order),
        TEST(a_release_stops_in_reverse),
        TEST(a_release_closes_what_was_never_seen),
        TEST(a_failure_that_stands_is_said_in_each_session),
        TEST(a_failed_start_is_undone),
        TEST(a_release_that_fails_can_go_on_in_place),
        TEST(a_release_below_the_record_is_answered),
        TEST(a_stray_that_is_held_is_tried_again),
        TEST(commands_of_another_session_are_refused),
        TEST(a_boot_that_closes_late_says_so),
        TEST(a_release_while_adopting_stops_all),
        TEST(a_silenced_address_that_is_adopted_is_heard_again),
        TEST(an_address_that_cannot_be_probed_is_heard_again),
        TEST(a_stop_that_was_begun_is_tried_again),
        TEST(what_runs_without_memory_is_recorded),
        TEST(a_node_without_a_broker_sleeps),
        TEST(in_place_under_a_foreign_lock_is_undone),
        TEST(a_lower_term_confirms_nothing),
        TEST(a_pair_that_is_not_confirmed_is_dropped),
        TEST(a_lapse_keeps_what_runs),
        TEST(a_lapse_stops_where_the_policy_says_so),
        TEST(a_lapse_undoes_a_start),
        TEST(a_cable_that_returns_is_silent),
        TEST(a_restarted_agent_adopts),
        TEST(a_restarted_agent_goes_on_starting),
        TEST(a_restarted_agent_drops_what_is_anothers),
        TEST(a_boot_closes_before_it_says_hello),
        TEST(without_memory_nothing_is_obeyed),
        TEST(prepared_and_not_used_is_taken_back),
        TEST(a_set_of_nothing_takes_one_write_each_way),
        TEST(a_restart_leaves_the_disk),
        TEST(an_eviction_is_ordered_and_answered),
        TEST(leaving_stops_everything_and_says_so),
        TEST(a_larger_token_tears_down_first),
        TEST(a_hole_in_time_silences_all),
        TEST(what_comes_after_the_lease_finds_no_session),
        TEST(a_boot_closes_half_started_sets_first_too),
        TEST(a_boot_that_cannot_close_says_so),
        TEST(a_lost_definition_is_waited_for),
        TEST(a_lock_beyond_the_token_is_anothers),
        TEST(leaving_ends_where_a_release_has_failed),
        TEST(a_release_reaches_beyond_a_grant_that_comes_late),
        TEST(an_old_eviction_is_stale),
        TEST(a_restart_of_what_is_not_held_is_refused),
        TEST(a_failed_restart_makes_it_sick),
        TEST(a_probe_has_to_fail_twice),
        TEST(without_a_token_nothing_is_done),
        TEST(a_refused_import_names_the_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
