// SPDX-License-Identifier: MIT
//
// What an agent is: it knows how to start, stop and probe one kind of resource.
//
// Every call runs in a child process of its own that may block as long as it
// likes: the runner (node/runner.h) ends it at its limit and reports that.  An
// agent keeps nothing in memory from one call to the next; what it must
// remember is in the kernel (a mount, a loop device, a cgroup) or under
// ctx->run.  Every call is idempotent: starting what runs and stopping what is
// gone succeed at once.

#ifndef FLEET_NODE_AGENT_H
#define FLEET_NODE_AGENT_H

#include "node/core.h"

// What one call is about, and where its words go.  A loan for the call.
typedef struct agent_ctx {
    const fleet_setdef_t *setdef; // the whole set, for what stands around it
    const fleet_resource_t *resource; // this one; NULL for a whole set
    fleet_name_t node;
    fleet_id_t kernel_id;
    uint64_t token;
    uint64_t
        from_token; // in place: the lock must be (node, from_token); else 0
    fleet_name_t victim; // evict
    uint64_t victim_token;
    uint64_t lease_ms;  // address renew
    fleet_text_t run;   // /run/fleet: gone after a boot
    fleet_text_t state; // /var/lib/fleet: kept
    fleet_text_t
        cgroup; // the directory under which this node's sets have theirs
    // Interfaces of this node, from node.yaml or discovered.
    fleet_name_t parent; // macvlans are made on it; empty: physical interfaces
    uint32_t interfaces_n;
    fleet_name_t interfaces[16]; // physical ones that take a set's MAC
    fleet_name_t private_interface;
    int progress; // descriptor; agent_say writes to it
} agent_ctx_t;

// What a call found.  Zeroed before the call.
typedef struct agent_result {
    fleet_err_t err;    // FLEET_OK, or why not
    node_found_t found; // probe
    fleet_text_t text;  // what was done or found; on failure what, where, why
    fleet_words_t said; // the last 1 KiB that a failed command said
    bool stamped, blocked;   // evict
    bool visible, can_evict; // look
    fleet_name_t lock_owner; // look, evict, a refused start
    uint64_t lock_token;
    uint32_t problems_n; // look: why it would not start here
    fleet_reason_t problems[FLEET_REASONS_MAX];
} agent_result_t;

typedef struct agent {
    fleet_resource_kind_t kind;
    const char *driver; // disk groups: "image"; else NULL
    // Any of these may be NULL: nothing to do, which is success.
    void (*prepare)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*unprepare)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*start)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*stop)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*probe)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*look)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*evict)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*silence)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*speak)(const agent_ctx_t *ctx, agent_result_t *result);
    void (*renew)(const agent_ctx_t *ctx, agent_result_t *result);
} agent_t;

extern const agent_t agent_image;
extern const agent_t agent_filesystem;
extern const agent_t agent_address;
extern const agent_t agent_service;

// The agent of a resource; NULL if there is none for its driver.
const agent_t *agent_find(const fleet_resource_t *resource);

// A line of progress ("waiting for pid 4121 (rsync); KILL in 0.6 s"), shown
// live. Cut at FLEET_TEXT_MAX bytes; never blocks.
void agent_say(const agent_ctx_t *ctx, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// The call failed: err, and what, where, why in result->text.
void agent_fail(agent_result_t *result, fleet_err_t err, const char *format,
                ...) __attribute__((format(printf, 3, 4)));

// The resource of that kind which stands before `resource` in its set and which
// it is on (the disk group of a file system), or NULL.
const fleet_resource_t *agent_below(const agent_ctx_t *ctx,
                                    fleet_resource_kind_t kind);

// Path of the block device of the set's disk group while it is imported here:
// a symbolic link <run>/disk/<set>, kept by the disk group's driver.
void agent_device_path(const agent_ctx_t *ctx, fleet_text_t ret_path);

#endif
