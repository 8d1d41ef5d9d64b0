// SPDX-License-Identifier: MIT
//
// The connection to the kernel: see nettalk.h.

#include "node/nettalk.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// The kernel fills answers of a dump up to 32 KiB if it is offered so much.
#define ANSWER_SIZE 32768

struct net {
    struct mnl_socket *socket;
    unsigned port;
    uint32_t seq;
    _Alignas(struct nlmsghdr) char answer[ANSWER_SIZE];
};

typedef struct reader {
    void (*each)(const struct nlmsghdr *message, void *data);
    void *data;
    bool interrupted;
} reader_t;

net_t *net_open(void) {
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (socket == NULL) {
        return NULL;
    }
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int why = errno;
        mnl_socket_close(socket);
        errno = why;
        return NULL;
    }
    net_t *net = calloc(1, sizeof *net);
    if (net == NULL) {
        abort();
    }
    net->socket = socket;
    net->port = mnl_socket_get_portid(socket);
    return net;
}

void net_close(net_t **net_p) {
    net_t *net = *net_p;
    if (net == NULL) {
        return;
    }
    mnl_socket_close(net->socket);
    free(net);
    *net_p = NULL;
}

void *nettalk_begin(nettalk_request_t *request, int type, int flags,
                    size_t extra) {
    memset(request, 0, sizeof *request);
    request->header = mnl_nlmsg_put_header(request->bytes);
    request->header->nlmsg_type = (uint16_t)type;
    request->header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    return mnl_nlmsg_put_extra_header(request->header, extra);
}

static int on_message(const struct nlmsghdr *message, void *data) {
    reader_t *reader = data;
    if ((message->nlmsg_flags & NLM_F_DUMP_INTR) != 0) {
        reader->interrupted = true;
    }
    if (reader->each != NULL) {
        reader->each(message, reader->data);
    }
    return MNL_CB_OK;
}

static int talk(net_t *net, nettalk_request_t *request, reader_t *reader) {
    assert(request->header->nlmsg_len <= NETTALK_SIZE);
    request->header->nlmsg_seq = ++net->seq;
    if (mnl_socket_sendto(net->socket, request->header,
                          request->header->nlmsg_len) < 0) {
        return errno;
    }
    for (;;) {
        ssize_t size =
            mnl_socket_recvfrom(net->socket, net->answer, sizeof net->answer);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return errno;
        }
        int more = mnl_cb_run(net->answer, (size_t)size, net->seq, net->port,
                              on_message, reader);
        if (more < 0) {
            return errno;
        }
        if (more == MNL_CB_STOP) {
            return reader->interrupted ? EINTR : 0;
        }
    }
}

int nettalk_do(net_t *net, nettalk_request_t *request) {
    reader_t reader = {0};
    request->header->nlmsg_flags |= NLM_F_ACK;
    return talk(net, request, &reader);
}

int nettalk_ask(net_t *net, nettalk_request_t *request,
                void (*each)(const struct nlmsghdr *message, void *data),
                void *data) {
    reader_t reader = {.each = each, .data = data};
    // A single answer is followed by an acknowledgement, a dump by its end, so
    // that both are read in the same way.
    if ((request->header->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) {
        request->header->nlmsg_flags |= NLM_F_ACK;
    }
    return talk(net, request, &reader);
}

typedef struct table {
    const struct nlattr **places;
    uint16_t max;
} table_t;

static int on_attribute(const struct nlattr *attribute, void *data) {
    const table_t *table = data;
    uint16_t type = mnl_attr_get_type(attribute);
    if (type <= table->max) {
        table->places[type] = attribute;
    }
    return MNL_CB_OK;
}

void nettalk_attributes(const struct nlmsghdr *message, size_t extra,
                        const struct nlattr **places, uint16_t max) {
    table_t table = {.places = places, .max = max};
    (void)mnl_attr_parse(message, (unsigned)extra, on_attribute, &table);
}

void nettalk_nested(const struct nlattr *nest, const struct nlattr **places,
                    uint16_t max) {
    table_t table = {.places = places, .max = max};
    (void)mnl_attr_parse_nested(nest, on_attribute, &table);
}

void nettalk_put_ip(nettalk_request_t *request, uint16_t type,
                    const net_ip_t *ip) {
    mnl_attr_put(request->header, type, net_ip_size(ip), ip->bytes);
}

net_ip_t nettalk_get_ip(const struct nlattr *attribute, uint8_t family,
                        uint8_t prefix) {
    net_ip_t ip = {.family = family, .prefix = prefix};
    if (attribute == NULL ||
        mnl_attr_get_payload_len(attribute) != net_ip_size(&ip)) {
        return (net_ip_t){0};
    }
    memcpy(ip.bytes, mnl_attr_get_payload(attribute), net_ip_size(&ip));
    return ip;
}
