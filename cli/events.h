// SPDX-License-Identifier: MIT
//
// Events of the journal, for people: one line each, what happened in words.

#ifndef FLEET_CLI_EVENTS_H
#define FLEET_CLI_EVENTS_H

#include <stdio.h>

#include "proto/client.h"

// Decodes the two frames of an entry.  ret_beside->type is none if there is
// nothing beside the event.  False if it is no event.
bool events_decode(const fleet_parcel_t *row, fleet_message_t *ret_event,
                   fleet_message_t *ret_beside);

// "4184 03:12:41.327 www    set.released        node1 token 57, released"
void events_print(FILE *out, const fleet_message_t *event,
                  const fleet_message_t *beside);

void events_print_step(FILE *out, const fleet_step_t *step);

// A past transfer: what was moved where, how it ended, what it cost, why.
void events_print_transfer(FILE *out, const fleet_transfer_t *transfer);

#endif
