// SPDX-License-Identifier: MIT
//
// The machine goes down: everything is stopped in order, each set is said to be
// closed, then the node says goodbye.

#include "node/core/state.h"

void node_leave_take(node_core_t *core, const char *reason,
                     node_effects_t *effects) {
    if (core->leaving) {
        return;
    }
    node_note(effects, "the machine goes down: %s -> all stopped", reason);
    core->leaving = true;
    FLEET_COPY(core->leave_reason, reason);
    for (uint32_t i = 0; i < core->sets_n; i++) {
        node_set_t *set = &core->sets[i];
        if (set->used) {
            set->prepare.wanted = false;
            set->restart.wanted = false;
            node_stop_want(set, NODE_WHY_LEAVE);
        }
    }
}

void node_leave_advance(node_core_t *core, node_effects_t *effects) {
    if (!core->leaving || core->left) {
        return;
    }
    bool clean = true;
    for (uint32_t i = 0; i < core->sets_n; i++) {
        const node_set_t *set = &core->sets[i];
        if (!set->used) {
            continue;
        }
        bool waits = set->stop != NODE_WHY_NONE && !set->stop_failed;
        if (waits || set->mode != NODE_MODE_IDLE) {
            return; // every act of it has a limit
        }
        // What is open and not wanted down any more could not be stopped.
        clean = clean && !node_set_open(set) && set->there == 0;
    }
    if (!node_has_room(effects, 3)) {
        core->more = true;
        return;
    }
    core->left = true;
    if (clean && node_session_is_open(core)) {
        fleet_goodbye_t *goodbye =
            &node_send(effects, FLEET_MESSAGE_goodbye)->goodbye;
        goodbye->session = core->session.id;
        FLEET_COPY(goodbye->reason, core->leave_reason);
    }
    node_note(effects, "%s -> left",
              clean ? "everything is stopped"
                    : "not everything could be stopped");
    node_emit(effects, NODE_OUT_LEFT);
}
