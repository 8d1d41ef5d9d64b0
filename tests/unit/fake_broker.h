// SPDX-License-Identifier: MIT
//
// A small broker for tests of the client: CURVE, a door that knows one key, and
// answers that the test writes.  It runs in a thread of its own on loopback and
// can be stopped and started again at the same place.

#ifndef TESTS_FAKE_BROKER_H
#define TESTS_FAKE_BROKER_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "proto/bus.h"
#include "proto/codec.h"
#include "proto/text.h"

typedef struct fake fake_t;

// Called in the broker's thread with everything that is no `open`.
typedef void fake_on_message_t(fake_t *fake, const fleet_route_t *route,
                               const fleet_message_t *message);

struct fake {
    pthread_t thread;
    void *context;
    void *zap;
    void *router;
    void *xpub;
    char control[64]; // "" before the first start; then where it listens
    char events[64];
    fleet_key_pair_t pair;
    fleet_key_t allowed;
    bool no_door; // nobody answers for the keys
    atomic_int stop;
    atomic_int served; // messages that came, `open` apart
    uint64_t term;
    fleet_name_t site;
    fake_on_message_t *on_message;
    void *user;
    uint64_t journal_n; // entries 1 to journal_n
};

static inline void fake_send(fake_t *fake, const fleet_route_t *route,
                             const fleet_message_t *message) {
    fleet_parcel_t parcel = {.message = *message};

    fleet_bus_send(fake->router, route, &parcel);
}

// Entry `seq` of a journal in which set www is acquired again and again.
static inline void fake_entry(const char *ask, uint64_t seq,
                              fleet_parcel_t *ret_parcel, uint8_t *buffer,
                              size_t size) {
    fleet_message_t event = {.type = FLEET_MESSAGE_set_acquired};

    memset(ret_parcel, 0, sizeof(*ret_parcel));
    event.set_acquired.head.seq = seq;
    FLEET_COPY(event.set_acquired.head.set, "www");
    ret_parcel->message.type = FLEET_MESSAGE_entry;
    FLEET_COPY(ret_parcel->message.entry.ask, ask);
    ret_parcel->message.entry.seq = seq;
    ret_parcel->message.entry.hash[0] = (uint8_t)seq;
    ret_parcel->frames_n = 2;
    ret_parcel->frames[0].data = buffer;
    ret_parcel->frames[1].data = buffer;
    assert(fleet_encode(&event, buffer, size, &ret_parcel->frames[0].size) ==
           FLEET_OK);
}

// Answers entries_ask from its journal, at most two at a time.
static inline void fake_answer_entries(fake_t *fake, const fleet_route_t *route,
                                       const fleet_entries_ask_t *ask) {
    fleet_message_t end = {.type = FLEET_MESSAGE_end};
    fleet_parcel_t parcel;
    uint8_t buffer[4096];
    uint64_t seq = ask->seq;

    for (; seq <= fake->journal_n && seq < ask->seq + 2; seq++) {
        fake_entry(ask->ask, seq, &parcel, buffer, sizeof(buffer));
        fleet_bus_send(fake->router, route, &parcel);
        end.end.rows++;
    }
    FLEET_COPY(end.end.ask, ask->ask);
    end.end.seq = seq;
    end.end.more = seq <= fake->journal_n;
    fake_send(fake, route, &end);
}

static inline void fake_publish(fake_t *fake, uint64_t seq) {
    fleet_parcel_t parcel;
    uint8_t buffer[4096];

    fake_entry("", seq, &parcel, buffer, sizeof(buffer));
    fleet_bus_publish(fake->xpub, "e", &parcel);
}

static inline void fake_open_door(fake_t *fake) {
    char frames[8][256];
    size_t sizes[8] = {0};
    char user[65];
    int n = 0;
    int more = 1;
    size_t more_size = sizeof(more);

    while (more != 0 && n < 8) {
        int size = zmq_recv(fake->zap, frames[n], sizeof(frames[n]), 0);

        assert(size >= 0 && size <= 256);
        sizes[n++] = (size_t)size;
        zmq_getsockopt(fake->zap, ZMQ_RCVMORE, &more, &more_size);
    }
    bool known = n == 7 && sizes[6] == FLEET_KEY_SIZE &&
                 memcmp(frames[6], fake->allowed, FLEET_KEY_SIZE) == 0;

    fleet_key_print(fake->allowed, user);
    zmq_send(fake->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(fake->zap, frames[1], sizes[1], ZMQ_SNDMORE);
    zmq_send(fake->zap, known ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(fake->zap, "", 0, ZMQ_SNDMORE);
    zmq_send(fake->zap, user, known ? 64 : 0, ZMQ_SNDMORE);
    zmq_send(fake->zap, "", 0, 0);
}

static inline void fake_welcome(fake_t *fake, const fleet_route_t *route) {
    fleet_message_t welcome = {.type = FLEET_MESSAGE_welcome};

    welcome.welcome.protocol = FLEET_PROTOCOL;
    FLEET_COPY(welcome.welcome.site, fake->site);
    FLEET_COPY(welcome.welcome.broker, "b1");
    FLEET_COPY(welcome.welcome.events, fake->events);
    welcome.welcome.term = fake->term;
    welcome.welcome.seq = fake->journal_n;
    fake_send(fake, route, &welcome);
}

static inline void fake_serve(fake_t *fake) {
    fleet_parcel_t parcel;
    fleet_route_t route;
    fleet_key_t key;
    fleet_text_t why;
    char topic[64];
    bool on;
    int fd;

    while (fleet_bus_recv_subscriber(fake->xpub, key, topic, &on, &fd) !=
           FLEET_RECV_NONE) {
    }
    while (fleet_bus_recv(fake->router, &route, key, &parcel, &why) ==
           FLEET_RECV_OK) {
        assert(memcmp(key, fake->allowed, sizeof(key)) == 0);
        if (parcel.message.type == FLEET_MESSAGE_open) {
            fake_welcome(fake, &route);
        } else {
            atomic_fetch_add(&fake->served, 1);
            fake->on_message(fake, &route, &parcel.message);
        }
        fleet_parcel_clear(&parcel);
    }
}

static inline void *fake_run(void *context) {
    fake_t *fake = context;

    while (atomic_load(&fake->stop) == 0) {
        zmq_pollitem_t items[3] = {
            {.socket = fake->router, .events = ZMQ_POLLIN},
            {.socket = fake->xpub, .events = ZMQ_POLLIN},
            {.socket = fake->zap, .events = ZMQ_POLLIN}};

        if (zmq_poll(items, fake->zap != NULL ? 3 : 2, 5) <= 0) {
            continue;
        }
        if (fake->zap != NULL && (items[2].revents & ZMQ_POLLIN) != 0) {
            fake_open_door(fake);
        }
        fake_serve(fake);
    }
    return NULL;
}

static inline void fake_where(void *socket, char *endpoint, size_t size) {
    assert(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0);
}

static inline void fake_start(fake_t *fake) {
    fleet_text_t why = "";

    fake->context = zmq_ctx_new();
    fake->zap = NULL;
    if (!fake->no_door) {
        fake->zap = zmq_socket(fake->context, ZMQ_REP);
        assert(zmq_bind(fake->zap, "inproc://zeromq.zap.01") == 0);
    }
    fake->router = fleet_bus_router(
        fake->context,
        fake->control[0] != '\0' ? fake->control : "tcp://127.0.0.1:*",
        &fake->pair, why);
    assert(fake->router != NULL);
    fake->xpub = fleet_bus_xpub(fake->context,
                                fake->events[0] != '\0' ? fake->events
                                                        : "tcp://127.0.0.1:*",
                                &fake->pair, why);
    assert(fake->xpub != NULL);
    fake_where(fake->router, fake->control, sizeof(fake->control));
    fake_where(fake->xpub, fake->events, sizeof(fake->events));
    fake->term++;
    atomic_store(&fake->stop, 0);
    assert(pthread_create(&fake->thread, NULL, fake_run, fake) == 0);
}

static inline void fake_stop(fake_t *fake) {
    atomic_store(&fake->stop, 1);
    pthread_join(fake->thread, NULL);
    zmq_close(fake->router);
    zmq_close(fake->xpub);
    if (fake->zap != NULL) {
        zmq_close(fake->zap);
    }
    zmq_ctx_term(fake->context);
}

#endif
