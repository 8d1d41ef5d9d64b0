// SPDX-License-Identifier: MIT
//
// The fold of the journal: what each event does to the durable state.  The only
// place that writes there, for a step as for a replay (S5).  It decides
// nothing; it refuses an event that cannot follow.

#include "broker/core/state.h"

// ------------------------------------------------------------------ the places

static uint32_t use(uint32_t nodes[BROKER_USES_MAX], uint32_t n,
                    uint32_t node) {
    for (uint32_t i = 0; i < n; i++) {
        if (nodes[i] == node) {
            return n;
        }
    }
    if (node == NOBODY) {
        return n;
    }
    nodes[n] = node;
    return n + 1;
}

// P19: the holder; while a transfer runs both of its ends; a displaced node
// until it has dropped the set.
uint32_t uses_of(const broker_set_t *set, uint32_t nodes[BROKER_USES_MAX]) {
    uint32_t n = use(nodes, 0, set->holder);
    if (set->transfer.id != 0) {
        n = use(nodes, n, set->transfer.from);
        n = use(nodes, n, set->transfer.to);
    }
    for (uint32_t i = 0; i < set->debts_n; i++) {
        n = use(nodes, n, set->debts[i].node);
    }
    return n;
}

static void take_places(broker_core_t *core, const broker_set_t *set) {
    uint32_t nodes[BROKER_USES_MAX];
    uint32_t n = uses_of(set, nodes);
    for (uint32_t i = 0; i < n; i++) {
        broker_node_t *node = node_of(core, nodes[i]);
        node->sets++;
        node->used += set->facts.addresses_n > 0 ? 1 : 0;
    }
    for (uint32_t i = 0; i < set->debts_n; i++) {
        node_of(core, set->debts[i].node)->debts++;
    }
}

static void give_places(broker_core_t *core, const broker_set_t *set) {
    uint32_t nodes[BROKER_USES_MAX];
    uint32_t n = uses_of(set, nodes);
    for (uint32_t i = 0; i < n; i++) {
        broker_node_t *node = node_of(core, nodes[i]);
        assert(node->sets > 0);
        node->sets--;
        node->used -= set->facts.addresses_n > 0 ? 1 : 0;
    }
    for (uint32_t i = 0; i < set->debts_n; i++) {
        node_of(core, set->debts[i].node)->debts--;
    }
}

// ------------------------------------------------------------------------ sets

// Facts are copied field by field past the lists' ends: what lies there is not
// part of the message.
static void copy_facts(fleet_facts_t *to, const fleet_facts_t *from) {
    memset(to, 0, sizeof(*to));
    FLEET_COPY(to->home, from->home);
    to->nodes_n = from->nodes_n;
    for (uint32_t i = 0; i < from->nodes_n; i++) {
        FLEET_COPY(to->nodes[i].name, from->nodes[i].name);
    }
    FLEET_COPY(to->disk_group, from->disk_group);
    FLEET_COPY(to->driver, from->driver);
    to->addresses_n = from->addresses_n;
    for (uint32_t i = 0; i < from->addresses_n; i++) {
        FLEET_COPY(to->addresses[i].address, from->addresses[i].address);
    }
    FLEET_COPY(to->mac, from->mac);
    to->without_lease = from->without_lease;
    to->boot = from->boot;
    to->takeover = from->takeover;
    to->start_ms = from->start_ms;
    to->stop_ms = from->stop_ms;
    memcpy(to->digest, from->digest, sizeof(to->digest));
}

static fleet_err_t fold_defined(broker_core_t *core,
                                const fleet_set_defined_t *event) {
    broker_durable_t *durable = durable_of(core);
    uint32_t set = find_set(core, event->head.set);
    if (set == NOBODY) {
        if (durable->sets_n == durable->limits.sets) {
            return FLEET_SITE_FULL;
        }
        set = durable->sets_n++;
        broker_set_t *s = set_of(core, set);
        FLEET_COPY(s->name, event->head.set);
        s->holder = NOBODY;
        s->last_owner = NOBODY;
        s->resume = NOBODY;
        s->evidence = fleet_evidence_RELEASED; // nobody ever had it
        order_set(core, set);
    }
    broker_set_t *s = set_of(core, set);
    if (s->defined) {
        return FLEET_BAD_MESSAGE;
    }
    s->defined = true;
    s->rev = event->rev;
    s->pending = false;
    s->wanted_up = false;
    copy_facts(&s->facts, &event->facts);
    return FLEET_OK;
}

static fleet_err_t fold_changed(broker_set_t *s,
                                const fleet_set_changed_t *event) {
    if (!s->defined || event->rev <= s->rev) {
        return FLEET_BAD_MESSAGE;
    }
    s->rev = event->rev;
    s->pending = event->pending;
    copy_facts(&s->facts, &event->facts);
    return FLEET_OK;
}

static fleet_err_t fold_removed(broker_set_t *s) {
    if (!s->defined || s->holder != NOBODY || s->transfer.id != 0) {
        return FLEET_BAD_MESSAGE;
    }
    s->defined = false;
    s->wanted_up = false;
    s->resume = NOBODY;
    return FLEET_OK;
}

static void well(broker_set_t *s) {
    s->bad_n = 0;
    memset(s->bad, 0, sizeof(s->bad));
    memset(s->bad_text, 0, sizeof(s->bad_text));
}

static void unstick(broker_set_t *s) {
    s->stuck = false;
    memset(s->stuck_code, 0, sizeof(s->stuck_code));
    memset(s->stuck_resource, 0, sizeof(s->stuck_resource));
    memset(s->stuck_text, 0, sizeof(s->stuck_text));
}

static void let_go(broker_set_t *s) {
    s->last_owner = s->holder;
    s->holder = NOBODY;
    s->holder_token = 0;
    s->up = false;
    unstick(s);
    well(s);
}

static fleet_err_t owe(broker_set_t *s, uint32_t node, uint64_t token) {
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (s->debts[i].node == node) {
            // What only the lock still names may be older than what it owes.
            if (token > s->debts[i].token) {
                s->debts[i].token = token;
            }
            return FLEET_OK;
        }
    }
    if (s->debts_n == BROKER_DEBTS_MAX) {
        return FLEET_BAD_MESSAGE;
    }
    s->debts[s->debts_n].node = node;
    s->debts[s->debts_n].token = token;
    s->debts_n++;
    return FLEET_OK;
}

static fleet_err_t pay(broker_set_t *s, uint32_t node) {
    for (uint32_t i = 0; i < s->debts_n; i++) {
        if (s->debts[i].node == node) {
            memmove(&s->debts[i], &s->debts[i + 1],
                    (s->debts_n - i - 1) * sizeof(s->debts[0]));
            s->debts_n--;
            memset(&s->debts[s->debts_n], 0, sizeof(s->debts[0]));
            return FLEET_OK;
        }
    }
    return FLEET_BAD_MESSAGE;
}

// ------------------------------------------------------------------- transfers

static void remember(broker_core_t *core, uint32_t set) {
    broker_durable_t *durable = durable_of(core);
    const broker_transfer_t *t = &set_of(core, set)->transfer;
    if (t->request[0] == '\0') {
        return;
    }
    uint32_t i = durable->requests_next;
    durable->requests_next = (i + 1) % durable->limits.requests;
    if (durable->requests_n < durable->limits.requests) {
        durable->requests_n++;
    }
    broker_request_t *request = request_of(core, i);
    memset(request, 0, sizeof(*request));
    FLEET_COPY(request->id, t->request);
    request->transfer = t->id;
    request->set = set;
    request->to = t->to;
    request->kind = t->kind;
    FLEET_COPY(request->resource, t->resource);
    ((uint64_t *)core_at(core, core->hashes_at))[i] = text_hash(0, t->request);
}

// Empty is nobody; any other name must be known.
static bool node_named(const broker_core_t *core, const char *name,
                       uint32_t *ret_node) {
    uint32_t node = name[0] == '\0' ? NOBODY : find_node(core, name);
    if (name[0] != '\0' && node == NOBODY) {
        return false;
    }
    *ret_node = node;
    return true;
}

static bool wants_up(fleet_kind_t kind) {
    return kind != fleet_kind_STOP && kind != fleet_kind_UNLOCK;
}

static fleet_err_t fold_requested(broker_core_t *core, uint32_t set,
                                  const fleet_transfer_requested_t *event) {
    broker_set_t *s = set_of(core, set);
    broker_transfer_t *t = &s->transfer;
    uint32_t from = NOBODY;
    uint32_t to = NOBODY;
    uint32_t executor = NOBODY;
    if (!s->defined || t->id != 0 || event->head.token < s->token ||
        event->head.token > FLEET_TOKEN_MAX ||
        !node_named(core, event->from, &from) ||
        !node_named(core, event->to, &to) ||
        !node_named(core, event->executor, &executor)) {
        return FLEET_BAD_MESSAGE;
    }
    memset(t, 0, sizeof(*t));
    t->id = event->head.seq;
    t->token = event->head.token;
    t->kind = event->kind;
    t->from = from;
    t->to = to;
    t->executor = executor;
    t->in_place = event->in_place;
    FLEET_COPY(t->request, event->request);
    FLEET_COPY(t->by, event->head.by);
    FLEET_COPY(t->reason, event->head.reason);
    FLEET_COPY(t->resource, event->resource);
    t->ignored_n = event->ignored_n;
    for (uint32_t i = 0; i < event->ignored_n; i++) {
        FLEET_COPY(t->ignored[i].name, event->ignored[i].name);
    }
    s->token = event->head.token; // P1: a forced one's is committed here
    if (t->kind != fleet_kind_RESTART) {
        s->wanted_up = wants_up(t->kind);
    }
    s->resume = NOBODY;
    remember(core, set);
    return FLEET_OK;
}

static fleet_err_t fold_released(broker_set_t *s, uint32_t node,
                                 const fleet_set_released_t *event) {
    const fleet_head_t *head = &event->head;
    if (node == NOBODY || head->token > s->token) {
        return FLEET_BAD_MESSAGE;
    }
    s->evidence = event->evidence;
    if (s->holder == node) {
        let_go(s);
    }
    if (s->transfer.id != 0) {
        s->transfer.released = true;
        s->transfer.evidence = event->evidence;
    }
    // A stop of the machine, not of the set: it comes back with its node.
    if (event->by_itself && (strcmp(head->reason, "boot") == 0 ||
                             strcmp(head->reason, "leave") == 0)) {
        s->resume = node;
    }
    if (event->evidence == fleet_evidence_RELEASED ||
        event->evidence == fleet_evidence_REBOOTED) {
        return FLEET_OK;
    }
    return owe(s, node, head->token); // P5
}

static fleet_err_t fold_granted(broker_set_t *s, uint32_t node,
                                const fleet_set_granted_t *event) {
    broker_transfer_t *t = &s->transfer;
    const fleet_head_t *head = &event->head;
    if (node == NOBODY || t->id == 0 || head->token < s->token ||
        head->token <= s->holder_token || head->token > FLEET_TOKEN_MAX ||
        (s->holder != NOBODY && (s->holder != node || !event->in_place))) {
        return FLEET_BAD_MESSAGE;
    }
    s->holder = node;
    s->holder_token = head->token;
    s->token = head->token;
    s->evidence = event->evidence;
    s->up = false;
    s->pending = s->pending && event->in_place;
    if (event->returning) {
        s->wanted_up = true; // also of a stop that was called off
    }
    well(s);
    t->granted = true;
    t->returning = event->returning;
    t->grant_in_place = event->in_place;
    t->from_token = event->from_token;
    t->evidence = event->evidence;
    if (event->in_place && event->returning && !t->failed) {
        t->failed = true;
        fleet_reason_make(&t->why, FLEET_HELD, "%s", head->reason);
        FLEET_COPY(t->why.set, s->name);
        FLEET_COPY(t->why.node, head->node);
    }
    return FLEET_OK;
}

static fleet_err_t fold_acquired(broker_set_t *s, uint32_t node,
                                 const fleet_set_acquired_t *event) {
    if (node == NOBODY || s->holder != node ||
        event->head.token != s->holder_token) {
        return FLEET_BAD_MESSAGE;
    }
    s->up = true;
    unstick(s);
    return FLEET_OK;
}

static fleet_err_t
fold_acquire_failed(broker_set_t *s, uint32_t node,
                    const fleet_acquire_failed_event_t *event) {
    broker_transfer_t *t = &s->transfer;
    if (node == NOBODY || s->holder != node ||
        event->head.token != s->holder_token) {
        return FLEET_BAD_MESSAGE;
    }
    if (event->undone) {
        let_go(s);
        s->evidence = fleet_evidence_RELEASED;
    }
    if (t->id != 0 && !t->failed) {
        t->failed = true;
        fleet_reason_make(&t->why, FLEET_START_FAILED, "%s", event->text);
        FLEET_COPY(t->why.set, s->name);
        FLEET_COPY(t->why.node, event->head.node);
        FLEET_COPY(t->why.resource, event->resource);
    }
    return FLEET_OK;
}

static fleet_err_t fold_ended(broker_core_t *core, broker_set_t *s,
                              const fleet_transfer_ended_t *event) {
    if (s->transfer.id == 0 || s->transfer.id != event->head.transfer) {
        return FLEET_BAD_MESSAGE;
    }
    uint32_t request = find_request(core, s->transfer.request);
    if (request != NOBODY &&
        request_of(core, request)->transfer == s->transfer.id) {
        request_of(core, request)->outcome = event->outcome;
    }
    memset(&s->transfer, 0, sizeof(s->transfer));
    return FLEET_OK;
}

static void fold_stuck(broker_set_t *s, const fleet_set_stuck_t *event) {
    s->stuck = true;
    FLEET_COPY(s->stuck_code, event->code);
    FLEET_COPY(s->stuck_resource, event->resource);
    FLEET_COPY(s->stuck_text, event->text);
}

// The list's end is rewritten as zeroes, so that equal lists are equal bytes.
static void fold_health(broker_set_t *s, const char *resource, bool ok,
                        const char *text) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->bad_n; i++) {
        if (strcmp(s->bad[i], resource) != 0) {
            memmove(s->bad[n++], s->bad[i], sizeof(s->bad[0]));
        }
    }
    if (!ok && n < FLEET_RESOURCES_MAX) {
        FLEET_COPY(s->bad[n], resource);
        n++;
    }
    memset(s->bad[n < FLEET_RESOURCES_MAX ? n : 0], 0,
           n < FLEET_RESOURCES_MAX
               ? (FLEET_RESOURCES_MAX - n) * sizeof(s->bad[0])
               : 0);
    s->bad_n = n;
    if (!ok) {
        FLEET_COPY(s->bad_text, text);
    } else if (n == 0) {
        memset(s->bad_text, 0, sizeof(s->bad_text));
    }
}

static fleet_err_t fold_set(broker_core_t *core, const fleet_message_t *event) {
    const fleet_head_t *head = &event->event.head;
    uint32_t set = find_set(core, head->set);
    uint32_t node = NOBODY;
    if (set == NOBODY || !node_named(core, head->node, &node)) {
        return FLEET_BAD_MESSAGE;
    }
    broker_set_t *s = set_of(core, set);
    switch ((uint32_t)event->type) {
    case FLEET_MESSAGE_set_changed:
        return fold_changed(s, &event->set_changed);
    case FLEET_MESSAGE_set_removed:
        return fold_removed(s);
    case FLEET_MESSAGE_transfer_requested:
        return fold_requested(core, set, &event->transfer_requested);
    case FLEET_MESSAGE_cancel_requested:
        s->transfer.cancelled = s->transfer.id != 0;
        return FLEET_OK;
    case FLEET_MESSAGE_set_released:
        return fold_released(s, node, &event->set_released);
    case FLEET_MESSAGE_set_granted:
        return fold_granted(s, node, &event->set_granted);
    case FLEET_MESSAGE_set_acquired:
        return fold_acquired(s, node, &event->set_acquired);
    case FLEET_MESSAGE_acquire_failed_event:
        return fold_acquire_failed(s, node, &event->acquire_failed_event);
    case FLEET_MESSAGE_transfer_ended:
        return fold_ended(core, s, &event->transfer_ended);
    case FLEET_MESSAGE_set_stuck:
        fold_stuck(s, &event->set_stuck);
        return FLEET_OK;
    case FLEET_MESSAGE_set_unstuck:
        unstick(s);
        return FLEET_OK;
    case FLEET_MESSAGE_set_degraded:
        fold_health(s, event->set_degraded.resource, false,
                    event->set_degraded.text);
        return FLEET_OK;
    case FLEET_MESSAGE_set_recovered:
        fold_health(s, event->set_recovered.resource, true, "");
        return FLEET_OK;
    case FLEET_MESSAGE_debt_paid:
        return pay(s, node);
    default:
        return FLEET_BAD_MESSAGE;
    }
}

// ----------------------------------------------------------------------- nodes

static fleet_err_t fold_added(broker_core_t *core, const char *name) {
    broker_durable_t *durable = durable_of(core);
    if (find_node(core, name) != NOBODY || name[0] == '\0') {
        return FLEET_BAD_MESSAGE;
    }
    if (durable->nodes_n == durable->limits.nodes) {
        return FLEET_SITE_FULL;
    }
    uint32_t node = durable->nodes_n++;
    FLEET_COPY(node_of(core, node)->name, name);
    order_node(core, node);
    return FLEET_OK;
}

static void not_down(broker_node_t *n) {
    n->how = fleet_down_how_NONE;
    memset(n->down_by, 0, sizeof(n->down_by));
    memset(n->down_detail, 0, sizeof(n->down_detail));
}

static fleet_err_t fold_node(broker_core_t *core,
                             const fleet_message_t *event) {
    const fleet_head_t *head = &event->event.head;
    uint32_t node = find_node(core, head->node);
    if (node == NOBODY) {
        return FLEET_BAD_MESSAGE;
    }
    broker_node_t *n = node_of(core, node);
    const fleet_message_type_t type = event->type;
    if (type == FLEET_MESSAGE_node_online) {
        const fleet_node_online_t *online = &event->node_online;
        n->state = fleet_node_state_ONLINE;
        n->state_seq = head->seq;
        n->slots = online->slots;
        n->watchdog_ms = online->watchdog_ms;
        FLEET_COPY(n->boot_id, online->boot_id);
        FLEET_COPY(n->kernel_id, online->kernel_id);
        FLEET_COPY(n->version, online->version);
        not_down(n);
    } else if (type == FLEET_MESSAGE_node_lapsed) {
        n->state = fleet_node_state_SILENT;
        n->state_seq = head->seq;
        not_down(n);
    } else if (type == FLEET_MESSAGE_node_down) {
        n->state = fleet_node_state_DOWN;
        n->state_seq = head->seq;
        n->how = event->node_down.how;
        n->fencing = n->fencing && n->how != fleet_down_how_FENCED;
        FLEET_COPY(n->down_by, head->by);
        FLEET_COPY(n->down_detail, event->node_down.detail);
    } else if (type == FLEET_MESSAGE_fence_requested) {
        n->fencing = true;
    } else if (type == FLEET_MESSAGE_fence_failed) {
        n->fencing = false;
    }
    return FLEET_OK;
}

// ------------------------------------------------------------------------ keys

static fleet_err_t fold_admitted(broker_core_t *core,
                                 const fleet_key_admitted_t *event) {
    broker_durable_t *durable = durable_of(core);
    if (find_key(core, event->key) != NOBODY) {
        return FLEET_BAD_MESSAGE;
    }
    if (durable->keys_n == durable->limits.keys) {
        return FLEET_SITE_FULL;
    }
    uint32_t i = durable->keys_n++;
    broker_key_t *key = key_of(core, i);
    memcpy(key->key, event->key, sizeof(key->key));
    FLEET_COPY(key->name, event->name);
    key->role = event->role;
    key->since_us = event->head.time_us;
    order_key(core, i);
    return FLEET_OK;
}

static fleet_err_t fold_revoked(broker_core_t *core,
                                const fleet_key_revoked_t *event) {
    broker_durable_t *durable = durable_of(core);
    uint32_t i = find_key(core, event->key);
    if (i == NOBODY) {
        return FLEET_BAD_MESSAGE;
    }
    memmove(key_of(core, i), key_of(core, i + 1),
            (durable->keys_n - i - 1) * sizeof(broker_key_t));
    durable->keys_n--;
    memset(key_of(core, durable->keys_n), 0, sizeof(broker_key_t));
    unorder_keys(core);
    return FLEET_OK;
}

// ---------------------------------------------------------------------- events

static fleet_err_t fold_reign(broker_core_t *core,
                              const fleet_reign_began_t *event) {
    broker_durable_t *durable = durable_of(core);
    uint64_t full_ms = event->lease_ms + event->margin_ms;
    if (event->head.term <= durable->term ||
        event->head.term > FLEET_TERM_MAX) {
        return FLEET_BAD_MESSAGE;
    }
    durable->term = event->head.term;
    durable->longest_ms =
        full_ms > durable->longest_ms ? full_ms : durable->longest_ms;
    return FLEET_OK;
}

static fleet_err_t fold(broker_core_t *core, const fleet_message_t *event) {
    switch ((uint32_t)event->type) {
    case FLEET_MESSAGE_reign_began:
        return fold_reign(core, &event->reign_began);
    case FLEET_MESSAGE_set_defined:
        return fold_defined(core, &event->set_defined);
    case FLEET_MESSAGE_node_added:
        return fold_added(core, event->event.head.node);
    case FLEET_MESSAGE_node_online:
    case FLEET_MESSAGE_node_lapsed:
    case FLEET_MESSAGE_node_down:
    case FLEET_MESSAGE_fence_requested:
    case FLEET_MESSAGE_fence_failed:
        return fold_node(core, event);
    case FLEET_MESSAGE_stale_refused:
        return FLEET_OK; // for the record
    case FLEET_MESSAGE_key_admitted:
        return fold_admitted(core, &event->key_admitted);
    case FLEET_MESSAGE_key_revoked:
        return fold_revoked(core, &event->key_revoked);
    default:
        return fold_set(core, event);
    }
}

fleet_err_t broker_core_apply(broker_core_t *core,
                              const fleet_message_t *event) {
    broker_durable_t *durable = durable_of(core);
    if (!fleet_message_is_event(event->type) ||
        event->event.head.seq != durable->seq + 1 ||
        event->event.head.seq > FLEET_SEQ_MAX) {
        return FLEET_BAD_MESSAGE;
    }
    uint32_t set = find_set(core, event->event.head.set);
    if (set != NOBODY) {
        give_places(core, set_of(core, set));
    }
    fleet_err_t err = fold(core, event);
    set = find_set(core, event->event.head.set);
    if (set != NOBODY) {
        take_places(core, set_of(core, set));
        u32s_of(core, core->holders_at)[set] = set_of(core, set)->holder;
    }
    if (err == FLEET_OK) {
        durable->seq++;
    }
    return err;
}
