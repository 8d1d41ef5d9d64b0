// SPDX-License-Identifier: MIT
//
// A question that goes on to the broker keeps a place in a table until its end
// or until its client leaves; the transfer goes on either way.

#include "node/asks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "proto/text.h"

#define REPEAT_MS 1000

typedef enum ask_kind {
    ASK_FREE,
    ASK_REQUEST, // not accepted yet
    ASK_FOLLOW,  // accepted: its transfer runs
    ASK_LEAVE
} ask_kind_t;

typedef struct ask {
    ask_kind_t kind;
    uint64_t client;
    uint64_t transfer;
    uint64_t sent_ms;
    uint64_t steps; // told so far, for the end of a leave
    fleet_request_t request;
} ask_t;

struct asks {
    const node_core_t *core;
    local_t *local;
    asks_send_t *send;
    void *context;
    fleet_name_t node;
    ask_t items[LOCAL_CLIENTS_MAX];
    fleet_message_t message; // what is being made
};

asks_t *asks_new(const node_core_t *core, const char *node, local_t *local,
                 asks_send_t *send, void *context) {
    asks_t *asks = calloc(1, sizeof(*asks));
    if (!asks) {
        abort();
    }
    asks->core = core;
    asks->local = local;
    asks->send = send;
    asks->context = context;
    FLEET_COPY(asks->node, node);
    return asks;
}

void asks_destroy(asks_t **asks_p) {
    free(*asks_p);
    *asks_p = NULL;
}

static fleet_message_t *begin(asks_t *asks, fleet_message_type_t type) {
    memset(&asks->message, 0, sizeof(asks->message));
    asks->message.type = type;
    return &asks->message;
}

static void answer(asks_t *asks, uint64_t client) {
    local_send(asks->local, client, &asks->message);
}

static void answer_end(asks_t *asks, uint64_t client, uint64_t rows) {
    begin(asks, FLEET_MESSAGE_end)->end.rows = rows;
    answer(asks, client);
}

static void refuse(asks_t *asks, uint64_t client, const char *set,
                   fleet_err_t err, const char *text, const char *hint) {
    fleet_refused_t *refused = &begin(asks, FLEET_MESSAGE_refused)->refused;
    refused->reasons_n = 1;
    fleet_reason_t *reason = &refused->reasons[0];
    fleet_reason_make(reason, err, "%s", text);
    FLEET_COPY(reason->set, set);
    FLEET_COPY(reason->node, asks->node);
    fleet_reason_hint(reason, "%s", hint);
    answer(asks, client);
}

static void answer_status(asks_t *asks, uint64_t client) {
    fleet_message_t *message = begin(asks, FLEET_MESSAGE_local_head);
    node_core_head(asks->core, &message->local_head);
    answer(asks, client);
    uint64_t rows = 1;
    for (uint32_t i = 0; i < NODE_SETS_MAX; i++) {
        message = begin(asks, FLEET_MESSAGE_local_row);
        if (node_core_row(asks->core, i, &message->local_row)) {
            answer(asks, client);
            rows += 1;
        }
    }
    answer_end(asks, client, rows);
}

static void answer_owns(asks_t *asks, uint64_t client, const char *set) {
    for (uint32_t i = 0; i < NODE_SETS_MAX; i++) {
        fleet_message_t *message = begin(asks, FLEET_MESSAGE_local_row);
        if (node_core_row(asks->core, i, &message->local_row) &&
            strcmp(message->local_row.set, set) == 0) {
            answer(asks, client);
            answer_end(asks, client, 1);
            return;
        }
    }
    fleet_text_t text;
    FLEET_FORMAT(text, "this node knows no set \"%s\"", set);
    refuse(asks, client, set, FLEET_SET_UNKNOWN, text,
           "fleet status --local shows those it knows");
}

static ask_t *ask_add(asks_t *asks, uint64_t client, ask_kind_t kind) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        if (asks->items[i].kind == ASK_FREE) {
            asks->items[i] = (ask_t){.kind = kind, .client = client};
            return &asks->items[i];
        }
    }
    return NULL; // no more than clients, unless one asks twice
}

static void request_id(fleet_id_t ret_id) {
    uint8_t bytes[12];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        abort();
    }
    int used = snprintf(ret_id, FLEET_ID_MAX + 1, "local-");
    for (size_t i = 0; i < sizeof(bytes); i++) {
        used += snprintf(ret_id + used, FLEET_ID_MAX + 1 - (size_t)used, "%02x",
                         bytes[i]);
    }
}

static void send_on(asks_t *asks, ask_t *ask) {
    if (ask->kind == ASK_REQUEST) {
        begin(asks, FLEET_MESSAGE_request)->request = ask->request;
    } else {
        fleet_follow_t *follow = &begin(asks, FLEET_MESSAGE_follow)->follow;
        FLEET_COPY(follow->ask, ask->request.request);
        FLEET_COPY(follow->set, ask->request.set);
        follow->transfer = ask->transfer;
    }
    (void)asks->send(asks->context, &asks->message); // repeated until it ends
}

static void forward(asks_t *asks, uint64_t client,
                    const fleet_local_ask_t *what) {
    fleet_local_head_t head;
    node_core_head(asks->core, &head);
    bool release = what->verb == fleet_local_verb_RELEASE;
    if (!head.connected) {
        refuse(asks, client, what->set, FLEET_NO_BROKER,
               "this node has no session with a broker; nothing was sent",
               "fleet status --local says what this node holds");
        return;
    }
    if (release && !node_core_owns(asks->core, what->set)) {
        refuse(asks, client, what->set, FLEET_NOT_OWNER,
               "this node does not own the set",
               "ask where it is: fleet status");
        return;
    }
    ask_t *ask = ask_add(asks, client, ASK_REQUEST);
    if (!ask) {
        refuse(asks, client, what->set, FLEET_BUSY,
               "too many requests of this machine wait already", "");
        return;
    }
    fleet_request_t *request = &ask->request;
    request_id(request->request);
    request->verb = release ? fleet_verb_STOP : fleet_verb_MOVE;
    FLEET_COPY(request->set, what->set);
    FLEET_COPY(request->node, release ? "" : asks->node);
    FLEET_COPY(request->reason, what->reason);
    send_on(asks, ask);
}

static void forget_client(asks_t *asks, uint64_t client) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        if (asks->items[i].kind != ASK_FREE &&
            asks->items[i].client == client) {
            asks->items[i] = (ask_t){.kind = ASK_FREE};
        }
    }
}

bool asks_take(asks_t *asks, const local_event_t *event,
               fleet_text_t *ret_reason) {
    if (event->kind == LOCAL_GONE) {
        forget_client(asks, event->client);
        return false;
    }
    const fleet_local_ask_t *what = &event->message.local_ask;
    if (event->message.type != FLEET_MESSAGE_local_ask) {
        refuse(asks, event->client, "", FLEET_BAD_MESSAGE,
               "only questions to this node are answered here", "");
        return false;
    }
    if (what->verb == fleet_local_verb_STATUS) {
        answer_status(asks, event->client);
        return false;
    }
    if (what->verb == fleet_local_verb_OWNS) {
        answer_owns(asks, event->client, what->set);
        return false;
    }
    if (event->uid != 0) {
        refuse(asks, event->client, what->set, FLEET_NOT_PERMITTED,
               "only root may ask this of a node; operators ask the broker",
               "run it as root, or use fleet move, fleet stop");
        return false;
    }
    if (what->verb != fleet_local_verb_LEAVE) {
        forward(asks, event->client, what);
        return false;
    }
    (void)ask_add(asks, event->client, ASK_LEAVE);
    FLEET_COPY(*ret_reason, what->reason);
    return true;
}

static ask_t *ask_of_request(asks_t *asks, const char *request) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX && request[0] != '\0'; i++) {
        ask_t *ask = &asks->items[i];
        if ((ask->kind == ASK_REQUEST || ask->kind == ASK_FOLLOW) &&
            strcmp(ask->request.request, request) == 0) {
            return ask;
        }
    }
    return NULL;
}

static void relay_and_end(asks_t *asks, ask_t *ask,
                          const fleet_message_t *message) {
    local_send(asks->local, ask->client, message);
    *ask = (ask_t){.kind = ASK_FREE};
}

static void relay_accepted(asks_t *asks, const fleet_message_t *message) {
    ask_t *ask = ask_of_request(asks, message->accepted.request);
    if (!ask || ask->kind != ASK_REQUEST) {
        return;
    }
    ask->kind = ASK_FOLLOW;
    ask->transfer = message->accepted.transfer;
    local_send(asks->local, ask->client, message);
    send_on(asks, ask);
}

static void relay_transfer(asks_t *asks, const fleet_message_t *message) {
    const fleet_transfer_t *transfer = &message->transfer;
    if (transfer->outcome == fleet_outcome_UNFINISHED) {
        return;
    }
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        ask_t *ask = &asks->items[i];
        bool mine =
            (ask->kind == ASK_REQUEST || ask->kind == ASK_FOLLOW) &&
            (strcmp(ask->request.request, transfer->request) == 0 ||
             strcmp(ask->request.request, transfer->ask) == 0 ||
             (ask->kind == ASK_FOLLOW && ask->transfer == transfer->transfer));
        if (mine) {
            relay_and_end(asks, ask, message);
        }
    }
}

bool asks_relay(asks_t *asks, const fleet_message_t *message) {
    ask_t *ask = NULL;
    if (message->type == FLEET_MESSAGE_accepted) {
        relay_accepted(asks, message);
    } else if (message->type == FLEET_MESSAGE_transfer) {
        relay_transfer(asks, message);
    } else if (message->type == FLEET_MESSAGE_refused) {
        ask = ask_of_request(asks, message->refused.request);
    } else if (message->type == FLEET_MESSAGE_done) {
        ask = ask_of_request(asks, message->done.request);
    } else if (message->type == FLEET_MESSAGE_turned_away) {
        if (message->turned_away.ask[0] == '\0') {
            return false; // it is the node itself that is turned away
        }
        ask = ask_of_request(asks, message->turned_away.ask);
    } else if (message->type == FLEET_MESSAGE_step) {
        for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
            if (asks->items[i].kind == ASK_FOLLOW &&
                asks->items[i].transfer == message->step.transfer) {
                local_send(asks->local, asks->items[i].client, message);
            }
        }
    } else {
        return false;
    }
    if (ask) {
        relay_and_end(asks, ask, message);
    }
    return true;
}

void asks_step(asks_t *asks, const fleet_message_t *step) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        if (asks->items[i].kind == ASK_LEAVE) {
            asks->items[i].steps += 1;
            local_send(asks->local, asks->items[i].client, step);
        }
    }
}

uint64_t asks_repeat(asks_t *asks, uint64_t now_ms) {
    uint64_t next_ms = UINT64_MAX;
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        ask_t *ask = &asks->items[i];
        if (ask->kind != ASK_REQUEST && ask->kind != ASK_FOLLOW) {
            continue;
        }
        if (ask->sent_ms == 0) {
            ask->sent_ms = now_ms; // it was sent when it was taken
        }
        if (now_ms - ask->sent_ms >= REPEAT_MS) {
            ask->sent_ms = now_ms;
            send_on(asks, ask);
        }
        uint64_t left_ms = ask->sent_ms + REPEAT_MS - now_ms;
        next_ms = left_ms < next_ms ? left_ms : next_ms;
    }
    return next_ms;
}

void asks_left(asks_t *asks) {
    for (size_t i = 0; i < LOCAL_CLIENTS_MAX; i++) {
        ask_t *ask = &asks->items[i];
        if (ask->kind == ASK_LEAVE) {
            answer_end(asks, ask->client, ask->steps);
            *ask = (ask_t){.kind = ASK_FREE};
        }
    }
}
