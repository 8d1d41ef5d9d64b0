// SPDX-License-Identifier: MIT
//
// What is watched beside the sequences: the probes of what is held, and the
// look whether a set could start here, which `port` tells the broker.

#include <string.h>

#include "node/core/state.h"

// --------------------------------------------------------------------- probes

static bool is_probed(const node_set_t *set, uint32_t part) {
    return set->phase == fleet_phase_HELD && set->stop == NODE_WHY_NONE &&
           set->mode == NODE_MODE_IDLE && part < set->run.n &&
           set->run.parts[part].probe_every_ms != 0;
}

void node_health_advance(node_core_t *core, node_set_t *set,
                         node_effects_t *effects) {
    for (uint32_t i = 0; i < set->run.n; i++) {
        if (is_probed(set, i) && set->watch[i].job == 0 &&
            set->probe_left_ms[i] == 0) {
            node_act(core, set, effects, &set->watch[i], NODE_ACT_PROBE, i)
                ->limit_ms = set->run.parts[i].probe_limit_ms;
        }
    }
}

void node_health_say(node_core_t *core, node_set_t *set, uint32_t part,
                     node_effects_t *effects) {
    uint32_t bit = node_bit(part);
    set->sick_unsaid |= bit;
    if (!node_session_is_open(core) || !node_set_open(set)) {
        return;
    }
    set->sick_unsaid &= ~bit;
    fleet_health_t *health = &node_send(effects, FLEET_MESSAGE_health)->health;
    health->session = core->session.id;
    FLEET_COPY(health->set, set->name);
    health->token = set->token;
    FLEET_COPY(health->resource, set->run.parts[part].name);
    health->ok = (set->sick & bit) == 0;
    if (!health->ok) {
        FLEET_COPY(health->text, set->sick_text);
    }
}

void node_health_set(node_core_t *core, node_set_t *set, uint32_t part, bool ok,
                     const char *text, node_effects_t *effects) {
    uint32_t bit = node_bit(part);
    if (ok == ((set->sick & bit) == 0)) {
        return;
    }
    set->sick = ok ? set->sick & ~bit : set->sick | bit;
    node_note(effects, "%s: %s: %s -> %s", set->name, set->run.parts[part].name,
              text, ok ? "well again" : "failed");
    FLEET_COPY(set->sick_text, text);
    node_health_say(core, set, part, effects);
}

void node_health_result(node_core_t *core, node_set_t *set, uint32_t part,
                        const node_input_t *input, node_effects_t *effects) {
    bool abandoned = set->watch[part].abandoned;
    set->watch[part] = (node_act_slot_t){0};
    if (abandoned || !is_probed(set, part)) {
        return;
    }
    set->probe_left_ms[part] = set->run.parts[part].probe_every_ms;
    if (input->ok && input->found == NODE_FOUND_ALL) {
        set->probe_failures[part] = 0;
        node_health_set(core, set, part, true, "its probe succeeds", effects);
        return;
    }
    set->probe_failures[part] += 1;
    if (set->probe_failures[part] >= NODE_PROBE_FAILURES) {
        node_health_set(
            core, set, part, false,
            input->text[0] != '\0' ? input->text : "its probe fails", effects);
    }
}

// ---------------------------------------------------------------------- looks

static uint32_t looks_n(const node_core_t *core) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        n += core->sets[i].used && core->sets[i].look.job != 0;
    }
    return n;
}

// Time alone will make it due: nothing else has to happen before.
bool node_look_waits(const node_core_t *core, const node_set_t *set) {
    return set->watched && set->look.job == 0 && node_session_is_open(core) &&
           (set->look_left_ms != 0 || looks_n(core) < NODE_LOOKS_MAX);
}

void node_look_advance(node_core_t *core, node_set_t *set,
                       node_effects_t *effects) {
    if (set->look_left_ms != 0 || !node_look_waits(core, set)) {
        return;
    }
    set->look_rev = set->newest.rev;
    node_act(core, set, effects, &set->look, NODE_ACT_LOOK, NODE_WHOLE_SET);
}

// FNV-1a of what the answer says, so that only another answer is sent.
static uint64_t digest_of(const fleet_port_t *port) {
    fleet_port_t said = *port;
    said.session = 0;
    for (uint32_t i = 0; i < said.problems_n; i++) {
        said.problems[i].since_us = 0;
    }
    const unsigned char *bytes = (const unsigned char *)&said;
    size_t size = offsetof(fleet_port_t, problems) +
                  said.problems_n * sizeof(said.problems[0]);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static void fill_port(const node_core_t *core, const node_set_t *set,
                      const node_input_t *input, fleet_port_t *port) {
    port->session = core->session.id;
    FLEET_COPY(port->set, set->name);
    port->rev = set->look_rev;
    port->visible = input->visible;
    FLEET_COPY(port->lock_owner, input->lock_owner);
    port->lock_token = input->lock_token;
    port->can_evict = input->can_evict;
    for (uint32_t i = 0;
         i < input->problems_n && port->problems_n < FLEET_REASONS_MAX; i++) {
        port->problems[port->problems_n++] = input->problems[i];
    }
    if (!input->ok && port->problems_n < FLEET_REASONS_MAX) {
        fleet_reason_t *reason = &port->problems[port->problems_n++];
        fleet_reason_make(reason, FLEET_NOT_READY, "%s", input->text);
        FLEET_COPY(reason->set, set->name);
        FLEET_COPY(reason->node, core->config.node);
    }
}

void node_look_result(node_core_t *core, node_set_t *set,
                      const node_input_t *input, node_effects_t *effects) {
    bool old = set->look_rev != set->newest.rev;
    set->look = (node_act_slot_t){0};
    set->look_left_ms = old ? 0 : NODE_LOOK_EVERY_MS;
    if (old || !set->watched || !node_session_is_open(core)) {
        return;
    }
    fleet_message_t *message = node_send(effects, FLEET_MESSAGE_port);
    fill_port(core, set, input, &message->port);
    uint64_t digest = digest_of(&message->port);
    if (set->port_sent && digest == set->port_digest) {
        effects->n -= 1; // nothing new
        return;
    }
    set->port_sent = true;
    set->port_digest = digest;
}
