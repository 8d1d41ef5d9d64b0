// SPDX-License-Identifier: MIT
//
// Who may do what: keys are admitted and revoked by events, like everything
// else that decides ownership.

#include "broker/core/state.h"

fleet_role_t broker_core_key(const broker_core_t *core, const fleet_key_t key,
                             fleet_name_t ret_name) {
    uint32_t i = find_key(core, key);
    if (i == NOBODY) {
        return fleet_role_NONE;
    }
    fleet_text_copy(ret_name, sizeof(fleet_name_t), key_of(core, i)->name);
    return key_of(core, i)->role;
}

static uint32_t count_admins(const broker_core_t *core) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < durable_of(core)->keys_n; i++) {
        n += key_of(core, i)->role == fleet_role_ADMIN ? 1 : 0;
    }
    return n;
}

bool broker_core_has_admin(const broker_core_t *core) {
    return count_admins(core) > 0;
}

static void say(fleet_refused_t *no, fleet_err_t err, const char *text) {
    fleet_reason_make(reason_next(no), err, "%s", text);
}

static void admit_key(const broker_core_t *core,
                      const fleet_key_change_t *change, fleet_refused_t *no) {
    static const fleet_key_t zero;
    const broker_durable_t *durable = durable_of(core);
    bool is_node = change->role == fleet_role_NODE;
    if (!fleet_name_ok(change->name)) {
        say(no, FLEET_BAD_ARGUMENT, "it is no name");
    }
    if (change->role == fleet_role_NONE) {
        say(no, FLEET_BAD_ARGUMENT, "no role is named");
    }
    if (memcmp(change->key, zero, sizeof(zero)) == 0) {
        say(no, FLEET_BAD_KEY, "the key is zero");
    }
    if (find_key(core, change->key) != NOBODY) {
        say(no, FLEET_KEY_TAKEN, "the key is on the list already");
    }
    for (uint32_t i = 0; i < durable->keys_n; i++) {
        const broker_key_t *key = key_of(core, i);
        if (strcmp(key->name, change->name) == 0 && key->role != change->role) {
            say(no, FLEET_KEY_TAKEN, "a key of this name has another role");
            break;
        }
    }
    uint32_t set = find_set(core, change->name);
    if (is_node && set != NOBODY && set_of(core, set)->defined) {
        say(no, FLEET_NAME_TAKEN, "a set has this name");
    }
    if (durable->keys_n == durable->limits.keys) {
        say(no, FLEET_SITE_FULL, "the broker's limit of keys is reached");
    }
    if (is_node && find_node(core, change->name) == NOBODY &&
        durable->nodes_n == durable->limits.nodes) {
        say(no, FLEET_SITE_FULL, "the broker's limit of nodes is reached");
    }
}

void keyring_admit(step_t *step, const fleet_key_change_t *change,
                   const char *by) {
    broker_core_t *core = step->core;
    bool new_node = change->role == fleet_role_NODE &&
                    find_node(core, change->name) == NOBODY;
    fleet_key_admitted_t *event = NEW_EVENT(step, key_admitted);
    FLEET_COPY(event->head.by, by);
    event->role = change->role;
    FLEET_COPY(event->name, change->name);
    memcpy(event->key, change->key, sizeof(event->key));
    step_commit(step);
    if (new_node) {
        fleet_node_added_t *added = NEW_EVENT(step, node_added);
        FLEET_COPY(added->head.node, change->name);
        FLEET_COPY(added->head.by, by);
        step_commit(step);
    }
    char digits[9];
    fleet_key_short(change->key, digits);
    step_note(step, "%s admits %s %s (%s) -> admitted", by,
              fleet_role_word(change->role), change->name, digits);
}

// ---------------------------------------------------------------------- revoke

static bool meant(const broker_key_t *key, const fleet_key_change_t *change) {
    static const fleet_key_t zero;
    bool any_key = memcmp(change->key, zero, sizeof(zero)) == 0;
    bool any_name = change->name[0] == '\0';
    bool any_role = change->role == fleet_role_NONE;
    if (any_key && any_name) {
        return false;
    }
    return (any_key || memcmp(key->key, change->key, sizeof(zero)) == 0) &&
           (any_name || strcmp(key->name, change->name) == 0) &&
           (any_role || key->role == change->role);
}

static void revoke_one(step_t *step, uint32_t i, const char *by) {
    broker_core_t *core = step->core;
    const broker_key_t *key = key_of(core, i);
    char digits[9];
    fleet_key_short(key->key, digits);
    step_note(step, "%s revokes %s %s (%s) -> revoked", by,
              fleet_role_word(key->role), key->name, digits);
    fleet_key_revoked_t *event = NEW_EVENT(step, key_revoked);
    FLEET_COPY(event->head.by, by);
    event->role = key->role;
    FLEET_COPY(event->name, key->name);
    memcpy(event->key, key->key, sizeof(event->key));
    uint32_t node =
        key->role == fleet_role_NODE ? find_node(core, key->name) : NOBODY;
    step_commit(step);
    broker_effect_t *cut = step_effect(step, BROKER_OUT_CUT);
    memcpy(cut->key, event->key, sizeof(cut->key));
    FLEET_COPY(cut->name, event->name);
    if (node != NOBODY) {
        // Its lease runs on: that it is cut off shows nothing about its sets.
        node_soft_of(core, node)->session = 0;
        *greet_of(core, node) = NEVER;
    }
}

static uint32_t revoke(step_t *step, const fleet_key_change_t *change,
                       const char *by) {
    broker_core_t *core = step->core;
    uint32_t n = 0;
    uint32_t i = 0;
    while (i < durable_of(core)->keys_n && step_room(step) > BROKER_ROOM) {
        if (meant(key_of(core, i), change)) {
            revoke_one(step, i, by);
            n++;
        } else {
            i++;
        }
    }
    return n;
}

static void admit_revocation(const broker_core_t *core,
                             const fleet_key_change_t *change,
                             fleet_refused_t *no) {
    uint32_t n = 0;
    uint32_t admins = 0;
    for (uint32_t i = 0; i < durable_of(core)->keys_n; i++) {
        bool is_meant = meant(key_of(core, i), change);
        n += is_meant ? 1 : 0;
        admins += is_meant && key_of(core, i)->role == fleet_role_ADMIN ? 1 : 0;
    }
    if (n == 0) {
        say(no, FLEET_KEY_UNKNOWN, "no such key is on the list");
    } else if (admins > 0 && admins == count_admins(core)) {
        say(no, FLEET_LAST_ADMIN, "nobody could admit a key any more");
    }
}

void keyring_change(step_t *step, const char *by) {
    const fleet_key_change_t *change = &step->in->message->key_change;
    fleet_refused_t no = {0};
    FLEET_COPY(no.request, change->request);
    if (change->admit) {
        admit_key(step->core, change, &no);
    } else {
        admit_revocation(step->core, change, &no);
    }
    if (no.reasons_n > 0) {
        refuse(step, step->in->peer, &no);
        return;
    }
    fleet_done_t done = {.changed = true};
    FLEET_COPY(done.request, change->request);
    if (change->admit) {
        keyring_admit(step, change, by);
        FLEET_FORMAT(done.text, "%s %s is admitted",
                     fleet_role_word(change->role), change->name);
    } else {
        uint32_t n = revoke(step, change, by);
        FLEET_FORMAT(done.text, "%u %s revoked", n,
                     n == 1 ? "key is" : "keys are");
    }
    step_peer(step, step->in->peer, FLEET_MESSAGE_done, sizeof(done))->done =
        done;
}

bool broker_core_key_row(const broker_core_t *core, uint32_t i,
                         fleet_key_row_t *ret_row) {
    uint32_t n = nth_key(core, i);
    if (n == NOBODY) {
        return false;
    }
    const broker_key_t *key = key_of(core, n);
    memset(ret_row, 0, sizeof(*ret_row));
    ret_row->role = key->role;
    FLEET_COPY(ret_row->name, key->name);
    memcpy(ret_row->key, key->key, sizeof(ret_row->key));
    ret_row->since_us = key->since_us;
    return true;
}
