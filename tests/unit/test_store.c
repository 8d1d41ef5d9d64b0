// SPDX-License-Identifier: MIT
//
// What every store has to do, run over the SQLite one, and what only a file can
// do wrong: damage, a second opener, a full disk.

#include "broker/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include "broker/entry.h"
#include "proto/text.h"

typedef struct world {
    char folder[64];
    char path[96];
    store_t *store;
    entry_batch_t *batch;
    fleet_sign_pair_t sign;
    fleet_key_t hash; // of the last entry that was made
    uint64_t seq;
    fleet_text_t why;
} world_t;

static int set_up(void **state) {
    world_t *world = calloc(1, sizeof *world);
    fleet_key_pair_t pair;
    assert_non_null(world);
    fleet_keys_init();
    fleet_key_pair_make(&pair);
    fleet_sign_pair_derive(&pair, &world->sign);
    snprintf(world->folder, sizeof world->folder, "/tmp/fleet-store-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->path, sizeof world->path, "%s/broker.db", world->folder);
    world->batch = entry_batch_new();
    assert_int_equal(store_sqlite_open(world->path, &world->store, world->why),
                     FLEET_OK);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    world_t *world = *state;
    store_close(&world->store, true, world->why);
    entry_batch_destroy(&world->batch);
    for (size_t i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", world->path, ends[i]);
        unlink(path);
    }
    rmdir(world->folder);
    free(world);
    return 0;
}

// ------------------------------------------------------------------- making

static fleet_message_t *next_event(world_t *world, fleet_message_type_t type,
                                   const char *set, uint64_t transfer) {
    static fleet_message_t event;
    memset(&event, 0, sizeof event);
    event.type = type;
    event.event.head.seq = ++world->seq;
    event.event.head.transfer = transfer;
    FLEET_COPY(event.event.head.set, set);
    return &event;
}

static void add(world_t *world, fleet_message_type_t type, const char *set,
                uint64_t transfer) {
    entry_batch_add(world->batch, next_event(world, type, set, transfer), NULL);
}

static void add_definition(world_t *world, const char *set, uint64_t rev,
                           const char *yaml) {
    static fleet_message_t beside;
    fleet_message_t *event =
        next_event(world, FLEET_MESSAGE_set_changed, set, 0);
    event->set_changed.rev = rev;
    memset(&beside, 0, sizeof beside);
    beside.type = FLEET_MESSAGE_definition;
    FLEET_COPY(beside.definition.set, set);
    FLEET_COPY(beside.definition.yaml, yaml);
    beside.definition.rev = rev;
    entry_batch_add(world->batch, event, &beside);
}

static fleet_err_t commit(world_t *world) {
    size_t n = entry_batch_count(world->batch);
    const store_entry_t *entries =
        entry_batch_seal(world->batch, world->hash, &world->sign);
    fleet_err_t err = store_append(world->store, entries, n, world->why);
    if (err == FLEET_OK) {
        memcpy(world->hash, entries[n - 1].hash, FLEET_KEY_SIZE);
    }
    entry_batch_reset(world->batch);
    return err;
}

static void reopen(world_t *world, bool clean) {
    assert_int_equal(store_close(&world->store, clean, world->why), FLEET_OK);
    assert_null(world->store);
    assert_int_equal(store_sqlite_open(world->path, &world->store, world->why),
                     FLEET_OK);
}

// ------------------------------------------------------------------- finding

typedef struct found {
    uint32_t n;
    uint64_t seqs[64];
    fleet_key_t hash; // to go on from
    fleet_err_t err;
    fleet_text_t why;
    size_t beside_size;
} found_t;

static bool on_entry(void *context, const store_entry_t *entry) {
    static fleet_message_t event;
    found_t *found = context;
    found->seqs[found->n++] = entry->seq;
    found->beside_size = entry->beside.size;
    fleet_err_t err = entry_open(entry, NULL, &event, found->why);
    if (found->err == FLEET_OK) {
        found->err = err;
    }
    return found->n < 64;
}

static bool on_chained(void *context, const store_entry_t *entry) {
    static fleet_message_t event;
    found_t *found = context;
    found->err = entry_open(entry, found->hash, &event, found->why);
    memcpy(found->hash, entry->hash, FLEET_KEY_SIZE);
    found->n++;
    return found->err == FLEET_OK;
}

static found_t verify(world_t *world) {
    found_t found = {0};
    assert_int_equal(
        store_read(world->store, 1, INT64_MAX, on_chained, &found, world->why),
        FLEET_OK);
    return found;
}

// --------------------------------------------------------------------- tests

static void empty_has_no_head(void **state) {
    world_t *world = *state;
    store_head_t head = {.seq = 7};
    assert_int_equal(store_head(world->store, &head, world->why), FLEET_OK);
    assert_int_equal(head.seq, 0);
    assert_int_equal(head.first, 0);
    found_t found = {0};
    store_read(world->store, 1, 10, on_entry, &found, world->why);
    assert_int_equal(found.n, 0);
}

static void appended_is_there_after_reopen(void **state) {
    world_t *world = *state;
    store_head_t head;
    add(world, FLEET_MESSAGE_node_added, "", 0);
    add(world, FLEET_MESSAGE_node_online, "", 0);
    assert_int_equal(commit(world), FLEET_OK);
    add(world, FLEET_MESSAGE_set_stuck, "www", 0);
    assert_int_equal(commit(world), FLEET_OK);
    for (int clean = 0; clean < 2; clean++) {
        reopen(world, clean == 1);
        assert_int_equal(store_head(world->store, &head, world->why), FLEET_OK);
        assert_int_equal(head.seq, 3);
        assert_int_equal(head.first, 1);
        assert_memory_equal(head.hash, world->hash, FLEET_KEY_SIZE);
        found_t found = verify(world);
        assert_int_equal(found.n, 3);
        assert_int_equal(found.err, FLEET_OK);
    }
}

static void read_gives_a_page(void **state) {
    world_t *world = *state;
    for (int i = 0; i < 10; i++) {
        add(world, FLEET_MESSAGE_node_added, "", 0);
    }
    assert_int_equal(commit(world), FLEET_OK);
    found_t found = {0};
    store_read(world->store, 4, 3, on_entry, &found, world->why);
    assert_int_equal(found.n, 3);
    assert_int_equal(found.seqs[0], 4);
    assert_int_equal(found.seqs[2], 6);
    assert_int_equal(found.err, FLEET_OK);
    found = (found_t){0};
    store_read(world->store, 11, 3, on_entry, &found, world->why);
    assert_int_equal(found.n, 0);
}

static void transfers_are_found(void **state) {
    world_t *world = *state;
    add(world, FLEET_MESSAGE_transfer_requested, "www", 0); // 1
    add(world, FLEET_MESSAGE_set_released, "www", 1);
    add(world, FLEET_MESSAGE_transfer_ended, "www", 1); // 3
    add(world, FLEET_MESSAGE_transfer_requested, "nfs", 0);
    add(world, FLEET_MESSAGE_transfer_ended, "nfs", 4); // 5
    add(world, FLEET_MESSAGE_transfer_requested, "www", 0);
    add(world, FLEET_MESSAGE_transfer_ended, "www", 6); // 7
    assert_int_equal(commit(world), FLEET_OK);
    found_t found = {0};
    store_ended(world->store, "", 2, on_entry, &found, world->why);
    assert_int_equal(found.n, 2);
    assert_int_equal(found.seqs[0], 5); // the newest two, the older first
    assert_int_equal(found.seqs[1], 7);
    found = (found_t){0};
    store_ended(world->store, "www", 9, on_entry, &found, world->why);
    assert_int_equal(found.n, 2);
    assert_int_equal(found.seqs[0], 3);
    found = (found_t){0};
    store_transfer(world->store, 1, on_entry, &found, world->why);
    assert_int_equal(found.n, 3);
    assert_int_equal(found.seqs[0], 1);
    assert_int_equal(found.seqs[2], 3);
    found = (found_t){0};
    store_transfer(world->store, 99, on_entry, &found, world->why);
    assert_int_equal(found.n, 0);
}

static void old_definitions_are_kept(void **state) {
    world_t *world = *state;
    add_definition(world, "www", 1, "format: 1\n");
    add_definition(world, "www", 2, "format: 1\nabout: more\n");
    assert_int_equal(commit(world), FLEET_OK);
    found_t found = {0};
    store_definition(world->store, "www", 1, on_entry, &found, world->why);
    assert_int_equal(found.n, 1);
    assert_int_equal(found.seqs[0], 1);
    size_t first = found.beside_size;
    found = (found_t){0};
    store_definition(world->store, "www", 0, on_entry, &found, world->why);
    assert_int_equal(found.seqs[0], 2);
    assert_true(found.beside_size > first);
    found = (found_t){0};
    store_definition(world->store, "www", 3, on_entry, &found, world->why);
    store_definition(world->store, "nfs", 0, on_entry, &found, world->why);
    assert_int_equal(found.n, 0);
}

static void snapshot_replaces_snapshot(void **state) {
    world_t *world = *state;
    uint8_t bytes[3000];
    store_snapshot_t read;
    assert_int_equal(store_snapshot_read(world->store, &read, world->why),
                     FLEET_OK);
    assert_int_equal(read.seq, 0);
    assert_null(read.data);
    for (uint8_t i = 1; i < 4; i++) {
        memset(bytes, i, sizeof bytes);
        store_snapshot_t written = {
            .seq = i, .version = "0.1.0", .data = bytes, .size = sizeof bytes};
        memset(written.hash, i, sizeof written.hash);
        assert_int_equal(
            store_snapshot_write(world->store, &written, world->why), FLEET_OK);
    }
    reopen(world, true);
    assert_int_equal(store_snapshot_read(world->store, &read, world->why),
                     FLEET_OK);
    assert_int_equal(read.seq, 3);
    assert_int_equal(read.size, sizeof bytes);
    assert_memory_equal(read.data, bytes, sizeof bytes);
    assert_string_equal(read.version, "0.1.0");
    assert_int_equal(read.hash[31], 3);
    free(read.data);
}

static void same_seq_twice_is_refused(void **state) {
    world_t *world = *state;
    add(world, FLEET_MESSAGE_node_added, "", 0);
    assert_int_equal(commit(world), FLEET_OK);
    world->seq = 0;
    add(world, FLEET_MESSAGE_node_added, "", 0);
    assert_int_equal(commit(world), FLEET_STORE_FAILED);
    assert_non_null(strstr(world->why, world->path));
    found_t found = verify(world);
    assert_int_equal(found.n, 1);
}

static void second_opener_is_refused(void **state) {
    world_t *world = *state;
    store_t *second = NULL;
    assert_int_equal(store_sqlite_open(world->path, &second, world->why),
                     FLEET_STORE_FAILED);
    assert_null(second);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(world->why, pid));
}

static void foreign_file_is_refused(void **state) {
    world_t *world = *state;
    store_close(&world->store, true, world->why);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(world->path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA user_version = 9", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_int_equal(store_sqlite_open(world->path, &world->store, world->why),
                     FLEET_STORE_FAILED);
    assert_non_null(strstr(world->why, "format is 9"));
    FILE *file = fopen(world->path, "w");
    assert_non_null(file);
    fputs("this is a text that somebody put here, not a database at all\n",
          file);
    fclose(file);
    assert_int_equal(store_sqlite_open(world->path, &world->store, world->why),
                     FLEET_STORE_FAILED);
}

static void rewrite(world_t *world, const char *sql) {
    sqlite3 *db = NULL;
    store_close(&world->store, true, world->why);
    assert_int_equal(sqlite3_open(world->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(store_sqlite_open(world->path, &world->store, world->why),
                     FLEET_OK);
}

// Each of these changes one thing of entry 3; the chain says which entry it
// was.
static void changed_row_is_named(void **state) {
    static const char *const changes[] = {
        "UPDATE entries SET event = zeroblob(8) WHERE seq = 3",
        "UPDATE entries SET beside = x'c0' WHERE seq = 3",
        "UPDATE entries SET hash = zeroblob(32) WHERE seq = 3",
        "UPDATE entries SET previous = zeroblob(32) WHERE seq = 3",
        "UPDATE entries SET set_name = 'ftp' WHERE seq = 3",
        "UPDATE entries SET transfer = 9 WHERE seq = 3",
        "UPDATE entries SET rev = 9 WHERE seq = 3",
        "UPDATE entries SET type = 1 WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 2",
    };
    world_t *world = *state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        world->seq = 0;
        memset(world->hash, 0, sizeof world->hash);
        rewrite(world, "DELETE FROM entries");
        for (int n = 0; n < 5; n++) {
            add(world, FLEET_MESSAGE_set_stuck, "www", 0);
            assert_int_equal(commit(world), FLEET_OK);
        }
        assert_int_equal(verify(world).err, FLEET_OK);
        rewrite(world, changes[i]);
        found_t found = verify(world);
        assert_int_equal(found.err, FLEET_BAD_MESSAGE);
        assert_non_null(strstr(found.why, "entry 3"));
    }
}

// A file that may grow no more is a disk that is full, on any machine.  In a
// child, because the limit cannot be taken back by an ordinary user.
static void full_disk_loses_nothing(void **state) {
    world_t *world = *state;
    store_close(&world->store, true, world->why);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
        int failed = 1;
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) == 0 &&
            store_sqlite_open(world->path, &world->store, world->why) ==
                FLEET_OK) {
            uint64_t written = 0;
            fleet_err_t err = FLEET_OK;
            while (err == FLEET_OK && written < 1000) {
                add_definition(world, "www", written + 1,
                               "about: a line that takes some room\n");
                err = commit(world);
                written += err == FLEET_OK ? 1 : 0;
            }
            // 20 is more than nothing and less than the loop's bound.
            failed = err != FLEET_STORE_FAILED || written < 20 ||
                     written > 250 || strstr(world->why, "KiB free") == NULL;
            if (failed == 0) {
                _exit((int)written);
            }
        }
        fprintf(stderr, "%s\n", world->why);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    int written = WEXITSTATUS(status);
    assert_true(written >= 20);
    assert_int_equal(store_sqlite_open(world->path, &world->store, world->why),
                     FLEET_OK);
    found_t found = verify(world);
    assert_int_equal(found.err, FLEET_OK);
    // Every acknowledged entry is there, and nothing else.
    assert_int_equal(found.n, written);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(empty_has_no_head),         TEST(appended_is_there_after_reopen),
        TEST(read_gives_a_page),         TEST(transfers_are_found),
        TEST(old_definitions_are_kept),  TEST(snapshot_replaces_snapshot),
        TEST(same_seq_twice_is_refused), TEST(second_opener_is_refused),
        TEST(foreign_file_is_refused),   TEST(changed_row_is_named),
        TEST(full_disk_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
