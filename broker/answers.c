// SPDX-License-Identifier: MIT
//
// Questions: answered from the core, the view, the book and the journal as they
// are now.  They change nothing; like everything, the answers leave after the
// commit of the round that they are asked in.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/shell.h"
#include "proto/codec.h"
#include "proto/text.h"

#define ENTRIES_PAGE_MAX 512
#define ENTRIES_PAGE_BYTES (2 * 1024 * 1024)
#define HISTORY_MAX 1000

// An answer in the making.
typedef struct answer {
    shell_t *shell;
    uint64_t peer;
    const char *ask;
    uint64_t rows;
    uint64_t bytes;
    uint64_t next; // entries: the seq after the last one told
    bool more;
    bool too_long; // entries: the page was full before its limit
} answer_t;

// An empty message to fill; its first field is the question's id.
static fleet_message_t *blank(answer_t *answer, fleet_message_type_t type) {
    fleet_message_t *message = &answer->shell->scratch;
    const fleet_struct_spec_t *spec = fleet_message_spec(type);
    assert(spec != NULL);
    message->type = type;
    memset(&message->event, 0, spec->size);
    return message;
}

static void tell(answer_t *answer) {
    outbox_send(answer->shell->outbox, answer->peer, &answer->shell->scratch);
    answer->rows++;
}

static void tell_end(answer_t *answer, uint64_t seq) {
    fleet_message_t *message = blank(answer, FLEET_MESSAGE_end);
    FLEET_COPY(message->end.ask, answer->ask);
    message->end.rows = answer->rows;
    message->end.seq = seq;
    message->end.more = answer->more;
    outbox_send(answer->shell->outbox, answer->peer, message);
}

static void tell_all(answer_t *answer) {
    tell_end(answer, broker_core_seq(answer->shell->core));
}

void shell_turn_away(shell_t *shell, uint64_t peer, const char *ask,
                     const fleet_reason_t *reason) {
    fleet_message_t *message = &shell->scratch;
    message->type = FLEET_MESSAGE_turned_away;
    memset(&message->turned_away, 0, sizeof message->turned_away);
    message->turned_away.protocol = FLEET_PROTOCOL;
    FLEET_COPY(message->turned_away.ask, ask);
    message->turned_away.reason = *reason;
    outbox_send(shell->outbox, peer, message);
}

// ----------------------------------------------------------------------
// opening

// The endpoint to subscribe at.  One that listens on every address is told with
// the address by which this peer came.
static void events_endpoint(const shell_t *shell, const peer_t *peer,
                            fleet_text_t ret_text) {
    const char *endpoint = shell->settings.events;
    const char *host = endpoint + strcspn(endpoint, "/");
    host += strspn(host, "/");
    const char *port = strrchr(host, ':');
    size_t size = port != NULL ? (size_t)(port - host) : 0;
    bool any = (size == 1 && *host == '*') ||
               (size == 7 && strncmp(host, "0.0.0.0", 7) == 0) ||
               (size == 4 && strncmp(host, "[::]", 4) == 0);
    char here[64] = "";
    if (any) {
        peers_local_address(peer->fd, here);
    }
    bool brackets = strchr(here, ':') != NULL;
    if (here[0] != '\0') {
        fleet_text_format(ret_text, sizeof(fleet_text_t), "tcp://%s%s%s%s",
                          brackets ? "[" : "", here, brackets ? "]" : "", port);
    } else {
        fleet_text_copy(ret_text, sizeof(fleet_text_t), endpoint);
    }
}

static void answer_open(shell_t *shell, const peer_t *peer, fleet_role_t role,
                        const char *name, const fleet_open_t *open) {
    fleet_reason_t reason;
    if (open->protocol != FLEET_PROTOCOL) {
        fleet_reason_make(&reason, FLEET_BAD_VERSION,
                          "this broker speaks protocol %d, you speak %" PRIu64,
                          FLEET_PROTOCOL, open->protocol);
        shell_turn_away(shell, peer->number, "", &reason);
        return;
    }
    if (open->site[0] != '\0' &&
        strcmp(open->site, shell->settings.site) != 0) {
        fleet_reason_make(&reason, FLEET_WRONG_SITE,
                          "this is the broker of site %s, not of %s",
                          shell->settings.site, open->site);
        shell_turn_away(shell, peer->number, "", &reason);
        return;
    }
    fleet_message_t *message = &shell->scratch;
    fleet_welcome_t *welcome = &message->welcome;
    message->type = FLEET_MESSAGE_welcome;
    memset(welcome, 0, sizeof *welcome);
    welcome->protocol = FLEET_PROTOCOL;
    FLEET_COPY(welcome->site, shell->settings.site);
    FLEET_COPY(welcome->broker, shell->settings.broker);
    FLEET_COPY(welcome->version, FLEET_VERSION);
    welcome->term = broker_core_term(shell->core);
    welcome->seq = broker_core_seq(shell->core);
    welcome->role = role;
    FLEET_COPY(welcome->name, name);
    events_endpoint(shell, peer, welcome->events);
    memcpy(welcome->sign_key, shell->sign.public_key, FLEET_KEY_SIZE);
    outbox_send(shell->outbox, peer->number, message);
}

// -----------------------------------------------------------------------
// status

// The core counts its rows in the order of names, without a way to find one:
// looks for it by halving.  row_at fills `row` and gives its name.
typedef const char *row_at_t(const broker_core_t *core, uint32_t i, void *row);

static const char *node_at(const broker_core_t *core, uint32_t i, void *row) {
    fleet_node_row_t *node = row;
    return broker_core_node_row(core, i, node) ? node->name : NULL;
}

static const char *set_at(const broker_core_t *core, uint32_t i, void *row) {
    fleet_set_row_t *set = row;
    return broker_core_set_row(core, i, set) ? set->name : NULL;
}

static bool find_row(const broker_core_t *core, row_at_t *row_at,
                     const char *name, void *row) {
    uint32_t low = 0;
    uint32_t high = 1;
    const char *found = NULL;
    while ((found = row_at(core, high - 1, row)) != NULL &&
           strcmp(found, name) < 0) {
        low = high;
        high *= 2;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        found = row_at(core, middle, row);
        if (found != NULL && strcmp(found, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    found = row_at(core, low, row);
    return found != NULL && strcmp(found, name) == 0;
}

bool shell_find_node(shell_t *shell, const char *name,
                     fleet_node_row_t *ret_row) {
    if (!find_row(shell->core, node_at, name, ret_row)) {
        return false;
    }
    view_node(shell->view, shell->now_ms, ret_row);
    return true;
}

bool shell_find_set(shell_t *shell, const char *name,
                    fleet_set_row_t *ret_row) {
    if (!find_row(shell->core, set_at, name, ret_row)) {
        return false;
    }
    view_set(shell->view, ret_row);
    return true;
}

static void status_head(answer_t *answer) {
    shell_t *shell = answer->shell;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    fleet_status_head_t *head =
        &blank(answer, FLEET_MESSAGE_status_head)->status_head;
    FLEET_COPY(head->ask, answer->ask);
    FLEET_COPY(head->site, shell->settings.site);
    FLEET_COPY(head->broker, shell->settings.broker);
    FLEET_COPY(head->version, FLEET_VERSION);
    FLEET_COPY(head->control, shell->settings.control);
    FLEET_COPY(head->events, shell->settings.events);
    head->time_us =
        (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    head->term = broker_core_term(shell->core);
    head->seq = broker_core_seq(shell->core);
    head->started_us = view_started_us(shell->view);
    head->no_lapse_ms = broker_core_no_lapse_ms(shell->core);
    tell(answer);
}

static void status_node(answer_t *answer) {
    fleet_node_row_t *row = &answer->shell->scratch.node_row;
    answer->shell->scratch.type = FLEET_MESSAGE_node_row;
    FLEET_COPY(row->ask, answer->ask);
    view_node(answer->shell->view, answer->shell->now_ms, row);
    tell(answer);
}

static void status_set(answer_t *answer) {
    fleet_set_row_t *row = &answer->shell->scratch.set_row;
    answer->shell->scratch.type = FLEET_MESSAGE_set_row;
    FLEET_COPY(row->ask, answer->ask);
    view_set(answer->shell->view, row);
    uint64_t transfer = row->transfer;
    tell(answer);
    if (transfer == 0) {
        return;
    }
    fleet_message_t *message = blank(answer, FLEET_MESSAGE_transfer);
    if (book_read(answer->shell->book, transfer, answer->shell->now_us,
                  &message->transfer)) {
        FLEET_COPY(message->transfer.ask, answer->ask);
        tell(answer);
    }
}

static void status_problems(answer_t *answer, const char *name) {
    fleet_reason_t reason;
    for (uint32_t i = 0; broker_core_problem(answer->shell->core, i, &reason);
         i++) {
        if (name[0] != '\0' && strcmp(reason.set, name) != 0 &&
            strcmp(reason.node, name) != 0) {
            continue;
        }
        fleet_problem_t *problem =
            &blank(answer, FLEET_MESSAGE_problem)->problem;
        FLEET_COPY(problem->ask, answer->ask);
        problem->reason = reason;
        view_problem(answer->shell->view, &problem->reason);
        tell(answer);
    }
}

static void unknown(answer_t *answer, fleet_err_t err, const char *what,
                    const char *name) {
    fleet_reason_t reason;
    fleet_reason_make(&reason, err, "there is no %s %s here", what, name);
    fleet_reason_hint(&reason, "fleet status");
    if (err == FLEET_SET_UNKNOWN) {
        FLEET_COPY(reason.set, name);
    }
    shell_turn_away(answer->shell, answer->peer, answer->ask, &reason);
}

static void answer_status_of(answer_t *answer, const char *name) {
    shell_t *shell = answer->shell;
    fleet_node_row_t node;
    fleet_set_row_t set;
    bool is_node = find_row(shell->core, node_at, name, &node);
    bool is_set = !is_node && find_row(shell->core, set_at, name, &set);
    if (!is_node && !is_set) {
        unknown(answer, FLEET_SET_UNKNOWN, "set or node", name);
        return;
    }
    status_head(answer);
    if (is_node) {
        shell->scratch.node_row = node;
        status_node(answer);
    } else {
        shell->scratch.set_row = set;
        status_set(answer);
    }
    status_problems(answer, name);
    tell_all(answer);
}

static void answer_status(answer_t *answer, const char *name) {
    shell_t *shell = answer->shell;
    if (name[0] != '\0') {
        answer_status_of(answer, name);
        return;
    }
    status_head(answer);
    for (uint32_t i = 0;
         broker_core_node_row(shell->core, i, &shell->scratch.node_row); i++) {
        status_node(answer);
    }
    for (uint32_t i = 0;
         broker_core_set_row(shell->core, i, &shell->scratch.set_row); i++) {
        status_set(answer);
    }
    status_problems(answer, "");
    tell_all(answer);
}

// ---------------------------------------------------------------- other
// questions

static void answer_show(answer_t *answer, const char *set) {
    shell_t *shell = answer->shell;
    uint8_t *data = NULL;
    size_t size = 0;
    uint64_t rev = broker_core_rev(shell->core, set);
    if (rev == 0 || !shell_definition(shell, set, rev, &data, &size)) {
        unknown(answer, FLEET_SET_UNKNOWN, "set", set);
        return;
    }
    fleet_message_t *message = blank(answer, FLEET_MESSAGE_definition);
    if (fleet_decode(data, size, message, NULL) == FLEET_OK &&
        message->type == FLEET_MESSAGE_definition) {
        FLEET_COPY(message->definition.ask, answer->ask);
        tell(answer);
    }
    free(data);
}

static bool on_ended(void *context, const store_entry_t *entry) {
    answer_t *answer = context;
    fleet_message_t *message = blank(answer, FLEET_MESSAGE_transfer);
    if (fleet_decode(entry->beside.data, entry->beside.size, message, NULL) ==
            FLEET_OK &&
        message->type == FLEET_MESSAGE_transfer) {
        FLEET_COPY(message->transfer.ask, answer->ask);
        tell(answer);
    }
    return true;
}

static void store_failed(answer_t *answer, const char *why) {
    fleet_reason_t reason;
    broker_log_error("%s", why);
    fleet_reason_make(&reason, FLEET_STORE_FAILED, "%s", why);
    shell_turn_away(answer->shell, answer->peer, answer->ask, &reason);
}

static void answer_history(answer_t *answer, const fleet_history_ask_t *ask) {
    uint64_t limit =
        ask->limit > 0 && ask->limit < HISTORY_MAX ? ask->limit : HISTORY_MAX;
    fleet_text_t why = "";
    if (store_ended(answer->shell->store, ask->set, limit, on_ended, answer,
                    why) != FLEET_OK) {
        store_failed(answer, why);
        return;
    }
    tell_all(answer);
}

static bool on_entry(void *context, const store_entry_t *entry) {
    answer_t *answer = context;
    if (answer->bytes > ENTRIES_PAGE_BYTES) {
        answer->too_long = true;
        return false;
    }
    entry_message(entry, answer->ask, &answer->shell->scratch);
    fleet_bytes_t frames[2] = {entry->event, entry->beside};
    outbox_send_frames(answer->shell->outbox, answer->peer,
                       &answer->shell->scratch, frames);
    answer->rows++;
    answer->bytes += entry->event.size + entry->beside.size;
    answer->next = entry->seq + 1;
    return true;
}

static void answer_entries(answer_t *answer, const fleet_entries_ask_t *ask) {
    shell_t *shell = answer->shell;
    store_head_t head = {0};
    fleet_text_t why = "";
    uint64_t from = ask->seq > 0 ? ask->seq : 1;
    uint64_t limit = ask->limit > 0 && ask->limit < ENTRIES_PAGE_MAX
                         ? ask->limit
                         : ENTRIES_PAGE_MAX;
    if (store_head(shell->store, &head, why) != FLEET_OK) {
        store_failed(answer, why);
        return;
    }
    if (from < head.first) {
        fleet_message_t *message = blank(answer, FLEET_MESSAGE_truncated);
        FLEET_COPY(message->truncated.ask, answer->ask);
        message->truncated.before = head.first;
        tell(answer);
        return;
    }
    answer->next = from;
    if (store_read(shell->store, from, limit, on_entry, answer, why) !=
        FLEET_OK) {
        store_failed(answer, why);
        return;
    }
    // What this round commits follows on the events endpoint, or is read next.
    answer->more = answer->next <= head.seq;
    tell_end(answer, answer->next);
}

static void answer_check(answer_t *answer, const char *set) {
    shell_t *shell = answer->shell;
    fleet_set_row_t row;
    if (set[0] != '\0' && broker_core_rev(shell->core, set) == 0) {
        unknown(answer, FLEET_SET_UNKNOWN, "set", set);
        return;
    }
    for (uint32_t i = 0; broker_core_set_row(shell->core, i, &row); i++) {
        if (set[0] != '\0' && strcmp(set, row.name) != 0) {
            continue;
        }
        fleet_check_row_t *check = &shell->scratch.check_row;
        for (uint32_t at = 0;
             broker_core_check_row(shell->core, row.name, at, check); at++) {
            shell->scratch.type = FLEET_MESSAGE_check_row;
            FLEET_COPY(check->ask, answer->ask);
            tell(answer);
        }
    }
    tell_all(answer);
}

static void answer_keys(answer_t *answer) {
    shell_t *shell = answer->shell;
    fleet_key_row_t *row = &shell->scratch.key_row;
    for (uint32_t i = 0; broker_core_key_row(shell->core, i, row); i++) {
        shell->scratch.type = FLEET_MESSAGE_key_row;
        FLEET_COPY(row->ask, answer->ask);
        view_key(shell->view, row);
        tell(answer);
    }
    tell_all(answer);
}

static bool on_latest(void *context, const store_entry_t *entry) {
    uint64_t *transfer = context;
    *transfer = entry->transfer;
    return true;
}

static void answer_follow(answer_t *answer, const fleet_follow_t *follow) {
    shell_t *shell = answer->shell;
    uint64_t transfer = follow->transfer;
    fleet_text_t why = "";
    if (transfer == 0) {
        transfer = book_of_set(shell->book, follow->set);
    }
    if (transfer == 0 && store_ended(shell->store, follow->set, 1, on_latest,
                                     &transfer, why) != FLEET_OK) {
        store_failed(answer, why);
        return;
    }
    fleet_message_t *message = blank(answer, FLEET_MESSAGE_transfer);
    if (transfer == 0 || !shell_transfer(shell, transfer, &message->transfer)) {
        fleet_reason_t reason;
        bool no_set = follow->transfer == 0 &&
                      broker_core_rev(shell->core, follow->set) == 0;
        if (no_set) {
            unknown(answer, FLEET_SET_UNKNOWN, "set", follow->set);
            return;
        }
        if (follow->transfer > 0) {
            fleet_reason_make(&reason, FLEET_TRANSFER_UNKNOWN,
                              "there is no transfer %" PRIu64 " here",
                              follow->transfer);
        } else {
            fleet_reason_make(&reason, FLEET_TRANSFER_UNKNOWN,
                              "set %s has had no transfer yet", follow->set);
            FLEET_COPY(reason.set, follow->set);
        }
        fleet_reason_hint(&reason, "fleet history");
        shell_turn_away(shell, answer->peer, answer->ask, &reason);
        return;
    }
    FLEET_COPY(message->transfer.ask, answer->ask);
    if (message->transfer.ended_us == 0) {
        followers_add(shell->followers, answer->peer, transfer, answer->ask);
    }
    tell(answer);
}

// --------------------------------------------------------------------- the
// switch

static void answer_reader(answer_t *answer, const fleet_message_t *message) {
    switch ((uint64_t)message->type) {
    case FLEET_MESSAGE_status_ask:
        answer_status(answer, message->status_ask.name);
        break;
    case FLEET_MESSAGE_show_ask:
        answer_show(answer, message->show_ask.set);
        break;
    case FLEET_MESSAGE_history_ask:
        answer_history(answer, &message->history_ask);
        break;
    case FLEET_MESSAGE_entries_ask:
        answer_entries(answer, &message->entries_ask);
        break;
    case FLEET_MESSAGE_check_ask:
        answer_check(answer, message->check_ask.set);
        break;
    case FLEET_MESSAGE_keys_ask:
        answer_keys(answer);
        break;
    default:
        assert(false);
    }
}

// The id of a question; every one of them begins with it.
static const char *ask_of(const fleet_message_t *message) {
    switch ((uint64_t)message->type) {
    case FLEET_MESSAGE_status_ask:
    case FLEET_MESSAGE_show_ask:
    case FLEET_MESSAGE_history_ask:
    case FLEET_MESSAGE_entries_ask:
    case FLEET_MESSAGE_check_ask:
    case FLEET_MESSAGE_keys_ask:
        return message->status_ask.ask;
    default:
        return NULL;
    }
}

bool shell_answer(shell_t *shell, const peer_t *peer, fleet_role_t role,
                  const char *name, const fleet_message_t *message) {
    answer_t answer = {.shell = shell, .peer = peer->number};
    if (message->type == FLEET_MESSAGE_open) {
        answer_open(shell, peer, role, name, &message->open);
        return true;
    }
    if (message->type == FLEET_MESSAGE_follow) {
        answer.ask = message->follow.ask;
        answer_follow(&answer, &message->follow);
        return true;
    }
    answer.ask = ask_of(message);
    if (answer.ask == NULL) {
        return false;
    }
    if (role == fleet_role_NODE) {
        fleet_reason_t reason;
        fleet_reason_make(&reason, FLEET_NOT_PERMITTED,
                          "the key of node %s may not ask this: a node speaks "
                          "for itself only",
                          name);
        fleet_reason_hint(&reason, "use a key of role monitor or operator");
        shell_turn_away(shell, answer.peer, answer.ask, &reason);
        return true;
    }
    answer_reader(&answer, message);
    return true;
}
