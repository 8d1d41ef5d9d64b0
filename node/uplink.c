// SPDX-License-Identifier: MIT
//
// A DEALER and the monitor of its connection.  The monitor is what makes a
// restarted broker hear the next hello within its handshake and not within a
// renewal.

#include "node/uplink.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/text.h"

#define WATCHED                                                                \
    (ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |                  \
     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |                                    \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

struct uplink {
    uplink_config_t config;
    uint32_t at;
    void *context;
    void *socket;
    void *monitor;
    unsigned made;     // sockets so far: each monitor needs a name of its own
    uint64_t heard_ms; // 0: not since the clock was first asked
    bool heard;
};

static void close_sockets(uplink_t *uplink) {
    if (uplink->monitor) {
        zmq_socket_monitor(uplink->socket, NULL, 0);
        zmq_close(uplink->monitor);
        uplink->monitor = NULL;
    }
    if (uplink->socket) {
        zmq_close(uplink->socket);
        uplink->socket = NULL;
    }
}

static bool open_sockets(uplink_t *uplink, fleet_text_t ret_why) {
    const uplink_broker_t *broker = &uplink->config.brokers[uplink->at];
    char name[64];
    snprintf(name, sizeof(name), "inproc://uplink-%u", uplink->made++);
    uplink->socket =
        fleet_bus_dealer(uplink->context, broker->control, broker->key,
                         &uplink->config.pair, ret_why);
    if (!uplink->socket) {
        return false;
    }
    uplink->monitor = zmq_socket(uplink->context, ZMQ_PAIR);
    if (!uplink->monitor ||
        zmq_socket_monitor(uplink->socket, name, WATCHED) != 0 ||
        zmq_connect(uplink->monitor, name) != 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "cannot watch the connection: %s",
                          zmq_strerror(errno));
        close_sockets(uplink);
        return false;
    }
    return true;
}

uplink_t *uplink_new(const uplink_config_t *config, fleet_text_t ret_why) {
    assert(config->brokers_n >= 1);
    uplink_t *uplink = calloc(1, sizeof(*uplink));
    void *context = zmq_ctx_new();
    if (!uplink || !context) {
        abort();
    }
    uplink->config = *config;
    uplink->context = context;
    if (!open_sockets(uplink, ret_why)) {
        uplink_destroy(&uplink);
    }
    return uplink;
}

void uplink_destroy(uplink_t **uplink_p) {
    uplink_t *uplink = *uplink_p;
    if (!uplink) {
        return;
    }
    close_sockets(uplink);
    zmq_ctx_term(uplink->context);
    fleet_key_pair_wipe(&uplink->config.pair);
    free(uplink);
    *uplink_p = NULL;
}

bool uplink_configure(uplink_t *uplink, const uplink_config_t *config,
                      fleet_text_t ret_why) {
    const uplink_broker_t now = uplink->config.brokers[uplink->at];
    uplink->config = *config;
    for (uint32_t i = 0; i < config->brokers_n; i++) {
        const uplink_broker_t *broker = &config->brokers[i];
        if (strcmp(broker->control, now.control) == 0 &&
            memcmp(broker->key, now.key, sizeof(now.key)) == 0) {
            uplink->at = i;
            return true;
        }
    }
    close_sockets(uplink);
    uplink->at = 0;
    return open_sockets(uplink, ret_why);
}

static int fd_of(void *socket) {
    return socket ? fleet_bus_fd(socket) : -1;
}

int uplink_bus_fd(const uplink_t *uplink) {
    return fd_of(uplink->socket);
}

int uplink_monitor_fd(const uplink_t *uplink) {
    return fd_of(uplink->monitor);
}

// One event of the monitor; 0: none.  Its first frame is the event, 16 bits,
// and a value, 32 bits, in the machine's order; the second is the endpoint.
static uint16_t monitor_recv(uplink_t *uplink, uint32_t *ret_value) {
    uint8_t frame[6] = {0};
    if (!uplink->monitor || zmq_recv(uplink->monitor, frame, sizeof(frame),
                                     ZMQ_DONTWAIT) != (int)sizeof(frame)) {
        return 0;
    }
    uint16_t event;
    memcpy(&event, frame, sizeof(event));
    memcpy(ret_value, frame + sizeof(event), sizeof(*ret_value));
    (void)zmq_recv(uplink->monitor, NULL, 0, ZMQ_DONTWAIT);
    return event;
}

uplink_event_t uplink_recv(uplink_t *uplink, fleet_parcel_t *ret_parcel,
                           fleet_text_t *ret_text) {
    uint32_t value = 0;
    uint16_t event = monitor_recv(uplink, &value);
    const char *endpoint = uplink_endpoint(uplink);
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        FLEET_COPY(*ret_text, endpoint);
        return UPLINK_CONNECTED;
    }
    if (event == ZMQ_EVENT_DISCONNECTED) {
        FLEET_COPY(*ret_text, endpoint);
        return UPLINK_LOST;
    }
    if (event != 0) {
        FLEET_FORMAT(*ret_text,
                     "%s refuses the connection: its key is not the one in the "
                     "file, or this node's key is not admitted (%u)",
                     endpoint, value);
        return UPLINK_REFUSED;
    }
    if (!uplink->socket) {
        return UPLINK_NONE;
    }
    switch (fleet_bus_recv(uplink->socket, NULL, NULL, ret_parcel, ret_text)) {
    case FLEET_RECV_OK:
        uplink->heard = true;
        return UPLINK_PARCEL;
    case FLEET_RECV_BAD:
        return UPLINK_BAD;
    case FLEET_RECV_NONE:
        break;
    }
    return UPLINK_NONE;
}

bool uplink_send(uplink_t *uplink, const fleet_message_t *message) {
    static fleet_parcel_t parcel;
    parcel.message = *message;
    parcel.frames_n = 0;
    return uplink->socket && fleet_bus_send(uplink->socket, NULL, &parcel);
}

bool uplink_turn(uplink_t *uplink, uint64_t now_ms, uint64_t patience_ms,
                 fleet_text_t ret_text) {
    if (uplink->heard || uplink->heard_ms == 0) {
        uplink->heard = false;
        uplink->heard_ms = now_ms;
    }
    if (now_ms - uplink->heard_ms < patience_ms ||
        (uplink->config.brokers_n == 1 && uplink->socket)) {
        return false;
    }
    uplink->heard_ms = now_ms;
    uplink->at = (uplink->at + 1) % uplink->config.brokers_n;
    close_sockets(uplink);
    if (!open_sockets(uplink, ret_text)) {
        return false;
    }
    fleet_text_copy(ret_text, FLEET_TEXT_MAX + 1, uplink_endpoint(uplink));
    return true;
}

const char *uplink_endpoint(const uplink_t *uplink) {
    return uplink->config.brokers[uplink->at].control;
}
