// SPDX-License-Identifier: MIT
//
// Everything that makes a set go: a release (P6), a drop, a lapse, a boot, a
// failed start, a successor under a larger token.  One way down for all of
// them.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "node/core/state.h"

const char *node_why_word(node_why_t why) {
    switch (why) {
    case NODE_WHY_LAPSE:
        return "lapse";
    case NODE_WHY_BOOT:
        return "boot";
    case NODE_WHY_DROP:
        return "drop";
    case NODE_WHY_LEAVE:
        return "leave";
    case NODE_WHY_UNDO:
        return "undo";
    case NODE_WHY_REPLACE:
        return "replace";
    case NODE_WHY_CLEANUP:
        return "cleanup";
    case NODE_WHY_NONE:
    case NODE_WHY_RELEASE:
        break;
    }
    return "release";
}

void node_closed_say(node_core_t *core, node_set_t *set, node_why_t why,
                     node_effects_t *effects) {
    assert(set->phase == fleet_phase_CLOSED);
    if (!node_session_is_open(core)) {
        set->unsaid = why;
        return;
    }
    set->unsaid = NODE_WHY_NONE;
    fleet_closed_t *closed = &node_send(effects, FLEET_MESSAGE_closed)->closed;
    closed->session = core->session.id;
    FLEET_COPY(closed->set, set->name);
    closed->token = set->token;
    FLEET_COPY(closed->why, node_why_word(why));
}

void node_stop_want(node_set_t *set, node_why_t why) {
    set->acquire = (node_acquire_t){0};
    if (!node_set_open(set)) {
        return;
    }
    // One that runs already goes on as what it is; the answer says who asked.
    if (set->mode != NODE_MODE_STOP || set->stop == NODE_WHY_REPLACE) {
        set->stop = why;
    }
    set->stop_failed = false;
}

void node_release_take(node_core_t *core, const fleet_release_t *release,
                       node_effects_t *effects) {
    if (!node_session_takes(core, release->term, release->session, "release",
                            release->set, effects)) {
        return;
    }
    if (release->token == 0 || release->token > FLEET_TOKEN_MAX) {
        node_note(effects, "%s: release without a token -> ignored",
                  release->set);
        return;
    }
    node_set_t *set = node_set_find(core, release->set);
    if (set == NULL) {
        set = node_set_add(core, release->set, effects);
    }
    if (set == NULL) {
        return; // without a record the answer would not be final
    }
    // Below an open record it is not certain that all is gone: what was to go
    // on in place may still be there as it was.
    bool below = node_set_open(set) && release->token < set->token;
    if (below || release->token < set->acquire.token) {
        node_stale_say(core, set, release->token, node_set_known(set), "agent",
                       effects);
        return;
    }
    set->silence_first |= release->silence_first && set->there != 0;
    set->transfer = release->transfer;
    if (node_set_open(set)) {
        node_note(effects, "%s: release %" PRIu64 " -> stopped", set->name,
                  release->token);
        set->close_token = release->token;
        set->asked = true;
        node_stop_want(set, NODE_WHY_RELEASE);
        return;
    }
    set->acquire = (node_acquire_t){0};
    set->failure.err = FLEET_OK;
    if (release->token > set->token) {
        node_set_record(set, release->token, fleet_phase_CLOSED, effects);
    }
    if (set->there != 0 || set->mode == NODE_MODE_ADOPT) {
        node_note(effects, "%s: release %" PRIu64 " -> when all is gone",
                  set->name, release->token);
        set->asked = true;
        set->stop_failed = false;
        return;
    }
    node_note(effects, "%s: release %" PRIu64 " -> closed", set->name,
              release->token);
    node_closed_say(core, set, NODE_WHY_RELEASE, effects);
}

void node_stop_begin(node_set_t *set, node_effects_t *effects) {
    set->stop_failed = false;
    set->broken = false;
    set->restart = (node_restart_t){0};
    node_note(effects, "%s: %s -> stopping", set->name,
              node_why_word(set->stop));
    // A start that is undone keeps its phase: if that fails, a release tries
    // again.
    bool nothing = set->run.known && set->there == 0;
    if (node_set_open(set) && !nothing && set->stop != NODE_WHY_UNDO) {
        node_set_record(set, set->token, fleet_phase_RELEASING, effects);
    }
    node_sequence_begin(set, NODE_MODE_STOP, set->there, effects);
    if (node_set_open(set) && !set->run.known) {
        set->failed = true;
        set->failure =
            (node_failure_t){.err = FLEET_STOP_FAILED, .part = NODE_WHOLE_SET};
        FLEET_COPY(set->failure.text,
                   "its definition is lost, nothing of it can be stopped");
    }
}

static void stopped(node_core_t *core, node_set_t *set,
                    node_effects_t *effects) {
    node_why_t why = set->asked ? NODE_WHY_RELEASE : set->stop;
    bool asked = set->asked;
    set->stop = NODE_WHY_NONE;
    set->asked = false;
    set->silence_first = false;
    set->silent_wanted = false;
    if (why == NODE_WHY_REPLACE) {
        return; // the acquire that waits for it goes on
    }
    set->sick = 0;
    set->sick_unsaid = 0;
    if (!node_set_open(set)) {
        node_note(effects, "%s: what was left of it -> gone", set->name);
        if (asked) {
            node_closed_say(core, set, why, effects);
        }
        return;
    }
    uint64_t token =
        set->close_token > set->token ? set->close_token : set->token;
    set->close_token = 0;
    node_set_record(set, token, fleet_phase_CLOSED, effects);
    node_effect_t *effect = node_emit(effects, NODE_OUT_DEADLINE);
    FLEET_COPY(effect->set, set->name);
    if (why == NODE_WHY_UNDO) {
        node_acquire_fail(core, set, token, true, set->failure.err, effects);
        return;
    }
    node_note(effects, "%s: %s -> closed %" PRIu64, set->name,
              node_why_word(why), token);
    set->failure.err = FLEET_OK;
    // A boot is told by the hello, which waits for it (P17); but not for ever.
    if (why != NODE_WHY_BOOT || core->session.hello > 0) {
        node_closed_say(core, set, why, effects);
    }
}

static void say_release_failed(node_core_t *core, const node_set_t *set,
                               node_effects_t *effects) {
    if (!node_session_is_open(core)) {
        return;
    }
    fleet_release_failed_t *failed =
        &node_send(effects, FLEET_MESSAGE_release_failed)->release_failed;
    failed->session = core->session.id;
    FLEET_COPY(failed->set, set->name);
    failed->token =
        set->close_token > set->token ? set->close_token : set->token;
    FLEET_COPY(failed->resource, node_failure_part(set));
    FLEET_COPY(failed->text, set->failure.text);
    FLEET_COPY(failed->said, set->failure.said);
}

static void not_stopped(node_core_t *core, node_set_t *set,
                        node_effects_t *effects) {
    node_note(effects, "%s: %s cannot be stopped: %s -> waits", set->name,
              node_failure_part(set), set->failure.text);
    node_why_t why = set->stop;
    bool asked = set->asked;
    set->asked = false;
    if (asked) {
        say_release_failed(core, set, effects);
    }
    if (why == NODE_WHY_UNDO) {
        set->broken = true;
        set->broken_err = FLEET_HELD;
        if (!asked) {
            node_acquire_fail(core, set, set->token, false, FLEET_HELD,
                              effects);
        }
    } else if (why == NODE_WHY_REPLACE) {
        node_acquire_fail(core, set, set->acquire.token, false, FLEET_HELD,
                          effects);
        set->acquire = (node_acquire_t){0};
    } else if (why != NODE_WHY_RELEASE) {
        // Nobody asks again, so it does so itself.
        set->stop_failed = true;
        set->retry_left_ms = NODE_RETRY_MS;
        return;
    }
    set->stop = NODE_WHY_NONE;
}

void node_stop_end(node_core_t *core, node_set_t *set,
                   node_effects_t *effects) {
    if (set->failed) {
        not_stopped(core, set, effects);
    } else {
        stopped(core, set, effects);
    }
}
