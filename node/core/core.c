// SPDX-License-Identifier: MIT
//
// The node's core: one input goes in, the state changes, and then every set is
// asked what it wants to do next.  The rules are in the files beside this one.

#include <assert.h>
#include <string.h>

#include "node/core/state.h"

size_t node_core_size(void) {
    return sizeof(node_core_t);
}

node_core_t *node_core_init(void *memory, const node_config_t *config) {
    node_core_t *core = memory;
    memset(core, 0, sizeof(*core));
    core->config = *config;
    if (core->config.resend_ms == 0) {
        core->config.resend_ms = NODE_RESEND_MS;
    }
    core->term = config->term;
    core->no_memory = config->no_memory;
    return core;
}

static void shrink(uint64_t *left_ms, uint64_t elapsed_ms) {
    if (*left_ms != NODE_NEVER) {
        *left_ms = *left_ms > elapsed_ms ? *left_ms - elapsed_ms : 0;
    }
}

static void set_age(node_set_t *set, uint64_t elapsed_ms) {
    shrink(&set->look_left_ms, elapsed_ms);
    shrink(&set->retry_left_ms, elapsed_ms);
    shrink(&set->prepare.left_ms, elapsed_ms);
    for (uint32_t i = 0; i < set->run.n; i++) {
        shrink(&set->probe_left_ms[i], elapsed_ms);
    }
}

static void age(node_core_t *core, uint64_t elapsed_ms) {
    shrink(&core->session.resend_left_ms, elapsed_ms);
    shrink(&core->session.renew_left_ms, elapsed_ms);
    core->session.hello_age_ms += elapsed_ms;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used) {
            set_age(&core->sets[i], elapsed_ms);
        }
    }
    node_lease_age(core, elapsed_ms);
}

// Which slot runs this job; NULL: none does any more.
static node_act_slot_t *slot_find(node_set_t *set, const node_input_t *input) {
    if (input->job == 0) {
        return NULL;
    }
    if (set->look.job == input->job) {
        return &set->look;
    }
    if (set->evict.slot.job == input->job) {
        return &set->evict.slot;
    }
    if (input->resource >= FLEET_RESOURCES_MAX) {
        return NULL;
    }
    node_act_slot_t *slots[] = {&set->work[input->resource],
                                &set->link[input->resource],
                                &set->watch[input->resource]};
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        if (slots[i]->job == input->job) {
            return slots[i];
        }
    }
    return NULL;
}

static void result(node_core_t *core, const node_input_t *input,
                   node_effects_t *effects) {
    node_set_t *set = node_set_find(core, input->set);
    node_act_slot_t *slot = set == NULL ? NULL : slot_find(set, input);
    if (slot == NULL || slot->act != input->act) {
        node_note(effects, "%s: result of an old act -> ignored", input->set);
        return;
    }
    if (slot == &set->look) {
        node_look_result(core, set, input, effects);
    } else if (slot == &set->evict.slot) {
        node_evict_result(core, set, input, effects);
    } else if (slot == &set->work[input->resource]) {
        node_sequence_result(core, set, input->resource, input, effects);
    } else if (slot == &set->link[input->resource]) {
        node_link_result(core, set, input->resource, input, effects);
    } else {
        node_health_result(core, set, input->resource, input, effects);
    }
}

// Lets every set, and then the session, do what is due.  A set that finds the
// list full is the first of the next round.
static void advance(node_core_t *core, node_effects_t *effects) {
    core->more = false;
    core->booting = node_adopt_booting(core);
    node_session_advance(core, effects);
    // A stale owner's address goes silent before anybody stops anything.
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used) {
            core->more |= !node_link_advance(core, &core->sets[i], effects);
        }
    }
    uint32_t first = core->turn;
    for (uint32_t k = 0; k < core->sets_n; k++) {
        uint32_t i = (first + k) % core->sets_n;
        if (!core->sets[i].used) {
            continue;
        }
        if (!node_has_room(effects, NODE_SET_ROOM)) {
            core->more = true;
            core->turn = i;
            return;
        }
        node_set_advance(core, &core->sets[i], effects);
    }
    node_leave_advance(core, effects);
    core->booting = node_adopt_booting(core);
    // What became due on the way: the first hello after the boot's last closed.
    node_session_advance(core, effects);
}

void node_core_step(node_core_t *core, const node_input_t *input,
                    node_effects_t *effects) {
    effects->n = 0;
    if (core->left) {
        return;
    }
    age(core, input->elapsed_ms);
    // Before anything else: what came too late finds no session (P2).
    if (core->started) {
        node_lease_check(core, effects);
    }
    switch (input->kind) {
    case NODE_IN_LOADED:
        node_adopt_loaded(core, input, effects);
        break;
    case NODE_IN_START:
        node_adopt_start(core, effects);
        break;
    case NODE_IN_TICK:
        break;
    case NODE_IN_CONNECTED:
        node_session_connected(core, effects);
        break;
    case NODE_IN_MESSAGE:
        node_message(core, input, effects);
        break;
    case NODE_IN_RESULT:
        result(core, input, effects);
        break;
    case NODE_IN_CARRIER:
        node_lease_carrier(core, input->set, input->ok, effects);
        break;
    case NODE_IN_CLOCK:
        node_lease_hole(core, input->elapsed_ms, effects);
        break;
    case NODE_IN_LEAVE:
        node_leave_take(core, input->text, effects);
        break;
    }
    if (core->started) {
        node_lease_check(core, effects);
        advance(core, effects);
    }
    node_core_check(core);
}

static void least(uint64_t *deadline, uint64_t left_ms) {
    if (left_ms < *deadline) {
        *deadline = left_ms;
    }
}

static uint64_t set_deadline(const node_core_t *core, const node_set_t *set) {
    uint64_t deadline = NODE_NEVER;
    if (node_set_open(set) && !set->lapsed && set->mode != NODE_MODE_ADOPT) {
        least(&deadline, set->lease_left_ms);
    }
    if (node_look_waits(core, set)) {
        least(&deadline, set->look_left_ms);
    }
    if (set->stop_failed && !core->leaving) {
        least(&deadline, set->retry_left_ms);
    }
    if (set->prepare.wanted) {
        least(&deadline, set->prepare.left_ms);
    }
    bool idle = set->phase == fleet_phase_HELD && set->stop == NODE_WHY_NONE &&
                set->mode == NODE_MODE_IDLE;
    for (uint32_t i = 0; idle && i < set->run.n; i++) {
        if (set->run.parts[i].probe_every_ms != 0 && set->watch[i].job == 0) {
            least(&deadline, set->probe_left_ms[i]);
        }
    }
    return deadline;
}

uint64_t node_core_deadline(const node_core_t *core) {
    if (core->left || !core->started) {
        return NODE_NEVER;
    }
    if (core->more) {
        return 0;
    }
    uint64_t deadline = node_session_deadline(core);
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used) {
            least(&deadline, set_deadline(core, &core->sets[i]));
        }
    }
    return deadline;
}
