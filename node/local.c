// SPDX-License-Identifier: MIT

#include "node/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/codec.h"
#include "proto/text.h"

// A whole status is at most 256 rows; who leaves more unread than this is
// dropped.
#define QUEUE_MAX 1024

// Places that only root gets, so that nobody can keep the others out.
#define ROOT_PLACES 16

typedef struct packet {
    struct packet *next;
    size_t size;
    uint8_t bytes[];
} packet_t;

typedef struct client {
    uint64_t number; // 0: free
    int fd;
    uid_t uid;
    bool failed; // to be dropped
    size_t queued;
    packet_t *first;
    packet_t *last;
} client_t;

struct local {
    int fd;
    struct sockaddr_un address;
    uint64_t numbers;
    client_t clients[LOCAL_CLIENTS_MAX];
    uint8_t bytes[FLEET_FRAME_MAX];
};

local_t *local_new(const char *path, fleet_text_t ret_why) {
    local_t *local = calloc(1, sizeof(*local));
    if (!local) {
        abort();
    }
    local->address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(local->address.sun_path)) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "%s: is too long for the path of a socket", path);
        free(local);
        return NULL;
    }
    memcpy(local->address.sun_path, path, strlen(path) + 1);
    (void)unlink(path);
    local->fd =
        socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (local->fd < 0 ||
        bind(local->fd, (const struct sockaddr *)&local->address,
             sizeof(local->address)) < 0 ||
        chmod(path, 0666) < 0 || listen(local->fd, LOCAL_CLIENTS_MAX) < 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: %s", path,
                          strerror(errno));
        if (local->fd >= 0) {
            close(local->fd);
        }
        free(local);
        return NULL;
    }
    return local;
}

static void drop_first(client_t *client) {
    packet_t *first = client->first;
    client->first = first->next;
    if (!client->first) {
        client->last = NULL;
    }
    client->queued -= 1;
    free(first);
}

static void client_close(client_t *client) {
    close(client->fd);
    while (client->first) {
        drop_first(client);
    }
    *client = (client_t){.number = 0};
}

void local_destroy(local_t **local_p) {
    local_t *local = *local_p;
    if (!local) {
        return;
    }
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        if (local->clients[i].number != 0) {
            client_close(&local->clients[i]);
        }
    }
    (void)unlink(local->address.sun_path);
    close(local->fd);
    free(local);
    *local_p = NULL;
}

static client_t *client_find(local_t *local, uint64_t number) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        if (local->clients[i].number == number) {
            return &local->clients[i];
        }
    }
    return NULL;
}

static void client_flush(client_t *client) {
    while (client->first && !client->failed) {
        ssize_t sent = send(client->fd, client->first->bytes,
                            client->first->size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            client->failed = errno != EAGAIN;
            return;
        }
        drop_first(client);
    }
}

static size_t count_clients(const local_t *local) {
    size_t n = 0;
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        n += local->clients[i].number != 0;
    }
    return n;
}

static void accept_all(local_t *local) {
    for (;;) {
        client_t *client = client_find(local, 0);
        if (!client) {
            return; // the others wait in the socket's queue
        }
        int fd = accept4(local->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            return;
        }
        struct ucred peer;
        socklen_t size = sizeof(peer);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
            (peer.uid != 0 &&
             count_clients(local) >= LOCAL_CLIENTS_MAX - ROOT_PLACES)) {
            close(fd);
            continue;
        }
        *client =
            (client_t){.number = ++local->numbers, .fd = fd, .uid = peer.uid};
    }
}

size_t local_poll(const local_t *local, struct pollfd *ret_ready) {
    size_t n = 0;
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        const client_t *client = &local->clients[i];
        if (client->number != 0) {
            ret_ready[n++] = (struct pollfd){
                .fd = client->fd,
                .events = client->first ? POLLIN | POLLOUT : POLLIN};
        }
    }
    if (count_clients(local) < LOCAL_CLIENTS_MAX) {
        ret_ready[n++] = (struct pollfd){.fd = local->fd, .events = POLLIN};
    }
    return n;
}

// True if the client said something, or is to be dropped.
static bool client_recv(local_t *local, client_t *client,
                        local_event_t *ret_event) {
    client_flush(client);
    ssize_t size = -1;
    errno = EAGAIN;
    if (!client->failed) {
        do {
            size = recv(client->fd, local->bytes, sizeof(local->bytes),
                        MSG_DONTWAIT);
        } while (size < 0 && errno == EINTR);
    }
    if (!client->failed && size < 0 && errno == EAGAIN) {
        return false;
    }
    *ret_event = (local_event_t){
        .kind = LOCAL_GONE, .client = client->number, .uid = client->uid};
    if (!client->failed && size > 0 &&
        fleet_decode(local->bytes, (size_t)size, &ret_event->message, NULL) ==
            FLEET_OK) {
        ret_event->kind = LOCAL_ASK;
        return true;
    }
    client_close(client); // it left, or speaks something else
    return true;
}

local_event_kind_t local_recv(local_t *local, local_event_t *ret_event) {
    accept_all(local);
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        client_t *client = &local->clients[i];
        if (client->number != 0 && client_recv(local, client, ret_event)) {
            return ret_event->kind;
        }
    }
    return LOCAL_NONE;
}

void local_send(local_t *local, uint64_t number,
                const fleet_message_t *message) {
    client_t *client = number != 0 ? client_find(local, number) : NULL;
    size_t size = 0;
    if (!client || client->failed ||
        fleet_encode(message, local->bytes, sizeof(local->bytes), &size) !=
            FLEET_OK) {
        return;
    }
    if (client->queued == QUEUE_MAX) {
        client->failed = true;
        return;
    }
    packet_t *packet = malloc(sizeof(*packet) + size);
    if (!packet) {
        abort();
    }
    packet->next = NULL;
    packet->size = size;
    memcpy(packet->bytes, local->bytes, size);
    if (client->last) {
        client->last->next = packet;
    } else {
        client->first = packet;
    }
    client->last = packet;
    client->queued += 1;
    client_flush(client);
}

bool local_is_idle(const local_t *local) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        if (local->clients[i].first && !local->clients[i].failed) {
            return false;
        }
    }
    return true;
}
