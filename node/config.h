// SPDX-License-Identifier: MIT
//
// node.yaml.

#ifndef FLEET_NODE_CONFIG_H
#define FLEET_NODE_CONFIG_H

#include "node/slots.h"
#include "node/uplink.h"
#include "proto/complaint.h"

#define CONFIG_PATH "/etc/fleet/node.yaml"

typedef struct config {
    fleet_name_t node;
    fleet_name_t site;
    uint32_t brokers_n;
    uplink_broker_t brokers[UPLINK_BROKERS_MAX];
    fleet_text_t key; // path of the key file
    slots_wish_t slots;
    fleet_text_t state;  // default /var/lib/fleet
    fleet_text_t run;    // default /run/fleet
    fleet_text_t cgroup; // groups are made below this one; empty: the root
} config_t;

// FLEET_BAD_FILE, with every complaint and its line, if it is wrong; ret_config
// is then untouched.
fleet_err_t config_read(const char *path, config_t *ret_config,
                        fleet_complaints_t *ret_complaints);

// Do they differ in nothing but the list of brokers?
bool config_same(const config_t *a, const config_t *b);

#endif
