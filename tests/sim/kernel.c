// SPDX-License-Identifier: MIT
//
// What agents do to devices, addresses, services and the locks of disk groups
// (rule P9), each act at one instant of its time.  An act may be slow, fail
// with or without having done its work, hang until its limit, or find something
// that does not let go.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

typedef unsigned long long number_t;

bool kernel_can_write(const world_t *world, uint32_t host, uint32_t set) {
    const node_host_t *node = &world->nodes[host];
    const sim_kernel_set_t *kernel = &node->kernel[set];
    return node->power && kernel->attached && !kernel->revoked;
}

bool kernel_answers(const world_t *world, uint32_t host, uint32_t set) {
    const node_host_t *node = &world->nodes[host];
    const sim_kernel_set_t *kernel = &node->kernel[set];
    return node->power && kernel->address_up && !kernel->silenced &&
           node->carrier &&
           (!kernel->timed ||
            nodehost_clock_ms(world, node) < kernel->silent_at_ms);
}

bool kernel_has_any(const world_t *world, uint32_t host, uint32_t set) {
    const sim_kernel_set_t *kernel = &world->nodes[host].kernel[set];
    return kernel->attached || kernel->address_up || kernel->running;
}

// ------------------------------------------------------------------- the locks

static void fail(sim_act_t *act, fleet_err_t err, const char *text) {
    act->ok = false;
    act->err = err;
    act->text = text;
}

static void read_lock(const world_t *world, sim_act_t *act) {
    const sim_disk_t *disk = &world->disks[act->set];
    if (disk->owner != SIM_NOBODY) {
        FLEET_COPY(act->lock_owner, world->nodes[disk->owner].name);
    }
    act->lock_token = disk->floor;
}

static void import(world_t *world, sim_act_t *act) {
    node_host_t *node = &world->nodes[act->host];
    sim_kernel_set_t *kernel = &node->kernel[act->set];
    sim_disk_t *disk = &world->disks[act->set];
    read_lock(world, act);
    if (!node->path) {
        fail(act, FLEET_START_FAILED, "the disk cannot be reached");
        return;
    }
    bool own = disk->owner == act->host;
    bool done = own && disk->floor == act->token;
    bool may =
        act->from_token != 0
            ? own && (done || disk->floor == act->from_token)
            : (own || disk->owner == SIM_NOBODY) && act->token >= disk->floor;
    if (!may) {
        fail(act, FLEET_LOCK_FOREIGN, "the lock says otherwise");
        return;
    }
    // What is attached goes on only if it is of the holding that the lock says.
    uint64_t before = act->from_token != 0 ? act->from_token : act->token;
    bool goes_on = kernel->attached && own && !kernel->revoked &&
                   (disk->floor == before || done) &&
                   kernel->attached_token == disk->floor;
    bool held = kernel->running || (kernel->held & (1U << SIM_DISK)) != 0;
    if (kernel->attached && !goes_on && held) {
        fail(act, FLEET_HELD, "an older device of it is in use");
        return;
    }
    disk->owner = act->host;
    disk->floor = act->token;
    kernel->attached = true;
    kernel->attached_token = act->token;
    kernel->revoked = false;
}

static void release(world_t *world, sim_act_t *act) {
    node_host_t *node = &world->nodes[act->host];
    sim_kernel_set_t *kernel = &node->kernel[act->set];
    sim_disk_t *disk = &world->disks[act->set];
    read_lock(world, act);
    if (kernel->running) {
        fail(act, FLEET_HELD, "a service has files open on it");
        return;
    }
    if (!node->path) {
        fail(act, FLEET_STOP_FAILED, "the disk cannot be reached");
        return;
    }
    kernel->attached = false;
    kernel->revoked = false;
    if (disk->owner == act->host && disk->floor <= act->token) {
        disk->owner = SIM_NOBODY;
        disk->floor = act->token + 1;
    }
}

// The key that is revoked is the one of the lock's last import.
static void evict(world_t *world, sim_act_t *act) {
    sim_disk_t *disk = &world->disks[act->set];
    if (!world->nodes[act->host].path) {
        fail(act, FLEET_START_FAILED, "the disk cannot be reached");
        return;
    }
    bool free_or_victim =
        disk->owner == SIM_NOBODY || disk->owner == act->victim;
    if (disk->floor < act->token && free_or_victim) {
        uint64_t key = disk->floor;
        disk->owner = SIM_NOBODY;
        disk->floor = act->token;
        for (uint32_t i = 0; world->evicts && i < world->nodes_n; i++) {
            sim_kernel_set_t *kernel = &world->nodes[i].kernel[act->set];
            if (i == act->victim && kernel->attached &&
                kernel->attached_token == key) {
                kernel->revoked = true;
            }
        }
    }
    act->stamped = disk->owner == SIM_NOBODY && disk->floor == act->token;
    act->blocked = act->stamped && world->evicts && act->victim != SIM_NOBODY &&
                   !kernel_can_write(world, act->victim, act->set);
    act->text = act->blocked ? "blocked" : "not blocked";
    read_lock(world, act);
}

// ------------------------------------------------------------------- the parts

// A lease of 1 ms has run out before an interface is up.
static uint64_t lease_end(const sim_act_t *act) {
    return act->began_ms + (act->lease_ms > 1 ? act->lease_ms : 0);
}

static void start(world_t *world, sim_act_t *act, int part) {
    sim_kernel_set_t *kernel = &world->nodes[act->host].kernel[act->set];
    if (part == SIM_DISK) {
        import(world, act);
    } else if (part == SIM_ADDRESS) {
        kernel->address_up = true;
        kernel->silenced = false;
        kernel->timed = world->setdefs[act->set][0].facts.without_lease ==
                        fleet_without_lease_SILENCE;
        kernel->silent_at_ms = lease_end(act);
    } else if (world->has_disk[act->set] && !kernel->attached) {
        fail(act, FLEET_START_FAILED, "its files are not there");
    } else {
        kernel->running = true;
    }
}

static void stop(world_t *world, sim_act_t *act, int part) {
    sim_kernel_set_t *kernel = &world->nodes[act->host].kernel[act->set];
    if ((kernel->held & (1U << part)) != 0) {
        fail(act, part == SIM_DISK ? FLEET_HELD : FLEET_STOP_FAILED,
             "something holds it");
    } else if (part == SIM_DISK) {
        release(world, act);
    } else if (part == SIM_ADDRESS) {
        kernel->address_up = false;
    } else {
        kernel->running = false;
    }
}

static void probe(world_t *world, sim_act_t *act, int part) {
    const sim_kernel_set_t *kernel = &world->nodes[act->host].kernel[act->set];
    const sim_disk_t *disk = &world->disks[act->set];
    if (part == SIM_DISK) {
        bool own = disk->owner == act->host;
        read_lock(world, act);
        act->found = kernel->attached && own && !kernel->revoked &&
                             kernel->attached_token == disk->floor
                         ? NODE_FOUND_ALL
                     : kernel->attached || own ? NODE_FOUND_PART
                                               : NODE_FOUND_NOTHING;
    } else if (part == SIM_ADDRESS) {
        act->found = !kernel->address_up ? NODE_FOUND_NOTHING
                     : kernel->silenced  ? NODE_FOUND_PART
                                         : NODE_FOUND_ALL;
    } else {
        act->found = kernel->running ? NODE_FOUND_ALL : NODE_FOUND_NOTHING;
    }
}

static void apply(world_t *world, sim_act_t *act) {
    sim_kernel_set_t *kernel = &world->nodes[act->host].kernel[act->set];
    int part = world_part(world, act->set, act->resource);
    act->applied = true;
    act->ok = true;
    switch (act->act) {
    case NODE_ACT_PREPARE:
    case NODE_ACT_UNPREPARE:
        break;
    case NODE_ACT_START:
        start(world, act, part);
        break;
    case NODE_ACT_STOP:
        stop(world, act, part);
        break;
    case NODE_ACT_PROBE:
        probe(world, act, part);
        break;
    case NODE_ACT_EVICT:
        evict(world, act);
        break;
    case NODE_ACT_LOOK:
        act->visible =
            !world->has_disk[act->set] || world->nodes[act->host].path;
        act->can_evict = world->evicts;
        if (act->visible && world->has_disk[act->set]) {
            read_lock(world, act);
        }
        break;
    case NODE_ACT_SILENCE:
        kernel->silenced = true;
        break;
    case NODE_ACT_SPEAK:
        kernel->silenced = false;
        kernel->silent_at_ms = lease_end(act);
        break;
    case NODE_ACT_RENEW:
        kernel->silent_at_ms = lease_end(act);
        break;
    }
}

// ---------------------------------------------------------------- their course

static size_t find_act(const node_host_t *node, uint64_t serial) {
    size_t i = 0;
    while (i < node->acts_n && node->acts[i]->serial != serial) {
        i++;
    }
    return i;
}

static void take_out(node_host_t *node, size_t i) {
    node->acts[i] = node->acts[--node->acts_n];
}

// Draws how it goes: when it does its work, when it ends, whether it fails.
static uint64_t draw(world_t *world, sim_act_t *act, uint64_t limit_ms) {
    dice_t *dice = &world->dice;
    const sim_rates_t *rates = &world->rates;
    uint64_t limit = limit_ms * 1000;
    uint64_t takes = dice_spread(dice, SIM_MS, 100 * SIM_MS);
    act->applies = true;
    if (world->healed) {
        return 5 * SIM_MS;
    }
    if (dice_hit(dice, rates->act_hangs)) {
        faults_count(world, SIM_FAULT_ACT_HANGS);
        act->fails = true;
        act->applies = dice_hit(dice, 5000);
        takes = limit;
    } else if (dice_hit(dice, rates->act_fails)) {
        faults_count(world, SIM_FAULT_ACT_FAILS);
        act->fails = true;
        act->applies = dice_hit(dice, 5000);
    } else if (dice_hit(dice, rates->act_slow)) {
        faults_count(world, SIM_FAULT_ACT_SLOW);
        takes = dice_spread(dice, SIM_MS, limit > SIM_MS ? limit : SIM_MS);
    }
    return takes < limit || limit == 0 ? takes : limit;
}

static const char *const act_words[] = {
    "prepare", "unprepare", "start",   "stop",  "probe",
    "evict",   "look",      "silence", "speak", "renew"};

void kernel_act(world_t *world, uint32_t host, const node_effect_t *effect) {
    node_host_t *node = &world->nodes[host];
    uint32_t set = world_set(world, effect->set);
    assert(set != SIM_NOBODY);
    assert(node->acts_n < SIM_ACTS_MAX);
    sim_act_t *act = calloc(1, sizeof(*act));
    assert(act != NULL);
    act->serial = ++world->acts;
    act->host = host;
    act->set = set;
    act->resource = effect->resource;
    act->job = effect->job;
    act->act = effect->act;
    act->token = effect->token;
    act->from_token = effect->from_token;
    act->lease_ms = effect->lease_ms;
    act->victim = world_node(world, effect->victim);
    act->began_ms = nodehost_clock_ms(world, node);
    node->acts[node->acts_n++] = act;
    uint64_t takes = draw(world, act, effect->limit_ms);
    act->end_at = world->now + takes;
    uint64_t at = world->now + dice_range(&world->dice, 0, takes);
    agenda_add(world, at, SIM_ACT_APPLY, host, act->serial, NULL);
    if (effect->act != NODE_ACT_LOOK) {
        world_say(world, node->name, "  %s %s/%u token %llu, %llu ms%s",
                  act_words[effect->act], effect->set, effect->resource,
                  (number_t)effect->token, (number_t)(takes / 1000),
                  act->fails ? ", fails" : "");
    }
}

void kernel_applies(world_t *world, uint32_t host, uint64_t serial) {
    node_host_t *node = &world->nodes[host];
    size_t i = find_act(node, serial);
    if (i == node->acts_n) {
        return;
    }
    sim_act_t *act = node->acts[i];
    if (act->applies && !act->applied) {
        apply(world, act);
    }
    agenda_add(world, act->end_at, SIM_ACT_END, host, serial, NULL);
}

void kernel_ends(world_t *world, uint32_t host, uint64_t serial) {
    node_host_t *node = &world->nodes[host];
    size_t i = find_act(node, serial);
    if (i == node->acts_n) {
        return;
    }
    sim_act_t *act = node->acts[i];
    take_out(node, i);
    if (act->fails) {
        fleet_err_t err =
            act->act == NODE_ACT_STOP ? FLEET_STOP_FAILED : FLEET_START_FAILED;
        fail(act, err, "did not end well");
        act->stamped = act->blocked = false;
        act->found = NODE_FOUND_PART;
    }
    if (!act->ok) {
        world_say(world, node->name, "  %s %s/%u: %s", act_words[act->act],
                  world->setdefs[act->set][0].set, act->resource, act->text);
    }
    const node_in_t in = {.kind = NODE_IN_RESULT, .act = act};
    nodehost_input(world, host, &in);
}

void kernel_abandon(world_t *world, uint32_t host, uint64_t job) {
    node_host_t *node = &world->nodes[host];
    for (size_t i = 0; i < node->acts_n; i++) {
        sim_act_t *act = node->acts[i];
        if (act->job == job && !act->fails) {
            act->applies = act->applied || dice_hit(&world->dice, 5000);
            act->fails = true;
            if (act->applies && !act->applied) {
                apply(world, act);
            }
        }
        if (act->job == job) {
            act->end_at = world->now + SIM_MS;
            agenda_add(world, act->end_at, SIM_ACT_END, host, act->serial,
                       NULL);
        }
    }
}

// Whether what it was doing still lands.
static void last_moment(world_t *world, sim_act_t *act) {
    if (act->applies && !act->applied && dice_hit(&world->dice, 5000)) {
        apply(world, act);
    }
}

void kernel_agent_died(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    while (node->acts_n > 0) {
        sim_act_t *act = node->acts[node->acts_n - 1];
        last_moment(world, act);
        node->acts_n--;
        free(act);
    }
}

void kernel_power_off(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    memset(node->kernel, 0, sizeof(node->kernel));
    (void)world;
}
