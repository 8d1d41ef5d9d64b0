// SPDX-License-Identifier: MIT
//
// The messages of messages.def as C: enumerations, structs without pointers,
// one tagged union, and the specification that the codec, the printer and the
// generated documents walk.  A zeroed struct is a valid, empty message.

#ifndef FLEET_MESSAGES_H
#define FLEET_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

typedef char fleet_name_t[FLEET_NAME_MAX + 1];
typedef char fleet_id_t[FLEET_ID_MAX + 1];
typedef char fleet_text_t[FLEET_TEXT_MAX + 1];
typedef char fleet_words_t[FLEET_WORDS_MAX + 1];
typedef char fleet_yaml_t[FLEET_YAML_MAX + 1];
typedef uint8_t fleet_key_t[FLEET_KEY_SIZE];
typedef uint8_t fleet_signature_t[FLEET_SIGNATURE_SIZE];

#define FLEET_TYPE_U64 uint64_t
#define FLEET_TYPE_MS uint64_t
#define FLEET_TYPE_BOOL bool
#define FLEET_TYPE_NAME fleet_name_t
#define FLEET_TYPE_ID fleet_id_t
#define FLEET_TYPE_TEXT fleet_text_t
#define FLEET_TYPE_WORDS fleet_words_t
#define FLEET_TYPE_YAML fleet_yaml_t
#define FLEET_TYPE_KEY fleet_key_t
#define FLEET_TYPE_SIGNATURE fleet_signature_t

// fleet_phase_t with FLEET_PHASE... : enum value e_NAME, as in
// fleet_phase_HELD.
#define ENUM(e, sentence) typedef enum fleet_##e {
#define VALUE(e, NAME, number, word, sentence) fleet_##e##_##NAME = (number),
#define END_ENUM(e)                                                            \
    }                                                                          \
    fleet_##e##_t;
#include "proto/messages.def"

// fleet_pair_t, fleet_acquire_t, fleet_set_granted_t ...
#define RECORD(r, sentence) typedef struct fleet_##r {
#define END_RECORD(r)                                                          \
    }                                                                          \
    fleet_##r##_t;
#define MESSAGE(number, m, sentence) typedef struct fleet_##m {
#define END_MESSAGE(m)                                                         \
    }                                                                          \
    fleet_##m##_t;
#define EVENT(number, m, word, sentence) typedef struct fleet_##m {
#define END_EVENT(m)                                                           \
    }                                                                          \
    fleet_##m##_t;
#define FIELD(owner, KIND, field, sentence) FLEET_TYPE_##KIND field;
#define WORD(owner, e, field, sentence) fleet_##e##_t field;
#define PART(owner, r, field, sentence) fleet_##r##_t field;
#define LIST(owner, r, field, max, sentence)                                   \
    uint32_t field##_n;                                                        \
    fleet_##r##_t field[max];
#include "proto/messages.def"

// FLEET_MESSAGE_acquire ... : the number on the wire.
typedef enum fleet_message_type {
    FLEET_MESSAGE_none = 0,
#define MESSAGE(number, m, sentence) FLEET_MESSAGE_##m = (number),
#define EVENT(number, m, word, sentence) FLEET_MESSAGE_##m = (number),
#include "proto/messages.def"
} fleet_message_type_t;

// Any message.  `type` says which member is valid.  Every event begins with its
// head, which can be read as `event.head` whatever the event is.
typedef struct fleet_message {
    fleet_message_type_t type;
    union {
        struct {
            fleet_head_t head;
        } event;
#define MESSAGE(number, m, sentence) fleet_##m##_t m;
#define EVENT(number, m, word, sentence) fleet_##m##_t m;
#include "proto/messages.def"
    };
} fleet_message_t;

// The specification, for whoever walks messages instead of knowing them.

typedef enum fleet_field_kind {
    FLEET_KIND_U64,
    FLEET_KIND_MS,
    FLEET_KIND_BOOL,
    FLEET_KIND_NAME,
    FLEET_KIND_ID,
    FLEET_KIND_TEXT,
    FLEET_KIND_WORDS,
    FLEET_KIND_YAML,
    FLEET_KIND_KEY,
    FLEET_KIND_SIGNATURE,
    FLEET_KIND_WORD, // one value of `words`
    FLEET_KIND_PART, // one `record`
    FLEET_KIND_LIST  // up to `max` of `record`, their number at `count_offset`
} fleet_field_kind_t;

typedef struct fleet_value_spec {
    uint32_t number;
    const char *word; // as in JSON
    const char *sentence;
} fleet_value_spec_t;

typedef struct fleet_enum_spec {
    const char *name;
    const char *sentence;
    const fleet_value_spec_t *values;
    size_t values_n;
} fleet_enum_spec_t;

typedef struct fleet_struct_spec fleet_struct_spec_t;

typedef struct fleet_field_spec {
    fleet_field_kind_t kind;
    const char *name;
    const char *sentence;
    size_t offset;                  // of the field, or of a list's first record
    size_t count_offset;            // lists only: offset of the uint32_t count
    uint32_t max;                   // lists only
    const fleet_enum_spec_t *words; // FLEET_KIND_WORD only
    const fleet_struct_spec_t *record; // FLEET_KIND_PART and _LIST only
} fleet_field_spec_t;

struct fleet_struct_spec {
    fleet_message_type_t type; // FLEET_MESSAGE_none for a record
    const char *name;          // "acquire"
    const char *word;          // "set.granted" for an event, else NULL
    const char *sentence;
    size_t size; // of the struct
    const fleet_field_spec_t *fields;
    size_t fields_n;
};

// The specification of a message; NULL if the number is none.
const fleet_struct_spec_t *fleet_message_spec(uint64_t number);

// All messages, in the order of messages.def; for generators and tests.
const fleet_struct_spec_t *const *fleet_message_specs(size_t *ret_n);

// All records and all enumerations, likewise.
const fleet_struct_spec_t *const *fleet_record_specs(size_t *ret_n);
const fleet_enum_spec_t *const *fleet_enum_specs(size_t *ret_n);

// An event is a message that the journal keeps.
bool fleet_message_is_event(fleet_message_type_t type);

// fleet_phase_word(fleet_phase_HELD) is "held"; "?" for a number that is none.
// fleet_phase_find("held", &phase) is false, and leaves phase alone, if there
// is no such word.
#define ENUM(e, sentence)                                                      \
    const char *fleet_##e##_word(fleet_##e##_t value);                         \
    bool fleet_##e##_find(const char *word, fleet_##e##_t *ret_value);
#include "proto/messages.def"

// Writes the message as one line of text, for logs and traces: its name, then
// field=value for every field that is not empty.  Keys are shown by their first
// 8 digits.  Always terminates; cuts what does not fit in size bytes.
void fleet_message_print(const fleet_message_t *message, char *line,
                         size_t size);

#endif
