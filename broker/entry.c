// SPDX-License-Identifier: MIT

#include "broker/entry.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/text.h"

typedef struct span {
    size_t at;
    size_t size;
} span_t;

struct entry_batch {
    size_t n;
    size_t room;
    store_entry_t *entries;
    span_t *events; // in bytes, which moves while it grows
    span_t *besides;
    uint8_t *bytes;
    size_t bytes_n;
    size_t bytes_room;
};

static void *grown(void *block, size_t size) {
    void *bigger = realloc(block, size);
    if (bigger == NULL) {
        abort();
    }
    return bigger;
}

entry_batch_t *entry_batch_new(void) {
    entry_batch_t *batch = grown(NULL, sizeof *batch);
    memset(batch, 0, sizeof *batch);
    return batch;
}

void entry_batch_destroy(entry_batch_t **batch_p) {
    if (*batch_p == NULL) {
        return;
    }
    free((*batch_p)->entries);
    free((*batch_p)->events);
    free((*batch_p)->besides);
    free((*batch_p)->bytes);
    free(*batch_p);
    *batch_p = NULL;
}

static span_t encode(entry_batch_t *batch, const fleet_message_t *message) {
    if (batch->bytes_room - batch->bytes_n < FLEET_FRAME_MAX) {
        batch->bytes_room = batch->bytes_room * 2 + FLEET_FRAME_MAX;
        batch->bytes = grown(batch->bytes, batch->bytes_room);
    }
    span_t span = {.at = batch->bytes_n};
    fleet_err_t err = fleet_encode(message, batch->bytes + batch->bytes_n,
                                   FLEET_FRAME_MAX, &span.size);
    assert(err == FLEET_OK);
    batch->bytes_n += span.size;
    return span;
}

// The revision of the definition that stands beside an event.
static uint64_t event_rev(const fleet_message_t *event) {
    if (event->type == FLEET_MESSAGE_set_defined) {
        return event->set_defined.rev;
    }
    return event->type == FLEET_MESSAGE_set_changed ? event->set_changed.rev
                                                    : 0;
}

void entry_batch_add(entry_batch_t *batch, const fleet_message_t *event,
                     const fleet_message_t *beside) {
    assert(fleet_message_is_event(event->type));
    if (batch->n == batch->room) {
        batch->room = batch->room * 2 + 16;
        batch->entries =
            grown(batch->entries, batch->room * sizeof *batch->entries);
        batch->events =
            grown(batch->events, batch->room * sizeof *batch->events);
        batch->besides =
            grown(batch->besides, batch->room * sizeof *batch->besides);
    }
    store_entry_t *entry = &batch->entries[batch->n];
    memset(entry, 0, sizeof *entry);
    entry->seq = event->event.head.seq;
    entry->type = event->type;
    FLEET_COPY(entry->set, event->event.head.set);
    entry->transfer = event->event.head.transfer;
    entry->rev = event_rev(event);
    batch->events[batch->n] = encode(batch, event);
    batch->besides[batch->n] =
        beside != NULL ? encode(batch, beside) : (span_t){0};
    batch->n++;
}

size_t entry_batch_count(const entry_batch_t *batch) {
    return batch->n;
}

const store_entry_t *entry_batch_seal(entry_batch_t *batch,
                                      const fleet_key_t previous,
                                      const fleet_sign_pair_t *sign) {
    assert(batch->n > 0);
    for (size_t i = 0; i < batch->n; i++) {
        store_entry_t *entry = &batch->entries[i];
        entry->event.data = batch->bytes + batch->events[i].at;
        entry->event.size = batch->events[i].size;
        entry->beside.data = batch->bytes + batch->besides[i].at;
        entry->beside.size = batch->besides[i].size;
        memcpy(entry->previous, i > 0 ? batch->entries[i - 1].hash : previous,
               FLEET_KEY_SIZE);
        fleet_entry_hash(entry->previous, entry->seq, entry->event,
                         entry->beside, entry->hash);
    }
    store_entry_t *last = &batch->entries[batch->n - 1];
    fleet_sign(sign, last->hash, last->signature);
    last->is_signed = true;
    return batch->entries;
}

void entry_batch_reset(entry_batch_t *batch) {
    batch->n = 0;
    batch->bytes_n = 0;
}

fleet_err_t entry_open(const store_entry_t *entry, const fleet_key_t previous,
                       fleet_message_t *ret_event, fleet_text_t ret_why) {
    fleet_key_t hash;
    fleet_entry_hash(entry->previous, entry->seq, entry->event, entry->beside,
                     hash);
    if (memcmp(hash, entry->hash, FLEET_KEY_SIZE) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "entry %" PRIu64 " was changed: its hash is wrong",
                          entry->seq);
        return FLEET_BAD_MESSAGE;
    }
    if (previous != NULL &&
        memcmp(previous, entry->previous, FLEET_KEY_SIZE) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "entry %" PRIu64
                          " does not follow the one before it: an entry was "
                          "changed, removed, repeated or moved",
                          entry->seq);
        return FLEET_BAD_MESSAGE;
    }
    fleet_text_t said = "";
    fleet_err_t err =
        fleet_decode(entry->event.data, entry->event.size, ret_event, &said);
    if (err != FLEET_OK || !fleet_message_is_event(ret_event->type)) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "entry %" PRIu64 " is no event: %.120s", entry->seq,
                          err != FLEET_OK ? said : "another message");
        return FLEET_BAD_MESSAGE;
    }
    const fleet_head_t *head = &ret_event->event.head;
    if (head->seq != entry->seq || ret_event->type != entry->type ||
        strcmp(head->set, entry->set) != 0 ||
        head->transfer != entry->transfer ||
        event_rev(ret_event) != entry->rev) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "entry %" PRIu64
                          " is filed under what its event does not say",
                          entry->seq);
        return FLEET_BAD_MESSAGE;
    }
    return FLEET_OK;
}

void entry_message(const store_entry_t *entry, const char *ask,
                   fleet_message_t *ret_message) {
    fleet_entry_t *head = &ret_message->entry;
    memset(head, 0, sizeof *head);
    ret_message->type = FLEET_MESSAGE_entry;
    FLEET_COPY(head->ask, ask);
    head->seq = entry->seq;
    memcpy(head->previous, entry->previous, FLEET_KEY_SIZE);
    memcpy(head->hash, entry->hash, FLEET_KEY_SIZE);
    head->is_signed = entry->is_signed;
    if (entry->is_signed) {
        memcpy(head->signature, entry->signature, FLEET_SIGNATURE_SIZE);
    }
}
