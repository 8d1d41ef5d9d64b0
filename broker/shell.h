// SPDX-License-Identifier: MIT
//
// Everything of a running broker around its core, for the files that carry it:
//
//   replay.c   from the store to a core, and snapshots back
//   round.c    one step of the core, its effects, the commit, what is let out
//   answers.c  questions, which change nothing
//   inputs.c   messages: who may say what, and who answers
//   loop.c     sockets, signals, clocks
//
// Nothing leaves a round before its commit is durable (promise S3): everything
// that is to be let out goes through the outbox.

#ifndef FLEET_BROKER_SHELL_H
#define FLEET_BROKER_SHELL_H

#include "broker/book.h"
#include "broker/config.h"
#include "broker/core.h"
#include "broker/entry.h"
#include "broker/fence.h"
#include "broker/followers.h"
#include "broker/log.h"
#include "broker/outbox.h"
#include "broker/peers.h"
#include "broker/store.h"
#include "broker/strangers.h"
#include "broker/view.h"
#include "broker/zap.h"
#include "proto/setdef.h"

// Names whose rows are different, to be published at the end of a round.
typedef struct changed {
    uint32_t n;
    uint32_t room;
    fleet_name_t *names;
} changed_t;

typedef struct shell {
    const char *config_path;
    broker_settings_t settings;
    fleet_key_pair_t pair;
    fleet_sign_pair_t sign;

    void *memory; // the core's
    broker_core_t *core;
    broker_effects_t *effects;
    store_t *store;
    fleet_key_t head_hash; // of the last durable entry
    uint64_t snapshot_seq;

    view_t *view;
    book_t *book;
    followers_t *followers;
    peers_t *peers;
    fence_t *fence;
    entry_batch_t *batch;
    outbox_t *outbox;
    changed_t changed;

    void *context;
    void *control; // NULL while nobody can connect yet
    void *events;
    zap_t *zap;
    strangers_t *at_control; // who fails before there is a key
    strangers_t *at_events;

    int64_t now_us;     // boot-time clock, read once a round
    uint64_t now_ms;    // the same
    int64_t stepped_us; // what the core has been told of it

    fleet_parcel_t in;             // the message that is being taken
    fleet_parcel_t out;            // the message that is being sent
    fleet_message_t scratch;       // an answer in the making
    fleet_message_t beside;        // what will stand beside an event
    const fleet_apply_t *applying; // during the step of an apply
    fleet_words_t diff;            // of that apply
    log_limits_t limits;
    const char
        *stepping;      // whom a step is for who may change nothing, else NULL
    uint64_t dropped;   // messages that could not be sent
    bool fences_untold; // a node is new: the core may not know of its fence
} shell_t;

// -------------------------------------------------------------------- shell.c

// An empty one; settings, pair and sign are the caller's to fill in before it
// runs.  config_path is a loan.
shell_t *shell_new(const char *config_path);
void shell_destroy(shell_t **shell_p);

// Begins a new site in an empty store, with its first admin's key, and closes
// it.
fleet_err_t shell_found_site(shell_t *shell, const char *admin,
                             const fleet_key_t key, fleet_text_t ret_why);

// ------------------------------------------------------------------- replay.c

// Opens the store, verifies the whole chain, folds it.  FLEET_STORE_FAILED with
// why: a broken chain is refused with the number of the entry.
fleet_err_t shell_replay(shell_t *shell, fleet_text_t ret_why);

// Keeps a snapshot of what the journal says up to its head.
fleet_err_t shell_snapshot(shell_t *shell, fleet_text_t ret_why);

// -------------------------------------------------------------------- round.c

// Reads the clock.
void shell_clock(shell_t *shell);

// One step of the core; its effects are gathered.
void shell_step(shell_t *shell, broker_input_t *input);

// Tells the core which of its nodes have a fence command.
void shell_tell_fences(shell_t *shell);

// Commits what was gathered, then lets it out.  FLEET_STORE_FAILED: nothing
// was, and nothing may be any more.
fleet_err_t shell_commit(shell_t *shell, fleet_text_t ret_why);

// The definition of a set as bytes, of a revision (0: the newest); false if
// there is none.  The caller frees.
bool shell_definition(shell_t *shell, const char *set, uint64_t rev,
                      uint8_t **ret_data, size_t *ret_size);

// All of a transfer: a running one from the book, an ended one from the
// journal.
bool shell_transfer(shell_t *shell, uint64_t transfer,
                    fleet_transfer_t *ret_transfer);

// ------------------------------------------------------------------ answers.c

// Answers a question, or turns it away.  False if the message is no question.
bool shell_answer(shell_t *shell, const peer_t *peer, fleet_role_t role,
                  const char *name, const fleet_message_t *message);

void shell_turn_away(shell_t *shell, uint64_t peer, const char *ask,
                     const fleet_reason_t *reason);

// The place of a name among the core's rows of nodes or sets; false if it has
// none.
bool shell_find_node(shell_t *shell, const char *name,
                     fleet_node_row_t *ret_row);
bool shell_find_set(shell_t *shell, const char *name, fleet_set_row_t *ret_row);

// ------------------------------------------------------------------- inputs.c

// Takes one message from `control`; false if none waits.
bool shell_take(shell_t *shell);

// Takes one subscription from `events`; false if none waits.
bool shell_take_subscriber(shell_t *shell);

// ---------------------------------------------------------------------- diff.c

// What of the lines of one text is not in the other: "-old" and "+new", in
// order, cut at FLEET_WORDS_MAX.
void shell_diff(const char *before, const char *after, fleet_words_t ret_diff);

// ---------------------------------------------------------------------- loop.c

// Runs until a signal ends it.  The exit status.
int broker_loop_run(shell_t *shell);

#endif
