// SPDX-License-Identifier: MIT
//
// Definitions that are kept: by revision, over a restart, the pinned one.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/defs.h"
#include "proto/keys.h"
#include "proto/text.h"

static char folder[] = "/tmp/fleet-test-defs-XXXXXX";
static defs_t *defs;

static int make(void **state) {
    (void)state;
    memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
    fleet_text_t why = "";
    return mkdtemp(folder) && defs_new(folder, &defs, why) == FLEET_OK ? 0 : 1;
}

static int clean(void **state) {
    (void)state;
    defs_destroy(&defs);
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static void keep(const char *set, uint64_t rev, const char *about) {
    static fleet_setdef_t setdef;
    static fleet_complaints_t complaints;
    char yaml[300];
    fleet_text_t why = "";
    snprintf(yaml, sizeof(yaml), "format: 1\nset: %s\nabout: %s\n", set, about);
    memset(&complaints, 0, sizeof(complaints));
    if (fleet_setdef_read(yaml, strlen(yaml), &setdef, &complaints) !=
        FLEET_OK) {
        fail_msg("%s", complaints.items[0].text);
    }
    if (defs_keep(defs, set, rev, yaml, strlen(yaml), &setdef, why) !=
        FLEET_OK) {
        fail_msg("%s", why);
    }
}

static void is_kept(const char *set, uint64_t rev, const char *about) {
    const fleet_setdef_t *setdef = defs_find(defs, set, rev);
    if (!about) {
        assert_null(setdef);
        return;
    }
    assert_non_null(setdef);
    assert_string_equal(setdef->about, about);
}

static void restart(void) {
    fleet_text_t why = "";
    defs_destroy(&defs);
    if (defs_new(folder, &defs, why) != FLEET_OK) {
        fail_msg("%s", why);
    }
}

static void keeps_the_last_two(void **state) {
    (void)state;
    keep("www", 1, "one");
    keep("www", 2, "two");
    keep("www", 3, "three");
    keep("mail", 1, "other");
    for (int round = 0; round < 2; round++) {
        is_kept("www", 1, NULL);
        is_kept("www", 2, "two");
        is_kept("www", 3, "three");
        is_kept("www", 0, "three");
        is_kept("mail", 1, "other");
        is_kept("mail", 0, "other");
        is_kept("none-such", 0, NULL);
        restart();
    }
}

static void keeps_the_one_that_runs(void **state) {
    (void)state;
    keep("www", 1, "one");
    defs_pin(defs, "www", 1);
    keep("www", 2, "two");
    keep("www", 3, "three");
    keep("www", 4, "four");
    is_kept("www", 1, "one");
    is_kept("www", 2, NULL);
    is_kept("www", 3, "three");
    is_kept("www", 4, "four");
    restart();
    is_kept("www", 1, "one");
    defs_pin(defs, "www", 4);
    is_kept("www", 1, NULL);
    is_kept("www", 4, "four");
}

static void takes_the_same_again(void **state) {
    (void)state;
    keep("www", 1, "one");
    keep("www", 1, "one");
    keep("www", 1, "changed"); // a restored broker may count anew
    is_kept("www", 1, "changed");
    restart();
    is_kept("www", 1, "changed");
}

static void forgets(void **state) {
    (void)state;
    keep("www", 1, "one");
    keep("www2", 1, "other");
    defs_forget(defs, "www");
    is_kept("www", 0, NULL);
    restart();
    is_kept("www", 0, NULL);
    is_kept("www2", 0, "other");
}

static void put(const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof(path), "%s/sets/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void is_refused(const char *what) {
    fleet_text_t why = "";
    defs_destroy(&defs);
    assert_int_equal(defs_new(folder, &defs, why), FLEET_BAD_FILE);
    assert_null(defs);
    if (!strstr(why, what)) {
        fail_msg("%s", why);
    }
}

static void refuses_what_is_damaged(void **state) {
    (void)state;
    put("notes.txt", "not ours");
    restart();
    put("www.1.yaml", "format: 1\nset: mail\n");
    is_refused("www.1.yaml: is the definition of another set");
    put("www.1.yaml", "format: 1\nsett: www\n");
    is_refused("www.1.yaml: line 2");
    put("www.1.yaml", "");
    is_refused("www.1.yaml");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, clean)

int main(void) {
    fleet_keys_init();
    const struct CMUnitTest tests[] = {
        TEST(keeps_the_last_two),      TEST(keeps_the_one_that_runs),
        TEST(takes_the_same_again),    TEST(forgets),
        TEST(refuses_what_is_damaged),
    };
    return cmocka_run_group_tests_name("defs", tests, NULL, NULL);
}
