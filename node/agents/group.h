// SPDX-License-Identifier: MIT
//
// Control groups (v2) of services: a process that is born in one can never
// leave it, so an empty group is the proof that a service is gone.

#ifndef FLEET_NODE_GROUP_H
#define FLEET_NODE_GROUP_H

#include <sys/types.h>

#include "proto/messages.h"

#define GROUP_PIDS_MAX 512

typedef struct group {
    int dir;    // descriptor of its directory
    int events; // of its cgroup.events
} group_t;

// Where control groups v2 are mounted: /sys/fs/cgroup, or
// /sys/fs/cgroup/unified beside v1.  False if they are nowhere.
bool group_find_root(fleet_text_t ret_path);

// Opens the group `path`.  With `make` it and the folders above it are made.
// False, with errno, if it is not there or cannot be made.  Close it.
bool group_open(const char *path, bool make, group_t *ret_group);
void group_close(group_t *group);

// Some process is in it or below it.
bool group_populated(const group_t *group);

// Waits until it is empty, at most so long.  True if it is.
bool group_wait_empty(const group_t *group, uint64_t wait_ms);

// SIGTERM (or another) to everybody in it and below it, by pidfd and only to
// who is still in it when the signal is sent.  Number of processes signalled.
size_t group_signal(const char *path, int signal);

// SIGKILL to all of it at once, safe against forks.
void group_kill(const char *path, const group_t *group);

// Removes it and the groups below it, which must be empty, then `parent` if
// nothing else is in there (NULL: leave it).
bool group_remove(const char *path, const char *parent);

// "pid 4121 (rsync), pid 4122 (sh)": at most a few of who is in there.
void group_name_members(const char *path, fleet_text_t ret_names);

// A mark on the group itself, which goes away with it and with a boot: under
// which token its service was started.  0: it has no mark.
bool group_mark(const group_t *group, uint64_t token);
uint64_t group_marked(const group_t *group);

#endif
