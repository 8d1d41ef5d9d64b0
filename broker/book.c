// SPDX-License-Identifier: MIT

#include "broker/book.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

typedef struct page {
    fleet_transfer_t transfer; // steps not yet in order; times not yet filled
    int64_t requested_us;      // by the boot-time clock
    bool ended;                // and all of it is filled
    bool running[FLEET_STEPS_MAX];
} page_t;

struct book {
    uint32_t n;
    uint32_t room;
    page_t **pages; // in the order of their numbers
};

static void *grown(void *block, size_t size) {
    void *bigger = realloc(block, size);
    if (bigger == NULL) {
        abort();
    }
    return bigger;
}

book_t *book_new(void) {
    book_t *book = grown(NULL, sizeof *book);
    memset(book, 0, sizeof *book);
    return book;
}

void book_destroy(book_t **book_p) {
    if (*book_p == NULL) {
        return;
    }
    for (uint32_t i = 0; i < (*book_p)->n; i++) {
        free((*book_p)->pages[i]);
    }
    free((*book_p)->pages);
    free(*book_p);
    *book_p = NULL;
}

static page_t *find(const book_t *book, uint64_t transfer) {
    for (uint32_t i = 0; i < book->n; i++) {
        if (book->pages[i]->transfer.transfer == transfer) {
            return book->pages[i];
        }
    }
    return NULL;
}

uint64_t book_of_set(const book_t *book, const char *set) {
    for (uint32_t i = 0; i < book->n; i++) {
        if (!book->pages[i]->ended &&
            strcmp(book->pages[i]->transfer.set, set) == 0) {
            return book->pages[i]->transfer.transfer;
        }
    }
    return 0;
}

static void begin(book_t *book, const fleet_transfer_requested_t *event,
                  int64_t now_us) {
    uint64_t number =
        event->head.transfer > 0 ? event->head.transfer : event->head.seq;
    if (find(book, number) != NULL) {
        return;
    }
    if (book->n == book->room) {
        book->room = book->room * 2 + 16;
        book->pages = grown(book->pages, book->room * sizeof(page_t *));
    }
    page_t *page = grown(NULL, sizeof *page);
    memset(page, 0, sizeof *page);
    page->requested_us = now_us;
    fleet_transfer_t *transfer = &page->transfer;
    transfer->transfer = number;
    transfer->kind = event->kind;
    transfer->token = event->head.token;
    transfer->requested_us = event->head.time_us;
    FLEET_COPY(transfer->request, event->request);
    FLEET_COPY(transfer->set, event->head.set);
    FLEET_COPY(transfer->from, event->from);
    FLEET_COPY(transfer->to, event->to);
    FLEET_COPY(transfer->by, event->head.by);
    FLEET_COPY(transfer->reason, event->head.reason);
    transfer->ignored_n = event->ignored_n;
    memcpy(transfer->ignored, event->ignored, sizeof transfer->ignored);
    book->pages[book->n++] = page;
}

void book_settle(book_t *book) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < book->n; i++) {
        if (book->pages[i]->ended) {
            free(book->pages[i]);
        } else {
            book->pages[kept++] = book->pages[i];
        }
    }
    book->n = kept;
}

// In the order in which they began; what began together stays as it came.
static void sort_steps(page_t *page) {
    fleet_step_item_t *steps = page->transfer.steps;
    for (uint32_t i = 1; i < page->transfer.steps_n; i++) {
        fleet_step_item_t item = steps[i];
        bool running = page->running[i];
        uint32_t at = i;
        while (at > 0 && steps[at - 1].at_us > item.at_us) {
            steps[at] = steps[at - 1];
            page->running[at] = page->running[at - 1];
            at--;
        }
        steps[at] = item;
        page->running[at] = running;
    }
}

// From the first stop to the last start that did it; 0 without either.
static uint64_t pause_us(const fleet_transfer_t *transfer) {
    uint64_t begin_us = UINT64_MAX;
    uint64_t end_us = 0;
    for (uint32_t i = 0; i < transfer->steps_n; i++) {
        const fleet_step_item_t *item = &transfer->steps[i];
        if (strcmp(item->step, "stop") == 0 && item->at_us < begin_us) {
            begin_us = item->at_us;
        }
        if (strcmp(item->step, "start") == 0 && item->ok &&
            item->at_us + item->us > end_us) {
            end_us = item->at_us + item->us;
        }
    }
    return end_us > begin_us ? end_us - begin_us : 0;
}

// The total, how long what still runs has taken, and the order of the steps.
static void fill_times(page_t *page, int64_t now_us) {
    fleet_transfer_t *transfer = &page->transfer;
    int64_t since_us = now_us - page->requested_us;
    transfer->total_us = since_us > 0 ? (uint64_t)since_us : 0;
    for (uint32_t i = 0; i < transfer->steps_n; i++) {
        fleet_step_item_t *item = &transfer->steps[i];
        if (page->running[i] && transfer->total_us > item->at_us) {
            item->us = transfer->total_us - item->at_us;
        }
    }
    sort_steps(page);
}

static void end(page_t *page, const fleet_transfer_ended_t *event,
                int64_t now_us) {
    fleet_transfer_t *transfer = &page->transfer;
    fill_times(page, now_us);
    transfer->outcome = event->outcome;
    transfer->changed = event->changed;
    transfer->ended_us = event->head.time_us;
    if (event->head.token > 0) {
        transfer->token = event->head.token;
    }
    transfer->reasons_n = event->reasons_n;
    memcpy(transfer->reasons, event->reasons, sizeof event->reasons);
    transfer->pause_us = pause_us(transfer);
    page->ended = true;
}

// The first evidence is that against the owner before; a later one is against a
// grantee that failed.
static void see_evidence(page_t *page, fleet_evidence_t evidence) {
    if (page->transfer.evidence == fleet_evidence_NONE) {
        page->transfer.evidence = evidence;
    }
}

void book_fold(book_t *book, const fleet_message_t *event, int64_t now_us) {
    if (event->type == FLEET_MESSAGE_transfer_requested) {
        begin(book, &event->transfer_requested, now_us);
        return;
    }
    const fleet_head_t *head = &event->event.head;
    page_t *page = head->transfer > 0 ? find(book, head->transfer) : NULL;
    if (page == NULL) {
        return;
    }
    switch ((uint64_t)event->type) {
    case FLEET_MESSAGE_set_released:
        see_evidence(page, event->set_released.evidence);
        break;
    case FLEET_MESSAGE_set_granted:
        see_evidence(page, event->set_granted.evidence);
        page->transfer.token = head->token;
        page->transfer.changed = true;
        if (page->transfer.to[0] == '\0' &&
            (page->transfer.kind == fleet_kind_START ||
             page->transfer.kind == fleet_kind_BOOT)) {
            FLEET_COPY(page->transfer.to, head->node);
        }
        break;
    case FLEET_MESSAGE_acquire_failed_event:
        if (event->acquire_failed_event.said[0] != '\0') {
            FLEET_COPY(page->transfer.said, event->acquire_failed_event.said);
        }
        break;
    case FLEET_MESSAGE_transfer_ended:
        end(page, &event->transfer_ended, now_us);
        break;
    default:
        break;
    }
}

// The item of a step that has begun and not ended, or a new one; NULL if a
// transfer cannot keep any more.
static fleet_step_item_t *item_of(page_t *page, const char *node,
                                  const fleet_step_t *step, uint32_t *ret_at) {
    fleet_transfer_t *transfer = &page->transfer;
    for (uint32_t i = 0; i < transfer->steps_n; i++) {
        fleet_step_item_t *item = &transfer->steps[i];
        if (page->running[i] && strcmp(item->node, node) == 0 &&
            strcmp(item->resource, step->resource) == 0 &&
            strcmp(item->step, step->step) == 0) {
            *ret_at = i;
            return item;
        }
    }
    if (transfer->steps_n == FLEET_STEPS_MAX) {
        return NULL;
    }
    *ret_at = transfer->steps_n++;
    fleet_step_item_t *item = &transfer->steps[*ret_at];
    FLEET_COPY(item->node, node);
    FLEET_COPY(item->resource, step->resource);
    FLEET_COPY(item->step, step->step);
    return item;
}

bool book_step(book_t *book, const char *node, int64_t now_us,
               fleet_step_t *step) {
    page_t *page = find(book, step->transfer);
    if (page == NULL || page->ended ||
        strcmp(page->transfer.set, step->set) != 0) {
        return false;
    }
    int64_t since_us = now_us - page->requested_us;
    uint64_t age_us = since_us > 0 ? (uint64_t)since_us : 0;
    step->at_us = age_us > step->us ? age_us - step->us : 0;
    FLEET_COPY(step->node, node);
    uint32_t at = 0;
    fleet_step_item_t *item = item_of(page, node, step, &at);
    if (item == NULL) {
        return true; // told to who follows, but not kept
    }
    item->at_us = step->at_us;
    item->us = step->us;
    item->ok = step->ok;
    FLEET_COPY(item->detail, step->detail);
    page->running[at] = step->running;
    if (!step->ok && step->said[0] != '\0') {
        FLEET_COPY(page->transfer.said, step->said);
    }
    return true;
}

bool book_read(const book_t *book, uint64_t transfer, int64_t now_us,
               fleet_transfer_t *ret_transfer) {
    page_t *page = find(book, transfer);
    if (page == NULL) {
        return false;
    }
    if (!page->ended) {
        fill_times(page, now_us);
    }
    *ret_transfer = page->transfer;
    return true;
}
