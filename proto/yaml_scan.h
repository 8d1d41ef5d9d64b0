// SPDX-License-Identifier: MIT
//
// The first of the two walks of proto/yaml.h: libyaml's events against a
// libcyaml schema.  Builds nothing but complaints and the places of all nodes.

#ifndef FLEET_YAML_SCAN_H
#define FLEET_YAML_SCAN_H

#include <cyaml/cyaml.h>

#include "proto/complaint.h"

// Bytes of the longest path, with its end; the schema bounds it.
#define FLEET_YAML_PATH_SIZE 192

typedef struct fleet_yaml_place {
    char path[FLEET_YAML_PATH_SIZE];
    unsigned line; // a scalar's own place, a collection's key or dash
    unsigned column;
} fleet_yaml_place_t;

typedef struct fleet_yaml_places {
    size_t n;
    size_t room;
    fleet_yaml_place_t *items; // owned
} fleet_yaml_places_t;

// Adds to the complaints; false if there was one.  The caller frees the items
// of ret_places in either case.
bool fleet_yaml_scan(const char *text, size_t size,
                     const cyaml_schema_value_t *schema,
                     fleet_yaml_places_t *ret_places,
                     fleet_complaints_t *complaints);

// The place of a path; NULL if there is none.  Loan.
const fleet_yaml_place_t *
fleet_yaml_place_find(const fleet_yaml_places_t *places, const char *path);

#endif
