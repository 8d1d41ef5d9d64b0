// SPDX-License-Identifier: MIT
//
// SOCK_DESTROY over sock_diag(7): the kernel finds the sockets by a filter in
// its own byte code, so that a node with many connections of other sets pays
// nothing.

#include "node/agents/connections.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define ALL_STATES UINT32_MAX
#define ANSWER_SIZE 32768

// One instruction, its condition, and the address.
#define FILTER_MAX                                                             \
    (sizeof(struct inet_diag_bc_op) + sizeof(struct inet_diag_hostcond) + 16)

typedef struct killer {
    struct mnl_socket *socket; // for SOCK_DESTROY; the dump has its own
    uint32_t seq;
    uint32_t n;
    int err;
} killer_t;

static int ask_destroy(killer_t *killer, const struct inet_diag_msg *found) {
    _Alignas(struct nlmsghdr) char bytes[256] = {0};
    struct nlmsghdr *header = mnl_nlmsg_put_header(bytes);
    header->nlmsg_type = SOCK_DESTROY;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    header->nlmsg_seq = ++killer->seq;
    struct inet_diag_req_v2 *request =
        mnl_nlmsg_put_extra_header(header, sizeof *request);
    request->sdiag_family = found->idiag_family;
    request->sdiag_protocol = IPPROTO_TCP;
    request->idiag_states = ALL_STATES;
    request->id = found->id;
    if (mnl_socket_sendto(killer->socket, header, header->nlmsg_len) < 0) {
        return errno;
    }
    char answer[512];
    ssize_t size;
    do {
        size = mnl_socket_recvfrom(killer->socket, answer, sizeof answer);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return errno;
    }
    return mnl_cb_run(answer, (size_t)size, killer->seq,
                      mnl_socket_get_portid(killer->socket), NULL, NULL) < 0
               ? errno
               : 0;
}

static int on_socket(const struct nlmsghdr *message, void *data) {
    killer_t *killer = data;
    if (mnl_nlmsg_get_payload_len(message) < sizeof(struct inet_diag_msg)) {
        return MNL_CB_OK;
    }
    int err = ask_destroy(killer, mnl_nlmsg_get_payload(message));
    if (err == 0) {
        killer->n++;
    } else if (err != ENOENT && err != ESTALE) {
        // Those two: it ended by itself between the dump and now.
        killer->err = err;
    }
    return MNL_CB_OK;
}

// "The local address is this one", in the kernel's byte code.  Returns its
// size.
static size_t write_filter(const net_ip_t *ip, uint8_t filter[FILTER_MAX]) {
    struct inet_diag_hostcond cond = {.family = ip->family,
                                      .prefix_len =
                                          (uint8_t)(8 * net_ip_size(ip)),
                                      .port = -1};
    size_t head = sizeof(struct inet_diag_bc_op);
    size_t size = head + sizeof cond + net_ip_size(ip);
    // A match goes to the end, which is "yes"; a mismatch behind the end.
    struct inet_diag_bc_op op = {.code = INET_DIAG_BC_S_COND,
                                 .yes = (unsigned char)size,
                                 .no = (unsigned short)(size + 4)};
    memcpy(filter, &op, head);
    memcpy(filter + head, &cond, sizeof cond);
    memcpy(filter + head + sizeof cond, ip->bytes, net_ip_size(ip));
    return size;
}

// `socket_family`: AF_INET sockets or AF_INET6 ones; the latter may bear an
// IPv4 address, which the kernel's filter matches inside the mapped form.
static int destroy_family(struct mnl_socket *dump, killer_t *killer,
                          uint8_t socket_family, const net_ip_t *ip) {
    _Alignas(struct nlmsghdr) char bytes[512] = {0};
    uint32_t seq = ++killer->seq;
    struct nlmsghdr *header = mnl_nlmsg_put_header(bytes);
    header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    header->nlmsg_seq = seq;
    struct inet_diag_req_v2 *request =
        mnl_nlmsg_put_extra_header(header, sizeof *request);
    request->sdiag_family = socket_family;
    request->sdiag_protocol = IPPROTO_TCP;
    request->idiag_states = ALL_STATES;

    uint8_t filter[FILTER_MAX];
    size_t size = write_filter(ip, filter);
    mnl_attr_put(header, INET_DIAG_REQ_BYTECODE, size, filter);

    if (mnl_socket_sendto(dump, header, header->nlmsg_len) < 0) {
        return errno;
    }
    for (;;) {
        static _Alignas(struct nlmsghdr) char answer[ANSWER_SIZE];
        ssize_t got = mnl_socket_recvfrom(dump, answer, sizeof answer);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno;
        }
        int more = mnl_cb_run(answer, (size_t)got, seq,
                              mnl_socket_get_portid(dump), on_socket, killer);
        if (more < 0) {
            return errno;
        }
        if (more == MNL_CB_STOP) {
            return killer->err;
        }
    }
}

static struct mnl_socket *open_diag(void) {
    struct mnl_socket *socket =
        mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
    if (socket != NULL && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int why = errno;
        mnl_socket_close(socket);
        errno = why;
        return NULL;
    }
    return socket;
}

int connections_destroy(const net_ip_t *ips, uint32_t ips_n, uint32_t *ret_n) {
    int err = 0;
    struct mnl_socket *dump = open_diag();
    if (dump == NULL) {
        return errno;
    }
    killer_t killer = {.socket = open_diag()};
    if (killer.socket == NULL) {
        err = errno;
        mnl_socket_close(dump);
        return err;
    }
    for (uint32_t i = 0; i < ips_n && err == 0; i++) {
        if (ips[i].family == AF_INET) {
            err = destroy_family(dump, &killer, AF_INET, &ips[i]);
        }
        if (err == 0) {
            err = destroy_family(dump, &killer, AF_INET6, &ips[i]);
            // No socket can be IPv6 where the kernel has none.
            err = err == ENOENT ? 0 : err;
        }
    }
    mnl_socket_close(dump);
    mnl_socket_close(killer.socket);
    if (err == 0) {
        *ret_n = killer.n;
    }
    return err;
}
