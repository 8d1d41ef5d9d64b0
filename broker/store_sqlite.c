// SPDX-License-Identifier: MIT
//
// The store of one broker: an SQLite file in WAL mode with full synchronous
// commits, one connection, held exclusively, and a lock file beside it so that
// a second broker is refused with a sentence and not with a busy database.
//
// One table of entries; what looks like tables of transfers and definitions are
// partial indexes over it, so that there is one truth and the hash chain covers
// it.

#include "broker/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/text.h"

#define FORMAT 1
#define APPLICATION 0x666c6565 // "flee", in the file's header
#define PATH_SIZE 512

enum statement {
    APPEND,
    HEAD,
    FIRST,
    READ,
    ENDED_ALL,
    ENDED_SET,
    TRANSFER,
    DEFINITION,
    DEFINITION_NEWEST,
    SNAPSHOT_WRITE,
    SNAPSHOT_READ,
    CLEAN_READ,
    CLEAN_WRITE,
    STATEMENTS
};

#define COLUMNS                                                                \
    "seq, type, set_name, transfer, rev, previous, hash, signature, event, "   \
    "beside"

static const char *const statement_texts[STATEMENTS] = {
    [APPEND] = "INSERT INTO entries (" COLUMNS
               ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [HEAD] = "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1",
    [FIRST] = "SELECT seq FROM entries ORDER BY seq LIMIT 1",
    [READ] =
        "SELECT " COLUMNS " FROM entries WHERE seq >= ? ORDER BY seq LIMIT ?",
    // 110 is transfer.ended; the index is partial, so the number has to be
    // here.
    [ENDED_ALL] = "SELECT * FROM (SELECT " COLUMNS
                  " FROM entries"
                  " WHERE type = 110 ORDER BY seq DESC LIMIT ?) ORDER BY seq",
    [ENDED_SET] = "SELECT * FROM (SELECT " COLUMNS
                  " FROM entries"
                  " WHERE type = 110 AND set_name = ?"
                  " ORDER BY seq DESC LIMIT ?) ORDER BY seq",
    [TRANSFER] = "SELECT " COLUMNS
                 " FROM entries WHERE seq = ?1"
                 " UNION ALL SELECT " COLUMNS
                 " FROM entries"
                 " WHERE transfer = ?1 AND transfer > 0 AND seq <> ?1"
                 " ORDER BY seq",
    [DEFINITION] = "SELECT " COLUMNS
                   " FROM entries"
                   " WHERE rev > 0 AND set_name = ? AND rev = ?"
                   " ORDER BY seq DESC LIMIT 1",
    [DEFINITION_NEWEST] = "SELECT " COLUMNS
                          " FROM entries"
                          " WHERE rev > 0 AND set_name = ?"
                          " ORDER BY seq DESC LIMIT 1",
    [SNAPSHOT_WRITE] = "REPLACE INTO snapshot VALUES (1, ?, ?, ?, ?)",
    [SNAPSHOT_READ] = "SELECT seq, hash, version, data FROM snapshot",
    [CLEAN_READ] = "SELECT clean FROM stop",
    [CLEAN_WRITE] = "REPLACE INTO stop (one, clean) VALUES (1, ?)",
};

static const char schema[] =
    "CREATE TABLE entries ("
    " seq INTEGER PRIMARY KEY,"
    " type INTEGER NOT NULL,"
    " set_name TEXT NOT NULL,"
    " transfer INTEGER NOT NULL,"
    " rev INTEGER NOT NULL,"
    " previous BLOB NOT NULL,"
    " hash BLOB NOT NULL,"
    " signature BLOB,"
    " event BLOB NOT NULL,"
    " beside BLOB NOT NULL) STRICT;"
    "CREATE INDEX entries_transfer ON entries (transfer) WHERE transfer > 0;"
    "CREATE INDEX entries_ended ON entries (set_name, seq) WHERE type = 110;"
    "CREATE INDEX entries_definition ON entries (set_name, seq) WHERE rev > 0;"
    "CREATE TABLE snapshot ("
    " one INTEGER PRIMARY KEY CHECK (one = 1),"
    " seq INTEGER NOT NULL,"
    " hash BLOB NOT NULL,"
    " version TEXT NOT NULL,"
    " data BLOB NOT NULL) STRICT;"
    "CREATE TABLE stop ("
    " one INTEGER PRIMARY KEY CHECK (one = 1),"
    " clean INTEGER NOT NULL) STRICT;";

typedef struct sqlite_store {
    store_t store;
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
    int lock_fd;
    char path[PATH_SIZE];
} sqlite_store_t;

static_assert(FLEET_MESSAGE_transfer_ended == 110,
              "the statements name this number");

static sqlite_store_t *of(store_t *store) {
    return (sqlite_store_t *)store;
}

// What SQLite said, the file, and how much room its disk has: the commonest
// reason by far is that there is none.
static fleet_err_t fail(const sqlite_store_t *self, const char *doing,
                        uint64_t bytes, fleet_text_t ret_why) {
    int code = sqlite3_errcode(self->db);
    struct statvfs room;
    if ((code == SQLITE_FULL || code == SQLITE_IOERR) &&
        statvfs(self->path, &room) == 0) {
        fleet_text_format(
            ret_why, sizeof(fleet_text_t),
            "cannot %s the journal %.120s: %s; its file system has %" PRIu64
            " KiB free, about %" PRIu64 " KiB are needed",
            doing, self->path, sqlite3_errmsg(self->db),
            (uint64_t)room.f_bavail * room.f_frsize / 1024,
            // SQLite writes whole pages, and the WAL a frame for each.
            (bytes + 64 * 1024) / 1024);
    } else {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot %s the journal %.120s: %s", doing, self->path,
                          sqlite3_errmsg(self->db));
    }
    return FLEET_STORE_FAILED;
}

static bool run(sqlite_store_t *self, const char *sql) {
    return sqlite3_exec(self->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static void bind_entry(sqlite3_stmt *s, const store_entry_t *entry) {
    static const char nothing[1];
    const void *beside = entry->beside.size > 0 ? entry->beside.data : nothing;
    int bad = 0;
    bad |= sqlite3_bind_int64(s, 1, (sqlite3_int64)entry->seq);
    bad |= sqlite3_bind_int64(s, 2, (sqlite3_int64)entry->type);
    bad |= sqlite3_bind_text(s, 3, entry->set, -1, SQLITE_STATIC);
    bad |= sqlite3_bind_int64(s, 4, (sqlite3_int64)entry->transfer);
    bad |= sqlite3_bind_int64(s, 5, (sqlite3_int64)entry->rev);
    bad |=
        sqlite3_bind_blob(s, 6, entry->previous, FLEET_KEY_SIZE, SQLITE_STATIC);
    bad |= sqlite3_bind_blob(s, 7, entry->hash, FLEET_KEY_SIZE, SQLITE_STATIC);
    if (entry->is_signed) {
        bad |= sqlite3_bind_blob(s, 8, entry->signature, FLEET_SIGNATURE_SIZE,
                                 SQLITE_STATIC);
    } else {
        bad |= sqlite3_bind_null(s, 8);
    }
    bad |= sqlite3_bind_blob64(s, 9, entry->event.data, entry->event.size,
                               SQLITE_STATIC);
    bad |=
        sqlite3_bind_blob64(s, 10, beside, entry->beside.size, SQLITE_STATIC);
    assert(bad == 0);
}

static fleet_err_t sqlite_append(store_t *store, const store_entry_t *entries,
                                 size_t entries_n, fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    uint64_t bytes = 0;
    for (size_t i = 0; i < entries_n; i++) {
        bytes += entries[i].event.size + entries[i].beside.size + 512;
    }
    if (!run(self, "BEGIN IMMEDIATE")) {
        return fail(self, "write", bytes, ret_why);
    }
    sqlite3_stmt *s = self->statements[APPEND];
    for (size_t i = 0; i < entries_n; i++) {
        bind_entry(s, &entries[i]);
        int code = sqlite3_step(s);
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
        if (code != SQLITE_DONE) {
            fail(self, "write", bytes, ret_why);
            run(self, "ROLLBACK");
            return FLEET_STORE_FAILED;
        }
    }
    if (!run(self, "COMMIT")) {
        fail(self, "write", bytes, ret_why);
        run(self, "ROLLBACK");
        return FLEET_STORE_FAILED;
    }
    return FLEET_OK;
}

// A blob of exactly `size` bytes, or false.
static bool column_fixed(sqlite3_stmt *s, int column, void *ret_bytes,
                         size_t size) {
    if ((size_t)sqlite3_column_bytes(s, column) != size) {
        return false;
    }
    memcpy(ret_bytes, sqlite3_column_blob(s, column), size);
    return true;
}

static bool column_entry(sqlite3_stmt *s, store_entry_t *ret_entry) {
    memset(ret_entry, 0, sizeof *ret_entry);
    ret_entry->seq = (uint64_t)sqlite3_column_int64(s, 0);
    ret_entry->type = (uint64_t)sqlite3_column_int64(s, 1);
    FLEET_COPY(ret_entry->set, (const char *)sqlite3_column_text(s, 2));
    ret_entry->transfer = (uint64_t)sqlite3_column_int64(s, 3);
    ret_entry->rev = (uint64_t)sqlite3_column_int64(s, 4);
    ret_entry->is_signed = sqlite3_column_type(s, 7) != SQLITE_NULL;
    // The size is asked for after the bytes: SQLite may convert in between.
    ret_entry->event.data = sqlite3_column_blob(s, 8);
    ret_entry->event.size = (size_t)sqlite3_column_bytes(s, 8);
    ret_entry->beside.data = sqlite3_column_blob(s, 9);
    ret_entry->beside.size = (size_t)sqlite3_column_bytes(s, 9);
    return column_fixed(s, 5, ret_entry->previous, FLEET_KEY_SIZE) &&
           column_fixed(s, 6, ret_entry->hash, FLEET_KEY_SIZE) &&
           (!ret_entry->is_signed ||
            column_fixed(s, 7, ret_entry->signature, FLEET_SIGNATURE_SIZE));
}

// Steps through a bound statement, and resets it.
static fleet_err_t each(sqlite_store_t *self, sqlite3_stmt *s,
                        store_on_entry_t *on_entry, void *context,
                        fleet_text_t ret_why) {
    int code;
    store_entry_t entry;
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        if (!column_entry(s, &entry)) {
            fleet_text_format(ret_why, sizeof(fleet_text_t),
                              "the journal %.120s is damaged: entry %" PRIu64
                              " has a hash or signature of a wrong size",
                              self->path, entry.seq);
            sqlite3_reset(s);
            return FLEET_STORE_FAILED;
        }
        if (!on_entry(context, &entry)) {
            break;
        }
    }
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        fail(self, "read", 0, ret_why);
        sqlite3_reset(s);
        return FLEET_STORE_FAILED;
    }
    sqlite3_reset(s);
    return FLEET_OK;
}

static fleet_err_t sqlite_head(store_t *store, store_head_t *ret_head,
                               fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    store_head_t head = {0};
    sqlite3_stmt *s = self->statements[HEAD];
    int code = sqlite3_step(s);
    bool good = code == SQLITE_DONE;
    if (code == SQLITE_ROW) {
        head.seq = (uint64_t)sqlite3_column_int64(s, 0);
        good = column_fixed(s, 1, head.hash, FLEET_KEY_SIZE);
    }
    sqlite3_reset(s);
    s = self->statements[FIRST];
    if (good && sqlite3_step(s) == SQLITE_ROW) {
        head.first = (uint64_t)sqlite3_column_int64(s, 0);
    }
    sqlite3_reset(s);
    if (!good || (head.seq > 0 && head.first == 0)) {
        return fail(self, "read", 0, ret_why);
    }
    *ret_head = head;
    return FLEET_OK;
}

static fleet_err_t sqlite_read(store_t *store, uint64_t seq, uint64_t limit,
                               store_on_entry_t *on_entry, void *context,
                               fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    sqlite3_stmt *s = self->statements[READ];
    sqlite3_bind_int64(s, 1, (sqlite3_int64)(seq & INT64_MAX));
    sqlite3_bind_int64(s, 2, (sqlite3_int64)(limit & INT64_MAX));
    return each(self, s, on_entry, context, ret_why);
}

static fleet_err_t sqlite_ended(store_t *store, const char *set, uint64_t limit,
                                store_on_entry_t *on_entry, void *context,
                                fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    sqlite3_stmt *s = self->statements[set[0] ? ENDED_SET : ENDED_ALL];
    int at = 1;
    if (set[0]) {
        sqlite3_bind_text(s, at++, set, -1, SQLITE_TRANSIENT);
    }
    sqlite3_bind_int64(s, at, (sqlite3_int64)(limit & INT64_MAX));
    return each(self, s, on_entry, context, ret_why);
}

static fleet_err_t sqlite_transfer(store_t *store, uint64_t transfer,
                                   store_on_entry_t *on_entry, void *context,
                                   fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    sqlite3_stmt *s = self->statements[TRANSFER];
    sqlite3_bind_int64(s, 1, (sqlite3_int64)(transfer & INT64_MAX));
    return each(self, s, on_entry, context, ret_why);
}

static fleet_err_t sqlite_definition(store_t *store, const char *set,
                                     uint64_t rev, store_on_entry_t *on_entry,
                                     void *context, fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    sqlite3_stmt *s =
        self->statements[rev > 0 ? DEFINITION : DEFINITION_NEWEST];
    sqlite3_bind_text(s, 1, set, -1, SQLITE_TRANSIENT);
    if (rev > 0) {
        sqlite3_bind_int64(s, 2, (sqlite3_int64)(rev & INT64_MAX));
    }
    return each(self, s, on_entry, context, ret_why);
}

static fleet_err_t sqlite_snapshot_write(store_t *store,
                                         const store_snapshot_t *snapshot,
                                         fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    sqlite3_stmt *s = self->statements[SNAPSHOT_WRITE];
    sqlite3_bind_int64(s, 1, (sqlite3_int64)snapshot->seq);
    sqlite3_bind_blob(s, 2, snapshot->hash, FLEET_KEY_SIZE, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, snapshot->version, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 4, snapshot->data, snapshot->size, SQLITE_STATIC);
    int code = sqlite3_step(s);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return code == SQLITE_DONE
               ? FLEET_OK
               : fail(self, "write a snapshot into", snapshot->size, ret_why);
}

static fleet_err_t sqlite_snapshot_read(store_t *store,
                                        store_snapshot_t *ret_snapshot,
                                        fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    store_snapshot_t snapshot = {0};
    sqlite3_stmt *s = self->statements[SNAPSHOT_READ];
    int code = sqlite3_step(s);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        sqlite3_reset(s);
        return fail(self, "read", 0, ret_why);
    }
    if (code == SQLITE_ROW &&
        column_fixed(s, 1, snapshot.hash, FLEET_KEY_SIZE)) {
        snapshot.seq = (uint64_t)sqlite3_column_int64(s, 0);
        FLEET_COPY(snapshot.version, (const char *)sqlite3_column_text(s, 2));
        const void *data = sqlite3_column_blob(s, 3);
        snapshot.size = (size_t)sqlite3_column_bytes(s, 3);
        snapshot.data = malloc(snapshot.size + 1);
        if (snapshot.data == NULL) {
            abort();
        }
        if (snapshot.size > 0) {
            memcpy(snapshot.data, data, snapshot.size);
        }
    }
    sqlite3_reset(s);
    *ret_snapshot = snapshot;
    return FLEET_OK;
}

static bool clean_write(sqlite_store_t *self, bool clean) {
    sqlite3_stmt *s = self->statements[CLEAN_WRITE];
    sqlite3_bind_int(s, 1, clean ? 1 : 0);
    int code = sqlite3_step(s);
    sqlite3_reset(s);
    return code == SQLITE_DONE;
}

static void discard(sqlite_store_t *self) {
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(self->statements[i]);
    }
    sqlite3_close(self->db);
    if (self->lock_fd >= 0) {
        close(self->lock_fd);
    }
    free(self);
}

static fleet_err_t sqlite_close(store_t *store, bool clean,
                                fleet_text_t ret_why) {
    sqlite_store_t *self = of(store);
    fleet_err_t err = FLEET_OK;
    if (clean && !clean_write(self, true)) {
        err = fail(self, "close", 0, ret_why);
    }
    discard(self);
    return err;
}

static const store_ops_t sqlite_ops = {
    .append = sqlite_append,
    .head = sqlite_head,
    .read = sqlite_read,
    .ended = sqlite_ended,
    .transfer = sqlite_transfer,
    .definition = sqlite_definition,
    .snapshot_write = sqlite_snapshot_write,
    .snapshot_read = sqlite_snapshot_read,
    .close = sqlite_close,
};

// The lock lives as long as the process: a killed broker leaves none behind.
static fleet_err_t lock(sqlite_store_t *self, fleet_text_t ret_why) {
    char path[PATH_SIZE + 8];
    snprintf(path, sizeof path, "%s.lock", self->path);
    self->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (self->lock_fd < 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "cannot open the lock file %.160s: %s", path,
                          strerror(errno));
        return FLEET_STORE_FAILED;
    }
    char pid[32] = "";
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (pread(self->lock_fd, pid, sizeof pid - 1, 0) <= 0) {
            pid[0] = '\0';
        }
        pid[strcspn(pid, "\n")] = '\0';
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "another broker, process %s, has the journal %.160s "
                          "open: one store serves one broker",
                          pid[0] ? pid : "unknown", self->path);
        return FLEET_STORE_FAILED;
    }
    // Only for the sentence above; a full disk may leave it empty.
    int length = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(self->lock_fd, 0) < 0 ||
        pwrite(self->lock_fd, pid, (size_t)length, 0) < 0) {
        errno = 0;
    }
    return FLEET_OK;
}

static int64_t number_of(sqlite_store_t *self, const char *pragma) {
    sqlite3_stmt *s = NULL;
    int64_t number = -1;
    if (sqlite3_prepare_v2(self->db, pragma, -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW) {
        number = sqlite3_column_int64(s, 0);
    }
    sqlite3_finalize(s);
    return number;
}

// Makes the tables of a new file, all or none; refuses a file of another kind.
static fleet_err_t make_tables(sqlite_store_t *self, fleet_text_t ret_why) {
    int64_t format = number_of(self, "PRAGMA user_version");
    int64_t tables = number_of(self, "SELECT count(*) FROM sqlite_schema");
    if (format < 0 || tables < 0) {
        return fail(self, "read", 0, ret_why);
    }
    if (format == 0 && tables == 0) {
        char text[sizeof schema + 128];
        snprintf(text, sizeof text,
                 "BEGIN; PRAGMA application_id = %d; %s"
                 "PRAGMA user_version = %d; COMMIT",
                 APPLICATION, schema, FORMAT);
        if (!run(self, text)) {
            return fail(self, "make", 0, ret_why);
        }
        return FLEET_OK;
    }
    if (format != FORMAT ||
        number_of(self, "PRAGMA application_id") != APPLICATION) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "%.160s is no journal of this program: its format is "
                          "%" PRId64 ", %d is expected",
                          self->path, format, FORMAT);
        return FLEET_STORE_FAILED;
    }
    return FLEET_OK;
}

static fleet_err_t check_damage(sqlite_store_t *self, fleet_text_t ret_why) {
    sqlite3_stmt *s = NULL;
    const char *said = NULL;
    if (sqlite3_prepare_v2(self->db, "PRAGMA quick_check(1)", -1, &s, NULL) ==
            SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW) {
        said = (const char *)sqlite3_column_text(s, 0);
    }
    bool good = said != NULL && strcmp(said, "ok") == 0;
    if (!good) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "the journal %.100s is damaged, SQLite says: %.120s",
                          self->path, said ? said : sqlite3_errmsg(self->db));
    }
    sqlite3_finalize(s);
    return good ? FLEET_OK : FLEET_STORE_FAILED;
}

static fleet_err_t open_file(sqlite_store_t *self, fleet_text_t ret_why) {
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    mode_t mask = umask(0077);
    int code = sqlite3_open_v2(self->path, &self->db, flags, NULL);
    // The pragmas touch the file, and so make it, under the umask above.
    bool good = code == SQLITE_OK &&
                run(self, "PRAGMA locking_mode = EXCLUSIVE") &&
                run(self, "PRAGMA journal_mode = WAL") &&
                run(self, "PRAGMA synchronous = FULL");
    umask(mask);
    if (!good) {
        return fail(self, "open", 0, ret_why);
    }
    fleet_err_t err = make_tables(self, ret_why);
    if (err != FLEET_OK) {
        return err;
    }
    for (int i = 0; i < STATEMENTS; i++) {
        if (sqlite3_prepare_v3(self->db, statement_texts[i], -1,
                               SQLITE_PREPARE_PERSISTENT, &self->statements[i],
                               NULL) != SQLITE_OK) {
            return fail(self, "open", 0, ret_why);
        }
    }
    sqlite3_stmt *s = self->statements[CLEAN_READ];
    bool clean = sqlite3_step(s) != SQLITE_ROW || sqlite3_column_int(s, 0) == 1;
    sqlite3_reset(s);
    if (!clean) {
        return check_damage(self, ret_why);
    }
    return clean_write(self, false) ? FLEET_OK
                                    : fail(self, "write", 4096, ret_why);
}

fleet_err_t store_sqlite_open(const char *path, store_t **ret_store,
                              fleet_text_t ret_why) {
    if (strlen(path) >= PATH_SIZE) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "the journal's path is longer than %d bytes",
                          PATH_SIZE - 1);
        return FLEET_STORE_FAILED;
    }
    sqlite_store_t *self = calloc(1, sizeof *self);
    if (self == NULL) {
        abort();
    }
    self->store.ops = &sqlite_ops;
    self->lock_fd = -1;
    snprintf(self->path, sizeof self->path, "%s", path);
    fleet_err_t err = lock(self, ret_why);
    if (err == FLEET_OK) {
        err = open_file(self, ret_why);
    }
    if (err != FLEET_OK) {
        discard(self);
        return err;
    }
    *ret_store = &self->store;
    return FLEET_OK;
}
