// SPDX-License-Identifier: MIT
//
// What the local socket answers: with a core and a broker that the test plays.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "node/asks.h"
#include "proto/codec.h"
#include "proto/text.h"

// The core's questions, answered by the test: it knows www, and owns it.
static bool connected;

void node_core_head(const node_core_t *core, fleet_local_head_t *ret_head) {
    (void)core;
    *ret_head = (fleet_local_head_t){.connected = connected};
    FLEET_COPY(ret_head->node, "node1");
}

bool node_core_row(const node_core_t *core, uint32_t i,
                   fleet_local_row_t *ret_row) {
    (void)core;
    if (i != 3) {
        return false;
    }
    *ret_row = (fleet_local_row_t){.token = 42, .owns = true};
    FLEET_COPY(ret_row->set, "www");
    return true;
}

bool node_core_owns(const node_core_t *core, const char *set) {
    (void)core;
    return strcmp(set, "www") == 0;
}

static char path[64];
static local_t *local;
static asks_t *asks;
static int client;
static local_event_t event;
static fleet_message_t message;
static fleet_message_t sent; // to the broker
static unsigned sent_n;
static uint8_t bytes[FLEET_FRAME_MAX];
static fleet_text_t reason;

static bool on_send(void *context, const fleet_message_t *to_broker) {
    (void)context;
    sent = *to_broker;
    sent_n += 1;
    return true;
}

static int make(void **state) {
    (void)state;
    fleet_text_t why = "";
    connected = true;
    sent_n = 0;
    snprintf(path, sizeof(path), "/tmp/fleet-test-asks-%d", getpid());
    local = local_new(path, why);
    asks = asks_new(NULL, "node1", local, on_send, NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return connect(client, (const struct sockaddr *)&address, sizeof(address));
}

static int clean(void **state) {
    (void)state;
    close(client);
    asks_destroy(&asks);
    local_destroy(&local);
    return 0;
}

// Asks as that user; true if the node is to leave.
static bool ask(fleet_local_verb_t verb, const char *set, uid_t uid) {
    size_t size = 0;
    memset(&message, 0, sizeof(message));
    message.type = FLEET_MESSAGE_local_ask;
    message.local_ask.verb = verb;
    FLEET_COPY(message.local_ask.set, set);
    FLEET_COPY(message.local_ask.reason, "because");
    assert_int_equal(fleet_encode(&message, bytes, sizeof(bytes), &size),
                     FLEET_OK);
    assert_int_equal(send(client, bytes, size, 0), (ssize_t)size);
    assert_int_equal(local_recv(local, &event), LOCAL_ASK);
    event.uid = uid;
    return asks_take(asks, &event, &reason);
}

static const fleet_message_t *answer(fleet_message_type_t type) {
    (void)local_recv(local, &event);
    ssize_t size = recv(client, bytes, sizeof(bytes), MSG_DONTWAIT);
    assert_true(size > 0);
    assert_int_equal(fleet_decode(bytes, (size_t)size, &message, NULL),
                     FLEET_OK);
    assert_int_equal(message.type, type);
    return &message;
}

static void no_more(void) {
    assert_int_equal(recv(client, bytes, sizeof(bytes), MSG_DONTWAIT), -1);
}

static void is_refused(const char *code) {
    const fleet_refused_t *refused = &answer(FLEET_MESSAGE_refused)->refused;
    assert_int_equal(refused->reasons_n, 1);
    assert_string_equal(refused->reasons[0].code, code);
    assert_string_equal(refused->reasons[0].node, "node1");
    no_more();
}

static void tells_status_to_anyone(void **state) {
    (void)state;
    connected = false;
    assert_false(ask(fleet_local_verb_STATUS, "", 1000));
    assert_string_equal(answer(FLEET_MESSAGE_local_head)->local_head.node,
                        "node1");
    assert_string_equal(answer(FLEET_MESSAGE_local_row)->local_row.set, "www");
    assert_int_equal(answer(FLEET_MESSAGE_end)->end.rows, 2);
    no_more();
}

static void tells_who_owns(void **state) {
    (void)state;
    connected = false;
    assert_false(ask(fleet_local_verb_OWNS, "www", 1000));
    assert_int_equal(answer(FLEET_MESSAGE_local_row)->local_row.token, 42);
    assert_int_equal(answer(FLEET_MESSAGE_end)->end.rows, 1);
    assert_false(ask(fleet_local_verb_OWNS, "mail", 1000));
    is_refused("set-unknown");
    assert_int_equal(sent_n, 0);
}

static void refuses_what_may_not_be(void **state) {
    (void)state;
    assert_false(ask(fleet_local_verb_ACQUIRE, "www", 1000));
    is_refused("not-permitted");
    assert_false(ask(fleet_local_verb_LEAVE, "", 1000));
    is_refused("not-permitted");
    assert_false(ask(fleet_local_verb_RELEASE, "mail", 0));
    is_refused("not-owner");
    connected = false;
    assert_false(ask(fleet_local_verb_ACQUIRE, "mail", 0));
    is_refused("no-broker");
    assert_int_equal(sent_n, 0);
}

static void from_broker(fleet_message_type_t type) {
    memset(&message, 0, sizeof(message));
    message.type = type;
}

static void follows_an_acquire_to_its_end(void **state) {
    (void)state;
    assert_false(ask(fleet_local_verb_ACQUIRE, "mail", 0));
    assert_int_equal(sent.type, FLEET_MESSAGE_request);
    assert_int_equal(sent.request.verb, fleet_verb_MOVE);
    assert_string_equal(sent.request.set, "mail");
    assert_string_equal(sent.request.node, "node1");
    assert_string_equal(sent.request.reason, "because");
    fleet_id_t request;
    memcpy(request, sent.request.request, sizeof(request));
    assert_true(strlen(request) > 10);
    // Lost on the way: the same again, a second later.
    assert_int_equal(asks_repeat(asks, 5000), 1000);
    assert_int_equal(sent_n, 1);
    assert_int_equal(asks_repeat(asks, 6000), 1000);
    assert_int_equal(sent_n, 2);
    assert_string_equal(sent.request.request, request);
    // Not ours.
    from_broker(FLEET_MESSAGE_accepted);
    FLEET_COPY(message.accepted.request, "other");
    asks_relay(asks, &message);
    no_more();
    from_broker(FLEET_MESSAGE_accepted);
    FLEET_COPY(message.accepted.request, request);
    message.accepted.transfer = 77;
    asks_relay(asks, &message);
    assert_int_equal(answer(FLEET_MESSAGE_accepted)->accepted.transfer, 77);
    assert_int_equal(sent.type, FLEET_MESSAGE_follow);
    assert_int_equal(sent.follow.transfer, 77);
    for (uint64_t transfer = 76; transfer < 78; transfer++) {
        from_broker(FLEET_MESSAGE_step);
        message.step.transfer = transfer;
        asks_relay(asks, &message);
    }
    assert_int_equal(answer(FLEET_MESSAGE_step)->step.transfer, 77);
    from_broker(FLEET_MESSAGE_transfer); // as it runs
    message.transfer.transfer = 77;
    asks_relay(asks, &message);
    no_more();
    message.transfer.outcome = fleet_outcome_MOVED;
    asks_relay(asks, &message);
    assert_int_equal(answer(FLEET_MESSAGE_transfer)->transfer.outcome,
                     fleet_outcome_MOVED);
    asks_relay(asks, &message); // once
    no_more();
    assert_int_equal(asks_repeat(asks, 9000), UINT64_MAX);
}

static void relays_a_refusal(void **state) {
    (void)state;
    assert_false(ask(fleet_local_verb_RELEASE, "www", 0));
    assert_int_equal(sent.request.verb, fleet_verb_STOP);
    assert_string_equal(sent.request.node, "");
    from_broker(FLEET_MESSAGE_refused);
    FLEET_COPY(message.refused.request, sent.request.request);
    message.refused.reasons_n = 1;
    FLEET_COPY(message.refused.reasons[0].code, "busy");
    FLEET_COPY(message.refused.reasons[0].node, "node1");
    asks_relay(asks, &message);
    is_refused("busy");
    assert_int_equal(asks_repeat(asks, 9000), UINT64_MAX);
}

static void forgets_who_left(void **state) {
    (void)state;
    assert_false(ask(fleet_local_verb_ACQUIRE, "mail", 0));
    shutdown(client, SHUT_RDWR);
    assert_int_equal(local_recv(local, &event), LOCAL_GONE);
    assert_false(asks_take(asks, &event, &reason));
    assert_int_equal(asks_repeat(asks, 9000), UINT64_MAX);
}

static void leaves(void **state) {
    (void)state;
    assert_true(ask(fleet_local_verb_LEAVE, "", 0));
    assert_string_equal(reason, "because");
    from_broker(FLEET_MESSAGE_step);
    FLEET_COPY(message.step.step, "stop");
    asks_step(asks, &message);
    assert_string_equal(answer(FLEET_MESSAGE_step)->step.step, "stop");
    asks_left(asks);
    assert_int_equal(answer(FLEET_MESSAGE_end)->end.rows, 1);
    no_more();
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, clean)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(tells_status_to_anyone),
        TEST(tells_who_owns),
        TEST(refuses_what_may_not_be),
        TEST(follows_an_acquire_to_its_end),
        TEST(relays_a_refusal),
        TEST(forgets_who_left),
        TEST(leaves),
    };
    return cmocka_run_group_tests_name("asks", tests, NULL, NULL);
}
