// SPDX-License-Identifier: MIT
//
// Questions to fleet-node on this machine, over its local socket; no broker and
// no key is needed for them.

#ifndef FLEET_CLI_LOCAL_H
#define FLEET_CLI_LOCAL_H

#include "cli/cli.h"

// Connects and asks.  The descriptor, or -1 if nobody answers there; why is
// then in ret_reason (no-agent).
int local_ask(const cli_t *cli, fleet_local_verb_t verb, const char *set,
              fleet_reason_t *ret_reason);

// The next message of an answer.  False at the end of the connection, after
// limit_ms (-1: none), or if interrupted.
bool local_read(int fd, int limit_ms, fleet_message_t *ret_message);

// fleet status --local
int local_status(cli_t *cli);

#endif
