// SPDX-License-Identifier: MIT

#include "broker/peers.h"

#include <assert.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "broker/table.h"
#include "proto/text.h"

#define SLOT_BITS 24 // of a number; the rest counts upwards

// What is known of a descriptor.  One place for each, so that what is
// remembered is bounded by how many the process may have.
typedef struct link {
    bool used;
    ino_t inode;
    fleet_key_t key;
    uint64_t peer; // 0: a subscriber
} link_t;

struct peers {
    uint64_t made;
    peer_t *slots; // number 0: free
    uint32_t slots_n;
    uint32_t *free_slots;
    uint32_t free_n;
    table_t *routes; // fleet_route_t -> number
    table_t *nodes;  // fleet_name_t -> number
    link_t *links;   // by descriptor
    size_t links_n;
};

static void *grown(void *block, size_t size) {
    void *bigger = realloc(block, size);
    if (bigger == NULL) {
        abort();
    }
    return bigger;
}

peers_t *peers_new(void) {
    peers_t *peers = grown(NULL, sizeof *peers);
    memset(peers, 0, sizeof *peers);
    peers->routes = table_new(sizeof(fleet_route_t));
    peers->nodes = table_new(sizeof(fleet_name_t));
    return peers;
}

void peers_destroy(peers_t **peers_p) {
    peers_t *peers = *peers_p;
    if (peers == NULL) {
        return;
    }
    table_destroy(&peers->routes);
    table_destroy(&peers->nodes);
    free(peers->slots);
    free(peers->free_slots);
    free(peers->links);
    free(peers);
    *peers_p = NULL;
}

static bool inode_of(int fd, ino_t *ret_inode) {
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISSOCK(status.st_mode)) {
        return false;
    }
    *ret_inode = status.st_ino;
    return true;
}

peer_t *peers_find(peers_t *peers, uint64_t number) {
    uint64_t at = number & ((UINT64_C(1) << SLOT_BITS) - 1);
    if (number == 0 || at >= peers->slots_n ||
        peers->slots[at].number != number) {
        return NULL;
    }
    return &peers->slots[at];
}

static void make_slots(peers_t *peers) {
    uint32_t n = peers->slots_n * 2 + 64;
    peers->slots = grown(peers->slots, n * sizeof *peers->slots);
    peers->free_slots = grown(peers->free_slots, n * sizeof *peers->free_slots);
    memset(peers->slots + peers->slots_n, 0,
           (n - peers->slots_n) * sizeof *peers->slots);
    for (uint32_t at = n; at-- > peers->slots_n;) {
        peers->free_slots[peers->free_n++] = at;
    }
    peers->slots_n = n;
}

// Remembers what a descriptor is now.  What was known of it under another inode
// is history: ret_left is that connection's number, if it was a peer's.
static void link_set(peers_t *peers, int fd, const fleet_key_t key,
                     uint64_t peer, uint64_t *ret_left) {
    ino_t inode;
    if (!inode_of(fd, &inode)) {
        return;
    }
    if ((size_t)fd >= peers->links_n) {
        size_t n = (size_t)fd * 2 + 64;
        peers->links = grown(peers->links, n * sizeof *peers->links);
        memset(peers->links + peers->links_n, 0,
               (n - peers->links_n) * sizeof *peers->links);
        peers->links_n = n;
    }
    link_t *link = &peers->links[fd];
    if (link->used && link->peer != peer && link->peer != 0) {
        *ret_left = link->peer;
    }
    link->used = true;
    link->inode = inode;
    link->peer = peer;
    memcpy(link->key, key, FLEET_KEY_SIZE);
}

uint64_t peers_seen(peers_t *peers, const fleet_route_t *route,
                    const fleet_key_t key, int fd, uint64_t *ret_left) {
    uint64_t number = 0;
    uint64_t left = 0;
    peer_t *peer = NULL;
    if (table_get(peers->routes, route, &number)) {
        peer = peers_find(peers, number);
        assert(peer != NULL);
        if (memcmp(peer->key, key, FLEET_KEY_SIZE) != 0) {
            left = number;
            peers_gone(peers, number);
            peer = NULL;
        }
    }
    if (peer == NULL) {
        if (peers->free_n == 0) {
            make_slots(peers);
        }
        uint32_t at = peers->free_slots[--peers->free_n];
        number = (++peers->made << SLOT_BITS) | at;
        peer = &peers->slots[at];
        *peer = (peer_t){.number = number, .route = *route};
        memcpy(peer->key, key, FLEET_KEY_SIZE);
        table_set(peers->routes, route, number);
    }
    peer->fd = fd;
    uint64_t replaced = 0;
    link_set(peers, fd, key, number, &replaced);
    if (replaced != 0) {
        peers_gone(peers, replaced);
        left = replaced;
    }
    *ret_left = left;
    return number;
}

void peers_session(peers_t *peers, uint64_t number, const char *name) {
    fleet_name_t key = "";
    uint64_t old = 0;
    FLEET_COPY(key, name);
    if (table_get(peers->nodes, key, &old)) {
        peer_t *before = peers_find(peers, old);
        if (before != NULL) {
            memset(before->node, 0, sizeof before->node);
        }
        table_remove(peers->nodes, key);
    }
    peer_t *peer = peers_find(peers, number);
    if (peer != NULL) {
        FLEET_COPY(peer->node, name);
        table_set(peers->nodes, key, number);
    }
}

uint64_t peers_node(const peers_t *peers, const char *name) {
    fleet_name_t key = "";
    uint64_t number = 0;
    FLEET_COPY(key, name);
    table_get(peers->nodes, key, &number);
    return number;
}

void peers_gone(peers_t *peers, uint64_t number) {
    peer_t *peer = peers_find(peers, number);
    if (peer == NULL) {
        return;
    }
    table_remove(peers->routes, &peer->route);
    if (peer->node[0] != '\0') {
        table_remove(peers->nodes, peer->node);
    }
    peer->number = 0;
    peers->free_slots[peers->free_n++] = (uint32_t)(peer - peers->slots);
}

void peers_subscriber(peers_t *peers, const fleet_key_t key, int fd) {
    uint64_t left = 0;
    link_set(peers, fd, key, 0, &left);
    peers_gone(peers, left);
}

bool peers_shut(int fd) {
    ino_t inode;
    // libzmq's I/O thread sees the end of file and closes it.
    return inode_of(fd, &inode) && shutdown(fd, SHUT_RDWR) == 0;
}

uint32_t peers_cut(peers_t *peers, const fleet_key_t key) {
    uint32_t cut = 0;
    for (size_t fd = 0; fd < peers->links_n; fd++) {
        link_t *link = &peers->links[fd];
        ino_t inode;
        if (!link->used || memcmp(link->key, key, FLEET_KEY_SIZE) != 0) {
            continue;
        }
        link->used = false;
        // Whoever has the descriptor by now has done nothing.
        if (inode_of((int)fd, &inode) && inode == link->inode) {
            cut += peers_shut((int)fd) ? 1 : 0;
        }
    }
    return cut;
}

static void host_of(const struct sockaddr_storage *address, socklen_t size,
                    char text[64]) {
    text[0] = '\0';
    if (getnameinfo((const struct sockaddr *)address, size, text, 64, NULL, 0,
                    NI_NUMERICHOST) != 0) {
        text[0] = '\0';
    }
    // The bus listens with IPv6 sockets: an IPv4 peer comes mapped into it.
    if (strncmp(text, "::ffff:", 7) == 0) {
        memmove(text, text + 7, strlen(text + 7) + 1);
    }
}

void peers_address(int fd, char text[64]) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    text[0] = '\0';
    if (fd >= 0 && getpeername(fd, (struct sockaddr *)&address, &size) == 0) {
        host_of(&address, size, text);
    }
}

void peers_local_address(int fd, char text[64]) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    text[0] = '\0';
    if (fd >= 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0) {
        host_of(&address, size, text);
    }
}
