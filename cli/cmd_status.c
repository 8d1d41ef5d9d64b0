// SPDX-License-Identifier: MIT
//
// The status screens: what is wrong first, then who owns what.  Three nodes fit
// a screen; at three hundred there are counts, and only what is not as wanted.

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/local.h"
#include "cli/rows.h"
#include "cli/screen.h"
#include "proto/text.h"

// Above so many, only what is not as wanted has a line, unless --all.
#define NODES_FEW 16
#define SETS_FEW 24
#define NAMES_FEW 8 // sets of one node that are named

static bool node_is_well(const fleet_node_row_t *node) {
    return node->state == fleet_node_state_ONLINE && !node->draining &&
           node->frozen[0] == '\0' && node->debts == 0;
}

static bool set_is_well(const fleet_set_row_t *set) {
    fleet_set_state_t wanted =
        set->wanted_up ? fleet_set_state_RUNNING : fleet_set_state_PARKED;

    return set->state == wanted && set->transfer == 0 && !set->pending &&
           set->frozen[0] == '\0' && set->problems_n == 0;
}

// What needs attention is said in capitals; nothing is said by colour alone.
static void state_word(const char *word, bool well, char text[40]) {
    if (well) {
        snprintf(text, 40, "%s", word);
    } else {
        screen_upper(word, text, 40);
    }
}

static bool is_calm(fleet_set_state_t state) {
    return state == fleet_set_state_RUNNING ||
           state == fleet_set_state_PARKED ||
           state == fleet_set_state_STARTING ||
           state == fleet_set_state_STOPPING;
}

// ----------------------------------------------------------------- the
// headline

static void print_headline(const cli_t *cli, const rows_t *rows) {
    const fleet_status_head_t *head = &rows->head;
    size_t critical = 0;
    size_t warnings = 0;
    char left[256];
    char time[32];
    char right[48] = "all well";

    for (size_t i = 0; i < rows->problems.n; i++) {
        fleet_severity_t severity =
            rows->problems.items[i]->problem.reason.severity;

        critical += severity == fleet_severity_CRITICAL;
        warnings += severity == fleet_severity_WARNING;
    }
    if (critical > 0) {
        snprintf(right, sizeof(right), "%zu PROBLEM%s", critical,
                 critical > 1 ? "S" : "");
    } else if (warnings > 0) {
        snprintf(right, sizeof(right), "%zu warning%s", warnings,
                 warnings > 1 ? "s" : "");
    }
    fleet_time_print(head->time_us, time);
    if (strlen(time) > 19) {
        time[10] = ' ';
        time[19] = 'Z';
        time[20] = '\0';
    }
    snprintf(left, sizeof(left),
             "%s  broker %s term %" PRIu64 " seq %" PRIu64 "  %s", head->site,
             head->broker, head->term, head->seq, time);
    fprintf(cli->out, "%s%*s\n", left, 78 - (int)strlen(left), right);
    if (head->no_lapse_ms > 0) {
        char left_ms[32];

        screen_age(head->no_lapse_ms * 1000, left_ms, sizeof(left_ms));
        fprintf(cli->out,
                "  the broker has just begun its reign: no lapse can be seen "
                "for another %s\n",
                left_ms);
    }
}

static void print_problems(const cli_t *cli, const rows_t *rows) {
    if (rows->problems.n > 0) {
        fputc('\n', cli->out);
    }
    for (size_t i = 0; i < rows->problems.n; i++) {
        const fleet_reason_t *reason = &rows->problems.items[i]->problem.reason;

        fprintf(cli->out, "%2zu ", i + 1);
        cli_print_reason(cli->out, 4, 3, reason);
        if (reason->hint[0] != '\0') {
            fputs("    >  ", cli->out);
            cli_print_wrapped(cli->out, 7, 7, reason->hint);
        }
    }
}

// ------------------------------------------------------------------- the
// tables

static const fleet_set_row_t *find_set(const rows_t *rows, const char *name) {
    for (size_t i = 0; i < rows->sets.n; i++) {
        if (strcmp(rows->sets.items[i]->set_row.name, name) == 0) {
            return &rows->sets.items[i]->set_row;
        }
    }
    return NULL;
}

static void add_word(char *text, size_t size, const char *word) {
    size_t used = strlen(text);

    snprintf(text + used, size - used, "%s%s", used > 0 ? " " : "", word);
}

// "www mail (starting) and 12 more; draining"
static void sets_of(const rows_t *rows, const fleet_node_row_t *node, bool all,
                    char *text, size_t size) {
    char word[96];

    text[0] = '\0';
    for (uint32_t i = 0; i < node->sets_n; i++) {
        const fleet_set_row_t *set = find_set(rows, node->sets[i].name);

        if (!all && i == NAMES_FEW && node->sets_n > NAMES_FEW + 1) {
            snprintf(word, sizeof(word), "and %" PRIu32 " more",
                     node->sets_n - i);
            add_word(text, size, word);
            break;
        }
        if (set == NULL || set->state == fleet_set_state_RUNNING) {
            snprintf(word, sizeof(word), "%s", node->sets[i].name);
        } else {
            snprintf(word, sizeof(word), "%s (%s)", node->sets[i].name,
                     fleet_set_state_word(set->state));
        }
        add_word(text, size, word);
    }
    if (node->draining) {
        add_word(text, size, "[draining]");
    }
    if (node->frozen[0] != '\0') {
        add_word(text, size, "[frozen]");
    }
    if (node->debts > 0) {
        snprintf(word, sizeof(word), "[must still drop %" PRIu64 " set%s]",
                 node->debts, node->debts > 1 ? "s" : "");
        add_word(text, size, word);
    }
}

static void add_node(screen_t *screen, const rows_t *rows,
                     const fleet_node_row_t *node, bool all) {
    char state[40];
    char heard[32] = "-";
    char slots[48] = "-";
    char sets[SCREEN_CELL_MAX];

    state_word(fleet_node_state_word(node->state),
               node->state == fleet_node_state_ONLINE ||
                   node->state == fleet_node_state_NEW,
               state);
    if (node->state != fleet_node_state_NEW && node->heard) {
        screen_age(node->lease_age_ms * 1000, heard, sizeof(heard));
    } else if (node->state != fleet_node_state_NEW) {
        snprintf(heard, sizeof(heard), "not yet");
    }
    if (node->state == fleet_node_state_ONLINE) {
        snprintf(slots, sizeof(slots), "%" PRIu64 "/%" PRIu64,
                 node->slots - node->slots_free, node->slots);
    }
    sets_of(rows, node, all, sets, sizeof(sets));
    screen_add(screen, (const char *[]){node->name, state, heard, slots,
                                        sets[0] != '\0' ? sets : "-"});
}

static void print_nodes(const cli_t *cli, const rows_t *rows) {
    static const char *const heads[] = {"NODE",  "STATE", "HEARD",
                                        "SLOTS", "SETS",  NULL};
    bool all = cli_have(cli, FLAG_ALL);
    bool few = all || rows->nodes.n <= NODES_FEW;
    screen_t *screen = screen_new(heads);
    size_t states[4] = {0};
    size_t draining = 0;

    for (size_t i = 0; i < rows->nodes.n; i++) {
        const fleet_node_row_t *node = &rows->nodes.items[i]->node_row;

        states[node->state]++;
        draining += node->draining;
        if (few || !node_is_well(node)) {
            add_node(screen, rows, node, all);
        }
    }
    if (!few) {
        fprintf(cli->out, "\n%zu nodes: ", rows->nodes.n);
        for (int state = 3; state >= 0; state--) {
            static const int order[] = {0, 3, 2, 1};

            if (states[order[state]] > 0) {
                fprintf(
                    cli->out, "%zu %s  ", states[order[state]],
                    fleet_node_state_word((fleet_node_state_t)order[state]));
            }
        }
        if (draining > 0) {
            fprintf(cli->out, "%zu draining  ", draining);
        }
        fputs("(--all lists each)\n", cli->out);
    }
    if (screen_rows(screen) > 0) {
        fputc('\n', cli->out);
        screen_print(screen, cli->out, cli->width);
    }
    screen_destroy(&screen);
}

static void address_of(const fleet_set_row_t *set, char *text, size_t size) {
    if (set->addresses_n == 0) {
        snprintf(text, size, "-");
        return;
    }
    snprintf(text, size, "%.*s", (int)strcspn(set->addresses[0].address, "/"),
             set->addresses[0].address);
    if (set->addresses_n > 1) {
        size_t used = strlen(text);

        snprintf(text + used, size - used, " +%" PRIu32, set->addresses_n - 1);
    }
}

static void could_go_to(const fleet_set_row_t *set, char *text, size_t size) {
    text[0] = '\0';
    for (uint32_t i = 0; i < set->ready_nodes_n; i++) {
        if (i == NAMES_FEW && set->ready_nodes_n > NAMES_FEW + 1) {
            char word[48];

            snprintf(word, sizeof(word), "and %" PRIu32 " more",
                     set->ready_nodes_n - i);
            add_word(text, size, word);
            break;
        }
        add_word(text, size, set->ready_nodes[i].name);
    }
    if (set->ready_nodes_n == 0) {
        snprintf(text, size, "-");
    }
    if (set->pending) {
        add_word(text, size, "[changed: at its next start]");
    }
    if (set->frozen[0] != '\0') {
        add_word(text, size, "[frozen]");
    }
}

static void age_of(const rows_t *rows, uint64_t since_us, char *text,
                   size_t size) {
    if (since_us == 0 || rows->head.time_us < since_us) {
        snprintf(text, size, "-");
    } else {
        screen_age(rows->head.time_us - since_us, text, size);
    }
}

static void add_set(screen_t *screen, const rows_t *rows,
                    const fleet_set_row_t *set) {
    char state[40];
    char age[32];
    char token[32] = "-";
    char address[80];
    char others[SCREEN_CELL_MAX];

    state_word(fleet_set_state_word(set->state),
               is_calm(set->state) &&
                   !(set->state == fleet_set_state_PARKED && set->wanted_up),
               state);
    age_of(rows, set->since_us, age, sizeof(age));
    if (set->token > 0) {
        snprintf(token, sizeof(token), "%" PRIu64, set->token);
    }
    address_of(set, address, sizeof(address));
    could_go_to(set, others, sizeof(others));
    screen_add(screen,
               (const char *[]){set->name, state,
                                set->owner[0] != '\0' ? set->owner : "-", age,
                                token, address, others});
}

static void print_set_counts(const cli_t *cli, const rows_t *rows) {
    static const fleet_set_state_t order[] = {
        fleet_set_state_RUNNING,  fleet_set_state_DEGRADED,
        fleet_set_state_STARTING, fleet_set_state_STOPPING,
        fleet_set_state_PARKED,   fleet_set_state_STUCK,
        fleet_set_state_UNKNOWN};

    fprintf(cli->out, "\n%zu sets: ", rows->sets.n);
    for (size_t s = 0; s < sizeof(order) / sizeof(order[0]); s++) {
        size_t n = 0;

        for (size_t i = 0; i < rows->sets.n; i++) {
            n += rows->sets.items[i]->set_row.state == order[s];
        }
        if (n > 0) {
            fprintf(cli->out, "%zu %s  ", n, fleet_set_state_word(order[s]));
        }
    }
    fputs("(--all lists each)\n", cli->out);
}

static void print_sets(const cli_t *cli, const rows_t *rows) {
    static const char *const heads[] = {"SET",         "STATE",  "OWNER",
                                        "FOR",         ">TOKEN", "ADDRESS",
                                        "COULD GO TO", NULL};
    bool few = cli_have(cli, FLAG_ALL) || rows->sets.n <= SETS_FEW;
    screen_t *screen = screen_new(heads);

    for (size_t i = 0; i < rows->sets.n; i++) {
        const fleet_set_row_t *set = &rows->sets.items[i]->set_row;

        if (few || !set_is_well(set)) {
            add_set(screen, rows, set);
        }
    }
    if (!few) {
        print_set_counts(cli, rows);
    }
    if (screen_rows(screen) > 0) {
        fputc('\n', cli->out);
        screen_print(screen, cli->out, cli->width);
    }
    screen_destroy(&screen);
}

static void print_transfers(const cli_t *cli, const rows_t *rows) {
    for (size_t i = 0; i < rows->transfers.n; i++) {
        const fleet_transfer_t *t = &rows->transfers.items[i]->transfer;
        char age[32];

        age_of(rows, t->requested_us, age, sizeof(age));
        fprintf(cli->out, "%st%" PRIu64 "  %s of %s%s%s%s%s  for %s, by %s\n",
                i == 0 ? "\n" : "", t->transfer, fleet_kind_word(t->kind),
                t->set, t->from[0] != '\0' ? " from " : "", t->from,
                t->to[0] != '\0' ? " to " : "", t->to, age, t->by);
    }
}

// --------------------------------------------------------------------- one
// name

static void print_readiness(const cli_t *cli, const rows_t *rows) {
    if (rows->checks.n > 0) {
        fputs("\nwould it start on\n", cli->out);
    }
    for (size_t i = 0; i < rows->checks.n; i++) {
        const fleet_check_row_t *row = &rows->checks.items[i]->check_row;

        fprintf(cli->out, "  %-10s  %s\n", row->node,
                row->ready == fleet_ready_YES  ? "yes"
                : row->ready == fleet_ready_NO ? "NO"
                                               : "not known");
        for (uint32_t p = 0; p < row->problems_n; p++) {
            cli_print_reason(cli->out, 14, 0, &row->problems[p]);
        }
    }
}

static void print_past(const cli_t *cli, const rows_t *rows) {
    if (rows->transfers.n > 0) {
        fputs("\nlast transfers\n", cli->out);
    }
    for (size_t i = 0; i < rows->transfers.n; i++) {
        const fleet_transfer_t *t = &rows->transfers.items[i]->transfer;
        char time[32];

        fleet_time_print(t->requested_us, time);
        if (strlen(time) > 19) {
            time[10] = ' ';
            time[19] = '\0';
        }
        fprintf(cli->out, "  %s  t%-6" PRIu64 "  %-8s  %-8s  %s%s%s  by %s\n",
                time, t->transfer, fleet_outcome_word(t->outcome),
                fleet_kind_word(t->kind), t->from,
                t->from[0] != '\0' && t->to[0] != '\0' ? " -> " : "", t->to,
                t->by);
    }
}

static int print_set_details(cli_t *cli, const fleet_set_row_t *set) {
    fleet_message_t question = {.type = FLEET_MESSAGE_check_ask};
    rows_t *more = rows_new();
    fleet_end_t end;
    int status;

    fprintf(cli->out,
            "\n  disk group  %s\n  mac         %s\n  home        %s\n",
            set->disk_group[0] != '\0' ? set->disk_group : "-",
            set->mac[0] != '\0' ? set->mac : "-",
            set->home[0] != '\0' ? set->home : "-");
    for (uint32_t i = 0; i < set->addresses_n; i++) {
        fprintf(cli->out, "  address     %s\n", set->addresses[i].address);
    }
    FLEET_COPY(question.check_ask.set, set->name);
    status = cli_ask(cli, &question, rows_take, more, &end);
    if (status == EXIT_OK) {
        memset(&question, 0, sizeof(question));
        question.type = FLEET_MESSAGE_history_ask;
        FLEET_COPY(question.history_ask.set, set->name);
        question.history_ask.limit = 3;
        status = cli_ask(cli, &question, rows_take, more, &end);
    }
    if (status == EXIT_OK) {
        rows_sort(more);
        print_readiness(cli, more);
        print_past(cli, more);
    }
    rows_destroy(&more);
    return status;
}

static int print_status(cli_t *cli, const rows_t *rows, const char *name) {
    print_headline(cli, rows);
    print_problems(cli, rows);
    if (rows->nodes.n > 0) {
        print_nodes(cli, rows);
    }
    if (rows->sets.n > 0) {
        print_sets(cli, rows);
    }
    print_transfers(cli, rows);
    if (rows->nodes.n == 0 && rows->sets.n == 0) {
        fputs(
            "\nno nodes and no sets yet.  fleet keys admit node NAME HEX, "
            "then fleet apply FILE\n",
            cli->out);
    }
    if (name[0] != '\0' && rows->sets.n == 1) {
        return print_set_details(cli, &rows->sets.items[0]->set_row);
    }
    return EXIT_OK;
}

// The broker knows no such name: which one was meant?
static int unknown_name(cli_t *cli, const char *name) {
    cli_names_t *names = cli_names_new(cli);
    const char *near = NULL;
    fleet_reason_t reason;

    fleet_reason_make(&reason, FLEET_SET_UNKNOWN,
                      "no set and no node has the name \"%s\"", name);
    if (names != NULL) {
        near = cli_nearest_set(names, name);
        near = near != NULL ? near : cli_nearest_node(names, name);
        fleet_reason_hint(&reason, "fleet status %s", near != NULL ? near : "");
        free(names);
    }
    return cli_fail(cli, &reason);
}

int cmd_status(cli_t *cli) {
    fleet_message_t question = {.type = FLEET_MESSAGE_status_ask};
    fleet_name_t name = "";
    fleet_reason_t reason;
    fleet_end_t end;
    rows_t *rows;
    fleet_err_t err;
    int status = EXIT_OK;

    if (cli_have(cli, FLAG_LOCAL)) {
        return local_status(cli);
    }
    if (cli->args.words_n > 0) {
        status = cli_take_name(cli, cli->args.words[0], "set or node", &name);
    }
    status = status == EXIT_OK ? cli_connect(cli) : status;
    if (status != EXIT_OK) {
        return status;
    }
    rows = rows_new();
    FLEET_COPY(question.status_ask.name, name);
    err = fleet_client_ask(cli->client, &question, rows_take, rows, &end,
                           &reason);
    if (err == FLEET_SET_UNKNOWN || err == FLEET_NODE_UNKNOWN ||
        (err == FLEET_OK && name[0] != '\0' && rows->nodes.n == 0 &&
         rows->sets.n == 0)) {
        status = unknown_name(cli, name);
    } else if (err != FLEET_OK) {
        status = cli_interrupted ? EXIT_INTERRUPTED : cli_fail(cli, &reason);
    } else {
        rows_sort(rows);
        if (cli_have(cli, FLAG_JSON)) {
            status = cli_document(cli, rows_status_json(cli, rows), EXIT_OK);
        } else {
            status = print_status(cli, rows, name);
        }
    }
    rows_destroy(&rows);
    return status;
}
