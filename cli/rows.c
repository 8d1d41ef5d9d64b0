// SPDX-License-Identifier: MIT

#include "cli/rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

rows_t *rows_new(void) {
    rows_t *rows = calloc(1, sizeof(*rows));

    assert(rows != NULL);
    return rows;
}

void rows_list_clear(row_list_t *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i]);
    }
    free(list->items);
    memset(list, 0, sizeof(*list));
}

static void rows_clear(rows_t *rows) {
    rows_list_clear(&rows->nodes);
    rows_list_clear(&rows->sets);
    rows_list_clear(&rows->transfers);
    rows_list_clear(&rows->problems);
    rows_list_clear(&rows->checks);
    memset(&rows->head, 0, sizeof(rows->head));
}

void rows_destroy(rows_t **rows_p) {
    if (*rows_p != NULL) {
        rows_clear(*rows_p);
        free(*rows_p);
        *rows_p = NULL;
    }
}

// Keeps only what the type has: a union of all is many times larger.
void rows_keep(row_list_t *list, const fleet_message_t *message) {
    size_t size = offsetof(fleet_message_t, event) +
                  fleet_message_spec(message->type)->size;
    fleet_message_t *copy = malloc(size);

    if (list->n == list->max) {
        list->max = list->max * 2 + 16;
        list->items =
            realloc(list->items, list->max * sizeof(fleet_message_t *));
        assert(list->items != NULL);
    }
    assert(copy != NULL);
    memcpy(copy, message, size);
    list->items[list->n++] = copy;
}

void rows_take(void *context, const fleet_parcel_t *row) {
    rows_t *rows = context;

    if (row == NULL) {
        rows_clear(rows);
        return;
    }
    switch ((int)row->message.type) {
    case FLEET_MESSAGE_status_head:
        rows->head = row->message.status_head;
        break;
    case FLEET_MESSAGE_node_row:
        rows_keep(&rows->nodes, &row->message);
        break;
    case FLEET_MESSAGE_set_row:
        rows_keep(&rows->sets, &row->message);
        break;
    case FLEET_MESSAGE_transfer:
        rows_keep(&rows->transfers, &row->message);
        break;
    case FLEET_MESSAGE_problem:
        rows_keep(&rows->problems, &row->message);
        break;
    case FLEET_MESSAGE_check_row:
        rows_keep(&rows->checks, &row->message);
        break;
    default:
        break;
    }
}

static int by_node(const void *a, const void *b) {
    const fleet_message_t *const *one = a;
    const fleet_message_t *const *two = b;

    return strcmp((*one)->node_row.name, (*two)->node_row.name);
}

static int by_set(const void *a, const void *b) {
    const fleet_message_t *const *one = a;
    const fleet_message_t *const *two = b;

    return strcmp((*one)->set_row.name, (*two)->set_row.name);
}

static int by_transfer(const void *a, const void *b) {
    const fleet_message_t *const *one = a;
    const fleet_message_t *const *two = b;
    uint64_t first = (*one)->transfer.transfer;
    uint64_t second = (*two)->transfer.transfer;

    return first < second ? -1 : first > second;
}

static int by_check(const void *a, const void *b) {
    const fleet_message_t *const *one = a;
    const fleet_message_t *const *two = b;
    int order = strcmp((*one)->check_row.set, (*two)->check_row.set);

    return order != 0 ? order
                      : strcmp((*one)->check_row.node, (*two)->check_row.node);
}

static int by_gravity(const void *a, const void *b) {
    const fleet_message_t *const *one = a;
    const fleet_message_t *const *two = b;
    const fleet_reason_t *first = &(*one)->problem.reason;
    const fleet_reason_t *second = &(*two)->problem.reason;
    int order = (int)second->severity - (int)first->severity;

    if (order == 0) {
        order = strcmp(first->set, second->set);
    }
    return order != 0 ? order : strcmp(first->node, second->node);
}

static void list_sort(row_list_t *list,
                      int (*order)(const void *, const void *)) {
    if (list->n > 1) {
        qsort(list->items, list->n, sizeof(fleet_message_t *), order);
    }
}

void rows_sort(rows_t *rows) {
    list_sort(&rows->nodes, by_node);
    list_sort(&rows->sets, by_set);
    list_sort(&rows->transfers, by_transfer);
    list_sort(&rows->problems, by_gravity);
    list_sort(&rows->checks, by_check);
}

json_t *rows_status_json(const cli_t *cli, const rows_t *rows) {
    json_t *document = cli_document_new(cli);
    json_t *nodes = json_array();
    json_t *sets = json_array();
    json_t *transfers = json_array();
    json_t *problems = json_array();

    for (size_t i = 0; i < rows->nodes.n; i++) {
        json_array_append_new(nodes,
                              fleet_node_json(&rows->nodes.items[i]->node_row));
    }
    for (size_t i = 0; i < rows->sets.n; i++) {
        json_array_append_new(sets,
                              fleet_set_json(&rows->sets.items[i]->set_row));
    }
    for (size_t i = 0; i < rows->transfers.n; i++) {
        json_array_append_new(
            transfers,
            fleet_transfer_json(&rows->transfers.items[i]->transfer));
    }
    for (size_t i = 0; i < rows->problems.n; i++) {
        json_array_append_new(
            problems,
            fleet_reason_json(&rows->problems.items[i]->problem.reason));
    }
    json_object_set_new(document, "time", fleet_time_json(rows->head.time_us));
    json_object_set_new(document, "broker", fleet_broker_json(&rows->head));
    json_object_set_new(document, "nodes", nodes);
    json_object_set_new(document, "sets", sets);
    json_object_set_new(document, "transfers", transfers);
    json_object_set_new(document, "problems", problems);
    return document;
}

int rows_ask_status(cli_t *cli, const char *name, rows_t **ret_rows) {
    fleet_message_t question = {.type = FLEET_MESSAGE_status_ask};
    rows_t *rows = rows_new();
    fleet_end_t end;
    int status;

    FLEET_COPY(question.status_ask.name, name);
    status = cli_ask(cli, &question, rows_take, rows, &end);
    if (status != EXIT_OK) {
        rows_destroy(&rows);
        return status;
    }
    rows_sort(rows);
    *ret_rows = rows;
    return EXIT_OK;
}
