// SPDX-License-Identifier: MIT
//
// What every command of the command line works with: its arguments, where text
// for people goes, the broker, and how it all ends.  A command returns the exit
// status; whoever says something on the way to it says it through here, so that
// with --json stdout has exactly one document.

#ifndef FLEET_CLI_H
#define FLEET_CLI_H

#include <stdio.h>

#include "cli/args.h"
#include "proto/client.h"
#include "proto/json.h"

// Exit statuses that are no row of errors.def.
#define EXIT_OK 0
#define EXIT_NO 1 // of owns, check, verify: the answer is no
#define EXIT_RETURNED 2
#define EXIT_PARKED 3
#define EXIT_STUCK 4
#define EXIT_UNFINISHED 5
#define EXIT_BROKER 69
#define EXIT_BUG 70
#define EXIT_AGAIN 75
#define EXIT_INTERRUPTED 130

typedef struct cli {
    const command_t *command;
    args_t args;
    FILE *out;     // answers for people: stdout, with --json stderr
    bool terminal; // out is a terminal
    int width;     // of the terminal; 80 where there is none
    fleet_client_config_t config;
    fleet_client_t *client;
    fleet_name_t site; // as far as it is known
} cli_t;

static inline bool cli_have(const cli_t *cli, uint32_t flag) {
    return args_have(&cli->args, flag);
}

// Set by SIGINT and SIGTERM.
extern volatile int cli_interrupted;
void cli_catch_signals(void);

// ------------------------------------------------------------- out.c: how it
// ends

// One sentence and what to do on stderr, {"v","site","error"} on stdout;
// returns the exit status of the reason's code.
int cli_fail(cli_t *cli, const fleet_reason_t *reason);

// The same for a reason that is made on the spot.
int cli_complain(cli_t *cli, fleet_err_t err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Writes the one document, if --json was given, and drops it.  Returns status,
// or 70 if it could not be written.
int cli_document(cli_t *cli, json_t *document, int status);

// A document of this site to be filled.
json_t *cli_document_new(const cli_t *cli);

// Prints a reason for people: indented, wrapped, its code at the right edge.
// `used` columns of the first line are printed already.
void cli_print_reason(FILE *stream, int indent, int used,
                      const fleet_reason_t *reason);

// Prints a text in lines of at most 78 columns, all but the first of them
// indented.
void cli_print_wrapped(FILE *stream, int indent, int first, const char *text);

// A request that is about no transfer (apply, remove, keys, fence) was refused:
// says so, completes the document and drops it.
int cli_say_refused(cli_t *cli, const char *what, const fleet_message_t *answer,
                    json_t *document);

// Such a request was not answered: says what that means, drops the document.
int cli_lost(cli_t *cli, fleet_err_t err, const char *id, json_t *document);

// "cannot WHAT: nothing was touched", each reason, and each hint once; on
// stderr.
void cli_print_refusal(const char *what, const fleet_reason_t *reasons,
                       uint32_t n);

// The hints of reasons, each once.
void cli_print_hints(FILE *stream, const fleet_reason_t *reasons, uint32_t n);

// Exit status of a refusal: the worst that its reasons say.
int cli_refusal_status(const fleet_reason_t *reasons, uint32_t n);

// --------------------------------------------------------- connect.c: the
// broker

// Reads the client's file and connects.  Returns 0, or the exit status after
// having said why not.
int cli_connect(cli_t *cli);

// A question whose rows are handed to on_row; likewise.
int cli_ask(cli_t *cli, const fleet_message_t *question, fleet_on_row_t *on_row,
            void *context, fleet_end_t *ret_end);

// Asks a person on the terminal; 0 for yes.  With --yes it is yes; without a
// terminal and for any other answer the exit status is 64, and has been said.
int cli_confirm(cli_t *cli, const char *question);

// Copies a name from the command line; complains if it can be none.
int cli_take_name(cli_t *cli, const char *word, const char *what,
                  fleet_name_t *ret_name);

// The names that the site knows; for "did you mean".
#define CLI_NAMES_MAX 2048
typedef struct cli_names {
    size_t sets_n;
    size_t nodes_n;
    fleet_name_t sets[CLI_NAMES_MAX];
    fleet_name_t nodes[CLI_NAMES_MAX];
} cli_names_t;

// Asks for all names; NULL if that did not work (nothing is said then).  The
// caller frees it.
cli_names_t *cli_names_new(cli_t *cli);
bool cli_is_set(const cli_names_t *names, const char *word);
bool cli_is_node(const cli_names_t *names, const char *word);
const char *cli_nearest_set(const cli_names_t *names, const char *word);
const char *cli_nearest_node(const cli_names_t *names, const char *word);

// ------------------------------------------------------------------ config.c

// Reads the client's file into ret_config.  FLEET_BAD_CONFIG or FLEET_BAD_KEY
// with file and line in ret_reason.
fleet_err_t cli_config_read(const char *path, fleet_client_config_t *ret_config,
                            fleet_reason_t *ret_reason);

// Where the client's file is: --config, FLEET_CONFIG, the home's, the system's;
// the last if there is none.
void cli_config_find(const char *given, char *path, size_t size);

// ------------------------------------------------------------------ run.c

int cli_run(int argc, char **argv);

// ----------------------------------------------------------------- the
// commands

int cmd_status(cli_t *cli);
int cmd_show(cli_t *cli);
int cmd_apply(cli_t *cli);
int cmd_remove(cli_t *cli);
int cmd_move(cli_t *cli);
int cmd_start(cli_t *cli);
int cmd_stop(cli_t *cli);
int cmd_restart(cli_t *cli);
int cmd_unlock(cli_t *cli);
int cmd_cancel(cli_t *cli);
int cmd_wait(cli_t *cli);
int cmd_acquire(cli_t *cli);
int cmd_release(cli_t *cli);
int cmd_fence(cli_t *cli);
int cmd_watch(cli_t *cli);
int cmd_history(cli_t *cli);
int cmd_check(cli_t *cli);
int cmd_owns(cli_t *cli);
int cmd_keys_make(cli_t *cli);
int cmd_keys_list(cli_t *cli);
int cmd_keys_admit(cli_t *cli);
int cmd_keys_revoke(cli_t *cli);
int cmd_journal_verify(cli_t *cli);
int cmd_journal_export(cli_t *cli);
int cmd_help(cli_t *cli);

#endif
