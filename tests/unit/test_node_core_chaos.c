// SPDX-License-Identifier: MIT
//
// The node's core under random inputs: commands in any order and of any
// session, acts that fail, an agent that restarts, a machine that boots.  What
// may never happen is looked for after every effect; at the end everything is
// released, and has to go.  A failing seed is printed: run the program with it.

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

#define SETS 4
#define PARTS 5
#define JOBS 256
#define SEEDS 60
#define STEPS 700
#define LEASE_MS 1000

typedef struct job {
    uint64_t job; // 0: free
    uint32_t set;
    uint32_t part;
    node_act_t act;
    uint64_t token;
    bool abandoned;
} job_t;

// A set as it is on the machine, beside what the core thinks of it.
typedef struct place {
    fleet_setdef_t setdef;
    fleet_pair_t record; // durable
    uint64_t rev;
    uint64_t lease_ms;
    bool same_boot;
    bool may_run[PARTS]; // a START was begun and no STOP has succeeded since
    bool up[PARTS];      // the last that ended was a START, and it succeeded
} place_t;

typedef struct chaos {
    void *memory;
    node_core_t *core;
    node_effects_t *effects;
    uint64_t seed; // that runs; 0: none failed
    uint64_t random;
    place_t places[SETS];
    job_t jobs[JOBS];
    uint64_t last_job;
    fleet_message_t message;
    uint64_t term, durable_term, session, hello, beat;
    bool asked; // the last hello waits for its answer
    bool leaving, left, calm;
    unsigned boots;
} chaos_t;

static uint64_t seed_only; // of the command line; 0: all

// splitmix64
static uint32_t any(chaos_t *c, uint32_t below) {
    c->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = c->random;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ (z >> 31)) % below);
}

static bool chance(chaos_t *c, uint32_t percent) {
    return any(c, 100) < percent;
}

static void define(chaos_t *c, uint32_t set) {
    static const fleet_resource_kind_t kinds[PARTS] = {
        FLEET_RESOURCE_DISK_GROUP, FLEET_RESOURCE_FILESYSTEM,
        FLEET_RESOURCE_ADDRESS, FLEET_RESOURCE_SERVICE, FLEET_RESOURCE_SERVICE};
    fleet_setdef_t *setdef = &c->places[set].setdef;
    FLEET_FORMAT(setdef->set, "s%u", set);
    setdef->resources_n = set == 0 ? 0 : PARTS - any(c, 3);
    setdef->facts.without_lease = (fleet_without_lease_t)any(c, 3);
    for (uint32_t i = 0; i < setdef->resources_n; i++) {
        fleet_resource_t *resource = &setdef->resources[i];
        resource->kind = kinds[i];
        FLEET_FORMAT(resource->name, "r%u", i);
        resource->needs = any(c, 1U << i);
        if (resource->kind == FLEET_RESOURCE_SERVICE) {
            resource->service.probe_every_ms = 300;
        }
    }
}

static uint32_t set_of(const char *name) {
    assert_true(name[0] == 's' && name[1] >= '0' && name[1] < '0' + SETS);
    return (uint32_t)(name[1] - '0');
}

// ------------------------------------------------------- what must not happen

static bool is_beside(node_act_t act) {
    return act == NODE_ACT_LOOK || act == NODE_ACT_EVICT ||
           act == NODE_ACT_PROBE;
}

static void check_start(const place_t *place, const node_effect_t *effect) {
    assert_int_equal(place->record.token, effect->token);
    assert_true(place->record.phase == fleet_phase_ACQUIRING ||
                place->record.phase == fleet_phase_HELD);
    if (place->record.phase == fleet_phase_HELD) {
        return; // a restart, which takes what it stands on as it is
    }
    uint32_t needs = place->setdef.resources[effect->resource].needs;
    for (uint32_t i = 0; i < PARTS; i++) {
        assert_true((needs & (1U << i)) == 0 || place->up[i]);
    }
}

static void check_stop(const place_t *place, const node_effect_t *effect) {
    if (place->record.phase == fleet_phase_HELD) {
        return; // a restart, which leaves what stands on it alone
    }
    for (uint32_t i = 0; i < place->setdef.resources_n; i++) {
        uint32_t needs = place->setdef.resources[i].needs;
        assert_true((needs & (1U << effect->resource)) == 0 ||
                    !place->may_run[i]);
    }
}

static void take_act(chaos_t *c, const node_effect_t *effect) {
    uint32_t set = set_of(effect->set);
    place_t *place = &c->places[set];
    assert_true(effect->job > c->last_job);
    assert_true(effect->limit_ms > 0);
    c->last_job = effect->job;
    job_t *free_job = NULL;
    for (uint32_t i = 0; i < JOBS; i++) {
        const job_t *job = &c->jobs[i];
        if (job->job == 0) {
            free_job = &c->jobs[i];
        } else if (job->set == set && job->part == effect->resource &&
                   !is_beside(job->act) && !is_beside(effect->act)) {
            // Acts of one resource never overlap, but for the urgent one.
            if (seed_only != 0) {
                print_message("act %d beside act %d of s%u r%u\n",
                              (int)effect->act, (int)job->act, set,
                              effect->resource);
            }
            assert_true(effect->act == NODE_ACT_SILENCE &&
                        job->act == NODE_ACT_START);
        }
    }
    assert_non_null(free_job);
    *free_job = (job_t){effect->job, set,           effect->resource,
                        effect->act, effect->token, false};
    if (effect->act == NODE_ACT_START) {
        check_start(place, effect);
        place->may_run[effect->resource] = true;
        place->up[effect->resource] = false;
    } else if (effect->act == NODE_ACT_STOP) {
        check_stop(place, effect);
        place->up[effect->resource] = false;
    }
}

static void take_record(chaos_t *c, const node_effect_t *effect) {
    uint32_t set = set_of(effect->set);
    place_t *place = &c->places[set];
    const fleet_pair_t *now = &effect->record;
    // It only grows (P6).
    assert_true(now->token > place->record.token ||
                (now->token == place->record.token &&
                 now->phase > place->record.phase));
    bool runs = false;
    for (uint32_t i = 0; i < PARTS; i++) {
        runs |= place->may_run[i];
    }
    // Final only if nothing is left, and nothing is on its way.
    if (now->phase == fleet_phase_CLOSED &&
        place->record.phase != fleet_phase_CLOSED) {
        assert_false(runs);
        for (uint32_t i = 0; i < JOBS; i++) {
            assert_false(c->jobs[i].job != 0 && c->jobs[i].set == set &&
                         c->jobs[i].act == NODE_ACT_START);
        }
    }
    for (uint32_t i = 0;
         now->phase == fleet_phase_HELD && i < place->setdef.resources_n; i++) {
        assert_true(place->up[i]);
    }
    place->record = *now;
    place->rev = effect->rev;
    place->same_boot = true;
}

static void take_message(chaos_t *c, const fleet_message_t *message) {
    if (message->type == FLEET_MESSAGE_hello) {
        c->hello = message->hello.hello;
        c->asked = true;
        for (uint32_t i = 0; i < message->hello.records_n; i++) {
            const fleet_pair_t *said = &message->hello.records[i];
            const place_t *place = &c->places[set_of(said->set)];
            assert_int_equal(said->token, place->record.token);
            assert_int_equal(said->phase, place->record.phase);
            // After a boot nothing is open at the first hello, unless it could
            // not be stopped: then it says so (P17).
            assert_true(place->same_boot ||
                        said->phase >= fleet_phase_RELEASING);
        }
    } else if (message->type == FLEET_MESSAGE_heartbeat) {
        c->beat = message->heartbeat.number;
    } else if (message->type == FLEET_MESSAGE_acquired) {
        const place_t *place = &c->places[set_of(message->acquired.set)];
        assert_int_equal(place->record.token, message->acquired.token);
        assert_int_equal(place->record.phase, fleet_phase_HELD);
    } else if (message->type == FLEET_MESSAGE_closed) {
        const place_t *place = &c->places[set_of(message->closed.set)];
        assert_int_equal(place->record.token, message->closed.token);
        assert_int_equal(place->record.phase, fleet_phase_CLOSED);
    } else if (message->type == FLEET_MESSAGE_acquire_failed &&
               message->acquire_failed.undone) {
        const place_t *place = &c->places[set_of(message->acquire_failed.set)];
        assert_true(place->record.token >= message->acquire_failed.token);
        assert_int_equal(place->record.phase, fleet_phase_CLOSED);
    } else if (message->type == FLEET_MESSAGE_goodbye) {
        for (uint32_t i = 0; i < SETS; i++) {
            fleet_phase_t phase = c->places[i].record.phase;
            assert_true(phase == fleet_phase_NONE ||
                        phase == fleet_phase_CLOSED);
        }
    }
}

static void step(chaos_t *c, const node_input_t *input) {
    node_core_step(c->core, input, c->effects);
    for (uint32_t i = 0; i < c->effects->n; i++) {
        const node_effect_t *effect = &c->effects->items[i];
        switch (effect->kind) {
        case NODE_OUT_RECORD:
            take_record(c, effect);
            break;
        case NODE_OUT_ACT:
            take_act(c, effect);
            break;
        case NODE_OUT_ABANDON:
            for (uint32_t k = 0; k < JOBS; k++) {
                c->jobs[k].abandoned |=
                    effect->job != 0 && c->jobs[k].job == effect->job;
            }
            break;
        case NODE_OUT_SEND:
            take_message(c, &effect->message);
            break;
        case NODE_OUT_TERM:
            assert_true(effect->term >= c->durable_term);
            c->durable_term = effect->term;
            break;
        case NODE_OUT_DEADLINE:
            c->places[set_of(effect->set)].lease_ms = effect->lease_ms;
            break;
        case NODE_OUT_LEFT:
            c->left = true;
            break;
        case NODE_OUT_NOTE:
            if (seed_only != 0) {
                print_message("%s\n", effect->text);
            }
            break;
        case NODE_OUT_FORGET:
        case NODE_OUT_KEEP:
            break;
        }
    }
}

// Lets everything happen that happens at once; it has to come to an end.
static void settle(chaos_t *c) {
    for (unsigned i = 0; node_core_deadline(c->core) == 0; i++) {
        assert_true(i < 64);
        node_input_t input = {.kind = NODE_IN_TICK};
        step(c, &input);
    }
}

// ------------------------------------------------------------------ what comes

static void end_job(chaos_t *c, job_t *job) {
    node_input_t input = {.kind = NODE_IN_RESULT,
                          .elapsed_ms = any(c, 20),
                          .act = job->act,
                          .resource = job->part,
                          .job = job->job};
    place_t *place = &c->places[job->set];
    FLEET_FORMAT(input.set, "s%u", job->set);
    input.ok = c->calm || chance(c, job->abandoned ? 40 : 85);
    input.err = input.ok ? FLEET_OK : FLEET_HELD;
    input.stamped = chance(c, 50);
    input.blocked = chance(c, 50);
    input.visible = chance(c, 50);
    FLEET_COPY(input.text, input.ok ? "done" : "not done");
    if (job->act == NODE_ACT_PROBE) {
        input.found = place->up[job->part] ? NODE_FOUND_ALL
                      : place->may_run[job->part] || chance(c, 5)
                          ? NODE_FOUND_PART
                          : NODE_FOUND_NOTHING;
    } else if (input.ok && job->act == NODE_ACT_START) {
        place->up[job->part] = true;
    } else if (input.ok && job->act == NODE_ACT_STOP) {
        place->may_run[job->part] = false;
    }
    *job = (job_t){0};
    step(c, &input);
}

static void end_any_job(chaos_t *c) {
    uint32_t first = any(c, JOBS);
    for (uint32_t i = 0; i < JOBS; i++) {
        job_t *job = &c->jobs[(first + i) % JOBS];
        if (job->job != 0) {
            end_job(c, job);
            return;
        }
    }
}

static void deliver(chaos_t *c, uint32_t set) {
    place_t *place = &c->places[set];
    node_input_t input = {.kind = NODE_IN_MESSAGE,
                          .elapsed_ms = any(c, 20),
                          .message = &c->message,
                          .rev = 1};
    if (c->calm || chance(c, 97)) {
        input.setdef = &place->setdef;
    }
    step(c, &input);
}

static fleet_message_t *from_broker(chaos_t *c, fleet_message_type_t type) {
    memset(&c->message, 0, sizeof(c->message));
    c->message.type = type;
    return &c->message;
}

static uint64_t any_session(chaos_t *c) {
    return c->calm || chance(c, 95) ? c->session : c->session + any(c, 3);
}

static uint64_t near_token(chaos_t *c, const place_t *place) {
    uint64_t token = place->record.token + any(c, 4);
    return chance(c, 10) && token > 1 ? token - 2 : token;
}

static void send_hello_ok(chaos_t *c) {
    if (c->calm && !c->asked) {
        return;
    }
    fleet_hello_ok_t *ok = &from_broker(c, FLEET_MESSAGE_hello_ok)->hello_ok;
    ok->hello = c->calm || chance(c, 95) ? c->hello : c->hello + any(c, 2);
    c->asked = false;
    c->term += !c->calm && chance(c, 10);
    ok->term = c->term;
    ok->session = ++c->session;
    ok->lease_ms = LEASE_MS;
    ok->renew_ms = LEASE_MS / 4;
    deliver(c, 0);
}

static void send_confirmed(chaos_t *c) {
    fleet_confirmed_t *answer =
        &from_broker(c, FLEET_MESSAGE_confirmed)->confirmed;
    answer->term = c->term;
    answer->session = any_session(c);
    answer->number = c->beat - (chance(c, 10) && c->beat > 0);
    for (uint32_t i = 0; i < SETS; i++) {
        if (c->calm || chance(c, 95)) {
            fleet_pair_t *pair = &answer->pairs[answer->pairs_n++];
            FLEET_FORMAT(pair->set, "s%u", i);
            pair->token = c->places[i].record.token;
        }
    }
    deliver(c, 0);
}

static void send_acquire(chaos_t *c, uint32_t set) {
    const place_t *place = &c->places[set];
    fleet_acquire_t *acquire = &from_broker(c, FLEET_MESSAGE_acquire)->acquire;
    acquire->term = c->term;
    acquire->session = any_session(c);
    FLEET_FORMAT(acquire->set, "s%u", set);
    acquire->token = near_token(c, place);
    acquire->rev = 1;
    acquire->transfer = acquire->token;
    acquire->in_place = chance(c, 30);
    acquire->from_token = acquire->in_place ? place->record.token : 0;
    deliver(c, set);
}

static void send_release(chaos_t *c, uint32_t set, uint64_t token) {
    fleet_release_t *release = &from_broker(c, FLEET_MESSAGE_release)->release;
    release->term = c->term;
    release->session = any_session(c);
    FLEET_FORMAT(release->set, "s%u", set);
    release->token = token;
    release->silence_first = chance(c, 30);
    deliver(c, set);
}

static void send_watch(chaos_t *c, uint32_t set) {
    fleet_watch_set_t *watch =
        &from_broker(c, FLEET_MESSAGE_watch_set)->watch_set;
    watch->term = c->term;
    watch->session = any_session(c);
    FLEET_FORMAT(watch->set, "s%u", set);
    watch->rev = 1;
    watch->gone = !c->calm && chance(c, 20);
    deliver(c, set);
}

static void send_other(chaos_t *c, uint32_t set) {
    uint64_t session = any_session(c);
    uint32_t what = any(c, 4);
    if (what == 0) {
        fleet_prepare_t *prepare =
            &from_broker(c, FLEET_MESSAGE_prepare)->prepare;
        prepare->term = c->term;
        prepare->session = session;
        FLEET_FORMAT(prepare->set, "s%u", set);
        prepare->transfer = 1 + any(c, 3);
        prepare->rev = 1;
        prepare->undo = chance(c, 30);
    } else if (what == 1) {
        fleet_evict_t *evict = &from_broker(c, FLEET_MESSAGE_evict)->evict;
        evict->term = c->term;
        evict->session = session;
        FLEET_FORMAT(evict->set, "s%u", set);
        evict->token = near_token(c, &c->places[set]);
        FLEET_COPY(evict->victim, "node2");
    } else if (what == 2) {
        fleet_restart_t *restart =
            &from_broker(c, FLEET_MESSAGE_restart)->restart;
        restart->term = c->term;
        restart->session = session;
        FLEET_FORMAT(restart->set, "s%u", set);
        restart->token = c->places[set].record.token;
        restart->transfer = 1 + any(c, 5);
        if (chance(c, 50)) {
            FLEET_FORMAT(restart->resource, "r%u", any(c, PARTS + 1));
        }
    } else {
        send_watch(c, set);
        return;
    }
    deliver(c, set);
}

// A new agent, with what is durable.  Its acts ended with the old one.
static void new_agent(chaos_t *c, bool boot) {
    node_config_t config = {.term = c->durable_term};
    FLEET_COPY(config.node, "node1");
    c->boots += boot;
    FLEET_FORMAT(config.boot_id, "boot%u", c->boots);
    memset(c->jobs, 0, sizeof(c->jobs));
    c->core = node_core_init(c->memory, &config);
    c->last_job = 0;
    c->leaving = false;
    c->left = false;
    for (uint32_t i = 0; i < SETS; i++) {
        place_t *place = &c->places[i];
        if (boot) {
            place->same_boot = false;
            // Nothing but a lock outlives a boot; a stop of it has to be seen.
            for (uint32_t k = 1; k < PARTS; k++) {
                place->may_run[k] = false;
            }
            memset(place->up, 0, sizeof(place->up));
        }
        if (place->record.phase == fleet_phase_NONE) {
            continue;
        }
        node_input_t input = {.kind = NODE_IN_LOADED,
                              .record = place->record,
                              .same_boot = place->same_boot,
                              .lease_left_ms = boot ? 0 : place->lease_ms,
                              .rev = 1};
        if (chance(c, 95)) {
            input.setdef = &place->setdef;
        }
        step(c, &input);
    }
    node_input_t start = {.kind = NODE_IN_START};
    step(c, &start);
    node_input_t connected = {.kind = NODE_IN_CONNECTED};
    step(c, &connected);
}

static void anything(chaos_t *c) {
    uint32_t set = any(c, SETS);
    uint32_t what = any(c, 1000);
    node_input_t input = {.kind = NODE_IN_TICK, .elapsed_ms = any(c, 120)};
    FLEET_FORMAT(input.set, "s%u", set);
    if (what < 420) {
        end_any_job(c);
    } else if (what < 560) {
        send_confirmed(c);
    } else if (what < 640) {
        send_hello_ok(c);
    } else if (what < 720) {
        send_acquire(c, set);
    } else if (what < 770) {
        send_release(c, set, near_token(c, &c->places[set]));
    } else if (what < 850) {
        send_other(c, set);
    } else if (what < 960) {
        step(c, &input);
    } else if (what < 970) {
        input.kind = NODE_IN_CARRIER;
        input.ok = chance(c, 50);
        step(c, &input);
    } else if (what < 974) {
        input.kind = NODE_IN_CLOCK;
        input.elapsed_ms = 5000;
        step(c, &input);
    } else if (what < 978) {
        input.kind = NODE_IN_LEAVE;
        c->leaving = true;
        step(c, &input);
    } else if (what < 990) {
        new_agent(c, chance(c, 40));
    } else {
        input.kind = NODE_IN_CONNECTED;
        step(c, &input);
    }
    settle(c);
    if (c->left) {
        new_agent(c, true);
        settle(c);
    }
}

static bool is_closed(const place_t *place) {
    return place->record.phase == fleet_phase_NONE ||
           place->record.phase == fleet_phase_CLOSED;
}

// Once faults stop, a release takes everything down (L1).
static void come_to_rest(chaos_t *c) {
    c->calm = true;
    if (c->leaving) {
        new_agent(c, false);
    }
    // Whatever session the node believes in: the broker wants a new one.
    node_input_t connected = {.kind = NODE_IN_CONNECTED};
    step(c, &connected);
    bool rest = false;
    for (unsigned round = 0; !rest; round++) {
        assert_true(round < 64);
        send_hello_ok(c);
        for (uint32_t i = 0; i < SETS; i++) {
            send_watch(c, i); // for those whose definition was lost
            send_release(c, i, c->places[i].record.token + 16);
            settle(c);
        }
        for (unsigned k = 0; k < 200; k++) {
            end_any_job(c);
            settle(c);
        }
        rest = true;
        for (uint32_t i = 0; i < SETS; i++) {
            rest = rest && is_closed(&c->places[i]);
        }
    }
}

static void one_seed(chaos_t *c, uint64_t seed) {
    void *memory = c->memory;
    node_effects_t *effects = c->effects;
    memset(c, 0, sizeof(*c));
    c->memory = memory;
    c->effects = effects;
    c->seed = seed;
    c->random = seed;
    c->term = 1;
    for (uint32_t i = 0; i < SETS; i++) {
        define(c, i);
    }
    new_agent(c, true);
    for (unsigned i = 0; i < STEPS; i++) {
        anything(c);
    }
    come_to_rest(c);
    c->seed = 0;
}

static void nothing_forbidden_happens(void **state) {
    chaos_t *c = *state;
    if (seed_only != 0) {
        one_seed(c, seed_only);
        return;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        one_seed(c, seed);
    }
}

static int setup(void **state) {
    chaos_t *c = calloc(1, sizeof(*c));
    c->memory = calloc(1, node_core_size());
    c->effects = calloc(1, sizeof(*c->effects));
    *state = c;
    return 0;
}

static int teardown(void **state) {
    chaos_t *c = *state;
    if (c->seed != 0) {
        print_error("the seed was %u\n", (unsigned)c->seed);
    }
    free(c->effects);
    free(c->memory);
    free(c);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        seed_only = strtoull(argv[1], NULL, 10);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_forbidden_happens, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
