// SPDX-License-Identifier: MIT
//
// A deterministic world around the two cores, which are linked as they are: one
// broker with a journal, nodes with a kernel, disks with locks, a network, and
// operators.  Time is a number that jumps from one thing that happens to the
// next.
//
//   agenda.c     what happens when
//   wire.c       messages on their way
//   brokerhost.c the loop around the broker's core, its journal, its crashes
//   nodehost.c   the loop around a node's core, its records, its crashes
//   kernel.c     what agents do to devices, addresses, services and locks
//   faults.c     what goes wrong, and how it heals
//   operators.c  who asks for what
//   promises.c   what must hold after everything that happens
//   history.c    one history from its seed: faults, then L1
//
// Times are microseconds of the world unless a name says otherwise.

#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "broker/core.h"
#include "node/core.h"
#include "proto/text.h"
#include "tests/sim/dice.h"

#define SIM_NODES_MAX 3
#define SIM_SETS_MAX 2
#define SIM_VARIANTS 2 // definitions of one set
#define SIM_PARTS 3    // disk group, address, service, as far as it has them
#define SIM_REVS 256
#define SIM_ACTS_MAX 64
#define SIM_NOBODY UINT32_MAX

#define SIM_MS UINT64_C(1000)
#define SIM_S UINT64_C(1000000)

// Kinds of fault, for the counts.
typedef enum sim_fault {
#define FAULT(NAME, word) SIM_FAULT_##NAME,
#include "tests/sim/faults.def"
    SIM_FAULTS
} sim_fault_t;

extern const char *const sim_fault_words[SIM_FAULTS];

typedef struct world world_t;

// ------------------------------------------------------------------- agenda.c

typedef enum sim_what {
    SIM_LETTER,       // a message arrives
    SIM_BROKER_START, // life
    SIM_BROKER_CRASH, // life
    SIM_AGENT_KILL,   // host, life
    SIM_DOWN,         // host, boot: a shutdown has taken long enough
    SIM_BROKER_TICK,  // number
    SIM_BROKER_WROTE, // life: the round is durable
    SIM_BROKER_GO,    // it is no longer paused
    SIM_FENCE_CUT,    // the fence command cuts the power
    SIM_FENCE_END,    // life: and says so
    SIM_POWER_ON,     // host, boot
    SIM_AGENT_START,  // host, boot, life
    SIM_AGENT_TICK,   // host, number
    SIM_AGENT_WROTE,  // host, life
    SIM_AGENT_GO,     // host: it is no longer paused
    SIM_CONNECT,      // host, life
    SIM_ACT_APPLY,    // host, serial of the act
    SIM_ACT_END,      // host, serial
    SIM_CUT_END,      // host, number: direction
    SIM_CARRIER_UP,   // host
    SIM_PATH_BACK,    // host
    SIM_LET_GO,       // host, number: set and part
    SIM_FAULT_NEXT,
    SIM_ASK_NEXT,
    SIM_LOOK // nothing but a look at the promises
} sim_what_t;

typedef struct letter letter_t;

typedef struct sim_item {
    uint64_t at;
    uint64_t order;
    sim_what_t what;
    uint32_t host;
    uint64_t number;
    letter_t *letter; // owned
} sim_item_t;

typedef struct agenda {
    sim_item_t *items; // a heap
    size_t n;
    size_t room;
    uint64_t order;
} agenda_t;

void agenda_add(world_t *world, uint64_t at, sim_what_t what, uint32_t host,
                uint64_t number, letter_t *letter);
bool agenda_take(agenda_t *agenda, sim_item_t *ret_item);

// --------------------------------------------------------------------- wire.c

// A message on its way, or waiting in an inbox.  `message` is as long as its
// type needs; wire_read copies it into a whole one.
struct letter {
    uint32_t from; // a node, or SIM_NOBODY: an operator or the broker
    uint32_t to;   // a node, or SIM_NOBODY: the broker
    uint64_t peer;
    fleet_role_t role;
    fleet_name_t name;
    uint32_t attested;  // the node that this says is down, or SIM_NOBODY
    uint32_t apply_set; // apply: the set and variant, else SIM_NOBODY
    uint32_t apply_variant;
    const fleet_setdef_t *setdef; // second frame
    uint64_t rev;
    size_t size;
    fleet_message_t *message;
};

size_t message_size(const fleet_message_t *message);
fleet_message_t *message_pack(const fleet_message_t *message, size_t *ret_size);
const fleet_message_t *message_open(const fleet_message_t *packed, size_t size);

letter_t *letter_new(const fleet_message_t *message);
void letter_free(letter_t *letter);
// Between broker and node; takes the letter.
void wire_send(world_t *world, letter_t *letter);

// --------------------------------------------------------------- brokerhost.c

typedef struct packed {
    size_t size;
    fleet_message_t *message;
} packed_t;

// An effect that waits for its round to be durable.
typedef struct broker_out {
    broker_effect_kind_t kind;
    fleet_name_t name;
    uint64_t peer;
    packed_t message;
    fleet_text_t text;
} broker_out_t;

typedef struct broker_host {
    bool up;
    bool paused;
    bool writing; // a round waits for the disk
    bool rest;    // the core has more to do at once
    uint64_t life;
    uint64_t tick; // number of the tick that counts
    int64_t drift_ppm;
    uint64_t offset_ms;
    uint64_t seen_ms; // its clock at the last input
    uint64_t peers;   // the last number given to a connection
    uint64_t resume_at;
    bool crash_writing;   // at its next write
    uint32_t crash_after; // effects of a round until it dies; 0: not armed
    void *memory;
    broker_core_t *core;
    letter_t **inbox;
    size_t inbox_n, inbox_room;
    packed_t *journal;
    size_t journal_n, journal_room;
    size_t round_n; // of the journal's entries: those not durable yet
    broker_out_t *outs;
    size_t outs_n, outs_room;
    void *golden; // durable bytes at the crash, for the replay
    bool has_golden;
    // By which variant each revision of a set is defined.
    uint32_t variant[SIM_SETS_MAX][SIM_REVS];
    uint64_t newest_rev[SIM_SETS_MAX];
} broker_host_t;

void brokerhost_start(world_t *world, uint64_t life);
void brokerhost_crash(world_t *world);
void brokerhost_pause(world_t *world, uint64_t until);
void brokerhost_go(world_t *world);
void brokerhost_tick(world_t *world, uint64_t number);
void brokerhost_wrote(world_t *world, uint64_t life);
void brokerhost_fenced(world_t *world, uint32_t host, uint64_t life_and_ok);
void brokerhost_deliver(world_t *world, letter_t *letter); // takes it
void brokerhost_turn(world_t *world);
// Folds the journal anew and compares (S5).
void brokerhost_replay_check(world_t *world);

// ----------------------------------------------------------------- nodehost.c

typedef struct sim_record {
    bool there;
    fleet_pair_t pair;
    uint64_t rev;
    uint64_t boot;
} sim_record_t;

typedef struct sim_act {
    uint64_t serial;
    uint32_t host;
    uint32_t set;
    uint32_t resource;
    uint64_t job;
    node_act_t act;
    uint64_t token;
    uint64_t from_token;
    uint64_t lease_ms;
    uint32_t victim;
    uint64_t began_ms; // by the host's clock
    uint64_t end_at;
    bool applied;
    bool fails;   // whatever it did
    bool applies; // though it fails
    // What it found.
    bool ok;
    fleet_err_t err;
    node_found_t found;
    bool stamped, blocked, visible, can_evict;
    fleet_name_t lock_owner;
    uint64_t lock_token;
    const char *text;
} sim_act_t;

typedef struct node_in {
    node_input_kind_t kind;
    letter_t *letter;
    sim_act_t *act;
    uint32_t set;
    bool up;
} node_in_t;

// The kernel's part of one set on one node.
typedef struct sim_kernel_set {
    bool attached;
    bool revoked; // the device's key: its writes fail
    uint64_t attached_token;
    bool address_up;
    bool silenced;
    bool timed; // the address falls silent by itself
    uint64_t silent_at_ms;
    bool running;
    uint32_t held; // parts that cannot be stopped, as bits
} sim_kernel_set_t;

typedef struct node_host {
    fleet_name_t name;
    bool power;
    bool agent;
    bool paused;
    bool writing;
    bool connected;
    bool lossy; // a message was lost since the connection was made
    bool leaving;
    bool carrier;
    bool path;            // to the disks
    bool crash_writing;   // its agent, at its next write
    bool cut_in, cut_out; // from and to the broker
    uint64_t boot;
    uint64_t life; // of the agent
    uint64_t tick;
    uint64_t peer;
    int64_t drift_ppm;
    uint64_t offset_ms;
    uint64_t seen_ms;
    uint64_t asked_ms; // when its effects were made
    uint64_t resume_at;
    uint64_t last_in, last_out; // when the last message in order arrives
    void *memory;
    node_core_t *core;
    node_in_t *inbox;
    size_t inbox_n, inbox_room;
    node_effect_t **outs; // cut after what their kind needs
    size_t outs_n, outs_at, outs_room;
    sim_act_t *acts[SIM_ACTS_MAX]; // running
    size_t acts_n;
    // Its disk.
    bool memory_kept; // a term was written
    uint64_t term;
    sim_record_t records[SIM_SETS_MAX];
    // /run
    bool deadline_there[SIM_SETS_MAX];
    uint64_t deadline_ms[SIM_SETS_MAX];
    // The kernel.
    sim_kernel_set_t kernel[SIM_SETS_MAX];
} node_host_t;

uint64_t nodehost_clock_ms(const world_t *world, const node_host_t *node);
void nodehost_power_on(world_t *world, uint32_t host);
void nodehost_power_off(world_t *world, uint32_t host);
void nodehost_agent_start(world_t *world, uint32_t host, uint64_t life);
void nodehost_agent_kill(world_t *world, uint32_t host);
void nodehost_pause(world_t *world, uint32_t host, uint64_t until);
void nodehost_go(world_t *world, uint32_t host);
void nodehost_tick(world_t *world, uint32_t host, uint64_t number);
void nodehost_wrote(world_t *world, uint32_t host, uint64_t life);
void nodehost_connect(world_t *world, uint32_t host, uint64_t life);
void nodehost_disconnect(world_t *world, uint32_t host);
void nodehost_deliver(world_t *world, letter_t *letter); // takes it
void nodehost_input(world_t *world, uint32_t host, const node_in_t *in);
void nodehost_turn(world_t *world, uint32_t host);
void nodehost_free(node_host_t *node);

// ------------------------------------------------------------------- kernel.c

typedef struct sim_disk {
    uint32_t owner; // SIM_NOBODY
    uint64_t floor;
} sim_disk_t;

void kernel_act(world_t *world, uint32_t host, const node_effect_t *effect);
void kernel_abandon(world_t *world, uint32_t host, uint64_t job);
void kernel_applies(world_t *world, uint32_t host, uint64_t serial);
void kernel_ends(world_t *world, uint32_t host, uint64_t serial);
// The agent died: its acts end, some of them having done their work.
void kernel_agent_died(world_t *world, uint32_t host);
void kernel_power_off(world_t *world, uint32_t host);
bool kernel_can_write(const world_t *world, uint32_t host, uint32_t set);
bool kernel_answers(const world_t *world, uint32_t host, uint32_t set);
bool kernel_has_any(const world_t *world, uint32_t host, uint32_t set);

// ------------------------------------------------------------------- faults.c

typedef struct sim_rates {
    uint32_t loss; // permyriad of messages
    uint32_t repeat;
    uint32_t slow; // much later than usual
    uint64_t slow_us;
    uint32_t act_fails;
    uint32_t act_hangs;
    uint32_t act_slow;
    uint64_t write_us; // the longest usual write
    uint32_t write_slow;
    uint64_t between_us; // faults
    uint64_t ask_us;     // requests
    uint32_t weight[SIM_FAULTS];
} sim_rates_t;

void faults_draw(world_t *world);
void faults_next(world_t *world);
void faults_count(world_t *world, sim_fault_t fault);
void faults_heal(world_t *world); // everything is well from now on
// A fault of some duration has passed.
void faults_over(world_t *world, const sim_item_t *item);

// ---------------------------------------------------------------- operators.c

void operators_define(world_t *world);
void operators_next(world_t *world);
void operators_ask(world_t *world, fleet_verb_t verb, uint32_t set,
                   uint32_t node, bool force);
void operators_apply(world_t *world, uint32_t set, uint32_t variant);

// ----------------------------------------------------------------- promises.c

// What the journal says, read apart from the core.
typedef struct ledger {
    uint64_t seq;
    uint64_t token[SIM_SETS_MAX];   // of the last grant
    uint64_t stamped[SIM_SETS_MAX]; // of the last forced transfer
    uint32_t holder[SIM_SETS_MAX];
    bool online[SIM_NODES_MAX];
    // Its lease had lapsed when it was displaced.
    bool lapsed[SIM_SETS_MAX][SIM_NODES_MAX];
    // Why each node was displaced, until it is granted again.
    fleet_evidence_t displaced[SIM_SETS_MAX][SIM_NODES_MAX];
} ledger_t;

typedef struct promises {
    ledger_t ledger;
    ledger_t durable; // as of the last round that was
    sim_disk_t disk[SIM_SETS_MAX];
    sim_record_t record[SIM_NODES_MAX][SIM_SETS_MAX];
    uint64_t double_since[SIM_SETS_MAX];
    bool broken;
    char text[512];
} promises_t;

void promises_begin(world_t *world);
void promises_look(world_t *world);
void promises_event(world_t *world, const fleet_message_t *event);
void promises_durable(world_t *world);
void promises_rollback(world_t *world); // the broker forgot what it had decided
void promises_closed(world_t *world, uint32_t host,
                     const fleet_closed_t *closed);
void promises_wrote(world_t *world, uint32_t host, uint32_t set);
void promises_act(world_t *world, uint32_t host, const node_effect_t *effect,
                  node_input_kind_t input, fleet_phase_t phase_before);
void promises_break(world_t *world, const char *promise, const char *format,
                    ...) __attribute__((format(printf, 3, 4)));

// ------------------------------------------------------------------ history.c

typedef struct sim_counts {
    uint64_t histories;
    uint64_t simulated_us;
    uint64_t happened;
    uint64_t events;
    uint64_t messages;
    uint64_t requests;
    uint64_t grants;
    uint64_t outcomes[8];
    uint64_t evidence[8];
    uint64_t faults[SIM_FAULTS];
    uint64_t double_us_max; // longest double address
} sim_counts_t;

struct world {
    uint64_t seed;
    uint64_t now;
    bool trace;
    bool healed;
    dice_t dice;
    agenda_t agenda;
    uint32_t nodes_n;
    uint32_t sets_n;
    bool has_disk[SIM_SETS_MAX];
    bool has_address[SIM_SETS_MAX];
    bool evicts; // the driver blocks a victim's writes
    bool fenceable;
    uint64_t slots;
    uint64_t lease_ms, margin_ms;
    fleet_setdef_t setdefs[SIM_SETS_MAX][SIM_VARIANTS];
    sim_rates_t rates;
    broker_host_t broker;
    node_host_t nodes[SIM_NODES_MAX];
    sim_disk_t disks[SIM_SETS_MAX];
    promises_t promises;
    fleet_request_t asked[8]; // the last requests, for repetition
    uint32_t asked_attests[8];
    uint32_t asked_n;
    uint64_t asks;
    uint64_t acts;
    sim_counts_t *counts;
};

// Runs the history of a seed; false, and why in ret_text, if a promise is
// broken.  Counts are added to.
bool history_run(uint64_t seed, bool trace, sim_counts_t *counts,
                 char *ret_text, size_t size);
void world_say(const world_t *world, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
uint32_t world_set(const world_t *world, const char *name); // or SIM_NOBODY
uint32_t world_node(const world_t *world, const char *name);
int world_part(const world_t *world, uint32_t set, uint32_t resource);
// How long so many milliseconds of a clock that drifts take, and a little more.
uint64_t world_real_us(uint64_t ms, int64_t drift_ppm);

#define SIM_DISK 0
#define SIM_ADDRESS 1
#define SIM_SERVICE 2

#endif
