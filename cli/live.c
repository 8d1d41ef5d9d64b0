// SPDX-License-Identifier: MIT
//
// Draws the steps of a transfer.  Knows columns and lines, not how it was asked
// for.

#include "cli/live.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/text.h"

#define STEP_WIDTH 7
#define RESOURCE_WIDTH 10
#define TIME_WIDTH 9
#define RULE_WIDTH 76

static uint64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void live_begin(live_t *live, const cli_t *cli, bool clients_wait) {
    memset(live, 0, sizeof(*live));
    live->out = cli->out;
    live->redraw = cli->terminal;
    live->width = cli->width;
    live->node_width = 6;
    live->waits = clients_wait;
}

static void clear_running(live_t *live) {
    if (live->running_shown) {
        fputs("\r\033[K", live->out);
        live->running_shown = false;
    }
}

static void rule(FILE *out, const char *text) {
    int n = fprintf(out, "  -------- %s ", text);

    for (; n < RULE_WIDTH; n++) {
        fputc('-', out);
    }
    fputc('\n', out);
}

// From the first thing that stops on, clients notice.
static void note_waiting(live_t *live, const fleet_step_t *step) {
    bool stops = strcmp(step->step, "stop") == 0 ||
                 strcmp(step->step, "release") == 0 ||
                 strcmp(step->step, "evict") == 0;

    if (live->waits && stops && !live->waiting) {
        clear_running(live);
        rule(live->out, "clients wait from here");
        live->waiting = true;
    }
}

// A text cut to so many columns; ends in ".." where it was cut.
static int print_cut(FILE *out, const char *text, int width) {
    int n = 0;
    const char *at = text;
    const char *cut = text; // the end of what fits beside ".."

    while (*at != '\0' && *at != '\n') {
        int size = 1;

        while ((at[size] & 0xc0) == 0x80) {
            size++;
        }
        if (n == width) {
            fprintf(out, "%.*s..", (int)(cut - text), text);
            return width;
        }
        at += size;
        n++;
        if (n <= width - 2) {
            cut = at;
        }
    }
    fprintf(out, "%.*s", (int)(at - text), text);
    return n;
}

static int detail_width(const live_t *live) {
    int used = 2 + STEP_WIDTH + 2 + live->node_width + 2 + RESOURCE_WIDTH + 2 +
               TIME_WIDTH + 1;

    return live->width - used > 12 ? live->width - used : 12;
}

static void print_line(live_t *live, const char *mark, const fleet_step_t *step,
                       const char *detail, uint64_t us, bool newline) {
    const char *resource =
        step->resource[0] != '\0' ? step->resource : step->set;
    int width = detail_width(live);
    int over = (int)strlen(resource) - RESOURCE_WIDTH;
    char took[32];
    int n;

    if ((int)strlen(step->node) > live->node_width) {
        live->node_width = (int)strlen(step->node);
    }
    if (over > 0) {
        width = width - over > 4 ? width - over : 4;
    }
    fleet_duration_print(us, took, sizeof(took));
    fprintf(live->out, "%s %-*s  %-*s  %-*s  ", mark, STEP_WIDTH, step->step,
            live->node_width, step->node, RESOURCE_WIDTH, resource);
    n = print_cut(live->out, detail, width);
    fprintf(live->out, "%*s%*s", n < width ? width - n : 0, "", TIME_WIDTH,
            took);
    if (newline) {
        fputc('\n', live->out);
    }
}

void live_tick(live_t *live) {
    const live_step_t *last;
    fleet_text_t detail;

    if (!live->redraw || live->running_n == 0) {
        return;
    }
    clear_running(live);
    last = &live->running[live->running_n - 1];
    if (live->running_n > 1) {
        FLEET_FORMAT(detail, "(+%" PRIu32 ") %s", live->running_n - 1,
                     last->step.detail);
    } else {
        FLEET_COPY(detail, last->step.detail);
    }
    print_line(live, ">", &last->step, detail,
               last->step.us + (now_ms() - last->since_ms) * 1000, false);
    live->running_shown = true;
    fflush(live->out);
}

static live_step_t *find_running(live_t *live, const fleet_step_t *step) {
    for (uint32_t i = 0; i < live->running_n; i++) {
        const fleet_step_t *other = &live->running[i].step;

        if (strcmp(other->node, step->node) == 0 &&
            strcmp(other->resource, step->resource) == 0 &&
            strcmp(other->step, step->step) == 0) {
            return &live->running[i];
        }
    }
    return NULL;
}

static void finish_step(live_t *live, const fleet_step_t *step) {
    live_step_t *running = find_running(live, step);

    if (running != NULL) {
        size_t after = live->running_n - (size_t)(running - live->running) - 1;

        memmove(running, running + 1, after * sizeof(*running));
        live->running_n--;
    }
    clear_running(live);
    print_line(live, step->ok ? " " : "!", step, step->ok ? step->detail : "",
               step->us, true);
    if (!step->ok) {
        fprintf(live->out, "%*s", 11, "");
        cli_print_wrapped(live->out, 11, 11,
                          step->detail[0] != '\0' ? step->detail : "failed");
    }
    if (!step->ok && step->said[0] != '\0') {
        fprintf(live->out, "%*s", 11, "");
        cli_print_wrapped(live->out, 11, 11, step->said);
    }
}

void live_step(live_t *live, const fleet_step_t *step) {
    live_step_t *running;

    note_waiting(live, step);
    if (!step->running) {
        finish_step(live, step);
    } else {
        running = find_running(live, step);
        if (running == NULL && live->running_n < LIVE_RUNNING_MAX) {
            running = &live->running[live->running_n++];
        }
        if (running != NULL) {
            running->step = *step;
            running->since_ms = now_ms();
        }
    }
    live_tick(live);
    fflush(live->out);
}

void live_end(live_t *live, const fleet_transfer_t *transfer) {
    char line[64];
    char waited[32];

    clear_running(live);
    live->running_n = 0;
    if (live->waiting && transfer->ended_us != 0 && transfer->pause_us != 0 &&
        (transfer->outcome == fleet_outcome_MOVED ||
         transfer->outcome == fleet_outcome_RETURNED)) {
        fleet_duration_print(transfer->pause_us, waited, sizeof(waited));
        snprintf(line, sizeof(line), "clients waited %s", waited);
        rule(live->out, line);
    }
    fflush(live->out);
}

// --------------------------------------------------------------------- outcome

static bool parking_wanted(const fleet_transfer_t *transfer) {
    return transfer->kind == fleet_kind_STOP ||
           transfer->kind == fleet_kind_UNLOCK;
}

int live_status(const fleet_transfer_t *transfer) {
    switch (transfer->outcome) {
    case fleet_outcome_MOVED:
        return EXIT_OK;
    case fleet_outcome_RETURNED:
        return EXIT_RETURNED;
    case fleet_outcome_PARKED:
        return parking_wanted(transfer) ? EXIT_OK : EXIT_PARKED;
    case fleet_outcome_STUCK:
        return EXIT_STUCK;
    case fleet_outcome_REFUSED:
        return cli_refusal_status(transfer->reasons, transfer->reasons_n);
    case fleet_outcome_UNFINISHED:
        break;
    }
    return EXIT_UNFINISHED;
}

static void print_reasons(FILE *out, const fleet_transfer_t *transfer) {
    for (uint32_t i = 0; i < transfer->reasons_n; i++) {
        cli_print_reason(out, 4, 0, &transfer->reasons[i]);
    }
    if (transfer->said[0] != '\0') {
        fputs("    it said:  ", out);
        cli_print_wrapped(out, 14, 14, transfer->said);
    }
}

static void print_hints(FILE *out, const fleet_transfer_t *transfer) {
    bool any = false;

    for (uint32_t i = 0; i < transfer->reasons_n; i++) {
        any = any || transfer->reasons[i].hint[0] != '\0';
    }
    cli_print_hints(out, transfer->reasons, transfer->reasons_n);
    if (!any) {
        fprintf(out, "  what is the matter:  fleet status %s\n", transfer->set);
    }
}

static void print_moved(FILE *out, const fleet_transfer_t *t) {
    char total[32];

    fleet_duration_print(t->total_us, total, sizeof(total));
    switch (t->kind) {
    case fleet_kind_START:
    case fleet_kind_BOOT:
        fprintf(out,
                "moved  %s runs on %s, token %" PRIu64 " (started in %s)\n",
                t->set, t->to, t->token, total);
        break;
    case fleet_kind_RESTART:
        fprintf(out,
                "moved  %s was restarted on %s, token %" PRIu64
                ".  %s in all.\n",
                t->set, t->to[0] != '\0' ? t->to : t->from, t->token, total);
        break;
    case fleet_kind_NONE:
    case fleet_kind_MOVE:
    case fleet_kind_STOP:
    case fleet_kind_UNLOCK:
    case fleet_kind_FORCED:
    case fleet_kind_TAKEOVER:
        fprintf(out, "moved  %s is on %s, token %" PRIu64 ".  %s in all.",
                t->set, t->to, t->token, total);
        if (t->kind == fleet_kind_MOVE && t->from[0] != '\0') {
            fprintf(out, "\n  undo:  fleet move %s %s", t->set, t->from);
        } else if (t->evidence != fleet_evidence_NONE) {
            fprintf(out, "  Evidence: %s.", fleet_evidence_word(t->evidence));
        }
        fputc('\n', out);
        break;
    }
}

static void print_already(FILE *out, const fleet_transfer_t *t) {
    const char *where = t->to[0] != '\0' ? t->to : t->from;

    if (t->outcome == fleet_outcome_PARKED) {
        fprintf(out, "parked  %s is down already.  Nothing was done.\n",
                t->set);
    } else if (t->outcome == fleet_outcome_MOVED) {
        fprintf(out,
                "moved  %s is on %s already, token %" PRIu64
                ".  Nothing was done.\n",
                t->set, where, t->token);
    }
}

static void print_returned(FILE *out, const fleet_transfer_t *t) {
    char waited[32];

    fprintf(out, "returned  %s runs on %s%s", t->set, t->from,
            t->changed ? " again" : " as before");
    if (t->changed) {
        fprintf(out, " (token %" PRIu64 ")", t->token);
    }
    fprintf(out, "; it did not move%s%s\n", t->to[0] != '\0' ? " to " : "",
            t->to);
    print_reasons(out, t);
    if (t->pause_us != 0) {
        fleet_duration_print(t->pause_us, waited, sizeof(waited));
        fprintf(out, "  clients waited %s.  ", waited);
    } else {
        fprintf(out, "  clients noticed nothing.  ");
    }
    fprintf(out, "Look first next time:  fleet check %s\n", t->set);
}

static void print_parked(FILE *out, const fleet_transfer_t *t) {
    if (parking_wanted(t)) {
        fprintf(out,
                "parked  %s is down, nobody holds it, its disk is free.   "
                "start it: fleet start %s\n",
                t->set, t->set);
        return;
    }
    fprintf(out, "parked  %s is down: it runs nowhere, nobody holds it\n",
            t->set);
    print_reasons(out, t);
    print_hints(out, t);
    fprintf(out, "  try again:  fleet start %s\n", t->set);
}

void live_outcome(FILE *out, const fleet_transfer_t *t) {
    if (!t->changed && t->transfer == 0) {
        print_already(out, t);
        return;
    }
    switch (t->outcome) {
    case fleet_outcome_MOVED:
        print_moved(out, t);
        break;
    case fleet_outcome_RETURNED:
        print_returned(out, t);
        break;
    case fleet_outcome_PARKED:
        print_parked(out, t);
        break;
    case fleet_outcome_STUCK:
        fprintf(out,
                "stuck  %s is held, and can neither be let go nor run there\n",
                t->set);
        print_reasons(out, t);
        print_hints(out, t);
        break;
    case fleet_outcome_REFUSED:
    case fleet_outcome_UNFINISHED:
        break;
    }
}
