// SPDX-License-Identifier: MIT
//
// The loop of the node: turns what happens (messages, results, cables, time,
// questions, signals) into inputs of the core, and carries its effects out in
// order.

#ifndef FLEET_NODE_LOOP_H
#define FLEET_NODE_LOOP_H

#include "node/config.h"
#include "node/runner.h"

typedef struct loop loop_t;

typedef struct loop_config {
    config_t config;
    const char *config_path; // read again at SIGHUP
    fleet_key_pair_t pair;
    runner_t *runner; // a loan
} loop_config_t;

// Reads what is kept on disk and takes up what runs.  NULL, having said why in
// the log, if the node must not start.  SIGTERM, SIGINT and SIGHUP must be
// blocked.
loop_t *loop_new(const loop_config_t *config);
void loop_destroy(loop_t **loop_p);

// Until a signal asks for the end (0: nothing is stopped), the node has left
// (0), or it cannot go on (1: to be started again).
int loop_run(loop_t *loop);

// <hierarchy>/<cgroup of the configuration>/fleet/<node>; empty if there are no
// control groups v2.
void loop_cgroup(const config_t *config, fleet_text_t ret_path);

#endif
