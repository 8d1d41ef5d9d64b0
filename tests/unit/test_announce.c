// SPDX-License-Identifier: MIT
//
// The frames of an announcement, byte by byte, and addresses as text.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "node/agents/announce.h"

static net_mac_t mac;
static net_ip_t four, six;

static int setup(void **state) {
    (void)state;
    return net_mac_parse("02:00:c0:00:02:50", &mac) &&
                   net_ip_parse("192.0.2.80/24", &four) &&
                   net_ip_parse("2001:db8::80/64", &six)
               ? 0
               : -1;
}

static void test_rarp(void **state) {
    (void)state;
    static const uint8_t wanted[60] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff,                   // to all
        0x02, 0x00, 0xc0, 0x00, 0x02, 0x50,                   // from the MAC
        0x80, 0x35,                                           // RARP
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x03,       // request reverse
        0x02, 0x00, 0xc0, 0x00, 0x02, 0x50, 0,    0,    0, 0, // sender
        0x02, 0x00, 0xc0, 0x00, 0x02, 0x50, 0,    0,    0, 0, // target
    };
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    memset(frame, 0xaa, sizeof frame);
    assert_int_equal(announce_rarp(&mac, frame), sizeof wanted);
    assert_memory_equal(frame, wanted, sizeof wanted);
}

static void test_gratuitous_arp(void **state) {
    (void)state;
    uint8_t wanted[60] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, //
        0x02, 0x00, 0xc0, 0x00, 0x02, 0x50, //
        0x08, 0x06,                         //
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x00,
        0xc0, 0x00, 0x02, 0x50, 192,  0,    2,    80,   0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 192,  0,    2,    80,
    };
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    assert_int_equal(announce_arp(&mac, &four, false, frame), sizeof wanted);
    assert_memory_equal(frame, wanted, sizeof wanted);
    wanted[21] = 2;
    memset(wanted + 32, 0xff, 6);
    assert_int_equal(announce_arp(&mac, &four, true, frame), sizeof wanted);
    assert_memory_equal(frame, wanted, sizeof wanted);
}

static void test_neighbour_advertisement(void **state) {
    (void)state;
    static const uint8_t ip[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x80};
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    assert_int_equal(announce_na(&mac, &six, frame), 14 + 40 + 32);
    assert_memory_equal(frame, "\x33\x33\x00\x00\x00\x01", 6);
    assert_memory_equal(frame + 6, mac.bytes, 6);
    assert_memory_equal(frame + 12, "\x86\xdd\x60", 3);
    assert_int_equal(frame[14 + 6], 58);  // ICMPv6
    assert_int_equal(frame[14 + 7], 255); // hop limit
    assert_memory_equal(frame + 22, ip, 16);
    const uint8_t *body = frame + 54;
    assert_int_equal(body[0], 136);
    assert_int_equal(body[4], 0x20); // override, not solicited, no router
    assert_memory_equal(body + 8, ip, 16);
    assert_memory_equal(body + 24, "\x02\x01", 2);
    assert_memory_equal(body + 26, mac.bytes, 6);

    // The checksum of all that it covers, itself included, is all ones.
    uint32_t sum = 32 + 58;
    for (size_t i = 22; i < 54 + 32; i += 2) {
        sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_int_equal(sum, 0xffff);
}

static void test_addresses_as_text(void **state) {
    (void)state;
    static const char *const bad_ips[] = {"",
                                          "192.0.2",
                                          "192.0.2.1/33",
                                          "192.0.2.1/",
                                          "192.0.2.1/x",
                                          "::1/129",
                                          "192.0.2.1/-1",
                                          "192.0.2.1/ 8",
                                          "192.0.2.1/24x",
                                          "host/24",
                                          "/24"};
    static const char *const bad_macs[] = {
        "", "02:00:c0:00:02", "02:00:c0:00:02:5g", "02-00-c0-00-02-50",
        "02:00:c0:00:02:500"};
    net_ip_t ip = {.prefix = 77};
    net_mac_t other = mac;
    for (size_t i = 0; i < sizeof bad_ips / sizeof bad_ips[0]; i++) {
        assert_false(net_ip_parse(bad_ips[i], &ip));
        assert_int_equal(ip.prefix, 77);
    }
    for (size_t i = 0; i < sizeof bad_macs / sizeof bad_macs[0]; i++) {
        assert_false(net_mac_parse(bad_macs[i], &other));
        assert_true(net_mac_equal(&mac, &other));
    }
    assert_true(net_ip_parse("192.0.2.80", &ip));
    assert_int_equal(ip.prefix, 32);
    fleet_id_t text;
    assert_true(net_ip_parse("192.0.2.253/22", &ip));
    ip = net_ip_prefix(&ip);
    net_ip_print(&ip, text);
    assert_string_equal(text, "192.0.0.0");
    ip = net_ip_prefix(&six);
    net_ip_print(&ip, text);
    assert_string_equal(text, "2001:db8::");
    assert_int_equal(ip.prefix, 64);
    char digits[18];
    net_mac_print(&mac, digits);
    assert_string_equal(digits, "02:00:c0:00:02:50");
}

static void test_marks(void **state) {
    (void)state;
    fleet_name_t set = "as it was";
    assert_false(net_mark_read("", set));
    assert_false(net_mark_read("uplink to rack 4", set));
    assert_false(net_mark_read("fleet:", set));
    assert_false(net_mark_read(
        "fleet:a-name-that-is-longer-than-a-name-may-be-here", set));
    assert_string_equal(set, "as it was");
    assert_true(net_mark_read("fleet:www", set));
    assert_string_equal(set, "www");
    assert_true(net_mark_read("fleet:mail 00:11:22:33:44:55 up", set));
    assert_string_equal(set, "mail");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rarp),
        cmocka_unit_test(test_gratuitous_arp),
        cmocka_unit_test(test_neighbour_advertisement),
        cmocka_unit_test(test_addresses_as_text),
        cmocka_unit_test(test_marks),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
