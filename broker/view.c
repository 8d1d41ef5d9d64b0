// SPDX-License-Identifier: MIT

#include "broker/view.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

#define KEY_SIZE (FLEET_NAME_MAX + 1) // of a name, and room for a public key

typedef struct since {
    char key[KEY_SIZE];
    uint64_t since_us;
    uint64_t requested_us; // sets: their latest transfer
    uint64_t heard_ms;     // nodes: not durable
} since_t;

// Sorted by key.
typedef struct list {
    uint64_t n;
    uint64_t room;
    since_t *items;
} list_t;

enum { NODES, SETS, KEYS, LISTS };

struct view {
    uint64_t started_us;
    list_t lists[LISTS];
};

static_assert(FLEET_KEY_SIZE <= KEY_SIZE,
              "a public key fits where a name does");

static void *grown(void *block, size_t size) {
    void *bigger = realloc(block, size);
    if (bigger == NULL) {
        abort();
    }
    return bigger;
}

view_t *view_new(void) {
    view_t *view = grown(NULL, sizeof *view);
    memset(view, 0, sizeof *view);
    return view;
}

static void clear(view_t *view) {
    for (int i = 0; i < LISTS; i++) {
        free(view->lists[i].items);
        view->lists[i].items = NULL;
    }
}

void view_destroy(view_t **view_p) {
    if (*view_p == NULL) {
        return;
    }
    clear(*view_p);
    free(*view_p);
    *view_p = NULL;
}

// Where the key is or would be.
static uint64_t place(const list_t *list, const char key[KEY_SIZE],
                      bool *ret_there) {
    uint64_t low = 0;
    uint64_t high = list->n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (memcmp(list->items[middle].key, key, KEY_SIZE) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_there =
        low < list->n && memcmp(list->items[low].key, key, KEY_SIZE) == 0;
    return low;
}

static const since_t *find(const list_t *list, const void *key, size_t size) {
    char padded[KEY_SIZE] = {0};
    bool there = false;
    memcpy(padded, key, size);
    uint64_t at = place(list, padded, &there);
    return there ? &list->items[at] : NULL;
}

static since_t *make(list_t *list, const void *key, size_t size) {
    char padded[KEY_SIZE] = {0};
    bool there = false;
    memcpy(padded, key, size);
    uint64_t at = place(list, padded, &there);
    if (there) {
        return &list->items[at];
    }
    if (list->n == list->room) {
        list->room = list->room * 2 + 32;
        list->items = grown(list->items, list->room * sizeof *list->items);
    }
    memmove(&list->items[at + 1], &list->items[at],
            (list->n - at) * sizeof *list->items);
    list->n++;
    list->items[at] = (since_t){0};
    memcpy(list->items[at].key, padded, KEY_SIZE);
    return &list->items[at];
}

static void drop(list_t *list, const void *key, size_t size) {
    char padded[KEY_SIZE] = {0};
    bool there = false;
    memcpy(padded, key, size);
    uint64_t at = place(list, padded, &there);
    if (there) {
        list->n--;
        memmove(&list->items[at], &list->items[at + 1],
                (list->n - at) * sizeof *list->items);
    }
}

#define BY_NAME(name) (name), strlen(name)

void view_fold(view_t *view, const fleet_message_t *event) {
    const fleet_head_t *head = &event->event.head;
    list_t *lists = view->lists;
    // The types that are missing here change nothing that has a "since".
    switch ((uint64_t)event->type) {
    case FLEET_MESSAGE_reign_began:
        view->started_us = head->time_us;
        break;
    case FLEET_MESSAGE_set_defined:
    case FLEET_MESSAGE_set_released:
    case FLEET_MESSAGE_set_granted:
    case FLEET_MESSAGE_set_acquired:
    case FLEET_MESSAGE_set_stuck:
    case FLEET_MESSAGE_set_unstuck:
    case FLEET_MESSAGE_set_degraded:
    case FLEET_MESSAGE_set_recovered:
        make(&lists[SETS], BY_NAME(head->set))->since_us = head->time_us;
        break;
    case FLEET_MESSAGE_transfer_requested:
        make(&lists[SETS], BY_NAME(head->set))->requested_us = head->time_us;
        break;
    case FLEET_MESSAGE_set_removed:
        drop(&lists[SETS], BY_NAME(head->set));
        break;
    case FLEET_MESSAGE_node_added:
    case FLEET_MESSAGE_node_online:
    case FLEET_MESSAGE_node_lapsed:
    case FLEET_MESSAGE_node_down:
        make(&lists[NODES], BY_NAME(head->node))->since_us = head->time_us;
        break;
    case FLEET_MESSAGE_key_admitted:
        make(&lists[KEYS], event->key_admitted.key, FLEET_KEY_SIZE)->since_us =
            head->time_us;
        break;
    case FLEET_MESSAGE_key_revoked:
        drop(&lists[KEYS], event->key_revoked.key, FLEET_KEY_SIZE);
        break;
    default:
        break;
    }
}

void view_heard(view_t *view, const char *node, uint64_t now_ms) {
    make(&view->lists[NODES], BY_NAME(node))->heard_ms = now_ms;
}

void view_node(const view_t *view, uint64_t now_ms, fleet_node_row_t *row) {
    const since_t *node = find(&view->lists[NODES], BY_NAME(row->name));
    if (node == NULL) {
        return;
    }
    row->since_us = node->since_us;
    if (node->heard_ms > 0) {
        row->lease_age_ms = now_ms - node->heard_ms;
    }
}

void view_set(const view_t *view, fleet_set_row_t *row) {
    const since_t *set = find(&view->lists[SETS], BY_NAME(row->name));
    const since_t *owner = find(&view->lists[NODES], BY_NAME(row->owner));
    if (set == NULL) {
        return;
    }
    row->since_us = set->since_us;
    if (row->state == fleet_set_state_STOPPING) {
        row->since_us = set->requested_us;
    } else if (row->state == fleet_set_state_UNKNOWN && owner != NULL) {
        row->since_us = owner->since_us;
    }
}

void view_key(const view_t *view, fleet_key_row_t *row) {
    const since_t *key = find(&view->lists[KEYS], row->key, FLEET_KEY_SIZE);
    if (key != NULL) {
        row->since_us = key->since_us;
    }
}

void view_problem(const view_t *view, fleet_reason_t *reason) {
    const since_t *set = find(&view->lists[SETS], BY_NAME(reason->set));
    const since_t *node = find(&view->lists[NODES], BY_NAME(reason->node));
    if (reason->since_us != 0) {
        return;
    }
    if (set != NULL) {
        reason->since_us = set->since_us;
    } else if (node != NULL) {
        reason->since_us = node->since_us;
    }
}

uint64_t view_started_us(const view_t *view) {
    return view->started_us;
}

// started_us, then for each list its number and its items, without what is not
// durable.
void view_save(const view_t *view, uint8_t **ret_data, size_t *ret_size) {
    size_t size = sizeof view->started_us;
    for (int i = 0; i < LISTS; i++) {
        size += sizeof(uint64_t) + view->lists[i].n * sizeof(since_t);
    }
    uint8_t *data = grown(NULL, size);
    uint8_t *to = data;
    memcpy(to, &view->started_us, sizeof view->started_us);
    to += sizeof view->started_us;
    for (int i = 0; i < LISTS; i++) {
        const list_t *list = &view->lists[i];
        memcpy(to, &list->n, sizeof list->n);
        to += sizeof list->n;
        for (uint64_t at = 0; at < list->n; at++) {
            since_t item;
            // Padding and all, so that equal views are equal bytes.
            memset(&item, 0, sizeof item);
            memcpy(item.key, list->items[at].key, KEY_SIZE);
            item.since_us = list->items[at].since_us;
            item.requested_us = list->items[at].requested_us;
            memcpy(to, &item, sizeof item);
            to += sizeof item;
        }
    }
    *ret_data = data;
    *ret_size = size;
}

bool view_load(view_t *view, const uint8_t *data, size_t size) {
    view_t loaded = {0};
    size_t at = sizeof loaded.started_us;
    bool good = size >= at;
    if (good) {
        memcpy(&loaded.started_us, data, at);
    }
    for (int i = 0; good && i < LISTS; i++) {
        list_t *list = &loaded.lists[i];
        uint64_t n = 0;
        good = size - at >= sizeof n;
        if (good) {
            memcpy(&n, data + at, sizeof n);
            at += sizeof n;
            good = n <= (size - at) / sizeof(since_t);
        }
        if (good && n > 0) {
            list->n = list->room = n;
            list->items = grown(NULL, n * sizeof(since_t));
            memcpy(list->items, data + at, n * sizeof(since_t));
            at += n * sizeof(since_t);
        }
    }
    good = good && at == size;
    if (good) {
        clear(view);
        *view = loaded;
    } else {
        clear(&loaded);
    }
    return good;
}
