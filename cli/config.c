// SPDX-License-Identifier: MIT
//
// The client's own file: which brokers, by which key they are known, and whose
// key is used.  A wrong file is named with its line, as every file of fleet.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/text.h"
#include "proto/yaml.h"

#define FILE_MAX 65536

typedef struct broker_yaml {
    char *control;
    char *events;
    char *key;
} broker_yaml_t;

typedef struct client_yaml {
    char *format;
    char *site;
    broker_yaml_t *brokers;
    unsigned brokers_count;
    char *key;
} client_yaml_t;

static const cyaml_schema_field_t broker_fields[] = {
    CYAML_FIELD_STRING_PTR("control", CYAML_FLAG_POINTER, broker_yaml_t,
                           control, 0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("events", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                           broker_yaml_t, events, 0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("key", CYAML_FLAG_POINTER, broker_yaml_t, key, 0,
                           CYAML_UNLIMITED),
    CYAML_FIELD_END};

static const cyaml_schema_value_t broker_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, broker_yaml_t, broker_fields)};

static const cyaml_schema_field_t client_fields[] = {
    CYAML_FIELD_STRING_PTR("format", CYAML_FLAG_POINTER, client_yaml_t, format,
                           0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("site", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                           client_yaml_t, site, 0, CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE("brokers", CYAML_FLAG_POINTER, client_yaml_t, brokers,
                         &broker_entry, 1, FLEET_BROKERS_MAX),
    CYAML_FIELD_STRING_PTR("key", CYAML_FLAG_POINTER, client_yaml_t, key, 0,
                           CYAML_UNLIMITED),
    CYAML_FIELD_END};

static const cyaml_schema_value_t client_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, client_yaml_t, client_fields)};

void cli_config_find(const char *given, char *path, size_t size) {
    const char *home = getenv("HOME");
    const char *set = getenv("FLEET_CONFIG");

    if (given != NULL || (set != NULL && set[0] != '\0')) {
        snprintf(path, size, "%s", given != NULL ? given : set);
        return;
    }
    if (home != NULL && home[0] != '\0') {
        snprintf(path, size, "%s/.config/fleet/client.yaml", home);
        if (access(path, F_OK) == 0) {
            return;
        }
    }
    snprintf(path, size, "/etc/fleet/client.yaml");
}

// "~/x" is under the home, a relative path is beside the file that names it.
static void expand(const char *file, const char *text, char *path,
                   size_t size) {
    const char *home = getenv("HOME");
    const char *slash = strrchr(file, '/');

    if (strncmp(text, "~/", 2) == 0 && home != NULL) {
        snprintf(path, size, "%s/%s", home, text + 2);
    } else if (text[0] != '/' && slash != NULL) {
        snprintf(path, size, "%.*s/%s", (int)(slash - file), file, text);
    } else {
        snprintf(path, size, "%s", text);
    }
}

static bool take_endpoint(const fleet_yaml_doc_t *doc, const char *path,
                          const char *text, fleet_text_t *ret) {
    fleet_complaint_t *complaint;

    if (text == NULL) {
        return true;
    }
    if (strncmp(text, "tcp://", 6) != 0 || strrchr(text + 6, ':') == NULL) {
        complaint =
            fleet_yaml_complain(doc, path, "\"%s\" is no endpoint", text);
        FLEET_COPY(complaint->hint, "tcp://10.0.0.10:7471");
        return false;
    }
    return fleet_yaml_text(doc, path, text, *ret, sizeof(*ret));
}

static bool take_brokers(const fleet_yaml_doc_t *doc, const client_yaml_t *yaml,
                         fleet_client_config_t *config) {
    bool ok = true;

    for (unsigned i = 0; i < yaml->brokers_count; i++) {
        fleet_broker_address_t *address = &config->brokers[i];
        char path[64];

        snprintf(path, sizeof(path), "brokers[%u].control", i);
        ok &= take_endpoint(doc, path, yaml->brokers[i].control,
                            &address->control);
        snprintf(path, sizeof(path), "brokers[%u].events", i);
        ok &=
            take_endpoint(doc, path, yaml->brokers[i].events, &address->events);
        snprintf(path, sizeof(path), "brokers[%u].key", i);
        ok &= fleet_yaml_key(doc, path, yaml->brokers[i].key, address->key);
    }
    config->brokers_n = yaml->brokers_count;
    return ok;
}

static fleet_err_t complain(const char *path,
                            const fleet_complaints_t *complaints,
                            fleet_reason_t *ret_reason) {
    char line[1024];

    fleet_complaint_print(&complaints->items[0], path, line, sizeof(line));
    fleet_reason_make(ret_reason, FLEET_BAD_CONFIG, "%s", line);
    return FLEET_BAD_CONFIG;
}

static fleet_err_t take_key(const char *file, const char *text,
                            fleet_key_pair_t *ret_pair,
                            fleet_reason_t *ret_reason) {
    char path[4096];
    fleet_text_t why = "";
    fleet_err_t err;

    expand(file, text, path, sizeof(path));
    err = fleet_key_file_read(path, ret_pair, why);
    if (err != FLEET_OK) {
        fleet_reason_make(ret_reason, err, "%s", why);
    }
    return err;
}

fleet_err_t cli_config_read(const char *path, fleet_client_config_t *ret_config,
                            fleet_reason_t *ret_reason) {
    fleet_client_config_t config = {0};
    fleet_complaints_t complaints = {0};
    fleet_yaml_doc_t *doc = NULL;
    const client_yaml_t *yaml;
    char *text = NULL;
    size_t size = 0;
    fleet_err_t err =
        fleet_yaml_read_file(path, FILE_MAX, &text, &size, &complaints);

    if (err != FLEET_OK) {
        return complain(path, &complaints, ret_reason);
    }
    err = fleet_yaml_load(text, size, &client_schema, &complaints, &doc);
    free(text);
    if (err != FLEET_OK) {
        return complain(path, &complaints, ret_reason);
    }
    yaml = fleet_yaml_data(doc);
    if (!fleet_yaml_name(doc, "site", yaml->site, &config.site) ||
        !take_brokers(doc, yaml, &config)) {
        err = complain(path, &complaints, ret_reason);
    } else {
        err = take_key(path, yaml->key, &config.pair, ret_reason);
    }
    fleet_yaml_destroy(&doc);
    if (err == FLEET_OK) {
        *ret_config = config;
    }
    fleet_key_pair_wipe(&config.pair);
    return err;
}
