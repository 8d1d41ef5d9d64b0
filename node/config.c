// SPDX-License-Identifier: MIT
//
// `slots` is either {parent, room} or a list of interfaces.  A schema knows one
// form of a key, so there are two schemas that differ in nothing else.

#include "node/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"
#include "proto/yaml.h"

#define FILE_MAX ((size_t)64 * 1024)
#define STATE_DEFAULT "/var/lib/fleet"
#define RUN_DEFAULT "/run/fleet"

// Names of sockets below it must fit into 108 bytes.
#define RUN_MAX 80

typedef struct broker_yaml {
    char *control;
    char *key;
} broker_yaml_t;

typedef struct slots_yaml {
    char *parent;
    char *room;
} slots_yaml_t;

typedef struct node_yaml {
    char *format;
    char *node;
    char *site;
    broker_yaml_t *brokers;
    unsigned brokers_count;
    char *key;
    char *private_interface;
    slots_yaml_t *slots;
    char **interfaces;
    unsigned interfaces_count;
    char *state;
    char *run;
    char *cgroup;
} node_yaml_t;

#define NEEDED CYAML_FLAG_POINTER
#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(key, flags, type, member, max)                                    \
    CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, max)

static const cyaml_schema_field_t broker_fields[] = {
    TEXT("control", NEEDED, broker_yaml_t, control, FLEET_TEXT_MAX),
    TEXT("key", NEEDED, broker_yaml_t, key, FLEET_TEXT_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t broker_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, broker_yaml_t, broker_fields)};

static const cyaml_schema_field_t slots_fields[] = {
    TEXT("parent", NEEDED, slots_yaml_t, parent, FLEET_TEXT_MAX),
    TEXT("room", NEEDED, slots_yaml_t, room, FLEET_TEXT_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t interface_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, FLEET_TEXT_MAX)};

#define FIELDS_BEFORE                                                          \
    TEXT("format", NEEDED, node_yaml_t, format, FLEET_NAME_MAX),               \
        TEXT("node", NEEDED, node_yaml_t, node, FLEET_TEXT_MAX),               \
        TEXT("site", NEEDED, node_yaml_t, site, FLEET_TEXT_MAX),               \
        CYAML_FIELD_SEQUENCE("brokers", NEEDED, node_yaml_t, brokers,          \
                             &broker_entry, 1, UPLINK_BROKERS_MAX),            \
        TEXT("key", NEEDED, node_yaml_t, key, FLEET_TEXT_MAX),                 \
        TEXT("private", OPTIONAL, node_yaml_t, private_interface,              \
             FLEET_TEXT_MAX)
#define FIELDS_AFTER                                                           \
    TEXT("state", OPTIONAL, node_yaml_t, state, FLEET_TEXT_MAX),               \
        TEXT("run", OPTIONAL, node_yaml_t, run, FLEET_TEXT_MAX),               \
        TEXT("cgroup", OPTIONAL, node_yaml_t, cgroup, FLEET_TEXT_MAX),         \
        CYAML_FIELD_END

static const cyaml_schema_field_t fields_parent[] = {
    FIELDS_BEFORE,
    CYAML_FIELD_MAPPING_PTR("slots", OPTIONAL, node_yaml_t, slots,
                            slots_fields),
    FIELDS_AFTER,
};

static const cyaml_schema_field_t fields_list[] = {
    FIELDS_BEFORE,
    CYAML_FIELD_SEQUENCE("slots", OPTIONAL, node_yaml_t, interfaces,
                         &interface_entry, 1, SLOTS_INTERFACES_MAX),
    FIELDS_AFTER,
};

static const cyaml_schema_value_t schema_parent = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, node_yaml_t, fields_parent)};
static const cyaml_schema_value_t schema_list = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, node_yaml_t, fields_list)};

static bool take_brokers(const fleet_yaml_doc_t *doc, const node_yaml_t *yaml,
                         config_t *config) {
    bool ok = true;
    for (unsigned i = 0; i < yaml->brokers_count; i++) {
        const char *control = yaml->brokers[i].control;
        char path[64];
        snprintf(path, sizeof(path), "brokers[%u].control", i);
        if (strncmp(control, "tcp://", 6) != 0 || !strrchr(control + 6, ':')) {
            fleet_complaint_t *complaint = fleet_yaml_complain(
                doc, path, "\"%s\" is no endpoint", control);
            FLEET_COPY(complaint->hint, "tcp://10.0.0.10:7471");
            ok = false;
        } else {
            ok &=
                fleet_yaml_text(doc, path, control, config->brokers[i].control,
                                sizeof(config->brokers[i].control));
        }
        snprintf(path, sizeof(path), "brokers[%u].key", i);
        ok &= fleet_yaml_key(doc, path, yaml->brokers[i].key,
                             config->brokers[i].key);
    }
    config->brokers_n = yaml->brokers_count;
    return ok;
}

static bool take_interface(const fleet_yaml_doc_t *doc, const char *path,
                           const char *text, fleet_name_t *ret) {
    if (text && (strlen(text) > 15 || strchr(text, '/'))) {
        fleet_yaml_complain(doc, path, "\"%s\" is no name of an interface",
                            text);
        return false;
    }
    return fleet_yaml_text(doc, path, text, *ret, sizeof(*ret));
}

static bool take_slots(const fleet_yaml_doc_t *doc, const node_yaml_t *yaml,
                       slots_wish_t *wish) {
    bool ok = take_interface(doc, "private", yaml->private_interface,
                             &wish->private_interface);
    if (yaml->slots) {
        uint64_t room = 0;
        ok &= take_interface(doc, "slots.parent", yaml->slots->parent,
                             &wish->parent);
        ok &= fleet_yaml_number(doc, "slots.room", yaml->slots->room, 1,
                                SLOTS_MACVLANS_MAX, &room);
        wish->macvlans = (uint32_t)room;
    }
    for (unsigned i = 0; i < yaml->interfaces_count; i++) {
        char path[64];
        snprintf(path, sizeof(path), "slots[%u]", i);
        ok &= take_interface(doc, path, yaml->interfaces[i],
                             &wish->interfaces[i]);
    }
    wish->interfaces_n = yaml->interfaces_count;
    return ok;
}

static bool take_cgroup(const fleet_yaml_doc_t *doc, const char *text,
                        fleet_text_t *ret) {
    if (text && (text[0] == '/' || strstr(text, ".."))) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            doc, "cgroup", "\"%s\" is no name of a control group", text);
        FLEET_COPY(complaint->hint, "below the root of the hierarchy: fleet");
        return false;
    }
    return fleet_yaml_text(doc, "cgroup", text, *ret, sizeof(*ret));
}

static bool take(const fleet_yaml_doc_t *doc, config_t *config) {
    const node_yaml_t *yaml = fleet_yaml_data(doc);
    bool ok = fleet_yaml_name(doc, "node", yaml->node, &config->node);
    ok &= fleet_yaml_name(doc, "site", yaml->site, &config->site);
    ok &= take_brokers(doc, yaml, config);
    ok &= fleet_yaml_path(doc, "key", yaml->key, &config->key);
    ok &= take_slots(doc, yaml, &config->slots);
    ok &= fleet_yaml_path(doc, "state", yaml->state, &config->state);
    ok &= fleet_yaml_path(doc, "run", yaml->run, &config->run);
    ok &= take_cgroup(doc, yaml->cgroup, &config->cgroup);
    if (strlen(config->run) > RUN_MAX) {
        fleet_yaml_complain(doc, "run",
                            "is longer than %d bytes, too long for a socket",
                            RUN_MAX);
        ok = false;
    }
    return ok;
}

// What is closer to either schema is what was meant.
static fleet_err_t load(const char *text, size_t size,
                        fleet_complaints_t *complaints,
                        fleet_yaml_doc_t **ret_doc) {
    if (fleet_yaml_load(text, size, &schema_parent, complaints, ret_doc) ==
        FLEET_OK) {
        return FLEET_OK;
    }
    static fleet_complaints_t first;
    first = *complaints;
    memset(complaints, 0, sizeof(*complaints));
    fleet_err_t err =
        fleet_yaml_load(text, size, &schema_list, complaints, ret_doc);
    if (err != FLEET_OK && first.n <= complaints->n) {
        *complaints = first;
    }
    return err;
}

bool config_same(const config_t *a, const config_t *b) {
    bool same =
        a->slots.macvlans == b->slots.macvlans &&
        a->slots.interfaces_n == b->slots.interfaces_n &&
        strcmp(a->slots.parent, b->slots.parent) == 0 &&
        strcmp(a->slots.private_interface, b->slots.private_interface) == 0 &&
        strcmp(a->node, b->node) == 0 && strcmp(a->site, b->site) == 0 &&
        strcmp(a->key, b->key) == 0 && strcmp(a->state, b->state) == 0 &&
        strcmp(a->run, b->run) == 0 && strcmp(a->cgroup, b->cgroup) == 0;
    for (uint32_t i = 0; same && i < a->slots.interfaces_n; i++) {
        same = strcmp(a->slots.interfaces[i], b->slots.interfaces[i]) == 0;
    }
    return same;
}

fleet_err_t config_read(const char *path, config_t *ret_config,
                        fleet_complaints_t *ret_complaints) {
    char *text = NULL;
    size_t size = 0;
    fleet_yaml_doc_t *doc = NULL;
    memset(ret_complaints, 0, sizeof(*ret_complaints));
    fleet_err_t err =
        fleet_yaml_read_file(path, FILE_MAX, &text, &size, ret_complaints);
    if (err != FLEET_OK) {
        return err;
    }
    err = load(text, size, ret_complaints, &doc);
    if (err == FLEET_OK) {
        config_t config = {.state = STATE_DEFAULT, .run = RUN_DEFAULT};
        if (take(doc, &config)) {
            *ret_config = config;
        } else {
            err = FLEET_BAD_FILE;
        }
    }
    fleet_yaml_destroy(&doc);
    free(text);
    return err;
}
