// SPDX-License-Identifier: MIT
//
// Who keeps a file system, or its block device, in use: processes, by the
// device of what they have open and not by a path (so through every mount, bind
// mount and mount namespace), and what is no process: mounts, loop devices,
// swap, device mapper.  Only this node's processes are seen, because only they
// are in its /proc.

#ifndef FLEET_NODE_HOLDERS_H
#define FLEET_NODE_HOLDERS_H

#include <sys/types.h>

#include "node/agents/agent.h"

#define HOLDERS_DEVS_MAX 8
#define HOLDERS_MOUNTS_MAX 64

// What is held.  A file system has one device number, which its files tell; but
// those of btrfs tell that of their subvolume, and those of an xfs that has
// shut down tell nothing.  Then the mount that they are on tells it.
typedef struct holders_target {
    uint32_t devs_n;
    dev_t devs[HOLDERS_DEVS_MAX]; // st_dev of its files
    uint32_t mounts_n;
    uint64_t mounts[HOLDERS_MOUNTS_MAX]; // ids, see mounts_learn
    dev_t block;                         // its block device
    fleet_text_t path;                   // of the block device, resolved
    bool raw; // who has the block device itself open counts as a holder
} holders_target_t;

typedef enum holder_kind {
    HOLDER_PROCESS,
    HOLDER_MOUNT,
    HOLDER_LOOP,
    HOLDER_SWAP,
    HOLDER_MAPPER
} holder_kind_t;

typedef struct holder {
    holder_kind_t kind;
    pid_t pid;         // PROCESS; MOUNT: somebody in that namespace, 0: ours
    fleet_name_t name; // of the process
    uid_t uid;
    char state;           // as in /proc/PID/stat
    uint64_t start_ticks; // with the pid, this is one process for good
    uint64_t age_ms;
    bool spared; // never to be signalled: pid 1, we, our ancestors, the kernel
    fleet_text_t how; // "cwd /srv/www/a", "fd 5 /srv/www/log", "/dev/loop3"
} holder_t;

#define HOLDERS_MAX 512

typedef struct holders {
    uint32_t n;
    uint32_t more; // beyond HOLDERS_MAX
    holder_t items[HOLDERS_MAX];
} holders_t;

// The target of a block device.  False if the path is none.
bool holders_target(const char *device, holders_target_t *ret_target);
void holders_target_add(holders_target_t *target, dev_t dev);
void holders_target_add_mount(holders_target_t *target, uint64_t id);
bool holders_target_has(const holders_target_t *target, dev_t dev);

// Processes.  `deep` looks at every thread: slower, and only needed when the
// process itself shows nothing.  Never waits for a file system that does not
// answer.
void holders_find_processes(const holders_target_t *target, bool deep,
                            holders_t *holders);

// Looks at the same process once more, right before a signal: false if it no
// longer holds, or is another one by now.
bool holders_still(const holders_target_t *target, const holder_t *holder);

// Everything that is no process and no mount: loop devices on its files, swap,
// device mapper.
void holders_find_others(const holders_target_t *target, holders_t *holders);

// Adds one; counts it in `more` if there is no room.
void holders_add(holders_t *holders, const holder_t *holder);

// "pid 4121 (rsync, www-data, state D, for 12 s): cwd /srv/www/a"
void holders_say(const holder_t *holder, fleet_text_t ret_text);

// The first FLEET_HOLDERS_MAX of them as one sentence, and all that fit, a line
// each.
void holders_sum(const holders_t *holders, fleet_text_t ret_text,
                 fleet_words_t ret_words);

#endif
