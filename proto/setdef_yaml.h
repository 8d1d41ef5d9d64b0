// SPDX-License-Identifier: MIT
//
// A definition as libcyaml reads it: every scalar still a text.  Between the
// files of setdef only.

#ifndef FLEET_SETDEF_YAML_H
#define FLEET_SETDEF_YAML_H

#include "proto/setdef.h"
#include "proto/yaml.h"

typedef struct yaml_limit {
    char *start;
    char *stop;
} yaml_limit_t;

// What every kind of resource has.
typedef struct yaml_common {
    char *name;
    char **needs;
    unsigned needs_count;
    yaml_limit_t *limit;
} yaml_common_t;

typedef struct yaml_disk_group {
    yaml_common_t common;
    char *driver;
    char *path;
} yaml_disk_group_t;

typedef struct yaml_filesystem {
    yaml_common_t common;
    char *mount;
    char *type;
    char *options;
    char *fsck;
    char *term;
} yaml_filesystem_t;

typedef struct yaml_address {
    yaml_common_t common;
    char **ip;
    unsigned ip_count;
    char *mac;
    char *gateway;
} yaml_address_t;

typedef struct yaml_probe {
    char *command;
    char *every;
    char *limit;
} yaml_probe_t;

typedef struct yaml_service {
    yaml_common_t common;
    char *start;
    char *stop;
    char *test;
    char *unit;
    char *user;
    yaml_probe_t *probe;
} yaml_service_t;

// A mapping with exactly one key, its kind.
typedef struct yaml_resource {
    yaml_disk_group_t *disk_group;
    yaml_filesystem_t *filesystem;
    yaml_address_t *address;
    yaml_service_t *service;
} yaml_resource_t;

typedef struct yaml_set {
    char *format;
    char *set;
    char *about;
    char *contact;
    char **nodes;
    unsigned nodes_count;
    char *home;
    char *takeover;
    char *boot;
    char *without_lease;
    yaml_resource_t *resources;
    unsigned resources_count;
} yaml_set_t;

extern const cyaml_schema_value_t fleet_setdef_schema;

// Where in the file the reading is.
typedef struct setdef_reader {
    const fleet_yaml_doc_t *doc;
    char path[128]; // "resources[1].filesystem", then a key behind it
    size_t base;    // where that key begins
} setdef_reader_t;

// The path of a key below the resource at hand; valid until the next call.
const char *fleet_setdef_at(setdef_reader_t *reader, const char *key);

// The parts of a kind that no other has, checked within themselves.  They
// complain, and fill what they can.
void fleet_setdef_read_disk_group(setdef_reader_t *reader,
                                  const yaml_disk_group_t *yaml,
                                  fleet_disk_group_t *ret);
void fleet_setdef_read_filesystem(setdef_reader_t *reader,
                                  const yaml_filesystem_t *yaml,
                                  fleet_filesystem_t *ret);
void fleet_setdef_read_address(setdef_reader_t *reader,
                               const yaml_address_t *yaml,
                               fleet_address_t *ret);
void fleet_setdef_read_service(setdef_reader_t *reader,
                               const yaml_service_t *yaml,
                               fleet_service_t *ret);

#endif
