// SPDX-License-Identifier: MIT
//
// Units of systemd over the system bus.  Every call connects, does one thing
// and lets go; all block, for agents' children only.

#ifndef FLEET_NODE_SYSTEMD_H
#define FLEET_NODE_SYSTEMD_H

#include "node/agents/agent.h"

// Starts or stops the unit and waits for systemd's job to end.  Success only
// for the job's result "done"; else result->err is `err`, with what systemd
// said.
void systemd_start(const char *unit, uint64_t limit_ms, agent_result_t *result);
void systemd_stop(const char *unit, uint64_t limit_ms, agent_result_t *result);

// result->found by the unit's ActiveState; the words of the state in its text.
void systemd_probe(const char *unit, agent_result_t *result);

// True if systemd runs here and knows the unit; else ret_why.
bool systemd_knows(const char *unit, fleet_text_t ret_why);

#endif
