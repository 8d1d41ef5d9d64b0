// SPDX-License-Identifier: MIT
//
// The table of commands, and running one of them.

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/text.h"

// What every command that talks to a broker takes.
#define COMMON (FLAG_JSON | FLAG_HELP | FLAG_TIMEOUT | FLAG_CONFIG)
#define CHANGE (COMMON | FLAG_REASON | FLAG_WAIT | FLAG_NO_WAIT | FLAG_REQUEST)
#define EVIDENCE (FLAG_FORCE | FLAG_OWNER_IS_DOWN | FLAG_YES)
#define ADMISSION (FLAG_IGNORE | FLAG_DRY_RUN)
#define LOCALLY (FLAG_JSON | FLAG_HELP | FLAG_SOCKET)

const command_t commands[] = {
    {"status", "[NAME]", 0, 1, COMMON | FLAG_LOCAL | FLAG_ALL | FLAG_SOCKET,
     "who owns what, what is wrong, why, and what to do", "", cmd_status},
    {"show", "SET", 1, 1, COMMON, "the definition of a set, as it was applied",
     "", cmd_show},
    {"apply", "FILE...", 1, ARGS_WORDS_MAX, COMMON | FLAG_DRY_RUN,
     "define or change sets",
     "  Never stops, starts or moves anything; says what waits for the next "
     "start.\n  All files are read first: if one is wrong, none is "
     "applied.\n",
     cmd_apply},
    {"remove", "SET", 1, 1, COMMON | FLAG_YES | FLAG_REQUEST | FLAG_REASON,
     "forget a set; only when it is parked", "", cmd_remove},
    {"move", "SET NODE", 2, 2, CHANGE | EVIDENCE | ADMISSION,
     "run a set on another node; also starts a parked one there",
     "  Ends moved (0), returned (2), parked (3) or stuck (4).  Ctrl-C leaves "
     "it\n  running.  --wait and --no-wait end the wait, never the move.\n",
     cmd_move},
    {"start", "SET [NODE]", 1, 2, CHANGE | ADMISSION,
     "bring a set up; a stuck one where it is", "", cmd_start},
    {"stop", "SET", 1, 1, CHANGE | ADMISSION,
     "park a set: down, held by nobody, its disk free", "", cmd_stop},
    {"restart", "SET [RESOURCE]", 1, 2, CHANGE | ADMISSION,
     "its services again, in place; the disk stays", "", cmd_restart},
    {"wait", "TRANSFER|SET", 1, 1, COMMON | FLAG_WAIT | FLAG_NO_WAIT,
     "come back to a transfer, with its exit status", "", cmd_wait},
    {"cancel", "SET", 1, 1, CHANGE,
     "call a transfer off: before its grant it goes back", "", cmd_cancel},
    {"unlock", "SET", 1, 1, CHANGE | EVIDENCE | ADMISSION,
     "remove a dead holder's lock; ends parked",
     "  To have the set run elsewhere, fleet move SET NODE --force is the "
     "shorter way.\n",
     cmd_unlock},
    {"fence", "NODE", 1, 1,
     COMMON | FLAG_REASON | FLAG_YES | FLAG_REQUEST | FLAG_WAIT,
     "run the node's fence command; lists every set that ends with it", "",
     cmd_fence},
    {"check", "[SET]", 0, 1, COMMON,
     "would each set start on each node, and if not, why", "", cmd_check},
    {"watch", "", 0, 0, COMMON | FLAG_SINCE | FLAG_SET | FLAG_STEPS,
     "follow the events, without a gap",
     "  --since SEQ begins after that entry: nothing that came later is "
     "missed.\n  With --json, one event a line.\n",
     cmd_watch},
    {"history", "[SET]", 0, 1, COMMON | FLAG_ALL | FLAG_LIMIT,
     "past transfers, the newest last; --all: what happened to nodes too", "",
     cmd_history},
    {"acquire", "SET", 1, 1, LOCALLY | FLAG_REASON,
     "on a node, by root: move the set here", "", cmd_acquire},
    {"release", "SET", 1, 1, LOCALLY | FLAG_REASON,
     "on a node, by root: park the set, if this node owns it", "", cmd_release},
    {"owns", "SET [-- COMMAND...]", 1, 1, LOCALLY,
     "on a node: 0 if it owns the set, 1 if not; with COMMAND: run it if so",
     "  With COMMAND: on a node that does not own the set nothing is run, "
     "nothing is\n  said, and the exit status is 0.  If ownership is lost "
     "meanwhile, the command\n  gets SIGTERM, after 5 s SIGKILL, and the exit "
     "status is 75.\n",
     cmd_owns},
    {"keys make", "FILE", 1, 1, FLAG_JSON | FLAG_HELP,
     "make a key; prints its public half, 64 digits", "", cmd_keys_make},
    {"keys list", "", 0, 0, COMMON, "the keys that the broker knows", "",
     cmd_keys_list},
    {"keys admit", "ROLE NAME HEX", 3, 3, COMMON | FLAG_REQUEST,
     "admit a key: node operator monitor admin", "", cmd_keys_admit},
    {"keys revoke", "NAME|HEX", 1, 1, COMMON | FLAG_YES | FLAG_REQUEST,
     "revoke a key, or all keys of a name; live connections end", "",
     cmd_keys_revoke},
    {"journal verify", "[FILE]", 0, 1, COMMON | FLAG_TO,
     "check the journal's hash chain and signatures, or an exported file's",
     "  --to SEQ says which entry there must be at least: finds a cut tail.\n",
     cmd_journal_verify},
    {"journal export", "", 0, 0,
     FLAG_HELP | FLAG_TIMEOUT | FLAG_CONFIG | FLAG_JSON,
     "write the whole journal, one JSON document a line", "",
     cmd_journal_export},
    {"help", "[COMMAND]", 0, 2, FLAG_HELP, "this text, or a command's", "",
     cmd_help},
    {"plan", "move|drain|rehome ...", 0, 9, 0, "what would happen", "", NULL},
    {"drain", "NODE", 0, 9, 0, "empty a node", "", NULL},
    {"undrain", "NODE", 0, 9, 0, "let sets come again", "", NULL},
    {"rehome", "[NAME]", 0, 9, 0, "bring sets home", "", NULL},
    {"freeze", "NAME", 0, 9, 0, "no transfer of this set or node", "", NULL},
    {"unfreeze", "NAME", 0, 9, 0, "end a freeze", "", NULL},
};

const size_t commands_n = sizeof(commands) / sizeof(commands[0]);

volatile int cli_interrupted;

static void on_signal(int signal) {
    (void)signal;
    cli_interrupted = 1;
}

void cli_catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};

    // Without SA_RESTART: a wait that is interrupted looks at the flag.
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    // A reader that went away is found when writing.
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

static int columns(FILE *stream) {
    struct winsize size;

    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col >= 60) {
        return size.ws_col;
    }
    return 80;
}

int cmd_help(cli_t *cli) {
    const char *last = NULL;

    for (size_t i = 0; cli->args.words_n > 0 && i < commands_n; i++) {
        const char *name = commands[i].name;
        size_t length = strlen(cli->args.words[0]);
        bool family = strncmp(name, cli->args.words[0], length) == 0 &&
                      (name[length] == ' ' || name[length] == '\0');

        if (family && (cli->args.words_n == 1 || name[length] == '\0' ||
                       strcmp(name + length + 1, cli->args.words[1]) == 0)) {
            fputs(last != NULL ? "\n" : "", stdout);
            args_help_command(&commands[i]);
            last = name;
        }
    }
    if (cli->args.words_n > 0 && last == NULL) {
        return cli_complain(cli, FLEET_BAD_ARGUMENT, "\"%s\" is no command",
                            cli->args.words[0]);
    }
    if (last == NULL) {
        args_help();
    }
    return EXIT_OK;
}

static int comes_later(cli_t *cli) {
    return cli_complain(cli, FLEET_BAD_ARGUMENT,
                        "fleet %s comes with a later release; nothing was "
                        "done",
                        cli->command->name);
}

int cli_run(int argc, char **argv) {
    cli_t cli = {0};
    fleet_reason_t reason;
    fleet_err_t err;
    int status;

    fleet_keys_init();
    err = args_parse(argc, argv, &cli.command, &cli.args, &reason);
    cli.out = cli_have(&cli, FLAG_JSON) ? stderr : stdout;
    cli.terminal = isatty(fileno(cli.out)) == 1;
    cli.width = columns(cli.out);
    if (cli_have(&cli, FLAG_HELP) && !(err != FLEET_OK && argc > 2)) {
        if (cli.command != NULL) {
            args_help_command(cli.command);
        } else {
            args_help();
        }
        return EXIT_OK;
    }
    if (err != FLEET_OK) {
        return cli_fail(&cli, &reason);
    }
    if (cli.command->run == NULL) {
        return comes_later(&cli);
    }
    cli_catch_signals();
    status = cli.command->run(&cli);
    fleet_client_destroy(&cli.client);
    fleet_key_pair_wipe(&cli.config.pair);
    if (fflush(stdout) != 0 && status == EXIT_OK) {
        status = EXIT_BUG;
    }
    return status;
}
