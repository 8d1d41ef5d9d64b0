// SPDX-License-Identifier: MIT
//
// On a node, without a broker and without a key: owns, for crontabs and timers,
// and the paper's verbs acquire and release.

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/live.h"
#include "cli/local.h"
#include "proto/text.h"

#define ANSWER_MS 5000
#define LOOK_MS 500  // how often ownership is looked at while a command runs
#define TERM_MS 5000 // between SIGTERM and SIGKILL
#define SLICE_MS 20

typedef enum owns {
    OWNS_YES,
    OWNS_NO,
    OWNS_FAILED // the reason says how
} owns_t;

// -------------------------------------------------------------------------
// owns

static owns_t ask_owns(const cli_t *cli, const char *set,
                       fleet_local_row_t *ret_row, fleet_reason_t *ret_reason) {
    fleet_message_t *message = calloc(1, sizeof(*message));
    owns_t owns = OWNS_FAILED;
    int fd = local_ask(cli, fleet_local_verb_OWNS, set, ret_reason);

    assert(message != NULL);
    if (fd < 0) {
        free(message);
        return OWNS_FAILED;
    }
    fleet_reason_make(ret_reason, FLEET_NO_AGENT,
                      "fleet-node broke off in its answer");
    while (local_read(fd, ANSWER_MS, message)) {
        if (message->type == FLEET_MESSAGE_local_row) {
            *ret_row = message->local_row;
            owns = message->local_row.owns ? OWNS_YES : OWNS_NO;
        } else if (message->type == FLEET_MESSAGE_refused &&
                   message->refused.reasons_n > 0) {
            *ret_reason = message->refused.reasons[0];
            owns = OWNS_FAILED;
            break;
        } else if (message->type == FLEET_MESSAGE_turned_away) {
            *ret_reason = message->turned_away.reason;
            break;
        } else if (message->type == FLEET_MESSAGE_end) {
            break;
        }
    }
    free(message);
    close(fd);
    return owns;
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int status_of(int wait_status) {
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
                                  : 128 + WTERMSIG(wait_status);
}

// Waits up to limit_ms for the child; false if it still runs.
static bool wait_child(pid_t child, int64_t limit_ms, int *ret_status) {
    int64_t deadline_ms = now_ms() + limit_ms;

    for (;;) {
        const struct timespec nap = {.tv_nsec = SLICE_MS * 1000000L};

        if (waitpid(child, ret_status, WNOHANG) == child) {
            return true;
        }
        if (now_ms() >= deadline_ms || cli_interrupted) {
            return false;
        }
        nanosleep(&nap, NULL);
    }
}

// Reaps what of the group has ended; true if nothing is left of it.
static bool group_is_gone(pid_t child) {
    int status;

    while (waitpid(-child, &status, WNOHANG) > 0) {
    }
    return kill(-child, 0) != 0 && errno == ESRCH;
}

// Ends the whole process group; nothing of it runs when this returns.
static void end_group(pid_t child) {
    const struct timespec nap = {.tv_nsec = SLICE_MS * 1000000L};
    int64_t deadline_ms = now_ms() + TERM_MS;

    kill(-child, SIGTERM);
    kill(-child, SIGCONT);
    while (!group_is_gone(child) && now_ms() < deadline_ms) {
        nanosleep(&nap, NULL);
    }
    kill(-child, SIGKILL);
    deadline_ms = now_ms() + TERM_MS; // what hangs in the kernel dies later
    while (!group_is_gone(child) && now_ms() < deadline_ms) {
        nanosleep(&nap, NULL);
    }
}

static void run_child(char **command) {
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    execvp(command[0], command);
    fprintf(stderr, "fleet: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static int run_while_owner(cli_t *cli, const char *set, char **command) {
    fleet_local_row_t row;
    fleet_reason_t reason;
    int wait_status = 0;
    pid_t child;

    // What the command leaves behind in its group is then ours to reap.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    child = fork();
    if (child == 0) {
        run_child(command);
    }
    if (child < 0) {
        return cli_complain(cli, FLEET_BUG, "cannot fork: %s", strerror(errno));
    }
    setpgid(child, child);
    for (;;) {
        if (wait_child(child, LOOK_MS, &wait_status)) {
            return status_of(wait_status);
        }
        if (cli_interrupted) {
            end_group(child);
            return EXIT_INTERRUPTED;
        }
        // An agent that does not answer is not a lost ownership: it may be
        // restarted, and stops nothing when it is.
        if (ask_owns(cli, set, &row, &reason) == OWNS_NO) {
            fprintf(stderr, "fleet: this node no longer owns %s; %s is ended\n",
                    set, command[0]);
            end_group(child);
            return EXIT_AGAIN;
        }
    }
}

static int answer_owns(cli_t *cli, const fleet_local_row_t *row, bool yes) {
    json_t *document = cli_document_new(cli);

    if (yes) {
        fprintf(cli->out, "yes, token %" PRIu64 "\n", row->token);
    } else {
        fprintf(cli->out, "no\n");
    }
    json_object_set_new(document, "set", json_string(row->set));
    json_object_set_new(document, "owns", json_boolean(yes));
    json_object_set_new(document, "token",
                        row->token > 0 ? json_integer((json_int_t)row->token)
                                       : json_null());
    return cli_document(cli, document, yes ? EXIT_OK : EXIT_NO);
}

int cmd_owns(cli_t *cli) {
    char **command = cli->args.command;
    fleet_local_row_t row = {0};
    fleet_reason_t reason;
    fleet_name_t set;
    owns_t owns;
    int status = cli_take_name(cli, cli->args.words[0], "set", &set);

    if (status != EXIT_OK) {
        return status;
    }
    if (command != NULL && command[0] == NULL) {
        return cli_complain(cli, FLEET_BAD_ARGUMENT,
                            "fleet owns %s -- needs a command", set);
    }
    FLEET_COPY(row.set, set);
    owns = ask_owns(cli, set, &row, &reason);
    if (owns == OWNS_FAILED) {
        return cli_fail(cli, &reason); // 64: a mistyped name is no "not here"
    }
    if (command == NULL) {
        return answer_owns(cli, &row, owns == OWNS_YES);
    }
    return owns == OWNS_YES ? run_while_owner(cli, set, command) : EXIT_OK;
}

// -------------------------------------------------------------- acquire,
// release

typedef struct local_deed {
    cli_t *cli;
    const char *what;
    live_t live;
    fleet_transfer_t transfer;
} local_deed_t;

static int deed_document(local_deed_t *deed, int status) {
    json_t *document = cli_document_new(deed->cli);
    json_t *transfer = fleet_transfer_json(&deed->transfer);

    json_object_update(document, transfer);
    json_decref(transfer);
    return cli_document(deed->cli, document, status);
}

static int deed_refused(local_deed_t *deed, const fleet_reason_t *reasons,
                        uint32_t n) {
    char what[64];

    snprintf(what, sizeof(what), "%s %s", deed->what, deed->transfer.set);
    cli_print_refusal(what, reasons, n);
    deed->transfer.outcome = fleet_outcome_REFUSED;
    deed->transfer.reasons_n = n;
    memmove(deed->transfer.reasons, reasons, n * sizeof(*reasons));
    return deed_document(deed, cli_refusal_status(reasons, n));
}

static int deed_ended(local_deed_t *deed) {
    int status = live_status(&deed->transfer);

    live_end(&deed->live, &deed->transfer);
    if (deed->transfer.outcome == fleet_outcome_REFUSED) {
        return deed_refused(deed, deed->transfer.reasons,
                            deed->transfer.reasons_n);
    }
    live_outcome(status == EXIT_OK ? deed->cli->out : stderr, &deed->transfer);
    return deed_document(deed, status);
}

// Reads until the transfer has ended; -1: not yet.
static int deed_message(local_deed_t *deed, const fleet_message_t *message) {
    switch ((int)message->type) {
    case FLEET_MESSAGE_accepted:
        deed->transfer.transfer = message->accepted.transfer;
        return -1;
    case FLEET_MESSAGE_step:
        live_step(&deed->live, &message->step);
        return -1;
    case FLEET_MESSAGE_transfer:
        deed->transfer = message->transfer;
        return deed->transfer.outcome != fleet_outcome_UNFINISHED
                   ? deed_ended(deed)
                   : -1;
    case FLEET_MESSAGE_refused:
        deed->transfer.token = message->refused.token;
        FLEET_COPY(deed->transfer.from, message->refused.from);
        return deed_refused(deed, message->refused.reasons,
                            message->refused.reasons_n);
    case FLEET_MESSAGE_turned_away:
        return deed_refused(deed, &message->turned_away.reason, 1);
    default:
        return -1;
    }
}

static int deed_broke_off(local_deed_t *deed) {
    live_end(&deed->live, &deed->transfer);
    if (deed->transfer.transfer != 0) {
        fprintf(deed->cli->out,
                "\nt%" PRIu64 " goes on without you.  fleet wait t%" PRIu64
                "   or   fleet cancel %s\n",
                deed->transfer.transfer, deed->transfer.transfer,
                deed->transfer.set);
    } else {
        fprintf(stderr,
                "fleet: fleet-node broke off; whether it is done is not known "
                "here\n  fleet status %s\n",
                deed->transfer.set);
    }
    return deed_document(deed,
                         cli_interrupted ? EXIT_INTERRUPTED : EXIT_UNFINISHED);
}

static int do_local(cli_t *cli, fleet_local_verb_t verb, fleet_kind_t kind) {
    local_deed_t *deed = calloc(1, sizeof(*deed));
    fleet_message_t *message = calloc(1, sizeof(*message));
    fleet_reason_t reason;
    int result = -1;
    int fd = -1;
    int status;

    assert(deed != NULL && message != NULL);
    deed->cli = cli;
    deed->what = cli->command->name;
    deed->transfer.kind = kind;
    live_begin(&deed->live, cli, verb == fleet_local_verb_ACQUIRE);
    status = cli_take_name(cli, cli->args.words[0], "set", &deed->transfer.set);
    if (status == EXIT_OK) {
        fd = local_ask(cli, verb, deed->transfer.set, &reason);
        status = fd < 0 ? cli_fail(cli, &reason) : EXIT_OK;
    }
    if (status == EXIT_OK) {
        while (result < 0 && local_read(fd, -1, message)) {
            result = deed_message(deed, message);
        }
        status = result >= 0 ? result : deed_broke_off(deed);
        close(fd);
    }
    free(message);
    free(deed);
    return status;
}

int cmd_acquire(cli_t *cli) {
    return do_local(cli, fleet_local_verb_ACQUIRE, fleet_kind_MOVE);
}

int cmd_release(cli_t *cli) {
    return do_local(cli, fleet_local_verb_RELEASE, fleet_kind_STOP);
}
