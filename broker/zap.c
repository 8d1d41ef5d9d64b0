// SPDX-License-Identifier: MIT

#include "broker/zap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "proto/text.h"

#define ENDPOINT "inproc://zeromq.zap.01"

// Frames of a request, in the order of RFC 27.
enum { VERSION, REQUEST, DOMAIN, ADDRESS, IDENTITY, MECHANISM, KEY, FRAMES };

#define FRAME_SIZE 256 // the longest frame that is looked at

typedef struct frame {
    size_t size;
    char bytes[FRAME_SIZE + 1]; // terminated, for those that are text
} frame_t;

struct zap {
    void *socket;
    zap_on_key_t *on_key;
    zap_on_refusal_t *on_refusal;
    void *context;
};

zap_t *zap_new(void *zmq_context, zap_on_key_t *on_key,
               zap_on_refusal_t *on_refusal, void *context,
               fleet_text_t ret_why) {
    zap_t *zap = calloc(1, sizeof *zap);
    if (zap == NULL) {
        abort();
    }
    zap->on_key = on_key;
    zap->on_refusal = on_refusal;
    zap->context = context;
    zap->socket = zmq_socket(zmq_context, ZMQ_REP);
    int linger = 0;
    if (zap->socket == NULL ||
        zmq_setsockopt(zap->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_bind(zap->socket, ENDPOINT) != 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot start the handler of keys: %s",
                          zmq_strerror(errno));
        zap_destroy(&zap);
    }
    return zap;
}

void zap_destroy(zap_t **zap_p) {
    if (*zap_p == NULL) {
        return;
    }
    if ((*zap_p)->socket != NULL) {
        zmq_close((*zap_p)->socket);
    }
    free(*zap_p);
    *zap_p = NULL;
}

void *zap_socket(zap_t *zap) {
    return zap->socket;
}

// Reads one request.  False if none waits; ret_n is the number of its frames,
// those past the last one that RFC 27 knows are dropped.
static bool read_request(zap_t *zap, frame_t frames[FRAMES], size_t *ret_n) {
    size_t n = 0;
    bool more = true;
    memset(frames, 0, FRAMES * sizeof *frames);
    while (more) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, zap->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&message);
            return false;
        }
        more = zmq_msg_more(&message) != 0;
        if (n < FRAMES) {
            size_t size = zmq_msg_size(&message);
            frames[n].size = size;
            memcpy(frames[n].bytes, zmq_msg_data(&message),
                   size < FRAME_SIZE ? size : FRAME_SIZE);
        }
        n++;
        zmq_msg_close(&message);
    }
    *ret_n = n;
    return true;
}

static bool is(const frame_t *frame, const char *text) {
    return frame->size == strlen(text) &&
           memcmp(frame->bytes, text, frame->size) == 0;
}

// Why the request is refused, or NULL.
static const char *judge(zap_t *zap, const frame_t frames[FRAMES], size_t n) {
    if (n != FRAMES || !is(&frames[VERSION], "1.0")) {
        return "malformed-request";
    }
    if (!is(&frames[DOMAIN], "fleet")) {
        return "wrong-domain";
    }
    if (!is(&frames[MECHANISM], "CURVE") ||
        frames[KEY].size != FLEET_KEY_SIZE) {
        return "wrong-mechanism";
    }
    fleet_key_t key;
    memcpy(key, frames[KEY].bytes, FLEET_KEY_SIZE);
    return zap->on_key(zap->context, key) ? NULL : "unknown-key";
}

static void reply(zap_t *zap, const frame_t *request, const char *refusal,
                  const char *user) {
    const char *status = refusal == NULL ? "200" : "400";
    const char *text = refusal == NULL ? "OK" : refusal;
    size_t size = request->size < FRAME_SIZE ? request->size : FRAME_SIZE;
    // The peer of this socket is in this process: sending cannot block.
    int bad = 0;
    bad |= zmq_send(zap->socket, "1.0", 3, ZMQ_SNDMORE) < 0;
    bad |= zmq_send(zap->socket, request->bytes, size, ZMQ_SNDMORE) < 0;
    bad |= zmq_send(zap->socket, status, 3, ZMQ_SNDMORE) < 0;
    bad |= zmq_send(zap->socket, text, strlen(text), ZMQ_SNDMORE) < 0;
    bad |= zmq_send(zap->socket, user, strlen(user), ZMQ_SNDMORE) < 0;
    bad |= zmq_send(zap->socket, "", 0, 0) < 0;
    assert(bad == 0);
}

uint32_t zap_serve(zap_t *zap, uint32_t limit) {
    frame_t frames[FRAMES];
    size_t n = 0;
    uint32_t served = 0;
    while (served < limit && read_request(zap, frames, &n)) {
        const char *refusal = judge(zap, frames, n);
        char user[2 * FLEET_KEY_SIZE + 1] = "";
        fleet_key_t key = {0};
        if (frames[KEY].size == FLEET_KEY_SIZE) {
            memcpy(key, frames[KEY].bytes, FLEET_KEY_SIZE);
        }
        if (refusal == NULL) {
            fleet_key_print(key, user);
        } else {
            zap->on_refusal(zap->context, frames[ADDRESS].bytes, refusal, key);
        }
        reply(zap, &frames[REQUEST], refusal, user);
        served++;
    }
    return served;
}
