// SPDX-License-Identifier: MIT
//
// A transfer for people: its steps as they happen, and how it ended.  On a
// terminal the line of the running step is redrawn; piped, there is one line
// for each finished step.

#ifndef FLEET_CLI_LIVE_H
#define FLEET_CLI_LIVE_H

#include "cli/cli.h"

// A step that has begun and not ended.
typedef struct live_step {
    fleet_step_t step;
    uint64_t since_ms; // own clock, when it was heard of
} live_step_t;

#define LIVE_RUNNING_MAX 16

typedef struct live {
    FILE *out;
    bool redraw;
    int width;
    int node_width;
    bool waits;   // this kind of transfer makes clients wait
    bool waiting; // the line "clients wait from here" was printed
    bool waited;  // the line "clients waited" was printed
    bool running_shown;
    uint32_t running_n;
    live_step_t running[LIVE_RUNNING_MAX];
} live_t;

void live_begin(live_t *live, const cli_t *cli, bool clients_wait);

// Begins, goes on with or ends a step.
void live_step(live_t *live, const fleet_step_t *step);

// Draws the running line again, if there is one: time goes on.
void live_tick(live_t *live);

// Clears the running line; says how long clients waited, if that is known.
void live_end(live_t *live, const fleet_transfer_t *transfer);

// How a transfer ended, in words, with what to do next.  wanted is what was
// asked for: it tells an asked-for parking from one that went wrong.
void live_outcome(FILE *out, const fleet_transfer_t *transfer);

// Exit status of an ended transfer; as_asked: a parking was what was wanted.
int live_status(const fleet_transfer_t *transfer);

#endif
