// SPDX-License-Identifier: MIT
//
// Mounts of one file system: in this mount namespace, and in every other one
// that a process of this node lives in.  A mount is known by the device number
// of its file system; its path is only where it is unmounted.

#ifndef FLEET_NODE_MOUNTS_H
#define FLEET_NODE_MOUNTS_H

#include "node/agents/holders.h"

// What is mounted at a path of this namespace, on top if there are several.
typedef struct mounts_top {
    bool of_target;
    bool read_only; // the file system, not only this mount
    fleet_text_t source;
    fleet_name_t type;
} mounts_top_t;

// False if nothing is mounted there.  `target` may be NULL.
bool mounts_top(const char *path, const holders_target_t *target,
                mounts_top_t *ret_top);

// Adds what only its mounts tell, their ids and btrfs's own device numbers, so
// that users are found whose files do not tell.  Costs a look at every
// namespace.
void mounts_learn(holders_target_t *target);

// Unmounts every mount of the file system in this namespace.  No mount is ever
// detached lazily, and no other file system's.
void mounts_clear(const holders_target_t *target);

// The same in the other namespaces, by entering them in a child.
void mounts_clear_elsewhere(const holders_target_t *target);

// Names the mounts that keep it: those of other file systems that stand on it,
// or, with `own`, its own that are left, in any of the namespaces.
void mounts_find(const holders_target_t *target, bool own, holders_t *holders);

// Mounts it here.  False, with libmount's words.
bool mounts_mount(const char *device, const char *path, const char *type,
                  const char *options, fleet_text_t ret_why);

#endif
