// SPDX-License-Identifier: MIT
//
// Small words, at their bounds.

#include "proto/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_copy(void **state) {
    (void)state;
    char field[6];
    memset(field, 'x', sizeof(field));
    FLEET_COPY(field, "ab");
    assert_memory_equal(field, "ab\0\0\0\0", sizeof(field));
    FLEET_COPY(field, "abcdefgh");
    assert_string_equal(field, "abcde");
    // A character of two bytes that would be cut in the middle is left out.
    FLEET_COPY(field, "abcd\xc3\xa4");
    assert_memory_equal(field, "abcd\0\0", sizeof(field));
    FLEET_COPY(field, "abc\xc3\xa4");
    assert_string_equal(field, "abc\xc3\xa4");
    FLEET_COPY(field, "a\xff\xc3");
    assert_string_equal(field, "a??");
    char one[1] = {'x'};
    FLEET_COPY(one, "abc");
    assert_string_equal(one, "");
}

static void test_format(void **state) {
    (void)state;
    char field[8];
    memset(field, 'x', sizeof(field));
    FLEET_FORMAT(field, "%d-%s", 7, "a");
    assert_memory_equal(field, "7-a\0\0\0\0\0", sizeof(field));
    FLEET_FORMAT(field, "%s\xc3\xa4", "123456");
    assert_memory_equal(field, "123456\0\0", sizeof(field));
    fleet_words_t words;
    char large[4096];
    memset(large, 'y', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    FLEET_FORMAT(words, "%s", large);
    assert_int_equal(strlen(words), FLEET_WORDS_MAX);
}

static void test_utf8(void **state) {
    (void)state;
    assert_true(fleet_utf8_ok("", 0));
    assert_true(fleet_utf8_ok("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\xa2", 10));
    assert_true(fleet_utf8_ok("\xed\x9f\xbf\xee\x80\x80", 6));
    assert_true(fleet_utf8_ok("\xf4\x8f\xbf\xbf", 4));
    assert_false(fleet_utf8_ok("\xe2\x82", 2));
    assert_false(fleet_utf8_ok("\xe0\x80\xaf", 3));     // long form of /
    assert_false(fleet_utf8_ok("\xf0\x80\x80\xaf", 4)); // longer form of /
    assert_false(fleet_utf8_ok("\x80", 1));
    assert_false(fleet_utf8_ok("a\0", 2));
}

static void test_names(void **state) {
    (void)state;
    static const char *const good[] = {"a",
                                       "0",
                                       "www",
                                       "node-1",
                                       "a-",
                                       "alla",
                                       "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {"",
                                      "-a",
                                      "A",
                                      "a_b",
                                      "a.b",
                                      "all",
                                      "any",
                                      "here",
                                      "none",
                                      "a b",
                                      "\xc3\xa4",
                                      "a\n",
                                      "abcdefghijklmnopqrstuvwxyz0123456"};
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_true(fleet_name_ok(good[i]));
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(fleet_name_ok(bad[i]));
    }
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const words[] = {"mount", "options", "type", "fsck"};
    assert_string_equal(fleet_name_nearest("moutn", words, 4), "mount");
    assert_string_equal(fleet_name_nearest("option", words, 4), "options");
    assert_string_equal(fleet_name_nearest("fscck", words, 4), "fsck");
    assert_string_equal(fleet_name_nearest("type", words, 4), "type");
    assert_null(fleet_name_nearest("ty", words, 4));
    assert_null(fleet_name_nearest("path", words, 4));
    assert_null(fleet_name_nearest("", words, 4));
    assert_null(fleet_name_nearest("mount", words, 0));
    char large[300];
    memset(large, 'm', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_null(fleet_name_nearest(large, words, 4));
}

static void test_durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"0ms", 0},      {"500ms", 500},
        {"30s", 30000},  {"10m", 600000},
        {"2h", 7200000}, {"3d", 259200000},
        {"007s", 7000},  {"36525d", UINT64_C(3155760000000)},
    };
    static const char *const bad[] = {"",
                                      "10",
                                      "s",
                                      "-1s",
                                      "+1s",
                                      "1.5s",
                                      "1 s",
                                      " 1s",
                                      "1s ",
                                      "1S",
                                      "1us",
                                      "1m30s",
                                      "0x1s",
                                      "36526d",
                                      "99999999999999999999999s",
                                      "18446744073709551616ms"};
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t ms = 1;
        assert_true(fleet_duration_parse(good[i].text, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t ms = 4711;
        assert_false(fleet_duration_parse(bad[i], &ms));
        assert_int_equal(ms, 4711);
    }
}

static void test_durations_for_people(void **state) {
    (void)state;
    static const struct {
        uint64_t us;
        const char *text;
    } rows[] = {
        {0, "0.0 ms"},
        {41200, "41.2 ms"},
        {999999, "999.9 ms"},
        {1234000, "1.2 s"},
        {59999999, "59.9 s"},
        {60000000, "1 m"},
        {81000000, "1 m 21 s"},
        {UINT64_C(7380000000), "2 h 3 m"},
        {UINT64_C(93600000000), "1 d 2 h"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[32];
        fleet_duration_print(rows[i].us, text, sizeof(text));
        assert_string_equal(text, rows[i].text);
    }
    char text[32];
    fleet_duration_print(UINT64_MAX, text, sizeof(text));
    assert_true(strlen(text) < sizeof(text));
}

static void test_keys(void **state) {
    (void)state;
    fleet_key_t key;
    char digits[65];
    const char *mixed =
        "00112233445566778899aAbBcCdDeEfF00112233445566778899aabbccddeeff";
    assert_true(fleet_key_parse(mixed, key));
    fleet_key_print(key, digits);
    assert_string_equal(
        digits,
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    fleet_key_short(key, digits);
    assert_string_equal(digits, "00112233");
    assert_false(fleet_key_parse("", key));
    assert_false(fleet_key_parse(mixed + 1, key));
    fleet_key_t untouched;
    memcpy(untouched, key, sizeof(key));
    assert_false(
        fleet_key_parse("g0112233445566778899aabbccddeeff"
                        "00112233445566778899aabbccddeeff",
                        key));
    assert_false(
        fleet_key_parse("00112233445566778899aabbccddeeff"
                        "00112233445566778899aabbccddeeff0",
                        key));
    assert_memory_equal(key, untouched, sizeof(key));
}

static void test_times(void **state) {
    (void)state;
    char text[32];
    fleet_time_print(0, text);
    assert_string_equal(text, "");
    fleet_time_print(UINT64_C(1795403642123456), text);
    assert_string_equal(text, "2026-11-23T03:14:02.123456Z");
    fleet_time_print(1, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000001Z");
    fleet_time_print(UINT64_MAX, text);
    assert_true(strlen(text) < sizeof(text));
}

static void test_addresses(void **state) {
    (void)state;
    uint8_t bytes[16];
    size_t size;
    unsigned prefix;
    assert_true(fleet_address_parse("192.0.2.80/24", bytes, &size, &prefix));
    assert_int_equal(size, 4);
    assert_int_equal(prefix, 24);
    assert_memory_equal(bytes, "\xc0\x00\x02\x50", 4);
    assert_true(fleet_address_parse("::1/128", bytes, &size, &prefix));
    assert_int_equal(size, 16);
    static const char *const bad[] = {
        "",           "192.0.2.80",     "192.0.2.80/",   "192.0.2.80/33",
        "192.0.2/24", "192.0.2.256/24", "::1/129",       "::1",
        "a/24",       "192.0.2.80/024", "192.0.2.80/-1", "192.0.2.80/24/24",
        "/24",        " 192.0.2.80/24", "192.0.2.80/2 4"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(fleet_address_parse(bad[i], bytes, &size, &prefix));
    }
    fleet_id_t normal;
    assert_true(fleet_address_normal("2001:DB8:0:0::80/64", normal));
    assert_string_equal(normal, "2001:db8::80/64");
    assert_false(fleet_address_normal("2001:db8::80", normal));
    assert_string_equal(normal, "2001:db8::80/64");
}

static void test_macs(void **state) {
    (void)state;
    fleet_id_t mac = "";
    assert_true(fleet_mac_default("192.0.2.80/24", mac));
    assert_string_equal(mac, "02:00:c0:00:02:50");
    assert_true(fleet_mac_default("192.0.2.80", mac));
    assert_string_equal(mac, "02:00:c0:00:02:50");
    assert_true(fleet_mac_default("2001:db8::a:80/64", mac));
    assert_string_equal(mac, "02:01:00:0a:00:80");
    assert_false(fleet_mac_default("www", mac));
    assert_false(fleet_mac_default("192.0.2.80/x", mac));
    assert_string_equal(mac, "02:01:00:0a:00:80");

    fleet_text_t why = "";
    assert_true(fleet_mac_ok("02:00:c0:00:02:50", &why));
    assert_true(fleet_mac_ok("0A:1b:c0:00:02:50", &why));
    assert_true(fleet_mac_ok("00:16:3e:00:02:50", &why)); // a vendor's
    static const struct {
        const char *mac;
        const char *why;
    } bad[] = {
        {"03:00:c0:00:02:50", "group bit"},
        {"ff:ff:ff:ff:ff:ff", "group bit"},
        {"01:00:5e:00:00:01", "group bit"},
        {"00:00:00:00:00:00", "no station"},
        {"00:00:5e:00:01:07", "VRRP"},
        {"", "not a MAC"},
        {"02:00:c0:00:02", "not a MAC"},
        {"02:00:c0:00:02:5", "not a MAC"},
        {"02:00:c0:00:02:500", "not a MAC"},
        {"02-00-c0-00-02-50", "not a MAC"},
        {"02:00:c0:00:02:5g", "not a MAC"},
        {"0200.c000.0250xxx", "not a MAC"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        why[0] = '\0';
        assert_false(fleet_mac_ok(bad[i].mac, &why));
        assert_non_null(strstr(why, bad[i].why));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_durations_for_people),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_macs),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
