// SPDX-License-Identifier: MIT
//
// The loop around a node's core: inputs one by one, effects in order, each
// record durable before the effect after it.  A crash may come between any two
// effects, and leaves a record that was being written old or new.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

static node_effects_t effects;

uint64_t nodehost_clock_ms(const world_t *world, const node_host_t *node) {
    int64_t now = (int64_t)world->now;
    return node->offset_ms +
           (uint64_t)(now + now * node->drift_ppm / 1000000) / 1000;
}

// Rounded up, as node/core.h asks.
static uint64_t elapsed_ms(world_t *world, node_host_t *node) {
    uint64_t now = nodehost_clock_ms(world, node) + 1;
    uint64_t elapsed = now - node->seen_ms;
    node->seen_ms = now;
    return elapsed;
}

static void drop_inbox(node_host_t *node) {
    for (size_t i = 0; i < node->inbox_n; i++) {
        letter_free(node->inbox[i].letter);
        free(node->inbox[i].act);
    }
    node->inbox_n = 0;
}

static void drop_outs(node_host_t *node) {
    for (size_t i = node->outs_at; i < node->outs_n; i++) {
        free(node->outs[i]);
    }
    node->outs_n = node->outs_at = 0;
}

static void keep_out(node_host_t *node, const node_effect_t *effect) {
    if (node->outs_n == node->outs_room) {
        node->outs_room = node->outs_room == 0 ? 64 : 2 * node->outs_room;
        node->outs =
            realloc(node->outs, node->outs_room * sizeof(node_effect_t *));
        assert(node->outs != NULL);
    }
    size_t size = offsetof(node_effect_t, message);
    if (effect->kind == NODE_OUT_SEND) {
        size += message_size(&effect->message);
    }
    node_effect_t *copy = malloc(size);
    assert(copy != NULL);
    memcpy(copy, effect, size);
    node->outs[node->outs_n++] = copy;
}

// ---------------------------------------------------------------- carrying out

static uint64_t write_us(world_t *world) {
    if (world->healed) {
        return SIM_MS;
    }
    if (dice_hit(&world->dice, world->rates.write_slow)) {
        faults_count(world, SIM_FAULT_WRITE_SLOW);
        return dice_spread(&world->dice, 10 * SIM_MS, 20 * SIM_S);
    }
    return dice_spread(&world->dice, 100, world->rates.write_us);
}

// What the file holds once it is written.
static void written(world_t *world, uint32_t host,
                    const node_effect_t *effect) {
    node_host_t *node = &world->nodes[host];
    if (effect->kind == NODE_OUT_TERM) {
        node->term = effect->term;
        node->memory_kept = true;
        return;
    }
    bool forget = effect->kind == NODE_OUT_FORGET;
    uint32_t set = world_set(world, forget ? effect->set : effect->record.set);
    assert(set != SIM_NOBODY);
    sim_record_t *record = &node->records[set];
    if (forget) {
        record->there = false;
        return;
    }
    *record = (sim_record_t){.there = true,
                             .pair = effect->record,
                             .rev = effect->rev,
                             .boot = node->boot};
    promises_wrote(world, host, set);
}

static bool is_write(node_effect_kind_t kind) {
    return kind == NODE_OUT_RECORD || kind == NODE_OUT_TERM ||
           kind == NODE_OUT_FORGET;
}

static void keep_deadline(world_t *world, node_host_t *node,
                          const node_effect_t *effect) {
    uint32_t set = world_set(world, effect->set);
    assert(set != SIM_NOBODY);
    node->deadline_there[set] = effect->lease_ms > 0;
    node->deadline_ms[set] = nodehost_clock_ms(world, node) + effect->lease_ms;
}

static void carry_out(world_t *world, uint32_t host,
                      const node_effect_t *effect) {
    node_host_t *node = &world->nodes[host];
    switch (effect->kind) {
    case NODE_OUT_DEADLINE:
        keep_deadline(world, node, effect);
        break;
    case NODE_OUT_SEND: {
        if (effect->message.type == FLEET_MESSAGE_closed) {
            promises_closed(world, host, &effect->message.closed);
        }
        letter_t *letter = letter_new(&effect->message);
        letter->from = host;
        letter->peer = node->peer;
        letter->role = fleet_role_NODE;
        FLEET_COPY(letter->name, node->name);
        wire_send(world, letter);
        break;
    }
    case NODE_OUT_ACT:
        kernel_act(world, host, effect);
        break;
    case NODE_OUT_ABANDON:
        kernel_abandon(world, host, effect->job);
        break;
    case NODE_OUT_LEFT:
        world_say(world, node->name, "has left");
        nodehost_power_off(world, host);
        break;
    case NODE_OUT_KEEP: // definitions are never lost here
    case NODE_OUT_RECORD:
    case NODE_OUT_FORGET:
    case NODE_OUT_TERM:
    case NODE_OUT_NOTE:
        break;
    }
}

static void arm(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    uint64_t ms = node_core_deadline(node->core);
    node->tick++;
    if (ms != UINT64_MAX) {
        uint64_t late =
            world->healed ? 0 : dice_range(&world->dice, 0, 2 * SIM_MS);
        uint64_t us = ms == 0 ? 0 : world_real_us(ms, node->drift_ppm) + late;
        agenda_add(world, world->now + us, SIM_AGENT_TICK, host, node->tick,
                   NULL);
    }
}

// Until a write has to be waited for.
static void carry_on(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    uint64_t life = node->life;
    while (node->outs_at < node->outs_n) {
        node_effect_t *effect = node->outs[node->outs_at];
        if (is_write(effect->kind)) {
            node->writing = true;
            agenda_add(world, world->now + write_us(world), SIM_AGENT_WROTE,
                       host, life, NULL);
            if (node->crash_writing) {
                node->crash_writing = false;
                agenda_add(world, world->now, SIM_AGENT_KILL, host, life, NULL);
            }
            return;
        }
        if (effect->lease_ms > 0) {
            uint64_t late = nodehost_clock_ms(world, node) - node->asked_ms;
            effect->lease_ms =
                effect->lease_ms > late ? effect->lease_ms - late : 1;
        }
        carry_out(world, host, effect);
        if (node->life != life || !node->agent) {
            return; // it left
        }
        free(node->outs[node->outs_at++]);
    }
    node->outs_n = node->outs_at = 0;
}

void nodehost_wrote(world_t *world, uint32_t host, uint64_t life) {
    node_host_t *node = &world->nodes[host];
    if (!node->agent || node->life != life || !node->writing) {
        return;
    }
    if (node->paused) {
        agenda_add(world, node->resume_at, SIM_AGENT_WROTE, host, life, NULL);
        return;
    }
    node->writing = false;
    written(world, host, node->outs[node->outs_at]);
    free(node->outs[node->outs_at++]);
    carry_on(world, host);
    nodehost_turn(world, host);
}

// --------------------------------------------------------------------- inputs

static fleet_phase_t phase_of(const node_host_t *node, uint32_t set) {
    const sim_record_t *record = &node->records[set];
    return record->there ? record->pair.phase : fleet_phase_NONE;
}

static void step(world_t *world, uint32_t host, node_input_t *input) {
    node_host_t *node = &world->nodes[host];
    fleet_phase_t before[SIM_SETS_MAX];
    for (uint32_t i = 0; i < world->sets_n; i++) {
        before[i] = phase_of(node, i);
    }
    input->elapsed_ms = elapsed_ms(world, node);
    node->asked_ms = nodehost_clock_ms(world, node);
    node_core_step(node->core, input, &effects);
    for (uint32_t i = 0; i < effects.n; i++) {
        const node_effect_t *effect = &effects.items[i];
        if (effect->kind == NODE_OUT_NOTE) {
            world_say(world, node->name, "%s", effect->text);
            continue;
        }
        if (effect->kind == NODE_OUT_ACT) {
            uint32_t set = world_set(world, effect->set);
            promises_act(world, host, effect, input->kind, before[set]);
        }
        keep_out(node, effect);
    }
}

static void fill_result(world_t *world, const sim_act_t *act,
                        node_input_t *input) {
    input->act = act->act;
    FLEET_COPY(input->set, world->setdefs[act->set][0].set);
    input->resource = act->resource;
    input->job = act->job;
    input->ok = act->ok;
    input->found = act->found;
    input->err = act->err;
    FLEET_COPY(input->text, act->text != NULL ? act->text : "");
    input->stamped = act->stamped;
    input->blocked = act->blocked;
    FLEET_COPY(input->lock_owner, act->lock_owner);
    input->lock_token = act->lock_token;
    input->visible = act->visible;
    input->can_evict = act->can_evict;
}

static void step_one(world_t *world, uint32_t host, const node_in_t *in) {
    static node_input_t input;
    memset(&input, 0, sizeof(input));
    input.kind = in->kind;
    if (in->letter != NULL) {
        input.message = message_open(in->letter->message, in->letter->size);
        input.setdef = in->letter->setdef;
    }
    if (in->act != NULL) {
        fill_result(world, in->act, &input);
    }
    if (in->kind == NODE_IN_CARRIER) {
        FLEET_COPY(input.set, world->setdefs[in->set][0].set);
        input.ok = in->up;
    }
    step(world, host, &input);
}

void nodehost_turn(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    uint64_t life = node->life;
    bool stepped = false;
    size_t taken = 0;
    while (node->agent && node->life == life && !node->paused &&
           !node->writing && taken < node->inbox_n) {
        node_in_t in = node->inbox[taken];
        memset(&node->inbox[taken++], 0, sizeof(in));
        step_one(world, host, &in);
        letter_free(in.letter);
        free(in.act);
        stepped = true;
        carry_on(world, host);
    }
    if (!node->agent || node->life != life) {
        return;
    }
    node->inbox_n -= taken;
    if (taken > 0) {
        memmove(node->inbox, node->inbox + taken,
                node->inbox_n * sizeof(*node->inbox));
    }
    if (stepped) {
        arm(world, host);
    }
}

void nodehost_input(world_t *world, uint32_t host, const node_in_t *in) {
    node_host_t *node = &world->nodes[host];
    if (node->inbox_n == node->inbox_room) {
        node->inbox_room = node->inbox_room == 0 ? 64 : 2 * node->inbox_room;
        node->inbox =
            realloc(node->inbox, node->inbox_room * sizeof(*node->inbox));
        assert(node->inbox != NULL);
    }
    node->inbox[node->inbox_n++] = *in;
    nodehost_turn(world, host);
}

void nodehost_tick(world_t *world, uint32_t host, uint64_t number) {
    const node_host_t *node = &world->nodes[host];
    if (node->agent && node->tick == number) {
        const node_in_t in = {.kind = NODE_IN_TICK};
        nodehost_input(world, host, &in);
    }
}

void nodehost_deliver(world_t *world, letter_t *letter) {
    if (!world->nodes[letter->to].agent) {
        letter_free(letter);
        return;
    }
    const node_in_t in = {.kind = NODE_IN_MESSAGE, .letter = letter};
    nodehost_input(world, letter->to, &in);
}

// ----------------------------------------------------------------- connections

void nodehost_disconnect(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    node->connected = false;
    uint64_t wait = world->healed
                        ? 100 * SIM_MS
                        : dice_spread(&world->dice, 10 * SIM_MS, 2 * SIM_S);
    agenda_add(world, world->now + wait, SIM_CONNECT, host, node->life, NULL);
}

// The handshake succeeds, or is tried again.
void nodehost_connect(world_t *world, uint32_t host, uint64_t life) {
    node_host_t *node = &world->nodes[host];
    if (!node->agent || node->life != life ||
        (node->connected && !node->lossy)) {
        return;
    }
    if (!world->broker.up || node->cut_in || node->cut_out) {
        agenda_add(world, world->now + 500 * SIM_MS, SIM_CONNECT, host, life,
                   NULL);
        return;
    }
    node->connected = true;
    node->lossy = false;
    node->peer = 1000000 + 10 * (++world->broker.peers) + host;
    const node_in_t in = {.kind = NODE_IN_CONNECTED};
    nodehost_input(world, host, &in);
}

// ----------------------------------------------------------------- its lives

static void load(world_t *world, uint32_t host, uint32_t set) {
    static node_input_t input;
    node_host_t *node = &world->nodes[host];
    const sim_record_t *record = &node->records[set];
    if (!record->there) {
        return;
    }
    memset(&input, 0, sizeof(input));
    input.kind = NODE_IN_LOADED;
    input.record = record->pair;
    input.same_boot = record->boot == node->boot;
    uint64_t now = nodehost_clock_ms(world, node);
    bool valid = input.same_boot && node->deadline_there[set] &&
                 node->deadline_ms[set] > now;
    input.lease_left_ms = valid ? node->deadline_ms[set] - now : 0;
    if (record->rev > 0 && record->rev < SIM_REVS) {
        uint32_t variant = world->broker.variant[set][record->rev];
        input.setdef = &world->setdefs[set][variant];
        input.rev = record->rev;
    }
    step(world, host, &input);
}

// P16: without a memory the loop takes what runs from the disk's lock; what
// runs without one is torn down before anything else.
static void find(world_t *world, uint32_t host, uint32_t set) {
    static node_input_t input;
    node_host_t *node = &world->nodes[host];
    sim_kernel_set_t *kernel = &node->kernel[set];
    if (!kernel_has_any(world, host, set)) {
        return;
    }
    const sim_disk_t *disk = &world->disks[set];
    if (!world->has_disk[set] || disk->owner != host) {
        memset(kernel, 0, sizeof(*kernel));
        return;
    }
    memset(&input, 0, sizeof(input));
    input.kind = NODE_IN_LOADED;
    FLEET_COPY(input.record.set, world->setdefs[set][0].set);
    input.record.token = disk->floor;
    input.record.phase = fleet_phase_ACQUIRING;
    input.same_boot = true;
    step(world, host, &input);
}

void nodehost_agent_start(world_t *world, uint32_t host, uint64_t life) {
    node_host_t *node = &world->nodes[host];
    if (!node->power || node->agent || node->life != life) {
        return;
    }
    if (node->memory == NULL) {
        node->memory = malloc(node_core_size());
        assert(node->memory != NULL);
    }
    node->agent = true;
    node->paused = node->writing = node->leaving = false;
    node->connected = node->lossy = false;
    node_config_t config = {.slots = world->slots,
                            .term = node->memory_kept ? node->term : 0,
                            .no_memory = !node->memory_kept,
                            .resend_ms = 1000};
    FLEET_COPY(config.site, "sim");
    FLEET_COPY(config.node, node->name);
    FLEET_COPY(config.version, "0");
    FLEET_FORMAT(config.boot_id, "boot%llu", (unsigned long long)node->boot);
    FLEET_FORMAT(config.agent_id, "agent%llu", (unsigned long long)life);
    FLEET_COPY(config.kernel, "6");
    FLEET_FORMAT(config.kernel_id, "kernel%u", host);
    node->core = node_core_init(node->memory, &config);
    node->seen_ms = nodehost_clock_ms(world, node) + 1;
    world_say(world, node->name, "agent starts%s",
              config.no_memory ? ", no memory" : "");
    for (uint32_t i = 0; i < world->sets_n; i++) {
        if (config.no_memory) {
            find(world, host, i);
        } else {
            load(world, host, i);
        }
    }
    node_input_t input = {.kind = NODE_IN_START};
    step(world, host, &input);
    carry_on(world, host);
    if (node->agent && node->life == life) {
        arm(world, host);
        nodehost_disconnect(world, host);
    }
}

static void agent_dies(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (!node->agent) {
        return;
    }
    if (node->writing) {
        faults_count(world, SIM_FAULT_AGENT_CRASH_WRITING);
        if (dice_hit(&world->dice, 5000)) {
            written(world, host, node->outs[node->outs_at]);
        }
    }
    node->agent = node->writing = node->paused = node->connected = false;
    node->life++;
    drop_inbox(node);
    drop_outs(node);
    kernel_agent_died(world, host);
}

void nodehost_agent_kill(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (!node->agent || node->leaving) {
        return;
    }
    world_say(world, node->name, "agent is killed");
    agent_dies(world, host);
    agenda_add(world,
               world->now + dice_spread(&world->dice, 100 * SIM_MS, 20 * SIM_S),
               SIM_AGENT_START, host, node->life, NULL);
}

void nodehost_power_off(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (!node->power) {
        return;
    }
    world_say(world, node->name, "power is off");
    agent_dies(world, host);
    kernel_power_off(world, host);
    memset(node->deadline_there, 0, sizeof(node->deadline_there));
    node->power = false;
    node->boot++;
    node->life++;
    uint64_t away = world->healed
                        ? 5 * SIM_S
                        : dice_spread(&world->dice, 200 * SIM_MS, 90 * SIM_S);
    agenda_add(world, world->now + away, SIM_POWER_ON, host, node->boot, NULL);
}

void nodehost_power_on(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (node->power) {
        return;
    }
    world_say(world, node->name, "power is on, boot %llu",
              (unsigned long long)node->boot);
    node->power = true;
    uint64_t wait = world->healed
                        ? SIM_S
                        : dice_spread(&world->dice, 50 * SIM_MS, 5 * SIM_S);
    agenda_add(world, world->now + wait, SIM_AGENT_START, host, node->life,
               NULL);
}

void nodehost_pause(world_t *world, uint32_t host, uint64_t until) {
    node_host_t *node = &world->nodes[host];
    if (node->agent && !node->paused) {
        world_say(world, node->name, "agent is paused");
        node->paused = true;
        node->resume_at = until;
        agenda_add(world, until, SIM_AGENT_GO, host, node->life, NULL);
    }
}

void nodehost_go(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (node->agent && node->paused) {
        world_say(world, node->name, "agent goes on");
        node->paused = false;
        nodehost_turn(world, host);
    }
}

void nodehost_free(node_host_t *node) {
    drop_inbox(node);
    drop_outs(node);
    for (size_t i = 0; i < node->acts_n; i++) {
        free(node->acts[i]);
    }
    free(node->inbox);
    free(node->outs);
    free(node->memory);
}
