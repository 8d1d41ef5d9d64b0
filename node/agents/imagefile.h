// SPDX-License-Identifier: MIT
//
// The file of an image, as one call of the driver has it open.

#ifndef FLEET_NODE_IMAGEFILE_H
#define FLEET_NODE_IMAGEFILE_H

#include "node/agents/agent.h"
#include "node/agents/label.h"
#include "node/agents/loopdev.h"

// How long a call waits for others to let go of the label's lock.
#define IMAGEFILE_LOCK_MS 5000

typedef struct imagefile {
    const char *path; // a loan from the definition
    int fd;           // for the label; -1: it cannot be opened
    int error;        // then errno
    dev_t dev;
    ino_t ino;
} imagefile_t;

imagefile_t imagefile_open(const agent_ctx_t *ctx);
void imagefile_close(imagefile_t *image);

// What this call asks of the lock.
label_command_t imagefile_command(const agent_ctx_t *ctx, label_verb_t verb);

// Says in the result what the lock says.
void imagefile_report(const label_t *label, agent_result_t *result);

#endif
