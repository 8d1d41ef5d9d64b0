// SPDX-License-Identifier: MIT
//
// Definitions: the good one with every key, the defaults, and one wrong file
// per rule with the line, column and sentence that it must be refused with.

#include "proto/setdef.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static fleet_setdef_t got;
static fleet_complaints_t complaints;

static void read_good(const char *yaml) {
    memset(&got, 0xff, sizeof(got));
    fleet_err_t err = fleet_setdef_read(yaml, strlen(yaml), &got, &complaints);
    if (err != FLEET_OK) {
        fleet_complaints_print(&complaints, "good", stderr);
    }
    assert_int_equal(err, FLEET_OK);
    assert_int_equal(complaints.n, 0);
}

static const char full[] =
    "format: 1\n"
    "set: www                          # name and public host name\n"
    "about: Public web site of the department\n"
    "contact: web team, 4711\n"
    "nodes: [node1, node2, node3]\n"
    "home: node1\n"
    "takeover: auto\n"
    "boot: manual\n"
    "without_lease: silence\n"
    "resources:\n"
    "  - disk_group:\n"
    "      driver: image\n"
    "      path: /srv/fleet/www.img\n"
    "  - filesystem:\n"
    "      name: data\n"
    "      mount: /www/data\n"
    "      type: xfs\n"
    "      options: noatime\n"
    "      fsck: full\n"
    "      term: 2s\n"
    "      limit: {start: 90s, stop: 10m}\n"
    "  - address:\n"
    "      name: public\n"
    "      needs: []\n"
    "      ip: [192.0.2.80/24, \"2001:DB8:0::80/64\"]\n"
    "      mac: \"02:00:C0:00:02:50\"\n"
    "      gateway: 192.0.2.1\n"
    "  - service:\n"
    "      name: nginx\n"
    "      start: /usr/sbin/nginx -c /www/data/etc/nginx.conf\n"
    "      test: /usr/sbin/nginx -t -c /www/data/etc/nginx.conf\n"
    "      stop: /usr/sbin/nginx -c /www/data/etc/nginx.conf -s quit\n"
    "      user: www-data\n"
    "      probe: {command: curl -fsS http://192.0.2.80/, every: 7s, limit: "
    "2s}\n"
    "      limit: {start: 500ms}\n"
    "  - service:\n"
    "      needs: [nginx]\n"
    "      unit: cron.service\n";

static void test_every_key(void **state) {
    (void)state;
    read_good(full);
    assert_string_equal(got.set, "www");
    assert_string_equal(got.about, "Public web site of the department");
    assert_string_equal(got.contact, "web team, 4711");
    assert_int_equal(got.facts.nodes_n, 3);
    assert_string_equal(got.facts.nodes[2].name, "node3");
    assert_string_equal(got.facts.home, "node1");
    assert_int_equal(got.facts.takeover, fleet_takeover_AUTO);
    assert_int_equal(got.facts.boot, fleet_at_boot_MANUAL);
    assert_int_equal(got.facts.without_lease, fleet_without_lease_SILENCE);
    assert_string_equal(got.facts.disk_group, "www");
    assert_string_equal(got.facts.driver, "image");
    assert_int_equal(got.facts.addresses_n, 2);
    assert_string_equal(got.facts.addresses[0].address, "192.0.2.80/24");
    assert_string_equal(got.facts.addresses[1].address, "2001:db8::80/64");
    assert_string_equal(got.facts.mac, "02:00:c0:00:02:50");
    assert_int_equal(got.facts.start_ms, 60000 + 90000 + 60000 + 500 + 60000);
    assert_int_equal(got.facts.stop_ms, 20000 + 600000 + 3 * 20000);

    assert_int_equal(got.resources_n, 5);
    const fleet_resource_t *group = &got.resources[0];
    assert_int_equal(group->kind, FLEET_RESOURCE_DISK_GROUP);
    assert_string_equal(group->name, "disk-group");
    assert_int_equal(group->needs, 0);
    assert_string_equal(group->disk_group.path, "/srv/fleet/www.img");
    const fleet_resource_t *data = &got.resources[1];
    assert_int_equal(data->kind, FLEET_RESOURCE_FILESYSTEM);
    assert_int_equal(data->needs, 1);
    assert_string_equal(data->filesystem.mount, "/www/data");
    assert_string_equal(data->filesystem.type, "xfs");
    assert_string_equal(data->filesystem.options, "noatime");
    assert_int_equal(data->filesystem.fsck, FLEET_FSCK_FULL);
    assert_int_equal(data->filesystem.term_ms, 2000);
    const fleet_resource_t *public = &got.resources[2];
    assert_int_equal(public->kind, FLEET_RESOURCE_ADDRESS);
    assert_int_equal(public->needs, 0);
    assert_string_equal(public->address.gateway, "192.0.2.1");
    const fleet_resource_t *nginx = &got.resources[3];
    assert_int_equal(nginx->kind, FLEET_RESOURCE_SERVICE);
    assert_int_equal(nginx->needs, 7);
    assert_int_equal(nginx->start_ms, 500);
    assert_int_equal(nginx->stop_ms, FLEET_STOP_MS_DEFAULT);
    assert_string_equal(nginx->service.user, "www-data");
    assert_string_equal(nginx->service.probe, "curl -fsS http://192.0.2.80/");
    assert_int_equal(nginx->service.probe_every_ms, 7000);
    assert_int_equal(nginx->service.probe_limit_ms, 2000);
    const fleet_resource_t *unit = &got.resources[4];
    assert_string_equal(unit->name, "service-2");
    assert_int_equal(unit->needs, 8);
    assert_string_equal(unit->service.unit, "cron.service");
    assert_int_equal(unit->service.probe_every_ms, 0);
}

// Equal texts are equal bytes: what is not written is zero.
static void test_same_text_same_bytes(void **state) {
    (void)state;
    read_good(full);
    fleet_setdef_t first = got;
    read_good(full);
    assert_memory_equal(&first, &got, sizeof(got));
}

static void test_smallest(void **state) {
    (void)state;
    read_good("format: 1\nset: empty\n");
    assert_int_equal(got.resources_n, 0);
    assert_int_equal(got.facts.start_ms, 0);
    assert_string_equal(got.facts.disk_group, "");
    assert_string_equal(got.facts.mac, "");
    read_good("# x\n---\nformat: 1\nset: empty\nresources: []\n...\n");
    char digits[65];
    fleet_key_print(got.facts.digest, digits);
    assert_string_equal(
        digits,
        "b0aee66553a3c09e8407d1227e9b9a3c8c4dc0c5037f49f297a376be6573fb6d");
}

static void test_defaults(void **state) {
    (void)state;
    read_good(
        "format: 1\nset: www\nresources:\n"
        "- disk_group: {name: shared, driver: image, path: /a.img}\n"
        "- filesystem: {mount: /a}\n"
        "- filesystem: {mount: /b}\n"
        "- address: {ip: [192.0.2.80/24]}\n"
        "- service: {start: x}\n");
    assert_int_equal(got.facts.takeover, fleet_takeover_MANUAL);
    assert_int_equal(got.facts.boot, fleet_at_boot_AS_BEFORE);
    assert_int_equal(got.facts.without_lease, fleet_without_lease_KEEP);
    assert_string_equal(got.facts.disk_group, "shared");
    assert_string_equal(got.facts.mac, "02:00:c0:00:02:50");
    assert_string_equal(got.resources[2].name, "filesystem-2");
    assert_string_equal(got.resources[2].filesystem.type, "ext4");
    assert_int_equal(got.resources[2].filesystem.fsck, FLEET_FSCK_PREEN);
    assert_int_equal(got.resources[2].filesystem.term_ms,
                     FLEET_TERM_MS_DEFAULT);
    assert_int_equal(got.resources[4].needs, 15);
    assert_int_equal(got.facts.start_ms, 5 * FLEET_START_MS_DEFAULT);
}

static void test_each_wrong_file(void **state) {
    (void)state;
#define TOP "format: 1\nset: www\n"
#define DISK TOP "resources:\n- disk_group: {driver: image, path: /a.img}\n"
    static const struct {
        const char *yaml;
        const char *said; // the first complaint, as people see it
    } files[] = {
        {"", "f: the file is empty"},
        {"# nothing\n", "f: the file is empty"},
        {"set: www\nformat: 1\n", "f:2:1: \"format\" must be the first key"},
        {"set: www\n", "f:1:1: the file lacks \"format\""},
        {"format: 2\nset: www\n", "f:1:9: format \"2\" is not known here"},
        {"format: 1\n", "f:1:1: the file lacks \"set\""},
        {"format: 1\nset: [a]\n", "f:2:6: set must be one value, not a list"},
        {"format: 1\nset:\n", "f:2:5: set is empty"},
        {"- a\n", "f:1:1: the file must be a mapping, not a list"},
        {"format: 1\nset: Www\n", "f:2:6: \"Www\" is not a name"},
        {"format: 1\nset: none\n", "f:2:6: \"none\" is not a name"},
        {"format: 1\nset: \"a\\0b\"\n", "f:2:6: set has a NUL byte"},
        {TOP "set: w\n", "f:3:1: \"set\" stands twice; the first is in line 2"},
        {TOP "hme: a\n",
         "f:3:1: \"hme\" is not a key of the file; \"home\"? (allowed: about "
         "boot contact format home nodes resources set takeover "
         "without_lease)"},
        {TOP "---\n" TOP, "f:3:1: a second document begins"},
        {TOP "? [a]\n: b\n", "f:3:3: a key must be one word"},
        {TOP "about: &x a\n", "f:3:8: anchors and aliases"},
        {TOP "about: *x\n", "f:3:8: anchors and aliases"},
        {TOP "about: !!str a\n", "f:3:8: tags (!x) are not read here"},
        {TOP "about: 'a\n", "f:4:1: "},
        {TOP "\tabout: a\n", "f:3:1: "},
        {TOP "about: \xff\n", "f: invalid"},
        {TOP "about: |\n  a\n  b\n",
         "f:3:8: about has a line end or control character"},
        {TOP "takeover: autp\n",
         "f:3:11: takeover cannot be \"autp\"; \"auto\"? (allowed: manual "
         "auto)"},
        {TOP "without_lease: 7\n", "f:3:16: without_lease cannot be \"7\""},
        {TOP "nodes: [a, b]\nhome: c\n", "f:4:7: home c is not one of nodes"},
        {TOP "nodes: [a, a]\n", "f:3:12: a stands twice"},
        {TOP "nodes: [a, www]\n", "f:3:12: www is the set's own name"},
        {TOP "nodes: a\n", "f:3:8: nodes must be a list, not one value"},
        {TOP "resources:\n- {}\n",
         "f:4:3: a resource has exactly one key, its kind (one of:"},
        {TOP "resources:\n- service: {start: a}\n  address: {ip: [192.0.2.1/24]"
             "}\n",
         "f:4:3: a resource has exactly one key"},
        {TOP "resources:\n- servise: {start: a}\n",
         "f:4:3: \"servise\" is not a key of resources[0]; \"service\"?"},
        {TOP "resources:\n- service:\n",
         "f:4:11: service must be a mapping, not one value"},
        {DISK "- disk_group: {driver: image, path: /b, name: b}\n",
         "f:5:3: a second disk_group; a set has one"},
        {TOP "resources:\n- disk_group: {driver: lvm, path: /b}\n",
         "f:4:24: driver cannot be \"lvm\""},
        {TOP "resources:\n- disk_group: {driver: image, path: b}\n",
         "f:4:37: path must be an absolute path"},
        {TOP "resources:\n- disk_group: {driver: image}\n",
         "f:4:3: disk_group lacks \"path\""},
        {TOP "resources:\n- filesystem: {mount: /a}\n",
         "f:4:3: filesystem has no disk_group above it"},
        {DISK "- filesystem: {mount: /a, needs: []}\n",
         "f:5:27: filesystem must need the disk group \"disk-group\""},
        {DISK "- filesystem: {moutn: /a}\n",
         "f:5:16: \"moutn\" is not a key of filesystem; \"mount\"? (allowed: "
         "fsck limit mount name needs options term type)"},
        {DISK "- filesystem: {mount: a}\n",
         "f:5:23: mount must be an absolute path, not \"a\""},
        {DISK "- filesystem: {mount: /}\n", "f:5:23: mount \"/\" is"},
        {DISK "- filesystem: {mount: /a/../b}\n", "f:5:23: mount \"/a/../b\""},
        {DISK "- filesystem: {mount: /a/}\n", "f:5:23: mount \"/a/\""},
        {DISK "- filesystem: {mount: /a, fsck: yes}\n",
         "f:5:33: fsck cannot be \"yes\""},
        {DISK "- filesystem: {mount: /a, term: 10}\n",
         "f:5:33: \"10\" is not a duration (a number with its unit: 500ms"},
        {DISK "- filesystem: {mount: /a, limit: {start: 0s}}\n",
         "f:5:42: start 0s is not from"},
        {DISK "- filesystem: {mount: /a, limit: {end: 1s}}\n",
         "f:5:35: \"end\" is not a key of limit (allowed: start stop)"},
        {DISK "- filesystem: {mount: /a}\n- filesystem: {mount: /a}\n",
         "f:6:23: \"filesystem\" is mounted at /a already"},
        {DISK "- service: {start: a, name: disk-group}\n",
         "f:5:29: two resources have the name \"disk-group\""},
        {DISK "- service: {start: a, needs: [disk-grup]}\n",
         "f:5:31: needs \"disk-grup\", which is no resource; \"disk-group\"?"},
        {DISK "- service: {start: a, needs: [b]}\n- service: {name: b, start: "
              "a}\n",
         "f:5:31: needs \"b\", which does not stand above it"},
        {DISK "- service: {start: a, name: a, needs: [a]}\n",
         "f:5:40: needs \"a\", which does not stand above it"},
        {DISK "- service: {stop: a}\n",
         "f:5:3: service has neither \"start\" nor \"unit\""},
        {DISK "- service: {start: a, unit: b.service}\n",
         "f:5:20: start stands beside unit"},
        {DISK "- service: {unit: nginx}\n",
         "f:5:19: \"nginx\" is not the name of a unit (nginx.service)"},
        {DISK "- service: {start: a, user: \"a b\"}\n",
         "f:5:29: \"a b\" is not a user's name"},
        {DISK "- service: {start: a, probe: {every: 1s}}\n",
         "f:5:23: probe lacks \"command\""},
        {DISK "- service: {start: \"\"}\n", "f:5:20: start is empty"},
        {TOP "resources:\n- address: {ip: []}\n",
         "f:4:17: ip needs at least 1 entry"},
        {TOP "resources:\n- address: {ip: [192.0.2.80]}\n",
         "f:4:18: \"192.0.2.80\" is no address with its prefix length"},
        {TOP "resources:\n- address: {ip: [192.0.2.0/24]}\n",
         "f:4:18: 192.0.2.0/24 is the network"},
        {TOP "resources:\n- address: {ip: [192.0.2.255/24]}\n",
         "f:4:18: 192.0.2.255/24 is the network's broadcast"},
        {TOP "resources:\n- address: {ip: [224.0.0.1/24]}\n",
         "f:4:18: 224.0.0.1/24 is a multicast"},
        {TOP "resources:\n- address: {ip: [127.0.0.1/8]}\n",
         "f:4:18: 127.0.0.1/8 is a loopback"},
        {TOP "resources:\n- address: {ip: [\"::1/128\"]}\n",
         "f:4:18: ::1/128 is a loopback"},
        {TOP "resources:\n- address: {ip: [\"fe80::1/64\"]}\n",
         "f:4:18: fe80::1/64 is link-local"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24, 192.0.2.1/24]}\n",
         "f:4:32: 192.0.2.1/24 stands twice"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24], mac: "
             "\"03:00:c0:00:02:50\"}\n",
         "f:4:38: 03:00:c0:00:02:50 has the group bit set"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24], mac: "
             "\"02:00:c0:00:02\"}\n",
         "f:4:38: \"02:00:c0:00:02\" is not a MAC address"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24], gateway: "
             "192.0.3.1}\n",
         "f:4:42: gateway 192.0.3.1 is in none of the networks"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24], gateway: x}\n",
         "f:4:42: \"x\" is no address"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24], gateway: "
             "192.0.2.1}\n",
         "f:4:42: gateway 192.0.2.1 is the set's own address"},
        {TOP "resources:\n- address: {ip: [192.0.2.1/24]}\n"
             "- address: {ip: [192.0.2.2/24]}\n",
         "f:5:3: a second address; a set has one (ip: [...]"},
    };
    unsigned wrong = 0;
    for (size_t i = 0; i < COUNT(files); i++) {
        fleet_setdef_t before;
        memset(&got, 0x5a, sizeof(got));
        before = got;
        // Of exactly this size, so that the sanitizer sees a read beyond it.
        size_t size = strlen(files[i].yaml);
        char *yaml = malloc(size == 0 ? 1 : size);
        assert_non_null(yaml);
        memcpy(yaml, files[i].yaml, size);
        fleet_err_t err = fleet_setdef_read(yaml, size, &got, &complaints);
        free(yaml);
        if (err != FLEET_BAD_FILE || complaints.n == 0) {
            fail_msg("accepted:\n%s", files[i].yaml);
        }
        assert_memory_equal(&got, &before, sizeof(got));
        char line[1024];
        fleet_complaint_print(&complaints.items[0], "f", line, sizeof(line));
        if (strncmp(line, files[i].said, strlen(files[i].said)) != 0) {
            print_error("said   %s\nwanted %s\nof:\n%s", line, files[i].said,
                        files[i].yaml);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static void test_all_complaints_in_order(void **state) {
    (void)state;
    static const char yaml[] =
        "format: 1\n"
        "set: Www\n"
        "takeover: never\n"
        "resources:\n"
        "- service: {start: a, needs: [b]}\n"
        "- address: {ip: [192.0.2.80]}\n";
    assert_int_equal(fleet_setdef_read(yaml, strlen(yaml), &got, &complaints),
                     FLEET_BAD_FILE);
    assert_int_equal(complaints.n, 4);
    for (uint32_t i = 0; i < complaints.n; i++) {
        static const unsigned lines[] = {2, 3, 5, 6};
        assert_int_equal(complaints.items[i].line, lines[i]);
    }
}

static void test_too_many_of_all(void **state) {
    (void)state;
    char yaml[FLEET_YAML_MAX + 2] = "format: 1\nset: www\nresources:\n";
    for (int i = 0; i <= FLEET_RESOURCES_MAX; i++) {
        strncat(yaml, "- service: {start: a, bad: b}\n",
                sizeof(yaml) - strlen(yaml) - 1);
    }
    assert_int_equal(fleet_setdef_read(yaml, strlen(yaml), &got, &complaints),
                     FLEET_BAD_FILE);
    assert_int_equal(complaints.n, FLEET_COMPLAINTS_MAX);
    memset(yaml, '#', sizeof(yaml));
    assert_int_equal(
        fleet_setdef_read(yaml, FLEET_YAML_MAX + 1, &got, &complaints),
        FLEET_BAD_FILE);
    assert_int_equal(complaints.n, 1);
    // Nesting that would exhaust a parser that recurses.
    memset(yaml, '[', sizeof(yaml));
    assert_int_equal(fleet_setdef_read(yaml, FLEET_YAML_MAX, &got, &complaints),
                     FLEET_BAD_FILE);
}

// No text that is cut short or has a byte changed does harm.
static void test_damaged_texts(void **state) {
    (void)state;
    size_t size = strlen(full);
    for (size_t cut = 0; cut < size; cut += 3) {
        char *yaml = malloc(cut == 0 ? 1 : cut);
        assert_non_null(yaml);
        memcpy(yaml, full, cut);
        if (cut > 0) {
            yaml[cut / 2] = (char)(cut * 7);
        }
        fleet_setdef_read(yaml, cut, &got, &complaints);
        free(yaml);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_same_text_same_bytes),
        cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_each_wrong_file),
        cmocka_unit_test(test_all_complaints_in_order),
        cmocka_unit_test(test_too_many_of_all),
        cmocka_unit_test(test_damaged_texts),
    };
    return cmocka_run_group_tests_name("setdef", tests, NULL, NULL);
}
