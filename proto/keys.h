// SPDX-License-Identifier: MIT
//
// Key files.  A key file holds one CURVE (X25519) secret key as 64 hex digits
// on its first line that is no comment; only its owner may read it.  The public
// key is computed from it; the broker's journal is signed with an Ed25519 key
// that is derived from the same secret (BLAKE2b, keyed with a fixed label).

#ifndef FLEET_KEYS_H
#define FLEET_KEYS_H

#include "proto/errors.h"

typedef struct fleet_key_pair {
    fleet_key_t public_key;
    fleet_key_t secret_key; // wipe with fleet_key_pair_wipe
} fleet_key_pair_t;

// Must be called once before any other function here.  Aborts if libsodium
// cannot start: there is nothing to do without random numbers.
void fleet_keys_init(void);

void fleet_key_pair_make(fleet_key_pair_t *ret_pair);
void fleet_key_pair_wipe(fleet_key_pair_t *pair);

// Writes a new key file with mode 0600; never overwrites.  FLEET_BAD_KEY with
// why.
fleet_err_t fleet_key_file_write(const char *path, const fleet_key_pair_t *pair,
                                 fleet_text_t ret_why);

// Reads a key file.  Refuses, with why and what to do, a file that anybody but
// its owner may read or write, that belongs to another user than this
// process's, or that holds no key.
fleet_err_t fleet_key_file_read(const char *path, fleet_key_pair_t *ret_pair,
                                fleet_text_t ret_why);

// Signing key of the journal; 64 bytes secret as libsodium keeps it.
typedef struct fleet_sign_pair {
    fleet_key_t public_key;
    uint8_t secret_key[64];
} fleet_sign_pair_t;

void fleet_sign_pair_derive(const fleet_key_pair_t *pair,
                            fleet_sign_pair_t *ret_sign);
void fleet_sign(const fleet_sign_pair_t *sign, const fleet_key_t hash,
                fleet_signature_t ret_signature);
bool fleet_sign_ok(const fleet_key_t public_key, const fleet_key_t hash,
                   const fleet_signature_t signature);

// BLAKE2b-256 over the parts, each preceded by its length as 8 bytes
// little-endian.
typedef struct fleet_bytes {
    const void *data;
    size_t size;
} fleet_bytes_t;
void fleet_hash(const fleet_bytes_t *parts, size_t parts_n,
                fleet_key_t ret_hash);

// The hash that a journal entry carries (message `entry`).
void fleet_entry_hash(const fleet_key_t previous, uint64_t seq,
                      fleet_bytes_t event, fleet_bytes_t beside,
                      fleet_key_t ret_hash);

#endif
