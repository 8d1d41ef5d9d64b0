// SPDX-License-Identifier: MIT
//
// Would each set start on each node, and if not, why; and what is about nodes:
// the fence.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/rows.h"
#include "proto/text.h"

static const char *verdict(fleet_ready_t ready) {
    switch (ready) {
    case fleet_ready_YES:
        return "yes";
    case fleet_ready_NO:
        return "NO";
    case fleet_ready_UNKNOWN:
        break;
    }
    return "not known";
}

static json_t *node_json(const fleet_check_row_t *row) {
    json_t *object = json_object();

    json_object_set_new(object, "node", json_string(row->node));
    json_object_set_new(object, "ready",
                        row->ready == fleet_ready_UNKNOWN
                            ? json_null()
                            : json_boolean(row->ready == fleet_ready_YES));
    json_object_set_new(object, "checked", fleet_time_json(row->checked_us));
    json_object_set_new(object, "problems",
                        fleet_reasons_json(row->problems, row->problems_n));
    return object;
}

static json_t *check_json(const cli_t *cli, const rows_t *rows,
                          uint64_t time_us) {
    json_t *document = cli_document_new(cli);
    json_t *sets = json_array();
    json_t *nodes = NULL;
    const char *last = "";

    for (size_t i = 0; i < rows->checks.n; i++) {
        const fleet_check_row_t *row = &rows->checks.items[i]->check_row;

        if (nodes == NULL || strcmp(last, row->set) != 0) {
            json_t *set = json_object();

            nodes = json_array();
            json_object_set_new(set, "set", json_string(row->set));
            json_object_set_new(set, "nodes", nodes);
            json_array_append_new(sets, set);
            last = row->set;
        }
        json_array_append_new(nodes, node_json(row));
    }
    json_object_set_new(document, "time", fleet_time_json(time_us));
    json_object_set_new(document, "sets", sets);
    return document;
}

static void print_check(const cli_t *cli, const rows_t *rows) {
    const char *last = "";

    for (size_t i = 0; i < rows->checks.n; i++) {
        const fleet_check_row_t *row = &rows->checks.items[i]->check_row;

        if (strcmp(last, row->set) != 0) {
            fprintf(cli->out, "%s%s\n", i > 0 ? "\n" : "", row->set);
            last = row->set;
        }
        fprintf(cli->out, "  %-12s  %s\n", row->node, verdict(row->ready));
        for (uint32_t p = 0; p < row->problems_n; p++) {
            cli_print_reason(cli->out, 6, 0, &row->problems[p]);
            if (row->problems[p].hint[0] != '\0') {
                fputs("      >  ", cli->out);
                cli_print_wrapped(cli->out, 9, 9, row->problems[p].hint);
            }
        }
    }
    if (rows->checks.n == 0) {
        fputs("there are no sets\n", cli->out);
    }
}

int cmd_check(cli_t *cli) {
    fleet_message_t question = {.type = FLEET_MESSAGE_check_ask};
    rows_t *rows = rows_new();
    rows_t *now = NULL;
    fleet_reason_t reason;
    fleet_end_t end;
    fleet_err_t err;
    bool ready = true;
    int status = EXIT_OK;

    if (cli->args.words_n > 0) {
        status = cli_take_name(cli, cli->args.words[0], "set",
                               &question.check_ask.set);
    }
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status == EXIT_OK) {
        err = fleet_client_ask(cli->client, &question, rows_take, rows, &end,
                               &reason);
        if (err != FLEET_OK) {
            status =
                cli_interrupted ? EXIT_INTERRUPTED : cli_fail(cli, &reason);
        }
    }
    // The document's time is the broker's, as everywhere.
    if (status == EXIT_OK) {
        status = rows_ask_status(cli, question.check_ask.set, &now);
    }
    if (status == EXIT_OK) {
        rows_sort(rows);
        for (size_t i = 0; i < rows->checks.n; i++) {
            ready = ready &&
                    rows->checks.items[i]->check_row.ready == fleet_ready_YES;
        }
        if (!cli_have(cli, FLAG_JSON)) {
            print_check(cli, rows);
        }
        status = cli_document(cli, check_json(cli, rows, now->head.time_us),
                              ready ? EXIT_OK : EXIT_NO);
    }
    rows_destroy(&now);
    rows_destroy(&rows);
    return status;
}

// ------------------------------------------------------------------------
// fence

// "Switch node1 off?  www and nfs1 end with it."
static int confirm_fence(cli_t *cli, const char *node) {
    char question[1200];
    size_t used;
    rows_t *rows = NULL;
    const fleet_node_row_t *row;
    int status = rows_ask_status(cli, node, &rows);

    if (status != EXIT_OK) {
        return status;
    }
    if (rows->nodes.n != 1) {
        rows_destroy(&rows);
        return cli_complain(cli, FLEET_BAD_ARGUMENT,
                            "%s is no node; nothing was done", node);
    }
    row = &rows->nodes.items[0]->node_row;
    used = (size_t)snprintf(question, sizeof(question),
                            "Fence %s (%s)?  These sets end with it:", node,
                            fleet_node_state_word(row->state));
    for (uint32_t i = 0; i < row->sets_n && used + 48 < sizeof(question); i++) {
        used += (size_t)snprintf(question + used, sizeof(question) - used,
                                 " %s", row->sets[i].name);
    }
    snprintf(question + used, sizeof(question) - used, "%s.",
             row->sets_n == 0 ? " none" : "");
    if (cli_have(cli, FLAG_YES)) {
        cli_print_wrapped(stderr, 2, 0, question);
    }
    rows_destroy(&rows);
    return cli_confirm(cli, question);
}

int cmd_fence(cli_t *cli) {
    fleet_message_t *message = calloc(2, sizeof(*message));
    fleet_message_t *answer;
    fleet_request_t *request;
    json_t *document;
    char what[64];
    fleet_err_t err;
    int status;

    assert(message != NULL);
    answer = &message[1];
    request = &message->request;
    message->type = FLEET_MESSAGE_request;
    request->verb = fleet_verb_FENCE;
    if (!cli_have(cli, FLAG_REASON)) {
        free(message);
        return cli_complain(cli, FLEET_BAD_ARGUMENT,
                            "a fence is on record: it needs --reason TEXT");
    }
    FLEET_COPY(request->reason, cli->args.reason);
    if (cli->args.request != NULL) {
        FLEET_COPY(request->request, cli->args.request);
    } else {
        fleet_client_id(request->request);
    }
    status = cli_take_name(cli, cli->args.words[0], "node", &request->node);
    status = status == EXIT_OK ? cli_connect(cli) : status;
    status = status == EXIT_OK ? confirm_fence(cli, request->node) : status;
    if (status == EXIT_OK) {
        document = cli_document_new(cli);
        json_object_set_new(document, "node", json_string(request->node));
        err = fleet_client_request(cli->client, message, cli->args.wait_ms,
                                   answer);
        if (err != FLEET_OK) {
            status = cli_lost(cli, err, request->request, document);
        } else if (answer->type == FLEET_MESSAGE_done) {
            cli_print_wrapped(cli->out, 0, 0, answer->done.text);
            json_object_set_new(document, "changed",
                                json_boolean(answer->done.changed));
            json_object_set_new(document, "text",
                                fleet_text_json(answer->done.text));
            status = cli_document(cli, document, EXIT_OK);
        } else {
            snprintf(what, sizeof(what), "fence %s", request->node);
            status = cli_say_refused(cli, what, answer, document);
        }
    }
    free(message);
    return status;
}
