// SPDX-License-Identifier: MIT
//
// Nodes: sessions, leases, what a hello shows, silence, being down, the fence.

#include <stdio.h>

#include "broker/core/state.h"

typedef unsigned long long number_t; // for %llu

bool node_online(const broker_core_t *core, uint32_t node) {
    return node_of(core, node)->state == fleet_node_state_ONLINE &&
           node_soft_of(core, node)->session != 0;
}

uint32_t slots_free(const broker_core_t *core, uint32_t node) {
    const broker_node_t *n = node_of(core, node);
    uint64_t taken = (uint64_t)n->used + node_soft_of(core, node)->stray;
    return n->slots > taken ? (uint32_t)(n->slots - taken) : 0;
}

uint64_t lease_full_ms(const broker_core_t *core) {
    return core->config.lease_ms + core->config.margin_ms;
}

static uint32_t timer(uint64_t ms) {
    return ms < NEVER - 1 ? (uint32_t)ms : NEVER - 1;
}

// ---------------------------------------------------------------------- events

// The sets that a node holds, into an event's list.
static uint32_t list_held(step_t *step, uint32_t node,
                          fleet_name_item_t items[FLEET_PAIRS_MAX]) {
    const broker_core_t *core = step->core;
    uint32_t n = 0;
    for (uint32_t i = 0; n < FLEET_PAIRS_MAX; i++) {
        uint32_t set = nth_set(core, i);
        if (set == NOBODY) {
            break;
        }
        if (holder_of(core, set) == node) {
            FLEET_COPY(items[n].name, set_of(core, set)->name);
            n++;
            step_touch_set(step, set);
        }
    }
    return n;
}

void member_start(step_t *step) {
    broker_core_t *core = step->core;
    uint64_t longest_ms = durable_of(core)->longest_ms;
    soft_of(core)->no_lapse_ms = timer(longest_ms);
    for (uint32_t i = 0; i < durable_of(core)->nodes_n; i++) {
        const broker_node_t *n = node_of(core, i);
        if (n->state == fleet_node_state_ONLINE) {
            u32s_of(core, core->left_at)[i] = timer(longest_ms); // P12
        }
        if (n->fencing && step_room(step) > BROKER_ROOM) {
            fleet_fence_failed_t *event = NEW_EVENT(step, fence_failed);
            head_node(step, &event->head, i, "broker", "");
            FLEET_COPY(event->detail,
                       "the broker was started again before it ended");
            step_commit(step);
        }
    }
}

void member_lapse(step_t *step, uint32_t node) {
    broker_core_t *core = step->core;
    assert(node_of(core, node)->state == fleet_node_state_ONLINE);
    fleet_node_lapsed_t *event = NEW_EVENT(step, node_lapsed);
    head_node(step, &event->head, node, "broker", "");
    event->lease_ms = core->config.lease_ms;
    event->sets_n = list_held(step, node, event->sets);
    step_commit(step);
    step_note(step, "%s was not heard for %u ms -> its lease lapsed",
              node_name(core, node), u32s_of(core, core->age_at)[node]);
    u32s_of(core, core->left_at)[node] = NEVER;
    node_soft_of(core, node)->session = 0;
    *greet_of(core, node) = NEVER;
}

void member_down(step_t *step, uint32_t node, fleet_down_how_t how,
                 const char *by, const char *reason, const char *detail) {
    broker_core_t *core = step->core;
    fleet_node_down_t *event = NEW_EVENT(step, node_down);
    head_node(step, &event->head, node, by, reason);
    event->how = how;
    FLEET_COPY(event->detail, detail);
    event->sets_n = list_held(step, node, event->sets);
    step_commit(step);
    step_note(step, "%s: %.160s -> down, %s", node_name(core, node), detail,
              fleet_down_how_word(how));
    u32s_of(core, core->left_at)[node] = NEVER;
    node_soft_of(core, node)->session = 0;
    *greet_of(core, node) = NEVER;
    node_soft_of(core, node)->stray = 0;
}

static void say_hello(step_t *step, uint64_t peer, const char *why) {
    fleet_say_hello_t *say =
        &step_peer(step, peer, FLEET_MESSAGE_say_hello, sizeof(*say))
             ->say_hello;
    say->term = durable_of(step->core)->term;
    FLEET_COPY(say->why, why);
}

void member_session_end(step_t *step, uint32_t node, const char *why) {
    broker_node_soft_t *soft = node_soft_of(step->core, node);
    if (soft->session != 0) {
        say_hello(step, soft->peer, why);
        soft->session = 0;
        *greet_of(step->core, node) = NEVER;
    }
}

// ----------------------------------------------------------------------- hello

static bool turned_away(step_t *step, uint32_t node,
                        const fleet_hello_t *hello) {
    const broker_core_t *core = step->core;
    fleet_reason_t why;
    if (hello->protocol != FLEET_PROTOCOL) {
        fleet_reason_make(
            &why, FLEET_BAD_VERSION, "%s speaks protocol %llu, this broker %d",
            node_name(core, node), (number_t)hello->protocol, FLEET_PROTOCOL);
    } else if (strcmp(hello->site, core->config.site) != 0) {
        fleet_reason_make(
            &why, FLEET_WRONG_SITE, "%s belongs to site %s, this is %s",
            node_name(core, node), hello->site, core->config.site);
    } else if (strcmp(hello->node, node_name(core, node)) != 0) {
        fleet_reason_make(&why, FLEET_NOT_PERMITTED,
                          "the key of %s may not speak for %s",
                          node_name(core, node), hello->node);
    } else {
        return false;
    }
    FLEET_COPY(why.node, node_name(core, node));
    fleet_turned_away_t *away = TO_PEER(step, turned_away);
    away->protocol = FLEET_PROTOCOL;
    away->reason = why;
    step_note(step, "%s says hello -> turned away: %.200s",
              node_name(core, node), why.text);
    return true;
}

static void online_event(step_t *step, uint32_t node,
                         const fleet_hello_t *hello) {
    const broker_core_t *core = step->core;
    const broker_node_t *n = node_of(core, node);
    if (n->state == fleet_node_state_ONLINE &&
        strcmp(n->boot_id, hello->boot_id) == 0 &&
        strcmp(n->kernel_id, hello->kernel_id) == 0 &&
        strcmp(n->version, hello->version) == 0 && n->slots == hello->slots &&
        n->watchdog_ms == hello->watchdog_ms) {
        return;
    }
    fleet_node_online_t *event = NEW_EVENT(step, node_online);
    head_node(step, &event->head, node, "broker", "");
    FLEET_COPY(event->boot_id, hello->boot_id);
    FLEET_COPY(event->version, hello->version);
    FLEET_COPY(event->kernel_id, hello->kernel_id);
    event->slots = hello->slots;
    event->watchdog_ms = hello->watchdog_ms;
    step_commit(step);
}

static void answer_hello(step_t *step, uint32_t node,
                         const fleet_hello_t *hello) {
    const broker_core_t *core = step->core;
    fleet_hello_ok_t *ok = TO_NODE(step, node, hello_ok);
    ok->protocol = FLEET_PROTOCOL;
    ok->hello = hello->hello;
    ok->term = durable_of(core)->term;
    ok->session = node_soft_of(core, node)->session;
    ok->lease_ms = core->config.lease_ms;
    ok->renew_ms = core->config.renew_ms;
    for (uint32_t i = 0; hello->no_memory && ok->floors_n < FLEET_PAIRS_MAX;
         i++) {
        uint32_t set = nth_set(core, i);
        if (set == NOBODY) {
            break;
        }
        const broker_set_t *s = set_of(core, set);
        if (s->token > 0 && set_allows(s, node_name(core, node))) {
            fleet_pair_t *floor = &ok->floors[ok->floors_n++];
            FLEET_COPY(floor->set, s->name);
            floor->token = s->token;
        }
    }
}

static void behind(step_t *step, uint32_t set, uint32_t node, uint64_t token) {
    broker_set_soft_t *soft = set_soft_of(step->core, set);
    const broker_set_t *s = set_of(step->core, set);
    if (!soft->behind) {
        soft->behind = true;
        step_touch_set(step, set);
        step_note(step,
                  "%s shows %s under %llu, the journal knows %llu -> no more "
                  "grants of it (P15)",
                  node_name(step->core, node), s->name, (number_t)token,
                  (number_t)s->token);
    }
}

// A record that is not closed, of a set that the node should not have.
static void stale_record(step_t *step, uint32_t set, uint32_t node,
                         uint64_t token) {
    const broker_core_t *core = step->core;
    const broker_set_t *s = set_of(core, set);
    fleet_stale_refused_t *event = NEW_EVENT(step, stale_refused);
    head_node(step, &event->head, node, "broker", "");
    FLEET_COPY(event->head.set, s->name);
    event->head.token = s->token;
    event->token_shown = token;
    event->token_now = s->token;
    FLEET_COPY(event->where, "broker");
    step_commit(step);
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (s->debts[i].node == node && s->debts[i].token >= token) {
            return; // its release comes with the debt
        }
    }
    release_send(step, set, node, token, 0, true);
}

static void hello_record(step_t *step, uint32_t node,
                         const fleet_pair_t *record, bool no_memory,
                         bool rebooted) {
    const broker_core_t *core = step->core;
    uint32_t set = find_set(core, record->set);
    if (set == NOBODY) {
        step_note(step, "%s has a record of %s, which is not known -> ignored",
                  node_name(core, node), record->set);
        return;
    }
    const broker_set_t *s = set_of(core, set);
    if (record->token > s->token) {
        behind(step, set, node, record->token);
        return;
    }
    if (record->phase == fleet_phase_CLOSED) {
        if (!no_memory) { // P16: never evidence
            report_closed(step, set, node, record->token,
                          rebooted ? "boot" : "hello", rebooted);
        }
        return;
    }
    if (s->holder != node) {
        stale_record(step, set, node, record->token);
    } else if (record->token == s->holder_token &&
               record->phase == fleet_phase_RELEASING) {
        set_soft_of(core, set)->prepared = true; // its release was sent
    } else if (record->token == s->holder_token &&
               record->phase == fleet_phase_HELD) {
        report_acquired(step, set, node, record->token);
    }
}

// P8: what the journal says it holds and its hello does not show is called
// back.
static void recall_missing(step_t *step, uint32_t node,
                           const fleet_hello_t *hello) {
    const broker_core_t *core = step->core;
    uint32_t recalled = 0;
    for (uint32_t i = 0; i < durable_of(core)->sets_n; i++) {
        if (holder_of(core, i) != node) {
            continue;
        }
        const broker_set_t *s = set_of(core, i);
        bool shown = false;
        for (uint32_t j = 0; j < hello->records_n; j++) {
            const fleet_pair_t *record = &hello->records[j];
            shown = shown || (strcmp(record->set, s->name) == 0 &&
                              record->phase != fleet_phase_CLOSED &&
                              record->token == s->holder_token);
        }
        // A grantee is sent its acquire again instead.
        bool granted = s->transfer.id != 0 && s->transfer.granted;
        set_soft_of(core, i)->recall = !shown && !granted;
        recalled += !shown && !granted ? 1 : 0;
    }
    if (recalled > 0) {
        step_note(step,
                  "%s has no record of %u sets that it holds -> called "
                  "back",
                  node_name(core, node), recalled);
    }
}

static void open_session(step_t *step, uint32_t node,
                         const fleet_hello_t *hello) {
    broker_core_t *core = step->core;
    broker_node_soft_t *soft = node_soft_of(core, node);
    soft->session =
        (durable_of(core)->term << 24) + (++soft_of(core)->sessions);
    soft->hello = hello->hello;
    soft->heard = true;
    soft->stray = 0;
    FLEET_COPY(soft->agent_id, hello->agent_id);
    FLEET_COPY(soft->kernel, hello->kernel);
}

static void renew(broker_core_t *core, uint32_t node, uint64_t ms) {
    uint32_t *left = &u32s_of(core, core->left_at)[node];
    uint32_t full = timer(ms);
    *left = *left == NEVER || *left < full ? full : *left;
    u32s_of(core, core->age_at)[node] = 0;
}

static void hello(step_t *step, uint32_t node, const fleet_hello_t *hello) {
    broker_core_t *core = step->core;
    broker_node_soft_t *soft = node_soft_of(core, node);
    if (turned_away(step, node, hello)) {
        return;
    }
    bool same_agent =
        soft->session != 0 && strcmp(soft->agent_id, hello->agent_id) == 0;
    if (same_agent && hello->hello < soft->hello) {
        return; // late
    }
    bool again = same_agent && hello->hello == soft->hello;
    soft->fence_back =
        soft->fence_back || strcmp(hello->boot_id, soft->fence_boot) != 0;
    const broker_node_t *n = node_of(core, node);
    bool rebooted =
        n->boot_id[0] != '\0' && strcmp(n->boot_id, hello->boot_id) != 0;
    online_event(step, node, hello);
    if (!again) {
        open_session(step, node, hello);
    }
    soft->peer = step->in->peer;
    renew(core, node, durable_of(core)->longest_ms);
    broker_effect_t *session = step_effect(step, BROKER_OUT_SESSION);
    FLEET_COPY(session->name, n->name);
    session->peer = soft->peer;
    answer_hello(step, node, hello);
    step_note(step, "%s says hello, boot %.8s, %u records -> session %llu%s",
              n->name, hello->boot_id, hello->records_n,
              (number_t)soft->session, hello->no_memory ? ", no memory" : "");
    if (hello->term > durable_of(core)->term && !soft_of(core)->behind) {
        soft_of(core)->behind = true;
        step_note(
            step, "%s has heard reign %llu, this is %llu -> no more grants",
            n->name, (number_t)hello->term, (number_t)durable_of(core)->term);
    }
    *greet_of(core, node) =
        0; // what ran here is started there, after the records
    for (uint32_t i = 0; i < hello->records_n; i++) {
        if (step_room(step) < 2 * BROKER_ROOM) {
            // What is decided so far stands; the rest comes with the next
            // hello.
            member_session_end(step, node, "more than one answer holds");
            return;
        }
        hello_record(step, node, &hello->records[i], hello->no_memory,
                     rebooted);
    }
    if (soft->session == 0) {
        return; // it was displaced by what it showed
    }
    recall_missing(step, node, hello);
    member_greet(step, node);
}

// After a hello, set by set: what ran there, what may run there, what stands.
void member_greet(step_t *step, uint32_t node) {
    broker_core_t *core = step->core;
    uint32_t *greet = greet_of(core, node);
    while (*greet != NEVER) {
        if (*greet >= durable_of(core)->sets_n) {
            *greet = NEVER;
            break;
        }
        if (step_room(step) < BROKER_ROOM) {
            break;
        }
        uint32_t set = (*greet)++;
        const broker_set_t *s = set_of(core, set);
        if (s->defined && set_allows(s, node_name(core, node))) {
            watch_send(step, set, node, false);
        }
        if (s->resume == node) {
            boot_rule(step, set, node);
        } else {
            commands_send(step, set, node);
        }
    }
}

// ------------------------------------------------------------------- heartbeat

// P4: confirmed is what the journal says this node holds now; a forced transfer
// takes that back from its commit on (P1), because the set's token is then
// above.
static bool confirms(const broker_core_t *core, uint32_t node,
                     const fleet_pair_t *pair) {
    uint32_t set = find_set(core, pair->set);
    if (set == NOBODY) {
        return false;
    }
    const broker_set_t *s = set_of(core, set);
    return s->holder == node && s->holder_token == pair->token &&
           s->token == pair->token && !set_soft_of(core, set)->recall;
}

static void heartbeat(step_t *step, uint32_t node,
                      const fleet_heartbeat_t *beat) {
    broker_core_t *core = step->core;
    broker_node_soft_t *soft = node_soft_of(core, node);
    renew(core, node, lease_full_ms(core));
    soft->load_milli = beat->load_milli;
    fleet_confirmed_t *answer = TO_NODE(step, node, confirmed);
    answer->term = durable_of(core)->term;
    answer->session = soft->session;
    answer->number = beat->number;
    uint32_t stray = 0;
    for (uint32_t i = 0; i < beat->pairs_n; i++) {
        const fleet_pair_t *pair = &beat->pairs[i];
        if (confirms(core, node, pair)) {
            fleet_pair_t *confirmed = &answer->pairs[answer->pairs_n++];
            *confirmed = *pair;
            continue;
        }
        uint32_t set = find_set(core, pair->set);
        if (set == NOBODY) {
            continue;
        }
        const broker_set_t *s = set_of(core, set);
        uint32_t nodes[BROKER_USES_MAX];
        bool counted = false;
        for (uint32_t j = uses_of(s, nodes); j > 0; j--) {
            counted = counted || nodes[j - 1] == node;
        }
        stray += !counted && s->facts.addresses_n > 0 ? 1 : 0;
        if (pair->token > s->token && step_room(step) > BROKER_ROOM) {
            behind(step, set, node, pair->token);
        }
    }
    if (stray != soft->stray) {
        soft->stray = stray;
        step_touch_node(step, node);
        step_note(step, "%s holds %u sets that it should not -> not confirmed",
                  node_name(core, node), stray);
    }
}

// ------------------------------------------------------------------- the fence

void member_fence(step_t *step, uint32_t node, const fleet_request_t *request,
                  const char *by) {
    broker_core_t *core = step->core;
    broker_node_soft_t *soft = node_soft_of(core, node);
    fleet_fence_requested_t *event = NEW_EVENT(step, fence_requested);
    head_node(step, &event->head, node, by, request->reason);
    event->sets_n = list_held(step, node, event->sets);
    step_commit(step);
    step_note(step, "%s asks to fence %s, %u sets on it -> its command runs",
              by, node_name(core, node), event->sets_n);
    soft->fence_peer = step->in->peer;
    soft->fence_content = request_content(request);
    FLEET_COPY(soft->fence_request, request->request);
    FLEET_COPY(soft->fence_by, by);
    FLEET_COPY(soft->fence_boot, node_of(core, node)->boot_id);
    soft->fence_back = false;
    FLEET_COPY(soft->fence_reason, request->reason);
    broker_effect_t *fence = step_effect(step, BROKER_OUT_FENCE);
    FLEET_COPY(fence->name, node_name(core, node));
}

static void fence_refused(step_t *step, uint32_t node, const char *detail) {
    const broker_node_soft_t *soft = node_soft_of(step->core, node);
    fleet_refused_t no = {0};
    FLEET_COPY(no.request, soft->fence_request);
    fleet_reason_t *why = reason_next(&no);
    fleet_reason_make(why, FLEET_FENCE_FAILED,
                      "the fence command of %s failed: %.160s",
                      node_name(step->core, node), detail);
    reason_about(why, "", node_name(step->core, node));
    refuse(step, soft->fence_peer, &no);
}

void member_fenced(step_t *step, uint32_t node) {
    broker_core_t *core = step->core;
    broker_node_soft_t *soft = node_soft_of(core, node);
    if (!node_of(core, node)->fencing) {
        step_note(step, "a fence command of %s ended -> nobody asked",
                  node_name(core, node));
        return;
    }
    // P1: what was cut off and has booted since is not down (any more).
    bool ok = step->in->ok && !soft->fence_back;
    const char *detail =
        ok == step->in->ok ? step->in->text : "it has booted again meanwhile";
    if (ok) {
        member_down(step, node, fleet_down_how_FENCED, soft->fence_by,
                    soft->fence_reason, step->in->text);
    } else {
        fleet_fence_failed_t *event = NEW_EVENT(step, fence_failed);
        head_node(step, &event->head, node, soft->fence_by, soft->fence_reason);
        FLEET_COPY(event->detail, detail);
        step_commit(step);
        step_note(step, "the fence command of %s ended -> failed: %.160s",
                  node_name(core, node), detail);
    }
    if (soft->fence_request[0] == '\0') {
        return;
    }
    if (ok) {
        fleet_done_t done = {.changed = true};
        FLEET_COPY(done.request, soft->fence_request);
        FLEET_FORMAT(done.text, "%s is fenced: %.160s", node_name(core, node),
                     step->in->text);
        answer_done(step, soft->fence_peer, &done, soft->fence_content);
    } else {
        fence_refused(step, node, detail);
    }
    memset(soft->fence_request, 0, sizeof(soft->fence_request));
}

// -------------------------------------------------------------------- messages

// The session that a message was sent in; 0 for one that carries none.
static uint64_t session_of(const fleet_message_t *message) {
    // Every message of a node begins with its session, but two.
    return message->type == FLEET_MESSAGE_heartbeat ? message->heartbeat.session
                                                    : message->goodbye.session;
}

void member_message(step_t *step, uint32_t node) {
    const broker_core_t *core = step->core;
    const fleet_message_t *message = step->in->message;
    const broker_node_soft_t *soft = node_soft_of(core, node);
    if (message->type == FLEET_MESSAGE_hello) {
        hello(step, node, &message->hello);
        return;
    }
    if (message->type < FLEET_MESSAGE_heartbeat ||
        message->type > FLEET_MESSAGE_goodbye) {
        step_note(step, "%s sends message %d -> not a node's, ignored",
                  node_name(core, node), (int)message->type);
        return;
    }
    if (soft->session == 0 || session_of(message) != soft->session) {
        if (message->type == FLEET_MESSAGE_heartbeat) {
            say_hello(step, step->in->peer,
                      soft->heard ? "its session is over" : "another reign");
        }
        return; // P2: what was said in another session comes again after a
                // hello
    }
    if (message->type == FLEET_MESSAGE_heartbeat) {
        heartbeat(step, node, &message->heartbeat);
    } else if (message->type == FLEET_MESSAGE_port) {
        port_message(step, node, &message->port);
    } else if (message->type == FLEET_MESSAGE_goodbye) {
        fleet_id_t by;
        FLEET_FORMAT(by, "node:%s", node_name(core, node));
        member_down(step, node, fleet_down_how_SHUTDOWN, by,
                    message->goodbye.reason, "it went down in order");
    } else {
        report_message(step, node);
    }
}
