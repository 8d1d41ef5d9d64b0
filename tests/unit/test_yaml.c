// SPDX-License-Identifier: MIT
//
// The reader of YAML files by a schema of its own: what libcyaml fills, where
// complaints are placed, and the parsers of scalars.  The rules of the scan are
// tested with definitions of sets (test_setdef.c).

#include "proto/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct item {
    char *name;
    char *size;
} item_t;

typedef struct file {
    char *format;
    char *one;
    char *two;
    char **words;
    unsigned words_count;
    item_t *items;
    unsigned items_count;
    item_t *inside;
} file_t;

static const cyaml_schema_value_t word_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, 20)};
static const cyaml_schema_field_t item_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, item_t, name, 1, 20),
    CYAML_FIELD_STRING_PTR("size", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                           item_t, size, 0, 20),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t item_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, item_t, item_fields)};
static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_STRING_PTR("format", CYAML_FLAG_POINTER, file_t, format, 1, 20),
    CYAML_FIELD_STRING_PTR("one", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                           file_t, one, 0, 80),
    CYAML_FIELD_STRING_PTR("two", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                           file_t, two, 0, 20),
    CYAML_FIELD_SEQUENCE("words", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                         file_t, words, &word_entry, 0, 3),
    CYAML_FIELD_SEQUENCE("items", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                         file_t, items, &item_entry, 0, 3),
    CYAML_FIELD_MAPPING_PTR("inside", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                            file_t, inside, item_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, file_t, file_fields)};

static fleet_complaints_t complaints;

static fleet_yaml_doc_t *load(const char *text) {
    memset(&complaints, 0, sizeof(complaints));
    fleet_yaml_doc_t *doc = NULL;
    fleet_err_t err =
        fleet_yaml_load(text, strlen(text), &schema, &complaints, &doc);
    if (err != FLEET_OK) {
        assert_null(doc);
        assert_true(complaints.n > 0);
    }
    return doc;
}

static void assert_complaint(uint32_t index, unsigned line, unsigned column,
                             const char *text) {
    assert_true(index < complaints.n);
    const fleet_complaint_t *complaint = &complaints.items[index];
    if (complaint->line != line || complaint->column != column ||
        strncmp(complaint->text, text, strlen(text)) != 0) {
        fail_msg("%u:%u: %s", complaint->line, complaint->column,
                 complaint->text);
    }
}

static void test_loads(void **state) {
    (void)state;
    fleet_yaml_doc_t *doc = load(
        "format: 1\n"
        "one: 10m\n"
        "two: \"\"\n"
        "words: [a, '010', ~]\n"
        "items:\n"
        "- name: x\n"
        "  size: 3\n"
        "- {name: y}\n"
        "inside: {name: \"\xc3\xa4\"}\n");
    assert_non_null(doc);
    const file_t *file = fleet_yaml_data(doc);
    assert_string_equal(file->one, "10m");
    assert_string_equal(file->two, "");
    assert_int_equal(file->words_count, 3);
    assert_string_equal(file->words[1], "010");
    assert_string_equal(file->words[2], "~");
    assert_int_equal(file->items_count, 2);
    assert_string_equal(file->items[0].size, "3");
    assert_null(file->items[1].size);
    assert_string_equal(file->inside->name, "\xc3\xa4");
    fleet_yaml_destroy(&doc);
    assert_null(doc);
    fleet_yaml_destroy(&doc);
}

static void test_left_out(void **state) {
    (void)state;
    fleet_yaml_doc_t *doc = load("format: 1\nwords: []\n");
    assert_non_null(doc);
    const file_t *file = fleet_yaml_data(doc);
    assert_null(file->one);
    assert_null(file->inside);
    assert_int_equal(file->items_count, 0);
    assert_int_equal(file->words_count, 0);
    assert_true(fleet_yaml_has(doc, "words"));
    assert_false(fleet_yaml_has(doc, "items"));
    fleet_yaml_destroy(&doc);
}

static void test_places(void **state) {
    (void)state;
    fleet_yaml_doc_t *doc = load(
        "format: 1\n"
        "one: x\n"
        "items:\n"
        "  - name: x\n"
        "    size:   3\n"
        "inside:\n"
        "    name: y\n");
    assert_non_null(doc);
    fleet_yaml_complain(doc, "one", "a %d", 1);
    fleet_yaml_complain(doc, "items[0].size", "b");
    fleet_yaml_complain(doc, "items[0]", "c");
    fleet_yaml_complain(doc, "inside", "d");
    fleet_yaml_complain(doc, "inside.size", "e");   // not there: its mapping
    fleet_yaml_complain(doc, "words[2]", "f");      // nor this, at all
    fleet_yaml_complain(doc, "items[7].name", "g"); // the list
    fleet_yaml_complain(doc, "", "h");
    assert_complaint(0, 2, 6, "a 1");
    assert_complaint(1, 5, 13, "b");
    assert_complaint(2, 4, 5, "c");
    assert_complaint(3, 6, 1, "d");
    assert_complaint(4, 6, 1, "e");
    assert_complaint(5, 1, 1, "f");
    assert_complaint(6, 3, 1, "g");
    assert_complaint(7, 1, 1, "h");
    fleet_complaints_sort(&complaints);
    assert_complaint(0, 1, 1, "f");
    assert_complaint(1, 1, 1, "h");
    assert_complaint(5, 5, 13, "b");
    fleet_yaml_destroy(&doc);
}

static void test_refusals(void **state) {
    (void)state;
    assert_null(load("format: 1\nonee: 1\n"));
    assert_complaint(0, 2, 1, "\"onee\" is not a key of the file; \"one\"?");
    assert_string_equal(complaints.items[0].hint,
                        "allowed: format inside items one two words");
    assert_null(load("format: 1\nwords: [a, b, c, d]\n"));
    assert_complaint(0, 2, 18, "words has more than 3 entries");
    assert_null(load("format: 1\ntwo: 123456789012345678901\n"));
    assert_complaint(0, 2, 6, "two has 21 bytes; from 0 to 20 are possible");
    assert_null(load("format: 1\nwords: [[a]]\n"));
    assert_complaint(0, 2, 9, "words[0] must be one value, not a list");
    assert_null(load("format: 1\nitems:\n- {size: 1}\n- {name: 2, naem: 1}\n"));
    assert_int_equal(complaints.n, 2);
    assert_complaint(0, 3, 3, "items[0] lacks \"name\"");
    assert_complaint(1, 4, 13, "\"naem\" is not a key of items[1]; \"name\"?");
    // A mistyped key is not called missing as well.
    assert_null(load("format: 1\ninside: {naem: 1}\n"));
    assert_int_equal(complaints.n, 1);
    // The scan goes on behind a value of the wrong kind.
    assert_null(load("format: 1\none: {a: [b, {c: d}]}\ntwo: [e]\nfour: 1\n"));
    assert_int_equal(complaints.n, 3);
    assert_complaint(2, 4, 1, "\"four\" is not a key");
    assert_null(load("format: 1\nwords: [a\ntwo: b\n"));
    assert_complaint(0, 3, 4, "while parsing a flow sequence");
    assert_null(load("format: 1\n<<: {one: a}\n"));
    assert_complaint(0, 2, 1, "\"<<\" is not a key");
}

static void test_scalars(void **state) {
    (void)state;
    fleet_yaml_doc_t *doc = load("format: 1\none: x\n");
    assert_non_null(doc);
    fleet_name_t name = "before";
    assert_true(fleet_yaml_name(doc, "one", NULL, &name));
    assert_string_equal(name, "before");
    assert_true(fleet_yaml_name(doc, "one", "node-1", &name));
    assert_string_equal(name, "node-1");
    assert_false(fleet_yaml_name(doc, "one", "Node", &name));
    assert_string_equal(name, "node-1");

    char text[5] = "";
    assert_true(fleet_yaml_text(doc, "one", "abcd", text, sizeof(text)));
    assert_false(fleet_yaml_text(doc, "one", "abcde", text, sizeof(text)));
    assert_false(fleet_yaml_text(doc, "one", "a\nb", text, sizeof(text)));
    assert_string_equal(text, "abcd");

    fleet_text_t path = "";
    assert_true(fleet_yaml_path(doc, "one", "/etc", &path));
    assert_false(fleet_yaml_path(doc, "one", "etc", &path));
    assert_string_equal(path, "/etc");

    uint64_t ms = 7;
    assert_true(fleet_yaml_duration(doc, "one", "5s", 1000, 9000, &ms));
    assert_int_equal(ms, 5000);
    assert_false(fleet_yaml_duration(doc, "one", "5", 0, 9000, &ms));
    assert_false(fleet_yaml_duration(doc, "one", "10s", 0, 9000, &ms));
    assert_false(fleet_yaml_duration(doc, "one", "999ms", 1000, 9000, &ms));
    assert_int_equal(ms, 5000);

    uint64_t number = 7;
    assert_true(fleet_yaml_number(doc, "one", "0", 0, 10, &number));
    assert_int_equal(number, 0);
    assert_true(fleet_yaml_number(doc, "one", "18446744073709551599", 0,
                                  UINT64_MAX, &number));
    static const char *const bad[] = {"",
                                      "011",
                                      "-1",
                                      "+1",
                                      "1 ",
                                      "0x1",
                                      "1.0",
                                      "11",
                                      "a",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    number = 7;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(fleet_yaml_number(doc, "one", bad[i], 0, 10, &number));
    }
    assert_int_equal(number, 7);
    fleet_yaml_destroy(&doc);
}

static void test_words(void **state) {
    (void)state;
    fleet_yaml_doc_t *doc = load("format: 1\none: x\n");
    assert_non_null(doc);
    bool flag = true;
    assert_true(fleet_yaml_bool(doc, "one", NULL, &flag));
    assert_true(flag);
    assert_true(fleet_yaml_bool(doc, "one", "false", &flag));
    assert_false(flag);
    assert_false(fleet_yaml_bool(doc, "one", "yes", &flag));
    assert_complaint(0, 2, 6, "one cannot be \"yes\"");
    assert_string_equal(complaints.items[0].hint, "allowed: false true");
    static const char *const words[] = {"keep", "silence", "stop"};
    size_t word = 1;
    assert_true(fleet_yaml_word(doc, "one", "stop", words, 3, &word));
    assert_int_equal(word, 2);
    assert_false(fleet_yaml_word(doc, "one", "stpo", words, 3, &word));
    assert_complaint(1, 2, 6, "one cannot be \"stpo\"; \"stop\"?");
    assert_int_equal(word, 2);
    fleet_key_t key = {0};
    assert_false(fleet_yaml_key(doc, "one", "abc", key));
    assert_true(fleet_yaml_key(doc, "one",
                               "00112233445566778899aabbccddeeff"
                               "00112233445566778899aabbccddeeff",
                               key));
    assert_int_equal(key[1], 0x11);
    fleet_yaml_destroy(&doc);
}

static void test_print(void **state) {
    (void)state;
    fleet_complaint_t complaint = {.line = 14, .column = 7};
    FLEET_COPY(complaint.text, "wrong");
    char line[64];
    fleet_complaint_print(&complaint, "www.yaml", line, sizeof(line));
    assert_string_equal(line, "www.yaml:14:7: wrong");
    FLEET_COPY(complaint.hint, "right");
    fleet_complaint_print(&complaint, "www.yaml", line, sizeof(line));
    assert_string_equal(line, "www.yaml:14:7: wrong (right)");
    complaint.line = 0;
    fleet_complaint_print(&complaint, "www.yaml", line, sizeof(line));
    assert_string_equal(line, "www.yaml: wrong (right)");

    fleet_complaints_t two = {.n = 2, .items = {complaint, complaint}};
    two.items[0].hint[0] = '\0';
    char printed[128] = "";
    FILE *stream = fmemopen(printed, sizeof(printed), "w");
    assert_non_null(stream);
    fleet_complaints_print(&two, "f", stream);
    fclose(stream);
    assert_string_equal(printed, "f: wrong\nf: wrong\n    right\n");
}

static void test_files(void **state) {
    (void)state;
    char path[] = "/tmp/fleet-test-yaml-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "format: 1\n", 10), 10);
    close(fd);
    char *text = NULL;
    size_t size = 0;
    memset(&complaints, 0, sizeof(complaints));
    assert_int_equal(fleet_yaml_read_file(path, 10, &text, &size, &complaints),
                     FLEET_OK);
    assert_int_equal(size, 10);
    assert_string_equal(text, "format: 1\n");
    free(text);
    assert_int_equal(fleet_yaml_read_file(path, 9, &text, &size, &complaints),
                     FLEET_BAD_FILE);
    assert_complaint(0, 0, 0, "longer than 9 bytes");
    unlink(path);
    assert_int_equal(fleet_yaml_read_file(path, 10, &text, &size, &complaints),
                     FLEET_BAD_FILE);
    assert_complaint(1, 0, 0, "No such file");
    assert_int_equal(
        fleet_yaml_read_file("/tmp", 10, &text, &size, &complaints),
        FLEET_BAD_FILE);
    assert_complaint(2, 0, 0, "Is a directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),   cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_places),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_scalars), cmocka_unit_test(test_words),
        cmocka_unit_test(test_print),   cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
