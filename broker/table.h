// SPDX-License-Identifier: MIT
//
// A hash table from keys of one fixed size to numbers: open addressing, keyed
// hash, because who may connect chooses the keys.

#ifndef FLEET_BROKER_TABLE_H
#define FLEET_BROKER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct table table_t;

table_t *table_new(size_t key_size);
void table_destroy(table_t **table_p);

// False if the key is not there; ret_value is then untouched.
bool table_get(const table_t *table, const void *key, uint64_t *ret_value);
void table_set(table_t *table, const void *key, uint64_t value);
void table_remove(table_t *table, const void *key);

#endif
