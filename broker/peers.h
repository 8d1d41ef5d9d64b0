// SPDX-License-Identifier: MIT
//
// Who is connected: route <-> number <-> key <-> node.  A route is what ZeroMQ
// (or the peer) chose and proves nothing (stores Z5); the key that the
// handshake authenticated does.  The number is the loop's own and is never used
// twice.
//
// A revoked key has to lose the connections that it has, and libzmq has no call
// for that: their descriptors are remembered with the inode of their socket,
// and shut down; a descriptor that means another socket by now is left alone.

#ifndef FLEET_BROKER_PEERS_H
#define FLEET_BROKER_PEERS_H

#include "proto/bus.h"

typedef struct peers peers_t;

typedef struct peer {
    uint64_t number;
    fleet_route_t route;
    fleet_key_t key;
    fleet_name_t node; // whose session it is; empty: nobody's
    int fd;            // -1: not known
    uint64_t dropped;  // messages to it that could not be sent
} peer_t;

peers_t *peers_new(void);
void peers_destroy(peers_t **peers_p);

// The number of the connection that a message came from; makes one if it is
// new. A known route with another key is another connection.  ret_left is the
// number of the one that it took the place of, or 0: whoever knew it should
// forget it.
uint64_t peers_seen(peers_t *peers, const fleet_route_t *route,
                    const fleet_key_t key, int fd, uint64_t *ret_left);

// A loan until the next call, or NULL.
peer_t *peers_find(peers_t *peers, uint64_t number);

// The connection is node `name`'s session from now on, and no other is.
void peers_session(peers_t *peers, uint64_t number, const char *name);
// The number of a node's connection, or 0.
uint64_t peers_node(const peers_t *peers, const char *name);

void peers_gone(peers_t *peers, uint64_t number);

// A connection of this key to the events endpoint.
void peers_subscriber(peers_t *peers, const fleet_key_t key, int fd);

// Shuts down one connection, or every one of a key that was seen; returns how
// many.
bool peers_shut(int fd);
uint32_t peers_cut(peers_t *peers, const fleet_key_t key);

// The address of the other end, without port; empty if it is gone.
void peers_address(int fd, char text[64]);
// The address at this end that the peer reached, for endpoints that say any.
void peers_local_address(int fd, char text[64]);

#endif
