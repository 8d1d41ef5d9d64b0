// SPDX-License-Identifier: MIT
//
// The rows of a status, kept and sorted by name, and their JSON.

#ifndef FLEET_CLI_ROWS_H
#define FLEET_CLI_ROWS_H

#include "cli/cli.h"

// Messages of one type, each in a block of its own.
typedef struct row_list {
    size_t n;
    size_t max;
    fleet_message_t **items;
} row_list_t;

typedef struct rows {
    fleet_status_head_t head;
    row_list_t nodes;
    row_list_t sets;
    row_list_t transfers;
    row_list_t problems;
    row_list_t checks;
} rows_t;

// Copies a message into a list; only as much of it as its type has.
void rows_keep(row_list_t *list, const fleet_message_t *message);
void rows_list_clear(row_list_t *list);

rows_t *rows_new(void);
void rows_destroy(rows_t **rows_p);

// A fleet_on_row_t; context is a rows_t.
void rows_take(void *context, const fleet_parcel_t *row);

// To be called when all have come: by name, the worst problem first.
void rows_sort(rows_t *rows);

// The status document.
json_t *rows_status_json(const cli_t *cli, const rows_t *rows);

// Asks for a status (of one name, or all) into new rows; 0, or the exit status
// after saying why not.
int rows_ask_status(cli_t *cli, const char *name, rows_t **ret_rows);

#endif
