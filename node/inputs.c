// SPDX-License-Identifier: MIT
//
// Messages of the broker as inputs of the core, with the definition that came
// beside some of them, and to whoever asked through this node.

#include <string.h>

#include "node/log.h"
#include "node/loop_state.h"
#include "proto/codec.h"
#include "proto/text.h"

// The set and revision whose definition a message carries; false: none.
static bool names_definition(const fleet_message_t *message,
                             const char **ret_set, uint64_t *ret_rev) {
    *ret_rev = 0;
    if (message->type == FLEET_MESSAGE_watch_set) {
        *ret_set = message->watch_set.set;
        *ret_rev = message->watch_set.rev;
    } else if (message->type == FLEET_MESSAGE_prepare) {
        *ret_set = message->prepare.set;
        *ret_rev = message->prepare.rev;
    } else if (message->type == FLEET_MESSAGE_acquire) {
        *ret_set = message->acquire.set;
        *ret_rev = message->acquire.rev;
    } else if (message->type == FLEET_MESSAGE_evict) {
        *ret_set = message->evict.set;
    } else {
        return false;
    }
    return true;
}

// The frame is the YAML itself, or a message `definition` with it.
static bool take_yaml(loop_t *loop, const fleet_parcel_t *parcel) {
    if (parcel->frames_n == 0 || parcel->frames[0].size == 0) {
        return false;
    }
    const uint8_t *data = parcel->frames[0].data;
    size_t size = parcel->frames[0].size;
    if (data[0] >= 0x80 &&
        fleet_decode(data, size, &loop->message, NULL) == FLEET_OK &&
        loop->message.type == FLEET_MESSAGE_definition) {
        loop->yaml = loop->message.definition.yaml;
        loop->yaml_size = strlen(loop->message.definition.yaml);
        return true;
    }
    loop->yaml = (const char *)data;
    loop->yaml_size = size;
    return size <= FLEET_YAML_MAX;
}

// A definition that is kept already is not read again: reading takes longer
// than many a start.
static const fleet_setdef_t *find_same(const loop_t *loop, const char *set,
                                       uint64_t rev) {
    const fleet_setdef_t *kept = defs_find(loop->defs, set, rev);
    fleet_key_t digest;
    fleet_bytes_t part = {loop->yaml, loop->yaml_size};
    fleet_hash(&part, 1, digest);
    return kept && memcmp(kept->facts.digest, digest, sizeof(digest)) == 0
               ? kept
               : NULL;
}

static void take_definition(loop_t *loop, const fleet_parcel_t *parcel) {
    const char *set = NULL;
    uint64_t rev = 0;
    if (!names_definition(&parcel->message, &set, &rev) ||
        !take_yaml(loop, parcel)) {
        return;
    }
    const fleet_setdef_t *same = find_same(loop, set, rev);
    if (same) {
        // A copy: keeping a newer one may free it under the core's hands.
        loop->read_setdef = *same;
    } else {
        memset(&loop->complaints, 0, sizeof(loop->complaints));
        if (fleet_setdef_read(loop->yaml, loop->yaml_size, &loop->read_setdef,
                              &loop->complaints) != FLEET_OK) {
            log_error(
                "%s: the definition that the broker sent is not read "
                "here: line %u: %s",
                set, loop->complaints.items[0].line,
                loop->complaints.items[0].text);
            return;
        }
    }
    if (strcmp(loop->read_setdef.set, set) != 0) {
        log_error("%s: the broker sent the definition of %s with it", set,
                  loop->read_setdef.set);
        return;
    }
    loop->setdef = &loop->read_setdef;
    loop->setdef_rev = rev;
}

static void forget_definition(loop_t *loop) {
    loop->yaml = NULL;
    loop->yaml_size = 0;
    loop->setdef = NULL;
    loop->setdef_rev = 0;
}

// The broker has answered: from now on this directory has a memory (P16).
static void take_session(loop_t *loop, const fleet_hello_ok_t *hello_ok) {
    static fleet_local_head_t head;
    fleet_text_t why;
    node_core_head(loop->core, &head);
    loop->status_changed = true;
    if (!head.connected) {
        return; // it was not the answer to the last hello
    }
    loop->lease_ms = hello_ok->lease_ms;
    if (!loop->remembers &&
        record_remember(loop->records, loop->config.pair.public_key, why) !=
            FLEET_OK) {
        loop_fail(loop, "the state directory cannot be marked", why);
    }
    loop->remembers = true;
}

void loop_parcel(loop_t *loop, const fleet_parcel_t *parcel) {
    if (asks_relay(loop->asks, &parcel->message)) {
        return;
    }
    take_definition(loop, parcel);
    memset(&loop->input, 0, sizeof(loop->input));
    node_input_t *input = &loop->input;
    input->kind = NODE_IN_MESSAGE;
    input->message = &parcel->message;
    input->setdef = loop->setdef;
    input->rev = loop->setdef_rev;
    loop_step(loop, input);
    if (parcel->message.type == FLEET_MESSAGE_hello_ok) {
        take_session(loop, &parcel->message.hello_ok);
    } else if (parcel->message.type == FLEET_MESSAGE_say_hello) {
        loop->status_changed = true;
    }
    forget_definition(loop);
}
