// SPDX-License-Identifier: MIT

#include "broker/strangers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "broker/peers.h"
#include "proto/text.h"

#define DESCRIPTORS_MAX 1024 // whose address is remembered; a larger one is not

#define EVENTS                                                                 \
    (ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |               \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_DISCONNECTED |            \
     ZMQ_EVENT_ACCEPT_FAILED)

struct strangers {
    void *server;
    void *socket;
    const char *name;
    strangers_on_failure_t *on_failure;
    void *context;
    const char *failed; // why; the next DISCONNECTED says whose it was
    char addresses[DESCRIPTORS_MAX][64];
};

strangers_t *strangers_new(void *zmq_context, void *server, const char *name,
                           strangers_on_failure_t *on_failure, void *context,
                           fleet_text_t ret_why) {
    char endpoint[64];
    int linger = 0;
    strangers_t *strangers = calloc(1, sizeof *strangers);
    if (strangers == NULL) {
        abort();
    }
    strangers->server = server;
    strangers->name = name;
    strangers->on_failure = on_failure;
    strangers->context = context;
    FLEET_FORMAT(endpoint, "inproc://strangers-%s", name);
    strangers->socket = zmq_socket(zmq_context, ZMQ_PAIR);
    if (strangers->socket == NULL ||
        zmq_setsockopt(strangers->socket, ZMQ_LINGER, &linger, sizeof linger) !=
            0 ||
        zmq_socket_monitor(server, endpoint, EVENTS) != 0 ||
        zmq_connect(strangers->socket, endpoint) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot watch the endpoint %s: %s", name,
                          zmq_strerror(errno));
        strangers_destroy(&strangers);
    }
    return strangers;
}

void strangers_destroy(strangers_t **strangers_p) {
    strangers_t *strangers = *strangers_p;
    if (strangers == NULL) {
        return;
    }
    zmq_socket_monitor(strangers->server, NULL, 0);
    if (strangers->socket != NULL) {
        zmq_close(strangers->socket);
    }
    free(strangers);
    *strangers_p = NULL;
}

void *strangers_socket(strangers_t *strangers) {
    return strangers->socket;
}

static char *address_of(strangers_t *strangers, uint32_t fd) {
    return fd < DESCRIPTORS_MAX ? strangers->addresses[fd] : NULL;
}

// Both events of a failure come from the one thread that does the I/O, one
// right after the other; only the second names the descriptor.
static void take(strangers_t *strangers, uint16_t event, uint32_t value) {
    char *address = address_of(strangers, value);
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        if (address != NULL) {
            peers_address((int)value, address);
        }
        break;
    case ZMQ_EVENT_ACCEPT_FAILED:
        strangers->on_failure(strangers->context, "all", strangers->name,
                              strerror((int)value));
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        strangers->failed = "garbage";
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        strangers->failed = "broken-handshake";
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (strangers->failed != NULL) {
            bool known = address != NULL && address[0] != '\0';
            strangers->on_failure(strangers->context,
                                  known ? address : "an unknown address",
                                  strangers->name, strangers->failed);
        }
        strangers->failed = NULL;
        break;
    default:
        break;
    }
}

void strangers_take(strangers_t *strangers, uint32_t limit) {
    for (uint32_t i = 0; i < limit; i++) {
        zmq_msg_t frame;
        uint16_t event = 0;
        uint32_t value = 0;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, strangers->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return;
        }
        if (zmq_msg_size(&frame) == sizeof event + sizeof value) {
            const uint8_t *data = zmq_msg_data(&frame);
            memcpy(&event, data, sizeof event);
            memcpy(&value, data + sizeof event, sizeof value);
        }
        // The second frame is our own endpoint.
        while (zmq_msg_more(&frame)) {
            zmq_msg_recv(&frame, strangers->socket, ZMQ_DONTWAIT);
        }
        zmq_msg_close(&frame);
        take(strangers, event, value);
    }
}
