// SPDX-License-Identifier: MIT
//
// The host lock of an image: a label in the first MiB of the file that says who
// holds the disk group and below which token everything is refused (rule P9).
//
//        0 ............................................ 1 MiB ............ end
//        |      copy 0       copy 1            ditch   |   the file system
//               256 KiB      768 KiB           last 4 KiB
//
// Two copies, written in turn: the newer one that is whole is the label.  A
// change writes the older copy, waits until it is durable and reads it back, so
// that a crash at any point leaves the old label or the new one.  The ditch
// holds nothing: an evicted device is made to end there (loopdev.h).
//
// To make an image, nothing of fleet is needed: the first import labels a file
// whose first MiB is zero.
//
//     truncate -s 1G /array/www.img
//     mke2fs -t ext4 -E offset=1048576 /array/www.img 1023M
//
// The file system's size has to be given, or mke2fs takes that of the whole
// file.

#ifndef FLEET_NODE_LABEL_H
#define FLEET_NODE_LABEL_H

#include "proto/messages.h"

#define LABEL_AREA_SIZE (UINT64_C(1) << 20)
#define LABEL_COPY_SIZE 4096
#define LABEL_COPIES 2
#define LABEL_DITCH_OFFSET (LABEL_AREA_SIZE - 4096)
// A file below this has no room for a file system worth the name.
#define LABEL_FILE_SIZE_MIN (LABEL_AREA_SIZE + (UINT64_C(64) << 10))

// Where copy i begins.  Places that no file system, volume manager or partition
// table uses, so that a torn first label is never mistaken for one of them.
#define LABEL_COPY_OFFSET(i)                                                   \
    ((UINT64_C(256) << 10) + (i) * (UINT64_C(512) << 10))

typedef struct label {
    uint64_t generation; // 0: none has ever been written
    fleet_name_t set;
    fleet_name_t owner; // empty: nobody
    uint64_t floor;     // the token; every command below it is refused
    uint64_t since; // the token that the owner's unbroken holding began with
    fleet_id_t kernel_id; // where a device may be attached; kept by an evict
    fleet_id_t boot_id;   // of the owner, when it imported
} label_t;

typedef enum label_verb {
    LABEL_IMPORT,
    LABEL_RELEASE,
    LABEL_EVICT
} label_verb_t;

// One command on the lock.
typedef struct label_command {
    label_verb_t verb;
    fleet_name_t set;
    fleet_name_t node; // who imports or releases; the victim of an evict
    uint64_t token;
    uint64_t
        from_token; // import in place: the lock must be (node, this); else 0
    fleet_id_t kernel_id; // import
    fleet_id_t boot_id;   // import
} label_command_t;

typedef enum label_verdict {
    LABEL_REFUSED, // P9 forbids it
    LABEL_AS_IS,   // allowed, and there is nothing to change
    LABEL_CHANGED
} label_verdict_t;

typedef enum label_err {
    LABEL_OK,
    LABEL_NOT_OURS, // no label, and what is there is not ours to overwrite
    LABEL_DAMAGED,  // there was a label, but no copy is whole
    LABEL_LOCKED,   // another agent has not let go of the file's lock in time
    LABEL_FAILED    // reading, writing or reading back failed
} label_err_t;

// What a command makes of a label (P9).  Pure; the label changes only if the
// verdict is LABEL_CHANGED, and its generation is then one larger.
label_verdict_t label_apply(label_t *label, const label_command_t *command);

// Opens the file of an image for reading and writing labels, past the page
// cache where the file system can.  The descriptor, to be closed by the caller,
// or -1 with errno.
int label_open(const char *path);

// Reads the label, without the lock.  A file that can take a first label is
// read as one of generation 0 that names nobody.  What is wrong is said in
// ret_why.
label_err_t label_read(int fd, label_t *ret_label, fleet_text_t *ret_why);

// One read, change and write under the file's lock (an OFD lock, which other
// mount namespaces and, on most shared file systems, other machines see as
// well).  Waits at most limit_ms for the lock, and holds it for nothing but
// that: should the process hang in the middle, SIGALRM ends it after
// LABEL_HOLD_MAX_S.  ret_label is what the lock says afterwards, read back if
// it was changed.
#define LABEL_HOLD_MAX_S 10
label_err_t label_update(int fd, const label_command_t *command,
                         uint64_t limit_ms, label_t *ret_label,
                         label_verdict_t *ret_verdict, fleet_text_t *ret_why);

// The bytes of one copy.  decode is false if they are not a whole label.  Pure.
void label_encode(const label_t *label, uint8_t copy[LABEL_COPY_SIZE]);
bool label_decode(const uint8_t copy[LABEL_COPY_SIZE], label_t *ret_label);

// "nobody, tokens from 8", "node1 with token 7": for people.
void label_say(const label_t *label, fleet_text_t ret_text);

#endif
