// SPDX-License-Identifier: MIT
//
// Requests, transfers and questions over a link.  Everything here may be asked
// twice: requests carry an id that the broker remembers, questions change
// nothing. So the answer to every doubt is to ask again.

#include "proto/client.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "proto/link.h"
#include "proto/text.h"

// An answer whose rows do not add up is asked for again so often.
#define INCOMPLETE_MAX 3

// With several brokers, the one that is tried is looked at so often.
#define LOOK_MS 150

// A follower is called so often when nothing happens: time goes on.
#define TICK_MS 250

void fleet_client_id(fleet_id_t ret_id) {
    uint8_t bytes[8];

    randombytes_buf(bytes, sizeof(bytes));
    memset(ret_id, 0, sizeof(fleet_id_t));
    sodium_bin2hex(ret_id, sizeof(fleet_id_t), bytes, sizeof(bytes));
}

// --------------------------------------------------------------------- opening

// What a refusal of the whole connection means; FLEET_OK if it is none.
static fleet_err_t turned_away(const fleet_client_t *client,
                               fleet_reason_t *ret_reason) {
    const fleet_turned_away_t *away = &client->parcel.message.turned_away;
    fleet_err_t err;

    if (client->parcel.message.type != FLEET_MESSAGE_turned_away ||
        away->ask[0] != '\0') {
        return FLEET_OK;
    }
    *ret_reason = away->reason;
    err = fleet_error_find(away->reason.code);
    return err != FLEET_OK ? err : FLEET_BAD_MESSAGE;
}

static fleet_err_t check_welcome(const fleet_client_t *client,
                                 fleet_reason_t *ret_reason) {
    const fleet_welcome_t *welcome = &client->welcome;
    const char *site = client->config.site;

    if (welcome->protocol != FLEET_PROTOCOL) {
        fleet_reason_make(ret_reason, FLEET_BAD_VERSION,
                          "broker %s speaks protocol %" PRIu64
                          ", this program speaks %d",
                          welcome->broker, welcome->protocol, FLEET_PROTOCOL);
        return FLEET_BAD_VERSION;
    }
    if (site[0] != '\0' && strcmp(site, welcome->site) != 0) {
        fleet_reason_make(ret_reason, FLEET_WRONG_SITE,
                          "%s is the broker of site \"%s\", not of \"%s\"",
                          client->config.brokers[client->broker].control,
                          welcome->site, site);
        return FLEET_WRONG_SITE;
    }
    return FLEET_OK;
}

static fleet_err_t open_link(fleet_client_t *client,
                             fleet_reason_t *ret_reason) {
    uint64_t deadline_ms = fleet_link_now_ms() + client->config.timeout_ms;
    fleet_err_t err = fleet_link_connect(client, ret_reason);

    if (err != FLEET_OK) {
        return err;
    }
    fleet_link_begin(client);
    for (;;) {
        fleet_message_t open = {.type = FLEET_MESSAGE_open};
        uint64_t now_ms = fleet_link_now_ms();
        uint64_t until_ms =
            now_ms +
            (client->config.brokers_n > 1 ? LOOK_MS : client->config.repeat_ms);

        if (now_ms >= deadline_ms || fleet_link_interrupted(client) ||
            (client->config.brokers_n == 1 &&
             client->state >= FLEET_LINK_MUTE &&
             client->state != FLEET_LINK_UP)) {
            return fleet_link_excuse(client, ret_reason);
        }
        until_ms = until_ms < deadline_ms ? until_ms : deadline_ms;
        open.open.protocol = FLEET_PROTOCOL;
        FLEET_COPY(open.open.site, client->config.site);
        FLEET_COPY(open.open.version, FLEET_VERSION);
        if (fleet_link_send(client, &open, until_ms)) {
            client->opened_ms = fleet_link_now_ms();
            while (fleet_link_recv(client, until_ms, false)) {
                err = turned_away(client, ret_reason);
                if (err != FLEET_OK) {
                    return err;
                }
                if (client->welcomed) {
                    return check_welcome(client, ret_reason);
                }
            }
        }
        fleet_link_tend(client);
    }
}

fleet_err_t fleet_client_new(const fleet_client_config_t *config,
                             fleet_client_t **ret_client,
                             fleet_reason_t *ret_reason) {
    fleet_client_t *client = calloc(1, sizeof(*client));
    fleet_err_t err;

    assert(client != NULL);
    assert(config->brokers_n >= 1 && config->brokers_n <= FLEET_BROKERS_MAX);
    client->config = *config;
    if (client->config.repeat_ms == 0) {
        client->config.repeat_ms = FLEET_LINK_REPEAT_MS;
    }
    client->context = zmq_ctx_new();
    assert(client->context != NULL);
    err = open_link(client, ret_reason);
    if (err != FLEET_OK) {
        fleet_client_destroy(&client);
        return err;
    }
    *ret_client = client;
    return FLEET_OK;
}

void fleet_client_destroy(fleet_client_t **client_p) {
    fleet_client_t *client = *client_p;

    if (client == NULL) {
        return;
    }
    fleet_link_close(client);
    fleet_parcel_clear(&client->parcel);
    zmq_ctx_term(client->context);
    fleet_key_pair_wipe(&client->config.pair);
    free(client);
    *client_p = NULL;
}

const fleet_welcome_t *fleet_client_welcome(const fleet_client_t *client) {
    return &client->welcome;
}

// ------------------------------------------------------- ids, waiting,
// repeating

// The field by which an answer finds its question, whatever the message is.
// Questions, requests and most answers carry it first.
static char *id_of(fleet_message_t *message) {
    const fleet_struct_spec_t *spec = fleet_message_spec(message->type);

    if (message->type == FLEET_MESSAGE_turned_away) {
        return message->turned_away.ask;
    }
    if (spec == NULL || spec->fields_n == 0 ||
        spec->fields[0].kind != FLEET_KIND_ID) {
        return NULL;
    }
    return (char *)&message->open + spec->fields[0].offset;
}

// That of a message which a caller asks with, so that it has one.
static char *question_id(fleet_message_t *question) {
    char *id = id_of(question);

    assert(id != NULL);
    return id;
}

static bool answers(fleet_message_t *message, const char *id) {
    const char *found = id_of(message);

    if (message->type == FLEET_MESSAGE_turned_away && found[0] == '\0') {
        return true; // the connection as a whole
    }
    return found != NULL && strcmp(found, id) == 0;
}

// One round of waiting: what is to be sent, when it was, when it all ends.
typedef struct round {
    uint64_t deadline_ms; // 0: none
    uint64_t sent_ms;     // when the question last went out
    bool sent;            // it did, once
} round_t;

static void round_begin(fleet_client_t *client, round_t *round,
                        uint64_t wait_ms) {
    *round = (round_t){0};
    round->deadline_ms = wait_ms != 0 ? fleet_link_now_ms() + wait_ms : 0;
    fleet_link_begin(client);
}

// Nothing more is to be waited for.
static bool round_over(const fleet_client_t *client, const round_t *round) {
    return fleet_link_interrupted(client) ||
           client->state == FLEET_LINK_UNAUTHORIZED ||
           (round->deadline_ms != 0 &&
            fleet_link_now_ms() >= round->deadline_ms) ||
           fleet_link_silence_ms(client) >= client->config.timeout_ms;
}

// The question is due: never sent, or silence since it was.
static bool round_due(const fleet_client_t *client, const round_t *round) {
    return !round->sent ||
           (fleet_link_silence_ms(client) >= client->config.repeat_ms &&
            fleet_link_now_ms() - round->sent_ms >= client->config.repeat_ms);
}

static uint64_t round_until(const fleet_client_t *client,
                            const round_t *round) {
    uint64_t until_ms = fleet_link_now_ms() + client->config.repeat_ms;

    if (round->deadline_ms != 0 && round->deadline_ms < until_ms) {
        return round->deadline_ms;
    }
    return until_ms;
}

static bool round_send(fleet_client_t *client, round_t *round,
                       const fleet_message_t *message) {
    if (!fleet_link_send(client, message, round_until(client, round))) {
        return false;
    }
    round->sent = true;
    round->sent_ms = fleet_link_now_ms();
    return true;
}

// -------------------------------------------------------------------- requests

fleet_err_t fleet_client_request(fleet_client_t *client,
                                 const fleet_message_t *request,
                                 uint64_t wait_ms,
                                 fleet_message_t *ret_answer) {
    fleet_message_t copy = *request;
    const char *id = question_id(&copy);
    round_t round;

    assert(id != NULL && id[0] != '\0');
    round_begin(client, &round, wait_ms);
    for (;;) {
        if (round_over(client, &round)) {
            return round.sent ? FLEET_UNFINISHED : FLEET_NO_BROKER;
        }
        if (round_due(client, &round)) {
            round_send(client, &round, &copy);
        }
        fleet_link_tend(client);
        while (fleet_link_recv(client, round_until(client, &round), false)) {
            fleet_message_t *answer = &client->parcel.message;

            if (answers(answer, id) ||
                (answer->type == FLEET_MESSAGE_transfer &&
                 strcmp(answer->transfer.request, id) == 0)) {
                *ret_answer = *answer;
                return FLEET_OK;
            }
            if (round_over(client, &round)) {
                break;
            }
        }
    }
}

// ------------------------------------------------------------------- following

typedef struct follower {
    fleet_client_t *client;
    fleet_follow_t ask;
    fleet_on_step_t *on_step;
    void *context;
    uint32_t told_n; // steps whose end was told
    fleet_step_item_t told[FLEET_STEPS_MAX];
    fleet_transfer_t *state;
} follower_t;

// The end of a step is told once, whether it was seen live or read afterwards.
static bool tell_step(follower_t *follower, const fleet_step_t *step) {
    for (uint32_t i = 0; i < follower->told_n; i++) {
        const fleet_step_item_t *told = &follower->told[i];

        if (strcmp(told->node, step->node) == 0 &&
            strcmp(told->resource, step->resource) == 0 &&
            strcmp(told->step, step->step) == 0) {
            return true;
        }
    }
    if (!step->running && follower->told_n < FLEET_STEPS_MAX) {
        fleet_step_item_t *told = &follower->told[follower->told_n++];

        memcpy(told->node, step->node, sizeof(told->node));
        memcpy(told->resource, step->resource, sizeof(told->resource));
        memcpy(told->step, step->step, sizeof(told->step));
    }
    return follower->on_step == NULL ||
           follower->on_step(follower->context, step);
}

static bool tick(follower_t *follower) {
    return follower->on_step == NULL ||
           follower->on_step(follower->context, NULL);
}

static bool tell_steps_of(follower_t *follower) {
    const fleet_transfer_t *state = follower->state;

    for (uint32_t i = 0; i < state->steps_n; i++) {
        const fleet_step_item_t *item = &state->steps[i];
        fleet_step_t step = {.transfer = state->transfer,
                             .at_us = item->at_us,
                             .us = item->us,
                             .ok = item->ok};

        memcpy(step.set, state->set, sizeof(step.set));
        memcpy(step.node, item->node, sizeof(step.node));
        memcpy(step.resource, item->resource, sizeof(step.resource));
        memcpy(step.step, item->step, sizeof(step.step));
        memcpy(step.detail, item->detail, sizeof(step.detail));
        if (!tell_step(follower, &step)) {
            return false;
        }
    }
    return true;
}

// One message for a follower.  FLEET_OK: the transfer has ended;
// FLEET_UNFINISHED: go on, unless *ret_stop.
static fleet_err_t follow_message(follower_t *follower, bool *ret_stop) {
    fleet_message_t *message = &follower->client->parcel.message;
    fleet_err_t err;

    if (message->type == FLEET_MESSAGE_step &&
        message->step.transfer == follower->ask.transfer &&
        follower->ask.transfer != 0) {
        *ret_stop = !tell_step(follower, &message->step);
    } else if (message->type == FLEET_MESSAGE_transfer &&
               (answers(message, follower->ask.ask) ||
                (follower->ask.transfer != 0 &&
                 message->transfer.transfer == follower->ask.transfer))) {
        *follower->state = message->transfer;
        // From here on it is this transfer, not the set's next one.
        follower->ask.transfer = message->transfer.transfer;
        *ret_stop = !tell_steps_of(follower) || !tick(follower);
        if (message->transfer.ended_us != 0 ||
            message->transfer.outcome != fleet_outcome_UNFINISHED) {
            return FLEET_OK;
        }
    } else if (message->type == FLEET_MESSAGE_turned_away &&
               answers(message, follower->ask.ask)) {
        follower->state->reasons_n = 1;
        follower->state->reasons[0] = message->turned_away.reason;
        err = fleet_error_find(message->turned_away.reason.code);
        return err != FLEET_OK ? err : FLEET_BAD_MESSAGE;
    }
    return FLEET_UNFINISHED;
}

static uint64_t tick_until(const fleet_client_t *client, const round_t *round) {
    uint64_t until_ms = round_until(client, round);
    uint64_t tick_ms = fleet_link_now_ms() + TICK_MS;

    return tick_ms < until_ms ? tick_ms : until_ms;
}

fleet_err_t fleet_client_follow(fleet_client_t *client, uint64_t transfer,
                                const char *set, uint64_t wait_ms,
                                fleet_on_step_t *on_step, void *context,
                                fleet_transfer_t *ret_transfer) {
    follower_t follower = {.client = client,
                           .on_step = on_step,
                           .context = context,
                           .state = ret_transfer};
    round_t round;
    bool stop = false;

    memset(ret_transfer, 0, sizeof(*ret_transfer));
    fleet_client_id(follower.ask.ask);
    follower.ask.transfer = transfer;
    FLEET_COPY(follower.ask.set, set != NULL ? set : "");
    round_begin(client, &round, wait_ms);
    while (!stop && !round_over(client, &round)) {
        if (round_due(client, &round)) {
            fleet_message_t message = {.type = FLEET_MESSAGE_follow};

            message.follow = follower.ask;
            round_send(client, &round, &message);
        }
        fleet_link_tend(client);
        while (!stop &&
               fleet_link_recv(client, tick_until(client, &round), false)) {
            fleet_err_t err = follow_message(&follower, &stop);

            if (err != FLEET_UNFINISHED) {
                return err;
            }
            if (round_over(client, &round)) {
                break;
            }
        }
        stop = stop || !tick(&follower);
    }
    return FLEET_UNFINISHED;
}

// ------------------------------------------------------------------- questions

typedef struct asker {
    fleet_client_t *client;
    fleet_message_t question; // with the id of this attempt
    fleet_on_row_t *on_row;
    void *context;
    uint64_t rows;
    unsigned incomplete;
    fleet_end_t *ret_end;
    fleet_reason_t *ret_reason;
} asker_t;

static void ask_anew(asker_t *asker) {
    if (asker->rows > 0) {
        asker->on_row(asker->context, NULL);
    }
    asker->rows = 0;
    // Rows of an earlier attempt may still be on their way.
    fleet_client_id(question_id(&asker->question));
}

// An answer that is one message, without an `end` to wait for.
static bool is_whole(const asker_t *asker, fleet_message_type_t type) {
    return (type == FLEET_MESSAGE_definition &&
            asker->question.type == FLEET_MESSAGE_show_ask) ||
           type == FLEET_MESSAGE_truncated;
}

static fleet_err_t ask_ended(asker_t *asker, bool *ret_again) {
    const fleet_end_t *end = &asker->client->parcel.message.end;

    if (end->rows == asker->rows) {
        *asker->ret_end = *end;
        return FLEET_OK;
    }
    if (++asker->incomplete < INCOMPLETE_MAX) {
        *ret_again = true;
        return FLEET_UNFINISHED;
    }
    fleet_reason_make(asker->ret_reason, FLEET_BAD_MESSAGE,
                      "the broker's answer is incomplete: %" PRIu64
                      " of %" PRIu64 " rows came",
                      asker->rows, end->rows);
    return FLEET_BAD_MESSAGE;
}

// FLEET_UNFINISHED: go on.
static fleet_err_t ask_message(asker_t *asker, bool *ret_again) {
    fleet_parcel_t *parcel = &asker->client->parcel;
    fleet_message_type_t type = parcel->message.type;

    if (!answers(&parcel->message, question_id(&asker->question))) {
        return FLEET_UNFINISHED;
    }
    if (type == FLEET_MESSAGE_end) {
        return ask_ended(asker, ret_again);
    }
    if (type == FLEET_MESSAGE_turned_away) {
        const fleet_reason_t *reason = &parcel->message.turned_away.reason;
        fleet_err_t err = fleet_error_find(reason->code);

        *asker->ret_reason = *reason;
        return err != FLEET_OK ? err : FLEET_BAD_MESSAGE;
    }
    asker->rows++;
    asker->on_row(asker->context, parcel);
    if (is_whole(asker, type)) {
        memset(asker->ret_end, 0, sizeof(*asker->ret_end));
        asker->ret_end->rows = 1;
        return FLEET_OK;
    }
    return FLEET_UNFINISHED;
}

fleet_err_t fleet_client_ask(fleet_client_t *client,
                             const fleet_message_t *question,
                             fleet_on_row_t *on_row, void *context,
                             fleet_end_t *ret_end, fleet_reason_t *ret_reason) {
    asker_t asker = {.client = client,
                     .question = *question,
                     .on_row = on_row,
                     .context = context,
                     .ret_end = ret_end,
                     .ret_reason = ret_reason};
    round_t round;

    round_begin(client, &round, 0);
    while (!round_over(client, &round)) {
        bool again = false;

        if (round_due(client, &round)) {
            ask_anew(&asker);
            round_send(client, &round, &asker.question);
        }
        fleet_link_tend(client);
        while (!again &&
               fleet_link_recv(client, round_until(client, &round), false)) {
            fleet_err_t err = ask_message(&asker, &again);

            if (err != FLEET_UNFINISHED) {
                return err;
            }
            if (round_over(client, &round)) {
                break;
            }
        }
        round.sent = round.sent && !again;
    }
    return fleet_link_excuse(client, ret_reason);
}
