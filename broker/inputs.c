// SPDX-License-Identifier: MIT
//
// What comes in over the two endpoints: who it is from (the key says, at every
// message, so that a revocation acts at once), whether they may say such a
// thing at all, and whether the core or the loop answers it.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/shell.h"
#include "proto/codec.h"
#include "proto/text.h"

typedef struct sender {
    peer_t *peer;
    fleet_role_t role;
    fleet_name_t name;
} sender_t;

// "node n1 at 192.0.2.7" for the log.
static void who(const sender_t *sender, int fd, char text[80]) {
    char address[64];
    peers_address(fd, address);
    fleet_text_format(text, 80, "%s%s%s%s%s",
                      sender != NULL ? fleet_role_word(sender->role) : "",
                      sender != NULL ? " " : "",
                      sender != NULL ? sender->name : "",
                      sender != NULL ? " at " : "",
                      address[0] != '\0' ? address : "an unknown address");
}

static void complain(shell_t *shell, const sender_t *sender, int fd,
                     const char *kind, const char *text) {
    char name[80];
    who(sender, fd, name);
    broker_log_limited(&shell->limits, shell->now_ms, name, kind, text);
}

static void refuse_kind(shell_t *shell, const sender_t *sender,
                        const char *text) {
    fleet_reason_t reason;
    complain(shell, sender, sender->peer->fd, "not-permitted", text);
    fleet_reason_make(&reason, FLEET_NOT_PERMITTED,
                      "a key of role %s may not send this: %s",
                      fleet_role_word(sender->role), text);
    shell_turn_away(shell, sender->peer->number, "", &reason);
}

// --------------------------------------------------------------- to the core

static void to_core(shell_t *shell, const sender_t *sender,
                    const fleet_message_t *message, const fleet_setdef_t *def) {
    broker_input_t input = {.kind = BROKER_IN_MESSAGE,
                            .peer = sender->peer->number,
                            .role = sender->role,
                            .message = message};
    FLEET_COPY(input.name, sender->name);
    if (def != NULL) {
        input.facts = &def->facts;
        FLEET_COPY(input.set, def->set);
    }
    char name[80];
    if (sender->role == fleet_role_MONITOR) {
        who(sender, sender->peer->fd, name);
        shell->stepping = name;
    }
    shell_step(shell, &input);
    shell->stepping = NULL;
}

// The first message of a node.  Another site or protocol is turned away before
// the core hears of it.
static void take_hello(shell_t *shell, const sender_t *sender,
                       const fleet_message_t *message) {
    const fleet_hello_t *hello = &message->hello;
    fleet_reason_t reason;
    if (hello->protocol != FLEET_PROTOCOL) {
        fleet_reason_make(&reason, FLEET_BAD_VERSION,
                          "this broker speaks protocol %d, node %s speaks "
                          "%" PRIu64,
                          FLEET_PROTOCOL, sender->name, hello->protocol);
    } else if (strcmp(hello->site, shell->settings.site) != 0) {
        fleet_reason_make(&reason, FLEET_WRONG_SITE,
                          "this is the broker of site %s, node %s belongs to "
                          "%s",
                          shell->settings.site, sender->name, hello->site);
    } else if (strcmp(hello->node, sender->name) != 0) {
        fleet_reason_make(&reason, FLEET_NOT_PERMITTED,
                          "this is the key of node %s: it may not speak for "
                          "node %s",
                          sender->name, hello->node);
    } else {
        to_core(shell, sender, message, NULL);
        return;
    }
    complain(shell, sender, sender->peer->fd, reason.code, reason.text);
    shell_turn_away(shell, sender->peer->number, "", &reason);
}

static void take_step(shell_t *shell, const sender_t *sender,
                      const fleet_step_t *from) {
    fleet_message_t *message = &shell->scratch;
    fleet_id_t ask;
    uint64_t peer = 0;
    char topic[64];
    message->type = FLEET_MESSAGE_step;
    message->step = *from;
    if (!book_step(shell->book, sender->name, shell->now_us, &message->step)) {
        return;
    }
    for (uint32_t i = 0;
         followers_of(shell->followers, message->step.transfer, i, &peer, ask);
         i++) {
        outbox_send(shell->outbox, peer, message);
    }
    FLEET_FORMAT(topic, "p/%s", message->step.set);
    outbox_publish(shell->outbox, topic, message);
}

// ---------------------------------------------------------------------- apply

static void refuse_file(shell_t *shell, const sender_t *sender,
                        const fleet_apply_t *apply,
                        const fleet_complaints_t *complaints) {
    fleet_message_t *message = &shell->scratch;
    fleet_refused_t *refused = &message->refused;
    message->type = FLEET_MESSAGE_refused;
    memset(refused, 0, sizeof *refused);
    FLEET_COPY(refused->request, apply->request);
    for (uint32_t i = 0;
         i < complaints->n && refused->reasons_n < FLEET_REASONS_MAX; i++) {
        const fleet_complaint_t *complaint = &complaints->items[i];
        fleet_reason_t *reason = &refused->reasons[refused->reasons_n++];
        if (complaint->line > 0) {
            fleet_reason_make(reason, FLEET_BAD_FILE, "line %u, column %u: %s",
                              complaint->line, complaint->column,
                              complaint->text);
        } else {
            fleet_reason_make(reason, FLEET_BAD_FILE, "%s", complaint->text);
        }
        fleet_reason_hint(reason, "%s", complaint->hint);
    }
    outbox_send(shell->outbox, sender->peer->number, message);
}

static void refuse_apply(shell_t *shell, const sender_t *sender,
                         const fleet_apply_t *apply) {
    fleet_message_t *message = &shell->scratch;
    fleet_refused_t *refused = &message->refused;
    message->type = FLEET_MESSAGE_refused;
    memset(refused, 0, sizeof *refused);
    FLEET_COPY(refused->request, apply->request);
    refused->reasons_n = 1;
    fleet_reason_make(&refused->reasons[0], FLEET_NOT_PERMITTED,
                      "the key of %s %s may not define sets",
                      fleet_role_word(sender->role), sender->name);
    fleet_reason_hint(&refused->reasons[0],
                      "use a key of role operator or admin");
    complain(shell, sender, sender->peer->fd, "not-permitted",
             "asked to define a set");
    outbox_send(shell->outbox, sender->peer->number, message);
}

// The definition that stands now against the one that is applied.
static void make_diff(shell_t *shell, const char *set, const char *yaml) {
    uint8_t *data = NULL;
    size_t size = 0;
    fleet_message_t *before = &shell->scratch;
    memset(shell->diff, 0, sizeof shell->diff);
    if (broker_core_rev(shell->core, set) == 0 ||
        !shell_definition(shell, set, 0, &data, &size)) {
        return;
    }
    if (fleet_decode(data, size, before, NULL) == FLEET_OK &&
        before->type == FLEET_MESSAGE_definition) {
        shell_diff(before->definition.yaml, yaml, shell->diff);
    }
    free(data);
}

static void take_apply(shell_t *shell, const sender_t *sender,
                       const fleet_message_t *message) {
    const fleet_apply_t *apply = &message->apply;
    if (sender->role != fleet_role_OPERATOR &&
        sender->role != fleet_role_ADMIN) {
        refuse_apply(shell, sender, apply);
        return;
    }
    fleet_complaints_t complaints = {0};
    fleet_setdef_t *def = calloc(1, sizeof *def);
    if (def == NULL) {
        abort();
    }
    if (fleet_setdef_read(apply->yaml, strlen(apply->yaml), def, &complaints) !=
        FLEET_OK) {
        refuse_file(shell, sender, apply, &complaints);
    } else {
        make_diff(shell, def->set, apply->yaml);
        shell->applying = apply;
        to_core(shell, sender, message, def);
        shell->applying = NULL;
    }
    free(def);
}

// -------------------------------------------------------------------- control

static bool is_from_node(fleet_message_type_t type) {
    return (type >= FLEET_MESSAGE_hello && type <= FLEET_MESSAGE_goodbye) ||
           type == FLEET_MESSAGE_step;
}

static void take_from_node(shell_t *shell, const sender_t *sender,
                           const fleet_message_t *message) {
    view_heard(shell->view, sender->name, shell->now_ms);
    if (message->type == FLEET_MESSAGE_hello) {
        take_hello(shell, sender, message);
    } else if (message->type == FLEET_MESSAGE_step) {
        take_step(shell, sender, &message->step);
    } else {
        to_core(shell, sender, message, NULL);
    }
}

static void take_message(shell_t *shell, const sender_t *sender,
                         const fleet_message_t *message) {
    if (is_from_node(message->type)) {
        if (sender->role == fleet_role_NODE) {
            take_from_node(shell, sender, message);
        } else {
            refuse_kind(shell, sender, "only a node says this");
        }
        return;
    }
    if (shell_answer(shell, sender->peer, sender->role, sender->name,
                     message)) {
        return;
    }
    switch ((uint64_t)message->type) {
    case FLEET_MESSAGE_request:
    case FLEET_MESSAGE_key_change:
        to_core(shell, sender, message, NULL);
        break;
    case FLEET_MESSAGE_apply:
        take_apply(shell, sender, message);
        break;
    default:
        complain(shell, sender, sender->peer->fd, "bad-message",
                 fleet_message_spec(message->type)->name);
        break;
    }
}

// What cannot be read: a first message of another protocol is told so, whatever
// else is logged.
static void take_bad(shell_t *shell, const sender_t *sender, const char *why) {
    uint64_t protocol = shell->in.message.open.protocol;
    complain(shell, sender, sender->peer->fd, "bad-message", why);
    if (protocol != 0 && protocol != FLEET_PROTOCOL) {
        fleet_reason_t reason;
        fleet_reason_make(&reason, FLEET_BAD_VERSION,
                          "this broker speaks protocol %d, you speak %" PRIu64,
                          FLEET_PROTOCOL, protocol);
        shell_turn_away(shell, sender->peer->number, "", &reason);
    }
}

bool shell_take(shell_t *shell) {
    fleet_route_t route;
    fleet_key_t key = {0};
    fleet_text_t why = "";
    sender_t sender = {0};
    fleet_recv_t got =
        fleet_bus_recv(shell->control, &route, key, &shell->in, &why);
    if (got == FLEET_RECV_NONE) {
        return false;
    }
    int fd = shell->in.peer_fd;
    sender.role = broker_core_key(shell->core, key, sender.name);
    if (sender.role == fleet_role_NONE) {
        // Revoked since its handshake.
        complain(shell, NULL, fd, "unknown-key", "spoke on, and is cut");
        peers_shut(fd);
        fleet_parcel_clear(&shell->in);
        return true;
    }
    uint64_t left = 0;
    uint64_t number = peers_seen(shell->peers, &route, key, fd, &left);
    if (left != 0) {
        followers_gone(shell->followers, left);
    }
    sender.peer = peers_find(shell->peers, number);
    assert(sender.peer != NULL);
    if (got == FLEET_RECV_BAD) {
        take_bad(shell, &sender, why);
    } else {
        take_message(shell, &sender, &shell->in.message);
    }
    fleet_parcel_clear(&shell->in);
    return true;
}

// --------------------------------------------------------------------- events

bool shell_take_subscriber(shell_t *shell) {
    fleet_key_t key = {0};
    fleet_name_t name = "";
    char topic[64] = "";
    bool on = false;
    int fd = -1;
    fleet_recv_t got =
        fleet_bus_recv_subscriber(shell->events, key, topic, &on, &fd);
    if (got == FLEET_RECV_NONE) {
        return false;
    }
    if (got == FLEET_RECV_BAD) {
        complain(shell, NULL, fd, "bad-subscription", "it is none");
        return true;
    }
    if (!on) {
        return true;
    }
    fleet_role_t role = broker_core_key(shell->core, key, name);
    if (role == fleet_role_NONE || role == fleet_role_NODE) {
        // Nothing is sent before it is read here: libzmq counts a subscription
        // once it has been taken in, so cutting comes in time.
        complain(shell, NULL, fd, "not-permitted",
                 role == fleet_role_NODE ? "a node subscribed, and is cut"
                                         : "an unknown key subscribed");
        peers_shut(fd);
        return true;
    }
    peers_subscriber(shell->peers, key, fd);
    return true;
}
