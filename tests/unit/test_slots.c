// SPDX-License-Identifier: MIT
//
// Which interfaces of a machine are public.

#include <linux/if_arp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/slots.h"
#include "proto/text.h"

static net_view_t view;
static slots_t slots;
static fleet_text_t why;

static net_link_t *add(const char *name) {
    net_link_t *link = &view.links[view.links_n++];
    *link = (net_link_t){.index = (int)view.links_n,
                         .type = ARPHRD_ETHER,
                         .up = true,
                         .carrier = true};
    FLEET_COPY(link->name, name);
    return link;
}

static void give(const net_link_t *link, const char *ip) {
    net_address_t *address = &view.addresses[view.addresses_n++];
    *address = (net_address_t){.index = link->index};
    assert_true(net_ip_parse(ip, &address->ip));
}

// A usual server: lo, eth0 private, eth1 and eth2 public, and things of others.
static int machine(void **state) {
    (void)state;
    memset(&view, 0, sizeof view);
    memset(&slots, 0, sizeof slots);
    FLEET_COPY(why, "");
    net_link_t *lo = add("lo");
    lo->loopback = true;
    lo->type = ARPHRD_LOOPBACK;
    give(lo, "127.0.0.1/8");
    net_link_t *eth0 = add("eth0");
    give(eth0, "10.0.0.1/24");
    view.default_index = eth0->index;
    net_link_t *eth1 = add("eth1");
    give(eth1, "fe80::1/64"); // made by the kernel
    add("eth2")->carrier = false;
    FLEET_COPY(add("docker0")->kind, "bridge");
    net_link_t *port = add("eth3");
    port->master = 5;
    give(add("eth4"), "192.0.2.1/24");
    add("ib0")->type = ARPHRD_INFINIBAND;
    return 0;
}

static bool noted(const char *note) {
    for (uint32_t i = 0; i < slots.notes_n; i++) {
        if (strcmp(slots.notes[i], note) == 0) {
            return true;
        }
    }
    return false;
}

static void test_discovery(void **state) {
    (void)state;
    slots_wish_t wish = {0};
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_int_equal(slots.n, 2);
    assert_string_equal(slots.interfaces[0], "eth1");
    assert_string_equal(slots.interfaces[1], "eth2");
    assert_string_equal(slots.private_interface, "eth0");
    assert_string_equal(slots.parent, "");
    assert_true(noted("lo: not taken: the loopback"));
    assert_true(noted("eth0: not taken: the private interface"));
    assert_true(noted("eth1: taken"));
    assert_true(noted("eth2: taken; it has no carrier now"));
    assert_true(
        noted("docker0: not taken: a bridge, not a physical device; "
              "name it in node.yaml to use it"));
    assert_true(noted("eth3: not taken: a port of docker0"));
    assert_true(
        noted("eth4: not taken: it has an address of its own, 192.0.2.1"));
    assert_true(noted("ib0: not taken: not Ethernet"));
}

// A restarted agent finds its sets' addresses on its public interfaces.
static void test_a_set_is_on_it(void **state) {
    (void)state;
    slots_wish_t wish = {0};
    FLEET_COPY(view.links[6].alias, "fleet:www 00:11:22:33:44:55 up");
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_int_equal(slots.n, 3);
    FLEET_COPY(view.links[6].alias, "fleet:Not a set");
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_int_equal(slots.n, 2);
}

static void test_no_public_interface(void **state) {
    (void)state;
    slots_wish_t wish = {0};
    view.links_n = 2;
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_int_equal(slots.n, 0);
}

static void test_parent(void **state) {
    (void)state;
    slots_wish_t wish = {.parent = "eth1", .macvlans = 12};
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_int_equal(slots.n, 12);
    assert_string_equal(slots.parent, "eth1");
    assert_int_equal(slots.interfaces_n, 0);
    FLEET_COPY(wish.parent, "eth4");
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_true(
        noted("eth4: parent; it should have no address, but has 192.0.2.1"));
}

static void refused(const slots_wish_t *wish, const char *because) {
    slots.n = 77;
    assert_int_equal(slots_choose(wish, &view, &slots, why), FLEET_BAD_FILE);
    assert_string_equal(why, because);
    assert_int_equal(slots.n, 77);
}

static void test_refusals(void **state) {
    (void)state;
    slots_wish_t wish = {.parent = "eth9", .macvlans = 2};
    refused(&wish, "eth9: no such interface");
    FLEET_COPY(wish.parent, "eth0");
    FLEET_COPY(wish.private_interface, "eth0");
    refused(&wish, "eth0: it is the private interface");
    FLEET_COPY(wish.parent, "eth1");
    wish.macvlans = 0;
    refused(&wish, "eth1: a parent has room for 1 to 128 sets, not 0");
    wish.macvlans = 2;
    wish.interfaces_n = 1;
    FLEET_COPY(wish.interfaces[0], "eth2");
    refused(&wish, "either a parent or physical interfaces, not both");

    wish = (slots_wish_t){.interfaces_n = 2};
    FLEET_COPY(wish.interfaces[0], "eth1");
    FLEET_COPY(wish.interfaces[1], "eth1");
    refused(&wish, "eth1: named twice");
    FLEET_COPY(wish.interfaces[1], "eth3");
    refused(&wish, "eth3: it is a port of docker0");
    FLEET_COPY(wish.interfaces[1], "ib0");
    refused(&wish, "ib0: it is not Ethernet");
    wish = (slots_wish_t){.private_interface = "eth7"};
    refused(&wish, "eth7: no such interface");
}

static void test_named(void **state) {
    (void)state;
    slots_wish_t wish = {.interfaces_n = 2};
    FLEET_COPY(wish.interfaces[0], "eth2");
    FLEET_COPY(wish.interfaces[1], "docker0"); // it is named, so it is meant
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_int_equal(slots.n, 2);
    // The default route may be public: then nothing is known to be private.
    FLEET_COPY(wish.interfaces[1], "eth0");
    assert_int_equal(slots_choose(&wish, &view, &slots, why), FLEET_OK);
    assert_string_equal(slots.private_interface, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_discovery, machine),
        cmocka_unit_test_setup(test_a_set_is_on_it, machine),
        cmocka_unit_test_setup(test_no_public_interface, machine),
        cmocka_unit_test_setup(test_parent, machine),
        cmocka_unit_test_setup(test_refusals, machine),
        cmocka_unit_test_setup(test_named, machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
