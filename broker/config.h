// SPDX-License-Identifier: MIT
//
// broker.yaml: what a broker is told by its operator.  Read at start and again
// at SIGHUP; a file that is wrong changes nothing.

#ifndef FLEET_BROKER_CONFIG_H
#define FLEET_BROKER_CONFIG_H

#include "broker/core.h"
#include "proto/complaint.h"

#define BROKER_FENCES_MAX 1024

typedef struct broker_fence_settings {
    fleet_name_t node;
    fleet_text_t command; // split into words, given to no shell
    uint64_t limit_ms;
} broker_fence_settings_t;

typedef struct broker_settings {
    fleet_name_t site;
    fleet_name_t broker;
    fleet_text_t control; // endpoints to bind: tcp://ADDRESS:PORT
    fleet_text_t events;
    fleet_text_t key;   // the key file
    fleet_text_t store; // the journal's file
    uint64_t lease_ms;
    uint64_t margin_ms;
    broker_limits_t limits;
    uint32_t fences_n;
    broker_fence_settings_t fences[BROKER_FENCES_MAX];
} broker_settings_t;

// Reads a file.  FLEET_BAD_FILE, with ret_settings untouched and at least one
// complaint, if it is wrong.
fleet_err_t broker_config_read(const char *path,
                               broker_settings_t *ret_settings,
                               fleet_complaints_t *ret_complaints);

// What the core is told of it.
void broker_config_core(const broker_settings_t *settings,
                        const fleet_key_t sign_key,
                        broker_config_t *ret_config);

// The fence command of a node, or NULL.
const broker_fence_settings_t *
broker_config_fence(const broker_settings_t *settings, const char *node);

// What of a new file only a restart can bring into force: a sentence, or empty.
void broker_config_difference(const broker_settings_t *old,
                              const broker_settings_t *new,
                              fleet_text_t ret_text);

#endif
