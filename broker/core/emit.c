// SPDX-License-Identifier: MIT
//
// The list of effects of one step.  Messages are built where they will lie: one
// is tens of kilobytes, of which a few hundred bytes matter.

#include <stdarg.h>
#include <stdio.h>

#include "broker/core/state.h"

uint32_t step_room(const step_t *step) {
    uint32_t taken = step->out->n + soft_of(step->core)->touched_n;
    return taken < BROKER_EFFECTS_MAX ? BROKER_EFFECTS_MAX - taken : 0;
}

broker_effect_t *step_effect(step_t *step, broker_effect_kind_t kind) {
    assert(step->out->n < BROKER_EFFECTS_MAX);
    broker_effect_t *effect = &step->out->items[step->out->n++];
    memset(effect, 0, offsetof(broker_effect_t, message));
    effect->kind = kind;
    effect->message.type = FLEET_MESSAGE_none;
    return effect;
}

// Only the member that the type names is part of the message.
static fleet_message_t *empty(broker_effect_t *effect,
                              fleet_message_type_t type, size_t size) {
    effect->message.type = type;
    memset((char *)&effect->message + offsetof(fleet_message_t, event), 0,
           size);
    return &effect->message;
}

fleet_message_t *step_node(step_t *step, uint32_t node,
                           fleet_message_type_t type, size_t size) {
    broker_effect_t *effect = step_effect(step, BROKER_OUT_NODE);
    FLEET_COPY(effect->name, node_name(step->core, node));
    effect->peer = node_soft_of(step->core, node)->peer;
    return empty(effect, type, size);
}

fleet_message_t *step_peer(step_t *step, uint64_t peer,
                           fleet_message_type_t type, size_t size) {
    broker_effect_t *effect = step_effect(step, BROKER_OUT_PEER);
    effect->peer = peer;
    return empty(effect, type, size);
}

fleet_message_t *step_event(step_t *step, fleet_message_type_t type,
                            size_t size) {
    fleet_message_t *event =
        empty(step_effect(step, BROKER_OUT_COMMIT), type, size);
    event->event.head.seq = durable_of(step->core)->seq + 1;
    event->event.head.term = durable_of(step->core)->term;
    event->event.head.time_us = step->in->time_us;
    return event;
}

void step_commit(step_t *step) {
    broker_core_t *core = step->core;
    broker_effect_t *effect = &step->out->items[step->out->n - 1];
    assert(effect->kind == BROKER_OUT_COMMIT);
    const fleet_head_t *head = &effect->message.event.head;
    fleet_err_t err = broker_core_apply(core, &effect->message);
    assert(err == FLEET_OK);
    uint32_t set = find_set(core, head->set);
    if (set != NOBODY) {
        check_set(core, set);
        step_touch_set(step, set);
    }
    uint32_t node = find_node(core, head->node);
    if (node != NOBODY) {
        step_touch_node(step, node);
    }
}

void step_note(step_t *step, const char *format, ...) {
    broker_effect_t *effect = step_effect(step, BROKER_OUT_NOTE);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(effect->text, sizeof(effect->text), format, arguments);
    va_end(arguments);
}

void step_touch_set(step_t *step, uint32_t set) {
    broker_core_t *core = step->core;
    broker_set_soft_t *soft = set_soft_of(core, set);
    if (!soft->touched) {
        soft->touched = true;
        u32s_of(core, core->touched_at)[soft_of(core)->touched_n++] =
            core->config.limits.nodes + set;
    }
}

void step_touch_node(step_t *step, uint32_t node) {
    broker_core_t *core = step->core;
    broker_node_soft_t *soft = node_soft_of(core, node);
    if (!soft->touched) {
        soft->touched = true;
        u32s_of(core, core->touched_at)[soft_of(core)->touched_n++] = node;
    }
}

void step_flush(step_t *step) {
    broker_core_t *core = step->core;
    uint32_t nodes = core->config.limits.nodes;
    uint32_t *touched = u32s_of(core, core->touched_at);
    for (uint32_t i = 0; i < soft_of(core)->touched_n; i++) {
        broker_effect_t *effect = step_effect(step, BROKER_OUT_CHANGED);
        if (touched[i] < nodes) {
            node_soft_of(core, touched[i])->touched = false;
            FLEET_COPY(effect->name, node_name(core, touched[i]));
        } else {
            set_soft_of(core, touched[i] - nodes)->touched = false;
            FLEET_COPY(effect->name, set_of(core, touched[i] - nodes)->name);
        }
        touched[i] = 0;
    }
    soft_of(core)->touched_n = 0;
}

void head_set(step_t *step, fleet_head_t *head, uint32_t set, uint32_t node,
              uint64_t token) {
    const broker_set_t *s = set_of(step->core, set);
    FLEET_COPY(head->set, s->name);
    FLEET_COPY(head->node, node_name(step->core, node));
    head->token = token;
    head->transfer = s->transfer.id;
    FLEET_COPY(head->by, s->transfer.id != 0 ? s->transfer.by : "broker");
    FLEET_COPY(head->reason, s->transfer.reason);
}

void head_node(step_t *step, fleet_head_t *head, uint32_t node, const char *by,
               const char *reason) {
    FLEET_COPY(head->node, node_name(step->core, node));
    FLEET_COPY(head->by, by);
    FLEET_COPY(head->reason, reason);
}
