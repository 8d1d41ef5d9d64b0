// SPDX-License-Identifier: MIT
//
// What the files of the loop share; for nobody else.

#ifndef FLEET_NODE_LOOP_STATE_H
#define FLEET_NODE_LOOP_STATE_H

#include <poll.h>

#include "node/asks.h"
#include "node/carrier.h"
#include "node/core.h"
#include "node/defs.h"
#include "node/inventory.h"
#include "node/jobs.h"
#include "node/local.h"
#include "node/loop.h"
#include "node/record.h"
#include "node/ticker.h"

#define LOOP_FDS_MAX (LOCAL_CLIENTS_MAX + 8)

struct loop {
    loop_config_t config;
    fleet_text_t cgroup;
    slots_t slots;
    inventory_t inventory;
    record_store_t *records;
    defs_t *defs;
    runner_t *runner;
    jobs_t *jobs;
    uplink_t *uplink;
    carrier_t *carrier;
    local_t *local;
    asks_t *asks;
    node_core_t *core;
    node_effects_t *effects;
    ticker_t ticker;
    int signals;
    int timer;

    // The message that is being stepped, for a KEEP and for acts by its
    // definition.
    const char *yaml;
    size_t yaml_size;
    const fleet_setdef_t *setdef;
    uint64_t setdef_rev; // 0: the message names none

    uint64_t lease_ms;   // as the broker said last
    bool remembers;      // the state directory is marked as this key's
    bool ready;          // the service manager has been told
    bool status_changed; // it is to be told again
    uint64_t started_ms;
    uint64_t watchdog_ms; // 0: nobody waits for a sign of life
    uint64_t fed_ms;
    bool left; // the core has nothing more to do
    bool over; // the loop ends
    int status;

    struct pollfd ready_fds[LOOP_FDS_MAX];
    node_input_t input;
    runner_event_t event;
    local_event_t ask;
    fleet_parcel_t parcel;
    fleet_setdef_t read_setdef;
    fleet_complaints_t complaints;
    runner_job_t job;
    fleet_message_t message;
    runner_event_t undone;
};

// effects.c: steps the core and carries its effects out.  Everything but kind,
// elapsed_ms is filled in by the caller.
void loop_step(loop_t *loop, node_input_t *input);

// effects.c: the end of a job, from the runner.
void loop_job_done(loop_t *loop, const runner_event_t *event);
void loop_job_said(loop_t *loop, const runner_event_t *event);

// The loop is to end, and why.
void loop_fail(loop_t *loop, const char *what, const char *why);

// inputs.c: a message with what is beside it.
void loop_parcel(loop_t *loop, const fleet_parcel_t *parcel);

// startup.c: from the disk into the core.
bool loop_load(loop_t *loop);

#endif
