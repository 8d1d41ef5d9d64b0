// SPDX-License-Identifier: MIT
//
// Splitting commands, cleaning their output, running them.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "node/agents/command.h"
#include "node/agents/words.h"
#include "proto/text.h"

static void split_ok(const char *line, size_t n, const char *const *expected) {
    command_words_t words;
    fleet_text_t why = "";
    if (!command_split(line, &words, why)) {
        fail_msg("%s: %s", line, why);
    }
    assert_int_equal(words.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(words.argv[i], expected[i]);
    }
    assert_null(words.argv[n]);
}

static void split_bad(const char *line, const char *what) {
    command_words_t words;
    fleet_text_t why = "";
    assert_false(command_split(line, &words, why));
    if (!strstr(why, what)) {
        fail_msg("\"%s\" says: %s", line, why);
    }
}

static void splits_like_exec_start(void **state) {
    (void)state;
    split_ok("/bin/true", 1, (const char *[]){"/bin/true"});
    split_ok("  a\tb \n c ", 3, (const char *[]){"a", "b", "c"});
    split_ok("sh -c 'echo $x; exit 3'", 3,
             (const char *[]){"sh", "-c", "echo $x; exit 3"});
    split_ok("a \"b 'c'\" ''", 3, (const char *[]){"a", "b 'c'", ""});
    split_ok("--opt=\"a b\"c", 1, (const char *[]){"--opt=a bc"});
    split_ok("a\\sb \\x41\\102 '\\t'", 3, (const char *[]){"a b", "AB", "\t"});
    split_ok("no *.c $HOME %n ~", 5,
             (const char *[]){"no", "*.c", "$HOME", "%n", "~"});
}

static void refuses_what_is_unclear(void **state) {
    (void)state;
    split_bad("", "no word");
    split_bad("  \t", "no word");
    split_bad("a 'b", "a quote that is not closed");
    split_bad("a \"b", "a quote that is not closed");
    split_bad("a \\", "an unknown escape");
    split_bad("a \\q", "an unknown escape");
    split_bad("a \\x4", "an unknown escape");
    split_bad("a \\x00", "an unknown escape");
    split_bad("a \\777", "an unknown escape");
    char many[200];
    memset(many, 0, sizeof(many));
    for (size_t i = 0; i < 65; i++) {
        memcpy(many + 2 * i, "a ", 2);
    }
    split_bad(many, "more than 64 words");
    char longest[300];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    split_bad(longest, "more than 256 bytes");
    longest[FLEET_TEXT_MAX] = '\0';
    split_ok(longest, 1, (const char *[]){longest});
}

static void clean_is(const char *bytes, size_t size, bool cut,
                     const char *expected) {
    fleet_words_t words;
    words_clean(bytes, size, cut, words);
    assert_string_equal(words, expected);
}

static void cleans_words(void **state) {
    (void)state;
    clean_is("", 0, false, "");
    clean_is("one\ntwo\n\n", 9, false, "one\ntwo");
    clean_is("half\nwhole", 10, true, "whole");
    clean_is("no newline", 10, true, "no newline");
    clean_is("a\x1b[31mb\0c", 9, false, "a?[31mb?c");
    clean_is("gr\xc3\xbc\xc3\x9f \xff\xc3", 9, false, "gr\xc3\xbc\xc3\x9f ??");
    clean_is("\xbcx", 2, true, "x"); // the rest of a character that was cut
    clean_is("a\r\nb\rc", 6, false, "a\nb\nc");
    clean_is("\xed\xa0\x80", 3, false, "???"); // half of a surrogate pair
    char large[5000];
    memset(large, 'x', sizeof(large));
    fleet_words_t words;
    words_clean(large, sizeof(large), false, words);
    assert_int_equal(strlen(words), FLEET_WORDS_MAX);
}

static fleet_setdef_t setdef;
static fleet_resource_t resource;

static command_end_t run(const char *line, const char *user,
                         uint64_t limit_ms) {
    FLEET_COPY(setdef.set, "www");
    FLEET_COPY(resource.name, "httpd");
    agent_ctx_t ctx = {.setdef = &setdef,
                       .resource = &resource,
                       .node = "node1",
                       .token = 42,
                       .progress = -1};
    command_t command = {.line = line,
                         .ctx = &ctx,
                         .user = user,
                         .cgroup = -1,
                         .limit_ms = limit_ms};
    command_end_t end;
    command_run(&command, &end);
    return end;
}

static void says_how_it_ended(void **state) {
    (void)state;
    command_end_t end = run("true", NULL, 5000);
    assert_true(end.ok);
    assert_string_equal(end.said, "");
    end = run("sh -c 'echo out; echo err >&2; exit 7'", NULL, 5000);
    assert_false(end.ok);
    assert_string_equal(end.text, "exit status 7");
    assert_string_equal(end.said, "out\nerr");
    end = run("sh -c 'kill -SEGV $$'", NULL, 5000);
    assert_false(end.ok);
    assert_non_null(strstr(end.text, "killed by signal 11"));
    end = run("/nowhere/at/all", NULL, 5000);
    assert_false(end.ok);
    assert_string_equal(end.text, "/nowhere/at/all: No such file or directory");
    end = run("no-such-program-here", NULL, 5000);
    assert_non_null(strstr(end.text, "not found in"));
    end = run("/etc", NULL, 5000);
    assert_string_equal(end.text, "/etc: Permission denied");
    end = run("true", "no-such-user-here", 5000);
    assert_string_equal(end.text, "user no-such-user-here does not exist here");
}

static void gives_a_clean_environment(void **state) {
    (void)state;
    setenv("LEAKED_IN", "1", 1);
    command_end_t end = run("env", NULL, 5000);
    assert_true(end.ok);
    assert_string_equal(
        end.said,
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
        "/sbin:/bin\nLANG=C.UTF-8\nFLEET_SET=www\nFLEET_NODE=node1\n"
        "FLEET_TOKEN=42\nFLEET_RESOURCE=httpd\nHOME=/");
    end = run("sh -c 'pwd; umask; ls /proc/self/fd | wc -l'", NULL, 5000);
    // 0 1 2 and the one that ls reads the folder with: nothing was inherited.
    assert_string_equal(end.said, "/\n0022\n4");
}

static void changes_the_user(void **state) {
    (void)state;
    if (geteuid() != 0) {
        print_message("[  SKIPPED ] a change of user needs root\n");
        skip();
    }
    command_end_t end = run("sh -c 'id -un; echo $USER'", "nobody", 5000);
    assert_true(end.ok);
    assert_string_equal(end.said, "nobody\nnobody");
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void is_killed_at_its_limit(void **state) {
    (void)state;
    double begin = now_s();
    command_end_t end = run("sh -c 'echo working; sleep 60'", NULL, 50);
    assert_true(now_s() - begin < 10);
    assert_false(end.ok);
    assert_true(end.over_limit);
    assert_string_equal(end.said, "working");
    assert_non_null(strstr(end.text, "did not end within"));
}

// What stays in the background holds us up neither, nor does it die when it
// speaks after the command has ended: it waits at a FIFO for that.
static void leaves_the_background_alone(void **state) {
    (void)state;
    char folder[] = "/tmp/fleet-test-command-XXXXXX";
    char fifo[64];
    char line[200];
    assert_non_null(mkdtemp(folder));
    snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    // Its last word comes by another FIFO end: it lives after it has spoken.
    snprintf(line, sizeof(line),
             "sh -c '(read w <%s; echo late; echo lives >%s) & echo up'", fifo,
             fifo);
    double begin = now_s();
    command_end_t end = run(line, NULL, 5000);
    assert_true(now_s() - begin < 10);
    assert_true(end.ok);
    assert_string_equal(end.said, "up");
    alarm(20); // where it died, the FIFO would be waited at for ever
    int fd = open(fifo, O_WRONLY); // waits until it reads
    assert_int_equal(write(fd, "go\n", 3), 3);
    close(fd);
    char word[16] = "";
    fd = open(fifo, O_RDONLY); // waits until it has spoken and writes
    assert_int_equal(read(fd, word, sizeof(word) - 1), 6);
    assert_string_equal(word, "lives\n");
    close(fd);
    alarm(0);
    unlink(fifo);
    rmdir(folder);
}

static void keeps_the_last_words_only(void **state) {
    (void)state;
    command_end_t end =
        run("sh -c 'seq 1 100000; echo the end; exit 1'", NULL, 20000);
    assert_false(end.ok);
    assert_true(strlen(end.said) <= FLEET_WORDS_MAX);
    assert_string_equal(end.said + strlen(end.said) - 7, "the end");
    assert_true(end.said[0] >= '0' && end.said[0] <= '9');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_like_exec_start),
        cmocka_unit_test(refuses_what_is_unclear),
        cmocka_unit_test(cleans_words),
        cmocka_unit_test(says_how_it_ended),
        cmocka_unit_test(gives_a_clean_environment),
        cmocka_unit_test(changes_the_user),
        cmocka_unit_test(is_killed_at_its_limit),
        cmocka_unit_test(leaves_the_background_alone),
        cmocka_unit_test(keeps_the_last_words_only),
    };
    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
