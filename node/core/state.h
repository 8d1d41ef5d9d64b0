// SPDX-License-Identifier: MIT
//
// The state of the node's core, for the core's own files and for nobody else.
//
// A set is one entry: its durable record (token, phase), by which definition it
// runs, what is wanted of it, and the one sequence of acts that is under way.
// Inputs only change what is known and what is wanted; node_set_advance alone
// looks at both and decides what is done next.  So nothing depends on the order
// in which wishes came, and a list of effects that is full is no problem: what
// it could not take is still wanted at the next step.
//
// Every time is what is left of it, in milliseconds; NODE_NEVER stands still.

#ifndef FLEET_NODE_STATE_H
#define FLEET_NODE_STATE_H

#include "node/core.h"
#include "proto/text.h"

#define NODE_NEVER UINT64_MAX
#define NODE_BEATS 64     // heartbeats whose answers still confirm
#define NODE_LOOKS_MAX 8  // looks at a time
#define NODE_SET_ROOM 128 // effects of one set in one step, at most

#define NODE_QUICK_MS 10000 // what only looks, and links
#define NODE_PREPARE_MS 20000
#define NODE_EVICT_MS 30000
#define NODE_LOOK_EVERY_MS 10000
#define NODE_PREPARED_MS 60000 // prepared and not used: taken back
#define NODE_RETRY_MS 10000    // a stop that nobody repeats, repeated
#define NODE_RESEND_MS 1000
#define NODE_PROBE_FAILURES 2 // in a row make a resource sick

// What the core needs of a definition.
typedef struct node_part {
    fleet_name_t name;
    fleet_resource_kind_t kind;
    uint32_t needs; // earlier ones only
    uint64_t start_ms;
    uint64_t stop_ms;
    uint64_t probe_every_ms; // 0: not probed
    uint64_t probe_limit_ms;
} node_part_t;

typedef struct node_plan {
    bool known;
    uint64_t rev;
    fleet_key_t digest;
    fleet_without_lease_t without_lease;
    uint32_t n;
    node_part_t parts[FLEET_RESOURCES_MAX];
} node_plan_t;

// A running act; job 0: none.
typedef struct node_act_slot {
    uint64_t job;
    node_act_t act;
    bool abandoned; // its result only frees the slot
} node_act_slot_t;

// What makes a set go.
typedef enum node_why {
    NODE_WHY_NONE,
    NODE_WHY_RELEASE, // the broker asked
    NODE_WHY_LAPSE,   // its lease ran out
    NODE_WHY_BOOT,    // the machine booted since
    NODE_WHY_DROP,    // the broker did not confirm it, or its lock is another's
    NODE_WHY_LEAVE,   // the machine goes down
    NODE_WHY_UNDO,    // its start failed
    NODE_WHY_REPLACE, // an acquire under a larger token waits for it
    NODE_WHY_CLEANUP  // it is closed, and something was found
} node_why_t;

// The sequence of acts that is under way.  One at a time.
typedef enum node_mode {
    NODE_MODE_IDLE,
    NODE_MODE_ADOPT, // what is there, after a restart of the agent?
    NODE_MODE_PREPARE,
    NODE_MODE_UNPREPARE,
    NODE_MODE_START,
    NODE_MODE_STOP,
    NODE_MODE_DOWN, // of a restart
    NODE_MODE_UP    // of a restart
} node_mode_t;

// A command that waits for its turn; token or transfer 0: none.
typedef struct node_acquire {
    uint64_t token;
    uint64_t from_token; // in place; else 0
    uint64_t transfer;
} node_acquire_t;

typedef struct node_prepare {
    bool wanted;
    bool done;
    uint64_t transfer;
    uint64_t left_ms; // until what is prepared is taken back
} node_prepare_t;

typedef struct node_restart {
    bool wanted;
    bool done; // `transfer` is carried out; its answer is `ok` and the failure
    bool ok;
    uint64_t transfer;
    uint32_t parts;
} node_restart_t;

typedef struct node_evict {
    node_act_slot_t slot;
    bool wanted;
    uint64_t token;
    uint64_t transfer;
    fleet_name_t victim;
    uint64_t victim_token;
} node_evict_t;

// What went wrong last; err FLEET_OK: nothing.
typedef struct node_failure {
    fleet_err_t err;
    uint32_t part;
    fleet_text_t text;
    fleet_words_t said;
} node_failure_t;

typedef struct node_set {
    bool used;
    fleet_name_t name;

    // Durable.
    uint64_t token;
    fleet_phase_t phase;

    // Definitions: by which it runs, and the newest that came.
    node_plan_t run;
    node_plan_t newest;
    bool same_boot; // LOADED

    // Lease.
    uint64_t lease_left_ms; // 0: it has lapsed
    bool lapsed;            // and that was acted upon
    uint64_t listed_from;   // first heartbeat that listed this token; 0: none
    bool carrier_down;
    bool silent_wanted; // links of its addresses are to be down

    // Wanted.
    node_why_t stop;
    bool stop_failed; // again at the next release, or after retry_left_ms
    uint64_t retry_left_ms;
    uint64_t close_token; // what a release named; closed is said of the larger
    bool asked;           // a release waits for its answer
    bool silence_first;   // no stop before the addresses are silent
    node_acquire_t acquire;
    node_prepare_t prepare;
    node_restart_t restart;
    node_evict_t evict;
    node_why_t unsaid; // closed, and not said for want of a session

    // The sequence.
    node_mode_t mode;
    bool in_place; // the START: nothing is torn down if it fails
    uint64_t from_token;
    uint64_t transfer; // its acts are steps of it
    uint32_t todo;     // parts whose act has not succeeded yet
    bool failed;       // starts nothing more, ends when nothing runs
    node_failure_t failure;
    bool broken; // acquiring, and the start has failed and was not undone
    fleet_err_t broken_err;
    bool broken_unsaid; // not said in this session

    // Parts, as bits.
    uint32_t there;    // may be there: STOP has to see to it
    uint32_t prepared; // likewise UNPREPARE, by the definition prepared_rev
    uint64_t prepared_rev;
    uint32_t silent;  // SILENCE was done
    uint32_t unheard; // may be silent: SPEAK once it is confirmed
    uint32_t speak;   // SPEAK is due
    uint32_t renew;   // RENEW is due
    uint32_t sick;
    uint32_t sick_unsaid;   // a change of sick that was not said yet
    fleet_text_t sick_text; // of the last change
    bool foreign;           // ADOPT: the disk group is not ours
    uint32_t missing;       // ADOPT: not found, or not well

    node_act_slot_t work[FLEET_RESOURCES_MAX];
    node_act_slot_t link[FLEET_RESOURCES_MAX];
    node_act_slot_t watch[FLEET_RESOURCES_MAX];
    uint64_t probe_left_ms[FLEET_RESOURCES_MAX];
    uint32_t probe_failures[FLEET_RESOURCES_MAX];

    // Looking whether it would start here.
    bool watched;
    bool gone; // the broker said so; the record may be forgotten if room is
               // needed
    node_act_slot_t look;
    uint64_t look_rev;
    uint64_t look_left_ms;
    uint64_t port_digest; // of the last answer that was sent
    bool port_sent;       // in this session
} node_set_t;

typedef enum node_session_state {
    NODE_SESSION_NONE,  // not connected yet
    NODE_SESSION_ASKED, // a hello is out
    NODE_SESSION_OPEN
} node_session_state_t;

typedef struct node_beat {
    uint64_t number;
    uint64_t left_ms; // what a confirmation of it gives
} node_beat_t;

typedef struct node_session {
    node_session_state_t state;
    bool hello_due;
    uint64_t hello;        // the number of the last one
    uint64_t hello_age_ms; // since it was sent
    uint64_t resend_ms;    // doubles, so that a slow broker is caught up with
    uint64_t resend_left_ms;
    uint64_t id;
    uint64_t lease_ms; // as hello_ok said last; 0: never yet
    uint64_t renew_ms;
    uint64_t lease_left_ms;
    bool lapsed; // and that was acted upon
    uint64_t renew_left_ms;
    uint64_t number; // of the last heartbeat
    node_beat_t beats[NODE_BEATS];
} node_session_t;

struct node_core {
    node_config_t config;
    uint64_t term; // durable
    bool started;
    bool connected;
    bool no_memory;
    bool leaving;
    bool left;
    fleet_text_t leave_reason;
    bool more;        // the list of effects was full
    uint32_t turn;    // where the next round over the sets begins
    uint64_t job;     // the last one
    uint32_t booting; // sets that a boot left and that are not closed yet
    node_session_t session;
    uint32_t sets_n; // entries beyond were never used
    node_set_t sets[NODE_SETS_MAX];
};

// emit.c: effects.
node_effect_t *node_emit(node_effects_t *effects, node_effect_kind_t kind);
void node_note(node_effects_t *effects, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool node_has_room(const node_effects_t *effects, uint32_t n);
// The message of a new SEND effect, zeroed, of that type.
fleet_message_t *node_send(node_effects_t *effects, fleet_message_type_t type);
node_effect_t *node_act(node_core_t *core, node_set_t *set,
                        node_effects_t *effects, node_act_slot_t *slot,
                        node_act_t act, uint32_t resource);
void node_abandon(node_set_t *set, node_effects_t *effects,
                  node_act_slot_t *slot);

// records.c: the table of sets and their records.
node_set_t *node_set_find(node_core_t *core, const char *name);
// Makes room if need be; NULL if there is none.  FORGET may be an effect.
node_set_t *node_set_add(node_core_t *core, const char *name,
                         node_effects_t *effects);
bool node_set_open(const node_set_t *set); // it has a record that is not closed
void node_set_record(node_set_t *set, uint64_t token, fleet_phase_t phase,
                     node_effects_t *effects);
// Takes a definition that came with a message; KEEP if it is new.
void node_set_define(node_set_t *set, const fleet_setdef_t *setdef,
                     uint64_t rev, node_effects_t *effects);
void node_set_write(const node_set_t *set, node_effects_t *effects);
void node_plan_take(node_plan_t *plan, const fleet_setdef_t *setdef,
                    uint64_t rev);
uint32_t node_plan_all(const node_plan_t *plan);
uint32_t node_plan_kind(const node_plan_t *plan, fleet_resource_kind_t kind);
uint32_t node_bit(uint32_t part);

// session.c
bool node_session_is_open(const node_core_t *core);
void node_session_connected(node_core_t *core, node_effects_t *effects);
// False if the message is not the session's.
bool node_session_message(node_core_t *core, const fleet_message_t *message,
                          node_effects_t *effects);
void node_session_lapse(node_core_t *core, node_effects_t *effects);
uint64_t node_session_deadline(const node_core_t *core);
// True if the command is of the current term and session; else notes that.
bool node_session_takes(node_core_t *core, uint64_t term, uint64_t session,
                        const char *what, const char *set,
                        node_effects_t *effects);
void node_session_end(node_core_t *core, const char *why,
                      node_effects_t *effects);
// Sends the hello or heartbeat that is due.
void node_session_advance(node_core_t *core, node_effects_t *effects);

// lease.c: per set, and the links of addresses.
void node_lease_age(node_core_t *core, uint64_t elapsed_ms);
void node_lease_check(node_core_t *core, node_effects_t *effects);
uint64_t node_lease_left(const node_set_t *set);
void node_lease_give(node_set_t *set, uint64_t left_ms,
                     node_effects_t *effects);
void node_lease_hole(node_core_t *core, uint64_t hole_ms,
                     node_effects_t *effects);
void node_lease_carrier(node_core_t *core, const char *name, bool up,
                        node_effects_t *effects);
bool node_link_is_silent(const node_set_t *set);
// False if the list of effects has no room.
bool node_link_advance(node_core_t *core, node_set_t *set,
                       node_effects_t *effects);
void node_link_result(node_core_t *core, node_set_t *set, uint32_t part,
                      const node_input_t *input, node_effects_t *effects);

// commands.c: messages, and what the broker asks beside acquire and release.
void node_message(node_core_t *core, const node_input_t *input,
                  node_effects_t *effects);
void node_prepare_end(node_core_t *core, node_set_t *set,
                      node_effects_t *effects);
void node_restart_end(node_core_t *core, node_set_t *set,
                      node_effects_t *effects);
void node_evict_advance(node_core_t *core, node_set_t *set,
                        node_effects_t *effects);
void node_evict_result(node_core_t *core, node_set_t *set,
                       const node_input_t *input, node_effects_t *effects);

// acquire.c
void node_acquire_take(node_core_t *core, const node_input_t *input,
                       node_effects_t *effects);
void node_acquire_begin(node_core_t *core, node_set_t *set,
                        node_effects_t *effects);
void node_acquire_end(node_core_t *core, node_set_t *set,
                      node_effects_t *effects);
void node_acquire_fail(node_core_t *core, node_set_t *set, uint64_t token,
                       bool undone, fleet_err_t err, node_effects_t *effects);
void node_stale_say(node_core_t *core, const node_set_t *set, uint64_t shown,
                    uint64_t now, const char *where, node_effects_t *effects);
// The highest token of the set that this node knows.
uint64_t node_set_known(const node_set_t *set);

// release.c: everything that makes a set go.
void node_release_take(node_core_t *core, const fleet_release_t *release,
                       node_effects_t *effects);
void node_stop_want(node_set_t *set, node_why_t why);
void node_stop_begin(node_set_t *set, node_effects_t *effects);
void node_stop_end(node_core_t *core, node_set_t *set, node_effects_t *effects);
void node_closed_say(node_core_t *core, node_set_t *set, node_why_t why,
                     node_effects_t *effects);
const char *node_why_word(node_why_t why);

// sequence.c: the acts of one set.
void node_set_advance(node_core_t *core, node_set_t *set,
                      node_effects_t *effects);
void node_sequence_begin(node_set_t *set, node_mode_t mode, uint32_t todo,
                         node_effects_t *effects);
void node_sequence_result(node_core_t *core, node_set_t *set, uint32_t part,
                          const node_input_t *input, node_effects_t *effects);
void node_failure_take(node_set_t *set, uint32_t part, node_act_t act,
                       const node_input_t *input);

// adopt.c
void node_adopt_loaded(node_core_t *core, const node_input_t *input,
                       node_effects_t *effects);
void node_adopt_start(node_core_t *core, node_effects_t *effects);
uint32_t node_adopt_booting(const node_core_t *core);
void node_adopt_found(node_set_t *set, uint32_t part,
                      const node_input_t *input);
void node_adopt_end(node_core_t *core, node_set_t *set,
                    node_effects_t *effects);

// health.c: probes of what is held, and the look for `port`.
void node_health_advance(node_core_t *core, node_set_t *set,
                         node_effects_t *effects);
void node_health_result(node_core_t *core, node_set_t *set, uint32_t part,
                        const node_input_t *input, node_effects_t *effects);
void node_health_set(node_core_t *core, node_set_t *set, uint32_t part, bool ok,
                     const char *text, node_effects_t *effects);
void node_health_say(node_core_t *core, node_set_t *set, uint32_t part,
                     node_effects_t *effects);
bool node_look_waits(const node_core_t *core, const node_set_t *set);
void node_look_advance(node_core_t *core, node_set_t *set,
                       node_effects_t *effects);
void node_look_result(node_core_t *core, node_set_t *set,
                      const node_input_t *input, node_effects_t *effects);

// leave.c
void node_leave_take(node_core_t *core, const char *reason,
                     node_effects_t *effects);
void node_leave_advance(node_core_t *core, node_effects_t *effects);

// rows.c
const char *node_failure_part(const node_set_t *set);
const char *node_act_word(node_act_t act);

#endif
