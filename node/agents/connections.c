// SPDX-License-Identifier: MIT
//
// SOCK_DESTROY over sock_diag(7): the kernel finds the sockets by a filter in
// its own byte code, so that a node with many connections of other sets pays
// nothing.

#include "node/agents/connections.h"

#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define ALL_STATES UINT32_MAX
#define ANSWER_SIZE 32768

// An instruction, its condition and the address; and the jump behind it.
#define TEST_MAX                                                               \
    (sizeof(struct inet_diag_bc_op) + sizeof(struct inet_diag_hostcond) + 16)
#define JUMP sizeof(struct inet_diag_bc_op)
#define FILTER_MAX (CONNECTIONS_IPS_MAX * (TEST_MAX + JUMP))

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

static size_t test_size(const net_ip_t *ip) {
    return TEST_MAX - 16 + net_ip_size(ip);
}

// "The local address is one of these", in the kernel's byte code: to come to
// the end exactly is yes, to jump four bytes behind it is no.  Returns its
// size.
static size_t write_filter(const net_ip_t *ips, uint32_t ips_n,
                           uint8_t filter[FILTER_MAX]) {
    size_t size = 0;
    size_t all = 0;
    for (uint32_t i = 0; i < ips_n; i++) {
        all += test_size(&ips[i]) + (i + 1 < ips_n ? JUMP : 0);
    }
    for (uint32_t i = 0; i < ips_n; i++) {
        size_t test = test_size(&ips[i]);
        // A mismatch goes over the jump, to the next test.
        struct inet_diag_bc_op op = {.code = INET_DIAG_BC_S_COND,
                                     .yes = (unsigned char)test,
                                     .no = (unsigned short)(test + JUMP)};
        struct inet_diag_hostcond cond = {
            .family = ips[i].family,
            .prefix_len = (uint8_t)(8 * net_ip_size(&ips[i])),
            .port = -1};
        memcpy(filter + size, &op, sizeof op);
        memcpy(filter + size + sizeof op, &cond, sizeof cond);
        memcpy(filter + size + sizeof op + sizeof cond, ips[i].bytes,
               net_ip_size(&ips[i]));
        size += test;
        if (i + 1 < ips_n) {
            struct inet_diag_bc_op jump = {.code = INET_DIAG_BC_JMP,
                                           .yes = JUMP,
                                           .no = (unsigned short)(all - size)};
            memcpy(filter + size, &jump, sizeof jump);
            size += sizeof jump;
        }
    }
    return size;
}

// The kernel walks its whole hash of connections for each request, which takes
// milliseconds however few there are.  The older form of the request asks for
// both families, and so for all addresses, in one walk.  An IPv4 address is
// found on an IPv6 socket too: the filter matches it inside the mapped form.
static int destroy(struct mnl_socket *dump, killer_t *killer,
                   const net_ip_t *ips, uint32_t ips_n) {
    _Alignas(struct nlmsghdr) char bytes[FILTER_MAX + 256] = {0};
    uint8_t filter[FILTER_MAX];
    uint32_t seq = ++killer->seq;
    struct nlmsghdr *header = mnl_nlmsg_put_header(bytes);
    header->nlmsg_type = TCPDIAG_GETSOCK;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    header->nlmsg_seq = seq;
    struct inet_diag_req *request =
        mnl_nlmsg_put_extra_header(header, sizeof *request);
    request->idiag_family = AF_INET;
    request->idiag_states = ALL_STATES;
    mnl_attr_put(header, INET_DIAG_REQ_BYTECODE,
                 write_filter(ips, ips_n, filter), filter);

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
    assert(ips_n <= CONNECTIONS_IPS_MAX);
    if (ips_n == 0) {
        *ret_n = 0;
        return 0;
    }
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
    err = destroy(dump, &killer, ips, ips_n);
    mnl_socket_close(dump);
    mnl_socket_close(killer.socket);
    if (err == 0) {
        *ret_n = killer.n;
    }
    return err;
}
