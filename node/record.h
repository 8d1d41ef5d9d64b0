// SPDX-License-Identifier: MIT
//
// What a node must not forget: per set the record (token, phase) of rule P6,
// the highest term, and that it has been admitted (P16); and in /run, gone
// after a boot, the end of each set's lease (P21).
//
//   <state>/records/SET   durable before record_write returns
//   <state>/term
//   <state>/node          made once the broker has answered: the node has a
//   memory <run>/deadline/SET    not durable; the boot id in it says whether it
//   counts

#ifndef FLEET_NODE_RECORD_H
#define FLEET_NODE_RECORD_H

#include "node/core.h"
#include "node/twin.h"

typedef struct record {
    fleet_pair_t pair;
    uint64_t rev; // the definition that it runs by
    fleet_id_t boot_id;
    fleet_id_t agent_id;
} record_t;

typedef struct record_store record_store_t;

// Makes the folders that are missing.  FLEET_STORE_FAILED with the folder and
// why. boot_id and agent_id go into everything that is written.  The caller
// destroys it.
fleet_err_t record_store_new(const char *state, const char *run,
                             const char *boot_id, const char *agent_id,
                             record_store_t **ret_store, fleet_text_t ret_why);
void record_store_destroy(record_store_t **store_p);

// Reads every record.  FLEET_BAD_FILE for the first that is damaged, with its
// path and what to do: the node must not start, because what it has promised is
// not known.  `on_record` may be NULL.
typedef void on_record_t(void *context, const record_t *record);
fleet_err_t record_load(record_store_t *store, on_record_t *on_record,
                        void *context, fleet_text_t ret_why);

// Durable when it returns.  FLEET_STORE_FAILED with why; then nothing that
// rests on the record may be done.
fleet_err_t record_write(record_store_t *store, const fleet_pair_t *pair,
                         uint64_t rev, fleet_text_t ret_why);
fleet_err_t record_forget(record_store_t *store, const char *set,
                          fleet_text_t ret_why);

// 0 if none was ever written.
fleet_err_t record_term_read(record_store_t *store, uint64_t *ret_term,
                             fleet_text_t ret_why);
fleet_err_t record_term_write(record_store_t *store, uint64_t term,
                              fleet_text_t ret_why);

// Has this state directory belonged to this key before?
bool record_remembers(record_store_t *store, const fleet_key_t key);
fleet_err_t record_remember(record_store_t *store, const fleet_key_t key,
                            fleet_text_t ret_why);

// `left_ms` from now_ms on, by the boot-time clock; 0 removes it.  A failure is
// not told: a deadline that is lost has passed, which is the safe side.
void record_deadline_write(record_store_t *store, const char *set,
                           uint64_t now_ms, uint64_t left_ms);
// What is left of it; 0 if there is none, or it is of another boot.
uint64_t record_deadline_left(record_store_t *store, const char *set,
                              uint64_t now_ms);

#endif
