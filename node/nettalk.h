// SPDX-License-Identifier: MIT
//
// One request to the kernel over rtnetlink and its answer: what netlink.c and
// netroute.c are written on.  For nobody else.

#ifndef FLEET_NODE_NETTALK_H
#define FLEET_NODE_NETTALK_H

#include <libmnl/libmnl.h>

#include "node/netlink.h"

#define NETTALK_SIZE 1024 // of a request

typedef struct nettalk_request {
    _Alignas(struct nlmsghdr) char bytes[NETTALK_SIZE];
    struct nlmsghdr *header;
} nettalk_request_t;

// Starts a request of `type` (RTM_...); flags beside NLM_F_REQUEST.  Returns
// the zeroed family header of `extra` bytes, inside the request.
void *nettalk_begin(nettalk_request_t *request, int type, int flags,
                    size_t extra);

// Asks and waits for the acknowledgement.  0, or the kernel's errno value.
int nettalk_do(net_t *net, nettalk_request_t *request);

// Asks for one thing (flags 0) or for a dump (NLM_F_DUMP); `each` sees every
// message of the answer.  A dump that the kernel says was inconsistent is
// EINTR.
int nettalk_ask(net_t *net, nettalk_request_t *request,
                void (*each)(const struct nlmsghdr *message, void *data),
                void *data);

// The attributes of a message into a table, indexed by type; those above max
// are passed over.  The table must have max + 1 places and be zeroed.
void nettalk_attributes(const struct nlmsghdr *message, size_t extra,
                        const struct nlattr **table, uint16_t max);

// The same for what is nested in an attribute.
void nettalk_nested(const struct nlattr *nest, const struct nlattr **table,
                    uint16_t max);

void nettalk_put_ip(nettalk_request_t *request, uint16_t type,
                    const net_ip_t *ip);

// family 0 if the attribute is missing or has another size.
net_ip_t nettalk_get_ip(const struct nlattr *attribute, uint8_t family,
                        uint8_t prefix);

#endif
