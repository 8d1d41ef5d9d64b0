// SPDX-License-Identifier: MIT
//
// The session with the broker (P2): hello, its repetition, heartbeats and what
// their answers confirm and drop (P4), terms (P13), and the end of it all when
// nothing was confirmed for a lease.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "node/core/state.h"

#define RESEND_GROWTH 8 // how far the time between hellos grows

bool node_session_is_open(const node_core_t *core) {
    return core->session.state == NODE_SESSION_OPEN;
}

static void ask(node_core_t *core) {
    core->session.state = NODE_SESSION_ASKED;
    core->session.hello_due = true;
    core->session.resend_ms = core->config.resend_ms;
}

void node_session_connected(node_core_t *core, node_effects_t *effects) {
    node_note(effects, "broker: connected -> hello");
    core->connected = true;
    ask(core);
}

void node_session_end(node_core_t *core, const char *why,
                      node_effects_t *effects) {
    if (core->session.state != NODE_SESSION_OPEN) {
        return;
    }
    node_note(effects, "session %" PRIu64 ": %s -> over, hello",
              core->session.id, why);
    ask(core);
}

void node_session_lapse(node_core_t *core, node_effects_t *effects) {
    core->session.lapsed = true;
    node_session_end(core, "nothing was confirmed for a lease", effects);
}

static void send_hello(node_core_t *core, node_effects_t *effects) {
    node_session_t *session = &core->session;
    session->hello_due = false;
    session->hello += 1;
    session->hello_age_ms = 0;
    session->resend_left_ms = session->resend_ms;

    fleet_hello_t *hello = &node_send(effects, FLEET_MESSAGE_hello)->hello;
    hello->protocol = FLEET_PROTOCOL;
    FLEET_COPY(hello->site, core->config.site);
    FLEET_COPY(hello->node, core->config.node);
    FLEET_COPY(hello->version, core->config.version);
    FLEET_COPY(hello->boot_id, core->config.boot_id);
    FLEET_COPY(hello->agent_id, core->config.agent_id);
    hello->hello = session->hello;
    hello->term = core->term;
    hello->no_memory = core->no_memory;
    FLEET_COPY(hello->kernel, core->config.kernel);
    FLEET_COPY(hello->kernel_id, core->config.kernel_id);
    hello->watchdog_ms = core->config.watchdog_ms;
    hello->slots = core->config.slots;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        const node_set_t *set = &core->sets[i];
        if (set->used && set->phase != fleet_phase_NONE) {
            fleet_pair_t *record = &hello->records[hello->records_n++];
            FLEET_COPY(record->set, set->name);
            record->token = set->token;
            record->phase = set->phase;
        }
    }
}

static void send_heartbeat(node_core_t *core, node_effects_t *effects) {
    node_session_t *session = &core->session;
    session->number += 1;
    session->renew_left_ms = session->renew_ms;
    session->beats[session->number % NODE_BEATS] =
        (node_beat_t){.number = session->number, .left_ms = session->lease_ms};

    fleet_heartbeat_t *beat =
        &node_send(effects, FLEET_MESSAGE_heartbeat)->heartbeat;
    beat->term = core->term;
    beat->session = session->id;
    beat->number = session->number;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (set->used && node_set_open(set)) {
            fleet_pair_t *pair = &beat->pairs[beat->pairs_n++];
            FLEET_COPY(pair->set, set->name);
            pair->token = set->token;
            pair->phase = set->phase;
            if (set->listed_from == 0) {
                set->listed_from = session->number;
            }
        }
    }
}

void node_session_advance(node_core_t *core, node_effects_t *effects) {
    node_session_t *session = &core->session;
    // After a boot the first word is that everything is closed (P17).
    if (!core->connected || core->booting) {
        return;
    }
    if (!node_has_room(effects, 1)) {
        core->more = true;
        return;
    }
    switch (session->state) {
    case NODE_SESSION_NONE:
        break;
    case NODE_SESSION_ASKED:
        if (session->hello_due) {
            send_hello(core, effects);
        } else if (session->resend_left_ms == 0) {
            // With a number of its own each time: only the answer to the last
            // one opens a session, so a slow broker must be given time.
            if (session->resend_ms < RESEND_GROWTH * core->config.resend_ms) {
                session->resend_ms *= 2;
            }
            send_hello(core, effects);
        }
        break;
    case NODE_SESSION_OPEN:
        if (session->renew_left_ms == 0) {
            send_heartbeat(core, effects);
        }
        break;
    }
}

uint64_t node_session_deadline(const node_core_t *core) {
    const node_session_t *session = &core->session;
    if (!core->connected || core->booting) {
        return NODE_NEVER;
    }
    switch (session->state) {
    case NODE_SESSION_NONE:
        return NODE_NEVER;
    case NODE_SESSION_ASKED: {
        uint64_t left = session->hello_due ? 0 : session->resend_left_ms;
        // Before the first session there is no lease that could lapse.
        return session->lease_ms == 0 || session->lapsed ||
                       session->lease_left_ms > left
                   ? left
                   : session->lease_left_ms;
    }
    case NODE_SESSION_OPEN:
        return session->renew_left_ms < session->lease_left_ms
                   ? session->renew_left_ms
                   : session->lease_left_ms;
    }
    assert(false);
    return NODE_NEVER;
}

// False if the message is of a reign that is over.  A higher term is durable
// before anything else of its message is done.
static bool take_term(node_core_t *core, uint64_t term, const char *what,
                      node_effects_t *effects) {
    if (term < core->term) {
        node_note(effects,
                  "%s: of term %" PRIu64 ", we have heard %" PRIu64
                  " -> ignored",
                  what, term, core->term);
        return false;
    }
    if (term == core->term) {
        return true;
    }
    node_note(effects, "%s: term %" PRIu64 " -> heard", what, term);
    core->term = term;
    // Without memory nothing is obeyed before the floors are on disk, and a
    // term on disk is what says that they are (P16).
    if (!core->no_memory) {
        node_emit(effects, NODE_OUT_TERM)->term = term;
    }
    node_session_end(core, "another reign", effects);
    return true;
}

bool node_session_takes(node_core_t *core, uint64_t term, uint64_t session,
                        const char *what, const char *set,
                        node_effects_t *effects) {
    if (!take_term(core, term, what, effects)) {
        return false;
    }
    if (!node_session_is_open(core) || session != core->session.id) {
        node_note(effects, "%s: %s of session %" PRIu64 " -> refused", set,
                  what, session);
        return false;
    }
    return true;
}

// The highest token that each set ever had: what is not above it is refused
// (P16).
static void take_floors(node_core_t *core, const fleet_hello_ok_t *ok,
                        node_effects_t *effects) {
    for (uint32_t i = 0; i < ok->floors_n; i++) {
        const fleet_pair_t *floor = &ok->floors[i];
        node_set_t *set = node_set_find(core, floor->set);
        if (set == NULL) {
            set = node_set_add(core, floor->set, effects);
        }
        if (set != NULL && !node_set_open(set) && floor->token > set->token) {
            node_set_record(set, floor->token, fleet_phase_CLOSED, effects);
        }
    }
    // What was found running is on disk before the memory is (P6, P16).
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used && node_set_open(&core->sets[i])) {
            node_set_write(&core->sets[i], effects);
        }
    }
    node_emit(effects, NODE_OUT_TERM)->term = core->term;
    node_note(effects, "memory: %u floors -> known", ok->floors_n);
    core->no_memory = false;
}

static void hello_ok(node_core_t *core, const fleet_hello_ok_t *ok,
                     node_effects_t *effects) {
    node_session_t *session = &core->session;
    if (!take_term(core, ok->term, "hello_ok", effects)) {
        return;
    }
    if (session->state != NODE_SESSION_ASKED || session->hello_due ||
        ok->hello != session->hello || ok->lease_ms == 0) {
        node_note(effects, "hello_ok: of hello %" PRIu64 " -> ignored",
                  ok->hello);
        return;
    }
    if (core->no_memory) {
        take_floors(core, ok, effects);
    }
    session->state = NODE_SESSION_OPEN;
    session->id = ok->session;
    session->lease_ms = ok->lease_ms;
    session->renew_ms = ok->renew_ms != 0 ? ok->renew_ms : ok->lease_ms / 4 + 1;
    // At once, so that what is held is confirmed set by set.
    session->renew_left_ms = 0;
    session->number = 0;
    memset(session->beats, 0, sizeof(session->beats));
    session->lapsed = false;
    session->lease_left_ms = ok->lease_ms > session->hello_age_ms
                                 ? ok->lease_ms - session->hello_age_ms
                                 : 0;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        set->listed_from = 0;
        set->prepare.wanted = false;
        set->watched = false; // the broker says anew what to look at
        set->port_sent = false;
        set->sick_unsaid |= set->sick;
        set->broken_unsaid = set->broken; // its message may have been lost
    }
    node_note(effects, "session %" PRIu64 ": lease %" PRIu64 " ms -> open",
              session->id, session->lease_ms);
}

static bool lists(const fleet_confirmed_t *confirmed, const node_set_t *set) {
    for (uint32_t i = 0; i < confirmed->pairs_n; i++) {
        if (confirmed->pairs[i].token == set->token &&
            strcmp(confirmed->pairs[i].set, set->name) == 0) {
            return true;
        }
    }
    return false;
}

static void confirmed(node_core_t *core, const fleet_confirmed_t *answer,
                      node_effects_t *effects) {
    node_session_t *session = &core->session;
    if (!node_session_takes(core, answer->term, answer->session, "confirmed",
                            core->config.node, effects)) {
        return;
    }
    const node_beat_t *beat = &session->beats[answer->number % NODE_BEATS];
    if (answer->number == 0 || beat->number != answer->number) {
        node_note(effects, "confirmed: heartbeat %" PRIu64 " -> too old",
                  answer->number);
        return;
    }
    if (beat->left_ms > session->lease_left_ms) {
        session->lease_left_ms = beat->left_ms;
    }
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (!set->used || !node_set_open(set) || set->listed_from == 0 ||
            answer->number < set->listed_from) {
            continue; // this very pair was not in that heartbeat
        }
        if (lists(answer, set)) {
            node_lease_give(set, beat->left_ms, effects);
        } else if (set->phase != fleet_phase_RELEASING ||
                   (set->stop == NODE_WHY_NONE &&
                    set->mode == NODE_MODE_IDLE)) { // a release has failed
            node_note(effects, "%s: token %" PRIu64 " not confirmed -> dropped",
                      set->name, set->token);
            set->silence_first = true;
            node_stop_want(set, NODE_WHY_DROP);
        }
    }
}

bool node_session_message(node_core_t *core, const fleet_message_t *message,
                          node_effects_t *effects) {
    if (message->type == FLEET_MESSAGE_hello_ok) {
        hello_ok(core, &message->hello_ok, effects);
    } else if (message->type == FLEET_MESSAGE_confirmed) {
        confirmed(core, &message->confirmed, effects);
    } else if (message->type == FLEET_MESSAGE_say_hello) {
        if (take_term(core, message->say_hello.term, "say_hello", effects)) {
            node_session_end(core, message->say_hello.why, effects);
        }
    } else if (message->type == FLEET_MESSAGE_turned_away) {
        const fleet_reason_t *reason = &message->turned_away.reason;
        node_note(effects, "broker: turned away, %s: %s -> hello again later",
                  reason->code, reason->text);
        node_session_end(core, "turned away", effects);
        core->session.hello_due = false;
        core->session.resend_ms = RESEND_GROWTH * core->config.resend_ms;
        core->session.resend_left_ms = core->session.resend_ms;
    } else {
        return false;
    }
    return true;
}
