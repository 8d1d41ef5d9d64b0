// SPDX-License-Identifier: MIT
//
// Effects: the one place that appends to the list, numbers acts and knows their
// limits.  The message of an effect is large and is zeroed only where it is
// used.

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/core/state.h"

node_effect_t *node_emit(node_effects_t *effects, node_effect_kind_t kind) {
    assert(effects->n < NODE_EFFECTS_MAX);
    node_effect_t *effect = &effects->items[effects->n++];
    memset(effect, 0, offsetof(node_effect_t, message));
    effect->message.type = FLEET_MESSAGE_none;
    effect->kind = kind;
    return effect;
}

bool node_has_room(const node_effects_t *effects, uint32_t n) {
    return effects->n + n <= NODE_EFFECTS_MAX;
}

void node_note(node_effects_t *effects, const char *format, ...) {
    node_effect_t *effect = node_emit(effects, NODE_OUT_NOTE);
    // What is cut is the end of a daemon's words, never of ours: they come
    // last.
    char line[2 * FLEET_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    FLEET_COPY(effect->text, line);
}

fleet_message_t *node_send(node_effects_t *effects, fleet_message_type_t type) {
    node_effect_t *effect = node_emit(effects, NODE_OUT_SEND);
    memset(&effect->message, 0, sizeof(effect->message));
    effect->message.type = type;
    return &effect->message;
}

static uint64_t act_limit(const node_set_t *set, node_act_t act,
                          uint32_t resource) {
    switch (act) {
    case NODE_ACT_START:
        return set->run.parts[resource].start_ms;
    case NODE_ACT_STOP:
        return set->run.parts[resource].stop_ms;
    case NODE_ACT_PREPARE:
    case NODE_ACT_UNPREPARE:
        return NODE_PREPARE_MS;
    case NODE_ACT_EVICT:
        return NODE_EVICT_MS;
    case NODE_ACT_PROBE:
    case NODE_ACT_LOOK:
    case NODE_ACT_SILENCE:
    case NODE_ACT_SPEAK:
    case NODE_ACT_RENEW:
        return NODE_QUICK_MS;
    }
    assert(false);
    return 0;
}

// By which definition it is to be done.
static uint64_t act_rev(const node_set_t *set, node_act_t act) {
    if (act == NODE_ACT_PREPARE || act == NODE_ACT_UNPREPARE) {
        return set->prepared_rev;
    }
    if (act == NODE_ACT_EVICT || act == NODE_ACT_LOOK) {
        return set->newest.rev;
    }
    return set->run.rev;
}

node_effect_t *node_act(node_core_t *core, node_set_t *set,
                        node_effects_t *effects, node_act_slot_t *slot,
                        node_act_t act, uint32_t resource) {
    assert(slot->job == 0);
    core->job += 1;
    *slot = (node_act_slot_t){.job = core->job, .act = act};

    node_effect_t *effect = node_emit(effects, NODE_OUT_ACT);
    FLEET_COPY(effect->set, set->name);
    effect->act = act;
    effect->resource = resource;
    effect->job = core->job;
    effect->token = set->token;
    effect->rev = act_rev(set, act);
    effect->limit_ms = act_limit(set, act, resource);
    return effect;
}

void node_abandon(node_set_t *set, node_effects_t *effects,
                  node_act_slot_t *slot) {
    if (slot->job == 0 || slot->abandoned) {
        return;
    }
    slot->abandoned = true;
    node_effect_t *effect = node_emit(effects, NODE_OUT_ABANDON);
    FLEET_COPY(effect->set, set->name);
    effect->job = slot->job;
    effect->act = slot->act;
}
