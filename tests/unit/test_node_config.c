// SPDX-License-Identifier: MIT
//
// node.yaml: what is taken, and where what is wrong is said to be.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/config.h"
#include "proto/keys.h"

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEAD                                                                   \
    "format: 1\n"                                                              \
    "node: node1\n"                                                            \
    "site: campus\n"
#define BROKERS                                                                \
    "brokers:\n"                                                               \
    "  - {control: \"tcp://10.0.0.10:7471\", key: " KEY "}\n"
#define KEYFILE "key: /etc/fleet/keys/node1.key\n"

static config_t config;
static fleet_complaints_t complaints;

static fleet_err_t read_text(const char *text) {
    char path[] = "/tmp/fleet-test-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    memset(&config, 0x55, sizeof(config));
    fleet_err_t err = config_read(path, &config, &complaints);
    unlink(path);
    return err;
}

static void is_ok(const char *text) {
    if (read_text(text) != FLEET_OK) {
        fail_msg("line %u: %s", complaints.items[0].line,
                 complaints.items[0].text);
    }
}

static void is_bad(const char *text, unsigned line, const char *what) {
    assert_int_equal(read_text(text), FLEET_BAD_FILE);
    assert_true(complaints.n > 0);
    if (complaints.items[0].line != line ||
        !strstr(complaints.items[0].text, what)) {
        fail_msg("line %u: %s", complaints.items[0].line,
                 complaints.items[0].text);
    }
    assert_int_equal(config.node[0], 0x55); // untouched
}

static void reads_a_short_file(void **state) {
    (void)state;
    is_ok(HEAD BROKERS KEYFILE);
    assert_string_equal(config.node, "node1");
    assert_string_equal(config.site, "campus");
    assert_int_equal(config.brokers_n, 1);
    assert_string_equal(config.brokers[0].control, "tcp://10.0.0.10:7471");
    assert_int_equal(config.brokers[0].key[31], 0x1f);
    assert_string_equal(config.key, "/etc/fleet/keys/node1.key");
    assert_string_equal(config.state, "/var/lib/fleet");
    assert_string_equal(config.run, "/run/fleet");
    assert_string_equal(config.cgroup, "");
    assert_int_equal(config.slots.macvlans, 0);
    assert_int_equal(config.slots.interfaces_n, 0);
}

static void reads_both_forms_of_slots(void **state) {
    (void)state;
    is_ok(HEAD BROKERS KEYFILE
          "private: eno1\n"
          "slots: {parent: eno2, room: 4}\n"
          "state: /s\nrun: /r\ncgroup: demo/n1\n");
    assert_string_equal(config.slots.private_interface, "eno1");
    assert_string_equal(config.slots.parent, "eno2");
    assert_int_equal(config.slots.macvlans, 4);
    assert_int_equal(config.slots.interfaces_n, 0);
    assert_string_equal(config.state, "/s");
    assert_string_equal(config.run, "/r");
    assert_string_equal(config.cgroup, "demo/n1");
    is_ok(HEAD BROKERS KEYFILE "slots: [eno2, eno3]\n");
    assert_string_equal(config.slots.parent, "");
    assert_int_equal(config.slots.interfaces_n, 2);
    assert_string_equal(config.slots.interfaces[1], "eno3");
}

static void names_the_line(void **state) {
    (void)state;
    is_bad(HEAD BROKERS KEYFILE "privat: eno1\n", 7, "privat");
    is_bad(HEAD KEYFILE, 1, "brokers");
    is_bad("format: 1\nnode: Node1\nsite: campus\n" BROKERS KEYFILE, 2,
           "Node1");
    is_bad(HEAD "brokers:\n  - {control: 10.0.0.10, key: " KEY "}\n" KEYFILE, 5,
           "no endpoint");
    is_bad(HEAD "brokers:\n  - {control: \"tcp://a:1\", key: abc}\n" KEYFILE, 5,
           "64 hex digits");
    is_bad(HEAD BROKERS "key: keys/node1.key\n", 6, "keys/node1.key");
    is_bad(HEAD BROKERS KEYFILE "slots: {parent: eno2, room: 0}\n", 7, "0");
    is_bad(HEAD BROKERS KEYFILE "slots: {parent: eno2, rooms: 4}\n", 7,
           "rooms");
    is_bad(HEAD BROKERS KEYFILE "slots: [eno2, an-interface-too-long]\n", 7,
           "an-interface-too-long");
    is_bad(HEAD BROKERS KEYFILE "cgroup: /fleet\n", 7, "/fleet");
    is_bad(HEAD BROKERS KEYFILE "cgroup: a/../..\n", 7, "a/../..");
    is_bad(HEAD BROKERS KEYFILE
           "run: /a/very/long/path/that/does/not/leave/enough/room/for/the/"
           "name/of/a/unix/domain/socket/in/it\n",
           7, "too long for a socket");
}

static void names_a_file_that_is_not_there(void **state) {
    (void)state;
    assert_int_equal(config_read("/no/such/file", &config, &complaints),
                     FLEET_BAD_FILE);
    assert_true(complaints.n > 0);
}

int main(void) {
    fleet_keys_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_short_file),
        cmocka_unit_test(reads_both_forms_of_slots),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(names_a_file_that_is_not_there),
    };
    return cmocka_run_group_tests_name("node_config", tests, NULL, NULL);
}
