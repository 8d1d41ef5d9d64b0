// SPDX-License-Identifier: MIT
//
// Messages to MessagePack and back, along the tables of messages.def.
//
// msgpack-c reserves memory for a count that a header announces, before it has
// seen one element, and hands out what is cut short.  So
// decoding goes in four passes over the bytes: a scan of our own, which allows
// only the types that messages have, each in its shortest form, each count
// within the bytes that are left, a small depth and a small total; then
// msgpack; then a check of every field; and only then the writing, which cannot
// fail.

#include "proto/codec.h"

#include <assert.h>
#include <msgpack.h>
#include <stdio.h>
#include <string.h>

#include "proto/text.h"

// Message, part, list in the part, record of the list.
#define DEPTH_MAX 4

// The messages with most objects (node_row, hello) have some 1,100.
#define OBJECTS_MAX 4096

static size_t text_max(fleet_field_kind_t kind) {
    switch (kind) {
    case FLEET_KIND_NAME:
        return FLEET_NAME_MAX;
    case FLEET_KIND_ID:
        return FLEET_ID_MAX;
    case FLEET_KIND_TEXT:
        return FLEET_TEXT_MAX;
    case FLEET_KIND_WORDS:
        return FLEET_WORDS_MAX;
    case FLEET_KIND_YAML:
        return FLEET_YAML_MAX;
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
    case FLEET_KIND_BOOL:
    case FLEET_KIND_KEY:
    case FLEET_KIND_SIGNATURE:
    case FLEET_KIND_WORD:
    case FLEET_KIND_PART:
    case FLEET_KIND_LIST:
    default:
        return 0;
    }
}

static bool is_value(const fleet_enum_spec_t *words, uint64_t number) {
    for (size_t i = 0; i < words->values_n; i++) {
        if (words->values[i].number == number) {
            return true;
        }
    }
    return false;
}

// -------------------------------------------------------------------- encoding

typedef struct sink {
    uint8_t *at;
    size_t left;
} sink_t;

static int sink_write(void *data, const char *bytes, size_t size) {
    sink_t *sink = data;
    if (size > sink->left) {
        return -1;
    }
    memcpy(sink->at, bytes, size);
    sink->at += size;
    sink->left -= size;
    return 0;
}

static bool pack_text(msgpack_packer *packer, const char *text, size_t max) {
    size_t length = strnlen(text, max + 1);
    return length <= max && fleet_utf8_ok(text, length) &&
           msgpack_pack_str(packer, length) == 0 &&
           msgpack_pack_str_body(packer, text, length) == 0;
}

static bool pack_bytes(msgpack_packer *packer, const uint8_t *bytes,
                       size_t size) {
    return msgpack_pack_bin(packer, size) == 0 &&
           msgpack_pack_bin_body(packer, bytes, size) == 0;
}

static bool pack_number(msgpack_packer *packer, const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, sizeof(number));
    return msgpack_pack_uint64(packer, number) == 0;
}

static bool pack_bool(msgpack_packer *packer, const uint8_t *at) {
    return (*at != 0 ? msgpack_pack_true(packer)
                     : msgpack_pack_false(packer)) == 0;
}

static bool pack_word(msgpack_packer *packer, const fleet_field_spec_t *field,
                      const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, sizeof(number));
    return is_value(field->words, number) &&
           msgpack_pack_uint32(packer, number) == 0;
}

static bool pack_fields(msgpack_packer *packer, const fleet_struct_spec_t *spec,
                        const uint8_t *base);

static bool pack_record(msgpack_packer *packer,
                        const fleet_struct_spec_t *record,
                        const uint8_t *base) {
    return msgpack_pack_array(packer, record->fields_n) == 0 &&
           pack_fields(packer, record, base);
}

static bool pack_list(msgpack_packer *packer, const fleet_field_spec_t *field,
                      const uint8_t *base) {
    uint32_t n;
    memcpy(&n, base + field->count_offset, sizeof(n));
    if (n > field->max || msgpack_pack_array(packer, n) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!pack_record(packer, field->record,
                         base + field->offset + i * field->record->size)) {
            return false;
        }
    }
    return true;
}

static bool pack_field(msgpack_packer *packer, const fleet_field_spec_t *field,
                       const uint8_t *base) {
    const uint8_t *at = base + field->offset;
    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        return pack_number(packer, at);
    case FLEET_KIND_BOOL:
        return pack_bool(packer, at);
    case FLEET_KIND_NAME:
    case FLEET_KIND_ID:
    case FLEET_KIND_TEXT:
    case FLEET_KIND_WORDS:
    case FLEET_KIND_YAML:
        return pack_text(packer, (const char *)at, text_max(field->kind));
    case FLEET_KIND_KEY:
        return pack_bytes(packer, at, FLEET_KEY_SIZE);
    case FLEET_KIND_SIGNATURE:
        return pack_bytes(packer, at, FLEET_SIGNATURE_SIZE);
    case FLEET_KIND_WORD:
        return pack_word(packer, field, at);
    case FLEET_KIND_PART:
        return pack_record(packer, field->record, at);
    case FLEET_KIND_LIST:
        return pack_list(packer, field, base);
    default:
        return false;
    }
}

static bool pack_fields(msgpack_packer *packer, const fleet_struct_spec_t *spec,
                        const uint8_t *base) {
    for (size_t i = 0; i < spec->fields_n; i++) {
        if (!pack_field(packer, &spec->fields[i], base)) {
            return false;
        }
    }
    return true;
}

fleet_err_t fleet_encode(const fleet_message_t *message, uint8_t *buffer,
                         size_t size, size_t *ret_used) {
    const fleet_struct_spec_t *spec =
        fleet_message_spec((uint64_t)message->type);
    if (spec == NULL) {
        return FLEET_BAD_MESSAGE;
    }
    sink_t sink = {buffer, size};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &sink, sink_write);
    if (msgpack_pack_array(&packer, spec->fields_n + 1) != 0 ||
        msgpack_pack_uint32(&packer, (uint32_t)message->type) != 0 ||
        !pack_fields(&packer, spec, (const uint8_t *)&message->event)) {
        return FLEET_BAD_MESSAGE;
    }
    *ret_used = size - sink.left;
    return FLEET_OK;
}

// ------------------------------------------------------------------------ scan

typedef enum shape {
    SHAPE_NUMBER,
    SHAPE_BOOL,
    SHAPE_BLOB,
    SHAPE_ARRAY
} shape_t;

// One object's header: a number's value, a blob's size or an array's count.
typedef struct header {
    shape_t shape;
    uint64_t value;
} header_t;

typedef struct source {
    const uint8_t *at;
    size_t left;
} source_t;

// A big-endian number of `bytes` octets that needs all of them: `least` is the
// smallest value that has no shorter form.
static bool scan_number(source_t *source, size_t bytes, uint64_t least,
                        uint64_t *ret_value) {
    if (source->left < bytes) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value = value << 8 | source->at[i];
    }
    source->at += bytes;
    source->left -= bytes;
    *ret_value = value;
    return value >= least;
}

// False for a type that no message has, for a form that is not the shortest,
// and where the bytes end.
static bool scan_header(source_t *source, header_t *ret_header) {
    if (source->left == 0) {
        return false;
    }
    uint8_t first = *source->at++;
    source->left--;
    if (first <= 0x7f) {
        *ret_header = (header_t){SHAPE_NUMBER, first};
        return true;
    }
    if (first >= 0x90 && first <= 0x9f) {
        *ret_header = (header_t){SHAPE_ARRAY, first & 0x0f};
        return true;
    }
    if (first >= 0xa0 && first <= 0xbf) {
        *ret_header = (header_t){SHAPE_BLOB, first & 0x1f};
        return true;
    }
    static const struct {
        uint8_t first;
        shape_t shape;
        uint8_t bytes;
        uint64_t least;
    } forms[] = {
        {0xc2, SHAPE_BOOL, 0, 0},
        {0xc3, SHAPE_BOOL, 0, 0},
        {0xc4, SHAPE_BLOB, 1, 0},
        {0xcc, SHAPE_NUMBER, 1, 0x80},
        {0xcd, SHAPE_NUMBER, 2, 0x100},
        {0xce, SHAPE_NUMBER, 4, 0x10000},
        {0xcf, SHAPE_NUMBER, 8, UINT64_C(0x100000000)},
        {0xd9, SHAPE_BLOB, 1, 32},
        {0xda, SHAPE_BLOB, 2, 0x100},
        {0xdc, SHAPE_ARRAY, 2, 16},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (forms[i].first == first) {
            ret_header->shape = forms[i].shape;
            return scan_number(source, forms[i].bytes, forms[i].least,
                               &ret_header->value);
        }
    }
    return false;
}

// Is this one array, whole, with nothing behind it, and small enough in every
// respect to be given to msgpack?
static const char *scan(const uint8_t *bytes, size_t size) {
    source_t source = {bytes, size};
    uint64_t open[DEPTH_MAX]; // objects that each open array still lacks
    size_t depth = 0;
    size_t objects = 0;
    do {
        header_t header;
        if (!scan_header(&source, &header)) {
            return "cut short, or a type or form that no message has";
        }
        if (++objects > OBJECTS_MAX) {
            return "too many objects";
        }
        if (depth == 0 && header.shape != SHAPE_ARRAY) {
            return "not an array";
        }
        if (depth > 0) {
            open[depth - 1]--;
        }
        if (header.shape == SHAPE_BLOB || header.shape == SHAPE_ARRAY) {
            if (header.value > source.left) {
                return "a size or count beyond the message's end";
            }
        }
        if (header.shape == SHAPE_BLOB) {
            source.at += header.value;
            source.left -= (size_t)header.value;
        } else if (header.shape == SHAPE_ARRAY) {
            if (depth == DEPTH_MAX) {
                return "nested too deep";
            }
            open[depth++] = header.value;
        }
        while (depth > 0 && open[depth - 1] == 0) {
            depth--;
        }
    } while (depth > 0);
    return source.left == 0 ? NULL : "bytes behind its end";
}

// -------------------------------------------------------------------- checking

typedef struct checker {
    fleet_text_t *why; // may be NULL
} checker_t;

static bool complain(const checker_t *checker, const fleet_struct_spec_t *spec,
                     const fleet_field_spec_t *field, const char *what) {
    if (checker->why != NULL) {
        FLEET_FORMAT(*checker->why, "%s.%s: %s", spec->name, field->name, what);
    }
    return false;
}

static const char *check_text(const msgpack_object *object, size_t max) {
    if (object->type != MSGPACK_OBJECT_STR) {
        return "not a text";
    }
    if (object->via.str.size > max) {
        return "too long";
    }
    if (!fleet_utf8_ok(object->via.str.ptr, object->via.str.size)) {
        return "a NUL byte or no UTF-8";
    }
    return NULL;
}

static const char *check_bytes(const msgpack_object *object, size_t size) {
    if (object->type != MSGPACK_OBJECT_BIN || object->via.bin.size != size) {
        return "not so many bytes as it must have";
    }
    return NULL;
}

static const char *check_word(const msgpack_object *object,
                              const fleet_enum_spec_t *words) {
    if (object->type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        !is_value(words, object->via.u64)) {
        return "none of its values";
    }
    return NULL;
}

static bool check_fields(const checker_t *checker,
                         const fleet_struct_spec_t *spec,
                         const msgpack_object *objects);

static const char *check_scalar(const fleet_field_spec_t *field,
                                const msgpack_object *object) {
    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        return object->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? NULL
                                                               : "not a number";
    case FLEET_KIND_BOOL:
        return object->type == MSGPACK_OBJECT_BOOLEAN
                   ? NULL
                   : "neither true nor false";
    case FLEET_KIND_NAME:
    case FLEET_KIND_ID:
    case FLEET_KIND_TEXT:
    case FLEET_KIND_WORDS:
    case FLEET_KIND_YAML:
        return check_text(object, text_max(field->kind));
    case FLEET_KIND_KEY:
        return check_bytes(object, FLEET_KEY_SIZE);
    case FLEET_KIND_SIGNATURE:
        return check_bytes(object, FLEET_SIGNATURE_SIZE);
    case FLEET_KIND_WORD:
        return check_word(object, field->words);
    case FLEET_KIND_PART:
    case FLEET_KIND_LIST:
    default:
        return "not a scalar";
    }
}

static bool is_record(const fleet_struct_spec_t *record,
                      const msgpack_object *object) {
    return object->type == MSGPACK_OBJECT_ARRAY &&
           object->via.array.size == record->fields_n;
}

static bool check_field(const checker_t *checker,
                        const fleet_struct_spec_t *spec,
                        const fleet_field_spec_t *field,
                        const msgpack_object *object) {
    if (field->kind == FLEET_KIND_PART) {
        if (!is_record(field->record, object)) {
            return complain(checker, spec, field, "not a record of its kind");
        }
        return check_fields(checker, field->record, object->via.array.ptr);
    }
    if (field->kind == FLEET_KIND_LIST) {
        if (object->type != MSGPACK_OBJECT_ARRAY ||
            object->via.array.size > field->max) {
            return complain(checker, spec, field, "no list, or too long");
        }
        for (uint32_t i = 0; i < object->via.array.size; i++) {
            const msgpack_object *item = &object->via.array.ptr[i];
            if (!is_record(field->record, item)) {
                return complain(checker, spec, field,
                                "not a record of its kind");
            }
            if (!check_fields(checker, field->record, item->via.array.ptr)) {
                return false;
            }
        }
        return true;
    }
    const char *what = check_scalar(field, object);
    return what == NULL || complain(checker, spec, field, what);
}

static bool check_fields(const checker_t *checker,
                         const fleet_struct_spec_t *spec,
                         const msgpack_object *objects) {
    for (size_t i = 0; i < spec->fields_n; i++) {
        if (!check_field(checker, spec, &spec->fields[i], &objects[i])) {
            return false;
        }
    }
    return true;
}

// --------------------------------------------------------------------- writing

static void write_fields(const fleet_struct_spec_t *spec,
                         const msgpack_object *objects, uint8_t *base);

static void write_list(const fleet_field_spec_t *field,
                       const msgpack_object_array *array, uint8_t *base) {
    memcpy(base + field->count_offset, &array->size, sizeof(uint32_t));
    for (uint32_t i = 0; i < array->size; i++) {
        write_fields(field->record, array->ptr[i].via.array.ptr,
                     base + field->offset + i * field->record->size);
    }
}

static void write_field(const fleet_field_spec_t *field,
                        const msgpack_object *object, uint8_t *base) {
    uint8_t *at = base + field->offset;
    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        memcpy(at, &object->via.u64, sizeof(uint64_t));
        break;
    case FLEET_KIND_BOOL:
        memcpy(at, &object->via.boolean, sizeof(bool));
        break;
    case FLEET_KIND_NAME:
    case FLEET_KIND_ID:
    case FLEET_KIND_TEXT:
    case FLEET_KIND_WORDS:
    case FLEET_KIND_YAML:
        if (object->via.str.size > 0) {
            memcpy(at, object->via.str.ptr, object->via.str.size);
        }
        break;
    case FLEET_KIND_KEY:
    case FLEET_KIND_SIGNATURE:
        memcpy(at, object->via.bin.ptr, object->via.bin.size);
        break;
    case FLEET_KIND_WORD: {
        uint32_t number = (uint32_t)object->via.u64;
        memcpy(at, &number, sizeof(number));
        break;
    }
    case FLEET_KIND_PART:
        write_fields(field->record, object->via.array.ptr, at);
        break;
    case FLEET_KIND_LIST:
        write_list(field, &object->via.array, base);
        break;
    default:
        assert(false);
    }
}

// base is zeroed and the objects are checked.
static void write_fields(const fleet_struct_spec_t *spec,
                         const msgpack_object *objects, uint8_t *base) {
    for (size_t i = 0; i < spec->fields_n; i++) {
        write_field(&spec->fields[i], &objects[i], base);
    }
}

// -------------------------------------------------------------------- decoding

static fleet_err_t refuse(fleet_text_t *why, const char *what) {
    if (why != NULL) {
        FLEET_COPY(*why, what);
    }
    return FLEET_BAD_MESSAGE;
}

static fleet_err_t read_message(const msgpack_object *object,
                                fleet_message_t *ret_message,
                                fleet_text_t *ret_why) {
    const msgpack_object_array *array = &object->via.array;
    if (object->type != MSGPACK_OBJECT_ARRAY || array->size == 0 ||
        array->ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
        return refuse(ret_why, "no message number");
    }
    const fleet_struct_spec_t *spec = fleet_message_spec(array->ptr[0].via.u64);
    if (spec == NULL) {
        return refuse(ret_why, "no message has this number");
    }
    if (array->size != spec->fields_n + 1) {
        if (ret_why != NULL) {
            FLEET_FORMAT(*ret_why, "%s: %u fields instead of %zu", spec->name,
                         array->size - 1, spec->fields_n);
        }
        return FLEET_BAD_MESSAGE;
    }
    const checker_t checker = {ret_why};
    if (!check_fields(&checker, spec, array->ptr + 1)) {
        return FLEET_BAD_MESSAGE;
    }
    uint8_t *base = (uint8_t *)&ret_message->event;
    memset(base, 0, spec->size);
    ret_message->type = spec->type;
    write_fields(spec, array->ptr + 1, base);
    return FLEET_OK;
}

fleet_err_t fleet_decode(const uint8_t *bytes, size_t size,
                         fleet_message_t *ret_message, fleet_text_t *ret_why) {
    if (size > FLEET_FRAME_MAX) {
        return refuse(ret_why, "longer than any message");
    }
    const char *wrong = scan(bytes, size);
    if (wrong != NULL) {
        return refuse(ret_why, wrong);
    }
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t offset = 0;
    // Only SUCCESS at exactly the end is good: other results that are not
    // negative mean input that is cut short or goes on.
    fleet_err_t err;
    if (msgpack_unpack_next(&unpacked, (const char *)bytes, size, &offset) !=
            MSGPACK_UNPACK_SUCCESS ||
        offset != size) {
        err = refuse(ret_why, "no MessagePack");
    } else {
        err = read_message(&unpacked.data, ret_message, ret_why);
    }
    msgpack_unpacked_destroy(&unpacked);
    return err;
}

uint64_t fleet_peek_protocol(const uint8_t *bytes, size_t size) {
    source_t source = {bytes, size};
    header_t array;
    header_t number;
    header_t protocol;
    if (!scan_header(&source, &array) || array.shape != SHAPE_ARRAY ||
        !scan_header(&source, &number) || number.shape != SHAPE_NUMBER ||
        !scan_header(&source, &protocol) || protocol.shape != SHAPE_NUMBER ||
        array.value < 2) {
        return 0;
    }
    switch (number.value) {
    case FLEET_MESSAGE_open:
    case FLEET_MESSAGE_welcome:
    case FLEET_MESSAGE_turned_away:
    case FLEET_MESSAGE_hello:
    case FLEET_MESSAGE_hello_ok:
        return protocol.value;
    default:
        return 0;
    }
}
