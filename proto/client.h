// SPDX-License-Identifier: MIT
//
// The client of a broker: what the command line uses and what a monitoring tool
// links.  One connection to `control`, and one to `events` once something is
// watched.  Blocking calls with a deadline; one thread; every call may be given
// an `interrupted` flag that a signal handler sets.

#ifndef FLEET_CLIENT_H
#define FLEET_CLIENT_H

#include "proto/bus.h"

typedef struct fleet_client fleet_client_t;

typedef struct fleet_broker_address {
    fleet_text_t control; // tcp://host:port
    fleet_text_t events;  // may be empty: the broker says it
    fleet_key_t key;      // the broker's public key
} fleet_broker_address_t;

#define FLEET_BROKERS_MAX 8

typedef struct fleet_client_config {
    fleet_name_t site; // refuses another; empty: any
    uint32_t brokers_n;
    fleet_broker_address_t brokers[FLEET_BROKERS_MAX];
    fleet_key_pair_t pair;
    uint64_t timeout_ms; // how long to look for a broker
    uint64_t repeat_ms;  // a silence after which it asks again; 0: 1 s
    const volatile int *interrupted; // may be NULL
} fleet_client_config_t;

// Connects and opens.  FLEET_NO_BROKER after timeout_ms, FLEET_WRONG_SITE,
// FLEET_BAD_VERSION, FLEET_BAD_KEY; ret_reason then says which endpoint did
// what. The caller owns the client and destroys it.
fleet_err_t fleet_client_new(const fleet_client_config_t *config,
                             fleet_client_t **ret_client,
                             fleet_reason_t *ret_reason);
void fleet_client_destroy(fleet_client_t **client_p);

// A random id for a request: 16 hex digits.
void fleet_client_id(fleet_id_t ret_id);

// What the broker said of itself and of this key; a loan.
const fleet_welcome_t *fleet_client_welcome(const fleet_client_t *client);

// Sends a message that carries an id (request, apply, key_change) and waits for
// its first answer: accepted refused done applied transfer turned_away.  Sends
// it again whenever the broker may have lost it: the id makes that safe.
// FLEET_UNFINISHED if it was sent and no answer came within wait_ms (0: for
// ever) or interrupted; FLEET_NO_BROKER if it never left.
fleet_err_t fleet_client_request(fleet_client_t *client,
                                 const fleet_message_t *request,
                                 uint64_t wait_ms, fleet_message_t *ret_answer);

// Called with each step; with NULL when the transfer's state was read (it is in
// ret_transfer then) and about four times a second.  Returns false to stop.
typedef bool fleet_on_step_t(void *context, const fleet_step_t *step);

// Follows a transfer (0: the set's running or latest one) to its end, across a
// broker's restart.  Each step's end is told once.  FLEET_UNFINISHED with the
// state so far if wait_ms (0: for ever) ran out, it was interrupted, on_step
// said so, or no broker was heard for the client's timeout;
// FLEET_TRANSFER_UNKNOWN, FLEET_SET_UNKNOWN and other refusals with the reason
// in ret_transfer->reasons[0].
fleet_err_t fleet_client_follow(fleet_client_t *client, uint64_t transfer,
                                const char *set, uint64_t wait_ms,
                                fleet_on_step_t *on_step, void *context,
                                fleet_transfer_t *ret_transfer);

// Asks a question that is answered by rows (status_ask history_ask check_ask
// keys_ask entries_ask show_ask): on_row gets each parcel of the answer, in
// order, without the `end`, which ret_end receives.  A question is repeated
// from its start if the broker went away in the middle; on_row then gets NULL
// first: forget the rows so far.  FLEET_NO_BROKER after the client's timeout.
typedef void fleet_on_row_t(void *context, const fleet_parcel_t *row);
fleet_err_t fleet_client_ask(fleet_client_t *client,
                             const fleet_message_t *question,
                             fleet_on_row_t *on_row, void *context,
                             fleet_end_t *ret_end, fleet_reason_t *ret_reason);

// What a watcher is told, in order.
typedef enum fleet_watch_kind {
    FLEET_WATCH_EVENT, // event and beside are valid; seq grows by one each time
    FLEET_WATCH_TRUNCATED, // entries below `seq` are gone; take a status, go on
    FLEET_WATCH_LIVE,      // everything up to `seq` has been told
    FLEET_WATCH_STEP,      // `beside` is a step; progress, no seq
    FLEET_WATCH_LOST,      // the broker does not answer; goes on trying
    FLEET_WATCH_BACK       // it answers again; nothing was missed
} fleet_watch_kind_t;

typedef struct fleet_watch_item {
    fleet_watch_kind_t kind;
    uint64_t seq;
    fleet_entry_t entry;          // EVENT: hash and signature, for a verifier
    const fleet_message_t *event; // EVENT
    const fleet_message_t
        *beside; // EVENT: definition or transfer or NULL; STEP
} fleet_watch_item_t;

// Returns false to stop.  May call fleet_client_ask, but only when it is told
// FLEET_WATCH_TRUNCATED.
typedef bool fleet_on_watch_t(void *context, const fleet_watch_item_t *item);

// Every event from seq `since` + 1 on, once and in order, then live ones, for
// ever: subscribes first, reads the journal up to its head, then applies live
// entries with the next number and reads again where there is a gap.  Survives
// restarts of the broker.  Returns FLEET_OK when on_watch returns false or it
// is interrupted, FLEET_BAD_KEY once the key is revoked, FLEET_JOURNAL_BEHIND
// if the journal ends before what was told already.
fleet_err_t fleet_client_watch(fleet_client_t *client, uint64_t since,
                               bool with_steps, fleet_on_watch_t *on_watch,
                               void *context, fleet_reason_t *ret_reason);

#endif
