// SPDX-License-Identifier: MIT
//
// Reads argv against the table of commands, and prints the table as help.  Says
// what is wrong with a word and what would be right; knows nothing of brokers.

#include "cli/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

typedef struct flag_spec {
    flag_t flag;
    const char *name;
    const char *value; // what it takes; NULL: nothing
    const char *help;
} flag_spec_t;

static const flag_spec_t flags[] = {
    {FLAG_FORCE, "--force", NULL,
     "other evidence than the owner's release will do; refused while the "
     "owner is online"},
    {FLAG_OWNER_IS_DOWN, "--owner-is-down", "NODE",
     "your word that this node is down; on record under your name; needs "
     "--reason"},
    {FLAG_REASON, "--reason", "TEXT", "why, for the record"},
    {FLAG_IGNORE, "--ignore", "CODE",
     "waive this one waivable reason; recorded; may be repeated"},
    {FLAG_DRY_RUN, "--dry-run", NULL,
     "only say whether it would be done (0) or refused (1)"},
    {FLAG_WAIT, "--wait", "D", "end the wait, never the transfer, after D"},
    {FLAG_NO_WAIT, "--no-wait", NULL,
     "do not wait for the end (exit status 5)"},
    {FLAG_REQUEST, "--request", "ID",
     "the same id never does it twice; default: a random one"},
    {FLAG_LOCAL, "--local", NULL, "ask this node's own agent; no broker"},
    {FLAG_ALL, "--all", NULL, "also what is left out by default"},
    {FLAG_SINCE, "--since", "SEQ", "begin after this entry of the journal"},
    {FLAG_SET, "--set", "NAME", "only what concerns this set"},
    {FLAG_STEPS, "--steps", NULL, "also the steps of running transfers"},
    {FLAG_LIMIT, "--limit", "N", "at most so many, the newest"},
    {FLAG_TO, "--to", "SEQ", "up to this entry, which must be there"},
    {FLAG_SOCKET, "--socket", "PATH",
     "the agent's socket; default: FLEET_NODE_SOCKET, /run/fleet/node.sock"},
    {FLAG_YES, "--yes", NULL, "answers the question; permits nothing"},
    {FLAG_JSON, "--json", NULL, "one JSON document on stdout"},
    {FLAG_TIMEOUT, "--timeout", "D",
     "how long to look for a broker; default: 10s"},
    {FLAG_CONFIG, "--config", "FILE",
     "default: FLEET_CONFIG, ~/.config/fleet/client.yaml, "
     "/etc/fleet/client.yaml"},
    {FLAG_HELP, "--help", NULL, "this text"}};

#define FLAGS_N (sizeof(flags) / sizeof(flags[0]))

static const flag_spec_t *find_flag(const char *word, size_t length) {
    for (size_t i = 0; i < FLAGS_N; i++) {
        if (strlen(flags[i].name) == length &&
            strncmp(flags[i].name, word, length) == 0) {
            return &flags[i];
        }
    }
    return NULL;
}

static bool parse_number(const char *text, uint64_t most, uint64_t *ret) {
    uint64_t value = 0;

    if (text[0] == '\0') {
        return false;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > most) {
            return false;
        }
    }
    *ret = value;
    return true;
}

static fleet_err_t take_duration(const flag_spec_t *spec, const char *value,
                                 uint64_t *ret_ms, fleet_reason_t *reason) {
    if (fleet_duration_parse(value, ret_ms)) {
        return FLEET_OK;
    }
    fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                      "\"%s\" is no duration for %s", value, spec->name);
    fleet_reason_hint(reason, "a number and its unit: 500ms 30s 10m 2h");
    return FLEET_BAD_ARGUMENT;
}

static fleet_err_t take_number(const flag_spec_t *spec, const char *value,
                               uint64_t *ret, fleet_reason_t *reason) {
    if (parse_number(value, FLEET_SEQ_MAX, ret)) {
        return FLEET_OK;
    }
    fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "\"%s\" is no number for %s",
                      value, spec->name);
    return FLEET_BAD_ARGUMENT;
}

static fleet_err_t take_text(const flag_spec_t *spec, const char *value,
                             size_t most, const char **ret,
                             fleet_reason_t *reason) {
    if (value[0] != '\0' && strlen(value) <= most) {
        *ret = value;
        return FLEET_OK;
    }
    fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                      "%s takes a text of 1 to %zu bytes", spec->name, most);
    return FLEET_BAD_ARGUMENT;
}

static fleet_err_t take_ignore(args_t *args, const char *value,
                               fleet_reason_t *reason) {
    fleet_err_t err = fleet_error_find(value);

    if (err == FLEET_OK) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                          "\"%s\" is no code of a reason", value);
        fleet_reason_hint(reason, "codes stand in brackets behind each reason");
        return FLEET_BAD_ARGUMENT;
    }
    if (!fleet_error_spec(err)->waivable) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "%s cannot be waived: %s",
                          value, fleet_error_spec(err)->meaning);
        return FLEET_BAD_ARGUMENT;
    }
    if (args->ignores_n == FLEET_IGNORES_MAX) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                          "at most %d reasons can be waived",
                          FLEET_IGNORES_MAX);
        return FLEET_BAD_ARGUMENT;
    }
    args->ignores[args->ignores_n++] = value;
    return FLEET_OK;
}

static fleet_err_t take_value(args_t *args, const flag_spec_t *spec,
                              const char *value, fleet_reason_t *reason) {
    switch (spec->flag) {
    case FLAG_TIMEOUT:
        return take_duration(spec, value, &args->timeout_ms, reason);
    case FLAG_WAIT:
        return take_duration(spec, value, &args->wait_ms, reason);
    case FLAG_SINCE:
        return take_number(spec, value, &args->since, reason);
    case FLAG_LIMIT:
        return take_number(spec, value, &args->limit, reason);
    case FLAG_TO:
        return take_number(spec, value, &args->to, reason);
    case FLAG_CONFIG:
        args->config = value;
        return FLEET_OK;
    case FLAG_SOCKET:
        args->socket = value;
        return FLEET_OK;
    case FLAG_REASON:
        return take_text(spec, value, FLEET_TEXT_MAX, &args->reason, reason);
    case FLAG_REQUEST:
        return take_text(spec, value, FLEET_ID_MAX, &args->request, reason);
    case FLAG_OWNER_IS_DOWN:
        return take_text(spec, value, FLEET_NAME_MAX, &args->owner_is_down,
                         reason);
    case FLAG_SET:
        return take_text(spec, value, FLEET_NAME_MAX, &args->set, reason);
    case FLAG_IGNORE:
        return take_ignore(args, value, reason);
    case FLAG_JSON:
    case FLAG_HELP:
    case FLAG_YES:
    case FLAG_FORCE:
    case FLAG_DRY_RUN:
    case FLAG_NO_WAIT:
    case FLAG_LOCAL:
    case FLAG_ALL:
    case FLAG_STEPS:
        break;
    }
    return FLEET_OK;
}

static fleet_err_t unknown_flag(const command_t *command, const char *word,
                                fleet_reason_t *reason) {
    const char *names[FLAGS_N];
    const char *nearest;
    size_t n = 0;

    for (size_t i = 0; i < FLAGS_N; i++) {
        if ((command->flags & flags[i].flag) != 0) {
            names[n++] = flags[i].name;
        }
    }
    nearest = fleet_name_nearest(word, names, n);
    fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "fleet %s takes no %s",
                      command->name, word);
    if (nearest != NULL) {
        fleet_reason_hint(reason, "%s?", nearest);
    } else {
        fleet_reason_hint(reason, "fleet %s --help", command->name);
    }
    return FLEET_BAD_ARGUMENT;
}

// One flag at argv[*at]; goes on to its value.
static fleet_err_t take_flag(int argc, char **argv, int *at,
                             const command_t *command, args_t *args,
                             fleet_reason_t *reason) {
    const char *word = argv[*at];
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const flag_spec_t *spec = find_flag(word, length);
    const char *value = equals != NULL ? equals + 1 : NULL;

    if (spec == NULL || (command->flags & spec->flag) == 0) {
        return unknown_flag(command, word, reason);
    }
    if (spec->value == NULL && value != NULL) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "%s takes no value",
                          spec->name);
        return FLEET_BAD_ARGUMENT;
    }
    if (spec->value != NULL && value == NULL) {
        if (*at + 1 >= argc) {
            fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "%s needs %s",
                              spec->name, spec->value);
            return FLEET_BAD_ARGUMENT;
        }
        value = argv[++*at];
    }
    args->given |= spec->flag;
    return spec->value != NULL ? take_value(args, spec, value, reason)
                               : FLEET_OK;
}

static fleet_err_t check_count(const command_t *command, const args_t *args,
                               fleet_reason_t *reason) {
    if (args->words_n >= command->least && args->words_n <= command->most) {
        return FLEET_OK;
    }
    if (args->words_n > command->most && command->most > 0) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                          "\"%s\" is one word too many for fleet %s",
                          args->words[command->most], command->name);
    } else if (args->words_n > command->most) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                          "fleet %s takes no arguments", command->name);
    } else {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "fleet %s needs %s",
                          command->name, command->arguments);
    }
    fleet_reason_hint(reason, "fleet %s %s", command->name, command->arguments);
    return FLEET_BAD_ARGUMENT;
}

static fleet_err_t check_together(const args_t *args, fleet_reason_t *reason) {
    if (args_have(args, FLAG_OWNER_IS_DOWN) && !args_have(args, FLAG_REASON)) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                          "--owner-is-down is your word, on record: it needs "
                          "--reason TEXT");
        return FLEET_BAD_ARGUMENT;
    }
    if (args_have(args, FLAG_WAIT) && args_have(args, FLAG_NO_WAIT)) {
        fleet_reason_make(reason, FLEET_BAD_ARGUMENT,
                          "--wait and --no-wait exclude each other");
        return FLEET_BAD_ARGUMENT;
    }
    return FLEET_OK;
}

// A command's name is one word or two.
static const command_t *find_command(int argc, char **argv, int *ret_used) {
    char two[64];

    for (size_t i = 0; i < commands_n; i++) {
        const char *name = commands[i].name;

        if (strcmp(name, argv[1]) == 0) {
            *ret_used = 2;
            return &commands[i];
        }
        if (argc < 3) {
            continue;
        }
        snprintf(two, sizeof(two), "%s %s", argv[1], argv[2]);
        if (strcmp(name, two) == 0) {
            *ret_used = 3;
            return &commands[i];
        }
    }
    return NULL;
}

static fleet_err_t unknown_command(int argc, char **argv,
                                   fleet_reason_t *reason) {
    const char *names[64];
    const char *nearest;
    char family[64];
    char members[128] = "";
    size_t n = 0;

    snprintf(family, sizeof(family), "%s ", argv[1]);
    for (size_t i = 0; i < commands_n && n < 64; i++) {
        size_t used = strlen(members);

        if (strncmp(commands[i].name, family, strlen(family)) == 0) {
            snprintf(members + used, sizeof(members) - used, " %s",
                     commands[i].name + strlen(family));
        }
        names[n++] = commands[i].name;
    }
    if (members[0] != '\0') {
        fleet_reason_make(
            reason, FLEET_BAD_ARGUMENT,
            argc > 2 && argv[2][0] != '-' ? "fleet %s %s is no command"
                                          : "fleet %s needs one of:%s",
            argv[1], argc > 2 && argv[2][0] != '-' ? argv[2] : members);
        fleet_reason_hint(reason, "fleet %s%s", argv[1], members);
        return FLEET_BAD_ARGUMENT;
    }
    nearest = fleet_name_nearest(argv[1], names, n);
    fleet_reason_make(reason, FLEET_BAD_ARGUMENT, "\"%s\" is no command",
                      argv[1]);
    fleet_reason_hint(reason, "fleet %s", nearest != NULL ? nearest : "help");
    return FLEET_BAD_ARGUMENT;
}

// --json and --help count wherever they stand: also an error is said in JSON.
static void look_ahead(int argc, char **argv, args_t *args) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            args->given |= FLAG_JSON;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            args->given |= FLAG_HELP;
        }
    }
}

// Flags may stand before the command too: they are moved behind its words.
static void move_leading_flags(int argc, char **argv) {
    char *leading[32];
    int n = 0;
    int end = 1;

    while (1 + n < argc && argv[1 + n][0] == '-' && n + 2 <= 32 &&
           strcmp(argv[1 + n], "--") != 0) {
        const flag_spec_t *spec = find_flag(argv[1 + n], strlen(argv[1 + n]));

        leading[n] = argv[1 + n];
        n++;
        if (spec != NULL && spec->value != NULL && 1 + n < argc) {
            leading[n] = argv[1 + n];
            n++;
        }
    }
    while (end < argc && strcmp(argv[end], "--") != 0) {
        end++;
    }
    if (n == 0 || 1 + n >= end) {
        return; // nothing to move, or no command behind them
    }
    memmove(&argv[1], &argv[1 + n], (size_t)(end - 1 - n) * sizeof(argv[0]));
    memcpy(&argv[end - n], leading, (size_t)n * sizeof(argv[0]));
}

fleet_err_t args_parse(int argc, char **argv, const command_t **ret_command,
                       args_t *ret_args, fleet_reason_t *ret_reason) {
    fleet_err_t err = FLEET_OK;
    int at = 1;

    memset(ret_args, 0, sizeof(*ret_args));
    ret_args->timeout_ms = 10000;
    *ret_command = NULL;
    look_ahead(argc, argv, ret_args);
    if (argc < 2) {
        fleet_reason_make(ret_reason, FLEET_BAD_ARGUMENT,
                          "what shall be done?");
        fleet_reason_hint(ret_reason, "fleet help");
        return FLEET_BAD_ARGUMENT;
    }
    move_leading_flags(argc, argv);
    *ret_command = find_command(argc, argv, &at);
    if (*ret_command == NULL) {
        return unknown_command(argc, argv, ret_reason);
    }
    if (args_have(ret_args, FLAG_HELP) || (*ret_command)->run == NULL) {
        return FLEET_OK;
    }
    for (; at < argc && err == FLEET_OK; at++) {
        if (strcmp(argv[at], "--") == 0) {
            ret_args->command = &argv[at + 1];
            break;
        }
        if (argv[at][0] == '-' && argv[at][1] != '\0') {
            err =
                take_flag(argc, argv, &at, *ret_command, ret_args, ret_reason);
        } else if (ret_args->words_n < ARGS_WORDS_MAX) {
            ret_args->words[ret_args->words_n++] = argv[at];
        }
    }
    if (err == FLEET_OK) {
        err = check_count(*ret_command, ret_args, ret_reason);
    }
    if (err == FLEET_OK) {
        err = check_together(ret_args, ret_reason);
    }
    return err;
}

// ------------------------------------------------------------------------ help

// A text in lines of at most 79 columns, each but the first indented.
static void print_wrapped(const char *text, int column) {
    int at = column;

    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        bool first = at == column;

        if (!first && at + 1 + length > 78) {
            printf("\n%*s", column, "");
            at = column;
            first = true;
        }
        at += printf("%s%.*s", first ? "" : " ", length, text);
        text += length;
        text += *text == ' ';
    }
    putchar('\n');
}

void args_help_command(const command_t *command) {
    printf("fleet %s %s\n\n  ", command->name, command->arguments);
    print_wrapped(command->summary, 2);
    if (command->more[0] != '\0') {
        printf("\n%s", command->more);
    }
    if (command->run == NULL) {
        printf("\n  This command comes with a later release.\n");
        return;
    }
    printf("\n");
    for (size_t i = 0; i < FLAGS_N; i++) {
        char left[64];

        if ((command->flags & flags[i].flag) == 0) {
            continue;
        }
        snprintf(left, sizeof(left), "%s%s%s", flags[i].name,
                 flags[i].value != NULL ? " " : "",
                 flags[i].value != NULL ? flags[i].value : "");
        printf("  %-22s  ", left);
        print_wrapped(flags[i].help, 26);
    }
}

void args_help(void) {
    printf("fleet moves service sets between the servers of a site.\n\n");
    for (size_t i = 0; i < commands_n; i++) {
        char left[64];

        if (commands[i].run == NULL) {
            continue;
        }
        snprintf(left, sizeof(left), "%s %s", commands[i].name,
                 commands[i].arguments);
        printf("  %-28s  ", left);
        if (strlen(left) > 28) {
            printf("\n%*s", 32, "");
        }
        print_wrapped(commands[i].summary, 32);
    }
    printf(
        "\n  fleet COMMAND --help says more of one of them.\n\n"
        "Exit status of what changes ownership: 0 as asked, 1 refused and "
        "nothing was\ntouched, 2 returned, 3 parked, 4 stuck, 5 not known "
        "to have ended, 64 arguments,\n69 no broker, 70 a bug, 75 ask again "
        "later, 77 not permitted, 78 client file or\nkey, 130 Ctrl-C.\n");
}
