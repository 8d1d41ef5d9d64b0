// SPDX-License-Identifier: MIT
//
// The book of running transfers: what becomes of each, from the events of the
// journal, and its steps, from the nodes that take them.  It makes the message
// `transfer`, which stands beside transfer.ended and is what people read.
// Nothing is decided by it; steps do not survive a restart of the broker.
//
// Times of steps are microseconds after the request by the broker's clock: when
// the node's message came, less how long the step had taken.  So no two clocks
// are ever compared.

#ifndef FLEET_BROKER_BOOK_H
#define FLEET_BROKER_BOOK_H

#include "proto/messages.h"

typedef struct book book_t;

book_t *book_new(void);
void book_destroy(book_t **book_p);

// Folds an event.  now_us is the boot-time clock, in microseconds; for an event
// of an earlier run it is what that clock would have said then, as far as the
// wall clock can tell.  A transfer that ends stays until book_settle.
void book_fold(book_t *book, const fleet_message_t *event, int64_t now_us);

// What has ended is in the journal by now: forgets it.
void book_settle(book_t *book);

// All of a transfer, as far as it has come, or ended and not yet settled. False
// if there is none of that number.
bool book_read(const book_t *book, uint64_t transfer, int64_t now_us,
               fleet_transfer_t *ret_transfer);

// The number of the running transfer of a set, or 0.
uint64_t book_of_set(const book_t *book, const char *set);

// A step from node `node`, which came at now_us; fills step->at_us.  False, and
// to be dropped, if the transfer does not run or is not of that set.
bool book_step(book_t *book, const char *node, int64_t now_us,
               fleet_step_t *step);

#endif
