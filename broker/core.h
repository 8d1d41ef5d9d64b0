// SPDX-License-Identifier: MIT
//
// The broker's decisions, as a pure state machine: members, leases, ownership,
// admission, transfers, evidence, tokens, keys.  An input goes in, an ordered
// list of effects comes out.  It knows no socket, clock, file, thread, logger
// or allocator.  Its state is one block without pointers, of a size that the
// limits fix: copy it to snapshot it, compare it, hash it.
//
// Everything that decides ownership changes in one way only: an event is made,
// folded into the state by broker_core_apply, and handed out as a COMMIT
// effect. Replaying the events from the start gives the same durable bytes
// (S5).  What is not durable (sessions, what is left of leases, what nodes
// reported, what was sent) is rebuilt from what nodes say.
//
// Times are kept as what is left of them, in milliseconds; they shrink by the
// elapsed time that each input carries.

#ifndef FLEET_BROKER_CORE_H
#define FLEET_BROKER_CORE_H

#include "proto/errors.h"

typedef struct broker_limits {
    uint32_t nodes; // default 100
    uint32_t sets;  // default 1000
    uint32_t keys;  // default 256 + nodes
    uint32_t
        requests; // ids of ended requests that are remembered; default 4096
} broker_limits_t;

typedef struct broker_config {
    broker_limits_t limits;
    fleet_name_t site;
    fleet_name_t broker;
    fleet_id_t version;
    uint64_t lease_ms;  // default 10 s
    uint64_t margin_ms; // what the broker waits longer; default 2 s
    uint64_t renew_ms;  // how often nodes renew; default lease / 4
    uint64_t
        resend_ms; // how often an unanswered command is sent again; default 2 s
    fleet_key_t sign_key; // public key of the journal's signatures
} broker_config_t;

typedef struct broker_core
    broker_core_t; // broker/state.h, for the core's own files

// Bytes that a core with these limits takes.
size_t broker_core_size(const broker_limits_t *limits);

// Makes an empty core in `memory` (broker_core_size bytes, aligned for any
// type). The caller owns the memory; nothing has to be destroyed.
broker_core_t *broker_core_init(void *memory, const broker_config_t *config);

// The durable part, for snapshots: broker_core_durable_size bytes from
// broker_core_durable; broker_core_restore puts them back into a fresh core
// with the same limits (FLEET_SITE_FULL otherwise).
size_t broker_core_durable_size(const broker_core_t *core);
const void *broker_core_durable(const broker_core_t *core);
fleet_err_t broker_core_restore(broker_core_t *core, const void *durable,
                                size_t size);

// Folds one event of the journal into the state.  Events come in the order of
// their seq.  FLEET_BAD_MESSAGE if it cannot follow the state (a damaged
// journal).
fleet_err_t broker_core_apply(broker_core_t *core,
                              const fleet_message_t *event);

typedef enum broker_input_kind {
    BROKER_IN_START,     // once, after the replay: the reign begins
    BROKER_IN_TICK,      // time has passed; nothing else happened
    BROKER_IN_FENCEABLE, // `name` has a fence command; at start
    BROKER_IN_MESSAGE,   // from a connection whose key is `name`'s, with `role`
    BROKER_IN_FENCED,    // the fence command of node `name` ended
    BROKER_IN_KEY // before START on a new site: the first admin's key, in
                  // `message`
} broker_input_kind_t;

typedef struct broker_input {
    broker_input_kind_t kind;
    uint64_t elapsed_ms; // since the input before; floor of a boot-time clock
    uint64_t time_us;    // wall clock, only to be written down
    uint64_t peer;       // the connection, for answers; the loop's number
    fleet_role_t role;   // identity comes from the key, never from a message
    fleet_name_t name;
    bool ok;                        // FENCED
    fleet_text_t text;              // FENCED: what the command said
    const fleet_message_t *message; // MESSAGE and KEY; a loan
    const fleet_facts_t
        *facts;       // MESSAGE apply: of the definition, already read
    fleet_name_t set; // MESSAGE apply: its name
} broker_input_t;

typedef enum broker_effect_kind {
    BROKER_OUT_COMMIT,  // an event: durable before any effect after it is
                        // carried out
    BROKER_OUT_NODE,    // send to node `name`, on its session's connection
    BROKER_OUT_PEER,    // answer to connection `peer`
    BROKER_OUT_SESSION, // connection `peer` is now node `name`'s
    BROKER_OUT_CUT,     // drop every connection of the key `key`
    BROKER_OUT_FENCE,   // run the fence command of node `name`
    BROKER_OUT_CHANGED, // the row of node or set `name` is different: publish
                        // it
    BROKER_OUT_NOTE // `text` is the line of the log and of a trace: who, what,
                    // ->, decided
} broker_effect_kind_t;

typedef struct broker_effect {
    broker_effect_kind_t kind;
    uint64_t peer;
    fleet_name_t name;
    fleet_key_t key;
    fleet_text_t text;
    // COMMIT: the event.  NODE and PEER: the message.  watch_set, prepare,
    // acquire and evict take the definition of message.*.set as second frame:
    // of revision message.*.rev (evict: the newest).  set.defined and
    // set.changed take it from the apply that is being stepped; transfer.ended
    // takes what the loop's book of steps has.
    fleet_message_t message;
} broker_effect_t;

// Enough for every step: each step's list is bounded by it (a node's records
// and debts, twice, and a transfer's end).
#define BROKER_EFFECTS_MAX (4 * FLEET_PAIRS_MAX + 32)

typedef struct broker_effects {
    uint32_t n;
    broker_effect_t items[BROKER_EFFECTS_MAX];
} broker_effects_t;

// Takes one input, changes the state, fills effects (its old content is
// dropped). Total: any input is accepted in any state.  Checks the invariants
// at its end.
void broker_core_step(broker_core_t *core, const broker_input_t *input,
                      broker_effects_t *effects);

// Milliseconds until a TICK is wanted; 0: at once (more to do than one list
// holds); UINT64_MAX: never.
uint64_t broker_core_deadline(const broker_core_t *core);

// Asserts every invariant.
void broker_core_check(const broker_core_t *core);

// Questions.  Pure reads.

// Whose key it is; fleet_role_NONE if it is not on the list.
fleet_role_t broker_core_key(const broker_core_t *core, const fleet_key_t key,
                             fleet_name_t ret_name);
bool broker_core_has_admin(const broker_core_t *core);
uint64_t broker_core_seq(const broker_core_t *core);
uint64_t broker_core_term(const broker_core_t *core);

// Rows of a status; i counts from 0 in the order of names, false past the last.
// since_us and addresses of instants that the core does not keep come from the
// loop's view (broker/view.h), which folds the same events.
bool broker_core_node_row(const broker_core_t *core, uint32_t i,
                          fleet_node_row_t *ret_row);
bool broker_core_set_row(const broker_core_t *core, uint32_t i,
                         fleet_set_row_t *ret_row);
bool broker_core_check_row(const broker_core_t *core, const char *set,
                           uint32_t i, fleet_check_row_t *ret_row);
bool broker_core_key_row(const broker_core_t *core, uint32_t i,
                         fleet_key_row_t *ret_row);
// What is wrong now, worst first.
bool broker_core_problem(const broker_core_t *core, uint32_t i,
                         fleet_reason_t *ret_reason);
// The running transfer of a set, or of that number; false if there is none.
// Steps and times are the loop's.
bool broker_core_transfer(const broker_core_t *core, const char *set,
                          uint64_t transfer, fleet_transfer_t *ret_transfer);
// P12: no lapse can be seen before this has passed.
uint64_t broker_core_no_lapse_ms(const broker_core_t *core);
// The revision of a set's definition; 0 if there is no such set.
uint64_t broker_core_rev(const broker_core_t *core, const char *set);

#endif
