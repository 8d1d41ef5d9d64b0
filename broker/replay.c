// SPDX-License-Identifier: MIT
//
// From the store to a core.  Every entry is read and verified at every start:
// its hash, that it follows the one before, its commit's signature, and that it
// is filed under what it says.  A snapshot only saves folding it once more.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "broker/shell.h"
#include "broker/squeeze.h"
#include "proto/text.h"

#define MAGIC "fleet-snapshot-2"
#define VIEW_MAX (64 * 1024 * 1024)
#define PATIENCE 5000 // entries between two words to systemd

// What a snapshot's data begins with; behind it are core and view, squeezed.
typedef struct snapshot_head {
    char magic[16];
    fleet_key_t hash; // of everything behind this
    uint64_t core_size;
    uint64_t view_size;
} snapshot_head_t;

typedef struct replay {
    shell_t *shell;
    store_snapshot_t snapshot; // seq 0: there is none that can be used
    uint64_t seq;              // of the last entry read
    fleet_key_t hash;          // of it
    bool is_signed;            // it ended a commit
    fleet_key_t sign_key;      // of the reign
    int64_t wall_to_boot_us;
    fleet_message_t event;
    fleet_err_t err;
    fleet_text_t why;
} replay_t;

static void snapshot_hash(const uint8_t *data, size_t size,
                          fleet_key_t ret_hash) {
    fleet_bytes_t part = {.data = data, .size = size};
    fleet_hash(&part, 1, ret_hash);
}

// Puts a snapshot into the fresh core and view.  False: it is of another
// program, of other limits, or damaged, and everything is folded from the
// start.
static bool restore(shell_t *shell, const store_snapshot_t *snapshot) {
    snapshot_head_t head;
    fleet_key_t hash;
    if (snapshot->seq == 0 || snapshot->size < sizeof head ||
        strcmp(snapshot->version, FLEET_VERSION) != 0) {
        return false;
    }
    memcpy(&head, snapshot->data, sizeof head);
    const uint8_t *squeezed = snapshot->data + sizeof head;
    size_t squeezed_size = snapshot->size - sizeof head;
    snapshot_hash(squeezed, squeezed_size, hash);
    if (memcmp(head.magic, MAGIC, sizeof head.magic) != 0 ||
        memcmp(head.hash, hash, sizeof hash) != 0 ||
        head.core_size != broker_core_durable_size(shell->core) ||
        head.view_size > VIEW_MAX) {
        return false;
    }
    size_t size = head.core_size + head.view_size;
    uint8_t *data = malloc(size + 1);
    if (data == NULL) {
        abort();
    }
    bool good =
        squeeze_undo(squeezed, squeezed_size, data, size) &&
        broker_core_restore(shell->core, data, head.core_size) == FLEET_OK &&
        view_load(shell->view, data + head.core_size, head.view_size);
    free(data);
    return good;
}

static bool stop(replay_t *replay, const char *what, uint64_t seq) {
    fleet_text_format(replay->why, sizeof replay->why,
                      "the journal is damaged: entry %" PRIu64 " %s", seq,
                      what);
    replay->err = FLEET_STORE_FAILED;
    return false;
}

static bool check_signature(replay_t *replay, const store_entry_t *entry) {
    if (replay->event.type == FLEET_MESSAGE_reign_began) {
        memcpy(replay->sign_key, replay->event.reign_began.sign_key,
               FLEET_KEY_SIZE);
    }
    replay->is_signed = entry->is_signed;
    return !entry->is_signed ||
           fleet_sign_ok(replay->sign_key, entry->hash, entry->signature);
}

static bool on_entry(void *context, const store_entry_t *entry) {
    replay_t *replay = context;
    shell_t *shell = replay->shell;
    fleet_text_t why = "";
    if (entry->seq != replay->seq + 1) {
        return stop(replay, "is missing", replay->seq + 1);
    }
    if (entry_open(entry, replay->hash, &replay->event, why) != FLEET_OK) {
        fleet_text_format(replay->why, sizeof replay->why,
                          "the journal is damaged: %s", why);
        replay->err = FLEET_STORE_FAILED;
        return false;
    }
    if (!check_signature(replay, entry)) {
        return stop(replay, "has a signature that is wrong", entry->seq);
    }
    if (entry->seq == replay->snapshot.seq &&
        memcmp(entry->hash, replay->snapshot.hash, FLEET_KEY_SIZE) != 0) {
        return stop(replay, "is not the one of the snapshot", entry->seq);
    }
    replay->seq = entry->seq;
    memcpy(replay->hash, entry->hash, FLEET_KEY_SIZE);
    book_fold(shell->book, &replay->event,
              (int64_t)replay->event.event.head.time_us +
                  replay->wall_to_boot_us);
    book_settle(shell->book);
    if (entry->seq > replay->snapshot.seq) {
        if (broker_core_apply(shell->core, &replay->event) != FLEET_OK) {
            return stop(replay, "cannot follow the ones before it", entry->seq);
        }
        view_fold(shell->view, &replay->event);
    }
    if (entry->seq % PATIENCE == 0) {
        sd_notifyf(0,
                   "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=reading entry "
                   "%" PRIu64,
                   entry->seq);
    }
    return true;
}

static int64_t wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

// What can only be said once everything was read.
static fleet_err_t check_end(replay_t *replay) {
    shell_t *shell = replay->shell;
    if (replay->err != FLEET_OK) {
        return replay->err;
    }
    if (replay->snapshot.seq > replay->seq) {
        stop(replay, "is missing: a snapshot says that there was one",
             replay->snapshot.seq);
    } else if (replay->seq > 0 && !replay->is_signed) {
        stop(replay, "does not end its commit: what followed is missing",
             replay->seq);
    } else {
        assert(broker_core_seq(shell->core) == replay->seq);
    }
    if (replay->err == FLEET_OK && replay->seq > 0 &&
        memcmp(replay->sign_key, shell->sign.public_key, FLEET_KEY_SIZE) != 0) {
        broker_log_warning(
            "the journal was signed with another key so far: "
            "this broker has a new one");
    }
    return replay->err;
}

static void make_core(shell_t *shell) {
    broker_config_t config;
    broker_config_core(&shell->settings, shell->sign.public_key, &config);
    size_t size = broker_core_size(&config.limits);
    if (shell->memory == NULL) {
        shell->memory = malloc(size);
        shell->effects = malloc(sizeof *shell->effects);
        if (shell->memory == NULL || shell->effects == NULL) {
            abort();
        }
    }
    shell->core = broker_core_init(shell->memory, &config);
}

fleet_err_t shell_replay(shell_t *shell, fleet_text_t ret_why) {
    fleet_err_t err =
        store_sqlite_open(shell->settings.store, &shell->store, ret_why);
    if (err != FLEET_OK) {
        return err;
    }
    replay_t *replay = calloc(1, sizeof *replay);
    if (replay == NULL) {
        abort();
    }
    replay->shell = shell;
    replay->wall_to_boot_us = shell->now_us - wall_us();
    make_core(shell);
    store_snapshot_t snapshot = {0};
    err = store_snapshot_read(shell->store, &snapshot, ret_why);
    if (err == FLEET_OK && restore(shell, &snapshot)) {
        replay->snapshot = snapshot;
    } else {
        make_core(shell);
    }
    if (err == FLEET_OK) {
        err = store_read(shell->store, 1, INT64_MAX, on_entry, replay, ret_why);
    }
    if (err == FLEET_OK && check_end(replay) != FLEET_OK) {
        memcpy(ret_why, replay->why, sizeof replay->why);
        err = replay->err;
    }
    memcpy(shell->head_hash, replay->hash, FLEET_KEY_SIZE);
    shell->snapshot_seq = replay->snapshot.seq;
    free(snapshot.data);
    free(replay);
    return err;
}

fleet_err_t shell_snapshot(shell_t *shell, fleet_text_t ret_why) {
    snapshot_head_t head = {.magic = MAGIC};
    uint8_t *view = NULL;
    uint8_t *squeezed = NULL;
    size_t view_size = 0;
    size_t squeezed_size = 0;
    view_save(shell->view, &view, &view_size);
    size_t core_size = broker_core_durable_size(shell->core);
    uint8_t *data = malloc(core_size + view_size + 1);
    if (data == NULL) {
        abort();
    }
    memcpy(data, broker_core_durable(shell->core), core_size);
    memcpy(data + core_size, view, view_size);
    free(view);
    squeeze(data, core_size + view_size, &squeezed, &squeezed_size);
    free(data);
    head.core_size = core_size;
    head.view_size = view_size;
    snapshot_hash(squeezed, squeezed_size, head.hash);
    data = malloc(sizeof head + squeezed_size);
    if (data == NULL) {
        abort();
    }
    memcpy(data, &head, sizeof head);
    memcpy(data + sizeof head, squeezed, squeezed_size);
    free(squeezed);
    store_snapshot_t snapshot = {.seq = broker_core_seq(shell->core),
                                 .version = FLEET_VERSION,
                                 .data = data,
                                 .size = sizeof head + squeezed_size};
    memcpy(snapshot.hash, shell->head_hash, FLEET_KEY_SIZE);
    fleet_err_t err = store_snapshot_write(shell->store, &snapshot, ret_why);
    free(data);
    if (err == FLEET_OK) {
        shell->snapshot_seq = snapshot.seq;
    }
    return err;
}
