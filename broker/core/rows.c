// SPDX-License-Identifier: MIT
//
// Questions: rows of a status, readiness, what is wrong.  Pure reads.

#include "broker/core/state.h"

typedef unsigned long long number_t; // for %llu

uint64_t broker_core_seq(const broker_core_t *core) {
    return durable_of(core)->seq;
}

uint64_t broker_core_term(const broker_core_t *core) {
    return durable_of(core)->term;
}

uint64_t broker_core_no_lapse_ms(const broker_core_t *core) {
    return soft_of(core)->no_lapse_ms;
}

uint64_t broker_core_rev(const broker_core_t *core, const char *set) {
    uint32_t i = find_set(core, set);
    return i == NOBODY || !set_of(core, i)->defined ? 0 : set_of(core, i)->rev;
}

// The i-th defined set by name.
static uint32_t nth_defined(const broker_core_t *core, uint32_t i) {
    for (uint32_t place = 0;; place++) {
        uint32_t set = nth_set(core, place);
        if (set == NOBODY) {
            return NOBODY;
        }
        if (set_of(core, set)->defined && i-- == 0) {
            return set;
        }
    }
}

// ----------------------------------------------------------------------- nodes

static void list_sets(const broker_core_t *core, uint32_t node,
                      fleet_node_row_t *row) {
    for (uint32_t i = 0; row->sets_n < FLEET_PAIRS_MAX; i++) {
        uint32_t set = nth_set(core, i);
        if (set == NOBODY) {
            return;
        }
        if (holder_of(core, set) == node) {
            FLEET_COPY(row->sets[row->sets_n].name, set_of(core, set)->name);
            row->sets_n++;
        }
    }
}

// In the order of names, which is not the order of the list.
static void list_disk_groups(const broker_core_t *core, uint32_t node,
                             fleet_node_row_t *row) {
    for (uint32_t i = node_soft_of(core, node)->first_port; i != NOBODY;
         i = port_of(core, i)->next_of_node) {
        const broker_port_t *port = port_of(core, i);
        const char *name = set_of(core, port->set)->facts.disk_group;
        if (!port->visible || name[0] == '\0' ||
            row->disk_groups_n == FLEET_PAIRS_MAX) {
            continue;
        }
        uint32_t at = row->disk_groups_n++;
        while (at > 0 && strcmp(row->disk_groups[at - 1].name, name) > 0) {
            row->disk_groups[at] = row->disk_groups[at - 1];
            at--;
        }
        FLEET_COPY(row->disk_groups[at].name, name);
    }
}

bool broker_core_node_row(const broker_core_t *core, uint32_t i,
                          fleet_node_row_t *ret_row) {
    uint32_t node = nth_node(core, i);
    if (node == NOBODY) {
        return false;
    }
    const broker_node_t *n = node_of(core, node);
    const broker_node_soft_t *soft = node_soft_of(core, node);
    memset(ret_row, 0, sizeof(*ret_row));
    FLEET_COPY(ret_row->name, n->name);
    ret_row->state = n->state;
    ret_row->how = n->how;
    ret_row->heard = soft->heard;
    ret_row->lease_age_ms = u32s_of(core, core->age_at)[node];
    ret_row->lease_ms = core->config.lease_ms;
    ret_row->slots = n->slots;
    ret_row->slots_free = slots_free(core, node);
    FLEET_COPY(ret_row->boot_id, n->boot_id);
    FLEET_COPY(ret_row->version, n->version);
    FLEET_COPY(ret_row->kernel, soft->kernel);
    ret_row->load_milli = soft->load_milli;
    ret_row->debts = n->debts;
    list_sets(core, node, ret_row);
    list_disk_groups(core, node, ret_row);
    return true;
}

// ------------------------------------------------------------------------ sets

static fleet_set_state_t held_state(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (node_of(core, s->holder)->state != fleet_node_state_ONLINE) {
        return fleet_set_state_UNKNOWN;
    }
    if (s->stuck) {
        return fleet_set_state_STUCK;
    }
    // While the target prepares, and while services restart, it runs.
    bool stops = t->kind == fleet_kind_MOVE ? set_soft_of(core, set)->prepared
                                            : t->kind != fleet_kind_RESTART;
    if (t->id != 0 && stops) {
        return fleet_set_state_STOPPING;
    }
    return s->bad_n > 0 ? fleet_set_state_DEGRADED : fleet_set_state_RUNNING;
}

static fleet_set_state_t state_of(const broker_core_t *core, uint32_t set) {
    const broker_set_t *s = set_of(core, set);
    const broker_transfer_t *t = &s->transfer;
    if (t->id != 0 && t->granted) {
        return fleet_set_state_STARTING;
    }
    if (s->holder != NOBODY) {
        return held_state(core, set);
    }
    if (s->stuck) {
        return fleet_set_state_STUCK;
    }
    return t->id != 0 && t->kind == fleet_kind_START ? fleet_set_state_STARTING
                                                     : fleet_set_state_PARKED;
}

static bool could_go(const broker_core_t *core, uint32_t set, uint32_t node) {
    fleet_refused_t no;
    no.reasons_n = 0; // nothing else of it is looked at
    return node != set_of(core, set)->holder &&
           admit_ready(core, set, node, &no) == fleet_ready_YES;
}

static void list_ready(const broker_core_t *core, uint32_t set,
                       fleet_set_row_t *row) {
    for (uint32_t i = set_soft_of(core, set)->first_port; i != NOBODY;
         i = port_of(core, i)->next_of_set) {
        uint32_t node = port_of(core, i)->node;
        if (row->ready_nodes_n == FLEET_SET_NODES_MAX ||
            !could_go(core, set, node)) {
            continue;
        }
        const char *name = node_name(core, node);
        uint32_t at = row->ready_nodes_n++;
        while (at > 0 && strcmp(row->ready_nodes[at - 1].name, name) > 0) {
            row->ready_nodes[at] = row->ready_nodes[at - 1];
            at--;
        }
        FLEET_COPY(row->ready_nodes[at].name, name);
    }
}

static bool has_ready_node(const broker_core_t *core, uint32_t set) {
    for (uint32_t i = set_soft_of(core, set)->first_port; i != NOBODY;
         i = port_of(core, i)->next_of_set) {
        if (could_go(core, set, port_of(core, i)->node)) {
            return true;
        }
    }
    return false;
}

static bool owner_silent(const broker_core_t *core, const broker_set_t *s) {
    return s->holder != NOBODY &&
           node_of(core, s->holder)->state != fleet_node_state_ONLINE;
}

// --------------------------------------------------------------- what is wrong

// What can be wrong with a set, worst first.  false: no, or no more kinds.
enum { SET_WRONGS = 5 };

static bool set_wrong(const broker_core_t *core, uint32_t set, uint32_t kind,
                      fleet_reason_t *why) {
    const broker_set_t *s = set_of(core, set);
    const char *owner = node_name(core, s->holder);
    if (!s->defined) {
        return false;
    }
    if (kind == 0 && set_behind(core, set) && set_soft_of(core, set)->behind) {
        fleet_reason_make(why, FLEET_JOURNAL_BEHIND,
                          "%s: a node or its lock shows a larger token than "
                          "the journal: nothing is granted",
                          s->name);
    } else if (kind == 1 && s->stuck) {
        fleet_reason_make(why, FLEET_STUCK, "%s is stuck on %s (%s): %.180s",
                          s->name, owner, s->stuck_code, s->stuck_text);
        fleet_reason_hint(why, "fleet start %s", s->name);
        FLEET_COPY(why->resource, s->stuck_resource);
    } else if (kind == 2 && owner_silent(core, s)) {
        fleet_name_t age;
        fleet_duration_print((uint64_t)u32s_of(core, core->age_at)[s->holder] *
                                 1000,
                             age, sizeof(age));
        fleet_reason_make(
            why, FLEET_OWNER_SILENT, "%s: its owner %s is %s for %s", s->name,
            owner, fleet_node_state_word(node_of(core, s->holder)->state), age);
        fleet_reason_hint(why, "fleet move %s NODE --force", s->name);
    } else if (kind == 3 && s->bad_n > 0) {
        fleet_reason_make(why, FLEET_DEGRADED,
                          "%s on %s: %s is not well: %.180s", s->name, owner,
                          s->bad[0], s->bad_text);
        fleet_reason_hint(why, "fleet restart %s %s", s->name, s->bad[0]);
        FLEET_COPY(why->resource, s->bad[0]);
    } else if (kind == 4 && s->wanted_up && s->transfer.id == 0 &&
               !has_ready_node(core, set)) {
        fleet_reason_make(why, FLEET_NO_READY_NODE,
                          "%s could go nowhere if %s died now", s->name,
                          owner[0] != '\0' ? owner : "it");
        if (s->holder == NOBODY) {
            fleet_reason_make(why, FLEET_NO_READY_NODE,
                              "%s is wanted up and parked, and no node is "
                              "ready for it",
                              s->name);
        }
        fleet_reason_hint(why, "fleet check %s", s->name);
    } else {
        return false;
    }
    reason_about(why, s->name, owner);
    return true;
}

static bool node_wrong(const broker_core_t *core, uint32_t node,
                       fleet_reason_t *why) {
    const broker_node_t *n = node_of(core, node);
    if (n->state != fleet_node_state_SILENT) {
        return false;
    }
    fleet_name_t age;
    fleet_duration_print((uint64_t)u32s_of(core, core->age_at)[node] * 1000,
                         age, sizeof(age));
    fleet_reason_make(why, FLEET_NODE_SILENT, "%s is silent for %s", n->name,
                      age);
    fleet_reason_hint(why, "fleet status %s", n->name);
    reason_about(why, "", n->name);
    return true;
}

static void say_debt(const broker_core_t *core, const broker_set_t *s,
                     uint32_t i, fleet_reason_t *why) {
    const char *name = node_name(core, s->debts[i].node);
    fleet_reason_make(why, FLEET_DEBT,
                      "%s was displaced from %s under token %llu and has not "
                      "dropped it yet",
                      name, s->name, (number_t)s->debts[i].token);
    why->severity = fleet_severity_WARNING;
    reason_about(why, s->name, name);
}

// Counts down to the one that is asked for.
static bool take(bool is, uint32_t *left) {
    return is && (*left)-- == 0;
}

bool broker_core_problem(const broker_core_t *core, uint32_t i,
                         fleet_reason_t *ret_reason) {
    fleet_reason_t why;
    uint32_t left = i;
    if (take(soft_of(core)->behind, &left)) {
        fleet_reason_make(ret_reason, FLEET_JOURNAL_BEHIND,
                          "a node has heard a later reign than the journal "
                          "knows: nothing is granted");
        return true;
    }
    for (uint32_t kind = 0; kind < SET_WRONGS; kind++) {
        for (uint32_t j = 0; j < durable_of(core)->sets_n; j++) {
            if (take(set_wrong(core, nth_set(core, j), kind, &why), &left)) {
                *ret_reason = why;
                return true;
            }
        }
        // Silent nodes are as bad as what they own, and worse than the rest.
        for (uint32_t j = 0; kind == 2 && j < durable_of(core)->nodes_n; j++) {
            if (take(node_wrong(core, nth_node(core, j), &why), &left)) {
                *ret_reason = why;
                return true;
            }
        }
    }
    for (uint32_t j = 0; j < durable_of(core)->sets_n; j++) {
        const broker_set_t *s = set_of(core, nth_set(core, j));
        for (uint32_t k = 0; k < s->debts_n; k++) {
            if (take(true, &left)) {
                say_debt(core, s, k, ret_reason);
                return true;
            }
        }
    }
    return false;
}

bool broker_core_set_row(const broker_core_t *core, uint32_t i,
                         fleet_set_row_t *ret_row) {
    uint32_t set = nth_defined(core, i);
    if (set == NOBODY) {
        return false;
    }
    const broker_set_t *s = set_of(core, set);
    memset(ret_row, 0, sizeof(*ret_row));
    FLEET_COPY(ret_row->name, s->name);
    ret_row->state = state_of(core, set);
    ret_row->wanted_up = s->wanted_up;
    FLEET_COPY(ret_row->owner, node_name(core, s->holder));
    ret_row->token = s->token;
    ret_row->addresses_n = s->facts.addresses_n;
    memcpy(ret_row->addresses, s->facts.addresses, sizeof(ret_row->addresses));
    FLEET_COPY(ret_row->mac, s->facts.mac);
    FLEET_COPY(ret_row->disk_group, s->facts.disk_group);
    FLEET_COPY(ret_row->home, s->facts.home);
    ret_row->pending = s->pending;
    ret_row->transfer = s->transfer.id;
    list_ready(core, set, ret_row);
    for (uint32_t kind = 0; kind < SET_WRONGS; kind++) {
        fleet_reason_t why;
        if (set_wrong(core, set, kind, &why)) {
            FLEET_COPY(ret_row->problems[ret_row->problems_n].name, why.code);
            ret_row->problems_n++;
        }
    }
    return true;
}

bool broker_core_check_row(const broker_core_t *core, const char *set,
                           uint32_t i, fleet_check_row_t *ret_row) {
    uint32_t number = find_set(core, set);
    if (number == NOBODY || !set_of(core, number)->defined) {
        return false;
    }
    const broker_set_t *s = set_of(core, number);
    uint32_t node = NOBODY;
    for (uint32_t place = 0;; place++) {
        node = nth_node(core, place);
        if (node == NOBODY) {
            return false;
        }
        if (set_allows(s, node_name(core, node)) && i-- == 0) {
            break;
        }
    }
    fleet_refused_t no = {0};
    memset(ret_row, 0, sizeof(*ret_row));
    FLEET_COPY(ret_row->set, s->name);
    FLEET_COPY(ret_row->node, node_name(core, node));
    ret_row->ready = admit_ready(core, number, node, &no);
    ret_row->problems_n = no.reasons_n;
    memcpy(ret_row->problems, no.reasons, sizeof(no.reasons));
    return true;
}

// -------------------------------------------------------------------- transfer

static void fill_transfer(const broker_core_t *core, const broker_set_t *s,
                          fleet_transfer_t *row) {
    const broker_transfer_t *t = &s->transfer;
    memset(row, 0, sizeof(*row));
    row->transfer = t->id;
    FLEET_COPY(row->request, t->request);
    row->kind = t->kind;
    FLEET_COPY(row->set, s->name);
    FLEET_COPY(row->from, node_name(core, t->from));
    FLEET_COPY(row->to, node_name(core, t->to));
    row->token = s->token;
    row->evidence = t->evidence;
    FLEET_COPY(row->by, t->by);
    FLEET_COPY(row->reason, t->reason);
    row->ignored_n = t->ignored_n;
    memcpy(row->ignored, t->ignored, sizeof(row->ignored));
    if (t->failed) {
        row->reasons[row->reasons_n++] = t->why;
    }
}

bool broker_core_transfer(const broker_core_t *core, const char *set,
                          uint64_t transfer, fleet_transfer_t *ret_transfer) {
    if (transfer == 0) {
        uint32_t i = find_set(core, set);
        if (i == NOBODY || set_of(core, i)->transfer.id == 0) {
            return false;
        }
        fill_transfer(core, set_of(core, i), ret_transfer);
        return true;
    }
    for (uint32_t i = 0; i < durable_of(core)->sets_n; i++) {
        if (set_of(core, i)->transfer.id == transfer) {
            fill_transfer(core, set_of(core, i), ret_transfer);
            return true;
        }
    }
    return false;
}
