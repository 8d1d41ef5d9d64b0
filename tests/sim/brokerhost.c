// SPDX-License-Identifier: MIT
//
// The loop around the broker's core.  A round steps every letter that waits,
// and lets its effects out when its events are durable, not before (S3).  A
// crash keeps a round that was being written wholly or not at all.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

static broker_effects_t effects;

static uint64_t clock_ms(const world_t *world) {
    const broker_host_t *broker = &world->broker;
    int64_t now = (int64_t)world->now;
    return broker->offset_ms +
           (uint64_t)(now + now * broker->drift_ppm / 1000000) / 1000;
}

static uint64_t elapsed_ms(world_t *world) {
    uint64_t now = clock_ms(world);
    uint64_t elapsed = now - world->broker.seen_ms;
    world->broker.seen_ms = now;
    return elapsed;
}

static void keep_event(world_t *world, const fleet_message_t *event) {
    broker_host_t *broker = &world->broker;
    if (broker->journal_n == broker->journal_room) {
        broker->journal_room =
            broker->journal_room == 0 ? 256 : 2 * broker->journal_room;
        broker->journal = realloc(
            broker->journal, broker->journal_room * sizeof(*broker->journal));
        assert(broker->journal != NULL);
    }
    packed_t *entry = &broker->journal[broker->journal_n++];
    entry->message = message_pack(event, &entry->size);
    broker->round_n++;
    world->counts->events++;
}

static broker_out_t *new_out(broker_host_t *broker) {
    if (broker->outs_n == broker->outs_room) {
        broker->outs_room = broker->outs_room == 0 ? 64 : 2 * broker->outs_room;
        broker->outs =
            realloc(broker->outs, broker->outs_room * sizeof(*broker->outs));
        assert(broker->outs != NULL);
    }
    broker_out_t *out = &broker->outs[broker->outs_n++];
    memset(out, 0, sizeof(*out));
    return out;
}

// A definition that is committed is the one of the apply that is stepped.
static void note_revision(world_t *world, const fleet_message_t *event,
                          const letter_t *letter) {
    if (event->type != FLEET_MESSAGE_set_defined &&
        event->type != FLEET_MESSAGE_set_changed) {
        return;
    }
    assert(letter != NULL && letter->apply_set != SIM_NOBODY);
    uint64_t rev = event->type == FLEET_MESSAGE_set_defined
                       ? event->set_defined.rev
                       : event->set_changed.rev;
    assert(rev < SIM_REVS);
    world->broker.variant[letter->apply_set][rev] = letter->apply_variant;
    world->broker.newest_rev[letter->apply_set] = rev;
}

static void step(world_t *world, const broker_input_t *input,
                 const letter_t *letter) {
    broker_host_t *broker = &world->broker;
    broker_core_step(broker->core, input, &effects);
    for (uint32_t i = 0; i < effects.n; i++) {
        const broker_effect_t *effect = &effects.items[i];
        if (effect->kind == BROKER_OUT_COMMIT) {
            keep_event(world, &effect->message);
            note_revision(world, &effect->message, letter);
            promises_event(world, &effect->message);
            if (world->trace) {
                char line[512];
                fleet_message_print(&effect->message, line, sizeof(line));
                world_say(world, "broker", "  + %s", line);
            }
            continue;
        }
        if (effect->kind == BROKER_OUT_NOTE) {
            world_say(world, "broker", "%s", effect->text);
            continue;
        }
        broker_out_t *out = new_out(broker);
        out->kind = effect->kind;
        out->peer = effect->peer;
        FLEET_COPY(out->name, effect->name);
        if (effect->kind == BROKER_OUT_NODE ||
            effect->kind == BROKER_OUT_PEER) {
            out->message.message =
                message_pack(&effect->message, &out->message.size);
        }
    }
}

// As its loop does: at its start, and when a node is new.
static void tell_fences(world_t *world) {
    broker_input_t input = {.kind = BROKER_IN_FENCEABLE, .time_us = world->now};
    for (uint32_t i = 0; world->fenceable && i < world->nodes_n; i++) {
        FLEET_COPY(input.name, world->nodes[i].name);
        step(world, &input, NULL);
    }
}

static const char *set_of_message(const fleet_message_t *message) {
    switch ((int)message->type) {
    case FLEET_MESSAGE_watch_set:
        return message->watch_set.gone ? NULL : message->watch_set.set;
    case FLEET_MESSAGE_prepare:
        return message->prepare.undo ? NULL : message->prepare.set;
    case FLEET_MESSAGE_acquire:
        return message->acquire.set;
    case FLEET_MESSAGE_evict:
        return message->evict.set;
    default:
        return NULL;
    }
}

// The definition that goes with a command, as its second frame.
static void attach(world_t *world, letter_t *letter) {
    const broker_host_t *broker = &world->broker;
    const fleet_message_t *message = letter->message;
    const char *name = set_of_message(message);
    if (name == NULL) {
        return;
    }
    uint32_t set = world_set(world, name);
    assert(set != SIM_NOBODY);
    uint64_t rev = broker->newest_rev[set];
    if (message->type == FLEET_MESSAGE_watch_set) {
        rev = message->watch_set.rev;
    } else if (message->type == FLEET_MESSAGE_prepare) {
        rev = message->prepare.rev;
    } else if (message->type == FLEET_MESSAGE_acquire) {
        rev = message->acquire.rev;
    }
    assert(rev > 0 && rev < SIM_REVS);
    letter->rev = rev;
    letter->setdef = &world->setdefs[set][broker->variant[set][rev]];
}

static void run_fence(world_t *world, uint32_t host) {
    bool fails = !world->healed && dice_hit(&world->dice, 2000);
    bool cuts = !fails || dice_hit(&world->dice, 5000);
    uint64_t at = world->now + dice_spread(&world->dice, SIM_MS, 8 * SIM_S);
    if (fails) {
        faults_count(world, SIM_FAULT_FENCE_FAILS);
    }
    if (cuts) {
        agenda_add(world, at, SIM_FENCE_CUT, host, 0, NULL);
    }
    uint64_t end = at + dice_spread(&world->dice, SIM_MS, 8 * SIM_S);
    agenda_add(world, end, SIM_FENCE_END, host,
               world->broker.life * 2 + (fails ? 0 : 1), NULL);
}

static void let_out(world_t *world, broker_out_t *out) {
    uint32_t host = world_node(world, out->name);
    if (out->kind == BROKER_OUT_NODE) {
        letter_t *letter =
            letter_new(message_open(out->message.message, out->message.size));
        letter->to = host;
        attach(world, letter);
        wire_send(world, letter);
    } else if (out->kind == BROKER_OUT_PEER) {
        const fleet_message_t *message = out->message.message;
        if (out->peer >= 1000000 && out->peer < 2000000) {
            letter_t *letter = letter_new(
                message_open(out->message.message, out->message.size));
            letter->to = (uint32_t)(out->peer % 10);
            attach(world, letter);
            wire_send(world, letter);
        } else if (world->trace) {
            char line[512];
            fleet_message_print(message, line, sizeof(line));
            world_say(world, "asker", "< %s", line);
        }
    } else if (out->kind == BROKER_OUT_FENCE) {
        run_fence(world, host);
    }
}

static void drop_outs(broker_host_t *broker) {
    for (size_t i = 0; i < broker->outs_n; i++) {
        free(broker->outs[i].message.message);
    }
    broker->outs_n = 0;
}

static void arm(world_t *world) {
    broker_host_t *broker = &world->broker;
    uint64_t ms = broker_core_deadline(broker->core);
    broker->rest = ms == 0;
    broker->tick++;
    if (ms != UINT64_MAX) {
        uint64_t late =
            world->healed ? 0 : dice_range(&world->dice, 0, 2 * SIM_MS);
        uint64_t us = ms == 0 ? 0 : world_real_us(ms, broker->drift_ppm) + late;
        agenda_add(world, world->now + us, SIM_BROKER_TICK, 0, broker->tick,
                   NULL);
    }
}

static void finish_round(world_t *world) {
    broker_host_t *broker = &world->broker;
    broker->round_n = 0;
    promises_durable(world);
    uint64_t life = broker->life;
    for (size_t i = 0; i < broker->outs_n; i++) {
        let_out(world, &broker->outs[i]);
        if (broker->crash_after > 0 && --broker->crash_after == 0) {
            faults_count(world, SIM_FAULT_BROKER_CRASH_SENDING);
            brokerhost_crash(world);
            break;
        }
    }
    if (broker->life != life || !broker->up) {
        return;
    }
    drop_outs(broker);
    arm(world);
}

static uint64_t write_us(world_t *world) {
    if (world->healed) {
        return 2 * SIM_MS;
    }
    if (dice_hit(&world->dice, world->rates.write_slow)) {
        faults_count(world, SIM_FAULT_WRITE_SLOW);
        return dice_spread(&world->dice, 10 * SIM_MS, 20 * SIM_S);
    }
    return dice_spread(&world->dice, 100, world->rates.write_us);
}

static void end_round(world_t *world) {
    broker_host_t *broker = &world->broker;
    if (broker->round_n > 0) {
        broker->writing = true;
        agenda_add(world, world->now + write_us(world), SIM_BROKER_WROTE, 0,
                   broker->life, NULL);
        if (broker->crash_writing) {
            broker->crash_writing = false;
            agenda_add(world, world->now, SIM_BROKER_CRASH, 0, broker->life,
                       NULL);
        }
    } else {
        finish_round(world);
    }
}

static void step_letter(world_t *world, letter_t *letter) {
    if (letter->attested != SIM_NOBODY &&
        world->nodes[letter->attested].power) {
        world_say(world, "world", "%s is up: the word is taken back",
                  world->nodes[letter->attested].name);
        return;
    }
    broker_input_t input = {.kind = BROKER_IN_MESSAGE,
                            .elapsed_ms = elapsed_ms(world),
                            .time_us = world->now,
                            .peer = letter->peer,
                            .role = letter->role,
                            .message =
                                message_open(letter->message, letter->size)};
    FLEET_COPY(input.name, letter->name);
    if (letter->apply_set != SIM_NOBODY) {
        const fleet_setdef_t *setdef =
            &world->setdefs[letter->apply_set][letter->apply_variant];
        input.facts = &setdef->facts;
        FLEET_COPY(input.set, setdef->set);
    }
    bool admits = letter->message->type == FLEET_MESSAGE_key_change;
    step(world, &input, letter);
    if (admits) {
        tell_fences(world);
    }
}

static void step_tick(world_t *world) {
    const broker_input_t input = {.kind = BROKER_IN_TICK,
                                  .elapsed_ms = elapsed_ms(world),
                                  .time_us = world->now};
    step(world, &input, NULL);
}

void brokerhost_turn(world_t *world) {
    broker_host_t *broker = &world->broker;
    if (!broker->up || broker->paused || broker->writing ||
        (broker->inbox_n == 0 && !broker->rest)) {
        return;
    }
    if (broker->rest) {
        step_tick(world);
    }
    size_t n = broker->inbox_n;
    for (size_t i = 0; i < n; i++) {
        step_letter(world, broker->inbox[i]);
        letter_free(broker->inbox[i]);
    }
    broker->inbox_n = 0;
    end_round(world);
}

void brokerhost_tick(world_t *world, uint64_t number) {
    broker_host_t *broker = &world->broker;
    if (!broker->up || number != broker->tick) {
        return;
    }
    broker->rest = true; // once the disk is done, or the pause
    brokerhost_turn(world);
}

void brokerhost_wrote(world_t *world, uint64_t life) {
    broker_host_t *broker = &world->broker;
    if (!broker->up || life != broker->life || !broker->writing) {
        return;
    }
    if (broker->paused) {
        agenda_add(world, broker->resume_at, SIM_BROKER_WROTE, 0, life, NULL);
        return;
    }
    broker->writing = false;
    finish_round(world);
    brokerhost_turn(world);
}

void brokerhost_deliver(world_t *world, letter_t *letter) {
    broker_host_t *broker = &world->broker;
    if (!broker->up) {
        letter_free(letter);
        return;
    }
    if (broker->inbox_n == broker->inbox_room) {
        broker->inbox_room =
            broker->inbox_room == 0 ? 64 : 2 * broker->inbox_room;
        broker->inbox =
            realloc(broker->inbox, broker->inbox_room * sizeof(letter_t *));
        assert(broker->inbox != NULL);
    }
    broker->inbox[broker->inbox_n++] = letter;
    brokerhost_turn(world);
}

// -------------------------------------------------------------------- its life

static void configure(const world_t *world, broker_config_t *config) {
    memset(config, 0, sizeof(*config));
    config->limits = (broker_limits_t){.nodes = SIM_NODES_MAX,
                                       .sets = SIM_SETS_MAX,
                                       .keys = 8,
                                       .requests = 64};
    FLEET_COPY(config->site, "sim");
    FLEET_COPY(config->broker, "broker");
    FLEET_COPY(config->version, "0");
    config->lease_ms = world->lease_ms;
    config->margin_ms = world->margin_ms;
    config->renew_ms = world->lease_ms / 4;
    config->resend_ms = 2000;
}

static broker_core_t *fold(world_t *world, void *memory, size_t n) {
    broker_config_t config;
    configure(world, &config);
    broker_core_t *core = broker_core_init(memory, &config);
    for (size_t i = 0; i < n; i++) {
        const packed_t *entry = &world->broker.journal[i];
        fleet_err_t err =
            broker_core_apply(core, message_open(entry->message, entry->size));
        if (err != FLEET_OK) {
            promises_break(world, "S5", "the journal cannot be replayed at %zu",
                           i + 1);
        }
    }
    return core;
}

static size_t core_size(const world_t *world) {
    broker_config_t config;
    configure(world, &config);
    return broker_core_size(&config.limits);
}

void brokerhost_replay_check(world_t *world) {
    static void *memory;
    if (memory == NULL) {
        memory = malloc(core_size(world));
        assert(memory != NULL);
    }
    const broker_core_t *core = fold(world, memory, world->broker.journal_n);
    if (memcmp(broker_core_durable(core),
               broker_core_durable(world->broker.core),
               broker_core_durable_size(core)) != 0) {
        promises_break(world, "S5", "a replay of %zu events differs",
                       world->broker.journal_n);
    }
}

void brokerhost_start(world_t *world, uint64_t life) {
    broker_host_t *broker = &world->broker;
    if (broker->up || life != broker->life) {
        return;
    }
    if (broker->memory == NULL) {
        broker->memory = malloc(core_size(world));
        assert(broker->memory != NULL);
    }
    broker->up = true;
    broker->core = fold(world, broker->memory, broker->journal_n);
    if (broker->has_golden &&
        memcmp(broker->golden, broker_core_durable(broker->core),
               broker_core_durable_size(broker->core)) != 0) {
        promises_break(world, "S5", "the replay of %zu events differs",
                       broker->journal_n);
    }
    broker->has_golden = false;
    broker->seen_ms = clock_ms(world);
    world_say(world, "broker", "starts with %zu events", broker->journal_n);
    broker_input_t input = {.kind = BROKER_IN_KEY, .time_us = world->now};
    if (!broker_core_has_admin(broker->core)) {
        static fleet_message_t key;
        memset(&key, 0, sizeof(key));
        key.type = FLEET_MESSAGE_key_change;
        key.key_change.admit = true;
        key.key_change.role = fleet_role_ADMIN;
        FLEET_COPY(key.key_change.name, "root");
        key.key_change.key[0] = 1;
        input.message = &key;
        input.role = fleet_role_ADMIN;
        FLEET_COPY(input.name, "root");
        step(world, &input, NULL);
    }
    tell_fences(world);
    memset(&input, 0, sizeof(input));
    input.time_us = world->now;
    input.kind = BROKER_IN_START;
    step(world, &input, NULL);
    end_round(world);
    // Whoever set the site up goes on until all of it is there.
    if (broker->newest_rev[world->sets_n - 1] == 0) {
        operators_define(world);
    }
    for (uint32_t i = 0; i < world->nodes_n; i++) {
        nodehost_disconnect(world, i);
    }
}

static void lose_round(world_t *world) {
    broker_host_t *broker = &world->broker;
    while (broker->round_n > 0) {
        broker->round_n--;
        fleet_message_t *event = broker->journal[--broker->journal_n].message;
        if (event->type == FLEET_MESSAGE_set_defined ||
            event->type == FLEET_MESSAGE_set_changed) {
            broker->newest_rev[world_set(world, event->event.head.set)]--;
        }
        free(event);
    }
    promises_rollback(world);
}

void brokerhost_crash(world_t *world) {
    broker_host_t *broker = &world->broker;
    if (!broker->up) {
        return;
    }
    size_t size = broker_core_durable_size(broker->core);
    bool lost = broker->writing && dice_hit(&world->dice, 5000);
    world_say(world, "broker", "crashes%s",
              lost              ? ", the round is lost"
              : broker->writing ? ", the round is kept"
                                : "");
    if (broker->golden == NULL) {
        broker->golden = malloc(size);
        assert(broker->golden != NULL);
    }
    memcpy(broker->golden, broker_core_durable(broker->core), size);
    broker->has_golden = !lost;
    if (lost) {
        faults_count(world, SIM_FAULT_BROKER_LOST_WRITE);
        lose_round(world);
    }
    promises_durable(world);
    broker->round_n = 0;
    broker->up = broker->writing = broker->paused = broker->rest = false;
    broker->crash_after = 0;
    broker->crash_writing = false;
    broker->life++;
    drop_outs(broker);
    for (size_t i = 0; i < broker->inbox_n; i++) {
        letter_free(broker->inbox[i]);
    }
    broker->inbox_n = 0;
    uint64_t away = world->healed
                        ? SIM_S
                        : dice_spread(&world->dice, 50 * SIM_MS, 30 * SIM_S);
    agenda_add(world, world->now + away, SIM_BROKER_START, 0, broker->life,
               NULL);
}

void brokerhost_pause(world_t *world, uint64_t until) {
    broker_host_t *broker = &world->broker;
    if (broker->up && !broker->paused) {
        world_say(world, "broker", "is paused");
        broker->paused = true;
        broker->resume_at = until;
        agenda_add(world, until, SIM_BROKER_GO, 0, broker->life, NULL);
    }
}

void brokerhost_go(world_t *world) {
    world_say(world, "broker", "goes on");
    world->broker.paused = false;
    brokerhost_turn(world);
}

void brokerhost_fenced(world_t *world, uint32_t host, uint64_t life_and_ok) {
    broker_host_t *broker = &world->broker;
    if (!broker->up || broker->life != life_and_ok / 2) {
        return;
    }
    if (broker->paused || broker->writing) {
        agenda_add(world, world->now + 10 * SIM_MS, SIM_FENCE_END, host,
                   life_and_ok, NULL);
        return;
    }
    broker_input_t input = {.kind = BROKER_IN_FENCED,
                            .elapsed_ms = elapsed_ms(world),
                            .time_us = world->now,
                            .ok = life_and_ok % 2 == 1};
    FLEET_COPY(input.name, world->nodes[host].name);
    FLEET_COPY(input.text, input.ok ? "power is off" : "no answer");
    step(world, &input, NULL);
    end_round(world);
}
