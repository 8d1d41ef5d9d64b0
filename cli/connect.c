// SPDX-License-Identifier: MIT
//
// The way to the broker, and to the person at the terminal: connecting, asking
// questions of either, and knowing the names that a mistyped one could have
// been.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/text.h"

int cli_connect(cli_t *cli) {
    fleet_reason_t reason;
    char path[4096];
    fleet_err_t err;

    if (cli->client != NULL) {
        return EXIT_OK;
    }
    cli_config_find(cli->args.config, path, sizeof(path));
    err = cli_config_read(path, &cli->config, &reason);
    if (err != FLEET_OK) {
        return cli_fail(cli, &reason);
    }
    FLEET_COPY(cli->site, cli->config.site);
    cli->config.timeout_ms = cli->args.timeout_ms;
    cli->config.interrupted = &cli_interrupted;
    err = fleet_client_new(&cli->config, &cli->client, &reason);
    if (cli_interrupted && err != FLEET_OK) {
        return EXIT_INTERRUPTED;
    }
    if (err != FLEET_OK) {
        return cli_fail(cli, &reason);
    }
    FLEET_COPY(cli->site, fleet_client_welcome(cli->client)->site);
    return EXIT_OK;
}

int cli_ask(cli_t *cli, const fleet_message_t *question, fleet_on_row_t *on_row,
            void *context, fleet_end_t *ret_end) {
    fleet_reason_t reason;
    fleet_err_t err = fleet_client_ask(cli->client, question, on_row, context,
                                       ret_end, &reason);

    if (cli_interrupted && err != FLEET_OK) {
        return EXIT_INTERRUPTED;
    }
    return err == FLEET_OK ? EXIT_OK : cli_fail(cli, &reason);
}

int cli_confirm(cli_t *cli, const char *question) {
    char answer[16] = "";
    fleet_reason_t reason;

    if (cli_have(cli, FLAG_YES)) {
        return EXIT_OK;
    }
    if (isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0) {
        fleet_reason_make(&reason, FLEET_NO_ANSWER_GIVEN,
                          "there is no terminal to ask at, and no --yes: "
                          "nothing was done");
        fleet_reason_hint(&reason, "%s", question);
        return cli_fail(cli, &reason);
    }
    cli_print_wrapped(stderr, 0, 0, question);
    fputs("[yes/no] ", stderr);
    fflush(stderr);
    if (fgets(answer, sizeof(answer), stdin) != NULL &&
        (strcmp(answer, "yes\n") == 0 || strcmp(answer, "y\n") == 0)) {
        return EXIT_OK;
    }
    if (cli_interrupted) {
        fputc('\n', stderr);
        return EXIT_INTERRUPTED;
    }
    return cli_complain(cli, FLEET_NO_ANSWER_GIVEN,
                        "not answered with yes: nothing was done");
}

int cli_take_name(cli_t *cli, const char *word, const char *what,
                  fleet_name_t *ret_name) {
    if (!fleet_name_ok(word)) {
        return cli_complain(cli, FLEET_BAD_ARGUMENT,
                            "\"%.64s\" is no name of a %s: a-z 0-9 -, at most "
                            "%d, not all any here none",
                            word, what, FLEET_NAME_MAX);
    }
    FLEET_COPY(*ret_name, word);
    return EXIT_OK;
}

// ----------------------------------------------------------------------- names

static void on_name(void *context, const fleet_parcel_t *row) {
    cli_names_t *names = context;

    if (row == NULL) {
        names->sets_n = names->nodes_n = 0;
    } else if (row->message.type == FLEET_MESSAGE_set_row &&
               names->sets_n < CLI_NAMES_MAX) {
        FLEET_COPY(names->sets[names->sets_n], row->message.set_row.name);
        names->sets_n++;
    } else if (row->message.type == FLEET_MESSAGE_node_row &&
               names->nodes_n < CLI_NAMES_MAX) {
        FLEET_COPY(names->nodes[names->nodes_n], row->message.node_row.name);
        names->nodes_n++;
    }
}

cli_names_t *cli_names_new(cli_t *cli) {
    fleet_message_t question = {.type = FLEET_MESSAGE_status_ask};
    cli_names_t *names = calloc(1, sizeof(*names));
    fleet_reason_t reason;
    fleet_end_t end;

    if (names != NULL && fleet_client_ask(cli->client, &question, on_name,
                                          names, &end, &reason) != FLEET_OK) {
        free(names);
        names = NULL;
    }
    return names;
}

static bool is_one(fleet_name_t const *list, size_t n, const char *word) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], word) == 0) {
            return true;
        }
    }
    return false;
}

bool cli_is_set(const cli_names_t *names, const char *word) {
    return is_one(names->sets, names->sets_n, word);
}

bool cli_is_node(const cli_names_t *names, const char *word) {
    return is_one(names->nodes, names->nodes_n, word);
}

static const char *nearest(fleet_name_t const *list, size_t n,
                           const char *word) {
    const char *pointers[CLI_NAMES_MAX];

    for (size_t i = 0; i < n; i++) {
        pointers[i] = list[i];
    }
    return fleet_name_nearest(word, pointers, n);
}

const char *cli_nearest_set(const cli_names_t *names, const char *word) {
    return nearest(names->sets, names->sets_n, word);
}

const char *cli_nearest_node(const cli_names_t *names, const char *word) {
    return nearest(names->nodes, names->nodes_n, word);
}
