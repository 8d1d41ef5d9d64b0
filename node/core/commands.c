// SPDX-License-Identifier: MIT
//
// What the broker asks of a set beside acquire and release: to prepare, to
// restart its services, to evict a dead holder, to keep looking whether it
// could start.

#include <inttypes.h>
#include <string.h>

#include "node/core/state.h"

static node_set_t *find_or_add(node_core_t *core, const char *name,
                               node_effects_t *effects) {
    node_set_t *set = node_set_find(core, name);
    return set != NULL ? set : node_set_add(core, name, effects);
}

// -------------------------------------------------------------------- prepare

static void say_prepared(node_core_t *core, const char *set, uint64_t transfer,
                         const char *resource, const char *why,
                         node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return;
    }
    fleet_prepared_t *prepared =
        &node_send(effects, FLEET_MESSAGE_prepared)->prepared;
    prepared->session = core->session.id;
    FLEET_COPY(prepared->set, set);
    prepared->transfer = transfer;
    prepared->ok = why == NULL;
    FLEET_COPY(prepared->resource, resource);
    FLEET_COPY(prepared->text, why == NULL ? "" : why);
}

static void prepare_undo(node_core_t *core, const fleet_prepare_t *prepare,
                         node_effects_t *effects) {
    node_set_t *set = node_set_find(core, prepare->set);
    if (set == NULL || set->prepare.transfer != prepare->transfer) {
        return;
    }
    node_note(effects, "%s: prepared for t%" PRIu64 " in vain -> taken back",
              set->name, prepare->transfer);
    set->prepare.wanted = false;
}

static void prepare_take(node_core_t *core, const node_input_t *input,
                         node_effects_t *effects) {
    const fleet_prepare_t *prepare = &input->message->prepare;
    if (!node_session_takes(core, prepare->term, prepare->session, "prepare",
                            prepare->set, effects)) {
        return;
    }
    if (prepare->undo) {
        prepare_undo(core, prepare, effects);
        return;
    }
    node_set_t *set = find_or_add(core, prepare->set, effects);
    if (set == NULL || core->leaving) {
        say_prepared(core, prepare->set, prepare->transfer, "",
                     set == NULL ? "the node keeps too many sets"
                                 : "the machine goes down",
                     effects);
        return;
    }
    if (input->setdef == NULL) {
        node_note(effects, "%s: prepare without a definition -> ignored",
                  set->name);
        return;
    }
    node_set_define(set, input->setdef, prepare->rev, effects);
    if (node_set_open(set)) {
        node_note(effects, "%s: prepare -> it is here", set->name);
        say_prepared(core, set->name, prepare->transfer, "", NULL, effects);
        return;
    }
    bool again = set->prepare.wanted &&
                 set->prepare.transfer == prepare->transfer &&
                 set->prepared_rev == prepare->rev;
    if (again && set->prepare.done) {
        say_prepared(core, set->name, prepare->transfer, "", NULL, effects);
        return;
    }
    if (again) {
        return;
    }
    node_note(effects, "%s: prepare for t%" PRIu64 " -> begun", set->name,
              prepare->transfer);
    set->prepare = (node_prepare_t){.wanted = true,
                                    .transfer = prepare->transfer,
                                    .left_ms = NODE_PREPARED_MS};
}

void node_prepare_end(node_core_t *core, node_set_t *set,
                      node_effects_t *effects) {
    set->prepare.done = true;
    if (!set->failed) {
        node_note(effects, "%s: all is prepared -> said", set->name);
        say_prepared(core, set->name, set->prepare.transfer, "", NULL, effects);
        return;
    }
    set->prepare.wanted = false;
    const char *resource = set->failure.part < set->newest.n
                               ? set->newest.parts[set->failure.part].name
                               : "";
    node_note(effects, "%s: cannot be prepared: %s -> said", set->name,
              set->failure.text);
    say_prepared(core, set->name, set->prepare.transfer, resource,
                 set->failure.text, effects);
}

// -------------------------------------------------------------------- restart

static void say_restarted(node_core_t *core, const char *set, uint64_t token,
                          uint64_t transfer, const char *resource,
                          const node_failure_t *failure,
                          node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return;
    }
    fleet_restarted_t *restarted =
        &node_send(effects, FLEET_MESSAGE_restarted)->restarted;
    restarted->session = core->session.id;
    FLEET_COPY(restarted->set, set);
    restarted->token = token;
    restarted->transfer = transfer;
    restarted->ok = failure == NULL;
    if (failure != NULL) {
        FLEET_COPY(restarted->resource, resource);
        FLEET_COPY(restarted->text, failure->text);
        FLEET_COPY(restarted->said, failure->said);
        FLEET_COPY(restarted->code, fleet_error_spec(failure->err)->code);
    }
}

// The services, or the one that is named; 0: there is none.
static uint32_t restart_parts(const node_plan_t *plan, const char *resource) {
    uint32_t parts = node_plan_kind(plan, FLEET_RESOURCE_SERVICE);
    if (resource[0] == '\0') {
        return parts;
    }
    for (uint32_t i = 0; i < plan->n; i++) {
        if (strcmp(plan->parts[i].name, resource) == 0) {
            return parts & node_bit(i);
        }
    }
    return 0;
}

static void restart_take(node_core_t *core, const fleet_restart_t *restart,
                         node_effects_t *effects) {
    if (!node_session_takes(core, restart->term, restart->session, "restart",
                            restart->set, effects)) {
        return;
    }
    node_set_t *set = node_set_find(core, restart->set);
    if (set == NULL || set->token != restart->token ||
        set->phase != fleet_phase_HELD || set->stop != NODE_WHY_NONE) {
        node_note(effects, "%s: restart under %" PRIu64 " -> not held here",
                  restart->set, restart->token);
        node_failure_t failure = {.err = FLEET_NOT_RUNNING};
        FLEET_COPY(failure.text, "it is not held here under this token");
        say_restarted(core, restart->set, restart->token, restart->transfer,
                      restart->resource, &failure, effects);
        return;
    }
    if (set->restart.transfer == restart->transfer) {
        if (set->restart.done) {
            say_restarted(core, set->name, set->token, restart->transfer,
                          node_failure_part(set),
                          set->restart.ok ? NULL : &set->failure, effects);
        }
        return;
    }
    uint32_t parts = restart_parts(&set->run, restart->resource);
    if (parts == 0 && restart->resource[0] != '\0') {
        node_failure_t failure = {.err = FLEET_RESOURCE_UNKNOWN};
        FLEET_FORMAT(failure.text, "%s has no service \"%s\"", set->name,
                     restart->resource);
        say_restarted(core, set->name, set->token, restart->transfer,
                      restart->resource, &failure, effects);
        return;
    }
    node_note(effects, "%s: restart for t%" PRIu64 " -> begun", set->name,
              restart->transfer);
    // One that is under way is overtaken, and what it has stopped starts too.
    uint32_t stopped = set->restart.wanted ? set->restart.parts : 0;
    set->restart = (node_restart_t){.wanted = true,
                                    .transfer = restart->transfer,
                                    .parts = parts | stopped};
}

void node_restart_end(node_core_t *core, node_set_t *set,
                      node_effects_t *effects) {
    set->restart.wanted = false;
    set->restart.done = true;
    set->restart.ok = !set->failed;
    node_note(effects, "%s: restarted -> %s", set->name,
              set->failed ? set->failure.text : "well");
    say_restarted(core, set->name, set->token, set->restart.transfer,
                  node_failure_part(set), set->failed ? &set->failure : NULL,
                  effects);
    if (set->failed) {
        node_health_set(core, set, set->failure.part, false, set->failure.text,
                        effects);
    }
}

// ---------------------------------------------------------------------- evict

static void say_evicted(node_core_t *core, const char *set, uint64_t token,
                        bool stamped, bool blocked, const char *text,
                        node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return;
    }
    fleet_evicted_t *evicted =
        &node_send(effects, FLEET_MESSAGE_evicted)->evicted;
    evicted->session = core->session.id;
    FLEET_COPY(evicted->set, set);
    evicted->token = token;
    evicted->stamped = stamped;
    evicted->blocked = blocked;
    FLEET_COPY(evicted->text, text);
}

static void evict_take(node_core_t *core, const node_input_t *input,
                       node_effects_t *effects) {
    const fleet_evict_t *evict = &input->message->evict;
    if (!node_session_takes(core, evict->term, evict->session, "evict",
                            evict->set, effects)) {
        return;
    }
    node_set_t *set = find_or_add(core, evict->set, effects);
    if (set == NULL || input->setdef == NULL) {
        say_evicted(core, evict->set, evict->token, false, false,
                    set == NULL ? "the node keeps too many sets"
                                : "the order came without a definition",
                    effects);
        return;
    }
    if (evict->token < node_set_known(set)) {
        node_stale_say(core, set, evict->token, node_set_known(set), "agent",
                       effects);
        return;
    }
    node_set_define(set, input->setdef, input->rev, effects);
    if (node_plan_kind(&set->newest, FLEET_RESOURCE_DISK_GROUP) == 0) {
        say_evicted(core, set->name, evict->token, true, false,
                    "the set has no disk group, so there is nothing to stamp",
                    effects);
        return;
    }
    if (set->evict.slot.job != 0 && set->evict.token == evict->token) {
        return; // its answer is on its way
    }
    node_note(effects, "%s: evict %s under %" PRIu64 " -> begun", set->name,
              evict->victim, evict->token);
    set->evict.wanted = true;
    set->evict.token = evict->token;
    set->evict.transfer = evict->transfer;
    set->evict.victim_token = evict->victim_token;
    FLEET_COPY(set->evict.victim, evict->victim);
}

void node_evict_advance(node_core_t *core, node_set_t *set,
                        node_effects_t *effects) {
    if (!set->evict.wanted || set->evict.slot.job != 0) {
        return;
    }
    uint32_t parts = node_plan_kind(&set->newest, FLEET_RESOURCE_DISK_GROUP);
    set->evict.wanted = false;
    for (uint32_t i = 0; i < set->newest.n; i++) {
        if ((parts & node_bit(i)) == 0) {
            continue;
        }
        node_effect_t *effect =
            node_act(core, set, effects, &set->evict.slot, NODE_ACT_EVICT, i);
        effect->token = set->evict.token;
        effect->transfer = set->evict.transfer;
        effect->victim_token = set->evict.victim_token;
        FLEET_COPY(effect->victim, set->evict.victim);
        return;
    }
}

void node_evict_result(node_core_t *core, node_set_t *set,
                       const node_input_t *input, node_effects_t *effects) {
    set->evict.slot = (node_act_slot_t){0};
    if (set->evict.wanted) {
        return; // another order came meanwhile
    }
    bool stamped = input->ok && input->stamped;
    bool blocked = stamped && input->blocked;
    node_note(effects, "%s: evict %s: %s -> %s", set->name, set->evict.victim,
              input->text,
              blocked   ? "stamped and blocked"
              : stamped ? "stamped, not blocked"
                        : "not stamped");
    say_evicted(core, set->name, set->evict.token, stamped, blocked,
                input->text, effects);
}

// ---------------------------------------------------------------------- watch

static void watch_take(node_core_t *core, const node_input_t *input,
                       node_effects_t *effects) {
    const fleet_watch_set_t *watch = &input->message->watch_set;
    if (!node_session_takes(core, watch->term, watch->session, "watch_set",
                            watch->set, effects)) {
        return;
    }
    node_set_t *set = node_set_find(core, watch->set);
    if (watch->gone) {
        if (set != NULL) {
            node_note(effects, "%s: not for this node -> looked at no more",
                      set->name);
            set->watched = false;
            set->gone = true;
        }
        return;
    }
    set = find_or_add(core, watch->set, effects);
    if (set == NULL || input->setdef == NULL) {
        return;
    }
    node_set_define(set, input->setdef, watch->rev, effects);
    set->gone = false;
    set->watched = true;
    set->look_left_ms = 0;
    set->port_sent = false;
}

void node_message(node_core_t *core, const node_input_t *input,
                  node_effects_t *effects) {
    const fleet_message_t *message = input->message;
    if (node_session_message(core, message, effects)) {
        return;
    }
    if (message->type == FLEET_MESSAGE_acquire) {
        node_acquire_take(core, input, effects);
    } else if (message->type == FLEET_MESSAGE_release) {
        node_release_take(core, &message->release, effects);
    } else if (message->type == FLEET_MESSAGE_prepare) {
        prepare_take(core, input, effects);
    } else if (message->type == FLEET_MESSAGE_restart) {
        restart_take(core, &message->restart, effects);
    } else if (message->type == FLEET_MESSAGE_evict) {
        evict_take(core, input, effects);
    } else if (message->type == FLEET_MESSAGE_watch_set) {
        watch_take(core, input, effects);
    } else {
        node_note(effects,
                  "broker: a message that is not for a node -> "
                  "ignored");
    }
}
