// SPDX-License-Identifier: MIT
//
// What a set does next, and the acts of the one sequence that is under way:
// parts start when all that they need are up, side by side where they can, and
// stop in reverse.  What comes of a sequence is decided by the files that began
// it.

#include <assert.h>
#include <string.h>

#include "node/core/state.h"

#define TURNS_MAX 6 // sequences that may end and begin in one step

static void abandon_work(node_set_t *set, node_effects_t *effects) {
    for (uint32_t i = 0; i < FLEET_RESOURCES_MAX; i++) {
        node_abandon(set, effects, &set->work[i]);
    }
}

void node_sequence_begin(node_set_t *set, node_mode_t mode, uint32_t todo,
                         node_effects_t *effects) {
    abandon_work(set, effects);
    for (uint32_t i = 0; i < FLEET_RESOURCES_MAX; i++) {
        node_abandon(set, effects, &set->watch[i]);
    }
    set->mode = mode;
    set->todo = todo;
    set->failed = false;
}

static node_act_t mode_act(node_mode_t mode) {
    switch (mode) {
    case NODE_MODE_ADOPT:
        return NODE_ACT_PROBE;
    case NODE_MODE_PREPARE:
        return NODE_ACT_PREPARE;
    case NODE_MODE_UNPREPARE:
        return NODE_ACT_UNPREPARE;
    case NODE_MODE_START:
    case NODE_MODE_UP:
        return NODE_ACT_START;
    case NODE_MODE_STOP:
    case NODE_MODE_DOWN:
        return NODE_ACT_STOP;
    case NODE_MODE_IDLE:
        break;
    }
    assert(false);
    return NODE_ACT_PROBE;
}

// Nothing that stands before this part in the sequence is still to be done.
static bool may_go(const node_set_t *set, uint32_t part) {
    node_act_t act = mode_act(set->mode);
    if (act == NODE_ACT_START) {
        return (set->run.parts[part].needs & set->todo) == 0;
    }
    if (act != NODE_ACT_STOP) {
        return true;
    }
    for (uint32_t i = 0; i < set->run.n; i++) {
        if ((set->todo & node_bit(i)) != 0 &&
            (set->run.parts[i].needs & node_bit(part)) != 0) {
            return false;
        }
    }
    return true;
}

static void part_act(node_core_t *core, node_set_t *set, uint32_t part,
                     node_effects_t *effects) {
    node_act_t act = mode_act(set->mode);
    node_effect_t *effect =
        node_act(core, set, effects, &set->work[part], act, part);
    effect->transfer = set->transfer;
    if (act == NODE_ACT_START) {
        set->there |= node_bit(part);
        effect->lease_ms = node_lease_left(set);
        effect->from_token = set->from_token;
    } else if (act == NODE_ACT_PREPARE) {
        set->prepared |= node_bit(part);
    }
}

// Begins every act that may begin now.
static void sequence_go(node_core_t *core, node_set_t *set,
                        node_effects_t *effects) {
    if (set->failed) {
        return;
    }
    if (set->mode == NODE_MODE_STOP && set->silence_first &&
        !node_link_is_silent(set)) {
        return;
    }
    for (uint32_t i = 0; i < FLEET_RESOURCES_MAX; i++) {
        if ((set->todo & node_bit(i)) != 0 && set->work[i].job == 0 &&
            set->link[i].job == 0 && may_go(set, i)) {
            part_act(core, set, i, effects);
        }
    }
}

static bool sequence_over(const node_set_t *set) {
    for (uint32_t i = 0; i < FLEET_RESOURCES_MAX; i++) {
        if (set->work[i].job != 0) {
            return false;
        }
    }
    return set->failed || set->todo == 0;
}

static void sequence_end(node_core_t *core, node_set_t *set,
                         node_effects_t *effects) {
    node_mode_t mode = set->mode;
    set->mode = NODE_MODE_IDLE;
    switch (mode) {
    case NODE_MODE_ADOPT:
        node_adopt_end(core, set, effects);
        break;
    case NODE_MODE_PREPARE:
        node_prepare_end(core, set, effects);
        break;
    case NODE_MODE_START:
        node_acquire_end(core, set, effects);
        break;
    case NODE_MODE_STOP:
        node_stop_end(core, set, effects);
        break;
    case NODE_MODE_DOWN:
        if (!set->failed) {
            node_sequence_begin(set, NODE_MODE_UP, set->restart.parts, effects);
            break;
        }
        node_restart_end(core, set, effects);
        break;
    case NODE_MODE_UP:
        node_restart_end(core, set, effects);
        break;
    case NODE_MODE_UNPREPARE:
    case NODE_MODE_IDLE:
        break;
    }
}

// Something else is wanted now than what is under way.
static bool is_overtaken(const node_set_t *set) {
    bool stop =
        set->stop != NODE_WHY_NONE && !set->stop_failed && node_set_open(set);
    bool acquire = set->acquire.token != 0;
    bool in_place = acquire && set->acquire.from_token != 0;
    switch (set->mode) {
    case NODE_MODE_ADOPT:
        return stop || in_place;
    case NODE_MODE_PREPARE:
        return acquire || !set->prepare.wanted ||
               set->prepared_rev != set->newest.rev;
    case NODE_MODE_START:
        return stop || acquire;
    case NODE_MODE_DOWN:
    case NODE_MODE_UP:
        return stop || acquire || set->transfer != set->restart.transfer;
    case NODE_MODE_STOP:
        return in_place;
    case NODE_MODE_UNPREPARE:
    case NODE_MODE_IDLE:
        break;
    }
    return false;
}

// With nothing under way: begins what is wanted most.  False: nothing is.
static bool begin_next(node_core_t *core, node_set_t *set,
                       node_effects_t *effects) {
    bool open = node_set_open(set);
    bool outdated = set->prepared_rev != set->newest.rev;
    if (open && set->stop != NODE_WHY_NONE && !set->stop_failed) {
        node_stop_begin(set, effects);
    } else if (set->prepared != 0 && (!set->prepare.wanted || outdated) &&
               (set->acquire.token == 0 || outdated)) {
        set->transfer = set->prepare.transfer;
        node_sequence_begin(set, NODE_MODE_UNPREPARE, set->prepared, effects);
    } else if (set->acquire.token != 0) {
        node_acquire_begin(core, set, effects);
    } else if (!open && set->there != 0 && !set->stop_failed) {
        set->stop = NODE_WHY_CLEANUP;
        set->silence_first = true;
        node_stop_begin(set, effects);
    } else if (set->prepare.wanted && !set->prepare.done) {
        set->prepared_rev = set->newest.rev;
        set->transfer = set->prepare.transfer;
        node_sequence_begin(set, NODE_MODE_PREPARE, node_plan_all(&set->newest),
                            effects);
    } else if (set->restart.wanted) {
        set->transfer = set->restart.transfer;
        set->from_token = 0;
        node_sequence_begin(set, NODE_MODE_DOWN, set->restart.parts, effects);
    } else {
        return false;
    }
    return true;
}

static void say_unsaid(node_core_t *core, node_set_t *set,
                       node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return;
    }
    if (set->unsaid != NODE_WHY_NONE) {
        node_closed_say(core, set, set->unsaid, effects);
    }
    if (set->broken_unsaid && set->broken) {
        node_acquire_fail(core, set, set->token, false, set->broken_err,
                          effects);
    }
    set->broken_unsaid = false;
    for (uint32_t i = 0; set->sick_unsaid != 0 && i < set->run.n; i++) {
        if ((set->sick_unsaid & node_bit(i)) != 0) {
            node_health_say(core, set, i, effects);
        }
    }
}

void node_set_advance(node_core_t *core, node_set_t *set,
                      node_effects_t *effects) {
    if (set->stop_failed && set->retry_left_ms == 0 && !core->leaving) {
        set->stop_failed = false;
    }
    if (set->prepare.wanted && set->prepare.left_ms == 0) {
        node_note(effects, "%s: prepared and not used -> taken back",
                  set->name);
        set->prepare.wanted = false;
    }
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        if (is_overtaken(set)) {
            abandon_work(set, effects);
            set->mode = NODE_MODE_IDLE;
        }
        if (set->mode == NODE_MODE_IDLE && !begin_next(core, set, effects)) {
            break;
        }
        if (set->mode == NODE_MODE_IDLE) {
            continue;
        }
        sequence_go(core, set, effects);
        if (!sequence_over(set)) {
            break;
        }
        sequence_end(core, set, effects);
    }
    say_unsaid(core, set, effects);
    node_evict_advance(core, set, effects);
    node_health_advance(core, set, effects);
    node_look_advance(core, set, effects);
}

void node_failure_take(node_set_t *set, uint32_t part, node_act_t act,
                       const node_input_t *input) {
    node_failure_t *failure = &set->failure;
    failure->err = input->err;
    if (failure->err == FLEET_OK) {
        failure->err =
            act == NODE_ACT_STOP ? FLEET_STOP_FAILED : FLEET_START_FAILED;
    }
    failure->part = part;
    FLEET_COPY(failure->text, input->text);
    FLEET_COPY(failure->said, input->said);
}

// A part is as the act left it.
static void part_done(node_core_t *core, node_set_t *set, uint32_t part,
                      node_act_t act, node_effects_t *effects) {
    uint32_t bit = node_bit(part);
    if (act == NODE_ACT_START) {
        set->silent &= ~bit; // a start lets it speak
        set->unheard &= ~bit;
        set->speak &= ~bit;
        set->probe_failures[part] = 0;
        set->probe_left_ms[part] = set->run.parts[part].probe_every_ms;
        if ((set->sick & bit) != 0) {
            node_health_set(core, set, part, true, "started", effects);
        }
    } else if (act == NODE_ACT_STOP) {
        set->there &= ~bit;
        set->silent &= ~bit;
        set->unheard &= ~bit;
        set->speak &= ~bit;
        set->renew &= ~bit;
    } else if (act == NODE_ACT_UNPREPARE) {
        set->prepared &= ~bit;
    }
}

static void part_failed(node_core_t *core, node_set_t *set, uint32_t part,
                        node_act_t act, const node_input_t *input,
                        node_effects_t *effects) {
    bool by_newest = act == NODE_ACT_PREPARE || act == NODE_ACT_UNPREPARE;
    const node_plan_t *plan = by_newest ? &set->newest : &set->run;
    node_note(effects, "%s: %s of %s failed: %s", set->name, node_act_word(act),
              plan->parts[part].name, input->text);
    if (act == NODE_ACT_START && input->err == FLEET_LOCK_FOREIGN) {
        node_stale_say(core, set, set->token, input->lock_token, "lock",
                       effects);
    }
    if (!set->failed) {
        node_failure_take(set, part, act, input);
        set->failed = true;
    }
    // Those of a stop go on: what they let go is gone in any case.
    if (act != NODE_ACT_STOP) {
        abandon_work(set, effects);
    }
}

void node_sequence_result(node_core_t *core, node_set_t *set, uint32_t part,
                          const node_input_t *input, node_effects_t *effects) {
    node_act_slot_t slot = set->work[part];
    set->work[part] = (node_act_slot_t){0};
    if (slot.abandoned) {
        if (slot.act == NODE_ACT_START) {
            set->silent &= ~node_bit(part); // it may have come up meanwhile
        }
        return;
    }
    if (slot.act == NODE_ACT_PROBE) {
        set->todo &= ~node_bit(part);
        node_adopt_found(set, part, input);
    } else if (input->ok || slot.act == NODE_ACT_UNPREPARE) {
        set->todo &= ~node_bit(part);
        part_done(core, set, part, slot.act, effects);
    } else {
        part_failed(core, set, part, slot.act, input, effects);
    }
}
