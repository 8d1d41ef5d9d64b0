// SPDX-License-Identifier: MIT
//
// Leases set by set (P4), what becomes of a set without one (L2), holes in time
// (P20), and the links of its addresses: silent while somebody else may have
// the address, heard again once the broker has confirmed the set.

#include <inttypes.h>
#include <string.h>

#include "node/core/state.h"

// What an address may be heard for.  Without a lease, or before the broker has
// said a word: the shortest that there is, since 0 would mean no limit.
uint64_t node_lease_left(const node_set_t *set) {
    bool none = set->lease_left_ms == 0 || set->lease_left_ms == NODE_NEVER;
    return none ? 1 : set->lease_left_ms;
}

void node_lease_give(node_set_t *set, uint64_t left_ms,
                     node_effects_t *effects) {
    if (left_ms == 0) {
        return; // the heartbeat that was confirmed is older than a lease
    }
    if (set->lease_left_ms == NODE_NEVER || left_ms > set->lease_left_ms) {
        set->lease_left_ms = left_ms;
    }
    if (set->lapsed) {
        node_note(effects, "%s: token %" PRIu64 " confirmed -> lease again",
                  set->name, set->token);
        set->lapsed = false;
    }
    if (set->stop == NODE_WHY_NONE) {
        set->silent_wanted = false;
        set->speak |= set->unheard & set->there;
        set->unheard = 0;
    }
    if (set->run.without_lease == fleet_without_lease_SILENCE) {
        set->renew |=
            set->there & node_plan_kind(&set->run, FLEET_RESOURCE_ADDRESS);
    }
    node_effect_t *effect = node_emit(effects, NODE_OUT_DEADLINE);
    FLEET_COPY(effect->set, set->name);
    effect->lease_ms = set->lease_left_ms;
}

// An acquire that has not finished does not outlive its lease (P2).  False if
// there is none.
static bool undo_start(node_set_t *set) {
    bool starting = set->phase == fleet_phase_ACQUIRING && !set->broken;
    if (!starting && set->acquire.token == 0) {
        return false;
    }
    set->acquire = (node_acquire_t){0};
    if (set->stop == NODE_WHY_NONE || set->stop == NODE_WHY_REPLACE) {
        node_stop_want(set, NODE_WHY_LAPSE);
    }
    return true;
}

// Called once when the lease of a set has run out.
static void set_lapse(node_set_t *set, node_effects_t *effects) {
    set->lapsed = true;
    if (set->carrier_down) {
        // So that a cable that comes back lets no frame of ours out.
        set->silent_wanted = true;
    }
    if (undo_start(set)) {
        node_note(effects, "%s: lease lapsed while it starts -> undone",
                  set->name);
        return;
    }
    if (set->stop != NODE_WHY_NONE || set->phase == fleet_phase_RELEASING) {
        return;
    }
    switch (set->run.without_lease) {
    case fleet_without_lease_KEEP:
        node_note(effects, "%s: lease lapsed -> kept%s", set->name,
                  set->silent_wanted ? ", silent until it is confirmed" : "");
        break;
    case fleet_without_lease_SILENCE:
        node_note(effects, "%s: lease lapsed -> its addresses are silent",
                  set->name);
        break;
    case fleet_without_lease_STOP:
        node_note(effects, "%s: lease lapsed -> stopped", set->name);
        set->silence_first = true;
        node_stop_want(set, NODE_WHY_LAPSE);
        break;
    }
}

static void undo_starts(node_core_t *core, node_effects_t *effects) {
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (set->used && undo_start(set)) {
            node_note(effects, "%s: the session lapsed -> its start is undone",
                      set->name);
        }
    }
}

void node_lease_check(node_core_t *core, node_effects_t *effects) {
    if (core->session.lease_ms != 0 && !core->session.lapsed &&
        core->session.lease_left_ms == 0) {
        node_session_lapse(core, effects);
        undo_starts(core, effects);
    }
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (set->used && node_set_open(set) && set->lease_left_ms == 0 &&
            !set->lapsed && set->mode != NODE_MODE_ADOPT) {
            set_lapse(set, effects);
        }
    }
}

void node_lease_hole(node_core_t *core, uint64_t hole_ms,
                     node_effects_t *effects) {
    if (hole_ms <= core->session.lease_ms) {
        return;
    }
    node_note(effects, "clock: a hole of %" PRIu64 " ms -> all silent",
              hole_ms);
    core->session.lease_left_ms = 0;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (set->used && node_set_open(set)) {
            set->lease_left_ms = 0;
            set->silent_wanted = true;
        }
    }
}

void node_lease_carrier(node_core_t *core, const char *name, bool up,
                        node_effects_t *effects) {
    node_set_t *set = node_set_find(core, name);
    if (set == NULL || set->carrier_down == !up) {
        return;
    }
    set->carrier_down = !up;
    bool silence = !up && node_set_open(set) && set->lapsed;
    if (silence) {
        set->silent_wanted = true;
    }
    node_note(effects, "%s: carrier %s -> %s", set->name, up ? "up" : "down",
              silence ? "silent" : "noted");
}

// Every address of it that is there is silent, as far as it can be made so.
bool node_link_is_silent(const node_set_t *set) {
    uint32_t addresses =
        set->there & node_plan_kind(&set->run, FLEET_RESOURCE_ADDRESS);
    return (addresses & ~set->silent) == 0;
}

static void link_act(node_core_t *core, node_set_t *set, uint32_t part,
                     node_effects_t *effects) {
    uint32_t bit = node_bit(part);
    node_act_slot_t *slot = &set->link[part];
    const node_act_slot_t *work = &set->work[part];
    // Only a silence may run beside a start: it is urgent, and done again if
    // the start comes later.
    if (work->job != 0 &&
        (!set->silent_wanted || work->act != NODE_ACT_START)) {
        return;
    }
    if (set->silent_wanted && (set->silent & bit) == 0) {
        node_act(core, set, effects, slot, NODE_ACT_SILENCE, part);
    } else if (!set->silent_wanted && ((set->silent | set->speak) & bit) != 0) {
        node_act(core, set, effects, slot, NODE_ACT_SPEAK, part)->lease_ms =
            node_lease_left(set);
    } else if (!set->silent_wanted && (set->renew & bit) != 0) {
        set->renew &= ~bit;
        node_act(core, set, effects, slot, NODE_ACT_RENEW, part)->lease_ms =
            node_lease_left(set);
    }
}

bool node_link_advance(node_core_t *core, node_set_t *set,
                       node_effects_t *effects) {
    uint32_t addresses =
        set->there & node_plan_kind(&set->run, FLEET_RESOURCE_ADDRESS);
    if (addresses == 0) {
        return true;
    }
    if (!node_has_room(effects, FLEET_RESOURCES_MAX)) {
        return false;
    }
    if (set->stop != NODE_WHY_NONE && set->silence_first) {
        set->silent_wanted = true;
    }
    for (uint32_t i = 0; i < set->run.n; i++) {
        if ((addresses & node_bit(i)) != 0 && set->link[i].job == 0) {
            link_act(core, set, i, effects);
        }
    }
    return true;
}

void node_link_result(node_core_t *core, node_set_t *set, uint32_t part,
                      const node_input_t *input, node_effects_t *effects) {
    node_act_t act = set->link[part].act;
    set->link[part] = (node_act_slot_t){0};
    if (act == NODE_ACT_SILENCE) {
        set->unheard &= ~node_bit(part);
        // Also if it failed: whoever waits for it must go on to the STOP.
        set->silent |= node_bit(part);
    } else if (act == NODE_ACT_SPEAK && input->ok) {
        set->silent &= ~node_bit(part);
        set->speak &= ~node_bit(part);
        if ((set->sick & node_bit(part)) != 0) {
            node_health_set(core, set, part, true, "heard again", effects);
        }
    } else if (act == NODE_ACT_SPEAK) {
        // Again when it is confirmed the next time.
        set->unheard |= node_bit(part);
        set->silent &= ~node_bit(part);
        set->speak &= ~node_bit(part);
    }
    if (!input->ok) {
        node_note(effects, "%s: %s cannot be made %s: %s -> noted", set->name,
                  set->run.parts[part].name,
                  act == NODE_ACT_SILENCE ? "silent" : "heard", input->text);
    }
}

void node_lease_age(node_core_t *core, uint64_t elapsed_ms) {
    node_session_t *session = &core->session;
    uint64_t *left = &session->lease_left_ms;
    *left = *left > elapsed_ms ? *left - elapsed_ms : 0;
    for (uint32_t i = 0; i < NODE_BEATS; i++) {
        left = &session->beats[i].left_ms;
        *left = *left > elapsed_ms ? *left - elapsed_ms : 0;
    }
    for (uint32_t i = 0; i < core->sets_n; i++) {
        left = &core->sets[i].lease_left_ms;
        if (core->sets[i].used && *left != NODE_NEVER) {
            *left = *left > elapsed_ms ? *left - elapsed_ms : 0;
        }
    }
}
