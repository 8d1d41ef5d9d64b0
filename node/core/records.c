// SPDX-License-Identifier: MIT
//
// The table of sets: finding, making room, the records (P6: token and phase,
// compared as a pair, only grow) and what the core takes from a definition.

#include <assert.h>
#include <string.h>

#include "node/core/state.h"

uint32_t node_bit(uint32_t part) {
    assert(part < FLEET_RESOURCES_MAX);
    return UINT32_C(1) << part;
}

uint32_t node_plan_all(const node_plan_t *plan) {
    return (UINT32_C(1) << plan->n) - 1;
}

uint32_t node_plan_kind(const node_plan_t *plan, fleet_resource_kind_t kind) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < plan->n; i++) {
        if (plan->parts[i].kind == kind) {
            bits |= node_bit(i);
        }
    }
    return bits;
}

node_set_t *node_set_find(node_core_t *core, const char *name) {
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used && strcmp(core->sets[i].name, name) == 0) {
            return &core->sets[i];
        }
    }
    return NULL;
}

static bool set_is_busy(const node_set_t *set) {
    for (uint32_t i = 0; i < FLEET_RESOURCES_MAX; i++) {
        if (set->work[i].job != 0 || set->link[i].job != 0 ||
            set->watch[i].job != 0) {
            return true;
        }
    }
    return set->look.job != 0 || set->mode != NODE_MODE_IDLE ||
           set->acquire.token != 0 || set->prepare.wanted ||
           set->prepared != 0 || set->there != 0 || set->evict.wanted ||
           set->evict.slot.job != 0;
}

// How gladly an entry is given up for another: 0 never, then what is only
// looked at, then the closed record of a set that was removed.
static unsigned set_spare(const node_set_t *set) {
    if (!set->used) {
        return 4;
    }
    if (set_is_busy(set)) {
        return 0;
    }
    if (set->phase == fleet_phase_NONE) {
        return set->watched ? 2 : 3;
    }
    return set->phase == fleet_phase_CLOSED && set->gone ? 1 : 0;
}

node_set_t *node_set_add(node_core_t *core, const char *name,
                         node_effects_t *effects) {
    if (name[0] == '\0') {
        return NULL;
    }
    if (core->sets_n < NODE_SETS_MAX) {
        core->sets_n += 1; // a fresh entry is taken before any other
    }
    node_set_t *best = NULL;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (set_spare(set) > (best == NULL ? 0 : set_spare(best))) {
            best = set;
        }
    }
    if (best == NULL) {
        node_note(effects, "%s: no room for another set -> refused", name);
        return NULL;
    }
    if (best->used) {
        node_note(effects, "%s: room is needed for %s -> forgotten", best->name,
                  name);
        if (best->phase != fleet_phase_NONE) {
            node_effect_t *effect = node_emit(effects, NODE_OUT_FORGET);
            FLEET_COPY(effect->set, best->name);
        }
    }
    memset(best, 0, sizeof(*best));
    best->used = true;
    FLEET_COPY(best->name, name);
    return best;
}

bool node_set_open(const node_set_t *set) {
    return set->phase != fleet_phase_NONE && set->phase != fleet_phase_CLOSED;
}

void node_set_record(node_set_t *set, uint64_t token, fleet_phase_t phase,
                     node_effects_t *effects) {
    assert(token > set->token || (token == set->token && phase >= set->phase));
    if (token == set->token && phase == set->phase) {
        return;
    }
    if (token != set->token) {
        set->listed_from = 0;
    }
    set->token = token;
    set->phase = phase;
    node_set_write(set, effects);
}

// The record as it is, also where the disk does not have it.
void node_set_write(const node_set_t *set, node_effects_t *effects) {
    node_effect_t *effect = node_emit(effects, NODE_OUT_RECORD);
    FLEET_COPY(effect->set, set->name);
    FLEET_COPY(effect->record.set, set->name);
    effect->record.token = set->token;
    effect->record.phase = set->phase;
    effect->rev = set->run.rev;
}

void node_plan_take(node_plan_t *plan, const fleet_setdef_t *setdef,
                    uint64_t rev) {
    memset(plan, 0, sizeof(*plan));
    plan->known = true;
    plan->rev = rev;
    memcpy(plan->digest, setdef->facts.digest, sizeof(plan->digest));
    plan->without_lease = setdef->facts.without_lease;
    plan->n = setdef->resources_n < FLEET_RESOURCES_MAX ? setdef->resources_n
                                                        : FLEET_RESOURCES_MAX;
    for (uint32_t i = 0; i < plan->n; i++) {
        const fleet_resource_t *resource = &setdef->resources[i];
        node_part_t *part = &plan->parts[i];
        FLEET_COPY(part->name, resource->name);
        part->kind = resource->kind;
        // Whatever a definition says, a part never waits for one below it, so
        // that every sequence comes to its end.
        part->needs = resource->needs & (node_bit(i) - 1);
        part->start_ms = resource->start_ms != 0 ? resource->start_ms
                                                 : FLEET_START_MS_DEFAULT;
        part->stop_ms =
            resource->stop_ms != 0 ? resource->stop_ms : FLEET_STOP_MS_DEFAULT;
        if (resource->kind == FLEET_RESOURCE_SERVICE) {
            part->probe_every_ms = resource->service.probe_every_ms;
            part->probe_limit_ms = resource->service.probe_limit_ms != 0
                                       ? resource->service.probe_limit_ms
                                       : FLEET_PROBE_LIMIT_MS_DEFAULT;
        }
    }
}

void node_set_define(node_set_t *set, const fleet_setdef_t *setdef,
                     uint64_t rev, node_effects_t *effects) {
    if (setdef == NULL) {
        return;
    }
    // A set that was removed and defined anew may have an old number again.
    if (!set->newest.known || set->newest.rev != rev ||
        memcmp(set->newest.digest, setdef->facts.digest,
               sizeof(set->newest.digest)) != 0) {
        node_plan_take(&set->newest, setdef, rev);
        node_effect_t *effect = node_emit(effects, NODE_OUT_KEEP);
        FLEET_COPY(effect->set, set->name);
        effect->rev = rev;
        set->prepare.done = false; // for another definition
    }
    // The definition of what is here was lost: any is better than none.
    if (node_set_open(set) && !set->run.known) {
        set->run = set->newest;
        set->there = node_plan_all(&set->run);
        set->stop_failed = false;
        if (set->stop == NODE_WHY_NONE) {
            node_sequence_begin(set, NODE_MODE_ADOPT, set->there, effects);
        }
    }
}
