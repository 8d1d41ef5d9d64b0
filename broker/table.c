// SPDX-License-Identifier: MIT

#include "broker/table.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

typedef struct cell {
    bool used;
    uint64_t value;
} cell_t;

struct table {
    size_t key_size;
    size_t room; // a power of two, at most half full
    size_t n;
    cell_t *cells;
    uint8_t *keys;
    uint8_t secret[crypto_shorthash_KEYBYTES];
};

static void make_room(table_t *table, size_t room) {
    table->room = room;
    table->n = 0;
    table->cells = calloc(room, sizeof *table->cells);
    table->keys = calloc(room, table->key_size);
    if (table->cells == NULL || table->keys == NULL) {
        abort();
    }
}

table_t *table_new(size_t key_size) {
    assert(key_size > 0);
    table_t *table = calloc(1, sizeof *table);
    if (table == NULL) {
        abort();
    }
    table->key_size = key_size;
    randombytes_buf(table->secret, sizeof table->secret);
    make_room(table, 64);
    return table;
}

void table_destroy(table_t **table_p) {
    if (*table_p == NULL) {
        return;
    }
    free((*table_p)->cells);
    free((*table_p)->keys);
    free(*table_p);
    *table_p = NULL;
}

static size_t wish(const table_t *table, const void *key) {
    uint64_t hash = 0;
    crypto_shorthash((unsigned char *)&hash, key, table->key_size,
                     table->secret);
    return (size_t)hash & (table->room - 1);
}

static uint8_t *key_at(const table_t *table, size_t at) {
    return table->keys + at * table->key_size;
}

// Where the key is, or the free cell where it would be.
static size_t find(const table_t *table, const void *key) {
    size_t at = wish(table, key);
    while (table->cells[at].used &&
           memcmp(key_at(table, at), key, table->key_size) != 0) {
        at = (at + 1) & (table->room - 1);
    }
    return at;
}

bool table_get(const table_t *table, const void *key, uint64_t *ret_value) {
    size_t at = find(table, key);
    if (!table->cells[at].used) {
        return false;
    }
    *ret_value = table->cells[at].value;
    return true;
}

static void put(table_t *table, const void *key, uint64_t value) {
    size_t at = find(table, key);
    if (!table->cells[at].used) {
        table->n++;
        table->cells[at].used = true;
        memcpy(key_at(table, at), key, table->key_size);
    }
    table->cells[at].value = value;
}

void table_set(table_t *table, const void *key, uint64_t value) {
    if (table->n * 2 >= table->room) {
        table_t old = *table;
        make_room(table, old.room * 2);
        for (size_t at = 0; at < old.room; at++) {
            if (old.cells[at].used) {
                put(table, key_at(&old, at), old.cells[at].value);
            }
        }
        free(old.cells);
        free(old.keys);
    }
    put(table, key, value);
}

void table_remove(table_t *table, const void *key) {
    size_t hole = find(table, key);
    if (!table->cells[hole].used) {
        return;
    }
    table->n--;
    // What probing had pushed past the hole moves back into it.
    size_t mask = table->room - 1;
    for (size_t at = (hole + 1) & mask; table->cells[at].used;
         at = (at + 1) & mask) {
        size_t home = wish(table, key_at(table, at));
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->cells[hole] = table->cells[at];
            memcpy(key_at(table, hole), key_at(table, at), table->key_size);
            hole = at;
        }
    }
    table->cells[hole].used = false;
}
