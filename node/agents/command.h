// SPDX-License-Identifier: MIT
//
// Commands of a definition: one string, split into words like ExecStart= of
// systemd, run without a shell, with a limit, a clean environment and its last
// words kept.  For agents, which may block.

#ifndef FLEET_NODE_COMMAND_H
#define FLEET_NODE_COMMAND_H

#include "node/agents/agent.h"

#define COMMAND_WORDS_MAX 64

typedef struct command_words {
    size_t n;                          // at least 1
    char *argv[COMMAND_WORDS_MAX + 1]; // into text; ends with NULL
    char text[2 * (FLEET_TEXT_MAX + 1)];
} command_words_t;

// Splits at white space.  "..." and '...' keep it, also inside a word; a
// backslash and one of  a b f n r t v s \ " '  or xHH or three octal digits is
// that byte, also inside quotes.  Nothing else is special: no variables, no
// patterns. False, with ret_why, for an empty line, an open quote, an unknown
// escape, too many words.  ret_words must not be moved afterwards (argv points
// into it).
bool command_split(const char *line, command_words_t *ret_words,
                   fleet_text_t ret_why);

// The file that a command's first word names: itself if it has a slash, else
// the first executable of that name in the fixed search path.  False, with
// ret_why, if it is not there or cannot be executed.
bool command_find(const char *word, fleet_text_t ret_path,
                  fleet_text_t ret_why);

typedef struct command {
    const char *line;
    const agent_ctx_t *ctx; // FLEET_SET FLEET_NODE FLEET_TOKEN FLEET_RESOURCE
    const char *user;       // NULL or empty: as this process
    int cgroup;        // descriptor of the group that it is born in; -1: none
    uint64_t limit_ms; // then SIGKILL to its process group
} command_t;

typedef struct command_end {
    bool ok;         // it ran and returned 0
    bool over_limit; // it was killed at the limit
    int status;      // exit status; -1 if it did not run or did not exit
    fleet_text_t
        text; // "exit status 1", "killed by signal 11 (...)", why not run
    fleet_words_t said; // the last 1 KiB of its output, valid UTF-8
} command_end_t;

// Runs it and waits for the process itself, not for what it left in the
// background.
void command_run(const command_t *command, command_end_t *ret_end);

#endif
