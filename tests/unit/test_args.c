// SPDX-License-Identifier: MIT
//
// The command line: what is read from it, and what is said of a wrong one.

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <string.h>

#include "cli/args.h"
#include "proto/text.h"

typedef struct line {
    const command_t *command;
    args_t args;
    fleet_reason_t reason;
} line_t;

#define WORDS_MAX 24

// Parses "fleet ..." split at spaces.
static fleet_err_t parse(line_t *line, const char *text) {
    static char copy[512];
    static char *words[WORDS_MAX];
    int n = 0;

    memset(line, 0, sizeof(*line));
    FLEET_COPY(copy, text);
    char *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest);
         word != NULL && n < WORDS_MAX - 1; word = strtok_r(NULL, " ", &rest)) {
        words[n++] = word;
    }
    words[n] = NULL;
    return args_parse(n, words, &line->command, &line->args, &line->reason);
}

static void expect_wrong(const char *text, const char *said) {
    line_t line;

    assert_int_equal(parse(&line, text), FLEET_BAD_ARGUMENT);
    if (strstr(line.reason.text, said) == NULL) {
        fail_msg("\"%s\": \"%s\" does not say \"%s\"", text, line.reason.text,
                 said);
    }
}

static void test_flags_before_the_command(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line, "fleet --config f.yaml --json keys list"),
                     FLEET_OK);
    assert_string_equal(line.command->name, "keys list");
    assert_string_equal(line.args.config, "f.yaml");
    assert_true(args_have(&line.args, FLAG_JSON));
    assert_int_equal(parse(&line, "fleet --socket s owns www -- a --json"),
                     FLEET_OK);
    assert_string_equal(line.args.words[0], "www");
    assert_string_equal(line.args.command[0], "a");
    expect_wrong("fleet --json", "no command");
}

static void test_words_and_flags(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line,
                           "fleet move www node3 --reason=x --wait 5s "
                           "--ignore not-ready --json"),
                     FLEET_OK);
    assert_string_equal(line.command->name, "move");
    assert_int_equal(line.args.words_n, 2);
    assert_string_equal(line.args.words[1], "node3");
    assert_string_equal(line.args.reason, "x");
    assert_int_equal(line.args.wait_ms, 5000);
    assert_int_equal(line.args.ignores_n, 1);
    assert_true(args_have(&line.args, FLAG_JSON));
    assert_false(args_have(&line.args, FLAG_FORCE));
    assert_int_equal(line.args.timeout_ms, 10000);
}

static void test_flags_stand_anywhere(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line, "fleet move --force www --timeout 2s node3"),
                     FLEET_OK);
    assert_string_equal(line.args.words[0], "www");
    assert_int_equal(line.args.timeout_ms, 2000);
}

static void test_two_words(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line, "fleet keys make op1.key"), FLEET_OK);
    assert_string_equal(line.command->name, "keys make");
    assert_string_equal(line.args.words[0], "op1.key");
    expect_wrong("fleet keys", "make list admit revoke");
    expect_wrong("fleet keys mak", "no command");
}

static void test_command_behind_dashes(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line, "fleet owns www -- sync --json -x"),
                     FLEET_OK);
    assert_int_equal(line.args.words_n, 1);
    assert_string_equal(line.args.command[0], "sync");
    assert_string_equal(line.args.command[2], "-x");
    assert_null(line.args.command[3]);
    assert_false(args_have(&line.args, FLAG_JSON));
}

static void test_wrong_lines(void **state) {
    (void)state;
    expect_wrong("fleet", "what shall be done");
    expect_wrong("fleet moev www node3", "no command");
    expect_wrong("fleet move www", "needs SET NODE");
    expect_wrong("fleet move www node3 now", "one word too many");
    expect_wrong("fleet keys list all", "no arguments");
    expect_wrong("fleet move www node3 --froce", "takes no --froce");
    expect_wrong("fleet stop www --force", "takes no --force");
    expect_wrong("fleet move www node3 --wait", "needs D");
    expect_wrong("fleet move www node3 --wait 5", "no duration");
    expect_wrong("fleet move www node3 --force=yes", "no value");
    expect_wrong("fleet move www node3 --reason=", "1 to 256 bytes");
    expect_wrong("fleet watch --since -1", "no number");
    expect_wrong("fleet watch --since 99999999999999999999", "no number");
    expect_wrong("fleet move www node3 --wait 5s --no-wait", "exclude");
}

static void test_only_waivable_codes(void **state) {
    line_t line;

    (void)state;
    expect_wrong("fleet move www node3 --ignore no-slot", "cannot be waived");
    expect_wrong("fleet move www node3 --ignore nonsense", "no code");
    assert_int_equal(parse(&line,
                           "fleet move www node3 --ignore not-ready --ignore "
                           "draining"),
                     FLEET_OK);
    assert_int_equal(line.args.ignores_n, 2);
}

static void test_attestation_needs_a_reason(void **state) {
    line_t line;

    (void)state;
    expect_wrong("fleet move www node3 --owner-is-down node1", "--reason");
    assert_int_equal(
        parse(&line,
              "fleet move www node3 --owner-is-down node1 --reason dark"),
        FLEET_OK);
    assert_string_equal(line.args.owner_is_down, "node1");
}

static void test_json_counts_in_a_wrong_line(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line, "fleet move www --json"), FLEET_BAD_ARGUMENT);
    assert_true(args_have(&line.args, FLAG_JSON));
}

static void test_the_nearest_is_named(void **state) {
    line_t line;

    (void)state;
    assert_int_equal(parse(&line, "fleet staus"), FLEET_BAD_ARGUMENT);
    assert_string_equal(line.reason.hint, "fleet status");
    assert_int_equal(parse(&line, "fleet move www node3 --froce"),
                     FLEET_BAD_ARGUMENT);
    assert_string_equal(line.reason.hint, "--force?");
}

// The contract of the design: commands that must be there, and those that wait.
static void test_all_commands_are_there(void **state) {
    static const char *const now[] = {
        "status",     "show",        "apply",          "remove",
        "move",       "start",       "stop",           "restart",
        "wait",       "cancel",      "acquire",        "release",
        "unlock",     "fence",       "watch",          "history",
        "check",      "owns",        "keys make",      "keys list",
        "keys admit", "keys revoke", "journal verify", "journal export"};
    static const char *const later[] = {"plan",   "drain",  "undrain",
                                        "rehome", "freeze", "unfreeze"};

    (void)state;
    for (size_t i = 0; i < sizeof(now) / sizeof(now[0]); i++) {
        bool found = false;

        for (size_t c = 0; c < commands_n; c++) {
            found = found || (strcmp(commands[c].name, now[i]) == 0 &&
                              commands[c].run != NULL);
        }
        assert_true(found);
    }
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        char text[64];
        line_t line;

        FLEET_FORMAT(text, "fleet %s www", later[i]);
        assert_int_equal(parse(&line, text), FLEET_OK);
        assert_null(line.command->run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_and_flags),
        cmocka_unit_test(test_flags_before_the_command),
        cmocka_unit_test(test_flags_stand_anywhere),
        cmocka_unit_test(test_two_words),
        cmocka_unit_test(test_command_behind_dashes),
        cmocka_unit_test(test_wrong_lines),
        cmocka_unit_test(test_only_waivable_codes),
        cmocka_unit_test(test_attestation_needs_a_reason),
        cmocka_unit_test(test_json_counts_in_a_wrong_line),
        cmocka_unit_test(test_the_nearest_is_named),
        cmocka_unit_test(test_all_commands_are_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
