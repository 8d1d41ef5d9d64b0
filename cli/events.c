// SPDX-License-Identifier: MIT

#include "cli/events.h"

#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/screen.h"
#include "proto/codec.h"
#include "proto/text.h"

#define TEXT_COLUMN 46

bool events_decode(const fleet_parcel_t *row, fleet_message_t *ret_event,
                   fleet_message_t *ret_beside) {
    ret_beside->type = FLEET_MESSAGE_none;
    if (row->frames_n < 1 ||
        fleet_decode(row->frames[0].data, row->frames[0].size, ret_event,
                     NULL) != FLEET_OK ||
        !fleet_message_is_event(ret_event->type)) {
        return false;
    }
    if (row->frames_n < 2 || row->frames[1].size == 0) {
        return true;
    }
    if (fleet_decode(row->frames[1].data, row->frames[1].size, ret_beside,
                     NULL) != FLEET_OK) {
        return false;
    }
    if (ret_beside->type == FLEET_MESSAGE_attachment_none) {
        ret_beside->type = FLEET_MESSAGE_none;
    }
    return true;
}

static void names_text(const fleet_name_item_t *items, uint32_t n, char *text,
                       size_t size) {
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < n && used + FLEET_NAME_MAX + 2 < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%s",
                                 i > 0 ? " " : "", items[i].name);
    }
}

// "www: moved, clients waited 41 ms"
static void ended_text(const fleet_message_t *event,
                       const fleet_message_t *beside, char *text, size_t size) {
    char outcome[40];
    char waited[32] = "";

    screen_upper(fleet_outcome_word(event->transfer_ended.outcome), outcome,
                 sizeof(outcome));
    if (beside != NULL && beside->type == FLEET_MESSAGE_transfer &&
        beside->transfer.pause_us > 0) {
        fleet_duration_print(beside->transfer.pause_us, waited, sizeof(waited));
    }
    snprintf(text, size, "%s%s%s%s%s", outcome,
             waited[0] != '\0' ? ", clients waited " : "", waited,
             event->transfer_ended.reasons_n > 0 ? ": " : "",
             event->transfer_ended.reasons_n > 0
                 ? event->transfer_ended.reasons[0].text
                 : "");
}

static void requested_text(const fleet_transfer_requested_t *requested,
                           char *text, size_t size) {
    snprintf(text, size, "%s %s%s%s", fleet_kind_word(requested->kind),
             requested->from,
             requested->from[0] != '\0' && requested->to[0] != '\0' ? " -> "
                                                                    : "",
             requested->to);
}

static void node_text(const fleet_message_t *event, char *text, size_t size) {
    char names[256];
    char lease[32];

    switch ((int)event->type) {
    case FLEET_MESSAGE_node_online:
        snprintf(text, size, "online, boot %.8s, %" PRIu64 " slots",
                 event->node_online.boot_id, event->node_online.slots);
        break;
    case FLEET_MESSAGE_node_lapsed:
        screen_age(event->node_lapsed.lease_ms * 1000, lease, sizeof(lease));
        names_text(event->node_lapsed.sets, event->node_lapsed.sets_n, names,
                   sizeof(names));
        snprintf(text, size, "its lease of %s ran out; owned: %s", lease,
                 names[0] != '\0' ? names : "nothing");
        break;
    case FLEET_MESSAGE_node_down:
        names_text(event->node_down.sets, event->node_down.sets_n, names,
                   sizeof(names));
        snprintf(text, size, "%s; owned: %s%s%s",
                 fleet_down_how_word(event->node_down.how),
                 names[0] != '\0' ? names : "nothing",
                 event->node_down.detail[0] != '\0' ? "; " : "",
                 event->node_down.detail);
        break;
    case FLEET_MESSAGE_stale_refused:
        snprintf(text, size,
                 "showed token %" PRIu64 ", %" PRIu64 " stands (by %s)",
                 event->stale_refused.token_shown,
                 event->stale_refused.token_now, event->stale_refused.where);
        break;
    case FLEET_MESSAGE_fence_requested:
        names_text(event->fence_requested.sets, event->fence_requested.sets_n,
                   names, sizeof(names));
        snprintf(text, size, "ends: %s", names[0] != '\0' ? names : "nothing");
        break;
    case FLEET_MESSAGE_fence_failed:
        snprintf(text, size, "%s", event->fence_failed.detail);
        break;
    default:
        text[0] = '\0';
        break;
    }
}

static void other_text(const fleet_message_t *event, char *text, size_t size) {
    char digits[9];

    switch ((int)event->type) {
    case FLEET_MESSAGE_reign_began:
        snprintf(text, size, "%s term %" PRIu64, event->reign_began.broker,
                 event->event.head.term);
        break;
    case FLEET_MESSAGE_set_defined:
        snprintf(text, size, "revision %" PRIu64, event->set_defined.rev);
        break;
    case FLEET_MESSAGE_set_changed:
        snprintf(text, size, "revision %" PRIu64 "%s", event->set_changed.rev,
                 event->set_changed.pending ? ", at its next start" : "");
        break;
    case FLEET_MESSAGE_key_admitted:
        fleet_key_short(event->key_admitted.key, digits);
        snprintf(text, size, "%s %s, key %s",
                 fleet_role_word(event->key_admitted.role),
                 event->key_admitted.name, digits);
        break;
    case FLEET_MESSAGE_key_revoked:
        fleet_key_short(event->key_revoked.key, digits);
        snprintf(text, size, "%s %s, key %s",
                 fleet_role_word(event->key_revoked.role),
                 event->key_revoked.name, digits);
        break;
    default:
        node_text(event, text, size);
        break;
    }
}

static void set_text(const fleet_message_t *event,
                     const fleet_message_t *beside, char *text, size_t size) {
    const fleet_head_t *head = &event->event.head;

    switch ((int)event->type) {
    case FLEET_MESSAGE_transfer_requested:
        requested_text(&event->transfer_requested, text, size);
        break;
    case FLEET_MESSAGE_transfer_ended:
        ended_text(event, beside, text, size);
        break;
    case FLEET_MESSAGE_set_released:
        snprintf(text, size, "%s token %" PRIu64 ", %s%s%s", head->node,
                 head->token, fleet_evidence_word(event->set_released.evidence),
                 event->set_released.proof[0] != '\0' ? ": " : "",
                 event->set_released.proof);
        break;
    case FLEET_MESSAGE_set_granted:
        snprintf(text, size, "%s token %" PRIu64 "%s%s", head->node,
                 head->token, event->set_granted.in_place ? ", in place" : "",
                 event->set_granted.returning ? ", back to its old owner" : "");
        break;
    case FLEET_MESSAGE_set_acquired:
        snprintf(text, size, "%s token %" PRIu64, head->node, head->token);
        break;
    case FLEET_MESSAGE_acquire_failed_event:
        snprintf(text, size, "%s, %s: %s", head->node,
                 event->acquire_failed_event.resource,
                 event->acquire_failed_event.text);
        break;
    case FLEET_MESSAGE_set_stuck:
        snprintf(text, size, "on %s, %s: %s", head->node,
                 event->set_stuck.resource, event->set_stuck.text);
        break;
    case FLEET_MESSAGE_set_degraded:
        snprintf(text, size, "on %s, %s: %s", head->node,
                 event->set_degraded.resource, event->set_degraded.text);
        break;
    case FLEET_MESSAGE_set_recovered:
        snprintf(text, size, "on %s, %s is well again", head->node,
                 event->set_recovered.resource);
        break;
    default:
        other_text(event, text, size);
        break;
    }
}

// "03:12:41.327" of "2026-11-23T03:12:41.327000Z"
static void clock_of(uint64_t time_us, char text[32]) {
    fleet_time_print(time_us, text);
    if (strlen(text) > 23) {
        memmove(text, text + 11, 12);
        text[12] = '\0';
    }
}

void events_print(FILE *out, const fleet_message_t *event,
                  const fleet_message_t *beside) {
    const fleet_head_t *head = &event->event.head;
    const char *who = head->set[0] != '\0' ? head->set : head->node;
    char time[32];
    char text[1400];
    int used;

    clock_of(head->time_us, time);
    set_text(event, beside, text, sizeof(text));
    used = fprintf(out, "%" PRIu64 " %s %-6s %s", head->seq, time,
                   who[0] != '\0' ? who : "-",
                   fleet_message_spec(event->type)->word);
    if (event->type == FLEET_MESSAGE_transfer_requested) {
        size_t n = strlen(text);

        snprintf(text + n, sizeof(text) - n, "  by %s", head->by);
    }
    if (text[0] != '\0') {
        // The text begins in one column wherever the word is no longer than
        // most.
        used += fprintf(out, "%*s ",
                        used < TEXT_COLUMN ? TEXT_COLUMN - used : 0, "");
    }
    cli_print_wrapped(out, 25, used, text);
    if (head->reason[0] != '\0' &&
        (event->type == FLEET_MESSAGE_transfer_requested ||
         event->type == FLEET_MESSAGE_fence_requested)) {
        fprintf(out, "%*s\"%s\"\n", 25, "", head->reason);
    }
}

void events_print_step(FILE *out, const fleet_step_t *step) {
    char took[32];

    fleet_duration_print(step->us, took, sizeof(took));
    fprintf(out, "     %-12s %-6s %s %-8s %-7s %s  %s%s%s\n", "", step->set,
            step->running ? ">"
            : step->ok    ? " "
                          : "!",
            step->node, step->step, step->resource, step->running ? "" : took,
            step->detail[0] != '\0' ? "  " : "", step->detail);
}

void events_print_transfer(FILE *out, const fleet_transfer_t *t) {
    char time[32];
    char outcome[40];
    char waited[32];

    fleet_time_print(t->requested_us, time);
    if (strlen(time) > 19) {
        time[10] = ' ';
        time[19] = '\0';
    }
    if (t->outcome == fleet_outcome_MOVED ||
        (t->outcome == fleet_outcome_PARKED && t->kind == fleet_kind_STOP)) {
        snprintf(outcome, sizeof(outcome), "%s",
                 fleet_outcome_word(t->outcome));
    } else {
        screen_upper(fleet_outcome_word(t->outcome), outcome, sizeof(outcome));
    }
    fprintf(out, "%s  t%-6" PRIu64 " %-8s %-8s  %s%s%s", time, t->transfer,
            t->set, outcome, t->from,
            t->from[0] != '\0' && t->to[0] != '\0' ? " -> " : "", t->to);
    if (t->kind != fleet_kind_MOVE) {
        fprintf(out, "  %s", fleet_kind_word(t->kind));
    }
    if (t->pause_us > 0) {
        fleet_duration_print(t->pause_us, waited, sizeof(waited));
        fprintf(out, "  pause %s", waited);
    }
    fprintf(out, "  by %s\n", t->by);
    if (t->evidence != fleet_evidence_NONE &&
        t->evidence != fleet_evidence_RELEASED) {
        fprintf(out, "%*sevidence  %s\n", 21, "",
                fleet_evidence_word(t->evidence));
    }
    if (t->reason[0] != '\0') {
        fprintf(out, "%*s\"%s\"\n", 21, "", t->reason);
    }
    for (uint32_t i = 0; i < t->reasons_n; i++) {
        cli_print_reason(out, 21, 0, &t->reasons[i]);
    }
}
