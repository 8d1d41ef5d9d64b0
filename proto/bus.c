// SPDX-License-Identifier: MIT
//
// Sockets and frames.  Every option of every socket is set here, before it
// binds or connects (ZeroMQ reads most of them only then).  Who may come in is
// decided by the ZAP handler of the process that binds; what a message means is
// decided by its readers.

#include "proto/bus.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "proto/codec.h"
#include "proto/text.h"

// libzmq 4.3.4 has the option, but names it only in its draft header.
#define ZAP_ENFORCE_DOMAIN 93

#define FRAMES_MAX 4 // route or topic, message, two raw frames

// A whole answer of many rows is queued at once, so the marks are far above
// what the rows of a large site need, and still a bound.
#define SERVER_HWM 16384
#define CLIENT_HWM 16384

#define HANDSHAKE_MS 5000
#define CONNECT_MS 3000
#define RECONNECT_MS 100 // a broker that was restarted is found at once
#define RECONNECT_MAX_MS 2000
#define LINGER_MS 500 // the last answer gets out; nobody waits for a dead peer
#define BACKLOG 4096

static void set_int(void *socket, int option, int value) {
    int rc = zmq_setsockopt(socket, option, &value, sizeof(value));

    assert(rc == 0);
}

static void set_bytes(void *socket, int option, const void *bytes,
                      size_t size) {
    int rc = zmq_setsockopt(socket, option, bytes, size);

    assert(rc == 0);
}

// What server and client sockets have in common.
static void *socket_make(void *context, int type, fleet_text_t ret_why) {
    void *socket = zmq_socket(context, type);
    int64_t frame_max = (int64_t)FLEET_FRAME_MAX;

    if (socket == NULL) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot make a socket: %s", zmq_strerror(errno));
        return NULL;
    }
    // Before the handshake a stranger may announce a frame of any size.
    set_bytes(socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof(frame_max));
    set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    set_int(socket, ZMQ_LINGER, LINGER_MS);
    set_int(socket, ZMQ_IPV6, 1);
    // Half-open connections: fleet's own renewals and repeats find a dead peer,
    // the kernel frees what is left of it.  ZMTP heartbeats stay off.
    set_int(socket, ZMQ_TCP_KEEPALIVE, 1);
    set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, 30);
    set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, 10);
    set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, 3);
    return socket;
}

static void *server_make(void *context, int type, const char *endpoint,
                         const fleet_key_pair_t *pair, fleet_text_t ret_why) {
    static const char domain[] = "fleet";
    void *socket = socket_make(context, type, ret_why);

    if (socket == NULL) {
        return NULL;
    }
    // Without a handler, and with one that does not answer, nobody gets in.
    set_bytes(socket, ZMQ_ZAP_DOMAIN, domain, sizeof(domain) - 1);
    set_int(socket, ZAP_ENFORCE_DOMAIN, 1);
    set_int(socket, ZMQ_CURVE_SERVER, 1);
    set_bytes(socket, ZMQ_CURVE_SECRETKEY, pair->secret_key, FLEET_KEY_SIZE);
    set_int(socket, ZMQ_SNDHWM, SERVER_HWM);
    set_int(socket, ZMQ_RCVHWM, SERVER_HWM);
    set_int(socket, ZMQ_BACKLOG, BACKLOG);
    if (type == ZMQ_ROUTER) {
        set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
    } else {
        // Every subscription is told, not only the first of a topic: each is
        // checked against the list of keys.
        set_int(socket, ZMQ_XPUB_VERBOSER, 1);
    }
    if (zmq_bind(socket, endpoint) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot listen on %s: %s", endpoint,
                          zmq_strerror(errno));
        zmq_close(socket);
        return NULL;
    }
    return socket;
}

static void *client_make(void *context, int type, const char *endpoint,
                         const fleet_key_t server, const fleet_key_pair_t *pair,
                         fleet_text_t ret_why) {
    void *socket = socket_make(context, type, ret_why);

    if (socket == NULL) {
        return NULL;
    }
    set_bytes(socket, ZMQ_CURVE_SERVERKEY, server, FLEET_KEY_SIZE);
    set_bytes(socket, ZMQ_CURVE_PUBLICKEY, pair->public_key, FLEET_KEY_SIZE);
    set_bytes(socket, ZMQ_CURVE_SECRETKEY, pair->secret_key, FLEET_KEY_SIZE);
    set_int(socket, ZMQ_SNDHWM, CLIENT_HWM);
    set_int(socket, ZMQ_RCVHWM, CLIENT_HWM);
    set_int(socket, ZMQ_CONNECT_TIMEOUT, CONNECT_MS);
    set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    // Nothing is queued for a peer that is not there: a send that is refused
    // was not sent, and no command leaves minutes late.
    set_int(socket, ZMQ_IMMEDIATE, 1);
    if (zmq_connect(socket, endpoint) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot connect to %s: %s", endpoint,
                          zmq_strerror(errno));
        zmq_close(socket);
        return NULL;
    }
    return socket;
}

void *fleet_bus_router(void *context, const char *endpoint,
                       const fleet_key_pair_t *pair, fleet_text_t ret_why) {
    return server_make(context, ZMQ_ROUTER, endpoint, pair, ret_why);
}

void *fleet_bus_xpub(void *context, const char *endpoint,
                     const fleet_key_pair_t *pair, fleet_text_t ret_why) {
    return server_make(context, ZMQ_XPUB, endpoint, pair, ret_why);
}

void *fleet_bus_dealer(void *context, const char *endpoint,
                       const fleet_key_t server, const fleet_key_pair_t *pair,
                       fleet_text_t ret_why) {
    return client_make(context, ZMQ_DEALER, endpoint, server, pair, ret_why);
}

void *fleet_bus_sub(void *context, const char *endpoint,
                    const fleet_key_t server, const fleet_key_pair_t *pair,
                    fleet_text_t ret_why) {
    return client_make(context, ZMQ_SUB, endpoint, server, pair, ret_why);
}

void fleet_bus_subscribe(void *socket, const char *topic) {
    set_bytes(socket, ZMQ_SUBSCRIBE, topic, strlen(topic));
}

int fleet_bus_fd(void *socket) {
    int fd = -1;
    size_t size = sizeof(fd);
    int rc = zmq_getsockopt(socket, ZMQ_FD, &fd, &size);

    assert(rc == 0);
    return fd;
}

// ------------------------------------------------------------------- receiving

// The frames of one multipart message; what is above the bound is read and
// gone.
typedef struct bundle {
    zmq_msg_t frames[FRAMES_MAX];
    uint32_t frames_n;
    bool too_many;
    int peer_fd;
    bool has_key; // the last frame names the key that ZAP authenticated
    fleet_key_t key;
} bundle_t;

static void bundle_close(bundle_t *bundle) {
    for (uint32_t i = 0; i < bundle->frames_n; i++) {
        zmq_msg_close(&bundle->frames[i]);
    }
    bundle->frames_n = 0;
}

static void read_peer(bundle_t *bundle, zmq_msg_t *frame) {
    const char *user = zmq_msg_gets(frame, "User-Id");

    bundle->peer_fd = zmq_msg_get(frame, ZMQ_SRCFD);
    bundle->has_key = user != NULL && fleet_key_parse(user, bundle->key);
}

// False if nothing waits.
static bool bundle_recv(void *socket, bundle_t *ret_bundle) {
    bool more = true;

    *ret_bundle = (bundle_t){.peer_fd = -1};
    while (more) {
        zmq_msg_t frame;
        int rc;

        zmq_msg_init(&frame);
        do {
            rc = zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT);
        } while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            // Frames of one message arrive together or not at all.
            assert(ret_bundle->frames_n == 0);
            zmq_msg_close(&frame);
            return false;
        }
        more = zmq_msg_more(&frame) != 0;
        if (!more) {
            read_peer(ret_bundle, &frame);
        }
        if (ret_bundle->frames_n == FRAMES_MAX) {
            ret_bundle->too_many = true;
            zmq_msg_close(&frame);
            continue;
        }
        zmq_msg_init(&ret_bundle->frames[ret_bundle->frames_n]);
        zmq_msg_move(&ret_bundle->frames[ret_bundle->frames_n], &frame);
        zmq_msg_close(&frame);
        ret_bundle->frames_n++;
    }
    return true;
}

static fleet_recv_t bad(fleet_text_t *ret_why, const char *text) {
    fleet_text_copy(*ret_why, sizeof(*ret_why), text);
    return FLEET_RECV_BAD;
}

static void copy_frame(fleet_parcel_t *parcel, zmq_msg_t *frame) {
    size_t size = zmq_msg_size(frame);
    uint8_t *data = malloc(size + 1);

    assert(data != NULL);
    memcpy(data, zmq_msg_data(frame), size);
    data[size] = 0;
    parcel->frames[parcel->frames_n].data = data;
    parcel->frames[parcel->frames_n].size = size;
    parcel->frames_n++;
}

// Message and raw frames of a bundle, from frame `first` on.
static fleet_recv_t unpack(bundle_t *bundle, uint32_t first,
                           fleet_parcel_t *ret_parcel, fleet_text_t *ret_why) {
    zmq_msg_t *frame = &bundle->frames[first];

    ret_parcel->frames_n = 0;
    ret_parcel->peer_fd = bundle->peer_fd;
    if (bundle->frames_n <= first) {
        return bad(ret_why, "a message without a frame");
    }
    if (bundle->too_many || bundle->frames_n - first > 3) {
        return bad(ret_why, "a message of too many frames");
    }
    if (fleet_decode(zmq_msg_data(frame), zmq_msg_size(frame),
                     &ret_parcel->message, ret_why) != FLEET_OK) {
        ret_parcel->message.type = FLEET_MESSAGE_none;
        ret_parcel->message.open.protocol =
            fleet_peek_protocol(zmq_msg_data(frame), zmq_msg_size(frame));
        return FLEET_RECV_BAD;
    }
    for (uint32_t i = first + 1; i < bundle->frames_n; i++) {
        copy_frame(ret_parcel, &bundle->frames[i]);
    }
    return FLEET_RECV_OK;
}

static fleet_recv_t unpack_routed(bundle_t *bundle, fleet_route_t *ret_route,
                                  fleet_key_t ret_key,
                                  fleet_parcel_t *ret_parcel,
                                  fleet_text_t *ret_why) {
    size_t size = zmq_msg_size(&bundle->frames[0]);

    *ret_route = (fleet_route_t){0};
    if (!bundle->has_key) {
        memset(ret_key, 0, FLEET_KEY_SIZE);
        return bad(ret_why, "a message without an authenticated key");
    }
    memcpy(ret_key, bundle->key, FLEET_KEY_SIZE);
    if (size > sizeof(ret_route->bytes)) {
        return bad(ret_why, "a routing id longer than 16 bytes");
    }
    memcpy(ret_route->bytes, zmq_msg_data(&bundle->frames[0]), size);
    ret_route->size = (uint8_t)size;
    return unpack(bundle, 1, ret_parcel, ret_why);
}

fleet_recv_t fleet_bus_recv(void *socket, fleet_route_t *ret_route,
                            fleet_key_t ret_key, fleet_parcel_t *ret_parcel,
                            fleet_text_t *ret_why) {
    bundle_t bundle;
    fleet_text_t why = "";
    fleet_recv_t result;

    if (!bundle_recv(socket, &bundle)) {
        return FLEET_RECV_NONE;
    }
    ret_parcel->message.type = FLEET_MESSAGE_none;
    ret_parcel->message.open.protocol = 0;
    ret_parcel->frames_n = 0;
    ret_parcel->peer_fd = bundle.peer_fd;
    if (ret_route == NULL) {
        result = unpack(&bundle, 0, ret_parcel, &why);
    } else {
        result = unpack_routed(&bundle, ret_route, ret_key, ret_parcel, &why);
    }
    bundle_close(&bundle);
    if (result == FLEET_RECV_BAD && ret_why != NULL) {
        memcpy(*ret_why, why, sizeof(why));
    }
    return result;
}

fleet_recv_t fleet_bus_recv_topic(void *socket, char ret_topic[64],
                                  fleet_parcel_t *ret_parcel,
                                  fleet_text_t *ret_why) {
    bundle_t bundle;
    fleet_text_t why = "";
    fleet_recv_t result;
    size_t size;

    if (!bundle_recv(socket, &bundle)) {
        return FLEET_RECV_NONE;
    }
    ret_parcel->message.type = FLEET_MESSAGE_none;
    ret_parcel->message.open.protocol = 0;
    ret_parcel->frames_n = 0;
    ret_parcel->peer_fd = bundle.peer_fd;
    size = zmq_msg_size(&bundle.frames[0]);
    if (size > 63) {
        result = bad(&why, "a topic longer than 63 bytes");
    } else {
        memcpy(ret_topic, zmq_msg_data(&bundle.frames[0]), size);
        ret_topic[size] = '\0';
        result = unpack(&bundle, 1, ret_parcel, &why);
    }
    bundle_close(&bundle);
    if (result == FLEET_RECV_BAD && ret_why != NULL) {
        memcpy(*ret_why, why, sizeof(why));
    }
    return result;
}

fleet_recv_t fleet_bus_recv_subscriber(void *socket, fleet_key_t ret_key,
                                       char ret_topic[64], bool *ret_on,
                                       int *ret_fd) {
    bundle_t bundle;
    fleet_recv_t result = FLEET_RECV_BAD;
    const uint8_t *data;
    size_t size;

    if (!bundle_recv(socket, &bundle)) {
        return FLEET_RECV_NONE;
    }
    data = zmq_msg_data(&bundle.frames[0]);
    size = zmq_msg_size(&bundle.frames[0]);
    if (bundle.frames_n == 1 && size >= 1 && size <= 64 && data[0] <= 1) {
        // A subscription ends without a key when its connection is lost.
        memset(ret_key, 0, FLEET_KEY_SIZE);
        if (bundle.has_key) {
            memcpy(ret_key, bundle.key, FLEET_KEY_SIZE);
        }
        memcpy(ret_topic, data + 1, size - 1);
        ret_topic[size - 1] = '\0';
        *ret_on = data[0] == 1;
        *ret_fd = bundle.peer_fd;
        result = FLEET_RECV_OK;
    }
    bundle_close(&bundle);
    return result;
}

void fleet_parcel_clear(fleet_parcel_t *parcel) {
    for (uint32_t i = 0; i < parcel->frames_n; i++) {
        free(parcel->frames[i].data);
        parcel->frames[i].data = NULL;
        parcel->frames[i].size = 0;
    }
    parcel->frames_n = 0;
}

// --------------------------------------------------------------------- sending

static bool send_frame(void *socket, const void *data, size_t size, bool more) {
    int rc;

    do {
        rc = zmq_send(socket, data, size,
                      ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
    } while (rc < 0 && errno == EINTR);
    return rc >= 0;
}

static bool send_parcel(void *socket, const void *first, size_t first_size,
                        const fleet_parcel_t *parcel) {
    uint8_t bytes[FLEET_FRAME_MAX];
    size_t used = 0;
    fleet_err_t err =
        fleet_encode(&parcel->message, bytes, sizeof(bytes), &used);

    // Any message that is well formed fits.
    assert(err == FLEET_OK);
    assert(parcel->frames_n <= 2);
    if (first != NULL && !send_frame(socket, first, first_size, true)) {
        return false;
    }
    if (!send_frame(socket, bytes, used, parcel->frames_n > 0)) {
        return false;
    }
    for (uint32_t i = 0; i < parcel->frames_n; i++) {
        if (!send_frame(socket, parcel->frames[i].data, parcel->frames[i].size,
                        i + 1 < parcel->frames_n)) {
            return false;
        }
    }
    return true;
}

bool fleet_bus_send(void *socket, const fleet_route_t *route,
                    const fleet_parcel_t *parcel) {
    if (route == NULL) {
        return send_parcel(socket, NULL, 0, parcel);
    }
    return send_parcel(socket, route->bytes, route->size, parcel);
}

bool fleet_bus_publish(void *socket, const char *topic,
                       const fleet_parcel_t *parcel) {
    return send_parcel(socket, topic, strlen(topic), parcel);
}
