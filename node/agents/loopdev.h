// SPDX-License-Identifier: MIT
//
// Loop devices on the file of an image.  Hosts of one machine may share /dev
// and the numbers of its loop devices, so a device is known by the file that it
// is on (device and inode, as the kernel tells) and by the tag that fleet gave
// it, never by its number or by a path.
//
// A device stays attached until it is detached here; it has no autoclear.  It
// has to outlive the process that attached it (the file system is mounted by
// another), and fleet-node itself.  When a host is killed together with its
// kernel nothing is left; where only the host's processes die and the kernel
// lives on, as on a machine that plays several hosts, whoever cuts the power
// cuts the device first.

#ifndef FLEET_NODE_LOOPDEV_H
#define FLEET_NODE_LOOPDEV_H

#include <sys/types.h>

#include "proto/messages.h"

// Devices on one file; more than that are counted, not kept.
#define LOOPDEV_MAX 16

// Who attached a device, kept by the kernel as its lo_file_name.
typedef struct loopdev_tag {
    fleet_name_t node;
    uint64_t token;    // the label's `since`
    uint32_t set_hash; // of the set's name, which has no room there
} loopdev_tag_t;

typedef struct loopdev {
    unsigned number;
    dev_t file_dev; // the file that it is on
    ino_t file_ino;
    bool tagged; // by fleet; else `tag` is empty
    loopdev_tag_t tag;
    bool read_only;
    bool evicted; // ends in the ditch (label.h)
    bool leaving; // goes when its last user closes it
} loopdev_t;

typedef struct loopdev_list {
    uint32_t n;
    uint32_t more; // beyond LOOPDEV_MAX
    loopdev_t items[LOOPDEV_MAX];
} loopdev_list_t;

// The tag of a set's device.
loopdev_tag_t loopdev_tag(const char *set, const char *node, uint64_t token);
// Of this set and node, under whatever token.
bool loopdev_tag_is(const loopdev_tag_t *tag, const char *set,
                    const char *node);

// Neither read-only nor evicted.
bool loopdev_can_write(const loopdev_t *device);

// "/dev/loop7"
void loopdev_path(unsigned number, fleet_id_t ret_path);

// All devices on the file (dev, ino), found by looking at every loop device of
// this kernel.  False, with why, if one could not be looked at: then the list
// proves nothing.
bool loopdev_find(dev_t dev, ino_t ino, loopdev_list_t *ret_list,
                  fleet_text_t *ret_why);

// All devices on files of the file system `dev`, likewise: they hold it.
bool loopdev_find_on(dev_t dev, loopdev_list_t *ret_list,
                     fleet_text_t *ret_why);

// The device of that number if it is attached; false if it is not.
bool loopdev_look(unsigned number, loopdev_t *ret_device);

// Attaches what follows the label area of the open file: for writing, past the
// page cache if the file system can, never with partitions.  Takes another
// number as often as somebody else was quicker, for at most limit_ms.
bool loopdev_attach(int file, const loopdev_tag_t *tag, uint64_t limit_ms,
                    loopdev_t *ret_device, fleet_text_t *ret_why);

// True if nobody has claimed the block device: no mount, no device mapper, no
// swap.
bool loopdev_unclaimed(const char *path);

typedef enum loopdev_gone {
    LOOPDEV_GONE,  // the kernel has let go of the file
    LOOPDEV_HELD,  // claimed, or open somewhere, until the end of the wait
    LOOPDEV_FAILED // ret_why
} loopdev_gone_t;

// Detaches it and waits until the kernel no longer has it.  A device that is
// claimed is left as it is; one that is merely open goes when it is closed,
// also after this has given up.
loopdev_gone_t loopdev_detach(const loopdev_t *device, uint64_t limit_ms,
                              fleet_text_t *ret_why);

// Makes the device refuse every write: it ends after one sector, and that
// sector is the ditch.  What was under way has reached the file, or never will,
// when this returns true, which is read back.
bool loopdev_evict(const loopdev_t *device, fleet_text_t *ret_why);

#endif
