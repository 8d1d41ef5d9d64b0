// SPDX-License-Identifier: MIT

#include "cli/local.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/screen.h"
#include "proto/codec.h"
#include "proto/text.h"

#define SOCKET_DEFAULT "/run/fleet/node.sock"
#define ANSWER_MS 5000

static const char *socket_path(const cli_t *cli) {
    const char *set = getenv("FLEET_NODE_SOCKET");

    if (cli->args.socket != NULL) {
        return cli->args.socket;
    }
    return set != NULL && set[0] != '\0' ? set : SOCKET_DEFAULT;
}

static int no_agent(const char *path, int error, fleet_reason_t *ret_reason) {
    fleet_reason_make(ret_reason, FLEET_NO_AGENT,
                      "fleet-node does not answer on this machine: %s: %s",
                      path, strerror(error));
    fleet_reason_hint(ret_reason,
                      "is it running here?  systemctl status "
                      "fleet-node");
    return -1;
}

int local_ask(const cli_t *cli, fleet_local_verb_t verb, const char *set,
              fleet_reason_t *ret_reason) {
    const char *path = socket_path(cli);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    fleet_message_t message = {.type = FLEET_MESSAGE_local_ask};
    uint8_t bytes[4096];
    size_t used = 0;
    fleet_err_t err;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return no_agent(path, ENAMETOOLONG, ret_reason);
    }
    memcpy(address.sun_path, path, strlen(path));
    message.local_ask.verb = verb;
    FLEET_COPY(message.local_ask.set, set);
    FLEET_COPY(message.local_ask.reason,
               cli->args.reason != NULL ? cli->args.reason : "");
    err = fleet_encode(&message, bytes, sizeof(bytes), &used);
    assert(err == FLEET_OK);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return no_agent(path, errno, ret_reason);
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        send(fd, bytes, used, MSG_NOSIGNAL) != (ssize_t)used) {
        int error = errno;

        close(fd);
        return no_agent(path, error, ret_reason);
    }
    return fd;
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool local_read(int fd, int limit_ms, fleet_message_t *ret_message) {
    uint8_t bytes[FLEET_FRAME_MAX];
    int64_t deadline_ms = limit_ms >= 0 ? now_ms() + limit_ms : INT64_MAX;
    ssize_t size;

    for (;;) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        int64_t left = deadline_ms - now_ms();
        int ready;

        if (left < 0 || cli_interrupted) {
            return false;
        }
        // Short enough to see the flag of a signal that came just before.
        ready = poll(&item, 1, left < 200 ? (int)left : 200);
        if (ready > 0) {
            break;
        }
        if (ready == 0 && left == 0) {
            return false;
        }
    }
    size = recv(fd, bytes, sizeof(bytes), 0);
    return size > 0 &&
           fleet_decode(bytes, (size_t)size, ret_message, NULL) == FLEET_OK;
}

// ------------------------------------------------------------------ the status

static json_t *row_json(const fleet_local_row_t *row) {
    json_t *object = json_object();

    json_object_set_new(object, "name", json_string(row->set));
    json_object_set_new(object, "token", json_integer((json_int_t)row->token));
    json_object_set_new(object, "phase",
                        row->phase != fleet_phase_NONE
                            ? json_string(fleet_phase_word(row->phase))
                            : json_null());
    json_object_set_new(object, "owns", json_boolean(row->owns));
    json_object_set_new(object, "lease_left_ms",
                        json_integer((json_int_t)row->lease_left_ms));
    json_object_set_new(object, "text", fleet_text_json(row->text));
    return object;
}

static void print_head(const cli_t *cli, const fleet_local_head_t *head) {
    char left[32];

    screen_age(head->lease_left_ms * 1000, left, sizeof(left));
    fprintf(cli->out, "%s  node %s  boot %.8s  ", head->site, head->node,
            head->boot_id);
    if (head->connected) {
        fprintf(cli->out, "broker answers (term %" PRIu64 "), lease %s\n\n",
                head->term, left);
    } else if (head->lease_left_ms > 0) {
        fprintf(cli->out, "NO BROKER; lease valid for %s\n\n", left);
    } else {
        fprintf(cli->out, "NO BROKER; lease lapsed\n\n");
    }
}

static void add_row(screen_t *screen, const fleet_local_row_t *row) {
    char token[32];
    char left[32];

    snprintf(token, sizeof(token), "%" PRIu64, row->token);
    screen_age(row->lease_left_ms * 1000, left, sizeof(left));
    screen_add(screen,
               (const char *[]){row->set, fleet_phase_word(row->phase),
                                row->owns ? "yes" : "no", token, left,
                                row->text[0] != '\0' ? row->text : "-"});
}

// Reads head and rows; false if the answer broke off.
static bool read_status(int fd, fleet_message_t *message,
                        fleet_local_head_t *head, screen_t *screen,
                        json_t *sets) {
    while (local_read(fd, ANSWER_MS, message)) {
        if (message->type == FLEET_MESSAGE_local_head) {
            *head = message->local_head;
        } else if (message->type == FLEET_MESSAGE_local_row) {
            add_row(screen, &message->local_row);
            json_array_append_new(sets, row_json(&message->local_row));
        } else if (message->type == FLEET_MESSAGE_end) {
            return true;
        }
    }
    return false;
}

static int show_status(cli_t *cli, const fleet_local_head_t *head,
                       const screen_t *screen, json_t *sets) {
    json_t *document;

    FLEET_COPY(cli->site, head->site);
    if (!cli_have(cli, FLAG_JSON)) {
        print_head(cli, head);
        if (screen_rows(screen) > 0) {
            screen_print(screen, cli->out, cli->width);
        } else {
            fputs("this node has no record of any set\n", cli->out);
        }
    }
    document = cli_document_new(cli);
    json_object_set_new(document, "node", fleet_text_json(head->node));
    json_object_set_new(document, "boot_id", fleet_text_json(head->boot_id));
    json_object_set_new(document, "connected", json_boolean(head->connected));
    json_object_set_new(document, "term", json_integer((json_int_t)head->term));
    json_object_set_new(document, "lease_left_ms",
                        json_integer((json_int_t)head->lease_left_ms));
    json_object_set(document, "sets", sets);
    return cli_document(cli, document, EXIT_OK);
}

int local_status(cli_t *cli) {
    static const char *const heads[] = {"SET",   "PHASE", "OWNS", ">TOKEN",
                                        "LEASE", "WHAT",  NULL};
    fleet_reason_t reason;
    fleet_local_head_t head = {0};
    fleet_message_t *message;
    screen_t *screen;
    json_t *sets;
    int status;
    int fd = local_ask(cli, fleet_local_verb_STATUS, "", &reason);

    if (fd < 0) {
        return cli_fail(cli, &reason);
    }
    message = calloc(1, sizeof(*message));
    assert(message != NULL);
    screen = screen_new(heads);
    sets = json_array();
    if (read_status(fd, message, &head, screen, sets)) {
        status = show_status(cli, &head, screen, sets);
    } else {
        status = cli_complain(cli, FLEET_NO_AGENT,
                              "fleet-node broke off in its answer");
    }
    json_decref(sets);
    screen_destroy(&screen);
    free(message);
    close(fd);
    return status;
}
