// SPDX-License-Identifier: MIT
//
// Checks a journal entry by entry: numbers, hash chain, signatures.  Where the
// entries come from is the caller's.

#ifndef FLEET_CLI_CHAIN_H
#define FLEET_CLI_CHAIN_H

#include "proto/client.h"

typedef struct chain {
    uint64_t next;       // the number that must come now
    fleet_key_t hash;    // of the entry before it
    bool has_key;        // a reign has begun
    fleet_key_t key;     // the signing key of the present reign
    uint64_t signed_seq; // the last entry that a signature covers
    uint64_t broken;     // the entry that is wrong; 0: none so far
    fleet_text_t why;
} chain_t;

void chain_begin(chain_t *chain);

// Takes an entry with its two frames.  False if it is wrong, and from then on.
bool chain_take(chain_t *chain, const fleet_entry_t *entry, fleet_bytes_t event,
                fleet_bytes_t beside);

// All entries were taken.  False if the last ones bear no signature, or if the
// journal ends before `to` (0: any end).
bool chain_end(chain_t *chain, uint64_t to);

// For what a caller finds wrong itself.
bool chain_break(chain_t *chain, uint64_t seq, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
