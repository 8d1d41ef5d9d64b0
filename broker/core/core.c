// SPDX-License-Identifier: MIT
//
// The core as its loop sees it: the block of memory, the step that hands an
// input to the file that knows about it, the passing of time, the invariants.

#include "broker/core/state.h"

// ------------------------------------------------------------------- the block

static size_t place(size_t *end, size_t count, size_t size) {
    size_t at = (*end + 15) & ~(size_t)15;
    *end = at + count * size;
    return at;
}

static uint32_t smaller(uint64_t a, uint64_t b) {
    return (uint32_t)(a < b ? a : b);
}

// Ports are a pool: a site of many nodes has sets that name a few of them.
static uint32_t ports_of(const broker_limits_t *limits) {
    uint64_t pairs = (uint64_t)limits->nodes * limits->sets;
    uint64_t wanted = (uint64_t)limits->sets * 16;
    return smaller(pairs, wanted > 4096 ? wanted : 4096);
}

static void lay_out(const broker_limits_t *limits, broker_core_t *core) {
    size_t sets = limits->sets;
    size_t nodes = limits->nodes;
    size_t keys = limits->keys;
    size_t requests = limits->requests;
    core->ports_max = ports_of(limits);
    core->answers_max = smaller(BROKER_ANSWERS_MAX, requests);
    size_t end = sizeof(*core);
    core->durable_at = place(&end, 1, sizeof(broker_durable_t));
    core->sets_at = place(&end, sets, sizeof(broker_set_t));
    core->nodes_at = place(&end, nodes, sizeof(broker_node_t));
    core->keys_at = place(&end, keys, sizeof(broker_key_t));
    core->requests_at = place(&end, requests, sizeof(broker_request_t));
    core->hashes_at = place(&end, requests, sizeof(uint64_t));
    core->holders_at = place(&end, sets, sizeof(uint32_t));
    core->set_order_at = place(&end, sets, sizeof(uint32_t));
    core->node_order_at = place(&end, nodes, sizeof(uint32_t));
    core->key_order_at = place(&end, keys, sizeof(uint32_t));
    core->key_name_order_at = place(&end, keys, sizeof(uint32_t));
    core->soft_at = place(&end, 1, sizeof(broker_soft_t));
    core->set_softs_at = place(&end, sets, sizeof(broker_set_soft_t));
    core->node_softs_at = place(&end, nodes, sizeof(broker_node_soft_t));
    core->left_at = place(&end, nodes, sizeof(uint32_t));
    core->age_at = place(&end, nodes, sizeof(uint32_t));
    core->greet_at = place(&end, nodes, sizeof(uint32_t));
    core->tell_at = place(&end, sets, sizeof(uint32_t));
    core->resend_at = place(&end, sets, sizeof(uint32_t));
    core->limit_at = place(&end, sets, sizeof(uint32_t));
    core->ports_at = place(&end, core->ports_max, sizeof(broker_port_t));
    core->answers_at = place(&end, core->answers_max, sizeof(broker_answer_t));
    core->touched_at = place(&end, nodes + sets, sizeof(uint32_t));
    core->size = end;
}

size_t broker_core_size(const broker_limits_t *limits) {
    broker_core_t core;
    lay_out(limits, &core);
    return core.size;
}

static void init_soft(broker_core_t *core) {
    const broker_limits_t *limits = &core->config.limits;
    memset(soft_of(core), 0, core->size - core->soft_at);
    for (uint32_t i = 0; i < limits->sets; i++) {
        set_soft_of(core, i)->first_port = NOBODY;
        *tell_of(core, i) = NEVER;
        u32s_of(core, core->resend_at)[i] = NEVER;
        u32s_of(core, core->limit_at)[i] = NEVER;
    }
    for (uint32_t i = 0; i < limits->nodes; i++) {
        node_soft_of(core, i)->first_port = NOBODY;
        *greet_of(core, i) = NEVER;
        u32s_of(core, core->left_at)[i] = NEVER;
    }
    for (uint32_t i = 0; i < core->ports_max; i++) {
        port_of(core, i)->set = NOBODY;
        port_of(core, i)->next_of_set =
            i + 1 < core->ports_max ? i + 1 : NOBODY;
    }
    soft_of(core)->ports_free = core->ports_max > 0 ? 0 : NOBODY;
}

broker_core_t *broker_core_init(void *memory, const broker_config_t *config) {
    broker_core_t *core = memory;
    assert(config->limits.nodes > 0 && config->limits.sets > 0);
    assert(config->limits.keys > 0 && config->limits.requests > 0);
    assert(config->lease_ms > 0);
    memset(core, 0, sizeof(*core));
    lay_out(&config->limits, core);
    core->config = *config;
    memset(core_at(core, core->durable_at), 0,
           core->soft_at - core->durable_at);
    durable_of(core)->limits = config->limits;
    init_soft(core);
    return core;
}

size_t broker_core_durable_size(const broker_core_t *core) {
    return core->soft_at - core->durable_at;
}

const void *broker_core_durable(const broker_core_t *core) {
    return durable_of(core);
}

fleet_err_t broker_core_restore(broker_core_t *core, const void *durable,
                                size_t size) {
    if (size != broker_core_durable_size(core) ||
        memcmp(durable, &core->config.limits, sizeof(broker_limits_t)) != 0) {
        return FLEET_SITE_FULL;
    }
    memcpy(durable_of(core), durable, size);
    init_soft(core);
    broker_core_check(core);
    return FLEET_OK;
}

// -------------------------------------------------------------------- the time

static void run_down(uint32_t *timers, uint32_t n, uint32_t ms) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t left = timers[i] > ms ? timers[i] - ms : 0;
        timers[i] = timers[i] == NEVER ? NEVER : left;
    }
}

static void pass_time(broker_core_t *core, uint64_t elapsed_ms) {
    if (elapsed_ms == 0) {
        return;
    }
    uint32_t ms = smaller(elapsed_ms, NEVER - 1);
    uint32_t nodes = durable_of(core)->nodes_n;
    uint32_t sets = durable_of(core)->sets_n;
    uint32_t *age = u32s_of(core, core->age_at);
    run_down(u32s_of(core, core->left_at), nodes, ms);
    run_down(u32s_of(core, core->resend_at), sets, ms);
    run_down(u32s_of(core, core->limit_at), sets, ms);
    for (uint32_t i = 0; i < nodes; i++) {
        age[i] = age[i] < NEVER - ms ? age[i] + ms : NEVER;
    }
    soft_of(core)->no_lapse_ms -= smaller(ms, soft_of(core)->no_lapse_ms);
}

// Tells nodes of a definition from where it left off.
static void tell_on(step_t *step, uint32_t set) {
    broker_core_t *core = step->core;
    uint32_t *tell = tell_of(core, set);
    const broker_set_t *s = set_of(core, set);
    while (*tell != NEVER) {
        if (*tell >= durable_of(core)->nodes_n) {
            *tell = NEVER;
            break;
        }
        if (step_room(step) < BROKER_ROOM) {
            break;
        }
        uint32_t node = (*tell)++;
        if (!node_online(core, node)) {
            continue;
        }
        bool allowed = s->defined && set_allows(s, node_name(core, node));
        if (allowed || s->rev > 1 || !s->defined) {
            watch_send(step, set, node, !allowed);
        }
    }
}

static void tick_sets(step_t *step) {
    broker_core_t *core = step->core;
    uint32_t *resend = u32s_of(core, core->resend_at);
    uint32_t *limit = u32s_of(core, core->limit_at);
    for (uint32_t i = 0; i < durable_of(core)->sets_n; i++) {
        if (step_room(step) < BROKER_ROOM) {
            return;
        }
        tell_on(step, i);
        if (limit[i] == 0) {
            limit[i] = NEVER;
            transfer_give_up(step, i);
        }
        if (resend[i] == 0) {
            resend[i] = NEVER;
            commands_send(step, i, NOBODY);
        }
    }
}

static void tick(step_t *step) {
    broker_core_t *core = step->core;
    const uint32_t *left = u32s_of(core, core->left_at);
    for (uint32_t i = 0; i < durable_of(core)->nodes_n; i++) {
        if (step_room(step) < BROKER_ROOM + FLEET_PAIRS_MAX) {
            return;
        }
        if (left[i] == 0) {
            member_lapse(step, i);
        }
        if (*greet_of(core, i) != NEVER) {
            member_greet(step, i);
        }
    }
    tick_sets(step);
}

static uint32_t earliest(const uint32_t *timers, uint32_t n, uint32_t found) {
    for (uint32_t i = 0; i < n; i++) {
        found = timers[i] < found ? timers[i] : found;
    }
    return found;
}

uint64_t broker_core_deadline(const broker_core_t *core) {
    uint32_t nodes = durable_of(core)->nodes_n;
    uint32_t sets = durable_of(core)->sets_n;
    // Cursors that are not done: there is more to say than one list held.
    if (earliest(u32s_of(core, core->greet_at), nodes, NEVER) != NEVER ||
        earliest(u32s_of(core, core->tell_at), sets, NEVER) != NEVER) {
        return 0;
    }
    uint32_t found = earliest(u32s_of(core, core->left_at), nodes, NEVER);
    found = earliest(u32s_of(core, core->resend_at), sets, found);
    found = earliest(u32s_of(core, core->limit_at), sets, found);
    return found == NEVER ? UINT64_MAX : found;
}

// -------------------------------------------------------------------- the step

static void start(step_t *step) {
    broker_core_t *core = step->core;
    const broker_config_t *config = &core->config;
    init_soft(core);
    fleet_reign_began_t *began = NEW_EVENT(step, reign_began);
    began->head.term = durable_of(core)->term + 1;
    FLEET_COPY(began->head.by, "broker");
    FLEET_COPY(began->site, config->site);
    FLEET_COPY(began->broker, config->broker);
    FLEET_COPY(began->version, config->version);
    began->lease_ms = config->lease_ms;
    began->margin_ms = config->margin_ms;
    memcpy(began->sign_key, config->sign_key, sizeof(began->sign_key));
    step_commit(step);
    member_start(step);
    step_note(step, "broker %s starts -> reign %llu", config->broker,
              (unsigned long long)durable_of(core)->term);
    for (uint32_t i = 0; i < durable_of(core)->sets_n; i++) {
        if (set_of(core, i)->transfer.id != 0) {
            transfer_arm(core, i); // its commands go out with the hellos
        }
    }
}

static void message(step_t *step) {
    const broker_input_t *in = step->in;
    assert(in->message != NULL);
    if (in->role != fleet_role_NODE) {
        request_message(step);
        return;
    }
    uint32_t node = find_node(step->core, in->name);
    if (node == NOBODY) {
        step_note(step, "%s speaks but is no node -> ignored", in->name);
        return;
    }
    if (u32s_of(step->core, step->core->left_at)[node] == 0) {
        member_lapse(step, node);
    }
    if (in->message->type == FLEET_MESSAGE_request) {
        request_message(step);
        return;
    }
    member_message(step, node);
}

void broker_core_step(broker_core_t *core, const broker_input_t *input,
                      broker_effects_t *effects) {
    step_t step = {.core = core, .in = input, .out = effects};
    effects->n = 0;
    pass_time(core, input->elapsed_ms);
    switch (input->kind) {
    case BROKER_IN_START:
        start(&step);
        break;
    case BROKER_IN_TICK:
        tick(&step);
        break;
    case BROKER_IN_FENCEABLE: {
        uint32_t node = find_node(core, input->name);
        if (node != NOBODY) {
            node_soft_of(core, node)->fenceable = true;
        }
        break;
    }
    case BROKER_IN_MESSAGE:
        message(&step);
        break;
    case BROKER_IN_FENCED: {
        uint32_t node = find_node(core, input->name);
        if (node != NOBODY) {
            member_fenced(&step, node);
        }
        break;
    }
    case BROKER_IN_KEY:
        assert(input->message->type == FLEET_MESSAGE_key_change);
        keyring_admit(&step, &input->message->key_change, "broker");
        break;
    }
    step_flush(&step);
    assert(effects->n <= BROKER_EFFECTS_MAX);
}

// -------------------------------------------------------------- the invariants

static void check_transfer(const broker_core_t *core, const broker_set_t *s) {
    const broker_transfer_t *t = &s->transfer;
    uint32_t nodes = durable_of(core)->nodes_n;
    if (t->id == 0) {
        return;
    }
    assert(t->id <= durable_of(core)->seq);
    assert(s->defined);
    assert(t->kind != fleet_kind_NONE);
    assert(t->from == NOBODY || t->from < nodes);
    assert(t->to == NOBODY || t->to < nodes);
    assert(t->executor == NOBODY || t->executor < nodes);
    assert(!t->returning || t->granted);
    assert(!t->grant_in_place || t->granted);
    assert(t->ignored_n <= FLEET_IGNORES_MAX);
}

void check_set(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    uint32_t nodes = durable_of(core)->nodes_n;
    assert(s->token <= FLEET_TOKEN_MAX);
    assert(s->holder_token <= s->token);
    assert(s->holder == NOBODY || s->holder < nodes);
    assert(s->holder == NOBODY || s->holder_token > 0);
    assert(s->holder != NOBODY || !s->up);
    assert(s->defined || s->holder == NOBODY);
    assert(s->debts_n <= BROKER_DEBTS_MAX);
    assert(s->bad_n <= FLEET_RESOURCES_MAX);
    for (uint32_t i = 0; i < s->debts_n; i++) {
        assert(s->debts[i].node < nodes);
        assert(s->debts[i].token <= s->token);
        assert(s->debts[i].node != s->holder);
        for (uint32_t j = 0; j < i; j++) {
            assert(s->debts[j].node != s->debts[i].node);
        }
    }
    check_transfer(core, s);
}

void broker_core_check(const broker_core_t *core) {
    const broker_durable_t *durable = durable_of(core);
    const broker_limits_t *limits = &durable->limits;
    assert(durable->nodes_n <= limits->nodes);
    assert(durable->sets_n <= limits->sets);
    assert(durable->keys_n <= limits->keys);
    assert(durable->requests_n <= limits->requests);
    assert(durable->seq <= FLEET_SEQ_MAX && durable->term <= FLEET_TERM_MAX);
    uint64_t uses = 0;
    uint64_t sets = 0;
    for (uint32_t i = 0; i < durable->sets_n; i++) {
        uint32_t nodes[BROKER_USES_MAX];
        check_set(core, i);
        assert(find_set(core, set_of(core, i)->name) == i);
        assert(holder_of(core, i) == set_of(core, i)->holder);
        uses += uses_of(set_of(core, i), nodes);
    }
    for (uint32_t i = 0; i < durable->nodes_n; i++) {
        const broker_node_t *node = node_of(core, i);
        assert(find_node(core, node->name) == i);
        assert(find_set(core, node->name) == NOBODY ||
               !set_of(core, find_set(core, node->name))->defined);
        assert((node->state == fleet_node_state_DOWN) ==
               (node->how != fleet_down_how_NONE));
        assert(node->used <= node->sets);
        sets += node->sets;
        if (node_soft_of(core, i)->session != 0) {
            assert(node->state == fleet_node_state_ONLINE);
        }
    }
    assert(uses == sets);
    for (uint32_t i = 0; i < durable->keys_n; i++) {
        assert(find_key(core, key_of(core, i)->key) == i);
    }
}
