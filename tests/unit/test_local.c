// SPDX-License-Identifier: MIT
//
// The local socket of a node: who asks, several at once, those who do not read.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "node/local.h"
#include "proto/codec.h"
#include "proto/text.h"

#define DEADLINE_MS 10000

static char path[64];
static local_t *local;
static local_event_t event;
static fleet_message_t message;
static uint8_t bytes[FLEET_FRAME_MAX];

static int make(void **state) {
    (void)state;
    fleet_text_t why = "";
    snprintf(path, sizeof(path), "/tmp/fleet-test-local-%d", getpid());
    local = local_new(path, why);
    return local ? 0 : 1;
}

static int clean(void **state) {
    (void)state;
    local_destroy(&local);
    return access(path, F_OK) == -1 ? 0 : 1;
}

static int connect_client(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(
        connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void ask(int fd, const char *set) {
    size_t size = 0;
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_local_ask;
    message.local_ask.verb = fleet_local_verb_OWNS;
    FLEET_COPY(message.local_ask.set, set);
    assert_int_equal(fleet_encode(&message, bytes, sizeof(bytes), &size),
                     FLEET_OK);
    assert_int_equal(send(fd, bytes, size, 0), (ssize_t)size);
}

static local_event_kind_t next(void) {
    for (;;) {
        local_event_kind_t kind = local_recv(local, &event);
        if (kind != LOCAL_NONE) {
            return kind;
        }
        struct pollfd fds[LOCAL_CLIENTS_MAX + 1];
        size_t n = local_poll(local, fds);
        if (poll(fds, n, DEADLINE_MS) == 0) {
            fail_msg("nothing came within %d ms", DEADLINE_MS);
        }
    }
}

static void answer(uint64_t client, const char *set) {
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_local_row;
    FLEET_COPY(message.local_row.set, set);
    local_send(local, client, &message);
}

static void is_answered(int fd, const char *set) {
    ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
    assert_true(size > 0);
    assert_int_equal(fleet_decode(bytes, (size_t)size, &message, NULL),
                     FLEET_OK);
    assert_int_equal(message.type, FLEET_MESSAGE_local_row);
    assert_string_equal(message.local_row.set, set);
}

static void answers_each_its_own(void **state) {
    (void)state;
    struct stat stat_of;
    assert_int_equal(stat(path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0666);
    int clients[3];
    for (int i = 0; i < 3; i++) {
        char set[8];
        snprintf(set, sizeof(set), "set%d", i);
        clients[i] = connect_client();
        ask(clients[i], set);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next(), LOCAL_ASK);
        assert_int_equal(event.uid, getuid());
        assert_int_equal(event.message.type, FLEET_MESSAGE_local_ask);
        answer(event.client, event.message.local_ask.set);
        answer(event.client, "again");
    }
    assert_true(local_is_idle(local));
    for (int i = 0; i < 3; i++) {
        char set[8];
        snprintf(set, sizeof(set), "set%d", i);
        is_answered(clients[i], set);
        is_answered(clients[i], "again");
        close(clients[i]);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next(), LOCAL_GONE);
    }
    answer(event.client, "late"); // to nobody
}

static void drops_who_speaks_something_else(void **state) {
    (void)state;
    int fd = connect_client();
    assert_int_equal(send(fd, "GET / HTTP/1.0", 14, 0), 14);
    assert_int_equal(next(), LOCAL_GONE);
    assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), 0);
    close(fd);
}

// Who asks and never reads keeps nobody waiting, and is dropped in the end.
static void drops_who_does_not_read(void **state) {
    (void)state;
    int deaf = connect_client();
    ask(deaf, "www");
    assert_int_equal(next(), LOCAL_ASK);
    uint64_t client = event.client;
    int i = 0;
    while (i < 100000 && local_recv(local, &event) == LOCAL_NONE) {
        answer(client, "www");
        i += 1;
    }
    assert_int_equal(event.kind, LOCAL_GONE);
    assert_int_equal(event.client, client);
    close(deaf);
    int other = connect_client();
    ask(other, "mail");
    assert_int_equal(next(), LOCAL_ASK);
    answer(event.client, "mail");
    is_answered(other, "mail");
    close(other);
}

static void replaces_an_old_socket(void **state) {
    (void)state;
    fleet_text_t why = "";
    local_t *second = local_new(path, why);
    assert_non_null(second);
    local_destroy(&second);
    assert_null(local_new("/no/such/folder/node.sock", why));
    assert_non_null(strstr(why, "/no/such/folder/node.sock"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, clean)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(answers_each_its_own),
        TEST(drops_who_speaks_something_else),
        TEST(drops_who_does_not_read),
        TEST(replaces_an_old_socket),
    };
    return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
