// SPDX-License-Identifier: MIT
//
// Walks libyaml's events along a schema.  Each walk_ function begins at the
// first event of a node and ends at the first event behind it; it returns false
// only if the text is no YAML, which ends the walk.  What does not fit the
// schema is complained about and skipped, so that one walk finds all of it.

#include "proto/yaml_scan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "proto/text.h"

#define FIELDS_MAX 32 // keys that one mapping of a schema may have

typedef struct walker {
    yaml_parser_t parser;
    yaml_event_t event; // the one that is looked at
    char path[FLEET_YAML_PATH_SIZE];
    fleet_yaml_places_t places; // the caller's at the end
    fleet_complaints_t *complaints;
} walker_t;

// -----------------------------------------------------------------------
// places

const fleet_yaml_place_t *
fleet_yaml_place_find(const fleet_yaml_places_t *places, const char *path) {
    for (size_t i = 0; i < places->n; i++) {
        if (strcmp(places->items[i].path, path) == 0) {
            return &places->items[i];
        }
    }
    return NULL;
}

static void add_place(walker_t *walker, yaml_mark_t mark) {
    fleet_yaml_places_t *places = &walker->places;
    if (places->n == places->room) {
        size_t room = places->room == 0 ? 64 : 2 * places->room;
        fleet_yaml_place_t *items =
            reallocarray(places->items, room, sizeof(*items));
        if (items == NULL) {
            abort();
        }
        places->items = items;
        places->room = room;
    }
    fleet_yaml_place_t *place = &places->items[places->n++];
    FLEET_COPY(place->path, walker->path);
    place->line = (unsigned)mark.line + 1;
    place->column = (unsigned)mark.column + 1;
}

// A scalar is better named by itself than by its key.
static void move_last_place(walker_t *walker, yaml_mark_t mark) {
    fleet_yaml_place_t *last = &walker->places.items[walker->places.n - 1];
    last->line = (unsigned)mark.line + 1;
    last->column = (unsigned)mark.column + 1;
}

// Goes down to a key or an entry; returns what pop needs to come back.
static size_t push_key(walker_t *walker, const char *key) {
    size_t length = strlen(walker->path);
    int written = snprintf(walker->path + length, sizeof(walker->path) - length,
                           "%s%s", length == 0 ? "" : ".", key);
    assert(written >= 0 && (size_t)written < sizeof(walker->path) - length);
    return length;
}

static size_t push_index(walker_t *walker, unsigned index) {
    size_t length = strlen(walker->path);
    int written = snprintf(walker->path + length, sizeof(walker->path) - length,
                           "[%u]", index);
    assert(written >= 0 && (size_t)written < sizeof(walker->path) - length);
    return length;
}

static void pop(walker_t *walker, size_t length) {
    walker->path[length] = '\0';
}

// How a sentence names the node at hand: by the last part of its path.
static const char *here(const walker_t *walker) {
    if (walker->path[0] == '\0') {
        return "the file";
    }
    const char *dot = strrchr(walker->path, '.');
    return dot == NULL ? walker->path : dot + 1;
}

#define COMPLAIN(walker, mark, ...)                                            \
    fleet_complaints_add((walker)->complaints, (unsigned)(mark).line + 1,      \
                         (unsigned)(mark).column + 1, __VA_ARGS__)

// -----------------------------------------------------------------------
// events

static bool next(walker_t *walker) {
    yaml_event_delete(&walker->event);
    if (yaml_parser_parse(&walker->parser, &walker->event) != 0) {
        return true;
    }
    memset(&walker->event, 0, sizeof(walker->event));
    const yaml_parser_t *parser = &walker->parser;
    const char *problem = parser->problem == NULL ? "no YAML" : parser->problem;
    if (parser->error == YAML_READER_ERROR) {
        fleet_complaints_add(walker->complaints, 0, 0,
                             "%s, at byte %zu of the file", problem,
                             parser->problem_offset);
    } else if (parser->context != NULL) {
        COMPLAIN(walker, parser->problem_mark, "%s %s", parser->context,
                 problem);
    } else {
        COMPLAIN(walker, parser->problem_mark, "%s", problem);
    }
    return false;
}

static bool skip_value(walker_t *walker) {
    unsigned depth = 0;
    do {
        yaml_event_type_t type = walker->event.type;
        if (type == YAML_MAPPING_START_EVENT ||
            type == YAML_SEQUENCE_START_EVENT) {
            depth++;
        } else if (type == YAML_MAPPING_END_EVENT ||
                   type == YAML_SEQUENCE_END_EVENT) {
            depth--;
        }
        if (!next(walker)) {
            return false;
        }
    } while (depth > 0);
    return true;
}

// Anchors and aliases can make a small file huge, and tags change what a value
// is; nothing here needs either.
static bool is_plain(walker_t *walker) {
    const yaml_event_t *event = &walker->event;
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_ALIAS_EVENT) {
        anchor = event->data.alias.anchor;
    }
    if (anchor == NULL && tag == NULL) {
        return true;
    }
    COMPLAIN(walker, event->start_mark, "%s are not read here",
             anchor != NULL ? "anchors and aliases (&x, *x)" : "tags (!x)");
    return false;
}

// -----------------------------------------------------------------------
// values

static bool walk_value(walker_t *walker, const cyaml_schema_value_t *schema);

static bool walk_scalar(walker_t *walker, const cyaml_schema_value_t *schema) {
    const yaml_event_t *event = &walker->event;
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    move_last_place(walker, event->start_mark);
    if (memchr(text, '\0', length) != NULL) {
        COMPLAIN(walker, event->start_mark, "%s has a NUL byte", here(walker));
    } else if (length == 0 && schema->string.min > 0) {
        COMPLAIN(walker, event->start_mark, "%s is empty", here(walker));
    } else if (length > schema->string.max || length < schema->string.min) {
        COMPLAIN(walker, event->start_mark,
                 "%s has %zu bytes; from %u to %u are possible", here(walker),
                 length, schema->string.min, schema->string.max);
    } else if (strcmp(walker->path, "format") == 0 && strcmp(text, "1") != 0) {
        fleet_complaint_t *complaint =
            COMPLAIN(walker, event->start_mark,
                     "format \"%.40s\" is not known here", text);
        FLEET_COPY(complaint->hint, "allowed: 1");
    }
    return next(walker);
}

static bool walk_sequence(walker_t *walker,
                          const cyaml_schema_value_t *schema) {
    yaml_mark_t start = walker->event.start_mark;
    unsigned n = 0;
    if (!next(walker)) {
        return false;
    }
    while (walker->event.type != YAML_SEQUENCE_END_EVENT) {
        if (n == schema->sequence.max) {
            COMPLAIN(walker, walker->event.start_mark,
                     "%s has more than %u entries", here(walker), n);
        }
        size_t back = push_index(walker, n++);
        add_place(walker, walker->event.start_mark);
        bool good = n <= schema->sequence.max
                        ? walk_value(walker, schema->sequence.entry)
                        : skip_value(walker);
        pop(walker, back);
        if (!good) {
            return false;
        }
    }
    if (n < schema->sequence.min) {
        COMPLAIN(walker, start, "%s needs at least %u %s", here(walker),
                 schema->sequence.min,
                 schema->sequence.min == 1 ? "entry" : "entries");
    }
    return next(walker);
}

static size_t list_keys(const cyaml_schema_field_t *fields,
                        const char *ret_keys[FIELDS_MAX]) {
    size_t n = 0;
    for (; fields[n].key != NULL; n++) {
        assert(n < FIELDS_MAX);
        size_t to = n;
        for (; to > 0 && strcmp(ret_keys[to - 1], fields[n].key) > 0; to--) {
            ret_keys[to] = ret_keys[to - 1];
        }
        ret_keys[to] = fields[n].key;
    }
    return n;
}

// What is known so far of the keys of a mapping, field by field.
typedef struct keys {
    unsigned line[FIELDS_MAX]; // where it stands; 0: not yet
    bool meant[FIELDS_MAX];    // a mistyped key is near it
} keys_t;

static const cyaml_schema_field_t *
find_field(const cyaml_schema_field_t *fields, const char *key) {
    for (; fields->key != NULL; fields++) {
        if (strcmp(fields->key, key) == 0) {
            return fields;
        }
    }
    return NULL;
}

static void complain_unknown(walker_t *walker,
                             const cyaml_schema_field_t *fields, keys_t *keys) {
    const char *key = (const char *)walker->event.data.scalar.value;
    const char *words[FIELDS_MAX];
    size_t words_n = list_keys(fields, words);
    const char *nearest = fleet_name_nearest(key, words, words_n);
    fleet_complaint_t *complaint;
    if (nearest != NULL) {
        keys->meant[find_field(fields, nearest) - fields] = true;
        complaint = COMPLAIN(walker, walker->event.start_mark,
                             "\"%.40s\" is not a key of %s; \"%s\"?", key,
                             here(walker), nearest);
    } else {
        complaint = COMPLAIN(walker, walker->event.start_mark,
                             "\"%.40s\" is not a key of %s", key, here(walker));
    }
    char allowed[FLEET_TEXT_MAX + 1] = "allowed:";
    size_t length = strlen(allowed);
    for (size_t i = 0; i < words_n && length < sizeof(allowed); i++) {
        length += (size_t)snprintf(allowed + length, sizeof(allowed) - length,
                                   " %s", words[i]);
    }
    FLEET_COPY(complaint->hint, allowed);
}

static void complain_missing(walker_t *walker,
                             const cyaml_schema_field_t *fields,
                             const keys_t *keys) {
    const fleet_yaml_place_t *place =
        fleet_yaml_place_find(&walker->places, walker->path);
    assert(place != NULL);
    for (size_t i = 0; fields[i].key != NULL; i++) {
        if (keys->line[i] == 0 && !keys->meant[i] &&
            (fields[i].value.flags & CYAML_FLAG_OPTIONAL) == 0) {
            fleet_complaints_add(walker->complaints, place->line, place->column,
                                 "%s lacks \"%s\"", here(walker),
                                 fields[i].key);
        }
    }
}

static bool skip_pair(walker_t *walker) {
    bool key = skip_value(walker);
    return key && skip_value(walker);
}

// One key and its value.
static bool walk_pair(walker_t *walker, const cyaml_schema_field_t *fields,
                      keys_t *keys, bool is_first) {
    yaml_mark_t mark = walker->event.start_mark;
    if (walker->event.type != YAML_SCALAR_EVENT) {
        COMPLAIN(walker, mark, "a key must be one word");
        return skip_pair(walker);
    }
    const char *key = (const char *)walker->event.data.scalar.value;
    const cyaml_schema_field_t *field = find_field(fields, key);
    if (field == NULL || !is_plain(walker)) {
        if (field == NULL) {
            complain_unknown(walker, fields, keys);
        }
        return next(walker) && skip_value(walker);
    }
    unsigned *line = &keys->line[field - fields];
    if (*line != 0) {
        COMPLAIN(walker, mark, "\"%s\" stands twice; the first is in line %u",
                 field->key, *line);
        return next(walker) && skip_value(walker);
    }
    *line = (unsigned)mark.line + 1;
    size_t back = push_key(walker, field->key);
    add_place(walker, mark);
    if (strcmp(walker->path, "format") == 0 && !is_first) {
        COMPLAIN(walker, mark, "\"format\" must be the first key");
    }
    bool good = next(walker) && walk_value(walker, &field->value);
    pop(walker, back);
    return good;
}

static bool walk_mapping(walker_t *walker, const cyaml_schema_value_t *schema) {
    const cyaml_schema_field_t *fields = schema->mapping.fields;
    keys_t keys = {0};
    if (!next(walker)) {
        return false;
    }
    bool is_first = true;
    while (walker->event.type != YAML_MAPPING_END_EVENT) {
        if (!walk_pair(walker, fields, &keys, is_first)) {
            return false;
        }
        is_first = false;
    }
    complain_missing(walker, fields, &keys);
    return next(walker);
}

static const char *event_word(yaml_event_type_t type) {
    return type == YAML_SCALAR_EVENT          ? "one value"
           : type == YAML_MAPPING_START_EVENT ? "a mapping"
                                              : "a list";
}

static bool walk_value(walker_t *walker, const cyaml_schema_value_t *schema) {
    if (!is_plain(walker)) {
        return skip_value(walker);
    }
    yaml_event_type_t wanted =
        schema->type == CYAML_MAPPING    ? YAML_MAPPING_START_EVENT
        : schema->type == CYAML_SEQUENCE ? YAML_SEQUENCE_START_EVENT
                                         : YAML_SCALAR_EVENT;
    assert(schema->type == CYAML_MAPPING || schema->type == CYAML_SEQUENCE ||
           schema->type == CYAML_STRING);
    if (walker->event.type != wanted) {
        COMPLAIN(walker, walker->event.start_mark, "%s must be %s, not %s",
                 here(walker), event_word(wanted),
                 event_word(walker->event.type));
        return skip_value(walker);
    }
    if (wanted == YAML_MAPPING_START_EVENT) {
        return walk_mapping(walker, schema);
    }
    if (wanted == YAML_SEQUENCE_START_EVENT) {
        return walk_sequence(walker, schema);
    }
    return walk_scalar(walker, schema);
}

static void walk_stream(walker_t *walker, const cyaml_schema_value_t *schema) {
    bool stream = next(walker);
    bool document = stream && next(walker);
    if (!document) {
        return;
    }
    if (walker->event.type == YAML_STREAM_END_EVENT) {
        fleet_complaints_add(walker->complaints, 0, 0,
                             "the file is empty; \"format: 1\" comes first");
        return;
    }
    if (!next(walker)) {
        return;
    }
    add_place(walker, walker->event.start_mark);
    // The document's end, then that of the stream.
    if (!walk_value(walker, schema) || !next(walker)) {
        return;
    }
    if (walker->event.type != YAML_STREAM_END_EVENT) {
        COMPLAIN(walker, walker->event.start_mark,
                 "a second document begins; one file holds one");
    }
}

bool fleet_yaml_scan(const char *text, size_t size,
                     const cyaml_schema_value_t *schema,
                     fleet_yaml_places_t *ret_places,
                     fleet_complaints_t *complaints) {
    uint32_t complaints_before = complaints->n;
    walker_t walker = {.complaints = complaints};
    if (yaml_parser_initialize(&walker.parser) == 0) {
        abort();
    }
    yaml_parser_set_encoding(&walker.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&walker.parser, (const unsigned char *)text,
                                 size);
    walk_stream(&walker, schema);
    yaml_event_delete(&walker.event);
    yaml_parser_delete(&walker.parser);
    *ret_places = walker.places;
    return complaints->n == complaints_before;
}
