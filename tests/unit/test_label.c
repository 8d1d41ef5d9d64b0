// SPDX-License-Identifier: MIT
//
// The label of an image: what P9 allows, and that a crash at any point of a
// write leaves the old label or the new one.  Needs no root.

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/agents/label.h"
#include "proto/text.h"

#define FILE_SIZE (2 * (off_t)LABEL_AREA_SIZE)
#define LIMIT_MS 2000

static char path[] = "/tmp/fleet-label-XXXXXX";

static int make_file(void **state) {
    (void)state;
    memset(path + sizeof(path) - 7, 'X', 6);
    int fd = mkstemp(path);
    if (fd < 0 || ftruncate(fd, FILE_SIZE) != 0) {
        return -1;
    }
    close(fd);
    return 0;
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static label_command_t command(label_verb_t verb, const char *node,
                               uint64_t token) {
    label_command_t command = {.verb = verb, .token = token};
    FLEET_COPY(command.set, "www");
    FLEET_COPY(command.node, node);
    FLEET_COPY(command.kernel_id, "kernel-1");
    FLEET_COPY(command.boot_id, "boot-1");
    return command;
}

static label_t update(label_command_t asked, label_verdict_t expected) {
    int fd = label_open(path);
    assert_true(fd >= 0);
    label_t label;
    label_verdict_t verdict = LABEL_REFUSED;
    fleet_text_t why = "";
    label_err_t err =
        label_update(fd, &asked, LIMIT_MS, &label, &verdict, &why);
    assert_string_equal(why, "");
    assert_int_equal(err, LABEL_OK);
    assert_int_equal(verdict, expected);
    close(fd);
    return label;
}

static label_err_t read_label(label_t *ret_label) {
    int fd = label_open(path);
    assert_true(fd >= 0);
    fleet_text_t why = "";
    label_err_t err = label_read(fd, ret_label, &why);
    assert_true((err == LABEL_OK) == (why[0] == '\0'));
    close(fd);
    return err;
}

static void poke(off_t offset, const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes, size, offset), size);
    close(fd);
}

// P9, line by line

typedef struct row {
    const char *owner;
    unsigned floor;
    label_verb_t verb;
    const char *node;
    unsigned token;
    unsigned from_token;
    label_verdict_t verdict;
    unsigned floor_after; // if changed, as is
    const char *owner_after;
} row_t;

static const row_t rows[] = {
    // import: owner nobody or n, and t >= floor
    {"", 5, LABEL_IMPORT, "n1", 5, 0, LABEL_CHANGED, 5, "n1"},
    {"", 5, LABEL_IMPORT, "n1", 9, 0, LABEL_CHANGED, 9, "n1"},
    {"", 5, LABEL_IMPORT, "n1", 4, 0, LABEL_REFUSED, 0, ""},
    {"n1", 5, LABEL_IMPORT, "n1", 5, 0, LABEL_AS_IS, 0, ""},
    {"n1", 5, LABEL_IMPORT, "n1", 6, 0, LABEL_CHANGED, 6, "n1"},
    {"n1", 5, LABEL_IMPORT, "n1", 4, 0, LABEL_REFUSED, 0, ""},
    {"n2", 5, LABEL_IMPORT, "n1", 5, 0, LABEL_REFUSED, 0, ""},
    {"n2", 5, LABEL_IMPORT, "n1", 9, 0, LABEL_REFUSED, 0, ""},
    // import in place: the lock is exactly (n, from), or already done
    {"n1", 5, LABEL_IMPORT, "n1", 6, 5, LABEL_CHANGED, 6, "n1"},
    {"n1", 6, LABEL_IMPORT, "n1", 6, 5, LABEL_AS_IS, 0, ""},
    {"n1", 4, LABEL_IMPORT, "n1", 6, 5, LABEL_REFUSED, 0, ""},
    {"n1", 7, LABEL_IMPORT, "n1", 6, 5, LABEL_REFUSED, 0, ""},
    {"", 5, LABEL_IMPORT, "n1", 6, 5, LABEL_REFUSED, 0, ""},
    {"", 6, LABEL_IMPORT, "n1", 6, 5, LABEL_REFUSED, 0, ""},
    {"n2", 5, LABEL_IMPORT, "n1", 6, 5, LABEL_REFUSED, 0, ""},
    {"n1", 5, LABEL_IMPORT, "n1", 4, 5, LABEL_REFUSED, 0, ""},
    // release: only if owner is n and floor <= t; else success, nothing touched
    {"n1", 5, LABEL_RELEASE, "n1", 5, 0, LABEL_CHANGED, 6, ""},
    {"n1", 5, LABEL_RELEASE, "n1", 8, 0, LABEL_CHANGED, 9, ""},
    {"n1", 5, LABEL_RELEASE, "n1", 4, 0, LABEL_AS_IS, 0, ""},
    {"n2", 5, LABEL_RELEASE, "n1", 5, 0, LABEL_AS_IS, 0, ""},
    {"n2", 5, LABEL_RELEASE, "n1", 9, 0, LABEL_AS_IS, 0, ""},
    {"", 6, LABEL_RELEASE, "n1", 5, 0, LABEL_AS_IS, 0, ""},
    {"", 5, LABEL_RELEASE, "n1", 9, 0, LABEL_AS_IS, 0, ""},
    // evict: only if floor < t and owner is the victim or nobody
    {"n1", 5, LABEL_EVICT, "n1", 6, 0, LABEL_CHANGED, 6, ""},
    {"", 5, LABEL_EVICT, "n1", 6, 0, LABEL_CHANGED, 6, ""},
    {"", 6, LABEL_EVICT, "n1", 6, 0, LABEL_AS_IS, 0, ""},
    {"", 7, LABEL_EVICT, "n1", 6, 0, LABEL_REFUSED, 0, ""},
    {"n1", 6, LABEL_EVICT, "n1", 6, 0, LABEL_REFUSED, 0, ""},
    {"n1", 7, LABEL_EVICT, "n1", 6, 0, LABEL_REFUSED, 0, ""},
    {"n2", 5, LABEL_EVICT, "n1", 6, 0, LABEL_REFUSED, 0, ""},
    {"n2", 6, LABEL_EVICT, "n1", 6, 0, LABEL_REFUSED, 0, ""},
};

static void p9_conditions(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const row_t *row = &rows[i];
        label_t label = {.generation = 3, .floor = row->floor, .since = 2};
        FLEET_COPY(label.set, "www");
        FLEET_COPY(label.owner, row->owner);
        FLEET_COPY(label.kernel_id, "kernel-1");
        FLEET_COPY(label.boot_id, "boot-1");
        label_t before = label;
        label_command_t asked = command(row->verb, row->node, row->token);
        asked.from_token = row->from_token;
        label_verdict_t verdict = label_apply(&label, &asked);
        if (verdict != row->verdict) {
            print_message("row %zu\n", i);
        }
        assert_int_equal(verdict, row->verdict);
        if (verdict == LABEL_CHANGED) {
            assert_string_equal(label.owner, row->owner_after);
            assert_int_equal(label.floor, row->floor_after);
            assert_int_equal(label.generation, 4);
            assert_true(label.floor >= before.floor);
        } else {
            assert_memory_equal(&label, &before, sizeof(label));
        }
    }
}

static void another_sets_label_is_refused(void **state) {
    (void)state;
    label_t label = {.generation = 1};
    FLEET_COPY(label.set, "mail");
    for (int verb = LABEL_IMPORT; verb <= LABEL_EVICT; verb++) {
        label_command_t asked = command((label_verb_t)verb, "n1", 5);
        assert_int_equal(label_apply(&label, &asked), LABEL_REFUSED);
    }
}

// The token that a holding began with names its loop device.
static void since_is_the_beginning_of_a_holding(void **state) {
    (void)state;
    assert_int_equal(
        update(command(LABEL_IMPORT, "n1", 5), LABEL_CHANGED).since, 5);
    label_command_t in_place = command(LABEL_IMPORT, "n1", 7);
    in_place.from_token = 5;
    assert_int_equal(update(in_place, LABEL_CHANGED).since, 5);
    assert_int_equal(update(command(LABEL_IMPORT, "n1", 7), LABEL_AS_IS).since,
                     5);
    assert_int_equal(
        update(command(LABEL_IMPORT, "n1", 8), LABEL_CHANGED).since, 8);
}

// An eviction has to know where a device may be attached, also when it is
// repeated.
static void kernel_is_kept_by_evict_and_cleared_by_release(void **state) {
    (void)state;
    update(command(LABEL_IMPORT, "n1", 5), LABEL_CHANGED);
    label_t label = update(command(LABEL_EVICT, "n1", 6), LABEL_CHANGED);
    assert_string_equal(label.kernel_id, "kernel-1");
    label = update(command(LABEL_EVICT, "n1", 6), LABEL_AS_IS);
    assert_string_equal(label.kernel_id, "kernel-1");
    update(command(LABEL_IMPORT, "n2", 7), LABEL_CHANGED);
    label = update(command(LABEL_RELEASE, "n2", 7), LABEL_CHANGED);
    assert_string_equal(label.kernel_id, "");
}

static void survives_the_bytes(void **state) {
    (void)state;
    label_t label = {
        .generation = UINT64_MAX, .floor = FLEET_TOKEN_MAX + 1, .since = 7};
    memset(label.set, 's', FLEET_NAME_MAX);
    memset(label.owner, 'o', FLEET_NAME_MAX);
    memset(label.kernel_id, 'k', FLEET_ID_MAX);
    memset(label.boot_id, 'b', FLEET_ID_MAX);
    uint8_t copy[LABEL_COPY_SIZE];
    label_encode(&label, copy);
    label_t back;
    assert_true(label_decode(copy, &back));
    assert_memory_equal(&back, &label, sizeof(label));
    for (size_t i = 0; i < LABEL_COPY_SIZE; i += 37) {
        copy[i] ^= 0x10;
        assert_false(label_decode(copy, &back));
        copy[i] ^= 0x10;
    }
}

// Crashes: a write of 4 KiB that got `done` bytes far, at each of many lengths.

static void tear(uint64_t copy_index, const uint8_t *old, const uint8_t *new,
                 size_t done) {
    uint8_t torn[LABEL_COPY_SIZE];
    memcpy(torn, old, sizeof(torn));
    memcpy(torn, new, done);
    poke((off_t)LABEL_COPY_OFFSET(copy_index), torn, sizeof(torn));
}

static void peek(uint64_t copy_index, uint8_t *bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(
        pread(fd, bytes, LABEL_COPY_SIZE, (off_t)LABEL_COPY_OFFSET(copy_index)),
        LABEL_COPY_SIZE);
    close(fd);
}

static void a_crash_leaves_old_or_new(void **state) {
    (void)state;
    label_t older = update(command(LABEL_IMPORT, "n1", 5), LABEL_CHANGED);
    for (uint64_t round = 0; round < 3; round++) {
        uint8_t before[2][LABEL_COPY_SIZE];
        peek(0, before[0]);
        peek(1, before[1]);
        label_t newer =
            update(command(LABEL_IMPORT, "n1", 6 + round), LABEL_CHANGED);
        uint64_t written = (newer.generation - 1) % LABEL_COPIES;
        uint8_t after[LABEL_COPY_SIZE];
        peek(written, after);
        uint8_t other[LABEL_COPY_SIZE];
        peek(1 - written, other);
        assert_memory_equal(other, before[1 - written], LABEL_COPY_SIZE);
        for (size_t done = 0; done <= LABEL_COPY_SIZE; done += 64) {
            tear(written, before[written], after, done);
            label_t label;
            assert_int_equal(read_label(&label), LABEL_OK);
            assert_int_equal(label.generation, done == LABEL_COPY_SIZE
                                                   ? newer.generation
                                                   : older.generation);
        }
        older = newer;
    }
}

static void a_torn_first_label_is_written_again(void **state) {
    (void)state;
    uint8_t zero[LABEL_COPY_SIZE] = {0};
    label_t first = {.generation = 1};
    FLEET_COPY(first.set, "www");
    uint8_t copy[LABEL_COPY_SIZE];
    label_encode(&first, copy);
    for (size_t done = 0; done < LABEL_COPY_SIZE; done += 512) {
        tear(0, zero, copy, done);
        label_t label;
        assert_int_equal(read_label(&label), LABEL_OK);
        assert_int_equal(label.generation, 0);
    }
    label_t label = update(command(LABEL_IMPORT, "n1", 1), LABEL_CHANGED);
    assert_string_equal(label.owner, "n1");
    // From here on there are two, and one that is damaged never reads as none.
    uint8_t junk[LABEL_COPY_SIZE];
    memset(junk, 0x5a, sizeof(junk));
    poke((off_t)LABEL_COPY_OFFSET(0), junk, sizeof(junk));
    assert_int_equal(read_label(&label), LABEL_OK);
    assert_string_equal(label.owner, "n1");
    poke((off_t)LABEL_COPY_OFFSET(1), junk, sizeof(junk));
    assert_int_equal(read_label(&label), LABEL_DAMAGED);
}

static void what_is_not_an_image_is_left_alone(void **state) {
    (void)state;
    static const off_t places[] = {
        0, 510, 1024, 4096, 65536, 200000, (off_t)LABEL_DITCH_OFFSET};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        poke(places[i], "x", 1);
        label_t label;
        assert_int_equal(read_label(&label), LABEL_NOT_OURS);
        poke(places[i], "", 1);
        assert_int_equal(read_label(&label), LABEL_OK);
    }
    assert_int_equal(truncate(path, (off_t)LABEL_AREA_SIZE), 0);
    label_t label;
    assert_int_equal(read_label(&label), LABEL_NOT_OURS);
}

static void nothing_is_written_for_a_refusal(void **state) {
    (void)state;
    label_t label = update(command(LABEL_RELEASE, "n1", 5), LABEL_AS_IS);
    assert_int_equal(label.generation, 0);
    uint8_t zero[LABEL_COPY_SIZE] = {0};
    uint8_t copy[LABEL_COPY_SIZE];
    peek(0, copy);
    assert_memory_equal(copy, zero, sizeof(zero));
}

static void the_lock_is_waited_for_and_no_longer(void **state) {
    (void)state;
    int holder = label_open(path);
    assert_true(holder >= 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(holder, F_OFD_SETLK, &lock), 0);
    int fd = label_open(path);
    label_command_t asked = command(LABEL_IMPORT, "n1", 5);
    label_t label;
    label_verdict_t verdict;
    fleet_text_t why;
    assert_int_equal(label_update(fd, &asked, 20, &label, &verdict, &why),
                     LABEL_LOCKED);
    close(holder);
    assert_int_equal(label_update(fd, &asked, 20, &label, &verdict, &why),
                     LABEL_OK);
    close(fd);
}

// Many at once: of those that ask for the same free lock exactly one gets it.
static void one_of_many_wins(void **state) {
    (void)state;
    enum { NODES = 8 };
    pid_t pids[NODES];
    for (int i = 0; i < NODES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            fleet_name_t node;
            FLEET_FORMAT(node, "n%d", i);
            label_command_t asked = command(LABEL_IMPORT, node, 5);
            int fd = label_open(path);
            label_t label;
            label_verdict_t verdict = LABEL_REFUSED;
            fleet_text_t why;
            label_err_t err =
                label_update(fd, &asked, LIMIT_MS, &label, &verdict, &why);
            _exit(err != LABEL_OK ? 2 : verdict == LABEL_CHANGED ? 0 : 1);
        }
    }
    int winners = 0;
    for (int i = 0; i < NODES; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        winners += WEXITSTATUS(status) == 0;
    }
    assert_int_equal(winners, 1);
}

#define WITH_FILE(test)                                                        \
    cmocka_unit_test_setup_teardown(test, make_file, remove_file)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(p9_conditions),
        cmocka_unit_test(another_sets_label_is_refused),
        cmocka_unit_test(survives_the_bytes),
        WITH_FILE(since_is_the_beginning_of_a_holding),
        WITH_FILE(kernel_is_kept_by_evict_and_cleared_by_release),
        WITH_FILE(a_crash_leaves_old_or_new),
        WITH_FILE(a_torn_first_label_is_written_again),
        WITH_FILE(what_is_not_an_image_is_left_alone),
        WITH_FILE(nothing_is_written_for_a_refusal),
        WITH_FILE(the_lock_is_waited_for_and_no_longer),
        WITH_FILE(one_of_many_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
