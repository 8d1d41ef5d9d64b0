// SPDX-License-Identifier: MIT

#include "node/jobs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

struct jobs {
    size_t n;
    size_t room;
    job_t *items;
};

jobs_t *jobs_new(void) {
    jobs_t *jobs = calloc(1, sizeof(*jobs));
    if (!jobs) {
        abort();
    }
    return jobs;
}

void jobs_destroy(jobs_t **jobs_p) {
    if (*jobs_p) {
        free((*jobs_p)->items);
        free(*jobs_p);
        *jobs_p = NULL;
    }
}

// A disk group is released and acquired, everything else is stopped and
// started.
static const char *step_name(node_act_t act, bool is_disk_group) {
    switch (act) {
    case NODE_ACT_PREPARE:
        return "prepare";
    case NODE_ACT_START:
        return is_disk_group ? "acquire" : "start";
    case NODE_ACT_STOP:
        return is_disk_group ? "release" : "stop";
    case NODE_ACT_EVICT:
        return "evict";
    case NODE_ACT_UNPREPARE:
    case NODE_ACT_PROBE:
    case NODE_ACT_LOOK:
    case NODE_ACT_SILENCE:
    case NODE_ACT_SPEAK:
    case NODE_ACT_RENEW:
        return NULL;
    }
    return NULL;
}

const job_t *jobs_add(jobs_t *jobs, const node_effect_t *act,
                      const fleet_setdef_t *setdef) {
    if (jobs->n == jobs->room) {
        jobs->room = jobs->room ? 2 * jobs->room : 64;
        jobs->items = realloc(jobs->items, jobs->room * sizeof(jobs->items[0]));
        if (!jobs->items) {
            abort();
        }
    }
    job_t *job = &jobs->items[jobs->n++];
    *job = (job_t){.number = act->job,
                   .transfer = act->transfer,
                   .act = act->act,
                   .resource = act->resource};
    FLEET_COPY(job->set, act->set);
    bool is_disk_group = false;
    if (setdef && act->resource < setdef->resources_n) {
        const fleet_resource_t *resource = &setdef->resources[act->resource];
        FLEET_COPY(job->resource_name, resource->name);
        is_disk_group = resource->kind == FLEET_RESOURCE_DISK_GROUP;
    }
    if (act->transfer != 0) {
        job->step = step_name(act->act, is_disk_group);
    }
    return job;
}

const job_t *jobs_find(const jobs_t *jobs, uint64_t number) {
    for (size_t i = 0; i < jobs->n; i++) {
        if (jobs->items[i].number == number) {
            return &jobs->items[i];
        }
    }
    return NULL;
}

void jobs_remove(jobs_t *jobs, uint64_t number) {
    const job_t *job = jobs_find(jobs, number);
    if (job) {
        jobs->n -= 1;
        jobs->items[job - jobs->items] = jobs->items[jobs->n];
    }
}

bool jobs_step(const job_t *job, const char *node, const runner_event_t *event,
               fleet_message_t *ret_message) {
    if (!job->step) {
        return false;
    }
    memset(ret_message, 0, sizeof(*ret_message));
    ret_message->type = FLEET_MESSAGE_step;
    fleet_step_t *step = &ret_message->step;
    step->transfer = job->transfer;
    FLEET_COPY(step->set, job->set);
    FLEET_COPY(step->node, node);
    FLEET_COPY(step->resource, job->resource_name);
    FLEET_COPY(step->step, job->step);
    step->running = !event || event->kind == RUNNER_SAID;
    step->ok = true;
    if (event) {
        step->us = event->us;
        FLEET_COPY(step->detail, event->line);
    }
    if (event && event->kind == RUNNER_DONE) {
        step->ok = event->result.err == FLEET_OK;
        FLEET_COPY(step->detail, event->result.text);
        FLEET_COPY(step->said, event->result.said);
    }
    return true;
}

void jobs_input(const job_t *job, const runner_event_t *event,
                node_input_t *ret_input) {
    const agent_result_t *result = &event->result;
    memset(ret_input, 0, sizeof(*ret_input));
    ret_input->kind = NODE_IN_RESULT;
    ret_input->act = job->act;
    FLEET_COPY(ret_input->set, job->set);
    ret_input->resource = job->resource;
    ret_input->job = job->number;
    ret_input->ok = result->err == FLEET_OK;
    ret_input->found = result->found;
    ret_input->err = result->err;
    FLEET_COPY(ret_input->text, result->text);
    FLEET_COPY(ret_input->said, result->said);
    ret_input->stamped = result->stamped;
    ret_input->blocked = result->blocked;
    FLEET_COPY(ret_input->lock_owner, result->lock_owner);
    ret_input->lock_token = result->lock_token;
    ret_input->visible = result->visible;
    ret_input->can_evict = result->can_evict;
    assert(result->problems_n <= FLEET_REASONS_MAX);
    ret_input->problems_n = result->problems_n;
    memcpy(ret_input->problems, result->problems, sizeof(result->problems));
}
