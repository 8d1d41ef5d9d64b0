// SPDX-License-Identifier: MIT
//
// Records: what is read back after a restart, after a torn write, after damage.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/inventory.h"
#include "node/record.h"
#include "proto/keys.h"
#include "proto/text.h"

static char folder[] = "/tmp/fleet-test-record-XXXXXX";
static fleet_text_t state;
static fleet_text_t run;

static int make(void **context) {
    (void)context;
    memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
    if (!mkdtemp(folder)) {
        return 1;
    }
    FLEET_FORMAT(state, "%s/var/lib", folder);
    FLEET_FORMAT(run, "%s/run", folder);
    return 0;
}

static int clean(void **context) {
    (void)context;
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static record_store_t *open_store(const char *boot_id) {
    record_store_t *store = NULL;
    fleet_text_t why = "";
    if (record_store_new(state, run, boot_id, "agent1", &store, why) !=
        FLEET_OK) {
        fail_msg("%s", why);
    }
    return store;
}

static void write_pair(record_store_t *store, const char *set, uint64_t token,
                       fleet_phase_t phase, uint64_t rev) {
    fleet_pair_t pair = {.token = token, .phase = phase};
    FLEET_COPY(pair.set, set);
    fleet_text_t why = "";
    if (record_write(store, &pair, rev, why) != FLEET_OK) {
        fail_msg("%s", why);
    }
}

typedef struct loaded {
    size_t n;
    record_t records[8];
} loaded_t;

static void on_record(void *context, const record_t *record) {
    loaded_t *loaded = context;
    assert_true(loaded->n < 8);
    loaded->records[loaded->n++] = *record;
}

static fleet_err_t load(const char *boot_id, loaded_t *ret_loaded,
                        fleet_text_t ret_why) {
    record_store_t *store = open_store(boot_id);
    *ret_loaded = (loaded_t){.n = 0};
    fleet_err_t err = record_load(store, on_record, ret_loaded, ret_why);
    record_store_destroy(&store);
    return err;
}

static void is_loaded(const char *set, uint64_t token, fleet_phase_t phase) {
    loaded_t loaded;
    fleet_text_t why = "";
    if (load("boot2", &loaded, why) != FLEET_OK) {
        fail_msg("%s", why);
    }
    for (size_t i = 0; i < loaded.n; i++) {
        if (strcmp(loaded.records[i].pair.set, set) == 0) {
            assert_int_equal(loaded.records[i].pair.token, token);
            assert_int_equal(loaded.records[i].pair.phase, phase);
            return;
        }
    }
    fail_msg("no record of %s", set);
}

static void reads_back_what_was_written(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    write_pair(store, "www", 3, fleet_phase_ACQUIRING, 2);
    write_pair(store, "www", 3, fleet_phase_HELD, 2);
    write_pair(store, "mail", FLEET_TOKEN_MAX, fleet_phase_CLOSED, 7);
    record_store_destroy(&store);
    assert_null(store);
    loaded_t loaded;
    fleet_text_t why = "";
    assert_int_equal(load("boot2", &loaded, why), FLEET_OK);
    assert_int_equal(loaded.n, 2);
    const record_t *www = &loaded.records[loaded.records[1].rev == 2];
    assert_string_equal(www->pair.set, "www");
    assert_int_equal(www->pair.token, 3);
    assert_int_equal(www->pair.phase, fleet_phase_HELD);
    assert_int_equal(www->rev, 2);
    assert_string_equal(www->boot_id, "boot1");
    assert_string_equal(www->agent_id, "agent1");
    is_loaded("mail", FLEET_TOKEN_MAX, fleet_phase_CLOSED);
}

static void goes_on_after_a_restart(void **context) {
    (void)context;
    for (uint64_t token = 1; token < 6; token++) {
        record_store_t *store = open_store("boot1");
        fleet_text_t why = "";
        assert_int_equal(record_load(store, NULL, NULL, why), FLEET_OK);
        write_pair(store, "www", token, fleet_phase_HELD, 1);
        record_store_destroy(&store);
        is_loaded("www", token, fleet_phase_HELD);
    }
}

// Writes over `size` bytes of a record at `offset`.
static void damage(const char *name, off_t offset, const char *bytes,
                   size_t size) {
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", state, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, offset), (ssize_t)size);
    close(fd);
}

// The newest half was being written when the power went: the one before it
// counts.
static void survives_a_torn_write(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    write_pair(store, "www", 3, fleet_phase_ACQUIRING, 1); // number 1: half 1
    write_pair(store, "www", 3, fleet_phase_HELD, 1);      // number 2: half 0
    record_store_destroy(&store);
    damage("records/www", 100, "torn", 4);
    is_loaded("www", 3, fleet_phase_ACQUIRING);
    // The next write goes where the torn one was, and is the newest.
    store = open_store("boot1");
    fleet_text_t why = "";
    assert_int_equal(record_load(store, NULL, NULL, why), FLEET_OK);
    write_pair(store, "www", 4, fleet_phase_HELD, 1);
    record_store_destroy(&store);
    is_loaded("www", 4, fleet_phase_HELD);
}

static void refuses_a_damaged_record(void **context) {
    (void)context;
    static const char *const damages[] = {"x", "\0", "9"};
    for (size_t i = 0; i < 3; i++) {
        record_store_t *store = open_store("boot1");
        fleet_text_t why = "";
        assert_int_equal(record_forget(store, "www", why), FLEET_OK);
        char path[400];
        snprintf(path, sizeof(path), "%s/records/www", state);
        unlink(path);
        write_pair(store, "www", 3, fleet_phase_HELD, 1);
        write_pair(store, "www", 4, fleet_phase_HELD, 1);
        record_store_destroy(&store);
        damage("records/www", 90, damages[i], 1);
        damage("records/www", 512 + 90, damages[i], 1);
        loaded_t loaded;
        assert_int_equal(load("boot2", &loaded, why), FLEET_BAD_FILE);
        assert_non_null(strstr(why, path));
        assert_non_null(strstr(why, "Move it away"));
    }
}

static void refuses_what_is_no_record(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    write_pair(store, "www", 3, fleet_phase_HELD, 1);
    record_store_destroy(&store);
    char from[400];
    char to[400];
    snprintf(from, sizeof(from), "%s/records/www", state);
    snprintf(to, sizeof(to), "%s/records/mail", state);
    assert_int_equal(rename(from, to), 0);
    loaded_t loaded;
    fleet_text_t why = "";
    assert_int_equal(load("boot1", &loaded, why), FLEET_BAD_FILE);
    assert_non_null(strstr(why, "holds no record of that set"));
    assert_int_equal(truncate(to, 0), 0);
    assert_int_equal(load("boot1", &loaded, why), FLEET_BAD_FILE);
    assert_non_null(strstr(why, "is damaged"));
}

static void forgets(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    write_pair(store, "www", 3, fleet_phase_CLOSED, 1);
    fleet_text_t why = "";
    assert_int_equal(record_forget(store, "www", why), FLEET_OK);
    assert_int_equal(record_forget(store, "never-there", why), FLEET_OK);
    record_store_destroy(&store);
    loaded_t loaded;
    assert_int_equal(load("boot1", &loaded, why), FLEET_OK);
    assert_int_equal(loaded.n, 0);
}

static void keeps_the_term(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    fleet_text_t why = "";
    uint64_t term = 99;
    assert_int_equal(record_term_read(store, &term, why), FLEET_OK);
    assert_int_equal(term, 0);
    assert_int_equal(record_term_write(store, 7, why), FLEET_OK);
    assert_int_equal(record_term_write(store, 8, why), FLEET_OK);
    record_store_destroy(&store);
    store = open_store("boot2");
    assert_int_equal(record_term_read(store, &term, why), FLEET_OK);
    assert_int_equal(term, 8);
    record_store_destroy(&store);
}

static void remembers_its_key(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    fleet_key_t key = {1, 2, 3};
    fleet_key_t other = {1, 2, 4};
    fleet_text_t why = "";
    assert_false(record_remembers(store, key));
    assert_int_equal(record_remember(store, key, why), FLEET_OK);
    assert_true(record_remembers(store, key));
    assert_false(record_remembers(store, other));
    record_store_destroy(&store);
}

static void keeps_deadlines_in_one_boot_only(void **context) {
    (void)context;
    record_store_t *store = open_store("boot1");
    assert_int_equal(record_deadline_left(store, "www", 1000), 0);
    record_deadline_write(store, "www", 1000, 5000);
    record_deadline_write(store, "www", 2000, 5000);
    assert_int_equal(record_deadline_left(store, "www", 3000), 4000);
    assert_int_equal(record_deadline_left(store, "www", 7000), 0);
    record_deadline_write(store, "mail", 1000, 5000);
    record_deadline_write(store, "mail", 1000, 0);
    assert_int_equal(record_deadline_left(store, "mail", 1000), 0);
    record_store_destroy(&store);
    store = open_store("boot2");
    assert_int_equal(record_deadline_left(store, "www", 3000), 0);
    record_store_destroy(&store);
}

static void says_which_folder_cannot_be_made(void **context) {
    (void)context;
    record_store_t *store = NULL;
    fleet_text_t why = "";
    assert_int_equal(
        record_store_new("/dev/null/state", run, "b", "a", &store, why),
        FLEET_STORE_FAILED);
    assert_null(store);
    assert_non_null(strstr(why, "/dev/null/state"));
}

static void machine_tells_of_itself(void **context) {
    (void)context;
    inventory_t inventory;
    fleet_text_t why = "";
    assert_true(inventory_read(&inventory, why));
    assert_int_equal(strlen(inventory.boot_id), 36);
    assert_int_equal(strlen(inventory.kernel_id), 36);
    assert_true(strlen(inventory.kernel) > 0);
    assert_true(inventory_load_milli() < 10000000);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, clean)

int main(void) {
    fleet_keys_init();
    const struct CMUnitTest tests[] = {
        TEST(reads_back_what_was_written),
        TEST(goes_on_after_a_restart),
        TEST(survives_a_torn_write),
        TEST(refuses_a_damaged_record),
        TEST(refuses_what_is_no_record),
        TEST(forgets),
        TEST(keeps_the_term),
        TEST(remembers_its_key),
        TEST(keeps_deadlines_in_one_boot_only),
        TEST(says_which_folder_cannot_be_made),
        TEST(machine_tells_of_itself),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
