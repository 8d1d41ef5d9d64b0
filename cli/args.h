// SPDX-License-Identifier: MIT
//
// The command line: one table of commands, each with its arguments, its flags
// and its help.  Parsing, `--help` and `fleet help` all come from it.  What a
// command does is in the cmd_ files.

#ifndef FLEET_CLI_ARGS_H
#define FLEET_CLI_ARGS_H

#include "proto/errors.h"

struct cli;

// Flags; a command names the ones that it takes.
typedef enum flag {
    FLAG_JSON = 1 << 0,
    FLAG_HELP = 1 << 1,
    FLAG_TIMEOUT = 1 << 2,
    FLAG_CONFIG = 1 << 3,
    FLAG_YES = 1 << 4,
    FLAG_FORCE = 1 << 5,
    FLAG_OWNER_IS_DOWN = 1 << 6,
    FLAG_REASON = 1 << 7,
    FLAG_IGNORE = 1 << 8,
    FLAG_DRY_RUN = 1 << 9,
    FLAG_WAIT = 1 << 10,
    FLAG_NO_WAIT = 1 << 11,
    FLAG_REQUEST = 1 << 12,
    FLAG_LOCAL = 1 << 13,
    FLAG_ALL = 1 << 14,
    FLAG_SINCE = 1 << 15,
    FLAG_SET = 1 << 16,
    FLAG_STEPS = 1 << 17,
    FLAG_LIMIT = 1 << 18,
    FLAG_SOCKET = 1 << 19,
    FLAG_TO = 1 << 20
} flag_t;

#define ARGS_WORDS_MAX 64

typedef struct args {
    uint32_t given; // which flags
    int words_n;
    const char *words[ARGS_WORDS_MAX];
    char **command; // what follows `--`, ended by NULL; or NULL
    const char *config;
    const char *socket;
    const char *reason;
    const char *request;
    const char *owner_is_down;
    const char *set;
    uint32_t ignores_n;
    const char *ignores[FLEET_IGNORES_MAX];
    uint64_t timeout_ms;
    uint64_t wait_ms;
    uint64_t since;
    uint64_t limit;
    uint64_t to;
} args_t;

typedef struct command {
    const char *name;      // "move", "keys make"
    const char *arguments; // "SET NODE"
    int least;             // arguments
    int most;
    uint32_t flags;
    const char *summary;      // one line
    const char *more;         // what else --help says; may be empty
    int (*run)(struct cli *); // the exit status; NULL: comes later
} command_t;

extern const command_t commands[];
extern const size_t commands_n;

static inline bool args_have(const args_t *args, uint32_t flag) {
    return (args->given & flag) != 0;
}

// Finds the command and reads its arguments.  FLEET_BAD_ARGUMENT with why and
// what would be right.  ret_command is set as soon as the command is known;
// ret_args points into argv, whose words it may put into another order: flags
// may stand before the command.  --json and --help are recognized even where
// something else is wrong.
fleet_err_t args_parse(int argc, char **argv, const command_t **ret_command,
                       args_t *ret_args, fleet_reason_t *ret_reason);

// Help for all, or for one command.
void args_help(void);
void args_help_command(const command_t *command);

#endif
