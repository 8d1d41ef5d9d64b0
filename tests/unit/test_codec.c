// SPDX-License-Identifier: MIT
//
// Every message of messages.def there and back, made from the tables alone, and
// what must be refused: each truncation, each wrong count, each hostile header.

#include "proto/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef enum fill { FILL_SMALLEST, FILL_LARGEST } fill_t;

// The longest text of a kind, of a character that takes two bytes so far as it
// fits, so that a bound that counts characters would be found.
static void fill_text(char *text, size_t max, fill_t fill) {
    if (fill == FILL_SMALLEST) {
        return;
    }
    size_t at = 0;
    for (; at + 2 <= max; at += 2) {
        memcpy(text + at, "\xc3\xa4", 2);
    }
    if (at < max) {
        text[at] = 'x';
    }
}

static void fill_struct(uint8_t *base, const fleet_struct_spec_t *spec,
                        fill_t fill);

static void fill_list(uint8_t *base, const fleet_field_spec_t *field,
                      fill_t fill) {
    uint32_t n = fill == FILL_LARGEST ? field->max : 0;
    memcpy(base + field->count_offset, &n, sizeof(n));
    for (uint32_t i = 0; i < n; i++) {
        fill_struct(base + field->offset + i * field->record->size,
                    field->record, fill);
    }
}

static void fill_field(uint8_t *base, const fleet_field_spec_t *field,
                       fill_t fill) {
    uint8_t *at = base + field->offset;
    uint64_t number = fill == FILL_LARGEST ? UINT64_MAX : 0;
    switch (field->kind) {
    case FLEET_KIND_U64:
    case FLEET_KIND_MS:
        memcpy(at, &number, sizeof(number));
        break;
    case FLEET_KIND_BOOL:
        *at = fill == FILL_LARGEST;
        break;
    case FLEET_KIND_NAME:
        fill_text((char *)at, FLEET_NAME_MAX, fill);
        break;
    case FLEET_KIND_ID:
        fill_text((char *)at, FLEET_ID_MAX, fill);
        break;
    case FLEET_KIND_TEXT:
        fill_text((char *)at, FLEET_TEXT_MAX, fill);
        break;
    case FLEET_KIND_WORDS:
        fill_text((char *)at, FLEET_WORDS_MAX, fill);
        break;
    case FLEET_KIND_YAML:
        fill_text((char *)at, FLEET_YAML_MAX, fill);
        break;
    case FLEET_KIND_KEY:
        memset(at, (int)number & 0xff, FLEET_KEY_SIZE);
        break;
    case FLEET_KIND_SIGNATURE:
        memset(at, (int)number & 0xff, FLEET_SIGNATURE_SIZE);
        break;
    case FLEET_KIND_WORD: {
        size_t last = field->words->values_n - 1;
        uint32_t value =
            field->words->values[fill == FILL_LARGEST ? last : 0].number;
        memcpy(at, &value, sizeof(value));
        break;
    }
    case FLEET_KIND_PART:
        fill_struct(at, field->record, fill);
        break;
    case FLEET_KIND_LIST:
        fill_list(base, field, fill);
        break;
    default:
        fail_msg("a kind that this test does not know");
    }
}

static void fill_struct(uint8_t *base, const fleet_struct_spec_t *spec,
                        fill_t fill) {
    for (size_t i = 0; i < spec->fields_n; i++) {
        fill_field(base, &spec->fields[i], fill);
    }
}

static fleet_message_t made;
static fleet_message_t read_back;
static uint8_t frame[FLEET_FRAME_MAX];
static uint8_t again[FLEET_FRAME_MAX];

static size_t make(const fleet_struct_spec_t *spec, fill_t fill) {
    memset(&made, 0, sizeof(made));
    made.type = spec->type;
    fill_struct((uint8_t *)&made.event, spec, fill);
    size_t used = 0;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_OK);
    return used;
}

static void assert_refused(const uint8_t *bytes, size_t size) {
    // A copy of exactly this size, so that the sanitizer sees a read beyond it.
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    read_back.type = FLEET_MESSAGE_goodbye;
    memset(&read_back.goodbye, 0x5a, sizeof(read_back.goodbye));
    fleet_goodbye_t untouched = read_back.goodbye;
    fleet_text_t why = "";
    assert_int_equal(fleet_decode(copy, size, &read_back, &why),
                     FLEET_BAD_MESSAGE);
    assert_int_equal(read_back.type, FLEET_MESSAGE_goodbye);
    assert_memory_equal(&read_back.goodbye, &untouched, sizeof(untouched));
    assert_string_not_equal(why, "");
    assert_int_equal(fleet_decode(copy, size, &read_back, NULL),
                     FLEET_BAD_MESSAGE);
    free(copy);
}

static void test_every_message_comes_back(void **state) {
    (void)state;
    size_t n;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    assert_true(n > 60);
    for (size_t i = 0; i < n; i++) {
        for (fill_t fill = FILL_SMALLEST; fill <= FILL_LARGEST; fill++) {
            size_t used = make(specs[i], fill);
            memset(&read_back, 0xff, sizeof(read_back));
            fleet_text_t why = "";
            if (fleet_decode(frame, used, &read_back, &why) != FLEET_OK) {
                fail_msg("%s: %s", specs[i]->name, why);
            }
            assert_int_equal(read_back.type, made.type);
            assert_memory_equal(&read_back.event, &made.event, specs[i]->size);
            size_t used_again = 0;
            assert_int_equal(
                fleet_encode(&read_back, again, sizeof(again), &used_again),
                FLEET_OK);
            assert_int_equal(used_again, used);
            assert_memory_equal(again, frame, used);
        }
    }
}

static void test_every_truncation_is_refused(void **state) {
    (void)state;
    size_t n;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    for (size_t i = 0; i < n; i++) {
        size_t used = make(specs[i], FILL_SMALLEST);
        for (size_t size = 0; size < used; size++) {
            assert_refused(frame, size);
        }
        // Large ones at a stride that is odd, so that it meets headers, the
        // middle of texts and the ends of records.
        used = make(specs[i], FILL_LARGEST);
        for (size_t size = used - 1; size > used / 2; size -= size / 37 + 1) {
            assert_refused(frame, size);
        }
    }
}

static void test_a_byte_too_many_is_refused(void **state) {
    (void)state;
    size_t n;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    for (size_t i = 0; i < n; i++) {
        size_t used = make(specs[i], FILL_SMALLEST);
        frame[used] = 0;
        assert_refused(frame, used + 1);
    }
}

static void test_a_buffer_that_is_too_small(void **state) {
    (void)state;
    size_t used =
        make(fleet_message_spec(FLEET_MESSAGE_transfer), FILL_LARGEST);
    size_t ret = 4711;
    for (size_t size = 0; size < used; size += size / 7 + 1) {
        uint8_t *small = malloc(size == 0 ? 1 : size);
        assert_non_null(small);
        assert_int_equal(fleet_encode(&made, small, size, &ret),
                         FLEET_BAD_MESSAGE);
        assert_int_equal(ret, 4711);
        free(small);
    }
    assert_int_equal(fleet_encode(&made, again, used, &ret), FLEET_OK);
    assert_int_equal(ret, used);
}

static void test_what_cannot_be_encoded(void **state) {
    (void)state;
    size_t used;
    memset(&made, 0, sizeof(made));
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_BAD_MESSAGE); // no type
    made.type = (fleet_message_type_t)9999;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_BAD_MESSAGE);
    made.type = FLEET_MESSAGE_heartbeat;
    made.heartbeat.pairs_n = FLEET_PAIRS_MAX + 1;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_BAD_MESSAGE);
    made.heartbeat.pairs_n = 1;
    made.heartbeat.pairs[0].phase = (fleet_phase_t)5;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_BAD_MESSAGE);
    made.heartbeat.pairs[0].phase = fleet_phase_HELD;
    memset(made.heartbeat.pairs[0].set, 'x', sizeof(fleet_name_t));
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_BAD_MESSAGE); // not terminated
    FLEET_COPY(made.heartbeat.pairs[0].set, "www");
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_OK);
    made.heartbeat.pairs[0].set[1] = (char)0xff;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_BAD_MESSAGE); // no UTF-8
}

// The largest messages keep within what the scan allows.
static void test_bounds_of_the_scan_are_large_enough(void **state) {
    (void)state;
    size_t n;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    for (size_t i = 0; i < n; i++) {
        assert_true(make(specs[i], FILL_LARGEST) < FLEET_FRAME_MAX);
        assert_true(specs[i]->fields_n < 256);
    }
}

static void test_hostile_headers(void **state) {
    (void)state;
    static const struct {
        size_t size;
        uint8_t bytes[16];
    } frames[] = {
        {0, {0}},
        {5, {0xdd, 0x0f, 0xff, 0xff, 0xff}},      // array of 268 million
        {5, {0xdf, 0x0f, 0xff, 0xff, 0xff}},      // map of 268 million
        {5, {0xdd, 0xff, 0xff, 0xff, 0xff}},      // array of 4 thousand million
        {3, {0xdc, 0xff, 0xff}},                  // array of 65535
        {5, {0xdb, 0xff, 0xff, 0xff, 0xff}},      // text of 4 GiB
        {5, {0xc6, 0xff, 0xff, 0xff, 0xff}},      // bytes of 4 GiB
        {6, {0x92, 0x27, 0xda, 0xff, 0xff, 'x'}}, // text of 64 KiB, one there
        {2, {0x92, 0x27}},                        // an element is missing
        {3, {0x92, 0x27, 0x01}},                  // a number for a truth value
        {3, {0x92, 0x27, 0xc0}},                  // nil
        {3, {0x92, 0xff, 0xc3}},                  // message number -1
        {3, {0x92, 0x28, 0xc3}},                  // message number 40: none
        {3, {0x92, 0xc3, 0xc3}},                  // message number true
        {4, {0x93, 0x27, 0xc3, 0xc3}},            // a field too many
        {2, {0x91, 0x27}},                        // a field too few
        {4, {0x92, 0xcc, 0x27, 0xc3}},            // 39, not in its short form
        {5, {0xdc, 0x00, 0x02, 0x27, 0xc3}},      // 2, not in its short form
        {12,
         {0x92, 0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0x27, 0xc3, 0}}, // huge number
        {7, {0x92, 0x27, 0xca, 0, 0, 0, 0}},                   // a float
        {4, {0x92, 0x27, 0xd4, 0x01}},                         // an extension
        {1, {0x27}},                                           // no array
        {1, {0x90}},                                           // an empty array
        {1, {0xc1}},                                           // never used
    };
    for (size_t i = 0; i < COUNT(frames); i++) {
        assert_refused(frames[i].bytes, frames[i].size);
    }
    // 31 nested headers in 155 bytes made msgpack-c reserve 62 GB.
    uint8_t nested[31 * 5];
    for (size_t i = 0; i < sizeof(nested); i += 5) {
        memcpy(nested + i, "\xdd\x0f\xff\xff\xff", 5);
    }
    assert_refused(nested, sizeof(nested));
    memset(nested, 0x91, sizeof(nested));
    nested[sizeof(nested) - 1] = 0x01;
    assert_refused(nested, sizeof(nested));
}

static void test_too_many_objects(void **state) {
    (void)state;
    memset(frame, 0x01, sizeof(frame));
    memcpy(frame, "\xdc\xff\x00", 3);
    assert_refused(frame, 3 + 0xff00);
    assert_refused(frame, sizeof(frame));
}

static void test_longer_than_a_frame(void **state) {
    (void)state;
    uint8_t *large = calloc(1, FLEET_FRAME_MAX + 1);
    assert_non_null(large);
    assert_refused(large, FLEET_FRAME_MAX + 1);
    free(large);
}

// closed: session, set, token, why.
static void test_bad_text_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t size;
    } texts[] = {
        {"a\0b", 3},             // a NUL byte
        {"\xff", 1},             // never in UTF-8
        {"\xc0\x80", 2},         // NUL in a long form
        {"\xed\xa0\x80", 3},     // a surrogate
        {"\xf4\x90\x80\x80", 4}, // above U+10FFFF
        {"\xc3", 1},             // half a character
        {"0123456789012345678901234567890", 31},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        uint8_t bytes[64] = {0x95, 55, 0x01};
        size_t at = 3;
        bytes[at++] = (uint8_t)(0xa0 | texts[i].size);
        memcpy(bytes + at, texts[i].text, texts[i].size);
        at += texts[i].size;
        bytes[at++] = 0x07;
        bytes[at++] = 0xa0;
        if (texts[i].size == 31) { // the good one: the frame itself is right
            assert_int_equal(fleet_decode(bytes, at, &read_back, NULL),
                             FLEET_OK);
            assert_string_equal(read_back.closed.set, texts[i].text);
        } else {
            assert_refused(bytes, at);
        }
    }
    // One byte more than a name has.
    uint8_t bytes[64] = {0x95, 55, 0x01, 0xd9, 33};
    memset(bytes + 5, 'x', 33);
    bytes[38] = 0x07;
    bytes[39] = 0xa0;
    assert_refused(bytes, 40);
}

// Whatever one byte is changed to, decoding either refuses or gives a message
// whose encoding is these very bytes: one message has one encoding.
static void test_one_encoding(void **state) {
    (void)state;
    made = (fleet_message_t){.type = FLEET_MESSAGE_heartbeat};
    made.heartbeat.term = 300;
    made.heartbeat.session = 70000;
    made.heartbeat.pairs_n = 2;
    FLEET_COPY(made.heartbeat.pairs[0].set, "www");
    made.heartbeat.pairs[0].token = UINT64_C(0x1234567890);
    size_t used;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_OK);
    for (size_t at = 0; at < used; at++) {
        uint8_t right = frame[at];
        for (unsigned wrong = 0; wrong < 256; wrong++) {
            frame[at] = (uint8_t)wrong;
            if (fleet_decode(frame, used, &read_back, NULL) != FLEET_OK) {
                continue;
            }
            size_t used_again = 0;
            assert_int_equal(
                fleet_encode(&read_back, again, sizeof(again), &used_again),
                FLEET_OK);
            assert_int_equal(used_again, used);
            assert_memory_equal(again, frame, used);
        }
        frame[at] = right;
    }
}

// The same with several bytes at once, in every message, repeatably.
static void test_damaged_messages(void **state) {
    (void)state;
    size_t n;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        size_t used = make(specs[i], FILL_SMALLEST);
        uint8_t right[1024];
        assert_true(used <= sizeof(right));
        memcpy(right, frame, used);
        for (int round = 0; round < 200; round++) {
            memcpy(frame, right, used);
            for (int change = 0; change <= round % 4; change++) {
                seed = seed * 1664525 + 1013904223; // Numerical Recipes
                frame[(seed >> 8) % used] = (uint8_t)(seed >> 24);
            }
            if (fleet_decode(frame, used, &read_back, NULL) != FLEET_OK) {
                continue;
            }
            size_t used_again = 0;
            assert_int_equal(
                fleet_encode(&read_back, again, sizeof(again), &used_again),
                FLEET_OK);
            assert_int_equal(used_again, used);
            assert_memory_equal(again, frame, used);
        }
    }
}

// Every row says something, and what it says ends as a sentence does.
static void test_rows_have_sentences(void **state) {
    (void)state;
    size_t n;
    const fleet_struct_spec_t *const *specs = fleet_message_specs(&n);
    for (size_t i = 0; i < n; i++) {
        const fleet_struct_spec_t *spec = specs[i];
        assert_ptr_equal(fleet_message_spec((uint64_t)spec->type), spec);
        assert_true(strlen(spec->sentence) > 0);
        for (size_t j = 0; j < spec->fields_n; j++) {
            const fleet_field_spec_t *field = &spec->fields[j];
            size_t length = strlen(field->sentence);
            bool is_head = strcmp(field->name, "head") == 0;
            assert_true(length > 0 || is_head);
            assert_true(length == 0 || field->sentence[length - 1] == '.');
        }
    }
    const fleet_enum_spec_t *const *enums = fleet_enum_specs(&n);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 1; j < enums[i]->values_n; j++) {
            assert_true(enums[i]->values[j - 1].number <
                        enums[i]->values[j].number);
        }
    }
}

static void test_peek_protocol(void **state) {
    (void)state;
    made = (fleet_message_t){.type = FLEET_MESSAGE_hello};
    made.hello.protocol = 77;
    size_t used;
    assert_int_equal(fleet_encode(&made, frame, sizeof(frame), &used),
                     FLEET_OK);
    assert_int_equal(fleet_peek_protocol(frame, used), 77);
    // A later version may have other fields behind the first.
    static const uint8_t later[] = {0x93, 0x01, 0x02, 0xc0};
    assert_int_equal(fleet_peek_protocol(later, sizeof(later)), 2);
    assert_int_equal(fleet_peek_protocol(later, 2), 0);
    assert_int_equal(fleet_peek_protocol(later, 0), 0);
    static const uint8_t other[] = {0x92, 0x27, 0x05};
    assert_int_equal(fleet_peek_protocol(other, sizeof(other)), 0);
}

static void test_print(void **state) {
    (void)state;
    made = (fleet_message_t){.type = FLEET_MESSAGE_heartbeat};
    made.heartbeat.term = 3;
    made.heartbeat.pairs_n = 1;
    FLEET_COPY(made.heartbeat.pairs[0].set, "www");
    made.heartbeat.pairs[0].token = 4;
    made.heartbeat.pairs[0].phase = fleet_phase_HELD;
    char line[256];
    fleet_message_print(&made, line, sizeof(line));
    assert_string_equal(line,
                        "heartbeat term=3 pairs=[set=www token=4 phase=held]");
    char small[8];
    fleet_message_print(&made, small, sizeof(small));
    assert_string_equal(small, "heartbe");
    made = (fleet_message_t){.type = FLEET_MESSAGE_goodbye};
    FLEET_COPY(made.goodbye.reason, "two\nlines \033[2J \"x\"");
    fleet_message_print(&made, line, sizeof(line));
    assert_string_equal(line,
                        "goodbye reason=\"two\\nlines \\x1b[2J \\\"x\\\"\"");
    made = (fleet_message_t){.type = FLEET_MESSAGE_set_granted};
    made.event.head.seq = 9;
    fleet_message_print(&made, line, sizeof(line));
    assert_string_equal(line, "set.granted head={seq=9}");
}

static void test_words(void **state) {
    (void)state;
    assert_string_equal(fleet_phase_word(fleet_phase_HELD), "held");
    assert_string_equal(fleet_phase_word((fleet_phase_t)99), "?");
    fleet_phase_t phase = fleet_phase_CLOSED;
    assert_true(fleet_phase_find("held", &phase));
    assert_int_equal(phase, fleet_phase_HELD);
    assert_false(fleet_phase_find("Held", &phase));
    assert_int_equal(phase, fleet_phase_HELD);
    assert_true(fleet_message_is_event(FLEET_MESSAGE_set_granted));
    assert_false(fleet_message_is_event(FLEET_MESSAGE_transfer));
    assert_false(fleet_message_is_event(FLEET_MESSAGE_none));
    assert_null(fleet_message_spec(0));
    assert_null(fleet_message_spec(UINT64_MAX));
}

static void test_errors(void **state) {
    (void)state;
    assert_string_equal(fleet_error_spec(FLEET_NO_SLOT)->code, "no-slot");
    for (unsigned err = FLEET_OK + 1; err < FLEET_ERR_END; err++) {
        const fleet_error_spec_t *spec = fleet_error_spec((fleet_err_t)err);
        assert_int_equal(fleet_error_find(spec->code), err);
        assert_true(strlen(spec->code) <= FLEET_NAME_MAX);
    }
    assert_int_equal(fleet_error_find("no-such-code"), FLEET_OK);
    fleet_reason_t reason;
    fleet_reason_make(&reason, FLEET_NOT_READY, "%s on %s", "www", "node2");
    fleet_reason_hint(&reason, "fleet check %s", "www");
    assert_string_equal(reason.code, "not-ready");
    assert_string_equal(reason.text, "www on node2");
    assert_string_equal(reason.hint, "fleet check www");
    assert_true(reason.waivable);
    assert_false(reason.retry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_message_comes_back),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_a_byte_too_many_is_refused),
        cmocka_unit_test(test_a_buffer_that_is_too_small),
        cmocka_unit_test(test_what_cannot_be_encoded),
        cmocka_unit_test(test_bounds_of_the_scan_are_large_enough),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_too_many_objects),
        cmocka_unit_test(test_longer_than_a_frame),
        cmocka_unit_test(test_bad_text_is_refused),
        cmocka_unit_test(test_one_encoding),
        cmocka_unit_test(test_damaged_messages),
        cmocka_unit_test(test_rows_have_sentences),
        cmocka_unit_test(test_peek_protocol),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
