// SPDX-License-Identifier: MIT

#include "broker/followers.h"

#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

#define FOLLOWERS_MAX 8192
#define FOLLOWERS_PEER_MAX 1024 // an operator who moves a whole site at once

typedef struct follower {
    uint64_t peer;
    uint64_t transfer;
    fleet_id_t ask;
} follower_t;

struct followers {
    uint32_t n;
    follower_t items[FOLLOWERS_MAX];
};

followers_t *followers_new(void) {
    followers_t *followers = calloc(1, sizeof *followers);
    if (followers == NULL) {
        abort();
    }
    return followers;
}

void followers_destroy(followers_t **followers_p) {
    free(*followers_p);
    *followers_p = NULL;
}

bool followers_add(followers_t *followers, uint64_t peer, uint64_t transfer,
                   const char *ask) {
    uint32_t of_peer = 0;
    for (uint32_t i = 0; i < followers->n; i++) {
        follower_t *item = &followers->items[i];
        if (item->peer != peer) {
            continue;
        }
        if (item->transfer == transfer) {
            FLEET_COPY(item->ask, ask);
            return true;
        }
        of_peer++;
    }
    if (followers->n == FOLLOWERS_MAX || of_peer >= FOLLOWERS_PEER_MAX) {
        return false;
    }
    follower_t *item = &followers->items[followers->n++];
    item->peer = peer;
    item->transfer = transfer;
    FLEET_COPY(item->ask, ask);
    return true;
}

bool followers_of(const followers_t *followers, uint64_t transfer, uint32_t i,
                  uint64_t *ret_peer, fleet_id_t ret_ask) {
    for (uint32_t at = 0; at < followers->n; at++) {
        const follower_t *item = &followers->items[at];
        if (item->transfer == transfer && i-- == 0) {
            *ret_peer = item->peer;
            memcpy(ret_ask, item->ask, sizeof(fleet_id_t));
            return true;
        }
    }
    return false;
}

// Keeps the order of those who stay.
static void drop(followers_t *followers, uint64_t peer, uint64_t transfer) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < followers->n; i++) {
        const follower_t *item = &followers->items[i];
        if (item->peer != peer && item->transfer != transfer) {
            followers->items[kept++] = *item;
        }
    }
    followers->n = kept;
}

void followers_ended(followers_t *followers, uint64_t transfer) {
    drop(followers, 0, transfer);
}

void followers_gone(followers_t *followers, uint64_t peer) {
    drop(followers, peer, 0);
}
