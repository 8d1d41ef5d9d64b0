// SPDX-License-Identifier: MIT
//
// Watching the journal (S7).  What is published is only a hint that there is
// something new: every event has a number, the next number is told at once,
// anything else makes the watcher read the journal from where it stands.

#include <inttypes.h>
#include <string.h>
#include <zmq.h>

#include "proto/client.h"
#include "proto/codec.h"
#include "proto/link.h"

#define BATCH 500 // entries asked for at once

// The journal's head is asked for when nothing was published for so long: soon
// after subscribing, when a subscription may not be in force yet, later seldom.
#define LOOK_FIRST_MS 100
#define LOOK_MAX_MS 2000

// Silence after which a watcher is told that the broker does not answer.
#define LOST_MS 2500

typedef struct watcher {
    fleet_client_t *client;
    fleet_on_watch_t *on_watch;
    void *context;
    bool with_steps;
    uint64_t next; // the number that is told next
    bool anchored; // the hash of the entry before it is known
    fleet_key_t anchor;
    bool diverged;      // the journal has another entry in its place
    bool lost;          // the reader knows that the broker does not answer
    bool stop;          // the reader wants no more
    uint64_t look_ms;   // how long to wait before the head is asked for
    fleet_err_t broken; // an entry that cannot be read
    fleet_text_t why;
    uint64_t truncated; // an answer: entries below are gone
    fleet_id_t ask;     // the question that is open
    uint64_t from;      // it asks for entries from here on
    uint64_t rows;      // entries that came in answer to it
    fleet_end_t end;    // its end
    bool ended;
} watcher_t;

static void tell(watcher_t *watcher, fleet_watch_kind_t kind, uint64_t seq) {
    fleet_watch_item_t item = {.kind = kind, .seq = seq};

    if (!watcher->stop && !watcher->on_watch(watcher->context, &item)) {
        watcher->stop = true;
    }
}

static bool read_frame(watcher_t *watcher, const fleet_parcel_t *parcel,
                       uint32_t i, fleet_message_t *message) {
    message->type = FLEET_MESSAGE_none;
    if (i >= parcel->frames_n || parcel->frames[i].size == 0) {
        return true;
    }
    if (fleet_decode(parcel->frames[i].data, parcel->frames[i].size, message,
                     &watcher->why) != FLEET_OK) {
        watcher->broken = FLEET_BAD_MESSAGE;
        return false;
    }
    return true;
}

// The next entry of the journal; the parcel is the client's or the bus's.
static void tell_entry(watcher_t *watcher, const fleet_parcel_t *parcel) {
    fleet_client_t *client = watcher->client;
    fleet_watch_item_t item = {.kind = FLEET_WATCH_EVENT,
                               .seq = parcel->message.entry.seq,
                               .entry = parcel->message.entry};

    if (!read_frame(watcher, parcel, 0, &client->event) ||
        !read_frame(watcher, parcel, 1, &client->beside)) {
        return;
    }
    if (!fleet_message_is_event(client->event.type)) {
        watcher->broken = FLEET_BAD_MESSAGE;
        return;
    }
    item.event = &client->event;
    if (client->beside.type != FLEET_MESSAGE_none &&
        client->beside.type != FLEET_MESSAGE_attachment_none) {
        item.beside = &client->beside;
    }
    watcher->next = item.seq + 1;
    watcher->anchored = true;
    memcpy(watcher->anchor, item.entry.hash, sizeof(watcher->anchor));
    if (!watcher->on_watch(watcher->context, &item)) {
        watcher->stop = true;
    }
}

// What is published.  True: there is a gap, or something that only the journal
// can tell.
static bool take_published(watcher_t *watcher) {
    char topic[64];
    fleet_parcel_t parcel;
    bool gap = false;

    while (!watcher->stop && watcher->broken == FLEET_OK && !gap &&
           watcher->client->events != NULL) {
        fleet_recv_t got =
            fleet_bus_recv_topic(watcher->client->events, topic, &parcel, NULL);

        if (got == FLEET_RECV_NONE) {
            break;
        }
        if (got == FLEET_RECV_BAD) {
            gap = true;
            continue;
        }
        if (parcel.message.type == FLEET_MESSAGE_entry) {
            if (parcel.message.entry.seq == watcher->next) {
                tell_entry(watcher, &parcel);
                watcher->look_ms = LOOK_MAX_MS; // the subscription works
            } else {
                gap = parcel.message.entry.seq > watcher->next;
            }
        } else if (parcel.message.type == FLEET_MESSAGE_step &&
                   watcher->with_steps) {
            fleet_watch_item_t item = {.kind = FLEET_WATCH_STEP,
                                       .beside = &parcel.message};

            watcher->stop = !watcher->on_watch(watcher->context, &item);
        }
        fleet_parcel_clear(&parcel);
    }
    return gap;
}

// The entry before the next one comes along, to see that it is still the same.
static void take_entry(watcher_t *watcher, const fleet_parcel_t *parcel) {
    const fleet_entry_t *entry = &parcel->message.entry;

    if (entry->seq == watcher->next) {
        tell_entry(watcher, parcel);
    } else if (entry->seq + 1 == watcher->next && !watcher->anchored) {
        watcher->anchored = true;
        memcpy(watcher->anchor, entry->hash, sizeof(watcher->anchor));
    } else if (entry->seq + 1 == watcher->next &&
               memcmp(watcher->anchor, entry->hash, sizeof(watcher->anchor)) !=
                   0) {
        watcher->diverged = true;
    }
}

static void take_answer(watcher_t *watcher) {
    const fleet_parcel_t *parcel = &watcher->client->parcel;
    const fleet_message_t *message = &parcel->message;

    if (message->type == FLEET_MESSAGE_entry &&
        strcmp(message->entry.ask, watcher->ask) == 0) {
        watcher->rows++;
        take_entry(watcher, parcel);
    } else if (message->type == FLEET_MESSAGE_end &&
               strcmp(message->end.ask, watcher->ask) == 0) {
        watcher->end = message->end;
        watcher->ended = true;
    } else if (message->type == FLEET_MESSAGE_truncated &&
               strcmp(message->truncated.ask, watcher->ask) == 0) {
        watcher->truncated = message->truncated.before;
        watcher->ended = true;
    }
}

static bool over(const watcher_t *watcher) {
    return watcher->stop || watcher->broken != FLEET_OK ||
           fleet_link_interrupted(watcher->client) ||
           watcher->client->state == FLEET_LINK_UNAUTHORIZED;
}

static void note_silence(watcher_t *watcher) {
    if (!watcher->lost && fleet_link_silence_ms(watcher->client) >= LOST_MS) {
        watcher->lost = true;
        tell(watcher, FLEET_WATCH_LOST, 0);
    }
}

// One question for entries from `next` on, asked again until it is answered.
static void read_batch(watcher_t *watcher) {
    fleet_client_t *client = watcher->client;
    uint64_t sent_ms = 0;

    watcher->ended = false;
    watcher->rows = 0;
    watcher->truncated = 0;
    memset(&watcher->end, 0, sizeof(watcher->end));
    fleet_link_begin(client);
    while (!watcher->ended && !over(watcher)) {
        uint64_t until_ms = fleet_link_now_ms() + client->config.repeat_ms;

        if (sent_ms == 0 ||
            fleet_link_silence_ms(client) >= client->config.repeat_ms) {
            fleet_message_t ask = {.type = FLEET_MESSAGE_entries_ask};

            watcher->rows = 0;
            fleet_client_id(watcher->ask);
            memcpy(ask.entries_ask.ask, watcher->ask, sizeof(watcher->ask));
            ask.entries_ask.seq = watcher->from;
            ask.entries_ask.limit = BATCH;
            if (fleet_link_send(client, &ask, until_ms)) {
                sent_ms = fleet_link_now_ms();
            }
        }
        fleet_link_tend(client);
        note_silence(watcher);
        while (!watcher->ended && !over(watcher) &&
               fleet_link_recv(client, until_ms, false)) {
            take_answer(watcher);
        }
    }
}

static fleet_err_t behind(const watcher_t *watcher,
                          fleet_reason_t *ret_reason) {
    fleet_reason_make(ret_reason, FLEET_JOURNAL_BEHIND,
                      watcher->diverged
                          ? "the broker's journal is not the one that was "
                            "watched: entry %" PRIu64 " is another one"
                          : "the broker's journal ends before entry %" PRIu64,
                      watcher->next - 1);
    return FLEET_JOURNAL_BEHIND;
}

// Reads the journal up to its head.
static fleet_err_t catch_up(watcher_t *watcher, fleet_reason_t *ret_reason) {
    bool at_head = false;

    watcher->from = watcher->next > 1 ? watcher->next - 1 : 1;
    while (!at_head && !over(watcher)) {
        uint64_t before = watcher->next;

        read_batch(watcher);
        if (over(watcher)) {
            break;
        }
        if (watcher->truncated != 0) {
            // Only the entry before the next one may be gone: no loss.
            if (watcher->truncated > watcher->next) {
                watcher->next = watcher->truncated;
                watcher->anchored = false;
                tell(watcher, FLEET_WATCH_TRUNCATED, watcher->truncated);
            }
            watcher->from = watcher->next;
            continue;
        }
        if (watcher->rows != watcher->end.rows) {
            continue; // rows were lost on the way: once more
        }
        if (watcher->diverged ||
            (watcher->rows == 0 && watcher->from < watcher->next)) {
            return behind(watcher, ret_reason);
        }
        if (watcher->end.more && watcher->next == before &&
            watcher->from == before) {
            fleet_reason_make(ret_reason, FLEET_BAD_MESSAGE,
                              "the broker does not send entry %" PRIu64,
                              before);
            return FLEET_BAD_MESSAGE;
        }
        at_head = !watcher->end.more;
        watcher->from = watcher->next;
    }
    return FLEET_OK;
}

// Waits until something is published, or the head is to be asked for.
static void wait_for_more(watcher_t *watcher) {
    uint64_t until_ms = fleet_link_now_ms() + watcher->look_ms;

    if (watcher->look_ms < LOOK_MAX_MS) {
        watcher->look_ms *= 2;
    }
    while (!over(watcher) && fleet_link_now_ms() < until_ms) {
        if (take_published(watcher)) {
            return;
        }
        while (fleet_link_recv(watcher->client, until_ms, true)) {
            // Nothing is asked: what comes is late.
        }
    }
}

static fleet_err_t result(const watcher_t *watcher,
                          fleet_reason_t *ret_reason) {
    if (watcher->broken != FLEET_OK) {
        fleet_reason_make(ret_reason, FLEET_BAD_MESSAGE,
                          "entry %" PRIu64 " cannot be read: %s", watcher->next,
                          watcher->why);
        return watcher->broken;
    }
    if (!watcher->stop && watcher->client->state == FLEET_LINK_UNAUTHORIZED) {
        return fleet_link_excuse(watcher->client, ret_reason);
    }
    return FLEET_OK;
}

fleet_err_t fleet_client_watch(fleet_client_t *client, uint64_t since,
                               bool with_steps, fleet_on_watch_t *on_watch,
                               void *context, fleet_reason_t *ret_reason) {
    watcher_t watcher = {.client = client,
                         .on_watch = on_watch,
                         .context = context,
                         .with_steps = with_steps,
                         .next = since + 1,
                         .look_ms = LOOK_FIRST_MS};
    uint64_t live = UINT64_MAX; // up to where FLEET_WATCH_LIVE was said

    while (!over(&watcher)) {
        fleet_err_t err =
            fleet_link_open_events(client, with_steps, ret_reason);

        if (err == FLEET_OK) {
            err = catch_up(&watcher, ret_reason);
        }
        if (err != FLEET_OK) {
            return err;
        }
        if (over(&watcher)) {
            break;
        }
        if (watcher.lost) {
            watcher.lost = false;
            tell(&watcher, FLEET_WATCH_BACK, watcher.next - 1);
        } else if (live == UINT64_MAX) {
            live = watcher.next - 1;
            tell(&watcher, FLEET_WATCH_LIVE, live);
        }
        wait_for_more(&watcher);
    }
    return result(&watcher, ret_reason);
}
