// SPDX-License-Identifier: MIT
//
// What goes wrong, how often (drawn for each history: some kinds not at all,
// others all the time), and how it heals.

#include <string.h>

#include "tests/sim/world.h"

const char *const sim_fault_words[SIM_FAULTS] = {
#define FAULT(NAME, word) [SIM_FAULT_##NAME] = (word),
#include "tests/sim/faults.def"
};

void faults_count(world_t *world, sim_fault_t fault) {
    world->counts->faults[fault]++;
}

// None in half of the histories, else up to `most` of 10000.
static uint32_t rate(dice_t *dice, uint32_t most) {
    return dice_hit(dice, 5000) ? (uint32_t)dice_spread(dice, 1, most) : 0;
}

void faults_draw(world_t *world) {
    dice_t *dice = &world->dice;
    sim_rates_t *rates = &world->rates;
    rates->loss = rate(dice, 3000);
    rates->repeat = rate(dice, 3000);
    rates->slow = rate(dice, 3000);
    rates->slow_us = dice_spread(dice, SIM_S, 90 * SIM_S);
    rates->act_fails = rate(dice, 2000);
    rates->act_hangs = rate(dice, 1000);
    rates->act_slow = rate(dice, 3000);
    rates->write_us = dice_spread(dice, SIM_MS, 50 * SIM_MS);
    rates->write_slow = rate(dice, 200);
    rates->between_us = dice_spread(dice, 2 * SIM_S, 60 * SIM_S);
    rates->ask_us = dice_spread(dice, 4 * SIM_S, 60 * SIM_S);
    for (int i = SIM_FAULT_BROKER_CRASH; i < SIM_FAULTS; i++) {
        rates->weight[i] = rate(dice, 1000);
    }
}

static sim_fault_t draw_fault(world_t *world) {
    const uint32_t *weight = world->rates.weight;
    uint64_t sum = 0;
    for (int i = 0; i < SIM_FAULTS; i++) {
        sum += weight[i];
    }
    if (sum == 0) {
        return SIM_FAULTS;
    }
    uint64_t at = dice_range(&world->dice, 0, sum - 1);
    int i = 0;
    while (at >= weight[i]) {
        at -= weight[i++];
    }
    return (sim_fault_t)i;
}

// Around the lease, where things differ, as often as anywhere else.
static uint64_t how_long(world_t *world) {
    dice_t *dice = &world->dice;
    uint64_t lease = world->lease_ms * SIM_MS;
    if (dice_hit(dice, 5000)) {
        return dice_range(dice, lease / 2, 2 * lease);
    }
    return dice_spread(dice, 10 * SIM_MS, 60 * SIM_S);
}

static void cut(world_t *world, uint32_t host, bool in, bool out) {
    node_host_t *node = &world->nodes[host];
    world_say(world, node->name, "is cut%s%s", in ? " from" : "",
              out ? " to the broker" : "");
    node->cut_in = node->cut_in || in;
    node->cut_out = node->cut_out || out;
    node->lossy = true;
    agenda_add(world, world->now + how_long(world), SIM_CUT_END, host, 0, NULL);
}

static void carrier(world_t *world, uint32_t host, bool up) {
    node_host_t *node = &world->nodes[host];
    node->carrier = up;
    world_say(world, node->name, "public carrier %s", up ? "up" : "down");
    for (uint32_t i = 0; node->agent && i < world->sets_n; i++) {
        const node_in_t in = {.kind = NODE_IN_CARRIER, .set = i, .up = up};
        nodehost_input(world, host, &in);
    }
}

static void hold(world_t *world, uint32_t host) {
    dice_t *dice = &world->dice;
    uint32_t set = (uint32_t)dice_range(dice, 0, world->sets_n - 1);
    uint32_t part = (uint32_t)dice_range(dice, 0, SIM_PARTS - 1);
    world->nodes[host].kernel[set].held |= 1U << part;
    world_say(world, world->nodes[host].name, "part %u of set %u is held", part,
              set);
    agenda_add(world, world->now + how_long(world), SIM_LET_GO, host,
               set * SIM_PARTS + part, NULL);
}

static void leave(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (node->agent && !node->leaving) {
        world_say(world, node->name, "is to go down");
        node->leaving = true;
        agenda_add(world, world->now + 90 * SIM_S, SIM_DOWN, host, node->boot,
                   NULL);
        const node_in_t in = {.kind = NODE_IN_LEAVE};
        nodehost_input(world, host, &in);
    }
}

static void broker_fault(world_t *world, sim_fault_t fault) {
    if (fault == SIM_FAULT_BROKER_CRASH) {
        brokerhost_crash(world);
    } else if (fault == SIM_FAULT_BROKER_LOST_WRITE) {
        world->broker.crash_writing = true;
    } else if (fault == SIM_FAULT_BROKER_CRASH_SENDING) {
        world->broker.crash_after = (uint32_t)dice_range(&world->dice, 1, 12);
    } else {
        brokerhost_pause(world, world->now + how_long(world));
    }
}

static void forget(world_t *world, uint32_t host, bool power) {
    node_host_t *node = &world->nodes[host];
    if (node->power && !node->leaving && (power || node->agent)) {
        if (power) {
            nodehost_power_off(world, host);
        } else {
            nodehost_agent_kill(world, host);
        }
        world_say(world, node->name, "its state directory is lost");
        node->memory_kept = false;
        node->term = 0;
        memset(node->deadline_there, 0, sizeof(node->deadline_there));
        memset(node->records, 0, sizeof(node->records));
        memset(world->promises.record[host], 0,
               sizeof(world->promises.record[host]));
    }
}

static void host_fault(world_t *world, sim_fault_t fault, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    switch ((int)fault) {
    case SIM_FAULT_AGENT_CRASH_WRITING:
        node->crash_writing = true;
        break;
    case SIM_FAULT_AGENT_CRASH:
        nodehost_agent_kill(world, host);
        break;
    case SIM_FAULT_AGENT_PAUSE:
        nodehost_pause(world, host, world->now + how_long(world));
        break;
    case SIM_FAULT_POWER:
    case SIM_FAULT_REBOOT:
        nodehost_power_off(world, host);
        break;
    case SIM_FAULT_SHUTDOWN:
        leave(world, host);
        break;
    case SIM_FAULT_MEMORY:
        forget(world, host, true);
        break;
    case SIM_FAULT_AMNESIA:
        forget(world, host, false);
        break;
    case SIM_FAULT_CUT:
        cut(world, host, true, true);
        break;
    case SIM_FAULT_CUT_ONE_WAY: {
        bool in = dice_hit(&world->dice, 5000);
        cut(world, host, in, !in);
        break;
    }
    case SIM_FAULT_RECONNECT:
        nodehost_disconnect(world, host);
        break;
    case SIM_FAULT_CARRIER:
        carrier(world, host, false);
        agenda_add(world, world->now + how_long(world), SIM_CARRIER_UP, host, 0,
                   NULL);
        break;
    case SIM_FAULT_PATH:
        node->path = false;
        agenda_add(world, world->now + how_long(world), SIM_PATH_BACK, host, 0,
                   NULL);
        break;
    case SIM_FAULT_HELD:
        hold(world, host);
        break;
    case SIM_FAULT_DIED:
        node->kernel[dice_range(&world->dice, 0, world->sets_n - 1)].running =
            false;
        break;
    default:
        break;
    }
}

void faults_next(world_t *world) {
    if (world->healed) {
        return;
    }
    sim_fault_t fault = draw_fault(world);
    if (fault != SIM_FAULTS && fault != SIM_FAULT_FENCE_FAILS &&
        fault != SIM_FAULT_ATTESTED) {
        if (fault != SIM_FAULT_BROKER_LOST_WRITE &&
            fault != SIM_FAULT_BROKER_CRASH_SENDING &&
            fault != SIM_FAULT_AGENT_CRASH_WRITING) {
            faults_count(world, fault);
        }
        uint32_t host =
            (uint32_t)dice_range(&world->dice, 0, world->nodes_n - 1);
        if (fault <= SIM_FAULT_BROKER_PAUSE) {
            broker_fault(world, fault);
        } else {
            host_fault(world, fault, host);
        }
    }
    agenda_add(world,
               world->now +
                   dice_spread(&world->dice, SIM_MS, world->rates.between_us),
               SIM_FAULT_NEXT, 0, 0, NULL);
}

static void heal_node(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    node->cut_in = node->cut_out = node->crash_writing = false;
    node->path = true;
    for (uint32_t i = 0; i < world->sets_n; i++) {
        node->kernel[i].held = 0;
    }
    if (!node->carrier) {
        carrier(world, host, true);
    }
    if (node->paused) {
        nodehost_go(world, host);
    }
    if (!node->power) {
        nodehost_power_on(world, host);
    } else if (!node->agent) {
        nodehost_agent_start(world, host, node->life);
    } else if (node->lossy) {
        nodehost_disconnect(world, host);
    }
}

void faults_heal(world_t *world) {
    world->healed = true;
    world_say(world, "world", "faults stop");
    world->broker.crash_after = 0;
    world->broker.crash_writing = false;
    if (!world->broker.up) {
        brokerhost_start(world, world->broker.life);
    } else if (world->broker.paused) {
        brokerhost_go(world);
    }
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        heal_node(world, i);
    }
}

void faults_over(world_t *world, const sim_item_t *item) {
    node_host_t *node = &world->nodes[item->host];
    if (world->healed) {
        return;
    }
    switch ((int)item->what) {
    case SIM_CUT_END:
        world_say(world, node->name, "is no longer cut");
        node->cut_in = node->cut_out = false;
        nodehost_disconnect(world, item->host);
        break;
    case SIM_CARRIER_UP:
        carrier(world, item->host, true);
        break;
    case SIM_PATH_BACK:
        node->path = true;
        break;
    case SIM_LET_GO:
        node->kernel[item->number / SIM_PARTS].held &=
            ~(1U << item->number % SIM_PARTS);
        break;
    default:
        break;
    }
}
