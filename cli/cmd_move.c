// SPDX-License-Identifier: MIT
//
// What changes ownership: move start stop restart unlock cancel, and wait,
// which comes back to one of them.  All are a request, its refusal or its
// transfer, and the same exit statuses.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/live.h"
#include "proto/text.h"

// A request in the making, and what came of it.
typedef struct deed {
    cli_t *cli;
    const char *what; // "move www to node3", for "cannot ..."
    fleet_request_t request;
    live_t live;
    bool headed;               // the line above the steps is printed
    fleet_text_t past;         // what moves of this set cost so far
    fleet_transfer_t transfer; // its state, or what a refusal says of it
} deed_t;

static deed_t *deed_new(cli_t *cli, fleet_verb_t verb) {
    deed_t *deed = calloc(1, sizeof(*deed));
    const args_t *args = &cli->args;

    assert(deed != NULL);
    deed->cli = cli;
    deed->request.verb = verb;
    if (args->request != NULL) {
        FLEET_COPY(deed->request.request, args->request);
    } else {
        fleet_client_id(deed->request.request);
    }
    deed->request.force = args_have(args, FLAG_FORCE);
    deed->request.dry_run = args_have(args, FLAG_DRY_RUN);
    FLEET_COPY(deed->request.reason, args->reason != NULL ? args->reason : "");
    FLEET_COPY(deed->request.owner_is_down,
               args->owner_is_down != NULL ? args->owner_is_down : "");
    for (uint32_t i = 0; i < args->ignores_n; i++) {
        FLEET_COPY(deed->request.ignore[i].name, args->ignores[i]);
    }
    deed->request.ignore_n = args->ignores_n;
    return deed;
}

// --------------------------------------------------------------------
// documents

static int deed_document(const deed_t *deed, int status,
                         const fleet_reason_t *error) {
    json_t *document = cli_document_new(deed->cli);
    json_t *transfer = fleet_transfer_json(&deed->transfer);
    int rc = json_object_update(document, transfer);

    assert(rc == 0);
    json_decref(transfer);
    if (deed->request.dry_run) {
        json_object_set_new(document, "dry_run", json_true());
    }
    if (error != NULL) {
        json_object_set_new(document, "error", fleet_reason_json(error));
    }
    return cli_document(deed->cli, document, status);
}

static fleet_kind_t kind_of(const fleet_request_t *request) {
    switch (request->verb) {
    case fleet_verb_MOVE:
        return request->force ? fleet_kind_FORCED : fleet_kind_MOVE;
    case fleet_verb_START:
        return fleet_kind_START;
    case fleet_verb_STOP:
        return fleet_kind_STOP;
    case fleet_verb_RESTART:
        return fleet_kind_RESTART;
    case fleet_verb_UNLOCK:
        return fleet_kind_UNLOCK;
    case fleet_verb_CANCEL:
    case fleet_verb_REMOVE:
    case fleet_verb_FENCE:
        break;
    }
    return fleet_kind_NONE;
}

// A transfer that says no more than what was asked for.
static void fill_from_request(deed_t *deed) {
    fleet_transfer_t *transfer = &deed->transfer;

    memset(transfer, 0, sizeof(*transfer));
    FLEET_COPY(transfer->request, deed->request.request);
    FLEET_COPY(transfer->set, deed->request.set);
    FLEET_COPY(transfer->to, deed->request.node);
    FLEET_COPY(transfer->reason, deed->request.reason);
    transfer->kind = kind_of(&deed->request);
    memcpy(transfer->ignored, deed->request.ignore, sizeof(transfer->ignored));
    transfer->ignored_n = deed->request.ignore_n;
}

// ---------------------------------------------------------------------
// refusals

// What the person may have meant, where a name is unknown.
static bool guess(const deed_t *deed, char *hint, size_t size) {
    const char *set = deed->request.set;
    const char *node = deed->request.node;
    const char *near_set = NULL;
    const char *near_node = NULL;
    cli_names_t *names = cli_names_new(deed->cli);
    bool found = false;

    if (names == NULL) {
        return false;
    }
    if (node[0] != '\0' && cli_is_node(names, set) && cli_is_set(names, node)) {
        snprintf(hint, size,
                 "%s is a node, %s is a set.  The other way round?  fleet %s "
                 "%s %s",
                 set, node, deed->cli->command->name, node, set);
        free(names);
        return true;
    }
    if (cli_is_node(names, set)) {
        snprintf(hint, size, "%s is a node; sets are in:  fleet status", set);
        free(names);
        return true;
    }
    if (!cli_is_set(names, set)) {
        near_set = cli_nearest_set(names, set);
        found = near_set != NULL;
    }
    if (node[0] != '\0' && !cli_is_node(names, node)) {
        near_node = cli_nearest_node(names, node);
        found = found || near_node != NULL;
    }
    if (found) {
        snprintf(hint, size, "did you mean:  fleet %s %s%s%s",
                 deed->cli->command->name, near_set != NULL ? near_set : set,
                 node[0] != '\0' ? " " : "",
                 near_node != NULL ? near_node : node);
    } else {
        snprintf(hint, size, "what there is:  fleet status");
    }
    free(names);
    return true;
}

static int refused(deed_t *deed) {
    fleet_transfer_t *transfer = &deed->transfer;
    int status = cli_refusal_status(transfer->reasons, transfer->reasons_n);
    const fleet_reason_t *error = NULL;

    transfer->outcome = fleet_outcome_REFUSED;
    transfer->changed = false;
    for (uint32_t i = 0; i < transfer->reasons_n; i++) {
        fleet_reason_t *reason = &transfer->reasons[i];
        fleet_err_t err = fleet_error_find(reason->code);
        char hint[FLEET_TEXT_MAX];

        if ((err == FLEET_SET_UNKNOWN || err == FLEET_NODE_UNKNOWN) &&
            guess(deed, hint, sizeof(hint))) {
            fleet_reason_hint(reason, "%s", hint);
        }
        // Beside 1 and 75, which are refusals, the rest are errors too.
        if (error == NULL && status != EXIT_NO && status != EXIT_AGAIN) {
            error = reason;
        }
    }
    cli_print_refusal(deed->what, transfer->reasons, transfer->reasons_n);
    return deed_document(deed, status, error);
}

// --------------------------------------------------------------------
// following

// "t4183  www  node1 -> node3   (last 10 moves: clients waited 38 to 51 ms)"
static void print_headline(deed_t *deed) {
    const fleet_transfer_t *transfer = &deed->transfer;
    FILE *out = deed->cli->out;

    if (deed->headed) {
        return;
    }
    deed->headed = true;
    fprintf(out, "t%" PRIu64 "  %s", transfer->transfer, transfer->set);
    if (transfer->from[0] != '\0' && transfer->to[0] != '\0') {
        fprintf(out, "  %s -> %s", transfer->from, transfer->to);
    } else if (transfer->from[0] != '\0' || transfer->to[0] != '\0') {
        fprintf(out, "  %s on %s", fleet_kind_word(transfer->kind),
                transfer->to[0] != '\0' ? transfer->to : transfer->from);
    }
    fprintf(out, "%s\n\n", deed->past);
    fflush(out);
}

static bool on_step(void *context, const fleet_step_t *step) {
    deed_t *deed = context;

    if (deed->transfer.transfer != 0) {
        print_headline(deed);
    }
    if (step != NULL) {
        live_step(&deed->live, step);
    } else {
        live_tick(&deed->live);
    }
    return true;
}

static int left_alone(deed_t *deed) {
    const fleet_transfer_t *transfer = &deed->transfer;

    live_end(&deed->live, transfer);
    if (cli_interrupted) {
        fprintf(deed->cli->out,
                "\nt%" PRIu64 " goes on without you.  fleet wait t%" PRIu64
                "   or   fleet cancel %s\n",
                transfer->transfer, transfer->transfer, transfer->set);
        return deed_document(deed, EXIT_INTERRUPTED, NULL);
    }
    if (cli_have(deed->cli, FLAG_WAIT) || cli_have(deed->cli, FLAG_NO_WAIT)) {
        fprintf(deed->cli->out,
                "t%" PRIu64 " goes on.  fleet wait t%" PRIu64
                "   or   fleet cancel %s\n",
                transfer->transfer, transfer->transfer, transfer->set);
    } else {
        fprintf(stderr,
                "fleet: lost the broker after the request was accepted; its "
                "end is not known\n  here%*s[unfinished]\n"
                "  ask again, it will not be done twice:  fleet wait t%" PRIu64
                "\n",
                60, "", transfer->transfer);
    }
    return deed_document(deed, EXIT_UNFINISHED, NULL);
}

static int ended(deed_t *deed) {
    const fleet_transfer_t *transfer = &deed->transfer;
    int status = live_status(transfer);
    // As all text that is no answer to what was asked.
    FILE *out = status == EXIT_OK ? deed->cli->out : stderr;

    live_end(&deed->live, transfer);
    if (transfer->outcome == fleet_outcome_REFUSED) {
        return refused(deed);
    }
    if (transfer->steps_n > 0) {
        fputc('\n', out);
    }
    live_outcome(out, transfer);
    return deed_document(deed, status, NULL);
}

typedef struct pauses {
    uint64_t n;
    uint64_t least_us;
    uint64_t most_us;
} pauses_t;

static void on_past(void *context, const fleet_parcel_t *row) {
    pauses_t *pauses = context;
    const fleet_transfer_t *transfer;

    if (row == NULL) {
        memset(pauses, 0, sizeof(*pauses));
        return;
    }
    transfer = &row->message.transfer;
    if (row->message.type != FLEET_MESSAGE_transfer ||
        transfer->kind != fleet_kind_MOVE ||
        transfer->outcome != fleet_outcome_MOVED || transfer->pause_us == 0) {
        return;
    }
    if (pauses->n == 0 || transfer->pause_us < pauses->least_us) {
        pauses->least_us = transfer->pause_us;
    }
    if (transfer->pause_us > pauses->most_us) {
        pauses->most_us = transfer->pause_us;
    }
    pauses->n++;
}

static void read_past(deed_t *deed) {
    fleet_message_t question = {.type = FLEET_MESSAGE_history_ask};
    pauses_t pauses = {0};
    fleet_reason_t reason;
    fleet_end_t end;
    char least[32];
    char most[32];

    if (!deed->cli->terminal || deed->request.verb != fleet_verb_MOVE ||
        deed->request.set[0] == '\0') {
        return;
    }
    FLEET_COPY(question.history_ask.set, deed->request.set);
    question.history_ask.limit = 10;
    if (fleet_client_ask(deed->cli->client, &question, on_past, &pauses, &end,
                         &reason) != FLEET_OK ||
        pauses.n < 2) {
        return;
    }
    fleet_duration_print(pauses.least_us, least, sizeof(least));
    fleet_duration_print(pauses.most_us, most, sizeof(most));
    FLEET_FORMAT(deed->past,
                 "   (last %" PRIu64 " moves: clients waited %s to %s)",
                 pauses.n, least, most);
}

static bool clients_wait(fleet_verb_t verb) {
    return verb == fleet_verb_MOVE || verb == fleet_verb_RESTART;
}

static int follow(deed_t *deed, uint64_t transfer) {
    cli_t *cli = deed->cli;
    fleet_err_t err;

    live_begin(&deed->live, cli, clients_wait(deed->request.verb));
    fill_from_request(deed);
    if (cli_have(cli, FLAG_NO_WAIT)) {
        deed->transfer.transfer = transfer;
        return left_alone(deed);
    }
    read_past(deed);
    err =
        fleet_client_follow(cli->client, transfer, deed->request.set,
                            cli->args.wait_ms, on_step, deed, &deed->transfer);
    if (err == FLEET_OK) {
        return ended(deed);
    }
    if (err == FLEET_UNFINISHED) {
        if (deed->transfer.transfer == 0) {
            fill_from_request(deed);
            deed->transfer.transfer = transfer;
        }
        return left_alone(deed);
    }
    if (deed->transfer.reasons_n > 0) {
        return cli_fail(cli, &deed->transfer.reasons[0]);
    }
    return cli_complain(cli, err, "the transfer cannot be followed");
}

// -------------------------------------------------------------------
// requesting

static int unanswered(deed_t *deed, fleet_err_t err) {
    fleet_reason_t reason;

    fill_from_request(deed);
    if (err == FLEET_UNFINISHED && cli_interrupted) {
        fprintf(stderr,
                "\nfleet: asked, but not yet answered; it may be done.  ask "
                "again, it will not be done\n  twice:  --request %s\n",
                deed->request.request);
        return deed_document(deed, EXIT_INTERRUPTED, NULL);
    }
    if (err == FLEET_UNFINISHED) {
        fleet_reason_make(&reason, err,
                          "the broker was asked and did not answer; whether "
                          "it will be done is not known here");
        fleet_reason_hint(&reason,
                          "ask again, it will not be done twice:  "
                          "--request %s",
                          deed->request.request);
        deed->transfer.reasons[0] = reason;
        deed->transfer.reasons_n = 1;
        fprintf(stderr, "fleet: ");
        cli_print_wrapped(stderr, 2, 7, reason.text);
        fprintf(stderr, "  %s\n", reason.hint);
        return deed_document(deed, EXIT_UNFINISHED, &reason);
    }
    if (cli_interrupted) {
        return EXIT_INTERRUPTED;
    }
    return cli_complain(deed->cli, FLEET_NO_BROKER,
                        "the broker was lost; nothing was sent");
}

static int answered_done(deed_t *deed, const fleet_done_t *done) {
    fill_from_request(deed);
    deed->transfer.transfer = done->transfer;
    deed->transfer.changed = done->changed;
    if (deed->request.verb == fleet_verb_CANCEL && done->transfer != 0 &&
        !deed->request.dry_run) {
        fprintf(deed->cli->out, "%s\n", done->text);
        return follow(deed, done->transfer);
    }
    cli_print_wrapped(deed->cli->out, 0, 0,
                      done->text[0] != '\0' ? done->text : "done");
    return deed_document(deed, EXIT_OK, NULL);
}

static int answered(deed_t *deed, const fleet_message_t *answer) {
    fleet_transfer_t *transfer = &deed->transfer;

    switch ((int)answer->type) {
    case FLEET_MESSAGE_accepted:
        return follow(deed, answer->accepted.transfer);
    case FLEET_MESSAGE_transfer:
        live_begin(&deed->live, deed->cli, false);
        *transfer = answer->transfer;
        if (transfer->outcome == fleet_outcome_UNFINISHED) {
            return follow(deed, transfer->transfer);
        }
        return ended(deed);
    case FLEET_MESSAGE_done:
        return answered_done(deed, &answer->done);
    case FLEET_MESSAGE_refused:
        fill_from_request(deed);
        FLEET_COPY(transfer->from, answer->refused.from);
        transfer->token = answer->refused.token;
        transfer->reasons_n = answer->refused.reasons_n;
        memcpy(transfer->reasons, answer->refused.reasons,
               sizeof(transfer->reasons));
        return refused(deed);
    case FLEET_MESSAGE_turned_away:
        fill_from_request(deed);
        transfer->reasons_n = 1;
        transfer->reasons[0] = answer->turned_away.reason;
        return refused(deed);
    default:
        return cli_complain(deed->cli, FLEET_BAD_MESSAGE,
                            "the broker's answer is none");
    }
}

static int attest(const deed_t *deed) {
    char question[512];

    snprintf(question, sizeof(question),
             "You say that %s is down.  If it is not, two machines will write "
             "%s's disk, and your name stands beside it.  Is %s off, and "
             "have you seen it?",
             deed->request.owner_is_down, deed->request.set,
             deed->request.owner_is_down);
    return cli_confirm(deed->cli, question);
}

// Sends the request and stays with it to its end.
static int deed_do(deed_t *deed, const char *what) {
    cli_t *cli = deed->cli;
    fleet_message_t *answer = calloc(1, sizeof(*answer));
    fleet_message_t message = {.type = FLEET_MESSAGE_request};
    fleet_err_t err;
    int status = EXIT_OK;

    assert(answer != NULL);
    deed->what = what;
    if (deed->request.owner_is_down[0] != '\0') {
        status = attest(deed);
    }
    if (status == EXIT_OK) {
        status = cli_connect(cli);
    }
    if (status == EXIT_OK) {
        message.request = deed->request;
        err = fleet_client_request(cli->client, &message, cli->args.wait_ms,
                                   answer);
        status =
            err == FLEET_OK ? answered(deed, answer) : unanswered(deed, err);
    }
    free(answer);
    free(deed);
    return status;
}

// ---------------------------------------------------------------------
// commands

static int take_set(deed_t *deed) {
    return cli_take_name(deed->cli, deed->cli->args.words[0], "set",
                         &deed->request.set);
}

static int take_second(deed_t *deed, const char *what, fleet_name_t *ret_name) {
    if (deed->cli->args.words_n < 2) {
        return EXIT_OK;
    }
    return cli_take_name(deed->cli, deed->cli->args.words[1], what, ret_name);
}

// One verb of a set, with what else is named.
static int do_verb(cli_t *cli, fleet_verb_t verb, const char *second) {
    deed_t *deed = deed_new(cli, verb);
    bool resource = strcmp(second, "resource") == 0;
    char what[128];
    int status = take_set(deed);

    if (status == EXIT_OK) {
        status = take_second(deed, second,
                             resource ? &deed->request.resource
                                      : &deed->request.node);
    }
    if (status != EXIT_OK) {
        free(deed);
        return status;
    }
    snprintf(what, sizeof(what), "%s %s%s%s%s", cli->command->name,
             deed->request.set,
             deed->request.node[0] == '\0' ? ""
             : verb == fleet_verb_START    ? " on "
                                           : " to ",
             deed->request.node, deed->request.dry_run ? " (dry run)" : "");
    return deed_do(deed, what);
}

int cmd_move(cli_t *cli) {
    return do_verb(cli, fleet_verb_MOVE, "node");
}

int cmd_start(cli_t *cli) {
    return do_verb(cli, fleet_verb_START, "node");
}

int cmd_stop(cli_t *cli) {
    return do_verb(cli, fleet_verb_STOP, "node");
}

int cmd_restart(cli_t *cli) {
    return do_verb(cli, fleet_verb_RESTART, "resource");
}

int cmd_unlock(cli_t *cli) {
    // It is nothing but other evidence than the owner's release.
    cli->args.given |= FLAG_FORCE;
    return do_verb(cli, fleet_verb_UNLOCK, "node");
}

int cmd_cancel(cli_t *cli) {
    int status = do_verb(cli, fleet_verb_CANCEL, "node");

    // It went back, as asked.
    return status == EXIT_RETURNED ? EXIT_OK : status;
}

// "t4183"; a set may have such a name too, which is then meant.
static bool parse_transfer(const char *word, uint64_t *ret_transfer) {
    uint64_t value = 0;

    if (word[0] != 't' || word[1] == '\0' || strlen(word) > 17) {
        return false;
    }
    for (const char *at = word + 1; *at != '\0'; at++) {
        if (*at < '0' || *at > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*at - '0');
    }
    *ret_transfer = value;
    return value > 0;
}

int cmd_wait(cli_t *cli) {
    deed_t *deed = deed_new(cli, fleet_verb_MOVE);
    const char *word = cli->args.words[0];
    uint64_t transfer = 0;
    int status = EXIT_OK;

    deed->what = "wait";
    if (!parse_transfer(word, &transfer)) {
        status = take_set(deed);
    }
    if (status == EXIT_OK) {
        status = cli_connect(cli);
    }
    if (status == EXIT_OK) {
        deed->request.request[0] = '\0';
        status = follow(deed, transfer);
    }
    free(deed);
    return status;
}
