// SPDX-License-Identifier: MIT
//
// acquire: which are taken (P6), what must be gone first (P9), starting in
// place (decision 3), and how it ends.

#include <inttypes.h>
#include <string.h>

#include "node/core/state.h"

void node_stale_say(node_core_t *core, const node_set_t *set, uint64_t shown,
                    uint64_t now, const char *where, node_effects_t *effects) {
    node_note(effects,
              "%s: token %" PRIu64 " is shown, %" PRIu64
              " is known (%s) -> refused",
              set->name, shown, now, where);
    if (!node_session_is_open(core)) {
        return;
    }
    fleet_stale_t *stale = &node_send(effects, FLEET_MESSAGE_stale)->stale;
    stale->session = core->session.id;
    FLEET_COPY(stale->set, set->name);
    stale->token_shown = shown;
    stale->token_now = now;
    FLEET_COPY(stale->where, where);
}

uint64_t node_set_known(const node_set_t *set) {
    uint64_t known =
        set->acquire.token > set->token ? set->acquire.token : set->token;
    return set->close_token > known ? set->close_token : known;
}

static void say_acquired(node_core_t *core, const node_set_t *set,
                         node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return; // the broker asks again after the next hello (P11)
    }
    fleet_acquired_t *acquired =
        &node_send(effects, FLEET_MESSAGE_acquired)->acquired;
    acquired->session = core->session.id;
    FLEET_COPY(acquired->set, set->name);
    acquired->token = set->token;
}

static void say_failed(node_core_t *core, const char *set, uint64_t token,
                       bool undone, fleet_err_t err, const char *resource,
                       const node_failure_t *failure, node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return;
    }
    fleet_acquire_failed_t *failed =
        &node_send(effects, FLEET_MESSAGE_acquire_failed)->acquire_failed;
    failed->session = core->session.id;
    FLEET_COPY(failed->set, set);
    failed->token = token;
    failed->undone = undone;
    FLEET_COPY(failed->code, fleet_error_spec(err)->code);
    FLEET_COPY(failed->resource, resource);
    FLEET_COPY(failed->text, failure->text);
    FLEET_COPY(failed->said, failure->said);
}

void node_acquire_fail(node_core_t *core, node_set_t *set, uint64_t token,
                       bool undone, fleet_err_t err, node_effects_t *effects) {
    node_note(effects, "%s: acquire %" PRIu64 " failed: %s -> %s", set->name,
              token, set->failure.text, undone ? "undone" : "not undone");
    say_failed(core, set->name, token, undone, err, node_failure_part(set),
               &set->failure, effects);
}

// Refuses for good: the token is closed before it was used.
static void refuse(node_core_t *core, node_set_t *set, uint64_t token,
                   fleet_err_t err, const char *why, node_effects_t *effects) {
    if (node_set_open(set)) {
        node_note(effects, "%s: acquire %" PRIu64 ": %s -> not answered",
                  set->name, token, why);
        return;
    }
    memset(&set->failure, 0, sizeof(set->failure));
    set->failure.err = err;
    set->failure.part = NODE_WHOLE_SET;
    FLEET_COPY(set->failure.text, why);
    node_set_record(set, token, fleet_phase_CLOSED, effects);
    node_acquire_fail(core, set, token, true, err, effects);
}

// The same token again, in whatever phase it is.
static void repeat(node_core_t *core, node_set_t *set,
                   node_effects_t *effects) {
    const char *phase = fleet_phase_word(set->phase);
    if (set->phase == fleet_phase_CLOSED) {
        if (set->failure.err != FLEET_OK) {
            node_acquire_fail(core, set, set->token, true, set->failure.err,
                              effects);
        } else {
            node_closed_say(core, set, NODE_WHY_RELEASE, effects);
        }
        return;
    }
    if (set->broken) {
        node_acquire_fail(core, set, set->token, false, set->broken_err,
                          effects);
        return;
    }
    node_note(effects, "%s: acquire %" PRIu64 " again -> %s", set->name,
              set->token, phase);
    if (set->phase == fleet_phase_HELD && set->stop == NODE_WHY_NONE) {
        say_acquired(core, set, effects);
    }
}

static void want(node_set_t *set, const fleet_acquire_t *acquire,
                 node_effects_t *effects) {
    // Nothing can be in place where it has been closed meanwhile: the ordinary
    // rule does then.
    bool in_place = acquire->in_place && node_set_open(set) && set->run.known &&
                    set->token == acquire->from_token;
    node_note(effects, "%s: acquire %" PRIu64 "%s -> taken", set->name,
              acquire->token, in_place ? " in place" : "");
    set->acquire = (node_acquire_t){
        .token = acquire->token,
        .from_token = in_place ? acquire->from_token : 0,
        .transfer = acquire->transfer,
    };
    set->prepare.wanted = false;
    if (in_place) {
        set->stop = NODE_WHY_NONE;
        set->stop_failed = false;
        set->silence_first = false;
        set->silent_wanted = false;
        set->asked = false;
        set->close_token = 0;
    }
}

void node_acquire_take(node_core_t *core, const node_input_t *input,
                       node_effects_t *effects) {
    const fleet_acquire_t *acquire = &input->message->acquire;
    if (!node_session_takes(core, acquire->term, acquire->session, "acquire",
                            acquire->set, effects)) {
        return;
    }
    if (acquire->token == 0 || acquire->token > FLEET_TOKEN_MAX) {
        node_note(effects, "%s: acquire without a token -> ignored",
                  acquire->set);
        return;
    }
    node_set_t *set = node_set_find(core, acquire->set);
    if (set == NULL) {
        set = node_set_add(core, acquire->set, effects);
    }
    if (set == NULL) {
        node_failure_t failure = {.err = FLEET_SITE_FULL};
        FLEET_FORMAT(failure.text, "the node keeps %u sets already",
                     NODE_SETS_MAX);
        say_failed(core, acquire->set, acquire->token, true, failure.err, "",
                   &failure, effects);
        return;
    }
    if (acquire->token < node_set_known(set)) {
        node_stale_say(core, set, acquire->token, node_set_known(set), "agent",
                       effects);
    } else if (acquire->token == set->acquire.token) {
        node_note(effects, "%s: acquire %" PRIu64 " again -> waits", set->name,
                  acquire->token);
    } else if (acquire->token == set->close_token) {
        node_note(effects, "%s: acquire %" PRIu64 " -> it is being released",
                  set->name, acquire->token);
    } else if (acquire->token == set->token) {
        node_set_define(set, input->setdef, acquire->rev, effects);
        repeat(core, set, effects);
    } else if (core->leaving) {
        refuse(core, set, acquire->token, FLEET_NODE_OFFLINE,
               "the machine goes down", effects);
    } else if (input->setdef == NULL) {
        node_note(effects, "%s: acquire without a definition -> ignored",
                  set->name);
    } else {
        node_set_define(set, input->setdef, acquire->rev, effects);
        want(set, acquire, effects);
    }
}

void node_acquire_begin(node_core_t *core, node_set_t *set,
                        node_effects_t *effects) {
    node_acquire_t acquire = set->acquire;
    bool in_place = acquire.from_token != 0;
    if (!in_place && set->there != 0) {
        // Never revived under a new token: the disk may have changed (P9).
        set->stop = NODE_WHY_REPLACE;
        node_stop_begin(set, effects);
        return;
    }
    set->acquire = (node_acquire_t){0};
    if (!in_place) {
        set->run = set->newest;
        set->there = set->prepared;
        set->prepared = 0;
        set->silent = 0;
        set->renew = 0;
        set->silent_wanted = false;
        set->sick = 0;
        set->sick_unsaid = 0;
    }
    set->prepare = (node_prepare_t){0};
    set->restart = (node_restart_t){0};
    set->broken = false;
    set->unsaid = NODE_WHY_NONE;
    set->asked = false;
    set->close_token = 0;
    set->failure.err = FLEET_OK;
    set->in_place = in_place;
    set->from_token = acquire.from_token;
    set->transfer = acquire.transfer;
    // Granted in a session, so good for what is left of it.
    set->lease_left_ms = core->session.lease_left_ms;
    set->lapsed = false;

    // Where nothing has to be done in between, one write does.
    node_set_record(set, acquire.token,
                    set->run.n == 0 ? fleet_phase_HELD : fleet_phase_ACQUIRING,
                    effects);
    node_effect_t *effect = node_emit(effects, NODE_OUT_DEADLINE);
    FLEET_COPY(effect->set, set->name);
    effect->lease_ms = set->lease_left_ms;
    node_sequence_begin(set, NODE_MODE_START, node_plan_all(&set->run),
                        effects);
}

void node_acquire_end(node_core_t *core, node_set_t *set,
                      node_effects_t *effects) {
    if (!set->failed) {
        node_set_record(set, set->token, fleet_phase_HELD, effects);
        node_note(effects, "%s: all of it runs -> held %" PRIu64, set->name,
                  set->token);
        say_acquired(core, set, effects);
    } else if (set->in_place && set->failure.err != FLEET_LOCK_FOREIGN) {
        // It was never let go: what runs is not taken down for what does not.
        // A lock that says otherwise leaves only the ordinary rule: all of it
        // goes (P9).
        set->broken = true;
        set->broken_err = set->failure.err;
        node_acquire_fail(core, set, set->token, false, set->failure.err,
                          effects);
    } else {
        set->stop = NODE_WHY_UNDO;
        set->stop_failed = false;
    }
}
