// SPDX-License-Identifier: MIT
//
// Events as they come, and transfers that were: watch and history.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/events.h"
#include "cli/rows.h"
#include "proto/text.h"

// ------------------------------------------------------------------------
// watch

typedef struct watch {
    cli_t *cli;
    uint64_t since;
    bool failed; // stdout cannot be written any more
} watch_t;

static bool write_line(watch_t *watch, json_t *line) {
    watch->failed = watch->failed || !fleet_json_write(stdout, line, false);
    json_decref(line);
    return !watch->failed;
}

static bool wanted(const watch_t *watch, const char *set) {
    return watch->cli->args.set == NULL ||
           strcmp(set, watch->cli->args.set) == 0;
}

// {"event":"stream.live",...}; the number up to which it holds beside it.
static json_t *mark(const watch_t *watch, const char *word, const char *key,
                    uint64_t seq) {
    json_t *line = fleet_mark_json(watch->cli->site, word);

    json_object_set_new(line, key, json_integer((json_int_t)seq));
    return line;
}

static bool truncated(watch_t *watch, uint64_t before) {
    cli_t *cli = watch->cli;
    rows_t *rows = NULL;
    json_t *line;
    bool ok;

    if (!cli_have(cli, FLAG_JSON)) {
        printf("  -- entries below %" PRIu64 " are gone; see fleet status --\n",
               before);
        return fflush(stdout) == 0;
    }
    ok = write_line(watch, mark(watch, "stream.truncated", "before", before));
    if (!ok || rows_ask_status(cli, "", &rows) != EXIT_OK) {
        return false;
    }
    line = mark(watch, "stream.snapshot", "at", rows->head.seq);
    json_object_set_new(line, "status", rows_status_json(cli, rows));
    rows_destroy(&rows);
    return write_line(watch, line);
}

static bool said(watch_t *watch, const fleet_watch_item_t *item) {
    const char *what = "";

    switch (item->kind) {
    case FLEET_WATCH_LIVE:
        printf("%s, live from %" PRIu64 "\n", watch->cli->site, item->seq);
        return fflush(stdout) == 0;
    case FLEET_WATCH_LOST:
        what = "the broker does not answer; trying on";
        break;
    case FLEET_WATCH_BACK:
        what = "the broker answers again, nothing missed";
        break;
    case FLEET_WATCH_EVENT:
    case FLEET_WATCH_TRUNCATED:
    case FLEET_WATCH_STEP:
        break;
    }
    fprintf(watch->cli->out, "  -- %s --\n", what);
    return fflush(watch->cli->out) == 0;
}

static bool on_mark(watch_t *watch, const fleet_watch_item_t *item) {
    bool json = cli_have(watch->cli, FLAG_JSON);

    if (item->kind == FLEET_WATCH_TRUNCATED) {
        return truncated(watch, item->seq);
    }
    if (json && item->kind == FLEET_WATCH_LIVE) {
        return write_line(watch, mark(watch, "stream.live", "at", item->seq));
    }
    // Whether the broker is there is no part of the stream.
    return said(watch, item);
}

static bool on_watch(void *context, const fleet_watch_item_t *item) {
    watch_t *watch = context;
    bool json = cli_have(watch->cli, FLAG_JSON);
    const char *site = watch->cli->site;

    if (item->kind == FLEET_WATCH_EVENT) {
        if (!wanted(watch, item->event->event.head.set)) {
            return true;
        }
        if (json) {
            return write_line(
                watch, fleet_event_json(site, item->event, item->beside));
        }
        events_print(stdout, item->event, item->beside);
        return fflush(stdout) == 0;
    }
    if (item->kind != FLEET_WATCH_STEP) {
        return on_mark(watch, item);
    }
    if (!wanted(watch, item->beside->step.set)) {
        return true;
    }
    if (json) {
        return write_line(watch, fleet_step_json(site, &item->beside->step));
    }
    events_print_step(stdout, &item->beside->step);
    return fflush(stdout) == 0;
}

int cmd_watch(cli_t *cli) {
    watch_t watch = {.cli = cli};
    fleet_reason_t reason;
    fleet_name_t set;
    fleet_err_t err;
    int status = EXIT_OK;

    if (cli->args.set != NULL) {
        status = cli_take_name(cli, cli->args.set, "set", &set);
    }
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status != EXIT_OK) {
        return status;
    }
    watch.since = cli_have(cli, FLAG_SINCE)
                      ? cli->args.since
                      : fleet_client_welcome(cli->client)->seq;
    err =
        fleet_client_watch(cli->client, watch.since, cli_have(cli, FLAG_STEPS),
                           on_watch, &watch, &reason);
    if (err != FLEET_OK) {
        return cli_fail(cli, &reason);
    }
    return cli_interrupted ? EXIT_INTERRUPTED
           : watch.failed  ? EXIT_BUG
                           : EXIT_OK;
}

// ----------------------------------------------------------------------
// history

// What history --all reads beside the transfers: events of nodes and keys.
typedef struct past {
    cli_t *cli;
    uint64_t next;
    json_t *events;
    row_list_t list; // the events themselves, for people
    fleet_message_t event;
    fleet_message_t beside;
} past_t;

static bool is_of_history(const fleet_message_t *event, const cli_t *cli) {
    const char *word = fleet_message_spec(event->type)->word;
    const char *set = cli->args.words_n > 0 ? cli->args.words[0] : NULL;

    if (set != NULL) {
        return strcmp(event->event.head.set, set) == 0;
    }
    return strncmp(word, "node.", 5) == 0 || strncmp(word, "key.", 4) == 0 ||
           strncmp(word, "broker.", 7) == 0 ||
           event->type == FLEET_MESSAGE_set_stuck ||
           event->type == FLEET_MESSAGE_set_degraded ||
           event->type == FLEET_MESSAGE_set_recovered;
}

static void on_past_entry(void *context, const fleet_parcel_t *row) {
    past_t *past = context;
    json_t *object;

    if (row == NULL || row->message.type != FLEET_MESSAGE_entry ||
        row->message.entry.seq != past->next ||
        !events_decode(row, &past->event, &past->beside)) {
        return;
    }
    past->next = row->message.entry.seq + 1;
    if (!is_of_history(&past->event, past->cli) ||
        past->event.type == FLEET_MESSAGE_transfer_ended) {
        return;
    }
    object = fleet_event_json(
        past->cli->site, &past->event,
        past->beside.type != FLEET_MESSAGE_none ? &past->beside : NULL);
    json_array_append_new(past->events, object);
    rows_keep(&past->list, &past->event);
}

static int read_events(cli_t *cli, past_t *past) {
    fleet_end_t end = {.more = true};
    int status = EXIT_OK;

    past->next = 1;
    while (end.more && status == EXIT_OK && !cli_interrupted) {
        fleet_message_t question = {.type = FLEET_MESSAGE_entries_ask};
        uint64_t before = past->next;

        question.entries_ask.seq = past->next;
        question.entries_ask.limit = 500;
        status = cli_ask(cli, &question, on_past_entry, past, &end);
        if (end.more && past->next == before) {
            break;
        }
    }
    return status;
}

// Merges both by their number: a transfer stands where it was asked for.
static void print_history(const cli_t *cli, const rows_t *rows,
                          const row_list_t *events) {
    size_t e = 0;

    for (size_t i = 0; i < rows->transfers.n; i++) {
        const fleet_transfer_t *transfer = &rows->transfers.items[i]->transfer;

        while (e < events->n &&
               events->items[e]->event.head.seq < transfer->transfer) {
            events_print(cli->out, events->items[e++], NULL);
        }
        events_print_transfer(cli->out, transfer);
    }
    while (e < events->n) {
        events_print(cli->out, events->items[e++], NULL);
    }
    if (rows->transfers.n == 0 && events->n == 0) {
        fputs("no transfers yet\n", cli->out);
    }
}

static json_t *history_json(const cli_t *cli, const rows_t *rows,
                            json_t *events) {
    json_t *document = cli_document_new(cli);
    json_t *list = json_array();
    uint64_t first =
        rows->transfers.n > 0 ? rows->transfers.items[0]->transfer.transfer : 0;

    for (size_t i = 0; i < rows->transfers.n; i++) {
        json_array_append_new(
            list, fleet_transfer_json(&rows->transfers.items[i]->transfer));
    }
    json_object_set_new(document, "first_seq",
                        first > 0 ? json_integer((json_int_t)first)
                                  : json_null());
    json_object_set_new(document, "transfers", list);
    if (cli_have(cli, FLAG_ALL)) {
        json_object_set(document, "events", events);
    }
    return document;
}

int cmd_history(cli_t *cli) {
    fleet_message_t question = {.type = FLEET_MESSAGE_history_ask};
    past_t *past = calloc(1, sizeof(*past));
    rows_t *rows = rows_new();
    fleet_end_t end;
    int status = EXIT_OK;

    assert(past != NULL);
    past->cli = cli;
    past->events = json_array();
    if (cli->args.words_n > 0) {
        status = cli_take_name(cli, cli->args.words[0], "set",
                               &question.history_ask.set);
    }
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status == EXIT_OK) {
        // On a screen the last ones are what is looked for.
        question.history_ask.limit = cli_have(cli, FLAG_LIMIT) ? cli->args.limit
                                     : cli_have(cli, FLAG_JSON | FLAG_ALL) ? 0
                                                                           : 40;
        status = cli_ask(cli, &question, rows_take, rows, &end);
    }
    if (status == EXIT_OK && cli_have(cli, FLAG_ALL)) {
        status = read_events(cli, past);
    }
    if (status == EXIT_OK) {
        rows_sort(rows);
        if (!cli_have(cli, FLAG_JSON)) {
            print_history(cli, rows, &past->list);
        }
        status =
            cli_document(cli, history_json(cli, rows, past->events), EXIT_OK);
    }
    json_decref(past->events);
    rows_list_clear(&past->list);
    free(past);
    rows_destroy(&rows);
    return status;
}
