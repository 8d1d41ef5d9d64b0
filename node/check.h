// SPDX-License-Identifier: MIT
//
// What fleet-node does besides running: telling what it finds on this machine,
// and asking the agent that runs to leave.  Both return an exit status.

#ifndef FLEET_NODE_CHECK_H
#define FLEET_NODE_CHECK_H

#include "node/config.h"

// Prints slots, control groups, kernel, key and state; 0 if a node could start
// with it, else 1.
int check_print(const config_t *config);

// Prints each step; 0 once everything is stopped, 1 if it was refused or the
// agent went away meanwhile, 69 if none runs.
int check_leave(const config_t *config);

#endif
