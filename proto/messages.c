// SPDX-License-Identifier: MIT
//
// The rows of messages.def as tables that can be walked, the words of the
// enumerations, and the printer.  Nothing here knows a message by name: whoever
// adds a row adds it to everything.

#include "proto/messages.h"

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The codec and the printer read any enumeration as a uint32_t, and any event's
// head at the beginning of the union.
#define ENUM(e, sentence)                                                      \
    _Static_assert(sizeof(fleet_##e##_t) == sizeof(uint32_t), #e);
#define EVENT(number, m, word, sentence)                                       \
    _Static_assert(offsetof(fleet_##m##_t, head) == 0, #m);
#include "proto/messages.def"

// ---------------------------------------------------------------- enumerations

#define ENUM(e, sentence) static const fleet_value_spec_t values_of_##e[] = {
#define VALUE(e, NAME, number, word, sentence) {number, word, sentence},
#define END_ENUM(e)                                                            \
    }                                                                          \
    ;
#include "proto/messages.def"

#define ENUM(e, sentence)                                                      \
    static const fleet_enum_spec_t enum_##e = {#e, sentence, values_of_##e,    \
                                               COUNT(values_of_##e)};
#include "proto/messages.def"

static const fleet_enum_spec_t *const all_enums[] = {
#define ENUM(e, sentence) &enum_##e,
#include "proto/messages.def"
};

// ------------------------------------------------------------------ structures

#define RECORD(r, sentence) static const fleet_struct_spec_t struct_##r;
#include "proto/messages.def"

#define RECORD(r, sentence) static const fleet_field_spec_t fields_of_##r[] = {
#define MESSAGE(number, m, sentence)                                           \
    static const fleet_field_spec_t fields_of_##m[] = {
#define EVENT(number, m, word, sentence)                                       \
    static const fleet_field_spec_t fields_of_##m[] = {
#define END_RECORD(r)                                                          \
    }                                                                          \
    ;
#define END_MESSAGE(m)                                                         \
    }                                                                          \
    ;
#define END_EVENT(m)                                                           \
    }                                                                          \
    ;
#define FIELD(owner, KIND, field, about)                                       \
    {.kind = FLEET_KIND_##KIND,                                                \
     .name = #field,                                                           \
     .sentence = (about),                                                      \
     .offset = offsetof(fleet_##owner##_t, field)},
#define WORD(owner, e, field, about)                                           \
    {.kind = FLEET_KIND_WORD,                                                  \
     .name = #field,                                                           \
     .sentence = (about),                                                      \
     .offset = offsetof(fleet_##owner##_t, field),                             \
     .words = &enum_##e},
#define PART(owner, r, field, about)                                           \
    {.kind = FLEET_KIND_PART,                                                  \
     .name = #field,                                                           \
     .sentence = (about),                                                      \
     .offset = offsetof(fleet_##owner##_t, field),                             \
     .record = &struct_##r},
#define LIST(owner, r, field, most, about)                                     \
    {.kind = FLEET_KIND_LIST,                                                  \
     .name = #field,                                                           \
     .sentence = (about),                                                      \
     .offset = offsetof(fleet_##owner##_t, field),                             \
     .count_offset = offsetof(fleet_##owner##_t, field##_n),                   \
     .max = (most),                                                            \
     .record = &struct_##r},
#include "proto/messages.def"

#define STRUCT(number, m, event_word, sentence)                                \
    static const fleet_struct_spec_t struct_##m = {number,                     \
                                                   #m,                         \
                                                   event_word,                 \
                                                   sentence,                   \
                                                   sizeof(fleet_##m##_t),      \
                                                   fields_of_##m,              \
                                                   COUNT(fields_of_##m)};
#define RECORD(r, sentence) STRUCT(FLEET_MESSAGE_none, r, NULL, sentence)
#define MESSAGE(number, m, sentence)                                           \
    STRUCT(FLEET_MESSAGE_##m, m, NULL, sentence)
#define EVENT(number, m, word, sentence)                                       \
    STRUCT(FLEET_MESSAGE_##m, m, word, sentence)
#include "proto/messages.def"

static const fleet_struct_spec_t *const all_records[] = {
#define RECORD(r, sentence) &struct_##r,
#include "proto/messages.def"
};

static const fleet_struct_spec_t *const all_messages[] = {
#define MESSAGE(number, m, sentence) &struct_##m,
#define EVENT(number, m, word, sentence) &struct_##m,
#include "proto/messages.def"
};

// A number that is used twice does not compile (-Woverride-init).
static const fleet_struct_spec_t *const messages_by_number[] = {
#define MESSAGE(number, m, sentence) [number] = &struct_##m,
#define EVENT(number, m, word, sentence) [number] = &struct_##m,
#include "proto/messages.def"
};

const fleet_struct_spec_t *fleet_message_spec(uint64_t number) {
    if (number >= COUNT(messages_by_number)) {
        return NULL;
    }
    return messages_by_number[number];
}

const fleet_struct_spec_t *const *fleet_message_specs(size_t *ret_n) {
    *ret_n = COUNT(all_messages);
    return all_messages;
}

const fleet_struct_spec_t *const *fleet_record_specs(size_t *ret_n) {
    *ret_n = COUNT(all_records);
    return all_records;
}

const fleet_enum_spec_t *const *fleet_enum_specs(size_t *ret_n) {
    *ret_n = COUNT(all_enums);
    return all_enums;
}

bool fleet_message_is_event(fleet_message_type_t type) {
    const fleet_struct_spec_t *spec = fleet_message_spec((uint64_t)type);
    return spec != NULL && spec->word != NULL;
}

// ----------------------------------------------------------------------- words

static const char *value_word(const fleet_enum_spec_t *words, uint32_t number) {
    for (size_t i = 0; i < words->values_n; i++) {
        if (words->values[i].number == number) {
            return words->values[i].word;
        }
    }
    return "?";
}

static const fleet_value_spec_t *value_find(const fleet_enum_spec_t *words,
                                            const char *word) {
    for (size_t i = 0; i < words->values_n; i++) {
        if (strcmp(words->values[i].word, word) == 0) {
            return &words->values[i];
        }
    }
    return NULL;
}

#define ENUM(e, sentence)                                                      \
    const char *fleet_##e##_word(fleet_##e##_t value) {                        \
        return value_word(&enum_##e, (uint32_t)value);                         \
    }                                                                          \
    bool fleet_##e##_find(const char *word, fleet_##e##_t *ret_value) {        \
        const fleet_value_spec_t *value = value_find(&enum_##e, word);         \
        if (value == NULL) {                                                   \
            return false;                                                      \
        }                                                                      \
        *ret_value = (fleet_##e##_t)value->number;                             \
        return true;                                                           \
    }
#include "proto/messages.def"

// --------------------------------------------------------------------- printer

typedef struct line {
    char *at;
    size_t left; // with the terminating NUL
} line_t;

static void put_char(line_t *line, char c) {
    if (line->left > 1) {
        *line->at++ = c;
        line->left--;
    }
}

static void put_text(line_t *line, const char *text) {
    for (; *text != '\0'; text++) {
        put_char(line, *text);
    }
}

static void put_number(line_t *line, uint64_t number) {
    char digits[24];
    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
    put_text(line, digits);
}

static void put_hex(line_t *line, const uint8_t *bytes, size_t n) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        put_char(line, digits[bytes[i] >> 4]);
        put_char(line, digits[bytes[i] & 15]);
    }
}

static bool plain_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || strchr("-_.:/@+,%", c) != NULL;
}

static bool plain_text(const char *text) {
    for (; *text != '\0'; text++) {
        if (!plain_char(*text)) {
            return false;
        }
    }
    return true;
}

// What a peer wrote must not be able to end the line or to move the cursor of a
// terminal that shows the log.
static void put_quoted(line_t *line, const char *text) {
    if (plain_text(text)) {
        put_text(line, text);
        return;
    }
    put_char(line, '"');
    for (; *text != '\0'; text++) {
        uint8_t byte = (uint8_t)*text;
        if (byte == '"' || byte == '\\') {
            put_char(line, '\\');
            put_char(line, *text);
        } else if (byte == '\n') {
            put_text(line, "\\n");
        } else if (byte < 0x20 || byte == 0x7f) {
            put_text(line, "\\x");
            put_hex(line, &byte, 1);
        } else {
            put_char(line, *text);
        }
    }
    put_char(line, '"');
}

static uint32_t load_u32(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

static uint64_t load_u64(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

static bool all_zero(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

// Records hold records at most two deep, so the recursion below is as deep as
// messages.def nests them.
static void put_fields(line_t *line, const fleet_struct_spec_t *spec,
                       const uint8_t *base);

static void put_list(line_t *line, const fleet_field_spec_t *field,
                     const uint8_t *base) {
    uint32_t n = load_u32(base + field->count_offset);
    for (uint32_t i = 0; i < n && i < field->max; i++) {
        put_text(line, i == 0 ? "[" : ";");
        put_fields(line, field->record,
                   base + field->offset + i * field->record->size);
    }
    put_char(line, ']');
}

static bool field_is_empty(const fleet_field_spec_t *field,
                           const uint8_t *base) {
    const uint8_t *at = base + field->offset;
    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        return load_u64(at) == 0;
    case FLEET_KIND_BOOL:
        return *at == 0;
    case FLEET_KIND_NAME:
    case FLEET_KIND_ID:
    case FLEET_KIND_TEXT:
    case FLEET_KIND_WORDS:
    case FLEET_KIND_YAML:
        return *at == '\0';
    case FLEET_KIND_KEY:
        return all_zero(at, FLEET_KEY_SIZE);
    case FLEET_KIND_SIGNATURE:
        return all_zero(at, FLEET_SIGNATURE_SIZE);
    case FLEET_KIND_WORD:
        return load_u32(at) == 0 &&
               strcmp(value_word(field->words, 0), "none") == 0;
    case FLEET_KIND_PART:
        return all_zero(at, field->record->size);
    case FLEET_KIND_LIST:
        return load_u32(base + field->count_offset) == 0;
    default:
        return true;
    }
}

static void put_value(line_t *line, const fleet_field_spec_t *field,
                      const uint8_t *base) {
    const uint8_t *at = base + field->offset;
    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        put_number(line, load_u64(at));
        break;
    case FLEET_KIND_BOOL:
        put_text(line, "yes");
        break;
    case FLEET_KIND_NAME:
    case FLEET_KIND_ID:
    case FLEET_KIND_TEXT:
    case FLEET_KIND_WORDS:
        put_quoted(line, (const char *)at);
        break;
    case FLEET_KIND_YAML:
        put_number(line, strlen((const char *)at));
        put_text(line, "-bytes");
        break;
    case FLEET_KIND_KEY:
    case FLEET_KIND_SIGNATURE:
        put_hex(line, at, 4);
        break;
    case FLEET_KIND_WORD:
        put_text(line, value_word(field->words, load_u32(at)));
        break;
    case FLEET_KIND_PART:
        put_char(line, '{');
        put_fields(line, field->record, at);
        put_char(line, '}');
        break;
    case FLEET_KIND_LIST:
        put_list(line, field, base);
        break;
    default:
        break;
    }
}

static void put_fields(line_t *line, const fleet_struct_spec_t *spec,
                       const uint8_t *base) {
    const char *separator = "";
    for (size_t i = 0; i < spec->fields_n; i++) {
        const fleet_field_spec_t *field = &spec->fields[i];
        if (field_is_empty(field, base)) {
            continue;
        }
        put_text(line, separator);
        separator = " ";
        put_text(line, field->name);
        put_char(line, '=');
        put_value(line, field, base);
    }
}

void fleet_message_print(const fleet_message_t *message, char *line,
                         size_t size) {
    if (size == 0) {
        return;
    }
    line_t out = {line, size};
    const fleet_struct_spec_t *spec =
        fleet_message_spec((uint64_t)message->type);
    if (spec == NULL) {
        put_text(&out, "message-");
        put_number(&out, (uint64_t)message->type);
    } else {
        put_text(&out, spec->word != NULL ? spec->word : spec->name);
        put_char(&out, ' ');
        put_fields(&out, spec, (const uint8_t *)&message->event);
    }
    *out.at = '\0';
}
