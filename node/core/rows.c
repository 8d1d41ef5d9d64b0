// SPDX-License-Identifier: MIT
//
// Questions about the node, and the invariants of its state.

#include <assert.h>
#include <string.h>

#include "node/core/state.h"

static const node_set_t *find(const node_core_t *core, const char *name) {
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used && strcmp(core->sets[i].name, name) == 0) {
            return &core->sets[i];
        }
    }
    return NULL;
}

void node_core_head(const node_core_t *core, fleet_local_head_t *ret_head) {
    memset(ret_head, 0, sizeof(*ret_head));
    FLEET_COPY(ret_head->site, core->config.site);
    FLEET_COPY(ret_head->node, core->config.node);
    FLEET_COPY(ret_head->boot_id, core->config.boot_id);
    ret_head->connected = node_session_is_open(core);
    ret_head->term = core->term;
    ret_head->lease_left_ms = core->session.lease_left_ms;
}

static bool owns(const node_set_t *set) {
    return set->phase == fleet_phase_HELD && set->stop == NODE_WHY_NONE;
}

static const char *sick_part(const node_set_t *set) {
    for (uint32_t i = 0; i < set->run.n; i++) {
        if ((set->sick & node_bit(i)) != 0) {
            return set->run.parts[i].name;
        }
    }
    return NULL;
}

static void describe(const node_set_t *set, fleet_text_t ret_text) {
    if (set->stop_failed) {
        fleet_text_format(ret_text, sizeof(fleet_text_t),
                          "cannot be stopped: %s", set->failure.text);
    } else if (set->broken) {
        fleet_text_format(ret_text, sizeof(fleet_text_t), "did not start: %s",
                          set->failure.text);
    } else if (sick_part(set) != NULL) {
        fleet_text_format(ret_text, sizeof(fleet_text_t), "%s: %s",
                          sick_part(set), set->sick_text);
    } else if (owns(set)) {
        fleet_text_copy(ret_text, sizeof(fleet_text_t), "all of it runs");
    } else if (!node_set_open(set)) {
        fleet_text_copy(ret_text, sizeof(fleet_text_t),
                        "nothing of it is here");
    } else {
        fleet_text_copy(ret_text, sizeof(fleet_text_t),
                        set->phase == fleet_phase_ACQUIRING
                            ? "is being started"
                            : "is being stopped");
    }
}

// The i-th used entry by name, so that lists are sorted: a selection, since it
// is asked by people only.
static const node_set_t *nth(const node_core_t *core, uint32_t n) {
    const char *last = "";
    for (;;) {
        const node_set_t *next = NULL;
        for (uint32_t i = 0; i < core->sets_n; i++) {
            const node_set_t *set = &core->sets[i];
            if (set->used && set->phase != fleet_phase_NONE &&
                strcmp(set->name, last) > 0 &&
                (next == NULL || strcmp(set->name, next->name) < 0)) {
                next = set;
            }
        }
        if (next == NULL || n-- == 0) {
            return next;
        }
        last = next->name;
    }
}

static void fill_row(const node_set_t *set, fleet_local_row_t *row) {
    memset(row, 0, sizeof(*row));
    FLEET_COPY(row->set, set->name);
    row->token = set->token;
    row->phase = set->phase;
    row->owns = owns(set);
    bool leased = node_set_open(set) && set->lease_left_ms != NODE_NEVER;
    row->lease_left_ms = leased ? set->lease_left_ms : 0;
    describe(set, row->text);
}

bool node_core_row(const node_core_t *core, uint32_t i,
                   fleet_local_row_t *ret_row) {
    const node_set_t *set = nth(core, i);
    if (set == NULL) {
        return false;
    }
    fill_row(set, ret_row);
    return true;
}

bool node_core_owns(const node_core_t *core, const char *name) {
    const node_set_t *set = find(core, name);
    return set != NULL && owns(set);
}

bool node_core_knows(const node_core_t *core, const char *name) {
    return find(core, name) != NULL;
}

const char *node_failure_part(const node_set_t *set) {
    return set->failure.part < set->run.n
               ? set->run.parts[set->failure.part].name
               : "";
}

const char *node_act_word(node_act_t act) {
    static const char *const words[] = {
        [NODE_ACT_PREPARE] = "prepare", [NODE_ACT_UNPREPARE] = "unprepare",
        [NODE_ACT_START] = "start",     [NODE_ACT_STOP] = "stop",
        [NODE_ACT_PROBE] = "probe",     [NODE_ACT_EVICT] = "evict",
        [NODE_ACT_LOOK] = "look",       [NODE_ACT_SILENCE] = "silence",
        [NODE_ACT_SPEAK] = "speak",     [NODE_ACT_RENEW] = "renew",
    };
    return words[act];
}

static void check_set(const node_core_t *core, const node_set_t *set) {
    assert(set->name[0] != '\0');
    assert(set->token <= FLEET_TOKEN_MAX);
    assert(set->run.n <= FLEET_RESOURCES_MAX);
    assert(set->newest.n <= FLEET_RESOURCES_MAX);
    assert((set->phase == fleet_phase_NONE) == (set->token == 0));
    // Nothing waits to be acquired that is not above what was seen.
    assert(set->acquire.token == 0 || set->acquire.token > set->token);
    // A set that nobody may stop is not being stopped.
    assert(set->mode != NODE_MODE_STOP || set->stop != NODE_WHY_NONE ||
           set->acquire.from_token != 0);
    assert(!set->stop_failed || set->stop != NODE_WHY_NONE);
    assert(set->mode != NODE_MODE_START ||
           set->phase == fleet_phase_ACQUIRING || set->run.n == 0);
    assert((set->mode != NODE_MODE_DOWN && set->mode != NODE_MODE_UP) ||
           set->phase == fleet_phase_HELD);
    assert(!set->broken || set->phase == fleet_phase_ACQUIRING);
    assert(set->unsaid == NODE_WHY_NONE || set->phase == fleet_phase_CLOSED);
    // What is open, or may be here, can be told by a definition.
    assert(set->there == 0 || set->run.known);
    for (uint32_t i = 0; i < FLEET_RESOURCES_MAX; i++) {
        assert(set->work[i].job <= core->job);
        assert(set->work[i].job == 0 || set->work[i].job != set->link[i].job);
        // An act that is still wanted belongs to the sequence under way.
        assert(set->work[i].job == 0 || set->work[i].abandoned ||
               set->mode != NODE_MODE_IDLE);
    }
}

void node_core_check(const node_core_t *core) {
    for (uint32_t i = 0; i < core->sets_n; i++) {
        if (core->sets[i].used) {
            check_set(core, &core->sets[i]);
        }
    }
    assert(core->session.state != NODE_SESSION_OPEN || core->connected);
    assert(core->session.state != NODE_SESSION_OPEN ||
           core->session.lease_ms != 0);
    assert(core->sets_n <= NODE_SETS_MAX);
    assert(!core->left || core->leaving);
}
