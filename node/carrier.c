// SPDX-License-Identifier: MIT
//
// A table of the links that bear a set's mark, kept up to date by the kernel's
// link messages; an event is a difference between what the table says and what
// was reported.  See carrier.h.

#include "node/carrier.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "node/netlink.h"
#include "node/netlink_read.h"
#include "proto/text.h"

#define ANSWER_SIZE 32768

typedef struct watched {
    int index;
    fleet_name_t interface;
    fleet_name_t set;
    bool up;
    bool gone;     // to be dropped once that is reported
    bool reported; // `said` holds
    bool said;     // the last `up` that was reported
    bool seen;     // while all links are read anew
} watched_t;

struct carrier {
    struct mnl_socket *socket;
    uint32_t n;
    watched_t watched[NET_LINKS_MAX];
    bool reread;
};

static watched_t *find(carrier_t *carrier, int index) {
    for (uint32_t i = 0; i < carrier->n; i++) {
        if (carrier->watched[i].index == index && !carrier->watched[i].gone) {
            return &carrier->watched[i];
        }
    }
    return NULL;
}

static void lose(watched_t *watched) {
    watched->gone = true;
    watched->up = false;
}

static void note(carrier_t *carrier, const net_link_t *link) {
    fleet_name_t set;
    bool marked = net_mark_read(link->alias, set);
    watched_t *watched = find(carrier, link->index);
    if (watched != NULL && (!marked || strcmp(watched->set, set) != 0)) {
        lose(watched);
        watched = NULL;
    }
    if (!marked) {
        return;
    }
    if (watched == NULL) {
        if (carrier->n == NET_LINKS_MAX) {
            return;
        }
        watched = &carrier->watched[carrier->n++];
        *watched = (watched_t){.index = link->index};
        FLEET_COPY(watched->set, set);
    }
    FLEET_COPY(watched->interface, link->name);
    watched->up = link->up && link->carrier;
    watched->seen = true;
}

static int on_message(const struct nlmsghdr *message, void *data) {
    carrier_t *carrier = data;
    net_link_t link;
    if (message->nlmsg_type == RTM_NEWLINK && net_link_decode(message, &link)) {
        note(carrier, &link);
    } else if (message->nlmsg_type == RTM_DELLINK &&
               net_link_decode(message, &link)) {
        watched_t *watched = find(carrier, link.index);
        if (watched != NULL) {
            lose(watched);
        }
    }
    return MNL_CB_OK;
}

// All links anew, over a connection of their own: a dump on the subscribed
// socket would mix with the messages.
static void read_all(carrier_t *carrier) {
    net_t *net = net_open();
    net_link_t *links = calloc(NET_LINKS_MAX, sizeof *links);
    uint32_t n = 0;
    if (links == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < carrier->n; i++) {
        carrier->watched[i].seen = false;
    }
    if (net != NULL && net_links(net, links, NET_LINKS_MAX, &n) == 0) {
        for (uint32_t i = 0; i < n; i++) {
            note(carrier, &links[i]);
        }
        for (uint32_t i = 0; i < carrier->n; i++) {
            if (!carrier->watched[i].seen) {
                lose(&carrier->watched[i]);
            }
        }
        carrier->reread = false;
    }
    free(links);
    net_close(&net);
}

carrier_t *carrier_new(void) {
    struct mnl_socket *socket =
        mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket == NULL) {
        return NULL;
    }
    if (mnl_socket_bind(socket, RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0) {
        int why = errno;
        mnl_socket_close(socket);
        errno = why;
        return NULL;
    }
    carrier_t *carrier = calloc(1, sizeof *carrier);
    if (carrier == NULL) {
        abort();
    }
    carrier->socket = socket;
    // After the subscription, so that nothing falls between.
    carrier->reread = true;
    return carrier;
}

void carrier_destroy(carrier_t **carrier_p) {
    carrier_t *carrier = *carrier_p;
    if (carrier == NULL) {
        return;
    }
    mnl_socket_close(carrier->socket);
    free(carrier);
    *carrier_p = NULL;
}

int carrier_fd(const carrier_t *carrier) {
    return mnl_socket_get_fd(carrier->socket);
}

// One difference between table and reports, if there is one.
static bool take_event(carrier_t *carrier, carrier_event_t *ret_event) {
    for (uint32_t i = 0; i < carrier->n; i++) {
        watched_t *watched = &carrier->watched[i];
        bool news = watched->gone
                        ? watched->reported && watched->said
                        : !watched->reported || watched->said != watched->up;
        if (news) {
            *ret_event = (carrier_event_t){.up = watched->up};
            FLEET_COPY(ret_event->set, watched->set);
            FLEET_COPY(ret_event->interface, watched->interface);
            watched->reported = true;
            watched->said = watched->up;
            return true;
        }
        if (watched->gone) {
            carrier->watched[i] = carrier->watched[--carrier->n];
            i--;
        }
    }
    return false;
}

bool carrier_next(carrier_t *carrier, carrier_event_t *ret_event) {
    for (;;) {
        if (take_event(carrier, ret_event)) {
            return true;
        }
        _Alignas(struct nlmsghdr) char answer[ANSWER_SIZE];
        ssize_t size =
            mnl_socket_recvfrom(carrier->socket, answer, sizeof answer);
        if (size > 0) {
            (void)mnl_cb_run(answer, (size_t)size, 0, 0, on_message, carrier);
        } else if (size < 0 && errno == ENOBUFS) {
            carrier->reread = true;
        } else if (size < 0 && errno == EINTR) {
            continue;
        } else if (carrier->reread) {
            read_all(carrier);
            if (carrier->reread) {
                return false;
            }
        } else {
            return false;
        }
    }
}
