// SPDX-License-Identifier: MIT
//
// broker.yaml as a libcyaml schema, and the checks that no schema can make.

#include "broker/config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fence.h"
#include "proto/text.h"
#include "proto/yaml.h"

#define FILE_MAX (256 * 1024)
#define LEASE_MS_DEFAULT 10000
#define MARGIN_MS_DEFAULT 2000
#define FENCE_MS_DEFAULT 60000

typedef struct listen_file {
    char *control;
    char *events;
} listen_file_t;

typedef struct store_file {
    char *kind;
    char *path;
} store_file_t;

typedef struct lease_file {
    char *length;
    char *margin;
} lease_file_t;

typedef struct limits_file {
    char *nodes;
    char *sets;
} limits_file_t;

typedef struct fence_file {
    char *node;
    char *command;
    char *limit;
} fence_file_t;

typedef struct broker_file {
    char *format;
    char *site;
    char *broker;
    listen_file_t *listen;
    char *key;
    store_file_t *store;
    lease_file_t *lease;
    limits_file_t *limits;
    fence_file_t *fence;
    unsigned fence_count;
} broker_file_t;

#define MUST CYAML_FLAG_POINTER
#define MAY (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(key, flags, type, member)                                         \
    CYAML_FIELD_STRING_PTR(key, flags, type, member, 0, CYAML_UNLIMITED)

static const cyaml_schema_field_t listen_fields[] = {
    TEXT("control", MUST, listen_file_t, control),
    TEXT("events", MUST, listen_file_t, events),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t store_fields[] = {
    TEXT("kind", MUST, store_file_t, kind),
    TEXT("path", MUST, store_file_t, path),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t lease_fields[] = {
    TEXT("length", MAY, lease_file_t, length),
    TEXT("margin", MAY, lease_file_t, margin),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t limits_fields[] = {
    TEXT("nodes", MAY, limits_file_t, nodes),
    TEXT("sets", MAY, limits_file_t, sets),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t fence_fields[] = {
    TEXT("node", MUST, fence_file_t, node),
    TEXT("command", MUST, fence_file_t, command),
    TEXT("limit", MAY, fence_file_t, limit),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t fence_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, fence_file_t, fence_fields),
};

static const cyaml_schema_field_t broker_fields[] = {
    TEXT("format", MUST, broker_file_t, format),
    TEXT("site", MUST, broker_file_t, site),
    TEXT("broker", MAY, broker_file_t, broker),
    CYAML_FIELD_MAPPING_PTR("listen", MUST, broker_file_t, listen,
                            listen_fields),
    TEXT("key", MUST, broker_file_t, key),
    CYAML_FIELD_MAPPING_PTR("store", MUST, broker_file_t, store, store_fields),
    CYAML_FIELD_MAPPING_PTR("lease", MAY, broker_file_t, lease, lease_fields),
    CYAML_FIELD_MAPPING_PTR("limits", MAY, broker_file_t, limits,
                            limits_fields),
    CYAML_FIELD_SEQUENCE("fence", MAY, broker_file_t, fence, &fence_entry, 0,
                         BROKER_FENCES_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t broker_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, broker_file_t, broker_fields),
};

static void read_endpoint(const fleet_yaml_doc_t *doc, const char *path,
                          const char *text, fleet_text_t *ret) {
    if (!fleet_yaml_text(doc, path, text, *ret, sizeof *ret)) {
        return;
    }
    const char *port = strrchr(*ret, ':');
    char *end = NULL;
    unsigned long number = port != NULL ? strtoul(port + 1, &end, 10) : 0;
    if (strncmp(*ret, "tcp://", 6) != 0 || port == NULL || port < *ret + 7 ||
        end == NULL || *end != '\0' || number == 0 || number > 65535) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            doc, path, "\"%s\" is no endpoint to listen at", *ret);
        FLEET_COPY(complaint->hint, "tcp://ADDRESS:PORT, or tcp://*:PORT");
    }
}

static void read_store(const fleet_yaml_doc_t *doc, const broker_file_t *file,
                       broker_settings_t *settings) {
    static const char *const kinds[] = {"sqlite"};
    size_t kind = 0;
    fleet_yaml_word(doc, "store.kind", file->store->kind, kinds, 1, &kind);
    fleet_yaml_path(doc, "store.path", file->store->path, &settings->store);
}

static void read_times(const fleet_yaml_doc_t *doc, const broker_file_t *file,
                       broker_settings_t *settings) {
    settings->lease_ms = LEASE_MS_DEFAULT;
    settings->margin_ms = MARGIN_MS_DEFAULT;
    if (file->lease == NULL) {
        return;
    }
    fleet_yaml_duration(doc, "lease.length", file->lease->length, 1000, 600000,
                        &settings->lease_ms);
    // A short lease has a short margin where none is named.
    if (settings->margin_ms > settings->lease_ms / 2) {
        settings->margin_ms = settings->lease_ms / 2;
    }
    fleet_yaml_duration(doc, "lease.margin", file->lease->margin, 100, 600000,
                        &settings->margin_ms);
}

static void read_limits(const fleet_yaml_doc_t *doc, const broker_file_t *file,
                        broker_settings_t *settings) {
    uint64_t nodes = 100;
    uint64_t sets = 1000;
    if (file->limits != NULL) {
        fleet_yaml_number(doc, "limits.nodes", file->limits->nodes, 1, 10000,
                          &nodes);
        fleet_yaml_number(doc, "limits.sets", file->limits->sets, 1, 10000,
                          &sets);
    }
    settings->limits.nodes = (uint32_t)nodes;
    settings->limits.sets = (uint32_t)sets;
    settings->limits.keys = 256 + (uint32_t)nodes;
    settings->limits.requests = 4096;
}

static void read_fence(const fleet_yaml_doc_t *doc, const fence_file_t *file,
                       unsigned at, broker_settings_t *settings) {
    char path[64];
    char room[sizeof(fleet_text_t)];
    char *words[FENCE_WORDS_MAX + 1];
    broker_fence_settings_t *fence = &settings->fences[at];
    fence->limit_ms = FENCE_MS_DEFAULT;
    FLEET_FORMAT(path, "fence[%u].limit", at);
    fleet_yaml_duration(doc, path, file->limit, 100, 3600000, &fence->limit_ms);
    FLEET_FORMAT(path, "fence[%u].node", at);
    fleet_yaml_name(doc, path, file->node, &fence->node);
    for (unsigned i = 0; i < at; i++) {
        if (strcmp(settings->fences[i].node, fence->node) == 0) {
            fleet_yaml_complain(
                doc, path, "node %s has a fence command already", fence->node);
            break;
        }
    }
    FLEET_FORMAT(path, "fence[%u].command", at);
    if (fleet_yaml_text(doc, path, file->command, fence->command,
                        sizeof fence->command) &&
        !fence_split(fence->command, room, words)) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            doc, path, "this is no command: an open quote, or no words");
        FLEET_COPY(complaint->hint, "a program and its arguments; no shell");
    }
}

static void read_settings(const fleet_yaml_doc_t *doc,
                          broker_settings_t *settings) {
    const broker_file_t *file = fleet_yaml_data(doc);
    fleet_yaml_name(doc, "site", file->site, &settings->site);
    FLEET_COPY(settings->broker, "broker");
    fleet_yaml_name(doc, "broker", file->broker, &settings->broker);
    read_endpoint(doc, "listen.control", file->listen->control,
                  &settings->control);
    read_endpoint(doc, "listen.events", file->listen->events,
                  &settings->events);
    if (strcmp(settings->control, settings->events) == 0) {
        fleet_yaml_complain(doc, "listen.events",
                            "control and events need a port each");
    }
    fleet_yaml_path(doc, "key", file->key, &settings->key);
    read_store(doc, file, settings);
    read_times(doc, file, settings);
    read_limits(doc, file, settings);
    settings->fences_n = file->fence_count;
    for (unsigned i = 0; i < file->fence_count; i++) {
        read_fence(doc, &file->fence[i], i, settings);
    }
}

fleet_err_t broker_config_read(const char *path,
                               broker_settings_t *ret_settings,
                               fleet_complaints_t *ret_complaints) {
    char *text = NULL;
    size_t size = 0;
    fleet_yaml_doc_t *doc = NULL;
    fleet_err_t err =
        fleet_yaml_read_file(path, FILE_MAX, &text, &size, ret_complaints);
    if (err != FLEET_OK) {
        return err;
    }
    err = fleet_yaml_load(text, size, &broker_schema, ret_complaints, &doc);
    if (err == FLEET_OK) {
        broker_settings_t *settings = calloc(1, sizeof *settings);
        if (settings == NULL) {
            abort();
        }
        read_settings(doc, settings);
        if (ret_complaints->n > 0) {
            err = FLEET_BAD_FILE;
        } else {
            *ret_settings = *settings;
        }
        free(settings);
    }
    fleet_complaints_sort(ret_complaints);
    fleet_yaml_destroy(&doc);
    free(text);
    return err;
}

void broker_config_core(const broker_settings_t *settings,
                        const fleet_key_t sign_key,
                        broker_config_t *ret_config) {
    memset(ret_config, 0, sizeof *ret_config);
    ret_config->limits = settings->limits;
    FLEET_COPY(ret_config->site, settings->site);
    FLEET_COPY(ret_config->broker, settings->broker);
    FLEET_COPY(ret_config->version, FLEET_VERSION);
    ret_config->lease_ms = settings->lease_ms;
    ret_config->margin_ms = settings->margin_ms;
    ret_config->renew_ms = settings->lease_ms / 4;
    ret_config->resend_ms = 2000;
    memcpy(ret_config->sign_key, sign_key, FLEET_KEY_SIZE);
}

const broker_fence_settings_t *
broker_config_fence(const broker_settings_t *settings, const char *node) {
    for (uint32_t i = 0; i < settings->fences_n; i++) {
        if (strcmp(settings->fences[i].node, node) == 0) {
            return &settings->fences[i];
        }
    }
    return NULL;
}

void broker_config_difference(const broker_settings_t *old,
                              const broker_settings_t *new,
                              fleet_text_t ret_text) {
    const struct {
        const char *name;
        bool same;
    } keys[] = {
        {"site", strcmp(old->site, new->site) == 0},
        {"broker", strcmp(old->broker, new->broker) == 0},
        {"listen", strcmp(old->control, new->control) == 0 &&
                       strcmp(old->events, new->events) == 0},
        {"key", strcmp(old->key, new->key) == 0},
        {"store", strcmp(old->store, new->store) == 0},
        {"lease",
         old->lease_ms == new->lease_ms && old->margin_ms == new->margin_ms},
        {"limits", old->limits.nodes == new->limits.nodes &&
                       old->limits.sets == new->limits.sets},
    };
    fleet_text_t names = "";
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!keys[i].same) {
            fleet_text_t before;
            memcpy(before, names, sizeof before);
            fleet_text_format(names, sizeof names, "%.200s%s%s", before,
                              before[0] != '\0' ? ", " : "", keys[i].name);
        }
    }
    fleet_text_copy(ret_text, sizeof(fleet_text_t), names);
}
