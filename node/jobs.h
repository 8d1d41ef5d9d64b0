// SPDX-License-Identifier: MIT
//
// The acts that are under way, by the number of their job: what a line or a
// result of the runner is about, and what of it is a step of a transfer.

#ifndef FLEET_NODE_JOBS_H
#define FLEET_NODE_JOBS_H

#include "node/core.h"
#include "node/runner.h"

typedef struct job {
    uint64_t number;
    uint64_t transfer; // 0: of none
    node_act_t act;
    uint32_t resource;
    fleet_name_t set;
    fleet_name_t resource_name; // empty: the set as a whole
    const char *step;           // name of the step; NULL: the act is none
} job_t;

typedef struct jobs jobs_t;

jobs_t *jobs_new(void);
void jobs_destroy(jobs_t **jobs_p);

// setdef may be NULL (then the act cannot be done, but its failure is a step).
const job_t *jobs_add(jobs_t *jobs, const node_effect_t *act,
                      const fleet_setdef_t *setdef);
// NULL if there is no such job.  A loan until jobs_add or jobs_remove.
const job_t *jobs_find(const jobs_t *jobs, uint64_t number);
void jobs_remove(jobs_t *jobs, uint64_t number);

// The step message of a job: it begins (event NULL), says a line, or has ended.
// False if it is no step.
bool jobs_step(const job_t *job, const char *node, const runner_event_t *event,
               fleet_message_t *ret_message);

// The core's input of an ended job.
void jobs_input(const job_t *job, const runner_event_t *event,
                node_input_t *ret_input);

#endif
