// SPDX-License-Identifier: MIT
//
// The client against a broker that loses, repeats, restarts and refuses.

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <unistd.h>

#include "proto/client.h"
#include "tests/unit/fake_broker.h"

#define REPEAT_MS 40

typedef struct world {
    fake_t fake;
    fleet_client_config_t config;
    fleet_client_t *client;
    fleet_reason_t reason;
} world_t;

static void nothing(fake_t *fake, const fleet_route_t *route,
                    const fleet_message_t *message) {
    (void)fake;
    (void)route;
    (void)message;
}

static void world_point(world_t *world) {
    world->config.brokers_n = 1;
    FLEET_COPY(world->config.brokers[0].control, world->fake.control);
    memcpy(world->config.brokers[0].key, world->fake.pair.public_key,
           FLEET_KEY_SIZE);
}

static int setup(void **state) {
    world_t *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    fleet_key_pair_make(&world->fake.pair);
    fleet_key_pair_make(&world->config.pair);
    memcpy(world->fake.allowed, world->config.pair.public_key, FLEET_KEY_SIZE);
    FLEET_COPY(world->fake.site, "campus");
    world->fake.on_message = nothing;
    world->config.timeout_ms = 5000;
    world->config.repeat_ms = REPEAT_MS;
    fake_start(&world->fake);
    world_point(world);
    *state = world;
    return 0;
}

static int teardown(void **state) {
    world_t *world = *state;

    fleet_client_destroy(&world->client);
    fake_stop(&world->fake);
    free(world);
    return 0;
}

static fleet_err_t connect_now(world_t *world) {
    return fleet_client_new(&world->config, &world->client, &world->reason);
}

// --------------------------------------------------------------------- opening

static void test_open(void **state) {
    world_t *world = *state;

    FLEET_COPY(world->config.site, "campus");
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_string_equal(fleet_client_welcome(world->client)->broker, "b1");
    assert_int_equal(fleet_client_welcome(world->client)->term, 1);
}

static void test_wrong_site(void **state) {
    world_t *world = *state;

    FLEET_COPY(world->config.site, "lab");
    assert_int_equal(connect_now(world), FLEET_WRONG_SITE);
    assert_non_null(strstr(world->reason.text, "campus"));
    assert_null(world->client);
}

static void test_unknown_key(void **state) {
    world_t *world = *state;
    char digits[9];

    fleet_key_pair_make(&world->config.pair);
    fleet_key_short(world->config.pair.public_key, digits);
    assert_int_equal(connect_now(world), FLEET_BAD_KEY);
    assert_non_null(strstr(world->reason.text, digits));
}

static void test_wrong_broker_key(void **state) {
    world_t *world = *state;
    fleet_key_pair_t other;
    char theirs[9];
    char ours[9];

    fleet_key_pair_make(&other);
    memcpy(world->config.brokers[0].key, other.public_key, FLEET_KEY_SIZE);
    fleet_key_short(other.public_key, theirs);
    fleet_key_short(world->config.pair.public_key, ours);
    assert_int_equal(connect_now(world), FLEET_BAD_KEY);
    assert_non_null(strstr(world->reason.text, theirs));
    assert_non_null(strstr(world->reason.text, ours));
}

static void test_nobody_listens(void **state) {
    world_t *world = *state;

    fake_stop(&world->fake);
    world->config.timeout_ms = 100;
    assert_int_equal(connect_now(world), FLEET_NO_BROKER);
    assert_non_null(strstr(world->reason.text, "nothing was sent"));
    fake_start(&world->fake);
}

static void test_no_door_lets_nobody_in(void **state) {
    world_t *world = *state;

    fake_stop(&world->fake);
    world->fake.no_door = true;
    fake_start(&world->fake);
    world->config.timeout_ms = 150;
    assert_int_not_equal(connect_now(world), FLEET_OK);
}

static void test_second_broker(void **state) {
    world_t *world = *state;

    world->config.brokers[1] = world->config.brokers[0];
    world->config.brokers_n = 2;
    FLEET_COPY(world->config.brokers[0].control, "tcp://127.0.0.1:1");
    assert_int_equal(connect_now(world), FLEET_OK);
}

static void test_interrupted(void **state) {
    world_t *world = *state;
    static volatile int flag = 1;

    fake_stop(&world->fake);
    world->config.interrupted = &flag;
    assert_int_not_equal(connect_now(world), FLEET_OK);
    fake_start(&world->fake);
}

// -------------------------------------------------------------------- requests

// Answers the third time only.
static void third_time(fake_t *fake, const fleet_route_t *route,
                       const fleet_message_t *message) {
    fleet_message_t answer = {.type = FLEET_MESSAGE_accepted};

    assert_int_equal(message->type, FLEET_MESSAGE_request);
    assert_string_equal(message->request.request, "r1");
    if (atomic_load(&fake->served) < 3) {
        return;
    }
    answer.accepted.transfer = 4183;
    FLEET_COPY(answer.accepted.request, "another");
    fake_send(fake, route, &answer); // another's: not ours
    FLEET_COPY(answer.accepted.request, "r1");
    fake_send(fake, route, &answer);
}

static fleet_message_t *request_new(void) {
    fleet_message_t *request = calloc(2, sizeof(*request));

    assert_non_null(request);
    request->type = FLEET_MESSAGE_request;
    FLEET_COPY(request->request.request, "r1");
    request->request.verb = fleet_verb_MOVE;
    return request;
}

static void test_request_is_repeated(void **state) {
    world_t *world = *state;
    fleet_message_t *request = request_new();
    fleet_message_t *answer = &request[1];

    world->fake.on_message = third_time;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_request(world->client, request, 0, answer),
                     FLEET_OK);
    assert_int_equal(answer->type, FLEET_MESSAGE_accepted);
    assert_string_equal(answer->accepted.request, "r1");
    free(request);
}

static void test_request_without_answer(void **state) {
    world_t *world = *state;
    fleet_message_t *request = request_new();

    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(
        fleet_client_request(world->client, request, 100, &request[1]),
        FLEET_UNFINISHED);
    free(request);
}

static void test_request_never_sent(void **state) {
    world_t *world = *state;
    fleet_message_t *request = request_new();

    assert_int_equal(connect_now(world), FLEET_OK);
    fake_stop(&world->fake);
    // Another thread sees that the connection ended; from then on nothing
    // leaves.
    fleet_err_t err = FLEET_UNFINISHED;
    for (int i = 0; i < 50 && err == FLEET_UNFINISHED; i++) {
        err = fleet_client_request(world->client, request, 50, &request[1]);
    }
    assert_int_equal(err, FLEET_NO_BROKER);
    fake_start(&world->fake);
    free(request);
}

static void turn_away(fake_t *fake, const fleet_route_t *route,
                      const fleet_message_t *message) {
    fleet_message_t answer = {.type = FLEET_MESSAGE_turned_away};

    FLEET_COPY(answer.turned_away.ask, message->request.request);
    fleet_reason_make(&answer.turned_away.reason, FLEET_NOT_PERMITTED, "no");
    fake_send(fake, route, &answer);
}

static void test_request_turned_away(void **state) {
    world_t *world = *state;
    fleet_message_t *request = request_new();

    world->fake.on_message = turn_away;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(
        fleet_client_request(world->client, request, 0, &request[1]), FLEET_OK);
    assert_int_equal(request[1].type, FLEET_MESSAGE_turned_away);
    free(request);
}

// ------------------------------------------------------------------- following

static void add_step(fleet_transfer_t *transfer, const char *node,
                     const char *word) {
    fleet_step_item_t *item = &transfer->steps[transfer->steps_n++];

    FLEET_COPY(item->node, node);
    FLEET_COPY(item->step, word);
    item->ok = true;
}

static void send_step(fake_t *fake, const fleet_route_t *route,
                      const char *node, const char *word, bool running) {
    fleet_message_t step = {.type = FLEET_MESSAGE_step};

    step.step.transfer = 7;
    FLEET_COPY(step.step.node, node);
    FLEET_COPY(step.step.step, word);
    step.step.running = running;
    step.step.ok = true;
    fake_send(fake, route, &step);
}

// First a state with one step, then live ones and the same step again; after a
// restart of the broker the end, with all three.
static void tell_transfer(fake_t *fake, const fleet_route_t *route,
                          const fleet_message_t *message) {
    fleet_message_t answer = {.type = FLEET_MESSAGE_transfer};
    fleet_transfer_t *transfer = &answer.transfer;

    assert_int_equal(message->type, FLEET_MESSAGE_follow);
    FLEET_COPY(transfer->ask, message->follow.ask);
    transfer->transfer = 7;
    add_step(transfer, "node1", "prepare");
    if (fake->term == 1) {
        fake_send(fake, route, &answer);
        send_step(fake, route, "node1", "stop", true);
        send_step(fake, route, "node1", "stop", false);
        send_step(fake, route, "node1", "prepare", false);
        return;
    }
    assert_int_equal(message->follow.transfer, 7);
    add_step(transfer, "node1", "stop");
    add_step(transfer, "node3", "start");
    transfer->outcome = fleet_outcome_MOVED;
    transfer->ended_us = 1;
    fake_send(fake, route, &answer);
}

typedef struct told {
    world_t *world;
    char text[256];
    bool restart;
} told_t;

static bool on_step(void *context, const fleet_step_t *step) {
    told_t *told = context;
    size_t used = strlen(told->text);

    if (step != NULL) {
        snprintf(told->text + used, sizeof(told->text) - used, "%s %s%s. ",
                 step->node, step->step, step->running ? ".." : "");
    }
    if (step != NULL && !step->running && strcmp(step->step, "stop") == 0 &&
        told->restart) {
        told->restart = false;
        fake_stop(&told->world->fake);
        fake_start(&told->world->fake);
    }
    return true;
}

static void test_follow_over_a_restart(void **state) {
    world_t *world = *state;
    told_t told = {.world = world, .restart = true};
    fleet_transfer_t *transfer = calloc(1, sizeof(*transfer));

    world->fake.on_message = tell_transfer;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_follow(world->client, 0, "www", 0, on_step,
                                         &told, transfer),
                     FLEET_OK);
    assert_int_equal(transfer->outcome, fleet_outcome_MOVED);
    assert_string_equal(told.text,
                        "node1 prepare. node1 stop... node1 stop. "
                        "node3 start. ");
    free(transfer);
}

static void test_follow_gives_up_waiting(void **state) {
    world_t *world = *state;
    told_t told = {.world = world};
    fleet_transfer_t *transfer = calloc(1, sizeof(*transfer));

    world->fake.on_message = tell_transfer;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(
        fleet_client_follow(world->client, 7, "", 60, on_step, &told, transfer),
        FLEET_UNFINISHED);
    assert_int_equal(transfer->transfer, 7);
    free(transfer);
}

static void know_no_transfer(fake_t *fake, const fleet_route_t *route,
                             const fleet_message_t *message) {
    fleet_message_t answer = {.type = FLEET_MESSAGE_turned_away};

    FLEET_COPY(answer.turned_away.ask, message->follow.ask);
    fleet_reason_make(&answer.turned_away.reason, FLEET_TRANSFER_UNKNOWN,
                      "no t9");
    fake_send(fake, route, &answer);
}

static void test_follow_unknown(void **state) {
    world_t *world = *state;
    fleet_transfer_t *transfer = calloc(1, sizeof(*transfer));

    world->fake.on_message = know_no_transfer;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(
        fleet_client_follow(world->client, 9, "", 0, NULL, NULL, transfer),
        FLEET_TRANSFER_UNKNOWN);
    assert_string_equal(transfer->reasons[0].text, "no t9");
    free(transfer);
}

// ------------------------------------------------------------------- questions

// Says that two rows came, but the first time sends one.
static void lose_a_row(fake_t *fake, const fleet_route_t *route,
                       const fleet_message_t *message) {
    fleet_message_t row = {.type = FLEET_MESSAGE_problem};
    fleet_message_t end = {.type = FLEET_MESSAGE_end};

    FLEET_COPY(row.problem.ask, message->status_ask.ask);
    FLEET_COPY(end.end.ask, message->status_ask.ask);
    end.end.rows = 2;
    fake_send(fake, route, &row);
    if (atomic_load(&fake->served) > 1) {
        fake_send(fake, route, &row);
    }
    fake_send(fake, route, &end);
}

static void count_rows(void *context, const fleet_parcel_t *row) {
    int *rows = context;

    *rows = row == NULL ? 0 : *rows + 1;
}

static void test_ask_again_for_lost_rows(void **state) {
    world_t *world = *state;
    fleet_message_t question = {.type = FLEET_MESSAGE_status_ask};
    fleet_end_t end;
    int rows = 0;

    world->fake.on_message = lose_a_row;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_ask(world->client, &question, count_rows,
                                      &rows, &end, &world->reason),
                     FLEET_OK);
    assert_int_equal(rows, 2);
    assert_int_equal(atomic_load(&world->fake.served), 2);
}

static void test_ask_gives_up(void **state) {
    world_t *world = *state;
    fleet_message_t question = {.type = FLEET_MESSAGE_status_ask};
    fleet_end_t end;
    int rows = 0;

    assert_int_equal(connect_now(world), FLEET_OK);
    fake_stop(&world->fake);
    fleet_client_destroy(&world->client);
    fake_start(&world->fake);
    world->config.timeout_ms = 120;
    assert_int_equal(connect_now(world), FLEET_OK);
    fake_stop(&world->fake);
    assert_int_equal(fleet_client_ask(world->client, &question, count_rows,
                                      &rows, &end, &world->reason),
                     FLEET_NO_BROKER);
    fake_start(&world->fake);
}

// -------------------------------------------------------------------- watching

static void serve_journal(fake_t *fake, const fleet_route_t *route,
                          const fleet_message_t *message) {
    assert_int_equal(message->type, FLEET_MESSAGE_entries_ask);
    fake_answer_entries(fake, route, &message->entries_ask);
}

typedef struct seen {
    world_t *world;
    uint64_t next;
    uint64_t until;
    bool restart; // once it is live
    unsigned live;
    unsigned lost;
    unsigned truncated;
} seen_t;

static bool on_watch(void *context, const fleet_watch_item_t *item) {
    seen_t *seen = context;

    switch (item->kind) {
    case FLEET_WATCH_EVENT:
        assert_int_equal(item->seq, seen->next);
        assert_int_equal(item->event->set_acquired.head.seq, item->seq);
        seen->next++;
        break;
    case FLEET_WATCH_LIVE:
        seen->live++;
        // Entries that were never published, only written; after a restart.
        if (seen->restart) {
            fake_stop(&seen->world->fake);
        }
        seen->world->fake.journal_n += 3;
        if (seen->restart) {
            fake_start(&seen->world->fake);
        }
        break;
    case FLEET_WATCH_LOST:
        seen->lost++;
        break;
    case FLEET_WATCH_TRUNCATED:
        seen->truncated++;
        seen->next = item->seq;
        break;
    case FLEET_WATCH_STEP:
    case FLEET_WATCH_BACK:
        break;
    }
    return seen->next <= seen->until;
}

static void watch_from(world_t *world, seen_t *seen, uint64_t since) {
    world->fake.on_message = serve_journal;
    world->fake.journal_n = 5;
    seen->world = world;
    seen->next = since + 1;
    seen->until = 8;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_watch(world->client, since, false, on_watch,
                                        seen, &world->reason),
                     FLEET_OK);
    assert_int_equal(seen->next, 9);
    assert_int_equal(seen->live, 1);
}

static void test_watch_from_the_start(void **state) {
    seen_t seen = {0};

    watch_from(*state, &seen, 0);
}

static void test_watch_resumes(void **state) {
    seen_t seen = {0};

    watch_from(*state, &seen, 4);
}

static void test_watch_over_a_restart(void **state) {
    seen_t seen = {.restart = true};

    watch_from(*state, &seen, 2);
}

// Publishes the next entry twice, one too far, and one that is long gone, once
// the journal was read to its end.
static void publish_wildly(fake_t *fake, const fleet_route_t *route,
                           const fleet_message_t *message) {
    fake_answer_entries(fake, route, &message->entries_ask);
    if (message->entries_ask.seq >= 4 && fake->journal_n == 5) {
        fake->journal_n = 8;
        fake_publish(fake, 6);
        fake_publish(fake, 6);
        fake_publish(fake, 2);
        fake_publish(fake, 8);
    }
}

static bool until_eight(void *context, const fleet_watch_item_t *item) {
    seen_t *seen = context;

    if (item->kind == FLEET_WATCH_EVENT) {
        assert_int_equal(item->seq, seen->next);
        seen->next++;
    }
    return seen->next <= 8;
}

static void test_watch_published_out_of_order(void **state) {
    world_t *world = *state;
    seen_t seen = {.next = 1};

    world->fake.on_message = publish_wildly;
    world->fake.journal_n = 5;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_watch(world->client, 0, false, until_eight,
                                        &seen, &world->reason),
                     FLEET_OK);
    assert_int_equal(seen.next, 9);
}

static void test_watch_a_shorter_journal(void **state) {
    world_t *world = *state;
    seen_t seen = {.next = 100, .until = 200};

    world->fake.on_message = serve_journal;
    world->fake.journal_n = 5;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_watch(world->client, 99, false, on_watch,
                                        &seen, &world->reason),
                     FLEET_JOURNAL_BEHIND);
}

static void truncate_first(fake_t *fake, const fleet_route_t *route,
                           const fleet_message_t *message) {
    fleet_message_t answer = {.type = FLEET_MESSAGE_truncated};

    if (message->entries_ask.seq >= 4) {
        fake_answer_entries(fake, route, &message->entries_ask);
        return;
    }
    FLEET_COPY(answer.truncated.ask, message->entries_ask.ask);
    answer.truncated.before = 4;
    fake_send(fake, route, &answer);
}

static void test_watch_truncated(void **state) {
    world_t *world = *state;
    seen_t seen = {.world = world, .next = 2, .until = 5};

    world->fake.on_message = truncate_first;
    world->fake.journal_n = 5;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_watch(world->client, 1, false, on_watch,
                                        &seen, &world->reason),
                     FLEET_OK);
    assert_int_equal(seen.truncated, 1);
    assert_int_equal(seen.next, 6);
}

// Entries 1 to 3 are gone, but nothing that was asked for is.
static void test_watch_just_not_truncated(void **state) {
    world_t *world = *state;
    seen_t seen = {.world = world, .next = 4, .until = 5};

    world->fake.on_message = truncate_first;
    world->fake.journal_n = 5;
    assert_int_equal(connect_now(world), FLEET_OK);
    assert_int_equal(fleet_client_watch(world->client, 3, false, on_watch,
                                        &seen, &world->reason),
                     FLEET_OK);
    assert_int_equal(seen.truncated, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_open),
        TEST(test_wrong_site),
        TEST(test_unknown_key),
        TEST(test_wrong_broker_key),
        TEST(test_nobody_listens),
        TEST(test_no_door_lets_nobody_in),
        TEST(test_second_broker),
        TEST(test_interrupted),
        TEST(test_request_is_repeated),
        TEST(test_request_without_answer),
        TEST(test_request_never_sent),
        TEST(test_request_turned_away),
        TEST(test_follow_over_a_restart),
        TEST(test_follow_gives_up_waiting),
        TEST(test_follow_unknown),
        TEST(test_ask_again_for_lost_rows),
        TEST(test_ask_gives_up),
        TEST(test_watch_from_the_start),
        TEST(test_watch_resumes),
        TEST(test_watch_over_a_restart),
        TEST(test_watch_published_out_of_order),
        TEST(test_watch_a_shorter_journal),
        TEST(test_watch_truncated),
        TEST(test_watch_just_not_truncated),
    };

    fleet_keys_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
