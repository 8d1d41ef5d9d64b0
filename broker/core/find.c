// SPDX-License-Identifier: MIT
//
// Finding sets, nodes and keys: arrays of numbers sorted by name or key,
// searched by halves.  Entering is rare, looking up is in every heartbeat.

#include "broker/core/state.h"

uint64_t text_hash(uint64_t hash, const char *text) {
    hash = hash == 0 ? UINT64_C(14695981039346656037) : hash;
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * UINT64_C(1099511628211);
    }
    return (hash ^ 0xff) * UINT64_C(1099511628211); // "ab","c" is not "a","bc"
}

// Compares what is looked for with the item of that number.
typedef int (*compare_t)(const broker_core_t *core, const void *wanted,
                         uint32_t number);

static int compare_set(const broker_core_t *core, const void *wanted,
                       uint32_t number) {
    return strcmp(wanted, set_of(core, number)->name);
}

static int compare_node(const broker_core_t *core, const void *wanted,
                        uint32_t number) {
    return strcmp(wanted, node_of(core, number)->name);
}

static int compare_key(const broker_core_t *core, const void *wanted,
                       uint32_t number) {
    return memcmp(wanted, key_of(core, number)->key, FLEET_KEY_SIZE);
}

static int compare_key_name(const broker_core_t *core, const void *wanted,
                            uint32_t number) {
    const broker_key_t *a = wanted;
    const broker_key_t *b = key_of(core, number);
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : memcmp(a->key, b->key, FLEET_KEY_SIZE);
}

// The place of the first item that is not below what is wanted.
static uint32_t search(const broker_core_t *core, size_t order_at, uint32_t n,
                       compare_t compare, const void *wanted, bool *ret_found) {
    const uint32_t *order = u32s_of(core, order_at);
    uint32_t low = 0;
    uint32_t high = n;
    bool found = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int side = compare(core, wanted, order[middle]);
        found = found || side == 0;
        if (side > 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_found = found;
    return low;
}

static uint32_t lookup(const broker_core_t *core, size_t order_at, uint32_t n,
                       compare_t compare, const void *wanted) {
    bool found = false;
    uint32_t place = search(core, order_at, n, compare, wanted, &found);
    return found ? u32s_of(core, order_at)[place] : NOBODY;
}

// n: how many are in the order before.
static void enter(broker_core_t *core, size_t order_at, uint32_t n,
                  compare_t compare, const void *wanted, uint32_t number) {
    bool found = false;
    uint32_t place = search(core, order_at, n, compare, wanted, &found);
    assert(!found);
    uint32_t *order = u32s_of(core, order_at);
    memmove(order + place + 1, order + place, (n - place) * sizeof(*order));
    order[place] = number;
}

uint32_t find_set(const broker_core_t *core, const char *name) {
    return lookup(core, core->set_order_at, durable_of(core)->sets_n,
                  compare_set, name);
}

uint32_t find_node(const broker_core_t *core, const char *name) {
    return lookup(core, core->node_order_at, durable_of(core)->nodes_n,
                  compare_node, name);
}

uint32_t find_key(const broker_core_t *core, const fleet_key_t key) {
    return lookup(core, core->key_order_at, durable_of(core)->keys_n,
                  compare_key, key);
}

uint32_t find_request(const broker_core_t *core, const char *id) {
    const uint64_t *hashes = core_at(core, core->hashes_at);
    uint64_t hash = text_hash(0, id);
    for (uint32_t i = 0; i < durable_of(core)->requests_n; i++) {
        if (hashes[i] == hash && strcmp(request_of(core, i)->id, id) == 0) {
            return i;
        }
    }
    return NOBODY;
}

uint32_t nth_set(const broker_core_t *core, uint32_t i) {
    return i < durable_of(core)->sets_n ? u32s_of(core, core->set_order_at)[i]
                                        : NOBODY;
}

uint32_t nth_node(const broker_core_t *core, uint32_t i) {
    return i < durable_of(core)->nodes_n ? u32s_of(core, core->node_order_at)[i]
                                         : NOBODY;
}

uint32_t nth_key(const broker_core_t *core, uint32_t i) {
    return i < durable_of(core)->keys_n
               ? u32s_of(core, core->key_name_order_at)[i]
               : NOBODY;
}

const char *node_name(const broker_core_t *core, uint32_t node) {
    return node == NOBODY ? "" : node_of(core, node)->name;
}

void order_set(broker_core_t *core, uint32_t set) {
    enter(core, core->set_order_at, durable_of(core)->sets_n - 1, compare_set,
          set_of(core, set)->name, set);
}

void order_node(broker_core_t *core, uint32_t node) {
    enter(core, core->node_order_at, durable_of(core)->nodes_n - 1,
          compare_node, node_of(core, node)->name, node);
}

static void order_key_among(broker_core_t *core, uint32_t key, uint32_t n) {
    enter(core, core->key_order_at, n, compare_key, key_of(core, key)->key,
          key);
    enter(core, core->key_name_order_at, n, compare_key_name, key_of(core, key),
          key);
}

void order_key(broker_core_t *core, uint32_t key) {
    order_key_among(core, key, durable_of(core)->keys_n - 1);
}

void unorder_keys(broker_core_t *core) {
    size_t size = durable_of(core)->limits.keys * sizeof(uint32_t);
    memset(core_at(core, core->key_order_at), 0, size);
    memset(core_at(core, core->key_name_order_at), 0, size);
    for (uint32_t i = 0; i < durable_of(core)->keys_n; i++) {
        order_key_among(core, i, i);
    }
}
