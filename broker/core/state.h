// SPDX-License-Identifier: MIT
//
// The state of the broker's core, for the core's own files only.  One block:
//
//   broker_core_t      configuration and offsets; constant after init
//   broker_durable_t   and the arrays behind it: the fold of the journal.
//   Nothing
//                      but fold.c writes here.
//   broker_soft_t      and the arrays behind it: rebuilt from what nodes say
//
// Nodes and sets are never forgotten, so their numbers are stable; NOBODY is
// none. Order arrays list numbers sorted by name (keys: also by key).

#ifndef BROKER_CORE_STATE_H
#define BROKER_CORE_STATE_H

#include <assert.h>
#include <string.h>

#include "broker/core.h"
#include "proto/text.h"

#define NOBODY UINT32_MAX
#define NEVER UINT32_MAX // a timer that does not run, a cursor that is done

#define BROKER_DEBTS_MAX                                                       \
    8 // displaced nodes of one set that have not dropped it
#define BROKER_PROBLEMS_MAX 3 // of one port; a node's further ones are not kept
#define BROKER_ANSWERS_MAX 64 // requests without a transfer that are remembered
#define BROKER_PREPARE_MS 30000
#define BROKER_EVICT_MS 30000

// What one set or node can add to a list of effects in one step.
#define BROKER_ROOM 24

// --------------------------------------------------------------------- durable

typedef struct broker_debt {
    uint64_t token;
    uint32_t node;
    uint32_t unused; // zero: no byte of the durable part is left to chance
} broker_debt_t;

typedef struct broker_transfer {
    uint64_t id;         // seq of its request; 0: none runs
    uint64_t token;      // forced: the new token, stamped before the grant
    uint64_t from_token; // of its last grant
    fleet_kind_t kind;
    fleet_evidence_t evidence; // of the release that it rests on
    uint32_t from;
    uint32_t to;
    uint32_t executor;
    bool in_place; // asked to run where it is
    bool released; // the old owner can no longer write
    bool granted;  // the holder is the grantee
    bool grant_in_place;
    bool returning;
    bool cancelled;
    bool failed; // it will not end as asked, and `why` says why
    fleet_id_t request;
    fleet_id_t by;
    fleet_text_t reason;
    fleet_name_t resource;
    uint32_t ignored_n;
    fleet_name_item_t ignored[FLEET_IGNORES_MAX];
    fleet_reason_t why;
} broker_transfer_t;

typedef struct broker_set {
    fleet_name_t name;
    bool defined; // false: removed; its token is remembered
    bool pending; // runs by an older definition
    bool wanted_up;
    bool up; // the holder said `acquired`
    bool stuck;
    uint32_t holder;
    uint32_t last_owner;
    uint32_t resume;       // the node that ran it when it went down
    uint64_t token;        // the highest ever
    uint64_t holder_token; // what the holder was granted
    uint64_t rev;
    fleet_evidence_t evidence; // of the last release
    uint32_t debts_n;
    broker_debt_t debts[BROKER_DEBTS_MAX];
    broker_transfer_t transfer;
    fleet_name_t stuck_code;
    fleet_name_t stuck_resource;
    fleet_text_t stuck_text;
    uint32_t bad_n; // resources that failed their probe
    fleet_name_t bad[FLEET_RESOURCES_MAX];
    fleet_text_t bad_text;
    fleet_facts_t facts;
} broker_set_t;

typedef struct broker_node {
    fleet_name_t name;
    fleet_node_state_t state;
    fleet_down_how_t how;
    bool fencing;       // its fence command was ordered and has not ended
    uint32_t used;      // slots: holders, reservations, debts (P19)
    uint32_t sets;      // the same of sets with and without addresses
    uint32_t debts;     // sets that it was displaced from and has not dropped
    uint64_t state_seq; // the event that made it so
    uint64_t slots;
    uint64_t watchdog_ms;
    fleet_id_t boot_id;
    fleet_id_t kernel_id;
    fleet_id_t version;
    fleet_id_t down_by;
    fleet_text_t down_detail;
} broker_node_t;

typedef struct broker_key {
    fleet_key_t key;
    fleet_name_t name;
    fleet_role_t role;
    uint64_t since_us;
} broker_key_t;

typedef struct broker_request {
    fleet_id_t id;
    uint64_t transfer;
    uint32_t set;
    uint32_t to;
    fleet_kind_t kind;
    fleet_outcome_t outcome;
    fleet_name_t resource;
} broker_request_t;

typedef struct broker_durable {
    broker_limits_t limits;
    uint64_t seq;
    uint64_t term;
    uint64_t longest_ms; // lease and margin, the longest in the journal (P12)
    uint32_t nodes_n;
    uint32_t sets_n;
    uint32_t keys_n;
    uint32_t requests_n;
    uint32_t requests_next; // the ring's oldest
    uint32_t unused;
} broker_durable_t;

// ------------------------------------------------------------------------ soft

typedef struct broker_problem {
    fleet_name_t code;
    fleet_name_t resource;
    fleet_text_t text;
    fleet_text_t hint;
} broker_problem_t;

// What a node last said of a set; kept when it falls silent, as of then.
typedef struct broker_port {
    uint32_t set; // NOBODY: free
    uint32_t node;
    uint32_t next_of_set; // the free list runs over this one too
    uint32_t next_of_node;
    uint64_t rev;
    uint64_t lock_token;
    fleet_name_t lock_owner;
    bool visible;
    bool can_evict;
    uint32_t problems_n;
    broker_problem_t problems[BROKER_PROBLEMS_MAX];
} broker_port_t;

typedef struct broker_set_soft {
    uint32_t first_port;
    bool prepared; // the target has done what can be done before the release
    bool recall;   // release(t) stands: its holder has no record of it (P8)
    bool behind;   // something showed a token above the journal's (P15)
    bool touched;
} broker_set_soft_t;

typedef struct broker_node_soft {
    uint64_t session; // 0: none
    uint64_t peer;
    uint64_t hello;
    uint64_t load_milli;
    fleet_id_t agent_id;
    fleet_id_t kernel;
    uint32_t first_port;
    uint32_t stray; // slots in use by sets that it should not have
    bool heard;     // in this reign
    bool fenceable;
    bool touched;
    uint64_t fence_peer;
    uint64_t fence_content;
    fleet_id_t fence_request;
    fleet_id_t fence_by;
    fleet_id_t fence_boot; // its boot, as it was known then
    bool fence_back;       // another boot of it was heard since
    fleet_text_t fence_reason;
} broker_node_soft_t;

// The answer to a request without a transfer.
typedef struct broker_answer {
    uint64_t content; // hash of what was asked
    fleet_done_t done;
} broker_answer_t;

typedef struct broker_soft {
    uint64_t sessions;
    uint32_t no_lapse_ms;
    uint32_t ports_free; // first of the free list
    uint32_t answers_next;
    uint32_t touched_n;
    bool behind; // a node has heard a higher term (P15)
} broker_soft_t;

struct broker_core {
    broker_config_t config;
    uint32_t ports_max;
    uint32_t answers_max;
    size_t size;
    size_t durable_at;
    size_t soft_at;
    // Durable arrays.
    size_t sets_at;
    size_t nodes_at;
    size_t keys_at;
    size_t requests_at;
    size_t hashes_at;  // of request ids, packed
    size_t holders_at; // of each set, packed
    size_t set_order_at;
    size_t node_order_at;
    size_t key_order_at;      // by key
    size_t key_name_order_at; // by name, role, key
    // Soft arrays.
    size_t set_softs_at;
    size_t node_softs_at;
    size_t left_at;   // per node: what is left of its lease
    size_t age_at;    // per node: since it was heard
    size_t greet_at;  // per node: next set to be looked at since its hello
    size_t tell_at;   // per set: next node to be told of its definition
    size_t resend_at; // per set: until its open commands are sent again
    size_t limit_at;  // per set: until the phase of its transfer is given up
    size_t ports_at;
    size_t answers_at;
    size_t touched_at; // numbers of touched nodes, sets above them
};

// Constness of a core is the promise of the questions, not of these: they reach
// into the block behind it.
static inline void *core_at(const broker_core_t *core, size_t at) {
    return (void *)((uintptr_t)core + at);
}
static inline broker_durable_t *durable_of(const broker_core_t *core) {
    return core_at(core, core->durable_at);
}
static inline broker_soft_t *soft_of(const broker_core_t *core) {
    return core_at(core, core->soft_at);
}
static inline broker_set_t *set_of(const broker_core_t *core, uint32_t set) {
    assert(set < durable_of(core)->sets_n);
    return (broker_set_t *)core_at(core, core->sets_at) + set;
}
static inline broker_node_t *node_of(const broker_core_t *core, uint32_t node) {
    assert(node < durable_of(core)->nodes_n);
    return (broker_node_t *)core_at(core, core->nodes_at) + node;
}
static inline broker_key_t *key_of(const broker_core_t *core, uint32_t key) {
    return (broker_key_t *)core_at(core, core->keys_at) + key;
}
static inline broker_request_t *request_of(const broker_core_t *core,
                                           uint32_t request) {
    return (broker_request_t *)core_at(core, core->requests_at) + request;
}
static inline broker_set_soft_t *set_soft_of(const broker_core_t *core,
                                             uint32_t set) {
    return (broker_set_soft_t *)core_at(core, core->set_softs_at) + set;
}
static inline broker_node_soft_t *node_soft_of(const broker_core_t *core,
                                               uint32_t node) {
    return (broker_node_soft_t *)core_at(core, core->node_softs_at) + node;
}
static inline broker_port_t *port_of(const broker_core_t *core, uint32_t port) {
    return (broker_port_t *)core_at(core, core->ports_at) + port;
}
static inline uint32_t *u32s_of(const broker_core_t *core, size_t at) {
    return core_at(core, at);
}

static inline uint32_t *greet_of(const broker_core_t *core, uint32_t node) {
    return &u32s_of(core, core->greet_at)[node];
}
static inline uint32_t *tell_of(const broker_core_t *core, uint32_t set) {
    return &u32s_of(core, core->tell_at)[set];
}
static inline uint32_t holder_of(const broker_core_t *core, uint32_t set) {
    return u32s_of(core, core->holders_at)[set];
}

// ---------------------------------------------------------------------- find.c

// FNV-1a of a text; continues from hash (0: begins).
uint64_t text_hash(uint64_t hash, const char *text);
uint32_t find_set(const broker_core_t *core, const char *name);  // or NOBODY
uint32_t find_node(const broker_core_t *core, const char *name); // or NOBODY
uint32_t find_key(const broker_core_t *core, const fleet_key_t key);
uint32_t find_request(const broker_core_t *core, const char *id);
// The i-th by name.
uint32_t nth_set(const broker_core_t *core, uint32_t i);
uint32_t nth_node(const broker_core_t *core, uint32_t i);
uint32_t nth_key(const broker_core_t *core, uint32_t i);
const char *node_name(const broker_core_t *core,
                      uint32_t node); // "" for NOBODY
// Enter a number, whose name or key is already there, into its orders.
void order_set(broker_core_t *core, uint32_t set);
void order_node(broker_core_t *core, uint32_t node);
void order_key(broker_core_t *core, uint32_t key);
void unorder_keys(broker_core_t *core); // and sort them anew

// ---------------------------------------------------------------------- emit.c

// One step: what came in, what goes out.
typedef struct step {
    broker_core_t *core;
    const broker_input_t *in;
    broker_effects_t *out;
} step_t;

// What may still be added to the list, beside what is owed for touched rows.
uint32_t step_room(const step_t *step);
// A new effect with an empty message of this type; its content follows.
fleet_message_t *step_node(step_t *step, uint32_t node,
                           fleet_message_type_t type, size_t size);
fleet_message_t *step_peer(step_t *step, uint64_t peer,
                           fleet_message_type_t type, size_t size);
// An event; to be filled in, and then folded and committed by step_commit.
fleet_message_t *step_event(step_t *step, fleet_message_type_t type,
                            size_t size);
void step_commit(step_t *step);
broker_effect_t *step_effect(step_t *step, broker_effect_kind_t kind);
void step_note(step_t *step, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void step_touch_set(step_t *step, uint32_t set);
void step_touch_node(step_t *step, uint32_t node);
void step_flush(step_t *step); // the touched rows

#define TO_NODE(step, node, m)                                                 \
    (&step_node((step), (node), FLEET_MESSAGE_##m, sizeof(fleet_##m##_t))->m)
#define TO_PEER(step, m)                                                       \
    (&step_peer((step), (step)->in->peer, FLEET_MESSAGE_##m,                   \
                sizeof(fleet_##m##_t))                                         \
          ->m)
#define NEW_EVENT(step, m)                                                     \
    (&step_event((step), FLEET_MESSAGE_##m, sizeof(fleet_##m##_t))->m)

// The head of an event about a set; by and reason are its transfer's.
void head_set(step_t *step, fleet_head_t *head, uint32_t set, uint32_t node,
              uint64_t token);
void head_node(step_t *step, fleet_head_t *head, uint32_t node, const char *by,
               const char *reason);

// --------------------------------------------------------------------- ports.c

broker_port_t *find_port(const broker_core_t *core, uint32_t set,
                         uint32_t node);
void port_message(step_t *step, uint32_t node, const fleet_port_t *port);
void ports_forget_set(broker_core_t *core, uint32_t set);
bool set_allows(const broker_set_t *set, const char *node);
// watch_set to one node, or `gone`.
void watch_send(step_t *step, uint32_t set, uint32_t node, bool gone);

// ------------------------------------------------------------------- members.c

bool node_online(const broker_core_t *core, uint32_t node); // with a session
uint32_t slots_free(const broker_core_t *core, uint32_t node);
uint64_t lease_full_ms(const broker_core_t *core); // lease and margin
void member_start(step_t *step);
void member_message(step_t *step, uint32_t node);
void member_lapse(step_t *step, uint32_t node);
void member_greet(step_t *step, uint32_t node);
void member_down(step_t *step, uint32_t node, fleet_down_how_t how,
                 const char *by, const char *reason, const char *detail);
void member_fence(step_t *step, uint32_t node, const fleet_request_t *request,
                  const char *by);
void member_fenced(step_t *step, uint32_t node);
// The node has to say hello again: what it said so far counts no more (P5).
void member_session_end(step_t *step, uint32_t node, const char *why);

// ----------------------------------------------------------------- admission.c

// Adds reasons; a list that is full keeps its first ones.
fleet_reason_t *reason_next(fleet_refused_t *no);
void reason_about(fleet_reason_t *why, const char *set, const char *node);
// Why the set cannot start on this node now.
void admit_target(const broker_core_t *core, uint32_t set, uint32_t node,
                  fleet_refused_t *no);
void admit_forced(const broker_core_t *core, uint32_t set, uint32_t executor,
                  const fleet_request_t *request, fleet_refused_t *no);
// Where a start without a node goes; NOBODY and reasons if nowhere.
uint32_t admit_choose(const broker_core_t *core, uint32_t set,
                      const fleet_request_t *request, fleet_refused_t *no);
// A stuck set where it is: only its holder has to be there.
void admit_in_place(const broker_core_t *core, uint32_t set,
                    fleet_refused_t *no);
// What no transfer may begin with: another one, an older journal, no token
// left.
void admit_set(const broker_core_t *core, uint32_t set, bool busy_ends,
               fleet_refused_t *no);
// The owner has to be asked for its release.
void admit_owner(const broker_core_t *core, uint32_t set,
                 const fleet_request_t *request, fleet_refused_t *no);
void admit_waive(fleet_refused_t *no, const fleet_request_t *request);
fleet_ready_t admit_ready(const broker_core_t *core, uint32_t set,
                          uint32_t node, fleet_refused_t *no);
bool set_behind(const broker_core_t *core, uint32_t set);
// Evidence against a holder that stands now, best first.
fleet_evidence_t evidence_now(const broker_core_t *core, uint32_t node,
                              bool blocked);

// ----------------------------------------------------------------- transfers.c

typedef struct broker_begin {
    uint32_t set;
    fleet_kind_t kind;
    uint32_t from;
    uint32_t to;
    uint32_t executor;
    bool in_place;
    const char *request;
    const char *resource;
    const char *by;
    const char *reason;
    const fleet_request_t *ignore; // whose codes were waived; may be NULL
} broker_begin_t;

uint64_t transfer_begin(step_t *step, const broker_begin_t *begin);
// Decides what can be decided, and sends what stands.
void transfer_advance(step_t *step, uint32_t set);
void transfer_give_up(step_t *step, uint32_t set); // its phase's limit is over
void transfer_cancel(step_t *step, uint32_t set, const char *by,
                     const char *reason);
void transfer_arm(broker_core_t *core, uint32_t set);
void transfer_end(step_t *step, uint32_t set, fleet_outcome_t outcome,
                  bool changed);
// Under which token the lock of a forced one's victim is.
uint64_t victim_token(const broker_core_t *core, uint32_t set);
// Whom the running transfer waits for.
uint32_t transfer_waits_for(const broker_core_t *core, uint32_t set);
void boot_rule(step_t *step, uint32_t set, uint32_t node);

// ------------------------------------------------------------------- reports.c

// Everything of the set up to token is gone from the node, for good (P6).
void report_closed(step_t *step, uint32_t set, uint32_t node, uint64_t token,
                   const char *why, bool rebooted);
// A set runs under this token; also by a hello that shows it held.
void report_acquired(step_t *step, uint32_t set, uint32_t node, uint64_t token);
void report_message(step_t *step, uint32_t node);

// ----------------------------------------------------------------- transfers.c
// For reports.c: the ways a transfer goes on.
void transfer_released(step_t *step, uint32_t set, uint32_t node,
                       uint64_t token, fleet_evidence_t evidence,
                       const char *proof, const char *by_itself);
void transfer_grant_in_place(step_t *step, uint32_t set, const char *why);
void transfer_stuck(step_t *step, uint32_t set, const char *code,
                    const char *resource, const char *text);
void transfer_failed(step_t *step, uint32_t set, bool undone,
                     const fleet_acquire_failed_t *failed);
// The lock is stamped, or there is none: what else stands against the victim?
void transfer_evidence(step_t *step, uint32_t set, bool blocked,
                       const char *read_back);
// The target cannot prepare, a lock that nobody needs cannot be stamped, there
// is no such service to restart.
void transfer_untouched(step_t *step, uint32_t set, const fleet_reason_t *why);

// ------------------------------------------------------------------ commands.c

// Sends what stands for this node in this set (NOBODY: for every node of it).
// A function of the state (P11).
void commands_send(step_t *step, uint32_t set, uint32_t node);
void release_send(step_t *step, uint32_t set, uint32_t node, uint64_t token,
                  uint64_t transfer, bool silence_first);

// ------------------------------------------------------------------ requests.c

void request_message(step_t *step);
// `done` for a request without a transfer, remembered by its id.
void answer_done(step_t *step, uint64_t peer, const fleet_done_t *done,
                 uint64_t content);
uint64_t request_content(const fleet_request_t *request);
void refuse(step_t *step, uint64_t peer, fleet_refused_t *no);

// --------------------------------------------------------------- definitions.c

void definition_apply(step_t *step, const char *by);
void definition_remove(step_t *step, const fleet_request_t *request,
                       const char *by);

// ------------------------------------------------------------------- keyring.c

void keyring_change(step_t *step, const char *by);
void keyring_admit(step_t *step, const fleet_key_change_t *change,
                   const char *by);

// ---------------------------------------------------------------------- fold.c

// The nodes that a set takes a place on: at most BROKER_USES_MAX.
#define BROKER_USES_MAX (3 + BROKER_DEBTS_MAX)
uint32_t uses_of(const broker_set_t *set, uint32_t nodes[BROKER_USES_MAX]);

// ---------------------------------------------------------------------- core.c

void check_set(const broker_core_t *core, uint32_t set);

#endif
