// SPDX-License-Identifier: MIT
//
// The definition of a set: the YAML that an operator applies, as a plain value.
// The command line reads it to name file and line of what is wrong, the broker
// for what admission needs of it, the node for what its agents do.

#ifndef FLEET_SETDEF_H
#define FLEET_SETDEF_H

#include "proto/complaint.h"
#include "proto/errors.h"

typedef enum fleet_resource_kind {
    FLEET_RESOURCE_DISK_GROUP,
    FLEET_RESOURCE_FILESYSTEM,
    FLEET_RESOURCE_ADDRESS,
    FLEET_RESOURCE_SERVICE
} fleet_resource_kind_t;

// "disk_group" "filesystem" "address" "service"
const char *fleet_resource_kind_word(fleet_resource_kind_t kind);

typedef enum fleet_fsck {
    FLEET_FSCK_NO,    // never
    FLEET_FSCK_PREEN, // what is safe to repair without asking (default)
    FLEET_FSCK_FULL   // checked even if it is clean
} fleet_fsck_t;

typedef struct fleet_disk_group {
    fleet_name_t driver; // "image"
    fleet_text_t path;   // image: the file, which several nodes can reach
} fleet_disk_group_t;

typedef struct fleet_filesystem {
    fleet_text_t mount; // where; absolute
    fleet_name_t type;  // ext4 xfs btrfs
    fleet_text_t options;
    fleet_fsck_t fsck;
    uint64_t term_ms; // between SIGTERM and SIGKILL of its users; default 1 s
} fleet_filesystem_t;

typedef struct fleet_address {
    uint32_t ips_n;
    fleet_id_t ips[FLEET_ADDRESSES_MAX]; // with prefix length
    fleet_id_t mac;                      // the default filled in
    fleet_id_t gateway;                  // may be empty
} fleet_address_t;

typedef struct fleet_service {
    fleet_text_t start; // returns 0 when the daemon is up and in the background
    fleet_text_t stop;  // empty: SIGTERM, then SIGKILL to the cgroup
    fleet_text_t test;  // may be empty; run on the target before the release
    fleet_text_t unit;  // a systemd unit instead of start and stop
    fleet_text_t probe; // may be empty; returns 0 while the service is well
    uint64_t probe_every_ms; // 0: no probing
    uint64_t probe_limit_ms;
    fleet_text_t user; // may be empty: root
} fleet_service_t;

typedef struct fleet_resource {
    fleet_resource_kind_t kind;
    // Default: its kind ("disk-group"), with -2, -3 ... from the second on.
    fleet_name_t name;
    uint32_t needs;    // bit i: resource i must be up before this one starts
    uint64_t start_ms; // limits; the defaults are below
    uint64_t stop_ms;
    union {
        fleet_disk_group_t disk_group;
        fleet_filesystem_t filesystem;
        fleet_address_t address;
        fleet_service_t service;
    };
} fleet_resource_t;

typedef struct fleet_setdef {
    fleet_name_t set;
    fleet_text_t about;
    fleet_text_t contact;
    fleet_facts_t
        facts; // home, nodes, boot, without_lease ... and the limits' sums
    uint32_t resources_n;
    fleet_resource_t resources[FLEET_RESOURCES_MAX];
} fleet_setdef_t;

// Limits that hold where a definition names none.
#define FLEET_START_MS_DEFAULT 60000
#define FLEET_STOP_MS_DEFAULT 20000
#define FLEET_PROBE_LIMIT_MS_DEFAULT 5000
#define FLEET_TERM_MS_DEFAULT 1000

// Reads a definition.  FLEET_BAD_FILE and at least one complaint if it is
// wrong; ret_setdef is then untouched.  Unknown, doubled and missing keys, a
// second document, wrong types and errors between fields are each named with
// their line. Allocates while it works, keeps nothing.
fleet_err_t fleet_setdef_read(const char *yaml, size_t size,
                              fleet_setdef_t *ret_setdef,
                              fleet_complaints_t *ret_complaints);

#endif
