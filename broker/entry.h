// SPDX-License-Identifier: MIT
//
// Entries of the journal: an event and what is beside it, as bytes, each hashed
// into a chain with the one before, the last of each commit signed.  What the
// bytes mean is the codec's, where they are kept is the store's.

#ifndef FLEET_BROKER_ENTRY_H
#define FLEET_BROKER_ENTRY_H

#include "broker/store.h"

// The entries of one commit, in the making.
typedef struct entry_batch entry_batch_t;

entry_batch_t *entry_batch_new(void);
void entry_batch_destroy(entry_batch_t **batch_p);

// Adds an event and, unless it is NULL, what is beside it.  An event or
// attachment that cannot be encoded is a bug.
void entry_batch_add(entry_batch_t *batch, const fleet_message_t *event,
                     const fleet_message_t *beside);

size_t entry_batch_count(const entry_batch_t *batch);

// Chains all entries to `previous`, signs the last, and lends them until the
// next call on this batch.
const store_entry_t *entry_batch_seal(entry_batch_t *batch,
                                      const fleet_key_t previous,
                                      const fleet_sign_pair_t *sign);

void entry_batch_reset(entry_batch_t *batch);

// Reads an entry that follows one with hash `previous` (NULL: whatever it
// says). FLEET_BAD_MESSAGE with why if the chain is broken, if its bytes are no
// event, or if what it is found by is not what the event says.
fleet_err_t entry_open(const store_entry_t *entry, const fleet_key_t previous,
                       fleet_message_t *ret_event, fleet_text_t ret_why);

// The message `entry` that stands before the frames of one on the bus.
void entry_message(const store_entry_t *entry, const char *ask,
                   fleet_message_t *ret_message);

#endif
