// SPDX-License-Identifier: MIT
//
// The shapes of the contract are written out; an event's own fields are walked
// from the tables of messages.def, so that a new one cannot be forgotten.

#include "proto/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/text.h"

// Enough for a duration in microseconds, few enough to print 18.3 as 18.3.
#define DIGITS 15

static void set(json_t *object, const char *key, json_t *value) {
    int rc = json_object_set_new(object, key, value);

    // Values are made of checked UTF-8: all that can fail is memory.
    if (rc != 0) {
        abort();
    }
}

static void append(json_t *list, json_t *value) {
    if (json_array_append_new(list, value) != 0) {
        abort();
    }
}

json_t *fleet_text_json(const char *text) {
    return text[0] != '\0' ? json_string(text) : json_null();
}

json_t *fleet_time_json(uint64_t time_us) {
    char text[32];

    fleet_time_print(time_us, text);
    return fleet_text_json(text);
}

json_t *fleet_ms_json(uint64_t us) {
    return json_real((double)us / 1000.0);
}

json_t *fleet_transfer_id_json(uint64_t transfer) {
    char text[32];

    if (transfer == 0) {
        return json_null();
    }
    snprintf(text, sizeof(text), "t%" PRIu64, transfer);
    return json_string(text);
}

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *number_or_null(uint64_t value) {
    return value != 0 ? number(value) : json_null();
}

static json_t *names(const fleet_name_item_t *items, uint32_t n) {
    json_t *list = json_array();

    for (uint32_t i = 0; i < n; i++) {
        append(list, json_string(items[i].name));
    }
    return list;
}

json_t *fleet_document_json(const char *site) {
    json_t *document = json_object();

    set(document, "v", json_integer(1));
    set(document, "site", fleet_text_json(site));
    return document;
}

json_t *fleet_reason_json(const fleet_reason_t *reason) {
    json_t *object = json_object();

    set(object, "code", json_string(reason->code));
    set(object, "severity", json_string(fleet_severity_word(reason->severity)));
    set(object, "set", fleet_text_json(reason->set));
    set(object, "node", fleet_text_json(reason->node));
    set(object, "resource", fleet_text_json(reason->resource));
    set(object, "text", json_string(reason->text));
    set(object, "hint", fleet_text_json(reason->hint));
    set(object, "since", fleet_time_json(reason->since_us));
    set(object, "waivable", json_boolean(reason->waivable));
    set(object, "retry", json_boolean(reason->retry));
    return object;
}

json_t *fleet_reasons_json(const fleet_reason_t *reasons, uint32_t n) {
    json_t *list = json_array();

    for (uint32_t i = 0; i < n; i++) {
        append(list, fleet_reason_json(&reasons[i]));
    }
    return list;
}

// ------------------------------------------------------------------- transfers

// What a failed daemon said is the detail of the step that failed.
static json_t *detail_json(const fleet_step_item_t *item, const char *said) {
    char text[FLEET_TEXT_MAX + FLEET_WORDS_MAX + 3];

    if (said[0] == '\0' || strstr(item->detail, said) != NULL) {
        return fleet_text_json(item->detail);
    }
    snprintf(text, sizeof(text), "%s%s%s", item->detail,
             item->detail[0] != '\0' ? ": " : "", said);
    return json_string(text);
}

static json_t *steps_json(const fleet_transfer_t *transfer) {
    json_t *list = json_array();
    uint32_t failed = UINT32_MAX;

    for (uint32_t i = 0; i < transfer->steps_n; i++) {
        failed = transfer->steps[i].ok ? failed : i;
    }
    for (uint32_t i = 0; i < transfer->steps_n; i++) {
        const fleet_step_item_t *item = &transfer->steps[i];
        json_t *step = json_object();

        set(step, "node", fleet_text_json(item->node));
        set(step, "resource", fleet_text_json(item->resource));
        set(step, "step", json_string(item->step));
        set(step, "at_ms", fleet_ms_json(item->at_us));
        set(step, "ms", fleet_ms_json(item->us));
        set(step, "ok", json_boolean(item->ok));
        set(step, "detail",
            detail_json(item, i == failed ? transfer->said : ""));
        append(list, step);
    }
    return list;
}

json_t *fleet_transfer_json(const fleet_transfer_t *t) {
    json_t *object = json_object();
    bool measured = t->transfer != 0 && t->ended_us != 0;

    set(object, "transfer", fleet_transfer_id_json(t->transfer));
    set(object, "request", fleet_text_json(t->request));
    set(object, "kind",
        t->kind != fleet_kind_NONE ? json_string(fleet_kind_word(t->kind))
                                   : json_null());
    set(object, "set", fleet_text_json(t->set));
    set(object, "from", fleet_text_json(t->from));
    set(object, "to", fleet_text_json(t->to));
    set(object, "token", number_or_null(t->token));
    set(object, "evidence",
        t->evidence != fleet_evidence_NONE
            ? json_string(fleet_evidence_word(t->evidence))
            : json_null());
    set(object, "by", fleet_text_json(t->by));
    set(object, "reason", fleet_text_json(t->reason));
    set(object, "requested", fleet_time_json(t->requested_us));
    set(object, "ended", fleet_time_json(t->ended_us));
    set(object, "outcome", json_string(fleet_outcome_word(t->outcome)));
    set(object, "changed", json_boolean(t->changed));
    set(object, "reasons", fleet_reasons_json(t->reasons, t->reasons_n));
    set(object, "ignored", names(t->ignored, t->ignored_n));
    set(object, "steps", steps_json(t));
    set(object, "pause_ms",
        measured ? fleet_ms_json(t->pause_us) : json_null());
    set(object, "total_ms",
        measured ? fleet_ms_json(t->total_us) : json_null());
    set(object, "said", fleet_text_json(t->said));
    return object;
}

// ---------------------------------------------------------------------- events

static json_t *record_json(const fleet_struct_spec_t *spec, const void *base);

static json_t *key_json(const uint8_t *key) {
    char digits[65];

    fleet_key_print(key, digits);
    return json_string(digits);
}

static json_t *word_json(const fleet_field_spec_t *field, const void *at) {
    uint32_t value;

    // Enumerations have the size of an int.
    memcpy(&value, at, sizeof(value));
    for (size_t i = 0; i < field->words->values_n; i++) {
        const fleet_value_spec_t *spec = &field->words->values[i];

        if (spec->number == value) {
            bool none = strcmp(spec->word, "none") == 0 ||
                        strcmp(spec->word, "null") == 0;

            return none ? json_null() : json_string(spec->word);
        }
    }
    return json_null();
}

static json_t *list_json(const fleet_field_spec_t *field, const char *base) {
    const fleet_struct_spec_t *record = field->record;
    json_t *list = json_array();
    uint32_t n;

    memcpy(&n, base + field->count_offset, sizeof(n));
    for (uint32_t i = 0; i < n && i < field->max; i++) {
        const char *item = base + field->offset + i * record->size;

        // A record of one text is that text: names, addresses.
        if (strcmp(record->name, "reason") == 0) {
            append(list, fleet_reason_json((const void *)item));
        } else if (record->fields_n == 1) {
            append(list, json_string(item + record->fields[0].offset));
        } else {
            append(list, record_json(record, item));
        }
    }
    return list;
}

static json_t *field_json(const fleet_field_spec_t *field, const char *base) {
    const char *at = base + field->offset;
    uint64_t value;
    bool truth;

    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        memcpy(&value, at, sizeof(value));
        return number(value);
    case FLEET_KIND_BOOL:
        memcpy(&truth, at, sizeof(truth));
        return json_boolean(truth);
    case FLEET_KIND_NAME:
    case FLEET_KIND_ID:
    case FLEET_KIND_TEXT:
    case FLEET_KIND_WORDS:
    case FLEET_KIND_YAML:
        return fleet_text_json(at);
    case FLEET_KIND_KEY:
        return key_json((const uint8_t *)at);
    case FLEET_KIND_SIGNATURE:
        return json_null();
    case FLEET_KIND_WORD:
        return word_json(field, at);
    case FLEET_KIND_PART:
        return record_json(field->record, at);
    case FLEET_KIND_LIST:
        return list_json(field, base);
    }
    return json_null();
}

static json_t *record_json(const fleet_struct_spec_t *spec, const void *base) {
    json_t *object = json_object();

    for (size_t i = 0; i < spec->fields_n; i++) {
        set(object, spec->fields[i].name, field_json(&spec->fields[i], base));
    }
    return object;
}

static void set_head(json_t *object, const char *site, const char *word,
                     const fleet_head_t *head) {
    set(object, "seq", number_or_null(head->seq));
    set(object, "term", number_or_null(head->term));
    set(object, "time", fleet_time_json(head->time_us));
    set(object, "site", fleet_text_json(site));
    set(object, "event", json_string(word));
    set(object, "set", fleet_text_json(head->set));
    set(object, "node", fleet_text_json(head->node));
    set(object, "token", number_or_null(head->token));
    set(object, "transfer", fleet_transfer_id_json(head->transfer));
    set(object, "by", fleet_text_json(head->by));
    set(object, "reason", fleet_text_json(head->reason));
}

// An end whose transfer is not beside it still has every key.
static void merge_transfer(json_t *object, const fleet_message_t *event,
                           const fleet_message_t *beside) {
    json_t *transfer;
    json_t *value;
    const char *key;

    if (beside != NULL && beside->type == FLEET_MESSAGE_transfer) {
        transfer = fleet_transfer_json(&beside->transfer);
    } else {
        const fleet_transfer_ended_t *ended = &event->transfer_ended;
        fleet_transfer_t *empty = calloc(1, sizeof(*empty));

        assert(empty != NULL);
        empty->outcome = ended->outcome;
        empty->changed = ended->changed;
        empty->reasons_n = ended->reasons_n;
        memcpy(empty->reasons, ended->reasons, sizeof(empty->reasons));
        transfer = fleet_transfer_json(empty);
        free(empty);
    }
    // Where the head says something it stands: node, token, reason.
    json_object_foreach(transfer, key, value) {
        json_t *there = json_object_get(object, key);

        if (there == NULL || json_is_null(there)) {
            set(object, key, json_incref(value));
        }
    }
    json_decref(transfer);
}

json_t *fleet_event_json(const char *site, const fleet_message_t *event,
                         const fleet_message_t *beside) {
    const fleet_struct_spec_t *spec = fleet_message_spec(event->type);
    json_t *object = json_object();

    assert(spec != NULL && spec->word != NULL);
    set_head(object, site, spec->word, &event->event.head);
    if (event->type == FLEET_MESSAGE_transfer_ended) {
        merge_transfer(object, event, beside);
        return object;
    }
    for (size_t i = 0; i < spec->fields_n; i++) {
        const fleet_field_spec_t *field = &spec->fields[i];
        const char *base = (const char *)&event->event;

        if (strcmp(field->name, "head") == 0) {
            continue;
        }
        if (field->kind == FLEET_KIND_KEY && strcmp(field->name, "key") == 0) {
            char digits[9];

            // People compare the first digits; the key itself stays out.
            fleet_key_short((const uint8_t *)base + field->offset, digits);
            set(object, "fingerprint", json_string(digits));
            continue;
        }
        set(object, field->name, field_json(field, base));
    }
    if (beside != NULL && beside->type == FLEET_MESSAGE_definition) {
        set(object, "yaml", fleet_text_json(beside->definition.yaml));
    }
    return object;
}

json_t *fleet_mark_json(const char *site, const char *mark) {
    json_t *object = json_object();
    fleet_head_t head = {0};

    set_head(object, site, mark, &head);
    return object;
}

json_t *fleet_step_json(const char *site, const fleet_step_t *step) {
    json_t *object = fleet_mark_json(site, "stream.step");

    set(object, "set", fleet_text_json(step->set));
    set(object, "node", fleet_text_json(step->node));
    set(object, "transfer", fleet_transfer_id_json(step->transfer));
    set(object, "resource", fleet_text_json(step->resource));
    set(object, "step", json_string(step->step));
    set(object, "running", json_boolean(step->running));
    set(object, "at_ms", fleet_ms_json(step->at_us));
    set(object, "ms", fleet_ms_json(step->us));
    set(object, "ok", json_boolean(step->ok));
    set(object, "detail",
        fleet_text_json(step->said[0] != '\0' ? step->said : step->detail));
    return object;
}

// ---------------------------------------------------------------------- status

json_t *fleet_broker_json(const fleet_status_head_t *head) {
    json_t *object = json_object();

    set(object, "name", fleet_text_json(head->broker));
    set(object, "term", number(head->term));
    set(object, "seq", number(head->seq));
    set(object, "started", fleet_time_json(head->started_us));
    set(object, "version", fleet_text_json(head->version));
    set(object, "control", fleet_text_json(head->control));
    set(object, "events", fleet_text_json(head->events));
    set(object, "no_lapse_ms", number(head->no_lapse_ms));
    return object;
}

json_t *fleet_node_json(const fleet_node_row_t *node) {
    json_t *object = json_object();
    bool seen = node->state != fleet_node_state_NEW;
    bool online = node->state == fleet_node_state_ONLINE;

    set(object, "name", json_string(node->name));
    set(object, "state", json_string(fleet_node_state_word(node->state)));
    set(object, "how",
        node->how != fleet_down_how_NONE
            ? json_string(fleet_down_how_word(node->how))
            : json_null());
    set(object, "since", fleet_time_json(node->since_us));
    set(object, "heard", json_boolean(node->heard));
    set(object, "lease_age_ms",
        seen ? number(node->lease_age_ms) : json_null());
    set(object, "lease_ms", number(node->lease_ms));
    set(object, "slots", seen ? number(node->slots) : json_null());
    // What a node that is not there has free, nobody can use.
    set(object, "slots_free", online ? number(node->slots_free) : json_null());
    set(object, "draining", json_boolean(node->draining));
    set(object, "frozen", fleet_text_json(node->frozen));
    set(object, "sets", names(node->sets, node->sets_n));
    set(object, "disk_groups", names(node->disk_groups, node->disk_groups_n));
    set(object, "version", fleet_text_json(node->version));
    set(object, "boot_id", fleet_text_json(node->boot_id));
    set(object, "kernel", fleet_text_json(node->kernel));
    set(object, "load",
        online ? json_real((double)node->load_milli / 1000.0) : json_null());
    set(object, "debts", number(node->debts));
    return object;
}

json_t *fleet_set_json(const fleet_set_row_t *row) {
    json_t *object = json_object();
    json_t *addresses = json_array();

    for (uint32_t i = 0; i < row->addresses_n; i++) {
        append(addresses, json_string(row->addresses[i].address));
    }
    set(object, "name", json_string(row->name));
    set(object, "state", json_string(fleet_set_state_word(row->state)));
    set(object, "wanted", json_string(row->wanted_up ? "up" : "down"));
    set(object, "since", fleet_time_json(row->since_us));
    set(object, "owner", fleet_text_json(row->owner));
    set(object, "token", number_or_null(row->token));
    set(object, "addresses", addresses);
    set(object, "mac", fleet_text_json(row->mac));
    set(object, "disk_group", fleet_text_json(row->disk_group));
    set(object, "home", fleet_text_json(row->home));
    set(object, "ready_nodes", names(row->ready_nodes, row->ready_nodes_n));
    set(object, "pending", json_boolean(row->pending));
    set(object, "frozen", fleet_text_json(row->frozen));
    set(object, "transfer", fleet_transfer_id_json(row->transfer));
    set(object, "problems", names(row->problems, row->problems_n));
    return object;
}

bool fleet_json_write(FILE *stream, const json_t *document, bool indent) {
    size_t flags =
        JSON_REAL_PRECISION(DIGITS) | (indent ? JSON_INDENT(2) : JSON_COMPACT);

    return json_dumpf(document, stream, flags) == 0 &&
           fputc('\n', stream) != EOF && fflush(stream) == 0;
}
