// SPDX-License-Identifier: MIT
//
// What must hold after everything that happens, under the numbers of the
// promises.  It reads the world, the journal and the records, and believes
// neither core.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/world.h"

typedef unsigned long long number_t;

void promises_break(world_t *world, const char *promise, const char *format,
                    ...) {
    promises_t *p = &world->promises;
    if (p->broken) {
        return; // the first one counts
    }
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    p->broken = true;
    (void)snprintf(p->text, sizeof(p->text), "%s at %.3f s: %s", promise,
                   (double)world->now / 1e6, text);
    world_say(world, "PROMISE", "%s", p->text);
}

void promises_begin(world_t *world) {
    promises_t *p = &world->promises;
    memset(p, 0, sizeof(*p));
    for (uint32_t i = 0; i < SIM_SETS_MAX; i++) {
        p->ledger.holder[i] = SIM_NOBODY;
        p->disk[i].owner = SIM_NOBODY;
    }
    p->durable = p->ledger;
}

static const char *set_name(const world_t *world, uint32_t set) {
    return world->setdefs[set][0].set;
}

// ------------------------------------------------------------------- S1: disks

static void look_at_writers(world_t *world, uint32_t set) {
    uint32_t first = SIM_NOBODY;
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        if (!kernel_can_write(world, i, set)) {
            continue;
        }
        if (first != SIM_NOBODY) {
            promises_break(world, "S1", "%s and %s can both write %s",
                           world->nodes[first].name, world->nodes[i].name,
                           set_name(world, set));
        }
        first = i;
    }
}

// --------------------------------------------------------------- S1: addresses

// A displaced node may answer on for a bounded time, but never where the
// evidence says that it has nothing, or where its kernel keeps the lease.
static void look_at_displaced(world_t *world, uint32_t set, uint32_t host) {
    fleet_evidence_t evidence = world->promises.ledger.displaced[set][host];
    bool silence = world->setdefs[set][0].facts.without_lease ==
                   fleet_without_lease_SILENCE;
    if (evidence == fleet_evidence_RELEASED ||
        evidence == fleet_evidence_REBOOTED ||
        evidence == fleet_evidence_FENCED) {
        promises_break(world, "S1",
                       "%s answers for %s, which it lost on evidence %s",
                       world->nodes[host].name, set_name(world, set),
                       fleet_evidence_word(evidence));
    } else if (silence && world->promises.ledger.lapsed[set][host] &&
               evidence != fleet_evidence_NONE) {
        promises_break(world, "S1", "%s answers for %s without a lease (%s)",
                       world->nodes[host].name, set_name(world, set),
                       fleet_evidence_word(evidence));
    }
}

static void look_at_answers(world_t *world, uint32_t set) {
    promises_t *p = &world->promises;
    uint32_t answering = 0;
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        answering += kernel_answers(world, i, set) ? 1 : 0;
    }
    if (answering < 2) {
        p->double_since[set] = 0;
        return;
    }
    if (p->double_since[set] == 0) {
        p->double_since[set] = world->now;
    }
    uint64_t lasts = world->now - p->double_since[set];
    if (lasts > world->counts->double_us_max) {
        world->counts->double_us_max = lasts;
    }
    bool displaced = false;
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        if (kernel_answers(world, i, set) &&
            p->ledger.displaced[set][i] != fleet_evidence_NONE) {
            displaced = true;
            look_at_displaced(world, set, i);
        }
    }
    if (!displaced) {
        promises_break(world, "S1", "two nodes answer for %s, none displaced",
                       set_name(world, set));
    }
}

// ---------------------------------------------------------------------- S2

static void look_at_lock(world_t *world, uint32_t set) {
    const sim_disk_t *now = &world->disks[set];
    sim_disk_t *seen = &world->promises.disk[set];
    if (now->floor < seen->floor) {
        promises_break(
            world, "S2", "the lock of %s goes back from %llu to %llu",
            set_name(world, set), (number_t)seen->floor, (number_t)now->floor);
    }
    if (now->owner != SIM_NOBODY &&
        now->floor > world->promises.ledger.token[set]) {
        promises_break(world, "S2",
                       "the lock of %s has token %llu, granted "
                       "was at most %llu",
                       set_name(world, set), (number_t)now->floor,
                       (number_t)world->promises.ledger.token[set]);
    }
    *seen = *now;
}

void promises_wrote(world_t *world, uint32_t host, uint32_t set) {
    const sim_record_t *now = &world->nodes[host].records[set];
    sim_record_t *seen = &world->promises.record[host][set];
    bool back = now->pair.token < seen->pair.token ||
                (now->pair.token == seen->pair.token &&
                 now->pair.phase < seen->pair.phase);
    if (seen->there && back) {
        promises_break(
            world, "S2", "%s's record of %s goes back from %llu %s to %llu %s",
            world->nodes[host].name, set_name(world, set),
            (number_t)seen->pair.token, fleet_phase_word(seen->pair.phase),
            (number_t)now->pair.token, fleet_phase_word(now->pair.phase));
    }
    *seen = *now;
    // Closed is said to be final: nothing of it is left here.
    if (now->pair.phase == fleet_phase_CLOSED &&
        kernel_has_any(world, host, set)) {
        promises_break(world, "P6", "%s closes %s and still has some of it",
                       world->nodes[host].name, set_name(world, set));
    }
}

void promises_closed(world_t *world, uint32_t host,
                     const fleet_closed_t *closed) {
    uint32_t set = world_set(world, closed->set);
    if (kernel_has_any(world, host, set)) {
        promises_break(world, "P6", "%s says closed %llu of %s and has some",
                       world->nodes[host].name, (number_t)closed->token,
                       closed->set);
    }
}

void promises_look(world_t *world) {
    for (uint32_t i = 0; i < world->sets_n; i++) {
        if (world->has_disk[i]) {
            look_at_writers(world, i);
            look_at_lock(world, i);
        }
        if (world->has_address[i]) {
            look_at_answers(world, i);
        }
    }
}

// ------------------------------------------------------------ S2, S4, S7:
// events

// Evidence is true: what it says of the old owner can be seen in the world.
static void check_evidence(world_t *world, uint32_t set, uint32_t from,
                           fleet_evidence_t evidence) {
    const char *name = set_name(world, set);
    bool nothing = evidence == fleet_evidence_RELEASED ||
                   evidence == fleet_evidence_REBOOTED;
    if (evidence == fleet_evidence_NONE) {
        promises_break(world, "S4", "%s is granted without evidence", name);
    } else if (from == SIM_NOBODY) {
        return;
    } else if (nothing && kernel_has_any(world, from, set)) {
        promises_break(world, "S4", "evidence %s, but %s still has %s",
                       fleet_evidence_word(evidence), world->nodes[from].name,
                       name);
    } else if (world->has_disk[set] && kernel_can_write(world, from, set)) {
        promises_break(world, "S4", "evidence %s, but %s can still write %s",
                       fleet_evidence_word(evidence), world->nodes[from].name,
                       name);
    }
}

static void released(world_t *world, const fleet_set_released_t *event,
                     uint32_t set) {
    ledger_t *p = &world->promises.ledger;
    uint32_t from = world_node(world, event->head.node);
    if (from != SIM_NOBODY && p->holder[set] == from) {
        check_evidence(world, set, from, event->evidence);
        p->displaced[set][from] = event->evidence;
        p->lapsed[set][from] = !p->online[from];
    }
    world->counts->evidence[event->evidence]++;
    p->holder[set] = SIM_NOBODY;
}

static void granted(world_t *world, const fleet_set_granted_t *event,
                    uint32_t set) {
    ledger_t *p = &world->promises.ledger;
    uint32_t to = world_node(world, event->head.node);
    world->counts->grants++;
    if (event->head.token <= p->token[set]) {
        promises_break(world, "S2", "%s is granted %llu after %llu",
                       set_name(world, set), (number_t)event->head.token,
                       (number_t)p->token[set]);
    }
    if (event->evidence == fleet_evidence_NONE && p->token[set] != 0) {
        promises_break(world, "S4", "%s is granted without evidence",
                       set_name(world, set));
    }
    if (!event->in_place && p->holder[set] != SIM_NOBODY) {
        promises_break(world, "S4", "%s is granted while %s holds it",
                       set_name(world, set), world->nodes[p->holder[set]].name);
    }
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        if (i != to && world->has_disk[set] &&
            kernel_can_write(world, i, set)) {
            promises_break(world, "S4", "%s is granted while %s can write it",
                           set_name(world, set), world->nodes[i].name);
        }
    }
    p->token[set] = event->head.token;
    p->holder[set] = to;
    p->displaced[set][to] = fleet_evidence_NONE;
}

void promises_event(world_t *world, const fleet_message_t *event) {
    ledger_t *p = &world->promises.ledger;
    uint32_t set = world_set(world, event->event.head.set);
    if (event->event.head.seq != p->seq + 1) {
        promises_break(world, "S7", "event %llu follows %llu",
                       (number_t)event->event.head.seq, (number_t)p->seq);
    }
    p->seq = event->event.head.seq;
    uint32_t node = world_node(world, event->event.head.node);
    if (event->type == FLEET_MESSAGE_node_online) {
        p->online[node] = true;
    } else if (event->type == FLEET_MESSAGE_node_lapsed ||
               event->type == FLEET_MESSAGE_node_down) {
        p->online[node] = false;
    } else if (event->type == FLEET_MESSAGE_set_released) {
        released(world, &event->set_released, set);
    } else if (event->type == FLEET_MESSAGE_set_granted) {
        granted(world, &event->set_granted, set);
    } else if (event->type == FLEET_MESSAGE_acquire_failed_event &&
               event->acquire_failed_event.undone) {
        p->displaced[set][p->holder[set]] = fleet_evidence_RELEASED;
        p->holder[set] = SIM_NOBODY;
    } else if (event->type == FLEET_MESSAGE_transfer_requested) {
        // A forced one stamps its token before it is granted.
        if (event->event.head.token > p->token[set]) {
            p->stamped[set] = event->event.head.token;
        }
    } else if (event->type == FLEET_MESSAGE_transfer_ended) {
        world->counts->outcomes[event->transfer_ended.outcome]++;
    }
}

void promises_rollback(world_t *world) {
    promises_t *p = &world->promises;
    p->ledger = p->durable;
}

void promises_durable(world_t *world) {
    world->promises.durable = world->promises.ledger;
}

// ---------------------------------------------------------------------- L2

// Time alone never stops a set that is to be kept: only the broker's word does,
// or an orderly shutdown, or a boot.
void promises_act(world_t *world, uint32_t host, const node_effect_t *effect,
                  node_input_kind_t input, fleet_phase_t phase_before) {
    uint32_t set = world_set(world, effect->set);
    bool keeps =
        world->setdefs[set][0].facts.without_lease == fleet_without_lease_KEEP;
    const node_host_t *node = &world->nodes[host];
    if (keeps && effect->act == NODE_ACT_STOP && input == NODE_IN_TICK &&
        phase_before == fleet_phase_HELD && !node->leaving &&
        node->boot == node->records[set].boot) {
        promises_break(world, "L2", "%s takes %s down, and nobody said so",
                       node->name, set_name(world, set));
    }
}
