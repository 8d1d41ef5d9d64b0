// SPDX-License-Identifier: MIT
//
// What the machine can tell of itself.

#ifndef FLEET_NODE_INVENTORY_H
#define FLEET_NODE_INVENTORY_H

#include "proto/messages.h"

typedef struct inventory {
    fleet_id_t boot_id;   // of this host, as /proc shows it here
    fleet_id_t kernel;    // release
    fleet_id_t kernel_id; // boot id of the running kernel itself
} inventory_t;

// False, with why, if the machine has no boot id: then a record could not say
// in which boot it was written.
bool inventory_read(inventory_t *ret_inventory, fleet_text_t ret_why);

// Load average of one minute in thousandths; 0 if it cannot be read.
uint64_t inventory_load_milli(void);

#endif
