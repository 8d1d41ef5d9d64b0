// SPDX-License-Identifier: MIT
//
// fleet owns, acquire and status --local against a small agent on a local
// socket.

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/codec.h"
#include "proto/text.h"
#include "tests/unit/moment.h"

// Owns www as long as it is told so, not mail; knows nothing else.
typedef struct agent {
    pthread_t thread;
    int fd;
    int stop[2];
    atomic_bool owns_www;
    char folder[64];
    char path[96];
} agent_t;

static agent_t agent;

static void say(int fd, const fleet_message_t *message) {
    uint8_t bytes[65536];
    size_t used = 0;

    assert_int_equal(fleet_encode(message, bytes, sizeof(bytes), &used),
                     FLEET_OK);
    assert_int_equal(send(fd, bytes, used, MSG_NOSIGNAL), (ssize_t)used);
}

static void say_row(int fd, const char *set, bool owns) {
    fleet_message_t message = {.type = FLEET_MESSAGE_local_row};

    FLEET_COPY(message.local_row.set, set);
    message.local_row.owns = owns;
    message.local_row.token = 57;
    message.local_row.phase = owns ? fleet_phase_HELD : fleet_phase_CLOSED;
    say(fd, &message);
}

static void say_refused(int fd, fleet_err_t err, const char *text) {
    fleet_message_t message = {.type = FLEET_MESSAGE_refused};

    message.refused.reasons_n = 1;
    fleet_reason_make(&message.refused.reasons[0], err, "%s", text);
    say(fd, &message);
}

static void say_acquired(int fd) {
    fleet_message_t message = {.type = FLEET_MESSAGE_accepted};

    message.accepted.transfer = 9;
    say(fd, &message);
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_transfer;
    message.transfer.transfer = 9;
    message.transfer.kind = fleet_kind_MOVE;
    message.transfer.outcome = fleet_outcome_MOVED;
    message.transfer.changed = true;
    FLEET_COPY(message.transfer.set, "www");
    FLEET_COPY(message.transfer.to, "node1");
    say(fd, &message);
}

static void serve(int fd, const fleet_local_ask_t *ask) {
    fleet_message_t end = {.type = FLEET_MESSAGE_end};
    fleet_message_t head = {.type = FLEET_MESSAGE_local_head};

    switch (ask->verb) {
    case fleet_local_verb_STATUS:
        FLEET_COPY(head.local_head.node, "node1");
        FLEET_COPY(head.local_head.site, "campus");
        say(fd, &head);
        say_row(fd, "www", true);
        say(fd, &end);
        break;
    case fleet_local_verb_OWNS:
        if (strcmp(ask->set, "www") == 0 || strcmp(ask->set, "mail") == 0) {
            say_row(fd, ask->set, ask->set[0] == 'w' && agent.owns_www);
            say(fd, &end);
        } else {
            say_refused(fd, FLEET_SET_UNKNOWN, "no such set");
        }
        break;
    case fleet_local_verb_ACQUIRE:
        say_acquired(fd);
        break;
    case fleet_local_verb_RELEASE:
    case fleet_local_verb_LEAVE:
        say_refused(fd, FLEET_NO_BROKER, "no session");
        break;
    }
}

static void *agent_run(void *context) {
    (void)context;
    for (;;) {
        struct pollfd items[2] = {{.fd = agent.fd, .events = POLLIN},
                                  {.fd = agent.stop[0], .events = POLLIN}};
        uint8_t bytes[4096];
        fleet_message_t message;
        ssize_t size;
        int fd;

        if (poll(items, 2, -1) < 0 || items[1].revents != 0) {
            return NULL;
        }
        fd = accept(agent.fd, NULL, NULL);
        assert_true(fd >= 0);
        size = recv(fd, bytes, sizeof(bytes), 0);
        if (size > 0 &&
            fleet_decode(bytes, (size_t)size, &message, NULL) == FLEET_OK) {
            serve(fd, &message.local_ask);
        }
        close(fd);
    }
}

static int setup(void **state) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)state;
    agent.owns_www = true;
    FLEET_COPY(agent.folder, "/tmp/fleet-test-XXXXXX");
    assert_non_null(mkdtemp(agent.folder));
    FLEET_FORMAT(agent.path, "%s/node.sock", agent.folder);
    FLEET_COPY(address.sun_path, agent.path);
    agent.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(agent.fd >= 0);
    assert_int_equal(
        bind(agent.fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(agent.fd, 8), 0);
    assert_int_equal(pipe2(agent.stop, O_CLOEXEC), 0);
    setenv("FLEET_NODE_SOCKET", agent.path, 1);
    assert_int_equal(pthread_create(&agent.thread, NULL, agent_run, NULL), 0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    assert_int_equal(write(agent.stop[1], "x", 1), 1);
    pthread_join(agent.thread, NULL);
    close(agent.fd);
    close(agent.stop[0]);
    close(agent.stop[1]);
    unlink(agent.path);
    rmdir(agent.folder);
    return 0;
}

#define RUN(...)                                                               \
    run((char *[]){"fleet", __VA_ARGS__, NULL},                                \
        sizeof((char *[]){"fleet", __VA_ARGS__}) / sizeof(char *))

// Runs a command line with its output thrown away.
static int run(char **words, size_t n) {
    int out = dup(STDOUT_FILENO);
    int err = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int status;

    fflush(stdout);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    status = cli_run((int)n, words);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    close(null);
    return status;
}

static void test_yes_and_no(void **state) {
    (void)state;
    assert_int_equal(RUN("owns", "www"), 0);
    assert_int_equal(RUN("owns", "mail"), 1);
    agent.owns_www = false;
    assert_int_equal(RUN("owns", "www"), 1);
}

static void test_unknown_set(void **state) {
    (void)state;
    assert_int_equal(RUN("owns", "wwww"), 64);
    assert_int_equal(RUN("owns", "wwww", "--", "true"), 64);
    assert_int_equal(RUN("owns", "WWW"), 64);
}

static void test_no_agent(void **state) {
    (void)state;
    assert_int_equal(RUN("owns", "www", "--socket", "/nonexistent/sock"), 69);
    assert_int_equal(
        RUN("owns", "www", "--socket", "/nonexistent/sock", "--", "true"), 69);
    assert_int_equal(RUN("status", "--local", "--socket", "/nonexistent/sock"),
                     69);
}

static void test_command_runs_at_its_owner(void **state) {
    (void)state;
    assert_int_equal(RUN("owns", "www", "--", "true"), 0);
    assert_int_equal(RUN("owns", "www", "--", "sh", "-c", "exit 7"), 7);
    assert_int_equal(RUN("owns", "www", "--", "sh", "-c", "kill -9 $$"),
                     128 + 9);
    assert_int_equal(RUN("owns", "www", "--", "/nonexistent/command"), 127);
    assert_int_equal(RUN("owns", "www", "--"), 64);
}

static void test_command_does_not_run_elsewhere(void **state) {
    char mark[128];

    (void)state;
    FLEET_FORMAT(mark, "%s/ran", agent.folder);
    assert_int_equal(RUN("owns", "mail", "--", "touch", mark), 0);
    assert_int_equal(access(mark, F_OK), -1);
}

static void *lose_www(void *context) {
    const char *mark = context;

    // Once the command is known to run.
    for (int i = 0; i < 500 && access(mark, F_OK) != 0; i++) {
        moment();
    }
    agent.owns_www = false;
    return NULL;
}

static void test_lost_ownership_ends_the_command(void **state) {
    char mark[128];
    char command[256];
    pthread_t thread;

    (void)state;
    FLEET_FORMAT(mark, "%s/ran", agent.folder);
    FLEET_FORMAT(command, "sleep 30 & touch %s; wait", mark);
    assert_int_equal(pthread_create(&thread, NULL, lose_www, mark), 0);
    assert_int_equal(RUN("owns", "www", "--", "sh", "-c", command), 75);
    pthread_join(thread, NULL);
    assert_int_equal(access(mark, F_OK), 0);
    unlink(mark);
}

static void test_acquire_and_release(void **state) {
    (void)state;
    assert_int_equal(RUN("acquire", "www"), 0);
    assert_int_equal(RUN("acquire", "www", "--json"), 0);
    assert_int_equal(RUN("release", "www"), 69);
}

static void test_status(void **state) {
    (void)state;
    assert_int_equal(RUN("status", "--local"), 0);
    assert_int_equal(RUN("status", "--local", "--json"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_yes_and_no),
        TEST(test_unknown_set),
        TEST(test_no_agent),
        TEST(test_command_runs_at_its_owner),
        TEST(test_command_does_not_run_elsewhere),
        TEST(test_lost_ownership_ends_the_command),
        TEST(test_acquire_and_release),
        TEST(test_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
