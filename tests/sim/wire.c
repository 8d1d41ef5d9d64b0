// SPDX-License-Identifier: MIT
//
// Messages on their way.  While there are faults a message may arrive at any
// later time, again, in any order or never; one that is lost or overtaken
// breaks the connection some time later, since a connection keeps order.
// Afterwards they arrive in order.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

size_t message_size(const fleet_message_t *message) {
    const fleet_struct_spec_t *spec = fleet_message_spec(message->type);
    assert(spec != NULL);
    return offsetof(fleet_message_t, event) + spec->size;
}

fleet_message_t *message_pack(const fleet_message_t *message,
                              size_t *ret_size) {
    size_t size = message_size(message);
    fleet_message_t *packed = malloc(size);
    assert(packed != NULL);
    memcpy(packed, message, size);
    *ret_size = size;
    return packed;
}

// One whole message at a time: the cores get it as a loan for one step.
const fleet_message_t *message_open(const fleet_message_t *packed,
                                    size_t size) {
    static fleet_message_t whole;
    memcpy(&whole, packed, size);
    return &whole;
}

letter_t *letter_new(const fleet_message_t *message) {
    letter_t *letter = calloc(1, sizeof(*letter));
    assert(letter != NULL);
    letter->from = letter->to = SIM_NOBODY;
    letter->attested = letter->apply_set = SIM_NOBODY;
    letter->message = message_pack(message, &letter->size);
    return letter;
}

void letter_free(letter_t *letter) {
    if (letter != NULL) {
        free(letter->message);
        free(letter);
    }
}

static letter_t *letter_copy(const letter_t *letter) {
    letter_t *copy = malloc(sizeof(*copy));
    assert(copy != NULL);
    *copy = *letter;
    copy->message = malloc(letter->size);
    assert(copy->message != NULL);
    memcpy(copy->message, letter->message, letter->size);
    return copy;
}

static void will_break(world_t *world, uint32_t host) {
    node_host_t *node = &world->nodes[host];
    if (!node->lossy) {
        node->lossy = true;
        agenda_add(world,
                   world->now +
                       dice_spread(&world->dice, 10 * SIM_MS, 30 * SIM_S),
                   SIM_CONNECT, host, node->life, NULL);
    }
}

// When it arrives: usually soon and after those before it.
static uint64_t arrival(world_t *world, uint32_t host, bool in) {
    const sim_rates_t *rates = &world->rates;
    dice_t *dice = &world->dice;
    if (!world->healed && dice_hit(dice, rates->slow)) {
        faults_count(world, SIM_FAULT_SLOW);
        if (host != SIM_NOBODY) {
            will_break(world, host);
        }
        return world->now + dice_spread(dice, SIM_MS, rates->slow_us);
    }
    uint64_t at = world->now +
                  (world->healed ? SIM_MS : dice_range(dice, 100, 3 * SIM_MS));
    if (host == SIM_NOBODY) {
        return at;
    }
    node_host_t *node = &world->nodes[host];
    uint64_t *last = in ? &node->last_in : &node->last_out;
    *last = at > *last ? at : *last;
    return *last;
}

void wire_send(world_t *world, letter_t *letter) {
    uint32_t host = letter->to != SIM_NOBODY ? letter->to : letter->from;
    bool between = host != SIM_NOBODY; // broker and node
    world->counts->messages++;
    if (between) {
        node_host_t *node = &world->nodes[host];
        bool cut = letter->to != SIM_NOBODY ? node->cut_in : node->cut_out;
        if (cut) {
            node->lossy = true;
            letter_free(letter);
            return;
        }
    }
    if (!world->healed && dice_hit(&world->dice, world->rates.loss)) {
        faults_count(world, SIM_FAULT_LOSS);
        if (between) {
            will_break(world, host);
        }
        letter_free(letter);
        return;
    }
    if (!world->healed && dice_hit(&world->dice, world->rates.repeat)) {
        faults_count(world, SIM_FAULT_REPEAT);
        agenda_add(world,
                   world->now + dice_spread(&world->dice, SIM_MS, 60 * SIM_S),
                   SIM_LETTER, host, 0, letter_copy(letter));
    }
    agenda_add(world, arrival(world, host, letter->to != SIM_NOBODY),
               SIM_LETTER, host, 0, letter);
}
