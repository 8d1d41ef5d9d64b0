// SPDX-License-Identifier: MIT
//
// Any input in any state: nodes that say whatever comes to mind, requests of
// every kind, time that jumps, a broker that starts again in between.  A second
// core folds what is committed and must have the same bytes; what is committed
// must obey S2 and S4, and every transfer ends once.

#include "tests/unit/broker_story.h"

enum { SEEDS = 12, STEPS = 400, SETS = 2 };

static const char *const SET_NAMES[SETS] = {"www", "web"};

typedef struct chaos {
    story_t *story;
    void *shadow_memory;
    broker_core_t *shadow; // knows the journal only
    uint32_t folded;
    uint64_t random;
    uint64_t tokens[SETS];
    uint64_t transfers[SETS]; // that run
    fleet_name_t holders[SETS];
} chaos_t;

static uint32_t pick(chaos_t *chaos, uint32_t n) {
    chaos->random ^= chaos->random << 13;
    chaos->random ^= chaos->random >> 7;
    chaos->random ^= chaos->random << 17;
    return (uint32_t)(chaos->random >> 33) % n;
}

static bool maybe(chaos_t *chaos, uint32_t percent) {
    return pick(chaos, 100) < percent;
}

static void pick_node(chaos_t *chaos, fleet_name_t ret_name) {
    fleet_text_format(ret_name, sizeof(fleet_name_t), "node%u",
                      1 + pick(chaos, STORY_NODES));
}

// A token near what the set has.
static uint64_t pick_token(chaos_t *chaos, uint32_t set) {
    uint64_t token = chaos->tokens[set];
    uint32_t less = maybe(chaos, 80) ? 0 : 1 + pick(chaos, 2);
    return token > less ? token - less : token;
}

// ---------------------------------------------------------- what is committed

static void check_grant(chaos_t *chaos, uint32_t set,
                        const fleet_set_granted_t *event) {
    assert_true(event->head.token > chaos->tokens[set] ||
                (event->head.token == chaos->tokens[set] &&
                 event->evidence != fleet_evidence_NONE));
    assert_int_not_equal(event->evidence, fleet_evidence_NONE); // S4
    // Nobody holds it, or the holder itself goes on.
    assert_true(chaos->holders[set][0] == '\0' ||
                (event->in_place &&
                 strcmp(chaos->holders[set], event->head.node) == 0));
    FLEET_COPY(chaos->holders[set], event->head.node);
}

static void check_event(chaos_t *chaos, const fleet_message_t *event) {
    const fleet_head_t *head = &event->event.head;
    for (uint32_t set = 0; set < SETS; set++) {
        if (strcmp(SET_NAMES[set], head->set) != 0) {
            continue;
        }
        bool holder = strcmp(chaos->holders[set], head->node) == 0;
        if (event->type == FLEET_MESSAGE_set_granted) {
            check_grant(chaos, set, &event->set_granted);
        } else if (event->type == FLEET_MESSAGE_transfer_requested) {
            assert_int_equal(chaos->transfers[set], 0);
            chaos->transfers[set] = head->seq;
        } else if (event->type == FLEET_MESSAGE_transfer_ended) {
            assert_true(chaos->transfers[set] == head->transfer);
            assert_int_not_equal(event->transfer_ended.outcome,
                                 fleet_outcome_UNFINISHED);
            chaos->transfers[set] = 0;
        } else if (holder &&
                   (event->type == FLEET_MESSAGE_set_released ||
                    (event->type == FLEET_MESSAGE_acquire_failed_event &&
                     event->acquire_failed_event.undone))) {
            chaos->holders[set][0] = '\0';
        }
        if (head->token > chaos->tokens[set]) {
            chaos->tokens[set] = head->token;
        }
    }
}

static void settle(chaos_t *chaos) {
    story_t *story = chaos->story;
    for (uint32_t i = 0; i < story->journal_n; i++) {
        assert_int_equal(broker_core_apply(chaos->shadow, &story->journal[i]),
                         FLEET_OK);
        check_event(chaos, &story->journal[i]);
    }
    story->journal_n = 0;
    story_forget(story);
    assert_memory_equal(broker_core_durable(story->core),
                        broker_core_durable(chaos->shadow),
                        broker_core_durable_size(story->core));
}

// ---------------------------------------------------------------------- inputs

static void say_hello(chaos_t *chaos) {
    story_t *story = chaos->story;
    int node = 1 + (int)pick(chaos, STORY_NODES);
    fleet_hello_t *hello =
        story_hello(story, node, maybe(chaos, 70) ? "boot1" : "boot2");
    hello->watchdog_ms = maybe(chaos, 20) ? 1000 : 0;
    hello->no_memory = maybe(chaos, 5);
    for (uint32_t set = 0; set < SETS; set++) {
        if (maybe(chaos, 70)) {
            story_record(hello, SET_NAMES[set], pick_token(chaos, set),
                         (fleet_phase_t)(1 + pick(chaos, 4)));
        }
    }
    story_say(story, node);
}

static void say_answer(chaos_t *chaos) {
    story_t *story = chaos->story;
    int node = 1 + (int)pick(chaos, STORY_NODES);
    uint32_t set = pick(chaos, SETS);
    uint64_t token = pick_token(chaos, set);
    const char *name = SET_NAMES[set];
    static const char *const WHY[] = {"release", "lapse", "boot", "drop",
                                      "leave"};
    story->transfer = chaos->transfers[set];
    switch (pick(chaos, 8)) {
    case 0:
    case 1:
        story_prepared(story, node, name);
        break;
    case 2:
        story_closed(story, node, name, token, WHY[pick(chaos, 5)]);
        break;
    case 3:
    case 4:
        story_acquired(story, node, name, token);
        break;
    case 5:
        story_acquire_failed(story, node, name, token, maybe(chaos, 60));
        break;
    case 6:
        story_release_failed(story, node, name, token);
        break;
    default:
        story_evicted(story, node, name, token, maybe(chaos, 80),
                      maybe(chaos, 60));
        break;
    }
}

static void say_news(chaos_t *chaos) {
    story_t *story = chaos->story;
    int node = 1 + (int)pick(chaos, STORY_NODES);
    uint32_t set = pick(chaos, SETS);
    uint64_t token = pick_token(chaos, set);
    switch (pick(chaos, 5)) {
    case 0:
    case 1:
        story_beat(story, node, SET_NAMES[set], token);
        break;
    case 2:
        story_port(story, node, SET_NAMES[set], maybe(chaos, 90),
                   maybe(chaos, 50));
        break;
    case 3: {
        fleet_health_t *health =
            &story_message(story, FLEET_MESSAGE_health)->health;
        health->session = story->sessions[node - 1];
        FLEET_COPY(health->set, SET_NAMES[set]);
        health->token = token;
        FLEET_FORMAT(health->resource, "r%u", pick(chaos, 20));
        health->ok = maybe(chaos, 50);
        story_say(story, node);
        break;
    }
    default: {
        fleet_goodbye_t *bye =
            &story_message(story, FLEET_MESSAGE_goodbye)->goodbye;
        bye->session = maybe(chaos, 30) ? story->sessions[node - 1] : 0;
        story_say(story, node);
        break;
    }
    }
}

static void ask(chaos_t *chaos) {
    story_t *story = chaos->story;
    fleet_name_t node;
    pick_node(chaos, node);
    fleet_verb_t verb = (fleet_verb_t)(1 + pick(chaos, 8));
    fleet_request_t *request =
        story_ask(story, verb, SET_NAMES[pick(chaos, SETS)], node);
    if (verb == fleet_verb_REMOVE) {
        request->verb = fleet_verb_MOVE; // there would be little left to do
    }
    if (maybe(chaos, 30)) {
        FLEET_FORMAT(request->request, "r%u", pick(chaos, 30));
    }
    request->force = maybe(chaos, 40);
    request->dry_run = maybe(chaos, 5);
    if (maybe(chaos, 20)) {
        pick_node(chaos, request->owner_is_down);
        FLEET_COPY(request->reason, "I saw it");
    }
    if (maybe(chaos, 10)) {
        request->node[0] = '\0';
    }
    story_op(story);
}

static void fence_ends(chaos_t *chaos) {
    broker_input_t input = {.kind = BROKER_IN_FENCED, .ok = maybe(chaos, 50)};
    pick_node(chaos, input.name);
    story_step(chaos->story, &input);
}

static void start_again(chaos_t *chaos) {
    story_t *story = chaos->story;
    story_start_core(story);
    assert_int_equal(
        broker_core_restore(story->core, broker_core_durable(chaos->shadow),
                            broker_core_durable_size(chaos->shadow)),
        FLEET_OK);
    memset(story->sessions, 0, sizeof(story->sessions));
    story_input(story, BROKER_IN_START, 0);
    for (int node = 1; node <= STORY_NODES; node++) {
        broker_input_t input = {.kind = BROKER_IN_FENCEABLE};
        FLEET_FORMAT(input.name, "node%d", node);
        story_step(story, &input);
    }
}

static void one_input(chaos_t *chaos) {
    uint32_t what = pick(chaos, 100);
    if (what < 12) {
        say_hello(chaos);
    } else if (what < 60) {
        say_answer(chaos);
    } else if (what < 72) {
        say_news(chaos);
    } else if (what < 86) {
        ask(chaos);
    } else if (what < 88) {
        fence_ends(chaos);
    } else if (what < 99) {
        story_wait(chaos->story, pick(chaos, 5000));
    } else {
        start_again(chaos);
    }
}

// The faults stop: every transfer ends (L1).
static void check_calm(chaos_t *chaos) {
    for (int i = 0; i < 60; i++) {
        story_wait(chaos->story, 1000);
        settle(chaos);
    }
    for (uint32_t set = 0; set < SETS; set++) {
        assert_int_equal(chaos->transfers[set], 0);
    }
}

static void run(uint64_t seed) {
    chaos_t chaos = {.story = story_new(), .random = seed * 7919 + 1};
    story_t *story = chaos.story;
    chaos.shadow_memory = malloc(broker_core_size(&story->config.limits));
    chaos.shadow = broker_core_init(chaos.shadow_memory, &story->config);
    settle(&chaos);
    story_define(story, "www", true, "192.0.2.80/24");
    story_define(story, "web", false, "192.0.2.81/24");
    for (int node = 1; node <= STORY_NODES; node++) {
        story_port(story, node, "www", true, true);
        story_port(story, node, "web", true, false);
    }
    settle(&chaos);
    for (int i = 0; i < STEPS; i++) {
        one_input(&chaos);
        settle(&chaos);
    }
    check_calm(&chaos);
    free(chaos.shadow_memory);
    story_end_unreplayed(story);
}

static void test_chaos(void **state) {
    (void)state;
    const char *only = getenv("FLEET_SEED");
    uint64_t from = only != NULL ? strtoull(only, NULL, 10) : 1;
    const char *many = getenv("FLEET_SEEDS");
    uint64_t to = only != NULL   ? from
                  : many != NULL ? strtoull(many, NULL, 10)
                                 : SEEDS;
    for (uint64_t seed = from; seed <= to; seed++) {
        run(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
