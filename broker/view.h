// SPDX-License-Identifier: MIT
//
// What people want to know and the core does not keep, because it decides
// nothing: since when things are as they are.  Folds the same events as the
// core, and is kept in snapshots beside it.

#ifndef FLEET_BROKER_VIEW_H
#define FLEET_BROKER_VIEW_H

#include "proto/messages.h"

typedef struct view view_t;

view_t *view_new(void);
void view_destroy(view_t **view_p);

void view_fold(view_t *view, const fleet_message_t *event);

// A node was heard; not an event.  now_ms by any clock that only grows.
void view_heard(view_t *view, const char *node, uint64_t now_ms);

// Fill in what a row of the core lacks.
void view_node(const view_t *view, uint64_t now_ms, fleet_node_row_t *row);
void view_set(const view_t *view, fleet_set_row_t *row);
void view_key(const view_t *view, fleet_key_row_t *row);
void view_problem(const view_t *view, fleet_reason_t *reason);

// When this reign began, microseconds since 1970.
uint64_t view_started_us(const view_t *view);

// Everything of it that comes from events, as bytes of this program on this
// machine; for snapshots.  The caller frees.
void view_save(const view_t *view, uint8_t **ret_data, size_t *ret_size);
// False, and the view untouched, if they are not such bytes.
bool view_load(view_t *view, const uint8_t *data, size_t size);

#endif
