// SPDX-License-Identifier: MIT
//
// A client's connection: making it, noticing that it is silent, trying the next
// broker, and finding out why nobody answers.  ZeroMQ connects again by itself
// and never says that it failed, so a monitor socket is read beside it.

#include "proto/link.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "proto/text.h"

// A silent connection is made anew after so long; with several brokers the next
// one of the list is tried.
#define SWITCH_MS 5000
#define SWITCH_FIRST_MS 1500  // several brokers, none heard yet
#define SWITCH_REFUSED_MS 100 // ... and nobody listens at this one

// The other side hung up so often in a row: it does not like the handshake.
#define HANGUPS_MAX 3

// The flag of a signal handler is looked at so often.
#define SLICE_MS 200

uint64_t fleet_link_now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool fleet_link_interrupted(const fleet_client_t *client) {
    return client->config.interrupted != NULL &&
           *client->config.interrupted != 0;
}

void fleet_link_begin(fleet_client_t *client) {
    client->heard_ms = fleet_link_now_ms();
}

uint64_t fleet_link_silence_ms(const fleet_client_t *client) {
    return fleet_link_now_ms() - client->heard_ms;
}

void fleet_link_close(fleet_client_t *client) {
    if (client->events != NULL) {
        zmq_close(client->events);
        client->events = NULL;
    }
    if (client->control != NULL) {
        zmq_socket_monitor(client->control, NULL, 0);
        zmq_close(client->control);
        client->control = NULL;
    }
    if (client->monitor != NULL) {
        zmq_close(client->monitor);
        client->monitor = NULL;
    }
}

static void monitor_open(fleet_client_t *client) {
    static unsigned number;
    char name[64];
    int linger = 0;

    // A name of its own each time: a closed monitor's may not be free yet.
    snprintf(name, sizeof(name), "inproc://fleet-monitor-%u", ++number);
    if (zmq_socket_monitor(client->control, name, ZMQ_EVENT_ALL) != 0) {
        return;
    }
    client->monitor = zmq_socket(client->context, ZMQ_PAIR);
    assert(client->monitor != NULL);
    zmq_setsockopt(client->monitor, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_connect(client->monitor, name);
}

fleet_err_t fleet_link_connect(fleet_client_t *client, fleet_reason_t *reason) {
    const fleet_broker_address_t *address =
        &client->config.brokers[client->broker];
    fleet_text_t why = "";

    client->state = FLEET_LINK_NOTHING;
    client->hangups = 0;
    client->made_ms = fleet_link_now_ms();
    client->opened_ms = 0;
    client->control = fleet_bus_dealer(client->context, address->control,
                                       address->key, &client->config.pair, why);
    if (client->control == NULL) {
        fleet_reason_make(reason, FLEET_BAD_CONFIG, "%s", why);
        return FLEET_BAD_CONFIG;
    }
    monitor_open(client);
    return FLEET_OK;
}

static void next_broker(fleet_client_t *client) {
    fleet_reason_t ignored;

    fleet_link_close(client);
    client->broker = (client->broker + 1) % client->config.brokers_n;
    // An endpoint that was accepted once is accepted again; if one of the list
    // never was, the next turn leaves it.
    (void)fleet_link_connect(client, &ignored);
}

static void monitor_event(fleet_client_t *client, unsigned event) {
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        if (client->state < FLEET_LINK_CONNECTED) {
            client->state = FLEET_LINK_CONNECTED;
        }
        break;
    case ZMQ_EVENT_CONNECT_RETRIED:
    case ZMQ_EVENT_CLOSED:
        if (client->state == FLEET_LINK_NOTHING ||
            client->state == FLEET_LINK_UP) {
            client->state = FLEET_LINK_REFUSED;
        }
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        client->state = FLEET_LINK_UP;
        client->hangups = 0;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        client->state = FLEET_LINK_UNAUTHORIZED;
        break;
    case ZMQ_EVENT_DISCONNECTED:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        if (client->state == FLEET_LINK_UP) {
            client->state = FLEET_LINK_NOTHING;
        } else if (client->state == FLEET_LINK_CONNECTED &&
                   ++client->hangups >= HANGUPS_MAX) {
            client->state = FLEET_LINK_MUTE;
        }
        break;
    default:
        break;
    }
}

static void monitor_read(fleet_client_t *client) {
    uint8_t frame[6];
    char endpoint[FLEET_TEXT_MAX];

    while (client->monitor != NULL &&
           zmq_recv(client->monitor, frame, sizeof(frame), ZMQ_DONTWAIT) ==
               (int)sizeof(frame)) {
        uint16_t event;

        memcpy(&event, frame, sizeof(event));
        (void)zmq_recv(client->monitor, endpoint, sizeof(endpoint),
                       ZMQ_DONTWAIT);
        monitor_event(client, event);
    }
}

static long slice(uint64_t until_ms) {
    uint64_t now = fleet_link_now_ms();

    if (until_ms <= now) {
        return 0;
    }
    return until_ms - now < SLICE_MS ? (long)(until_ms - now) : SLICE_MS;
}

bool fleet_link_send(fleet_client_t *client, const fleet_message_t *message,
                     uint64_t until_ms) {
    fleet_parcel_t *parcel = &client->parcel;

    fleet_parcel_clear(parcel);
    while (client->control != NULL) {
        zmq_pollitem_t items[2] = {
            {.socket = client->control, .events = ZMQ_POLLOUT},
            {.socket = client->monitor, .events = ZMQ_POLLIN}};
        bool sent;

        parcel->message = *message;
        sent = fleet_bus_send(client->control, NULL, parcel);
        if (sent) {
            return true;
        }
        if (fleet_link_interrupted(client) ||
            client->state == FLEET_LINK_UNAUTHORIZED ||
            fleet_link_now_ms() >= until_ms) {
            return false;
        }
        (void)zmq_poll(items, client->monitor != NULL ? 2 : 1, slice(until_ms));
        monitor_read(client);
    }
    return false;
}

// A broker of another version: what came could not be read but for that.
static void make_version_refusal(fleet_parcel_t *parcel, uint64_t protocol) {
    memset(&parcel->message, 0, sizeof(parcel->message));
    parcel->message.type = FLEET_MESSAGE_turned_away;
    parcel->message.turned_away.protocol = protocol;
    fleet_reason_make(&parcel->message.turned_away.reason, FLEET_BAD_VERSION,
                      "the broker speaks protocol %" PRIu64
                      ", this program speaks %d",
                      protocol, FLEET_PROTOCOL);
}

static bool take(fleet_client_t *client) {
    fleet_parcel_t *parcel = &client->parcel;

    for (;;) {
        uint64_t protocol;

        fleet_parcel_clear(parcel);
        switch (fleet_bus_recv(client->control, NULL, NULL, parcel, NULL)) {
        case FLEET_RECV_NONE:
            return false;
        case FLEET_RECV_BAD:
            protocol = parcel->message.open.protocol;
            if (protocol == 0 || protocol == FLEET_PROTOCOL) {
                continue; // nothing that we could answer to
            }
            make_version_refusal(parcel, protocol);
            break;
        case FLEET_RECV_OK:
            break;
        }
        client->heard_ms = fleet_link_now_ms();
        client->state = FLEET_LINK_UP;
        if (parcel->message.type == FLEET_MESSAGE_welcome) {
            client->welcome = parcel->message.welcome;
            client->welcomed = true;
        }
        return true;
    }
}

bool fleet_link_recv(fleet_client_t *client, uint64_t until_ms,
                     bool also_events) {
    while (client->control != NULL) {
        zmq_pollitem_t items[3] = {
            {.socket = client->control, .events = ZMQ_POLLIN}};
        int items_n = 1;

        if (take(client)) {
            return true;
        }
        if (fleet_link_interrupted(client) || fleet_link_now_ms() >= until_ms) {
            return false;
        }
        if (client->monitor != NULL) {
            items[items_n++] = (zmq_pollitem_t){.socket = client->monitor,
                                                .events = ZMQ_POLLIN};
        }
        if (also_events && client->events != NULL) {
            items[items_n++] = (zmq_pollitem_t){.socket = client->events,
                                                .events = ZMQ_POLLIN};
        }
        if (zmq_poll(items, items_n, slice(until_ms)) < 0) {
            continue; // a signal: its flag is looked at above
        }
        monitor_read(client);
        if (client->state == FLEET_LINK_UNAUTHORIZED) {
            return false;
        }
        if (also_events && client->events != NULL &&
            (items[items_n - 1].revents & ZMQ_POLLIN) != 0) {
            return false;
        }
    }
    return false;
}

static void say_open(fleet_client_t *client) {
    fleet_message_t message = {.type = FLEET_MESSAGE_open};

    message.open.protocol = FLEET_PROTOCOL;
    FLEET_COPY(message.open.site, client->config.site);
    FLEET_COPY(message.open.version, FLEET_VERSION);
    if (fleet_link_send(client, &message, 0)) {
        client->opened_ms = fleet_link_now_ms();
    }
}

void fleet_link_tend(fleet_client_t *client) {
    uint64_t now = fleet_link_now_ms();
    uint64_t patience = SWITCH_MS;

    if (!client->welcomed && client->config.brokers_n > 1) {
        patience = client->state == FLEET_LINK_REFUSED ? SWITCH_REFUSED_MS
                                                       : SWITCH_FIRST_MS;
    }
    if (client->control == NULL ||
        (now - client->made_ms >= patience &&
         fleet_link_silence_ms(client) >= patience)) {
        next_broker(client);
    }
    if (now - client->opened_ms >= client->config.repeat_ms &&
        (!client->welcomed ||
         fleet_link_silence_ms(client) >= client->config.repeat_ms)) {
        say_open(client);
    }
}

fleet_err_t fleet_link_excuse(const fleet_client_t *client,
                              fleet_reason_t *ret_reason) {
    const fleet_broker_address_t *address =
        &client->config.brokers[client->broker];
    char theirs[9];
    char ours[9];
    const char *state = "was not reached";

    fleet_key_short(address->key, theirs);
    fleet_key_short(client->config.pair.public_key, ours);
    switch (client->state) {
    case FLEET_LINK_UNAUTHORIZED:
        fleet_reason_make(ret_reason, FLEET_BAD_KEY,
                          "%s does not know your key %s; nothing was sent",
                          address->control, ours);
        fleet_reason_hint(ret_reason,
                          "an admin can admit it:  fleet keys admit "
                          "operator NAME HEX");
        return FLEET_BAD_KEY;
    case FLEET_LINK_MUTE:
        fleet_reason_make(ret_reason, FLEET_BAD_KEY,
                          "%s hangs up when it is addressed by the broker's "
                          "key %s (yours is %s); nothing was sent",
                          address->control, theirs, ours);
        fleet_reason_hint(ret_reason,
                          "compare these 8 digits with the broker's own key; "
                          "client.yaml names another broker's, or another "
                          "program listens there");
        return FLEET_BAD_KEY;
    case FLEET_LINK_CONNECTED:
    case FLEET_LINK_UP:
        state = "is connected, but does not reply";
        break;
    case FLEET_LINK_REFUSED:
        state = "does not accept connections";
        break;
    case FLEET_LINK_NOTHING:
        break;
    }
    fleet_reason_make(
        ret_reason, FLEET_NO_BROKER,
        "no broker%s%s%s answers; nothing was sent: %s %s",
        client->config.site[0] != '\0' ? " of \"" : "", client->config.site,
        client->config.site[0] != '\0' ? "\"" : "", address->control, state);
    fleet_reason_hint(ret_reason,
                      "what runs goes on running.  On a node:  "
                      "fleet status --local");
    return FLEET_NO_BROKER;
}

fleet_err_t fleet_link_open_events(fleet_client_t *client, bool with_steps,
                                   fleet_reason_t *ret_reason) {
    const fleet_broker_address_t *address =
        &client->config.brokers[client->broker];
    const char *endpoint =
        address->events[0] != '\0' ? address->events : client->welcome.events;
    fleet_text_t why = "";

    if (client->events != NULL) {
        return FLEET_OK;
    }
    client->events = fleet_bus_sub(client->context, endpoint, address->key,
                                   &client->config.pair, why);
    if (client->events == NULL) {
        fleet_reason_make(ret_reason, FLEET_BAD_CONFIG, "%s", why);
        return FLEET_BAD_CONFIG;
    }
    fleet_bus_subscribe(client->events, "e");
    if (with_steps) {
        fleet_bus_subscribe(client->events, "p/");
    }
    return FLEET_OK;
}
