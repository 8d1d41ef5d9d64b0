// SPDX-License-Identifier: MIT
//
// One history from its seed: the world is drawn, faults and requests come for a
// while, then faults stop and everything has to come back (L1).

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

#define DRIFT_PPM_MAX 40000
#define SETTLE_S 600     // how long a transfer may take to end once faults stop
#define AT_ONCE_MAX 5000 // things that happen at one instant
#define TRIES 12         // plain commands until a set runs again

void world_say(const world_t *world, const char *who, const char *format, ...) {
    if (!world->trace) {
        return;
    }
    printf("[%11.6f] %-7s ", (double)world->now / 1e6, who);
    va_list arguments;
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

uint32_t world_set(const world_t *world, const char *name) {
    for (uint32_t i = 0; i < world->sets_n; i++) {
        if (strcmp(world->setdefs[i][0].set, name) == 0) {
            return i;
        }
    }
    return SIM_NOBODY;
}

uint32_t world_node(const world_t *world, const char *name) {
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        if (strcmp(world->nodes[i].name, name) == 0) {
            return i;
        }
    }
    return SIM_NOBODY;
}

int world_part(const world_t *world, uint32_t set, uint32_t resource) {
    if (resource == NODE_WHOLE_SET) {
        return -1;
    }
    switch (world->setdefs[set][0].resources[resource].kind) {
    case FLEET_RESOURCE_DISK_GROUP:
    case FLEET_RESOURCE_FILESYSTEM:
        return SIM_DISK;
    case FLEET_RESOURCE_ADDRESS:
        return SIM_ADDRESS;
    case FLEET_RESOURCE_SERVICE:
        return SIM_SERVICE;
    }
    return -1;
}

uint64_t world_real_us(uint64_t ms, int64_t drift_ppm) {
    double us = (double)ms * 1000 * 1e6 / (double)(1000000 + drift_ppm);
    return (uint64_t)us + 1000;
}

// --------------------------------------------------------------------- drawing

static void define(world_t *world, uint32_t set, uint32_t variant) {
    static const char *const lapses[] = {"keep", "silence", "stop"};
    char yaml[1024];
    dice_t *dice = &world->dice;
    static const char *lapse, *boot;
    if (variant == 0) {
        world->has_disk[set] = dice_hit(dice, 8000);
        world->has_address[set] = dice_hit(dice, 8500);
        lapse = lapses[dice_range(dice, 0, 2)];
        boot = dice_hit(dice, 7000) ? "as-before" : "manual";
    }
    (void)snprintf(
        yaml, sizeof(yaml),
        "format: 1\nset: set%u\nabout: variant %u\nboot: %s\n"
        "without_lease: %s\nresources:\n%s%s"
        "  - service: {name: daemon, start: /bin/true, "
        "probe: {command: /bin/true, every: 10s, limit: 2s}, "
        "limit: {start: 10s, stop: %us}}\n",
        set + 1, variant, boot, lapse,
        world->has_disk[set] ? "  - disk_group: {driver: image, path: "
                               "/srv/DISK, limit: {start: 10s, stop: 10s}}\n"
                             : "",
        world->has_address[set]
            ? (set == 0 ? "  - address: {needs: [], ip: [192.0.2.1/24]}\n"
                        : "  - address: {needs: [], ip: [192.0.2.2/24]}\n")
            : "",
        5 + variant);
    char *disk = strstr(yaml, "DISK");
    if (disk != NULL) {
        (void)memcpy(disk, set == 0 ? "dsk1" : "dsk2", 4);
    }
    static fleet_complaints_t complaints;
    memset(&complaints, 0, sizeof(complaints));
    fleet_err_t err = fleet_setdef_read(
        yaml, strlen(yaml), &world->setdefs[set][variant], &complaints);
    if (err != FLEET_OK) {
        char line[512];
        fleet_complaint_print(&complaints.items[0], "set", line, sizeof(line));
        (void)fprintf(stderr, "%s%s\n", yaml, line);
    }
    assert(err == FLEET_OK);
}

static void draw_world(world_t *world) {
    dice_t *dice = &world->dice;
    world->nodes_n = (uint32_t)dice_range(dice, 2, SIM_NODES_MAX);
    world->sets_n = (uint32_t)dice_range(dice, 1, SIM_SETS_MAX);
    world->evicts = dice_hit(dice, 5000);
    world->fenceable = dice_hit(dice, 5000);
    world->slots = dice_range(dice, 1, 2);
    world->lease_ms = dice_hit(dice, 5000) ? 10000 : 4000;
    world->margin_ms = world->lease_ms / 5;
    for (uint32_t i = 0; i < world->sets_n; i++) {
        world->disks[i].owner = SIM_NOBODY;
        for (uint32_t j = 0; j < SIM_VARIANTS; j++) {
            define(world, i, j);
        }
    }
    int64_t range = (int64_t)dice_spread(dice, 1, DRIFT_PPM_MAX);
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        node_host_t *node = &world->nodes[i];
        FLEET_FORMAT(node->name, "node%u", i + 1);
        node->drift_ppm =
            (int64_t)dice_range(dice, 0, (uint64_t)(2 * range)) - range;
        node->offset_ms = dice_range(dice, 0, 100000000);
        node->carrier = node->path = true;
        node->boot = 1;
    }
    world->broker.drift_ppm =
        (int64_t)dice_range(dice, 0, (uint64_t)(2 * range)) - range;
    world->broker.offset_ms = dice_range(dice, 0, 100000000);
    faults_draw(world);
}

// ------------------------------------------------------------------- happening

static void deliver(world_t *world, letter_t *letter) {
    if (letter->to != SIM_NOBODY) {
        nodehost_deliver(world, letter);
    } else {
        brokerhost_deliver(world, letter);
    }
}

static void happen_to_node(world_t *world, const sim_item_t *item) {
    uint32_t host = item->host;
    const node_host_t *node = &world->nodes[host];
    switch ((int)item->what) {
    case SIM_POWER_ON:
        if (node->boot == item->number) {
            nodehost_power_on(world, host);
        }
        break;
    case SIM_AGENT_START:
        nodehost_agent_start(world, host, item->number);
        break;
    case SIM_AGENT_KILL:
        if (node->life == item->number) {
            nodehost_agent_kill(world, host);
        }
        break;
    case SIM_AGENT_TICK:
        nodehost_tick(world, host, item->number);
        break;
    case SIM_AGENT_WROTE:
        nodehost_wrote(world, host, item->number);
        break;
    case SIM_AGENT_GO:
        if (node->life == item->number) {
            nodehost_go(world, host);
        }
        break;
    case SIM_CONNECT:
        nodehost_connect(world, host, item->number);
        break;
    case SIM_ACT_APPLY:
        kernel_applies(world, host, item->number);
        break;
    case SIM_ACT_END:
        kernel_ends(world, host, item->number);
        break;
    case SIM_DOWN:
        if (node->boot == item->number) {
            nodehost_power_off(world, host);
        }
        break;
    case SIM_FENCE_CUT:
        nodehost_power_off(world, host);
        break;
    default:
        faults_over(world, item);
    }
}

static void happen(world_t *world, const sim_item_t *item) {
    switch (item->what) {
    case SIM_LETTER:
        deliver(world, item->letter);
        break;
    case SIM_BROKER_START:
        brokerhost_start(world, item->number);
        break;
    case SIM_BROKER_CRASH:
        if (world->broker.life == item->number) {
            brokerhost_crash(world);
        }
        break;
    case SIM_BROKER_TICK:
        brokerhost_tick(world, item->number);
        break;
    case SIM_BROKER_WROTE:
        brokerhost_wrote(world, item->number);
        break;
    case SIM_BROKER_GO:
        if (world->broker.life == item->number) {
            brokerhost_go(world);
        }
        break;
    case SIM_FENCE_END:
        brokerhost_fenced(world, item->host, item->number);
        break;
    case SIM_FAULT_NEXT:
        faults_next(world);
        break;
    case SIM_ASK_NEXT:
        operators_next(world);
        break;
    case SIM_LOOK:
        break;
    case SIM_FENCE_CUT:
    case SIM_POWER_ON:
    case SIM_AGENT_START:
    case SIM_AGENT_KILL:
    case SIM_DOWN:
    case SIM_AGENT_TICK:
    case SIM_AGENT_WROTE:
    case SIM_AGENT_GO:
    case SIM_CONNECT:
    case SIM_ACT_APPLY:
    case SIM_ACT_END:
    case SIM_CUT_END:
    case SIM_CARRIER_UP:
    case SIM_PATH_BACK:
    case SIM_LET_GO:
        happen_to_node(world, item);
        break;
    }
}

// Lets the world go on until then; false if a promise is broken.
static bool run_until(world_t *world, uint64_t until) {
    sim_item_t item;
    agenda_add(world, until, SIM_LOOK, 0, until, NULL);
    uint64_t at_once = 0;
    while (!world->promises.broken && agenda_take(&world->agenda, &item)) {
        at_once = item.at == world->now ? at_once + 1 : 0;
        if (at_once > AT_ONCE_MAX) {
            promises_break(world, "L1", "time stands still");
        }
        world->now = item.at;
        happen(world, &item);
        world->counts->happened++;
        promises_look(world);
        if (item.what == SIM_LOOK && item.number == until) {
            break;
        }
    }
    return !world->promises.broken;
}

// -------------------------------------------------------------------------- L1

static bool set_row(const world_t *world, uint32_t set,
                    fleet_set_row_t *ret_row) {
    for (uint32_t i = 0; broker_core_set_row(world->broker.core, i, ret_row);
         i++) {
        if (world_set(world, ret_row->name) == set) {
            return true;
        }
    }
    return false;
}

static bool transfers_end(world_t *world) {
    static fleet_transfer_t transfer;
    uint64_t limit = world->now + SETTLE_S * SIM_S;
    for (;;) {
        bool busy = !world->broker.up || world->broker.writing;
        for (uint32_t i = 0; !busy && i < world->sets_n; i++) {
            busy = broker_core_transfer(world->broker.core,
                                        world->setdefs[i][0].set, 0, &transfer);
        }
        if (!busy) {
            return true;
        }
        if (world->now > limit) {
            promises_break(world, "L1", "transfer t%llu of %s does not end",
                           (unsigned long long)transfer.transfer, transfer.set);
            return false;
        }
        if (!run_until(world, world->now + SIM_S)) {
            return false;
        }
    }
}

// It runs where the journal says, wholly, and nothing of it is elsewhere.
static bool is_well(const world_t *world, uint32_t set) {
    static fleet_set_row_t row;
    if (!set_row(world, set, &row)) {
        return false;
    }
    uint32_t owner = world_node(world, row.owner);
    bool running = row.state == fleet_set_state_RUNNING ||
                   row.state == fleet_set_state_DEGRADED;
    if (!running || owner == SIM_NOBODY || row.transfer != 0) {
        return false;
    }
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        if (i != owner && kernel_has_any(world, i, set)) {
            return false;
        }
    }
    const sim_kernel_set_t *kernel = &world->nodes[owner].kernel[set];
    return (!world->has_disk[set] || kernel_can_write(world, owner, set)) &&
           (!world->has_address[set] || kernel_answers(world, owner, set)) &&
           kernel->running;
}

// A plain command that should bring it up, a different one at each try.
static void bring_up(world_t *world, uint32_t set, uint32_t try) {
    static fleet_set_row_t row;
    (void)set_row(world, set, &row);
    uint32_t node = (uint32_t)(try / 3 % world->nodes_n);
    world_say(world, "world", "set%u is %s at %s, try %u", set + 1,
              fleet_set_state_word(row.state), row.owner, try);
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        const sim_kernel_set_t *kernel = &world->nodes[i].kernel[set];
        world_say(world, world->nodes[i].name,
                  "%s%s token %llu, address %s%s%s, service %s",
                  kernel->attached ? "attached" : "not attached",
                  kernel->revoked ? " and revoked" : "",
                  (unsigned long long)kernel->attached_token,
                  kernel->address_up ? "up" : "down",
                  kernel->silenced ? ", silenced" : "",
                  kernel->timed ? ", timed" : "",
                  kernel->running ? "runs" : "does not run");
    }
    if (row.state == fleet_set_state_DEGRADED) {
        operators_ask(world, fleet_verb_RESTART, set, SIM_NOBODY, false);
        return;
    }
    switch (try % 3) {
    case 0:
        operators_ask(world, fleet_verb_START, set, SIM_NOBODY, false);
        break;
    case 1:
        operators_ask(world, fleet_verb_MOVE, set, node, false);
        break;
    default:
        operators_ask(world, fleet_verb_UNLOCK, set, SIM_NOBODY, false);
        break;
    }
}

static bool comes_back(world_t *world, uint32_t set) {
    for (uint32_t try = 0; try < TRIES; try++) {
        for (int i = 0; i < 10 && !is_well(world, set); i++) {
            if (!run_until(world, world->now + SIM_S)) {
                return false;
            }
        }
        if (is_well(world, set)) {
            return true;
        }
        bring_up(world, set, try);
        if (!run_until(world, world->now + SIM_S) || !transfers_end(world)) {
            return false;
        }
    }
    promises_break(world, "L1", "set%u cannot be brought back", set + 1);
    return false;
}

static void live(world_t *world) {
    uint64_t lease = world->lease_ms * SIM_MS;
    faults_heal(world);
    if (!run_until(world, world->now + 2 * lease + 10 * SIM_S) ||
        !transfers_end(world)) {
        return;
    }
    for (uint32_t i = 0; i < world->sets_n; i++) {
        if (!comes_back(world, i)) {
            return;
        }
    }
    brokerhost_replay_check(world);
}

// --------------------------------------------------------------- the history

static void end_world(world_t *world) {
    broker_host_t *broker = &world->broker;
    sim_item_t item;
    while (agenda_take(&world->agenda, &item)) {
        letter_free(item.letter);
    }
    free(world->agenda.items);
    for (size_t i = 0; i < broker->inbox_n; i++) {
        letter_free(broker->inbox[i]);
    }
    free(broker->inbox);
    for (size_t i = 0; i < broker->outs_n; i++) {
        free(broker->outs[i].message.message);
    }
    free(broker->outs);
    for (size_t i = 0; i < broker->journal_n; i++) {
        free(broker->journal[i].message);
    }
    free(broker->journal);
    free(broker->golden);
    free(broker->memory);
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        nodehost_free(&world->nodes[i]);
    }
}

bool history_run(uint64_t seed, bool trace, sim_counts_t *counts,
                 char *ret_text, size_t size) {
    static world_t world;
    memset(&world, 0, sizeof(world));
    world.seed = seed;
    world.trace = trace;
    world.counts = counts;
    dice_seed(&world.dice, seed);
    draw_world(&world);
    promises_begin(&world);
    brokerhost_start(&world, 0);
    for (uint32_t i = 0; i < world.nodes_n; i++) {
        agenda_add(&world, dice_range(&world.dice, 0, SIM_S), SIM_POWER_ON, i,
                   1, NULL);
    }
    agenda_add(&world, 3 * SIM_S, SIM_ASK_NEXT, 0, 0, NULL);
    agenda_add(&world, dice_range(&world.dice, SIM_S, 20 * SIM_S),
               SIM_FAULT_NEXT, 0, 0, NULL);
    uint64_t length = dice_spread(&world.dice, 60 * SIM_S, 600 * SIM_S);
    if (run_until(&world, length)) {
        live(&world);
    }
    counts->histories++;
    counts->simulated_us += world.now;
    bool ok = !world.promises.broken;
    if (!ok) {
        (void)snprintf(ret_text, size, "%s", world.promises.text);
    }
    end_world(&world);
    return ok;
}
