// SPDX-License-Identifier: MIT
//
// The door, with real CURVE connections over the loopback: who is on the list
// gets in and is named by the key, who is not gets nowhere, who is revoked
// loses the connection that lives, on both endpoints.

#include "broker/zap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <zmq.h>

#include "broker/peers.h"
#include "proto/bus.h"
#include "proto/text.h"

#define WAIT_MS 5000

typedef struct world {
    void *context;
    void *client_context;
    zap_t *zap;
    void *control;
    void *events;
    char control_at[64];
    char events_at[64];
    fleet_key_pair_t server;
    fleet_key_pair_t client;
    bool admitted;
    uint32_t refused;
    char why[32];
    void *client_socket; // closed at the end, whatever failed
    void *monitor;
    peers_t *peers;
    fleet_parcel_t in;
    fleet_parcel_t out;
} world_t;

static bool on_key(void *context, const fleet_key_t key) {
    world_t *world = context;
    return world->admitted &&
           memcmp(key, world->client.public_key, FLEET_KEY_SIZE) == 0;
}

static void on_refusal(void *context, const char *address, const char *why,
                       const fleet_key_t key) {
    world_t *world = context;
    (void)key;
    assert_non_null(strstr(address, "127.0.0.1"));
    world->refused++;
    strncpy(world->why, why, sizeof world->why - 1);
}

static void endpoint_of(void *socket, char at[64]) {
    size_t size = 64;
    assert_int_equal(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, at, &size), 0);
}

static int set_up(void **state) {
    world_t *world = calloc(1, sizeof *world);
    fleet_text_t why = "";
    assert_non_null(world);
    fleet_keys_init();
    fleet_key_pair_make(&world->server);
    fleet_key_pair_make(&world->client);
    world->context = zmq_ctx_new();
    world->client_context = zmq_ctx_new();
    world->zap = zap_new(world->context, on_key, on_refusal, world, why);
    assert_non_null(world->zap);
    world->peers = peers_new();
    world->control = fleet_bus_router(world->context, "tcp://127.0.0.1:*",
                                      &world->server, why);
    world->events = fleet_bus_xpub(world->context, "tcp://127.0.0.1:*",
                                   &world->server, why);
    assert_non_null(world->control);
    assert_non_null(world->events);
    endpoint_of(world->control, world->control_at);
    endpoint_of(world->events, world->events_at);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    world_t *world = *state;
    if (world->monitor != NULL) {
        zmq_close(world->monitor);
    }
    if (world->client_socket != NULL) {
        zmq_close(world->client_socket);
    }
    peers_destroy(&world->peers);
    zmq_close(world->control);
    zmq_close(world->events);
    zap_destroy(&world->zap);
    zmq_ctx_term(world->context);
    zmq_ctx_term(world->client_context);
    free(world);
    return 0;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// Serves the door until `socket` has something, or so long.
static bool serve(world_t *world, void *socket, uint64_t wait_ms) {
    uint64_t until_ms = now_ms() + wait_ms;
    while (now_ms() < until_ms) {
        zmq_pollitem_t items[] = {
            {.socket = zap_socket(world->zap), .events = ZMQ_POLLIN},
            {.socket = socket, .events = ZMQ_POLLIN},
            // A subscriber sends what it subscribes to when it is looked at.
            {.socket = world->client_socket, .events = ZMQ_POLLIN},
        };
        zmq_poll(items, world->client_socket != NULL ? 3 : 2, 20);
        zap_serve(world->zap, 8);
        if (items[1].revents & ZMQ_POLLIN) {
            return true;
        }
    }
    return false;
}

// Serves until somebody was refused.
static bool serve_refusal(world_t *world) {
    uint64_t until_ms = now_ms() + WAIT_MS;
    uint32_t before = world->refused;
    while (now_ms() < until_ms && world->refused == before) {
        serve(world, world->control, 20);
    }
    return world->refused > before;
}

static void *dealer(world_t *world) {
    fleet_text_t why = "";
    void *socket =
        fleet_bus_dealer(world->client_context, world->control_at,
                         world->server.public_key, &world->client, why);
    assert_non_null(socket);
    world->client_socket = socket;
    return socket;
}

// Sends `open` as soon as the connection stands.
static bool say_open(world_t *world, void *socket) {
    uint64_t until_ms = now_ms() + WAIT_MS;
    memset(&world->out, 0, sizeof world->out);
    world->out.message.type = FLEET_MESSAGE_open;
    world->out.message.open.protocol = FLEET_PROTOCOL;
    while (now_ms() < until_ms) {
        if (fleet_bus_send(socket, NULL, &world->out)) {
            return true;
        }
        serve(world, world->control, 10);
    }
    return false;
}

static void admitted_gets_in(void **state) {
    world_t *world = *state;
    fleet_route_t route;
    fleet_key_t key;
    fleet_text_t why = "";
    world->admitted = true;
    void *client = dealer(world);
    assert_true(say_open(world, client));
    assert_true(serve(world, world->control, WAIT_MS));
    assert_int_equal(
        fleet_bus_recv(world->control, &route, key, &world->in, &why),
        FLEET_RECV_OK);
    assert_int_equal(world->in.message.type, FLEET_MESSAGE_open);
    assert_memory_equal(key, world->client.public_key, FLEET_KEY_SIZE);
    assert_int_equal(world->refused, 0);
}

static void unknown_gets_nowhere(void **state) {
    world_t *world = *state;
    void *client = dealer(world);
    assert_true(serve_refusal(world));
    assert_string_equal(world->why, "unknown-key");
    // It may try again for ever: nothing of it arrives.
    memset(&world->out, 0, sizeof world->out);
    world->out.message.type = FLEET_MESSAGE_open;
    assert_false(fleet_bus_send(client, NULL, &world->out));
    assert_false(serve(world, world->control, 50));
}

static void plain_connection_gets_nowhere(void **state) {
    world_t *world = *state;
    world->admitted = true;
    void *client = zmq_socket(world->client_context, ZMQ_DEALER);
    world->client_socket = client;
    int linger = 0;
    zmq_setsockopt(client, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_connect(client, world->control_at), 0);
    zmq_send(client, "x", 1, ZMQ_DONTWAIT);
    assert_false(serve(world, world->control, 100));
}

// Whether the client's connection is closed: it says so in its monitor.
static bool closed_within(void *monitor, world_t *world, int wait_ms) {
    uint64_t until_ms = now_ms() + (uint64_t)wait_ms;
    while (now_ms() < until_ms) {
        zmq_pollitem_t item = {.socket = monitor, .events = ZMQ_POLLIN};
        serve(world, world->control, 5);
        if (zmq_poll(&item, 1, 5) > 0) {
            return true;
        }
    }
    return false;
}

static void *watch_loss(world_t *world, void *client, const char *name) {
    char endpoint[64];
    FLEET_FORMAT(endpoint, "inproc://%s", name);
    assert_int_equal(
        zmq_socket_monitor(client, endpoint, ZMQ_EVENT_DISCONNECTED), 0);
    void *monitor = zmq_socket(world->client_context, ZMQ_PAIR);
    world->monitor = monitor;
    assert_int_equal(zmq_connect(monitor, endpoint), 0);
    return monitor;
}

static void revoked_is_cut_on_control(void **state) {
    world_t *world = *state;
    fleet_route_t route;
    fleet_key_t key;
    uint64_t left = 0;
    peers_t *peers = world->peers;
    world->admitted = true;
    void *client = dealer(world);
    void *monitor = watch_loss(world, client, "control-loss");
    assert_true(say_open(world, client));
    assert_true(serve(world, world->control, WAIT_MS));
    assert_int_equal(
        fleet_bus_recv(world->control, &route, key, &world->in, NULL),
        FLEET_RECV_OK);
    uint64_t number = peers_seen(peers, &route, key, world->in.peer_fd, &left);
    assert_int_equal(left, 0);
    assert_non_null(peers_find(peers, number));
    fleet_key_t other = {1};
    assert_int_equal(peers_cut(peers, other), 0);
    world->admitted = false;
    assert_int_equal(peers_cut(peers, key), 1);
    assert_true(closed_within(monitor, world, 1000));
    // It comes back and is turned away; a second cut finds nothing.
    assert_true(serve_refusal(world));
    assert_int_equal(peers_cut(peers, key), 0);
}

static void revoked_is_cut_on_events(void **state) {
    world_t *world = *state;
    fleet_text_t why = "";
    fleet_key_t key;
    char topic[64];
    bool on = false;
    int fd = -1;
    peers_t *peers = world->peers;
    world->admitted = true;
    void *client = fleet_bus_sub(world->client_context, world->events_at,
                                 world->server.public_key, &world->client, why);
    assert_non_null(client);
    world->client_socket = client;
    void *monitor = watch_loss(world, client, "events-loss");
    assert_int_equal(zmq_setsockopt(client, ZMQ_SUBSCRIBE, "e", 1), 0);
    assert_true(serve(world, world->events, WAIT_MS));
    assert_int_equal(
        fleet_bus_recv_subscriber(world->events, key, topic, &on, &fd),
        FLEET_RECV_OK);
    assert_true(on);
    assert_string_equal(topic, "e");
    assert_memory_equal(key, world->client.public_key, FLEET_KEY_SIZE);
    peers_subscriber(peers, key, fd);
    memset(&world->out, 0, sizeof world->out);
    world->out.message.type = FLEET_MESSAGE_say_hello;
    assert_true(fleet_bus_publish(world->events, "e", &world->out));
    zmq_pollitem_t item = {.socket = client, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&item, 1, WAIT_MS), 1);
    assert_int_equal(fleet_bus_recv_topic(client, topic, &world->in, NULL),
                     FLEET_RECV_OK);
    world->admitted = false;
    assert_int_equal(peers_cut(peers, key), 1);
    // Published right after: it must not get through any more.
    fleet_bus_publish(world->events, "e", &world->out);
    assert_true(closed_within(monitor, world, 1000));
    assert_int_equal(fleet_bus_recv_topic(client, topic, &world->in, NULL),
                     FLEET_RECV_NONE);
}

static void second_handler_is_refused(void **state) {
    world_t *world = *state;
    fleet_text_t why = "";
    assert_null(zap_new(world->context, on_key, on_refusal, world, why));
    assert_true(why[0] != '\0');
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(admitted_gets_in),
        TEST(unknown_gets_nowhere),
        TEST(plain_connection_gets_nowhere),
        TEST(revoked_is_cut_on_control),
        TEST(revoked_is_cut_on_events),
        TEST(second_handler_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
