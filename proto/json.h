// SPDX-License-Identifier: MIT
//
// Messages as the JSON that is contract: one shape for a reason, for a
// transfer, for an event, for the rows of a status.  What has no value is null
// and there; times are RFC 3339 in UTC; durations end in _ms and may have
// fractions.  All functions return a new reference, which the caller decrefs,
// and end the process when memory is short.

#ifndef FLEET_JSON_H
#define FLEET_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "proto/messages.h"

// {"v":1,"site":SITE}: how each document begins.  An empty site is null.
json_t *fleet_document_json(const char *site);

json_t *fleet_reason_json(const fleet_reason_t *reason);
json_t *fleet_reasons_json(const fleet_reason_t *reasons, uint32_t n);

// TRANSFER, without "v" and "site".
json_t *fleet_transfer_json(const fleet_transfer_t *transfer);

// An event with its own fields, without "v".  beside is what stands beside it
// in the journal, or NULL: all of TRANSFER for transfer.ended, the definition's
// text
// ("yaml") for set.defined and set.changed.
json_t *fleet_event_json(const char *site, const fleet_message_t *event,
                         const fleet_message_t *beside);

// A mark of a stream, which is no event: "stream.live", its seq is null.
json_t *fleet_mark_json(const char *site, const char *mark);

// Parts of a status.
json_t *fleet_broker_json(const fleet_status_head_t *head);
json_t *fleet_node_json(const fleet_node_row_t *node);
json_t *fleet_set_json(const fleet_set_row_t *set);

// A step of a transfer that runs, as `watch --steps` shows it.
json_t *fleet_step_json(const char *site, const fleet_step_t *step);

// Small values, null where they are empty.
json_t *fleet_text_json(const char *text);
json_t *fleet_time_json(uint64_t time_us);
json_t *fleet_ms_json(uint64_t us);
json_t *fleet_transfer_id_json(uint64_t transfer); // "t4183"

// One document and a newline; flushes.  False if it could not be written.
bool fleet_json_write(FILE *stream, const json_t *document, bool indent);

#endif
