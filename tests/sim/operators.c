// SPDX-License-Identifier: MIT
//
// Operators: they define the sets, and ask for anything at any time, the same
// request again among it.  Their word that a node is down is true: it is taken
// back if the node has power when the broker takes it in.

#include <string.h>

#include "tests/sim/world.h"

static fleet_message_t message;

static letter_t *ask_letter(world_t *world, fleet_role_t role) {
    letter_t *letter = letter_new(&message);
    letter->peer = 1 + ++world->asks;
    letter->role = role;
    FLEET_COPY(letter->name, role == fleet_role_ADMIN ? "root" : "op");
    return letter;
}

// Sent straight away at the start, over the network later.
static void admit(world_t *world, uint32_t host) {
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_key_change;
    FLEET_FORMAT(message.key_change.request, "admit%u", host);
    message.key_change.admit = true;
    message.key_change.role = fleet_role_NODE;
    FLEET_COPY(message.key_change.name, world->nodes[host].name);
    message.key_change.key[0] = (uint8_t)(10 + host);
    brokerhost_deliver(world, ask_letter(world, fleet_role_ADMIN));
}

void operators_apply(world_t *world, uint32_t set, uint32_t variant) {
    memset(&message, 0,
           offsetof(fleet_message_t, event) + sizeof(message.apply));
    message.type = FLEET_MESSAGE_apply;
    FLEET_FORMAT(message.apply.request, "apply%llu",
                 (unsigned long long)world->asks);
    letter_t *letter = ask_letter(world, fleet_role_OPERATOR);
    letter->apply_set = set;
    letter->apply_variant = variant;
    brokerhost_deliver(world, letter);
}

void operators_define(world_t *world) {
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        admit(world, i);
    }
    for (uint32_t i = 0; i < world->sets_n; i++) {
        operators_apply(world, i, 0);
    }
}

static void send(world_t *world, uint32_t attested) {
    letter_t *letter = ask_letter(world, fleet_role_OPERATOR);
    letter->attested = attested;
    world->counts->requests++;
    if (world->trace) {
        char line[300];
        fleet_message_print(&message, line, sizeof(line));
        world_say(world, "asker", "%s", line);
    }
    wire_send(world, letter);
}

void operators_ask(world_t *world, fleet_verb_t verb, uint32_t set,
                   uint32_t node, bool force) {
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_request;
    fleet_request_t *request = &message.request;
    FLEET_FORMAT(request->request, "ask%llu", (unsigned long long)world->asks);
    request->verb = verb;
    if (verb != fleet_verb_FENCE) {
        FLEET_COPY(request->set, world->setdefs[set][0].set);
    }
    if (node != SIM_NOBODY) {
        FLEET_COPY(request->node, world->nodes[node].name);
    }
    request->force = force;
    FLEET_COPY(request->reason, "a reason");
    send(world, SIM_NOBODY);
}

static void ask_again(world_t *world) {
    uint64_t i = dice_range(&world->dice, 0, world->asked_n - 1);
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_request;
    message.request = world->asked[i];
    send(world, world->asked_attests[i]);
}

static fleet_verb_t draw_verb(dice_t *dice) {
    static const fleet_verb_t verbs[] = {
        fleet_verb_MOVE,   fleet_verb_MOVE,   fleet_verb_MOVE,
        fleet_verb_MOVE,   fleet_verb_MOVE,   fleet_verb_START,
        fleet_verb_START,  fleet_verb_STOP,   fleet_verb_RESTART,
        fleet_verb_UNLOCK, fleet_verb_CANCEL, fleet_verb_FENCE};
    return verbs[dice_range(dice, 0, sizeof(verbs) / sizeof(verbs[0]) - 1)];
}

// The owner by the journal, if it is without power now: an operator who looks
// says so.
static uint32_t owner_is_down(const world_t *world, uint32_t set) {
    uint32_t holder = world->promises.ledger.holder[set];
    return holder != SIM_NOBODY && !world->nodes[holder].power ? holder
                                                               : SIM_NOBODY;
}

static void ask(world_t *world) {
    dice_t *dice = &world->dice;
    uint32_t set = (uint32_t)dice_range(dice, 0, world->sets_n - 1);
    uint32_t node = (uint32_t)dice_range(dice, 0, world->nodes_n - 1);
    fleet_verb_t verb = draw_verb(dice);
    bool names = verb == fleet_verb_MOVE || verb == fleet_verb_FENCE ||
                 (verb == fleet_verb_START && dice_hit(dice, 7000));
    uint32_t attested = SIM_NOBODY;
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_request;
    fleet_request_t *request = &message.request;
    FLEET_FORMAT(request->request, "ask%llu", (unsigned long long)world->asks);
    request->verb = verb;
    FLEET_COPY(request->reason, "a reason");
    if (verb != fleet_verb_FENCE) {
        FLEET_COPY(request->set, world->setdefs[set][0].set);
    }
    if (names) {
        FLEET_COPY(request->node, world->nodes[node].name);
    }
    if (verb == fleet_verb_MOVE || verb == fleet_verb_UNLOCK) {
        request->force = dice_hit(dice, 4000);
        attested = owner_is_down(world, set);
        if (attested != SIM_NOBODY && dice_hit(dice, 7000)) {
            faults_count(world, SIM_FAULT_ATTESTED);
            request->force = true;
            FLEET_COPY(request->owner_is_down, world->nodes[attested].name);
        } else {
            attested = SIM_NOBODY;
        }
    }
    if (dice_hit(dice, 300)) {
        request->dry_run = true;
    }
    uint32_t at = world->asked_n < 8 ? world->asked_n++
                                     : (uint32_t)dice_range(dice, 0, 7);
    world->asked[at] = message.request;
    world->asked_attests[at] = attested;
    send(world, attested);
}

void operators_next(world_t *world) {
    dice_t *dice = &world->dice;
    if (world->healed) {
        return;
    }
    if (world->asked_n > 0 && dice_hit(dice, 1500)) {
        ask_again(world);
    } else if (dice_hit(dice, 300)) {
        operators_apply(world, (uint32_t)dice_range(dice, 0, world->sets_n - 1),
                        (uint32_t)dice_range(dice, 0, SIM_VARIANTS - 1));
    } else {
        ask(world);
    }
    agenda_add(world,
               world->now + dice_spread(dice, SIM_MS, world->rates.ask_us),
               SIM_ASK_NEXT, 0, 0, NULL);
}
