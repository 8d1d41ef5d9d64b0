// SPDX-License-Identifier: MIT
//
// The beginning of an agent: records from disk; after a restart, what runs is
// adopted and the recorded phase goes on (P21); after a boot, everything is
// closed before the first hello (P17).

#include <inttypes.h>

#include "node/core/state.h"

void node_adopt_loaded(node_core_t *core, const node_input_t *input,
                       node_effects_t *effects) {
    node_set_t *set = node_set_find(core, input->record.set);
    if (set != NULL || core->started) {
        node_note(effects, "%s: loaded twice or late -> ignored",
                  input->record.set);
        return;
    }
    set = node_set_add(core, input->record.set, effects);
    if (set == NULL) {
        return;
    }
    set->token = input->record.token;
    set->phase = input->record.phase;
    set->same_boot = input->same_boot;
    set->lease_left_ms = input->same_boot ? input->lease_left_ms : 0;
    // With the records the deadlines may be lost too.  What the lock says is
    // ours is finished all the same, and waits for the broker's word (P16).
    if (core->no_memory && input->same_boot && input->lease_left_ms == 0) {
        set->lease_left_ms = NODE_NEVER;
    }
    if (input->setdef != NULL) {
        node_plan_take(&set->run, input->setdef, input->rev);
        set->newest = set->run;
    }
}

static void begin(node_set_t *set, node_effects_t *effects) {
    uint32_t all = node_plan_all(&set->run);
    if (set->same_boot) {
        node_note(effects, "%s: token %" PRIu64 ", %s -> looked at", set->name,
                  set->token, fleet_phase_word(set->phase));
        if (node_set_open(set)) {
            set->there = all; // also if a release does not wait for the answers
        }
        node_sequence_begin(set, NODE_MODE_ADOPT, all, effects);
        return;
    }
    if (node_set_open(set)) {
        node_note(effects,
                  "%s: token %" PRIu64 ", %s, of an earlier boot -> closed",
                  set->name, set->token, fleet_phase_word(set->phase));
        set->there = all;
        set->stop = NODE_WHY_BOOT;
        set->lapsed = true; // nothing more follows from that
    }
}

void node_adopt_start(node_core_t *core, node_effects_t *effects) {
    core->started = true;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used) {
            begin(&core->sets[i], effects);
        }
    }
}

// Sets of an earlier boot that have not had their try at being closed yet.
uint32_t node_adopt_booting(const node_core_t *core) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        const node_set_t *set = &core->sets[i];
        n += set->used && set->stop == NODE_WHY_BOOT && !set->stop_failed;
    }
    return n;
}

void node_adopt_found(node_set_t *set, uint32_t part,
                      const node_input_t *input) {
    const node_part_t *its = &set->run.parts[part];
    // A probe that did not end says nothing: then it may be there.
    node_found_t found = input->ok ? input->found : NODE_FOUND_PART;
    if (found != NODE_FOUND_NOTHING) {
        set->there |= node_bit(part);
    }
    if (found != NODE_FOUND_ALL) {
        set->missing |= node_bit(part);
    }
    // A device may still be attached where the lock refuses our token by now.
    if (its->kind == FLEET_RESOURCE_DISK_GROUP &&
        (found == NODE_FOUND_NOTHING || input->lock_token > set->token)) {
        set->foreign = true;
    }
    if (found == NODE_FOUND_PART && its->kind == FLEET_RESOURCE_ADDRESS) {
        set->unheard |= node_bit(part); // the agent before may have silenced it
    }
}

static void adopt_held(node_core_t *core, node_set_t *set,
                       node_effects_t *effects) {
    node_note(effects, "%s: token %" PRIu64 " runs here -> adopted", set->name,
              set->token);
    for (uint32_t i = 0; i < set->run.n; i++) {
        if ((set->missing & node_bit(i)) != 0) {
            node_health_set(core, set, i, false,
                            "it was not found well when the agent came back",
                            effects);
        }
    }
}

void node_adopt_end(node_core_t *core, node_set_t *set,
                    node_effects_t *effects) {
    uint32_t found = set->there;
    if (!node_set_open(set)) {
        if (found != 0) {
            node_note(effects, "%s: closed, but something is here -> torn down",
                      set->name);
        } else if (set->asked) {
            set->asked = false;
            node_closed_say(core, set, NODE_WHY_RELEASE, effects);
        }
        set->missing = 0;
        return;
    }
    if (set->stop != NODE_WHY_NONE) {
        set->missing = 0;
        return;
    }
    if (!set->run.known) {
        node_note(effects, "%s: its definition is lost -> waits for one",
                  set->name);
    } else if (set->phase == fleet_phase_RELEASING) {
        // Whoever began it: nobody may ask again, so it tries again by itself.
        node_stop_want(set, NODE_WHY_LAPSE);
    } else if (set->phase == fleet_phase_ACQUIRING) {
        node_note(effects, "%s: token %" PRIu64 " was being started -> goes on",
                  set->name, set->token);
        set->in_place = false;
        set->from_token = 0;
        node_sequence_begin(set, NODE_MODE_START, node_plan_all(&set->run),
                            effects);
    } else if (set->foreign) {
        node_note(effects, "%s: its disk group is not ours any more -> dropped",
                  set->name);
        set->silence_first = true;
        node_stop_want(set, NODE_WHY_DROP);
    } else {
        adopt_held(core, set, effects);
    }
    set->missing = 0;
    set->foreign = false;
}
