// SPDX-License-Identifier: MIT
//
// What nodes see of sets: their way to the disk group, and whether it would
// start. A pool; each port is in the list of its set and in the list of its
// node.

#include "broker/core/state.h"

broker_port_t *find_port(const broker_core_t *core, uint32_t set,
                         uint32_t node) {
    uint32_t i = set_soft_of(core, set)->first_port;
    while (i != NOBODY && port_of(core, i)->node != node) {
        i = port_of(core, i)->next_of_set;
    }
    return i == NOBODY ? NULL : port_of(core, i);
}

static broker_port_t *make_port(broker_core_t *core, uint32_t set,
                                uint32_t node) {
    uint32_t i = soft_of(core)->ports_free;
    if (i == NOBODY) {
        return NULL;
    }
    broker_port_t *port = port_of(core, i);
    soft_of(core)->ports_free = port->next_of_set;
    memset(port, 0, sizeof(*port));
    port->set = set;
    port->node = node;
    port->next_of_set = set_soft_of(core, set)->first_port;
    port->next_of_node = node_soft_of(core, node)->first_port;
    set_soft_of(core, set)->first_port = i;
    node_soft_of(core, node)->first_port = i;
    return port;
}

static void unlink_from_node(broker_core_t *core, uint32_t i) {
    uint32_t *link = &node_soft_of(core, port_of(core, i)->node)->first_port;
    while (*link != i) {
        assert(*link != NOBODY);
        link = &port_of(core, *link)->next_of_node;
    }
    *link = port_of(core, i)->next_of_node;
}

void ports_forget_set(broker_core_t *core, uint32_t set) {
    uint32_t *first = &set_soft_of(core, set)->first_port;
    while (*first != NOBODY) {
        uint32_t i = *first;
        unlink_from_node(core, i);
        *first = port_of(core, i)->next_of_set;
        memset(port_of(core, i), 0, sizeof(broker_port_t));
        port_of(core, i)->set = NOBODY;
        port_of(core, i)->next_of_set = soft_of(core)->ports_free;
        soft_of(core)->ports_free = i;
    }
}

bool set_allows(const broker_set_t *set, const char *node) {
    for (uint32_t i = 0; i < set->facts.nodes_n; i++) {
        if (strcmp(set->facts.nodes[i].name, node) == 0) {
            return true;
        }
    }
    return set->facts.nodes_n == 0;
}

void watch_send(step_t *step, uint32_t set, uint32_t node, bool gone) {
    const broker_core_t *core = step->core;
    fleet_watch_set_t *watch = TO_NODE(step, node, watch_set);
    watch->term = durable_of(core)->term;
    watch->session = node_soft_of(core, node)->session;
    FLEET_COPY(watch->set, set_of(core, set)->name);
    watch->rev = set_of(core, set)->rev;
    watch->gone = gone;
}

static void keep(broker_port_t *port, const fleet_port_t *said) {
    port->rev = said->rev;
    port->visible = said->visible;
    port->can_evict = said->can_evict;
    port->lock_token = said->lock_token;
    FLEET_COPY(port->lock_owner, said->lock_owner);
    memset(port->problems, 0, sizeof(port->problems));
    port->problems_n = said->problems_n < BROKER_PROBLEMS_MAX
                           ? said->problems_n
                           : BROKER_PROBLEMS_MAX;
    for (uint32_t i = 0; i < port->problems_n; i++) {
        FLEET_COPY(port->problems[i].code, said->problems[i].code);
        FLEET_COPY(port->problems[i].resource, said->problems[i].resource);
        FLEET_COPY(port->problems[i].text, said->problems[i].text);
        FLEET_COPY(port->problems[i].hint, said->problems[i].hint);
    }
}

// P15: the lock's owner has at most the set's token; a lock that was given back
// refuses what is below one more.
static void look_at_lock(step_t *step, uint32_t set, uint32_t node,
                         const fleet_port_t *said) {
    const broker_set_t *s = set_of(step->core, set);
    broker_set_soft_t *soft = set_soft_of(step->core, set);
    uint64_t highest = said->lock_owner[0] != '\0' ? s->token : s->token + 1;
    if (said->lock_token > highest && !soft->behind) {
        soft->behind = true;
        step_touch_set(step, set);
        step_note(step,
                  "the lock of %s, seen by %s, says %s under %llu, the journal "
                  "knows %llu -> no more grants of it (P15)",
                  s->name, node_name(step->core, node),
                  said->lock_owner[0] != '\0' ? said->lock_owner : "nobody",
                  (unsigned long long)said->lock_token,
                  (unsigned long long)s->token);
    }
}

void port_message(step_t *step, uint32_t node, const fleet_port_t *said) {
    broker_core_t *core = step->core;
    uint32_t set = find_set(core, said->set);
    if (set == NOBODY || !set_of(core, set)->defined) {
        return;
    }
    broker_port_t *port = find_port(core, set, node);
    bool fresh = port == NULL;
    if (fresh) {
        port = make_port(core, set, node);
    }
    if (port == NULL) {
        step_note(step, "%s reports %s -> not kept, no room for more ports",
                  node_name(core, node), said->set);
        return;
    }
    bool ready = port->visible && port->problems_n == 0;
    bool visible = port->visible;
    keep(port, said);
    look_at_lock(step, set, node, said);
    if (fresh || visible != port->visible) {
        step_touch_node(step, node);
    }
    if (fresh || ready != (port->visible && port->problems_n == 0)) {
        step_touch_set(step, set);
        step_note(step, "%s looked at %s -> %s%.180s", node_name(core, node),
                  said->set,
                  !port->visible          ? "not visible"
                  : port->problems_n == 0 ? "ready"
                                          : "not ready: ",
                  port->problems_n == 0 ? "" : port->problems[0].text);
    }
}
