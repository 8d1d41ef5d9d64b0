// SPDX-License-Identifier: MIT
//
// The way from a store's interface to the one that is behind it.  What a store
// promises to everybody, whoever it is, is asserted here.

#include "broker/store.h"

#include <assert.h>

fleet_err_t store_append(store_t *store, const store_entry_t *entries,
                         size_t entries_n, fleet_text_t ret_why) {
    assert(entries_n > 0);
    // The one that ends a batch carries its signature.
    assert(entries[entries_n - 1].is_signed);
    for (size_t i = 1; i < entries_n; i++) {
        assert(entries[i].seq == entries[i - 1].seq + 1);
    }
    return store->ops->append(store, entries, entries_n, ret_why);
}

fleet_err_t store_head(store_t *store, store_head_t *ret_head,
                       fleet_text_t ret_why) {
    return store->ops->head(store, ret_head, ret_why);
}

fleet_err_t store_read(store_t *store, uint64_t seq, uint64_t limit,
                       store_on_entry_t *on_entry, void *context,
                       fleet_text_t ret_why) {
    return store->ops->read(store, seq, limit, on_entry, context, ret_why);
}

fleet_err_t store_ended(store_t *store, const char *set, uint64_t limit,
                        store_on_entry_t *on_entry, void *context,
                        fleet_text_t ret_why) {
    return store->ops->ended(store, set, limit, on_entry, context, ret_why);
}

fleet_err_t store_transfer(store_t *store, uint64_t transfer,
                           store_on_entry_t *on_entry, void *context,
                           fleet_text_t ret_why) {
    assert(transfer > 0);
    return store->ops->transfer(store, transfer, on_entry, context, ret_why);
}

fleet_err_t store_definition(store_t *store, const char *set, uint64_t rev,
                             store_on_entry_t *on_entry, void *context,
                             fleet_text_t ret_why) {
    return store->ops->definition(store, set, rev, on_entry, context, ret_why);
}

fleet_err_t store_snapshot_write(store_t *store,
                                 const store_snapshot_t *snapshot,
                                 fleet_text_t ret_why) {
    assert(snapshot->seq > 0);
    return store->ops->snapshot_write(store, snapshot, ret_why);
}

fleet_err_t store_snapshot_read(store_t *store, store_snapshot_t *ret_snapshot,
                                fleet_text_t ret_why) {
    return store->ops->snapshot_read(store, ret_snapshot, ret_why);
}

fleet_err_t store_close(store_t **store_p, bool clean, fleet_text_t ret_why) {
    if (*store_p == NULL) {
        return FLEET_OK;
    }
    store_t *store = *store_p;
    *store_p = NULL;
    return store->ops->close(store, clean, ret_why);
}
