// SPDX-License-Identifier: MIT
//
// How a command ends: its document, its refusal, its exit status.  People read
// what failed and whether anything was touched, each reason with its code at
// the right edge, and what to do next.

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/text.h"

#define COLUMNS 78

json_t *cli_document_new(const cli_t *cli) {
    return fleet_document_json(cli->site);
}

int cli_document(cli_t *cli, json_t *document, int status) {
    bool written = true;

    if (cli_have(cli, FLAG_JSON)) {
        written =
            fleet_json_write(stdout, document, isatty(STDOUT_FILENO) == 1);
    }
    json_decref(document);
    return written ? status : EXIT_BUG;
}

// Columns that a text takes: one for each character, as far as we know.
static int columns(const char *text, int bytes) {
    int n = 0;

    for (int i = 0; i < bytes; i++) {
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return n;
}

// Prints wrapped, and returns the column behind the last letter.
static int print_text(FILE *stream, int indent, int first, int right,
                      const char *text) {
    int at = first;
    bool fresh = true; // nothing of the text stands on this line yet

    while (*text != '\0') {
        int spaces = (int)strspn(text, " ");
        int length = (int)strcspn(text + spaces, " \n");
        int wide = columns(text + spaces, length);

        if (!fresh && at + spaces + wide > right) {
            fprintf(stream, "\n%*s", indent, "");
            at = indent;
            spaces = 0;
            text += strspn(text, " ");
        }
        fprintf(stream, "%.*s", spaces + length, text);
        at += spaces + wide;
        text += spaces + length;
        fresh = false;
        if (*text == '\n') {
            text++;
            if (*text != '\0') {
                fprintf(stream, "\n%*s", indent, "");
            }
            at = indent;
            fresh = true;
        }
    }
    return at;
}

void cli_print_wrapped(FILE *stream, int indent, int first, const char *text) {
    print_text(stream, indent, first, COLUMNS, text);
    fputc('\n', stream);
}

void cli_print_reason(FILE *stream, int indent, int used,
                      const fleet_reason_t *reason) {
    int code = (int)strlen(reason->code) + 2;
    int at;

    fprintf(stream, "%*s", indent - used, "");
    at = print_text(stream, indent, indent, COLUMNS, reason->text);
    if (at + 2 + code > COLUMNS) {
        fputc('\n', stream);
        at = 0;
    }
    fprintf(stream, "%*s[%s]\n", COLUMNS - code - at, "", reason->code);
}

// To a question, a name that nobody has is a wrong argument.
static bool is_unknown_name(fleet_err_t err) {
    return err == FLEET_SET_UNKNOWN || err == FLEET_NODE_UNKNOWN ||
           err == FLEET_RESOURCE_UNKNOWN || err == FLEET_TRANSFER_UNKNOWN ||
           err == FLEET_KEY_UNKNOWN;
}

static int error_status(fleet_err_t err) {
    if (err == FLEET_OK) {
        return EXIT_BUG; // a code that this program does not know
    }
    return fleet_error_spec(is_unknown_name(err) ? FLEET_BAD_ARGUMENT : err)
        ->exit;
}

int cli_fail(cli_t *cli, const fleet_reason_t *reason) {
    fleet_err_t err = fleet_error_find(reason->code);
    json_t *document = cli_document_new(cli);
    int code = (int)strlen(reason->code) + 2;
    int at;

    fputs("fleet: ", stderr);
    at = print_text(stderr, 2, 7, COLUMNS, reason->text);
    // Arguments and files speak for themselves.
    if (err != FLEET_BAD_ARGUMENT && err != FLEET_BAD_FILE) {
        if (at + 2 + code > COLUMNS) {
            fputc('\n', stderr);
            at = 0;
        }
        fprintf(stderr, "%*s[%s]", COLUMNS - code - at, "", reason->code);
    }
    fputc('\n', stderr);
    if (reason->hint[0] != '\0') {
        fputs("  ", stderr);
        cli_print_wrapped(stderr, 2, 2, reason->hint);
    }
    json_object_set_new(document, "error", fleet_reason_json(reason));
    return cli_document(cli, document, error_status(err));
}

int cli_complain(cli_t *cli, fleet_err_t err, const char *format, ...) {
    fleet_reason_t reason;
    char text[2048];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fleet_reason_make(&reason, err, "%s", text);
    return cli_fail(cli, &reason);
}

int cli_refusal_status(const fleet_reason_t *reasons, uint32_t n) {
    bool all_retry = n > 0;

    for (uint32_t i = 0; i < n; i++) {
        fleet_err_t err = fleet_error_find(reasons[i].code);

        if (err == FLEET_NOT_PERMITTED || err == FLEET_NO_BROKER) {
            return fleet_error_spec(err)->exit;
        }
        all_retry = all_retry && reasons[i].retry;
    }
    return all_retry ? EXIT_AGAIN : EXIT_NO;
}

void cli_print_hints(FILE *stream, const fleet_reason_t *reasons, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        bool again = reasons[i].hint[0] == '\0';

        for (uint32_t j = 0; j < i; j++) {
            again = again || strcmp(reasons[j].hint, reasons[i].hint) == 0;
        }
        if (!again) {
            fputs("  ", stream);
            cli_print_wrapped(stream, 2, 2, reasons[i].hint);
        }
    }
}

void cli_print_refusal(const char *what, const fleet_reason_t *reasons,
                       uint32_t n) {
    if (n == 1) {
        fprintf(stderr, "fleet: cannot %s: nothing was touched\n", what);
    } else {
        fprintf(stderr,
                "fleet: cannot %s: %" PRIu32 " reasons, nothing was touched\n",
                what, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        cli_print_reason(stderr, 4, 0, &reasons[i]);
    }
    cli_print_hints(stderr, reasons, n);
}

int cli_say_refused(cli_t *cli, const char *what, const fleet_message_t *answer,
                    json_t *document) {
    const fleet_reason_t *reasons = answer->refused.reasons;
    uint32_t n = answer->refused.reasons_n;

    if (answer->type == FLEET_MESSAGE_turned_away) {
        reasons = &answer->turned_away.reason;
        n = 1;
    }
    cli_print_refusal(what, reasons, n);
    json_object_set_new(document, "outcome", json_string("refused"));
    json_object_set_new(document, "changed", json_false());
    json_object_set_new(document, "reasons", fleet_reasons_json(reasons, n));
    if (n > 0) {
        json_object_set_new(document, "error", fleet_reason_json(&reasons[0]));
    }
    return cli_document(cli, document, cli_refusal_status(reasons, n));
}

int cli_lost(cli_t *cli, fleet_err_t err, const char *id, json_t *document) {
    json_decref(document);
    if (cli_interrupted) {
        return EXIT_INTERRUPTED;
    }
    if (err == FLEET_UNFINISHED) {
        return cli_complain(cli, err,
                            "the broker was asked and did not answer; ask "
                            "again, it will not be done twice (%s)",
                            id);
    }
    return cli_complain(cli, err, "the broker was lost; nothing was sent");
}
