// SPDX-License-Identifier: MIT
//
// The definitions of sets that this node was given, by revision, so that it
// knows after a restart what runs here and how to stop it.  A set may run by an
// older definition than the newest: kept are the last two, and the one that is
// pinned.
//
//   <state>/sets/SET.REV.yaml   as its author wrote it

#ifndef FLEET_NODE_DEFS_H
#define FLEET_NODE_DEFS_H

#include "proto/setdef.h"

typedef struct defs defs_t;

// Reads all of them.  FLEET_BAD_FILE for the first that cannot be read, with
// its path and what to do; FLEET_STORE_FAILED.  The caller destroys it.
fleet_err_t defs_new(const char *state, defs_t **ret_defs,
                     fleet_text_t ret_why);
void defs_destroy(defs_t **defs_p);

// That revision, or with rev 0 the newest; NULL if there is none.  A loan until
// the next defs_keep or defs_forget of this set.
const fleet_setdef_t *defs_find(const defs_t *defs, const char *set,
                                uint64_t rev);

// Durable when it returns; at once if it is there already.
fleet_err_t defs_keep(defs_t *defs, const char *set, uint64_t rev,
                      const char *yaml, size_t size,
                      const fleet_setdef_t *setdef, fleet_text_t ret_why);

// The revision that the set's record names; 0: none any more.
void defs_pin(defs_t *defs, const char *set, uint64_t rev);

void defs_forget(defs_t *defs, const char *set);

#endif
