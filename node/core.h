// SPDX-License-Identifier: MIT
//
// The node's decisions, as a pure state machine: sessions, records, leases by
// set, what to start and stop in which order, what to adopt after a restart,
// what to do when the broker is silent.  Same rules as the broker's core: no
// socket, clock, file, process, logger or allocator; one block without
// pointers; times as what is left; effects in order.
//
// Who does what: the core says START resource 2 of www; the loop (node/loop.c)
// has an agent do it in a child process and hands the result back as an input.

#ifndef FLEET_NODE_CORE_H
#define FLEET_NODE_CORE_H

#include "proto/setdef.h"

#define NODE_SETS_MAX FLEET_PAIRS_MAX

typedef struct node_config {
    fleet_name_t site;
    fleet_name_t node;
    fleet_id_t version;
    fleet_id_t boot_id;
    fleet_id_t agent_id;  // random at each start of the agent
    fleet_id_t kernel;    // release
    fleet_id_t kernel_id; // the real boot id of the running kernel
    uint64_t slots;
    uint64_t watchdog_ms;
    uint64_t term;  // the highest term that was heard, from disk
    bool no_memory; // the state directory had no record of this key (P16)
    uint64_t
        resend_ms; // how often an unanswered hello is repeated; default 1 s
} node_config_t;

typedef struct node_core node_core_t; // node/core/state.h

size_t node_core_size(void);
node_core_t *node_core_init(void *memory, const node_config_t *config);

// Which resource of a set an effect or a result is about.
#define NODE_WHOLE_SET UINT32_MAX

typedef enum node_act {
    NODE_ACT_PREPARE,   // what can be done before the release
    NODE_ACT_UNPREPARE, // take that back
    NODE_ACT_START,     // idempotent; `token` goes into the lock
    NODE_ACT_STOP,      // idempotent, also for what was never started
    NODE_ACT_PROBE,     // what is there: NODE_FOUND_*
    NODE_ACT_EVICT,     // disk group: stamp `token`, block `victim`
    NODE_ACT_LOOK,      // whole set: would it start here, who has the lock
    NODE_ACT_SILENCE,   // address: its link goes down, nothing else
    NODE_ACT_SPEAK,     // address: its link comes up again, announced
    NODE_ACT_RENEW      // address: kernel-kept timer set to `lease_ms`
} node_act_t;

typedef enum node_found {
    NODE_FOUND_NOTHING,
    NODE_FOUND_PART, // something of it is left
    NODE_FOUND_ALL   // it runs, and is well
} node_found_t;

typedef enum node_input_kind {
    NODE_IN_LOADED, // before START: a record from disk, and its definition
    NODE_IN_START,  // all is loaded
    NODE_IN_TICK,
    NODE_IN_CONNECTED, // the connection to the broker is (again) there
    NODE_IN_MESSAGE,   // from the broker
    NODE_IN_RESULT,    // an act ended
    NODE_IN_CARRIER,   // the public carrier of a set's interface: `ok` is up
    NODE_IN_CLOCK,     // the loop found a hole in time of `elapsed_ms` (P20)
    NODE_IN_LEAVE      // the machine goes down in order
} node_input_kind_t;

typedef struct node_input {
    node_input_kind_t kind;
    uint64_t elapsed_ms; // since the input before; boot-time clock, rounded up
    fleet_pair_t record; // LOADED
    bool same_boot;      // LOADED: the record was last written in this boot
    uint64_t lease_left_ms;       // LOADED: by the deadline kept in /run (P21)
    const fleet_setdef_t *setdef; // LOADED; MESSAGE with a definition; a loan
    uint64_t rev; // LOADED, and a message with a definition: its revision
    const fleet_message_t *message; // MESSAGE; a loan

    // RESULT
    node_act_t act;
    fleet_name_t set;
    uint32_t resource;
    uint64_t job; // as in the effect; an old one is ignored
    bool ok;
    node_found_t found; // PROBE
    fleet_err_t err;   // not ok: HELD START_FAILED STOP_FAILED LOCK_FOREIGN ...
    fleet_text_t text; // what was found, done or failed
    fleet_words_t said;      // what a failed command said
    bool stamped;            // EVICT
    bool blocked;            // EVICT
    fleet_name_t lock_owner; // LOOK, and a refused START of a disk group
    uint64_t lock_token;
    bool visible;        // LOOK
    bool can_evict;      // LOOK
    uint32_t problems_n; // LOOK
    fleet_reason_t problems[FLEET_REASONS_MAX];
} node_input_t;

typedef enum node_effect_kind {
    NODE_OUT_RECORD, // `record` durable before any effect after it; CLOSED too
    NODE_OUT_FORGET, // the record of a set that was removed
    NODE_OUT_TERM,   // `term` durable before any effect after it
    NODE_OUT_DEADLINE, // keep set's `lease_ms` left in /run; 0: none
    // Keep the definition of `set` that came with this message, as `rev`.  A
    // set may run by an older one than the newest: the loop keeps the last two
    // that it was told to keep, and the one that a record which is not closed
    // names in its `rev`.
    NODE_OUT_KEEP,
    NODE_OUT_SEND,    // `message` to the broker
    NODE_OUT_ACT,     // have an agent do it, with this job number
    NODE_OUT_ABANDON, // the act with this job number is to end now; its result
                      // still comes
    NODE_OUT_NOTE,    // `text` is the line of the log and of a trace
    NODE_OUT_LEFT // after LEAVE: everything is stopped and said, the process
                  // may end
} node_effect_kind_t;

typedef struct node_effect {
    node_effect_kind_t kind;
    fleet_name_t set;
    fleet_pair_t record;
    uint64_t term;
    // DEADLINE, and RENEW, START and SPEAK: what is left of the set's lease
    // when the core was asked; the loop takes off what has passed since.  1: it
    // has run out, and its address is not to be heard before the next RENEW.
    uint64_t lease_ms;
    uint64_t rev; // KEEP; RECORD: the one it runs by; ACT: the one to do it by
    node_act_t act;
    uint32_t resource;
    uint64_t job;
    uint64_t token;
    // START in place: a disk group's lock must be (self, this); what a service
    // still runs under this token it keeps.  Else 0: what is left goes first
    // (P9).
    uint64_t from_token;
    uint64_t limit_ms; // of the act
    uint64_t transfer; // the steps of the act belong to it; 0: none
    fleet_name_t victim;
    uint64_t victim_token;
    fleet_text_t text;
    fleet_message_t message;
} node_effect_t;

#define NODE_EFFECTS_MAX (4 * NODE_SETS_MAX + 32)

typedef struct node_effects {
    uint32_t n;
    node_effect_t items[NODE_EFFECTS_MAX];
} node_effects_t;

// As broker_core_step: total, checks the invariants at its end.
void node_core_step(node_core_t *core, const node_input_t *input,
                    node_effects_t *effects);
uint64_t node_core_deadline(const node_core_t *core);
void node_core_check(const node_core_t *core);

// Questions; pure reads.
void node_core_head(const node_core_t *core, fleet_local_head_t *ret_head);
bool node_core_row(const node_core_t *core, uint32_t i,
                   fleet_local_row_t *ret_row);
// Owns it: held here, and no answer of the broker has said otherwise.
bool node_core_owns(const node_core_t *core, const char *set);
bool node_core_knows(const node_core_t *core, const char *set);

#endif
