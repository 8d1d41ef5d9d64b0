// SPDX-License-Identifier: MIT
//
// A round: steps of the core, their effects gathered, one commit for all of
// them, and only then everything that they let out, in their order (promise
// S3).

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "broker/shell.h"
#include "proto/codec.h"
#include "proto/text.h"

void shell_clock(shell_t *shell) {
    struct timespec now;
    // Counts through suspend, as the leases do.
    clock_gettime(CLOCK_BOOTTIME, &now);
    shell->now_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    shell->now_ms = (uint64_t)shell->now_us / 1000;
}

static uint64_t wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// ------------------------------------------------------------------- gathering

static void mark_changed(shell_t *shell, const char *name) {
    changed_t *changed = &shell->changed;
    for (uint32_t i = 0; i < changed->n; i++) {
        if (strcmp(changed->names[i], name) == 0) {
            return;
        }
    }
    if (changed->n == changed->room) {
        changed->room = changed->room * 2 + 64;
        changed->names =
            realloc(changed->names, changed->room * sizeof(fleet_name_t));
        if (changed->names == NULL) {
            abort();
        }
    }
    FLEET_COPY(changed->names[changed->n], name);
    changed->n++;
}

// Everyone who follows gets the end, and follows no longer.
static void tell_end(shell_t *shell, const fleet_transfer_t *transfer) {
    uint64_t peer = 0;
    fleet_id_t ask;
    shell->scratch.type = FLEET_MESSAGE_transfer;
    shell->scratch.transfer = *transfer;
    for (uint32_t i = 0;
         followers_of(shell->followers, transfer->transfer, i, &peer, ask);
         i++) {
        FLEET_COPY(shell->scratch.transfer.ask, ask);
        outbox_send(shell->outbox, peer, &shell->scratch);
    }
    followers_ended(shell->followers, transfer->transfer);
}

// What stands beside an event, in shell->beside; NULL: nothing.
static const fleet_message_t *make_beside(shell_t *shell,
                                          const fleet_message_t *event) {
    fleet_message_t *beside = &shell->beside;
    const fleet_head_t *head = &event->event.head;
    if (event->type == FLEET_MESSAGE_transfer_ended) {
        beside->type = FLEET_MESSAGE_transfer;
        bool known = book_read(shell->book, head->transfer, shell->now_us,
                               &beside->transfer);
        assert(known);
        return beside;
    }
    if (event->type != FLEET_MESSAGE_set_defined &&
        event->type != FLEET_MESSAGE_set_changed) {
        return NULL;
    }
    assert(shell->applying != NULL);
    fleet_definition_t *definition = &beside->definition;
    memset(definition, 0, sizeof *definition);
    beside->type = FLEET_MESSAGE_definition;
    FLEET_COPY(definition->set, head->set);
    definition->rev = event->type == FLEET_MESSAGE_set_defined
                          ? event->set_defined.rev
                          : event->set_changed.rev;
    FLEET_COPY(definition->yaml, shell->applying->yaml);
    return beside;
}

static void gather_commit(shell_t *shell, const fleet_message_t *event) {
    view_fold(shell->view, event);
    book_fold(shell->book, event, shell->now_us);
    const fleet_message_t *beside = make_beside(shell, event);
    entry_batch_add(shell->batch, event, beside);
    if (event->type == FLEET_MESSAGE_transfer_ended) {
        tell_end(shell, &beside->transfer);
    }
    if (event->type == FLEET_MESSAGE_node_added) {
        shell->fences_untold = true;
    }
}

// The set whose definition follows a message as second frame, and its revision;
// NULL: none does.
static const char *definition_of(const fleet_message_t *message,
                                 uint64_t *ret_rev) {
    *ret_rev = 0;
    switch ((uint64_t)message->type) {
    case FLEET_MESSAGE_watch_set:
        *ret_rev = message->watch_set.rev;
        return message->watch_set.gone ? NULL : message->watch_set.set;
    case FLEET_MESSAGE_prepare:
        *ret_rev = message->prepare.rev;
        return message->prepare.undo ? NULL : message->prepare.set;
    case FLEET_MESSAGE_acquire:
        *ret_rev = message->acquire.rev;
        return message->acquire.set;
    case FLEET_MESSAGE_evict:
        return message->evict.set;
    default:
        return NULL;
    }
}

static void gather_node(shell_t *shell, const broker_effect_t *effect) {
    uint64_t rev = 0;
    const char *set = definition_of(&effect->message, &rev);
    uint64_t peer = peers_node(shell->peers, effect->name);
    if (peer == 0) {
        // Its connection broke and it has not come back: what stands is sent
        // again after its next hello (P11).
        shell->dropped++;
    } else if (set != NULL) {
        outbox_send_definition(shell->outbox, peer, &effect->message, set, rev);
    } else {
        outbox_send(shell->outbox, peer, &effect->message);
    }
}

static void gather_answer(shell_t *shell, const broker_effect_t *effect) {
    const fleet_message_t *message = &effect->message;
    fleet_message_t *scratch = &shell->scratch;
    if (message->type == FLEET_MESSAGE_transfer &&
        message->transfer.transfer > 0) {
        // The core knows how it ended, the journal has all of it.
        scratch->type = FLEET_MESSAGE_transfer;
        if (!shell_transfer(shell, message->transfer.transfer,
                            &scratch->transfer)) {
            scratch->transfer = message->transfer;
        }
        FLEET_COPY(scratch->transfer.ask, message->transfer.ask);
        outbox_send(shell->outbox, effect->peer, scratch);
        return;
    }
    if (message->type == FLEET_MESSAGE_applied) {
        scratch->type = FLEET_MESSAGE_applied;
        scratch->applied = message->applied;
        if (scratch->applied.changed) {
            FLEET_COPY(scratch->applied.diff, shell->diff);
        }
        outbox_send(shell->outbox, effect->peer, scratch);
        return;
    }
    outbox_send(shell->outbox, effect->peer, message);
    if (message->type == FLEET_MESSAGE_accepted) {
        uint64_t transfer = message->accepted.transfer;
        followers_add(shell->followers, effect->peer, transfer, "");
        // Asked for again after its end: the end is told at once.
        scratch->type = FLEET_MESSAGE_transfer;
        if (shell_transfer(shell, transfer, &scratch->transfer) &&
            scratch->transfer.ended_us > 0) {
            fleet_transfer_t *ended = &shell->beside.transfer;
            *ended = scratch->transfer;
            tell_end(shell, ended);
        }
    }
}

static void gather(shell_t *shell, const broker_effect_t *effect) {
    switch (effect->kind) {
    case BROKER_OUT_COMMIT:
        gather_commit(shell, &effect->message);
        break;
    case BROKER_OUT_NODE:
        gather_node(shell, effect);
        break;
    case BROKER_OUT_PEER:
        gather_answer(shell, effect);
        break;
    case BROKER_OUT_SESSION:
        peers_session(shell->peers, effect->peer, effect->name);
        break;
    case BROKER_OUT_CUT:
        outbox_cut(shell->outbox, effect->key);
        break;
    case BROKER_OUT_FENCE:
        outbox_fence(shell->outbox, effect->name);
        break;
    case BROKER_OUT_CHANGED:
        mark_changed(shell, effect->name);
        break;
    case BROKER_OUT_NOTE:
        if (shell->stepping != NULL) {
            broker_log_limited(&shell->limits, shell->now_ms, shell->stepping,
                               "not-permitted", effect->text);
        } else {
            outbox_note(shell->outbox, effect->text);
        }
        break;
    }
}

void shell_step(shell_t *shell, broker_input_t *input) {
    // Whole milliseconds are told; the rest is carried to the next step.
    input->elapsed_ms = (uint64_t)(shell->now_us - shell->stepped_us) / 1000;
    shell->stepped_us += (int64_t)input->elapsed_ms * 1000;
    input->time_us = wall_us();
    broker_core_step(shell->core, input, shell->effects);
    for (uint32_t i = 0; i < shell->effects->n; i++) {
        gather(shell, &shell->effects->items[i]);
    }
}

void shell_tell_fences(shell_t *shell) {
    shell->fences_untold = false;
    for (uint32_t i = 0; i < shell->settings.fences_n; i++) {
        broker_input_t input = {.kind = BROKER_IN_FENCEABLE};
        FLEET_COPY(input.name, shell->settings.fences[i].node);
        shell_step(shell, &input);
    }
}

// ----------------------------------------------------------------- definitions

typedef struct found {
    bool there;
    uint8_t *data;
    size_t size;
    fleet_message_t *message;
} found_t;

static bool on_definition(void *context, const store_entry_t *entry) {
    found_t *found = context;
    found->size = entry->beside.size;
    found->data = malloc(found->size + 1);
    if (found->data == NULL) {
        abort();
    }
    memcpy(found->data, entry->beside.data, found->size);
    found->there = true;
    return false;
}

bool shell_definition(shell_t *shell, const char *set, uint64_t rev,
                      uint8_t **ret_data, size_t *ret_size) {
    found_t found = {0};
    fleet_text_t why = "";
    if (store_definition(shell->store, set, rev, on_definition, &found, why) !=
        FLEET_OK) {
        broker_log_error("%s", why);
    }
    if (found.there) {
        *ret_data = found.data;
        *ret_size = found.size;
    }
    return found.there;
}

static bool on_transfer(void *context, const store_entry_t *entry) {
    found_t *found = context;
    if (entry->type != FLEET_MESSAGE_transfer_ended) {
        return true;
    }
    found->there = fleet_decode(entry->beside.data, entry->beside.size,
                                found->message, NULL) == FLEET_OK &&
                   found->message->type == FLEET_MESSAGE_transfer;
    return false;
}

bool shell_transfer(shell_t *shell, uint64_t transfer,
                    fleet_transfer_t *ret_transfer) {
    if (book_read(shell->book, transfer, shell->now_us, ret_transfer)) {
        return true;
    }
    fleet_text_t why = "";
    found_t found = {.message = &shell->beside};
    if (store_transfer(shell->store, transfer, on_transfer, &found, why) !=
        FLEET_OK) {
        broker_log_error("%s", why);
    }
    if (found.there) {
        *ret_transfer = found.message->transfer;
    }
    return found.there;
}

// ----------------------------------------------------------------- letting out

static void send_out(shell_t *shell, const outbox_item_t *item,
                     uint8_t *const frames[2]) {
    fleet_parcel_t *out = &shell->out;
    peer_t *peer = peers_find(shell->peers, item->peer);
    uint8_t *definition = NULL;
    if (peer == NULL || shell->control == NULL) {
        shell->dropped++;
        return;
    }
    out->frames_n = (uint32_t)item->frames_n;
    for (size_t i = 0; i < item->frames_n; i++) {
        out->frames[i].data = frames[i];
        out->frames[i].size = item->sizes[i];
    }
    if (item->definition) {
        if (!shell_definition(shell, item->name, item->rev, &definition,
                              &out->frames[0].size)) {
            broker_log_error("set %s has no definition of revision %" PRIu64
                             " in the journal",
                             item->name, item->rev);
            return;
        }
        out->frames[0].data = definition;
        out->frames_n = 1;
    }
    if (!fleet_bus_send(shell->control, &peer->route, out)) {
        bool gone = zmq_errno() == EHOSTUNREACH;
        peer->dropped++;
        shell->dropped++;
        if (gone) {
            followers_gone(shell->followers, peer->number);
            peers_gone(shell->peers, peer->number);
        }
    }
    free(definition);
}

static void fence_out(shell_t *shell, const char *node) {
    const broker_fence_settings_t *fence =
        broker_config_fence(&shell->settings, node);
    if (fence == NULL) {
        // Ends at once, like every command that cannot be started.
        fence_start(shell->fence, node, "", 0, shell->now_ms);
        return;
    }
    broker_log_info("fence %s: running its command, limit %" PRIu64 " ms", node,
                    fence->limit_ms);
    fence_start(shell->fence, node, fence->command, fence->limit_ms,
                shell->now_ms);
}

static void let_out(shell_t *shell, const outbox_item_t *item,
                    uint8_t *const frames[2]) {
    switch (item->kind) {
    case OUTBOX_SEND:
        send_out(shell, item, frames);
        break;
    case OUTBOX_PUBLISH:
        shell->out.frames_n = 0;
        if (shell->events != NULL) {
            fleet_bus_publish(shell->events, item->name, &shell->out);
        }
        break;
    case OUTBOX_CUT:
        broker_log_info("%" PRIu32 " connections of a revoked key are cut",
                        peers_cut(shell->peers, item->key));
        break;
    case OUTBOX_FENCE:
        fence_out(shell, item->name);
        break;
    case OUTBOX_NOTE:
        broker_log_info("%s", item->text);
        break;
    }
}

static void publish_entries(shell_t *shell, const store_entry_t *entries,
                            size_t n) {
    fleet_parcel_t *out = &shell->out;
    for (size_t i = 0; i < n && shell->events != NULL; i++) {
        entry_message(&entries[i], "", &out->message);
        out->frames_n = 2;
        // Frames to be sent are loans; the bus does not write them.
        out->frames[0].data = (uint8_t *)(uintptr_t)entries[i].event.data;
        out->frames[0].size = entries[i].event.size;
        out->frames[1].data = (uint8_t *)(uintptr_t)entries[i].beside.data;
        out->frames[1].size = entries[i].beside.size;
        fleet_bus_publish(shell->events, "e", out);
    }
}

static void publish_rows(shell_t *shell) {
    fleet_parcel_t *out = &shell->out;
    char topic[64];
    out->frames_n = 0;
    for (uint32_t i = 0; i < shell->changed.n && shell->events != NULL; i++) {
        const char *name = shell->changed.names[i];
        memset(&out->message, 0, sizeof out->message);
        if (shell_find_node(shell, name, &out->message.node_row)) {
            out->message.type = FLEET_MESSAGE_node_row;
            FLEET_FORMAT(topic, "n/%s", name);
            fleet_bus_publish(shell->events, topic, out);
            continue;
        }
        if (shell_find_set(shell, name, &out->message.set_row)) {
            out->message.type = FLEET_MESSAGE_set_row;
            FLEET_FORMAT(topic, "s/%s", name);
            fleet_bus_publish(shell->events, topic, out);
        }
    }
    shell->changed.n = 0;
}

fleet_err_t shell_commit(shell_t *shell, fleet_text_t ret_why) {
    size_t n = entry_batch_count(shell->batch);
    const store_entry_t *entries = NULL;
    if (n > 0) {
        entries =
            entry_batch_seal(shell->batch, shell->head_hash, &shell->sign);
        fleet_err_t err = store_append(shell->store, entries, n, ret_why);
        if (err != FLEET_OK) {
            return err;
        }
        memcpy(shell->head_hash, entries[n - 1].hash, FLEET_KEY_SIZE);
        book_settle(shell->book);
    }
    outbox_item_t item;
    uint8_t *frames[2] = {NULL, NULL};
    while (outbox_next(shell->outbox, &item, &shell->out.message, frames)) {
        let_out(shell, &item, frames);
    }
    outbox_reset(shell->outbox);
    publish_entries(shell, entries, n);
    publish_rows(shell);
    entry_batch_reset(shell->batch);
    return FLEET_OK;
}
