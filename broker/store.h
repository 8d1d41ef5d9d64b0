// SPDX-License-Identifier: MIT
//
// Where the journal lives: what the loop needs of a store, and nothing else.  A
// store keeps entries in the order of their seq, makes a batch durable as one,
// finds them again, and keeps the newest snapshot.  It does not look into what
// it keeps: encoding and the hash chain are entry.c's, replay is journal.c's.
//
// One store is open in one process at a time.  Every call may block for as long
// as its disk does.  Whatever fails says why in a sentence that names the
// place.

#ifndef FLEET_BROKER_STORE_H
#define FLEET_BROKER_STORE_H

#include "proto/keys.h"

// An entry as a store keeps it.  type, set, transfer and rev are what it is
// found by; they repeat what the event says (entry_open checks that they
// agree).
typedef struct store_entry {
    uint64_t seq;
    uint64_t type; // fleet_message_type_t of the event
    fleet_name_t set;
    uint64_t transfer;
    uint64_t rev; // of the definition beside it; 0: there is none
    fleet_key_t previous;
    fleet_key_t hash;
    bool is_signed;
    fleet_signature_t signature;
    fleet_bytes_t event;  // loans, see below
    fleet_bytes_t beside; // size 0: nothing is beside it
} store_entry_t;

// Called for each entry found; the entry and its bytes are valid during the
// call only.  Returns false to stop.
typedef bool store_on_entry_t(void *context, const store_entry_t *entry);

typedef struct store_head {
    uint64_t seq; // 0: the journal is empty
    fleet_key_t hash;
    uint64_t first; // the oldest entry there is; 0: the journal is empty
} store_head_t;

typedef struct store_snapshot {
    uint64_t seq; // the last entry that is in it
    fleet_key_t hash;
    fleet_id_t version; // of the program that wrote it: its layout
    uint8_t *data;
    size_t size;
} store_snapshot_t;

typedef struct store store_t;

typedef struct store_ops {
    fleet_err_t (*append)(store_t *store, const store_entry_t *entries,
                          size_t entries_n, fleet_text_t ret_why);
    fleet_err_t (*head)(store_t *store, store_head_t *ret_head,
                        fleet_text_t ret_why);
    fleet_err_t (*read)(store_t *store, uint64_t seq, uint64_t limit,
                        store_on_entry_t *on_entry, void *context,
                        fleet_text_t ret_why);
    fleet_err_t (*ended)(store_t *store, const char *set, uint64_t limit,
                         store_on_entry_t *on_entry, void *context,
                         fleet_text_t ret_why);
    fleet_err_t (*transfer)(store_t *store, uint64_t transfer,
                            store_on_entry_t *on_entry, void *context,
                            fleet_text_t ret_why);
    fleet_err_t (*definition)(store_t *store, const char *set, uint64_t rev,
                              store_on_entry_t *on_entry, void *context,
                              fleet_text_t ret_why);
    fleet_err_t (*snapshot_write)(store_t *store,
                                  const store_snapshot_t *snapshot,
                                  fleet_text_t ret_why);
    fleet_err_t (*snapshot_read)(store_t *store, store_snapshot_t *ret_snapshot,
                                 fleet_text_t ret_why);
    fleet_err_t (*close)(store_t *store, bool clean, fleet_text_t ret_why);
} store_ops_t;

struct store {
    const store_ops_t *ops;
};

// Opens, and makes if it is not there, a journal in an SQLite file.  Refuses
// one that another process has open, one of another format, and, after a stop
// that was not clean, one that SQLite finds damaged.  FLEET_STORE_FAILED with
// why.
fleet_err_t store_sqlite_open(const char *path, store_t **ret_store,
                              fleet_text_t ret_why);

// Appends entries that follow the head, all or none, and returns when they are
// durable.  After FLEET_STORE_FAILED it is not known whether they are: the
// process has to end and find out by its next replay.
fleet_err_t store_append(store_t *store, const store_entry_t *entries,
                         size_t entries_n, fleet_text_t ret_why);

fleet_err_t store_head(store_t *store, store_head_t *ret_head,
                       fleet_text_t ret_why);

// At most `limit` entries from seq on, in order.
fleet_err_t store_read(store_t *store, uint64_t seq, uint64_t limit,
                       store_on_entry_t *on_entry, void *context,
                       fleet_text_t ret_why);

// The newest `limit` entries transfer.ended of a set (empty: of all), the
// oldest of them first.
fleet_err_t store_ended(store_t *store, const char *set, uint64_t limit,
                        store_on_entry_t *on_entry, void *context,
                        fleet_text_t ret_why);

// Every entry whose event names this transfer, and the one that requested it.
fleet_err_t store_transfer(store_t *store, uint64_t transfer,
                           store_on_entry_t *on_entry, void *context,
                           fleet_text_t ret_why);

// The entry that has this revision of a set's definition beside it, 0: the
// newest. on_entry is not called if there is none.
fleet_err_t store_definition(store_t *store, const char *set, uint64_t rev,
                             store_on_entry_t *on_entry, void *context,
                             fleet_text_t ret_why);

// Keeps the snapshot in place of the one before.
fleet_err_t store_snapshot_write(store_t *store,
                                 const store_snapshot_t *snapshot,
                                 fleet_text_t ret_why);

// The snapshot, or one with seq 0 and no data.  The caller frees data.
fleet_err_t store_snapshot_read(store_t *store, store_snapshot_t *ret_snapshot,
                                fleet_text_t ret_why);

// Closes and nulls.  `clean`: everything that was appended is known to be good,
// the next start need not check the file.
fleet_err_t store_close(store_t **store_p, bool clean, fleet_text_t ret_why);

#endif
