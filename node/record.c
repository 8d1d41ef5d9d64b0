// SPDX-License-Identifier: MIT
//
// Records as twin files (node/twin.h): two halves, one fdatasync.

#include "node/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/scan.h"
#include "proto/keys.h"
#include "proto/text.h"

typedef struct entry {
    fleet_name_t set; // empty: free
    twin_t twin;
} entry_t;

struct record_store {
    fleet_text_t state;
    fleet_id_t boot_id;
    fleet_id_t agent_id;
    int state_dir;
    int records_dir;
    int deadline_dir;
    twin_t term;
    // One more than the core keeps: a record is written before another is
    // forgotten.
    entry_t entries[NODE_SETS_MAX + 1];
};

// The folder and those above it.  -1 with errno.
static int open_folder(const char *path, mode_t mode) {
    char part[FLEET_TEXT_MAX + 32];
    snprintf(part, sizeof(part), "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST) {
            return -1;
        }
        *slash = '/';
    }
    if (mkdir(part, mode) < 0 && errno != EEXIST) {
        return -1;
    }
    return open(part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_below(const char *path, const char *name, mode_t mode) {
    char below[FLEET_TEXT_MAX + 32];
    snprintf(below, sizeof(below), "%s/%s", path, name);
    return open_folder(below, mode);
}

fleet_err_t record_store_new(const char *state, const char *run,
                             const char *boot_id, const char *agent_id,
                             record_store_t **ret_store, fleet_text_t ret_why) {
    record_store_t *store = calloc(1, sizeof(*store));
    if (!store) {
        abort();
    }
    FLEET_COPY(store->state, state);
    FLEET_COPY(store->boot_id, boot_id);
    FLEET_COPY(store->agent_id, agent_id);
    store->records_dir = -1;
    store->deadline_dir = -1;
    store->state_dir = open_folder(state, 0700);
    if (store->state_dir >= 0) {
        store->records_dir = open_below(state, "records", 0700);
    }
    // Anyone may ask the local socket, which is in here too.
    int run_dir = store->records_dir >= 0 ? open_folder(run, 0755) : -1;
    if (run_dir >= 0) {
        store->deadline_dir = open_below(run, "deadline", 0700);
        close(run_dir);
    }
    if (store->deadline_dir < 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "cannot make the folders %s and %s: %s", state, run,
                          strerror(errno));
        record_store_destroy(&store);
        return FLEET_STORE_FAILED;
    }
    *ret_store = store;
    return FLEET_OK;
}

void record_store_destroy(record_store_t **store_p) {
    record_store_t *store = *store_p;
    if (!store) {
        return;
    }
    int folders[] = {store->state_dir, store->records_dir, store->deadline_dir};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (folders[i] >= 0) {
            close(folders[i]);
        }
    }
    free(store);
    *store_p = NULL;
}

static entry_t *entry_find(record_store_t *store, const char *set) {
    for (size_t i = 0; i < NODE_SETS_MAX + 1; i++) {
        if (strcmp(store->entries[i].set, set) == 0) {
            return &store->entries[i];
        }
    }
    return NULL;
}

static void record_print(const record_t *record, char text[TWIN_TEXT_MAX + 1]) {
    int size = snprintf(text, TWIN_TEXT_MAX + 1,
                        "set %s\ntoken %" PRIu64 "\nphase %s\nrev %" PRIu64
                        "\nboot %s\nagent %s",
                        record->pair.set, record->pair.token,
                        fleet_phase_word(record->pair.phase), record->rev,
                        record->boot_id, record->agent_id);
    if (size < 0 || size > TWIN_TEXT_MAX) {
        abort(); // names and ids have bounds that exclude it
    }
}

static bool record_parse(const char *text, record_t *ret_record) {
    record_t record = {.rev = 0};
    char phase[16];
    bool ok =
        scan_word(&text, "set") &&
        scan_text(&text, record.pair.set, sizeof(record.pair.set)) &&
        scan_word(&text, "token") && scan_u64(&text, &record.pair.token) &&
        scan_word(&text, "phase") && scan_text(&text, phase, sizeof(phase)) &&
        scan_word(&text, "rev") && scan_u64(&text, &record.rev) &&
        scan_word(&text, "boot") &&
        scan_text(&text, record.boot_id, sizeof(record.boot_id)) &&
        scan_word(&text, "agent") &&
        scan_text(&text, record.agent_id, sizeof(record.agent_id)) &&
        scan_end(text) && record.pair.token <= FLEET_TOKEN_MAX &&
        fleet_phase_find(phase, &record.pair.phase);
    if (ok) {
        *ret_record = record;
    }
    return ok;
}

static fleet_err_t refuse(const record_store_t *store, const char *what,
                          fleet_text_t ret_why) {
    fleet_text_t said;
    FLEET_COPY(said, what);
    fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                      "%s/records/%s. Move it away, and the file %s/node too: "
                      "then the node says that it remembers nothing, and asks "
                      "the broker",
                      store->state, said, store->state);
    return FLEET_BAD_FILE;
}

static fleet_err_t load_one(record_store_t *store, const char *name,
                            record_t *ret_record, fleet_text_t ret_why) {
    fleet_text_t why;
    entry_t *entry = entry_find(store, name);
    entry = entry ? entry : entry_find(store, "");
    if (!entry) {
        FLEET_FORMAT(why,
                     "%s: is one more than the %d records that a node keeps",
                     name, NODE_SETS_MAX);
        return refuse(store, why, ret_why);
    }
    fleet_err_t err = twin_read(store->records_dir, name, &entry->twin, why);
    if (err != FLEET_OK) {
        return refuse(store, why, ret_why);
    }
    if (!record_parse(entry->twin.text, ret_record) ||
        strcmp(ret_record->pair.set, name) != 0) {
        FLEET_FORMAT(why, "%s: holds no record of that set", name);
        return refuse(store, why, ret_why);
    }
    FLEET_COPY(entry->set, name);
    return FLEET_OK;
}

fleet_err_t record_load(record_store_t *store, on_record_t *on_record,
                        void *context, fleet_text_t ret_why) {
    int fd = dup(store->records_dir);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s/records: %s",
                          store->state, strerror(errno));
        return FLEET_STORE_FAILED;
    }
    rewinddir(dir);
    fleet_err_t err = FLEET_OK;
    for (struct dirent *item; err == FLEET_OK && (item = readdir(dir));) {
        if (item->d_name[0] == '.') {
            continue; // also what a power cut left half written
        }
        record_t record;
        err = load_one(store, item->d_name, &record, ret_why);
        if (err == FLEET_OK && on_record) {
            on_record(context, &record);
        }
    }
    closedir(dir);
    return err;
}

fleet_err_t record_write(record_store_t *store, const fleet_pair_t *pair,
                         uint64_t rev, fleet_text_t ret_why) {
    entry_t *entry = entry_find(store, pair->set);
    entry = entry ? entry : entry_find(store, "");
    if (!entry) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "%s: the node has %d records already", pair->set,
                          NODE_SETS_MAX);
        return FLEET_STORE_FAILED;
    }
    record_t record = {.pair = *pair, .rev = rev};
    FLEET_COPY(record.boot_id, store->boot_id);
    FLEET_COPY(record.agent_id, store->agent_id);
    char text[TWIN_TEXT_MAX + 1];
    record_print(&record, text);
    fleet_err_t err =
        twin_write(store->records_dir, pair->set, text, &entry->twin, ret_why);
    if (err == FLEET_OK) {
        FLEET_COPY(entry->set, pair->set);
    }
    return err;
}

fleet_err_t record_forget(record_store_t *store, const char *set,
                          fleet_text_t ret_why) {
    entry_t *entry = entry_find(store, set);
    if (!entry) {
        return FLEET_OK;
    }
    if ((unlinkat(store->records_dir, set, 0) < 0 && errno != ENOENT) ||
        fsync(store->records_dir) < 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s/records/%s: %s",
                          store->state, set, strerror(errno));
        return FLEET_STORE_FAILED;
    }
    *entry = (entry_t){.set = ""};
    record_deadline_write(store, set, 0, 0);
    return FLEET_OK;
}

fleet_err_t record_term_read(record_store_t *store, uint64_t *ret_term,
                             fleet_text_t ret_why) {
    fleet_text_t why;
    uint64_t term = 0;
    fleet_err_t err = twin_read(store->state_dir, "term", &store->term, why);
    const char *at = store->term.text;
    if (err == FLEET_OK && store->term.number > 0 &&
        !(scan_word(&at, "term") && scan_u64(&at, &term) && scan_end(at))) {
        FLEET_COPY(why, "term: holds no term");
        err = FLEET_BAD_FILE;
    }
    if (err != FLEET_OK) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "%s/%s. Move it away: the broker says its term again",
                          store->state, why);
        return err;
    }
    *ret_term = term;
    return FLEET_OK;
}

fleet_err_t record_term_write(record_store_t *store, uint64_t term,
                              fleet_text_t ret_why) {
    char text[64];
    snprintf(text, sizeof(text), "term %" PRIu64, term);
    return twin_write(store->state_dir, "term", text, &store->term, ret_why);
}

bool record_remembers(record_store_t *store, const fleet_key_t key) {
    char digits[65];
    char found[65] = "";
    fleet_key_print(key, digits);
    int fd = openat(store->state_dir, "node", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t size = read(fd, found, 64);
    close(fd);
    return size == 64 && memcmp(found, digits, 64) == 0;
}

fleet_err_t record_remember(record_store_t *store, const fleet_key_t key,
                            fleet_text_t ret_why) {
    char line[66];
    fleet_key_print(key, line);
    line[64] = '\n';
    return twin_write_whole(store->state_dir, "node", line, 65, ret_why);
}

void record_deadline_write(record_store_t *store, const char *set,
                           uint64_t now_ms, uint64_t left_ms) {
    if (left_ms == 0) {
        (void)unlinkat(store->deadline_dir, set, 0);
        return;
    }
    // Always as long, so that one write replaces all of it.
    char line[128];
    int size = snprintf(line, sizeof(line), "%020" PRIu64 " %-64s\n",
                        now_ms + left_ms, store->boot_id);
    int fd =
        openat(store->deadline_dir, set, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t written = pwrite(fd, line, (size_t)size, 0);
        (void)written;
        close(fd);
    }
}

uint64_t record_deadline_left(record_store_t *store, const char *set,
                              uint64_t now_ms) {
    char line[128] = "";
    int fd = openat(store->deadline_dir, set, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, line, sizeof(line) - 1);
    close(fd);
    uint64_t end_ms = 0;
    fleet_id_t boot_id = "";
    const char *at = line;
    if (size <= 0 || !scan_u64(&at, &end_ms) ||
        !scan_text(&at, boot_id, sizeof(boot_id)) ||
        strcmp(boot_id, store->boot_id) != 0) {
        return 0;
    }
    return end_ms > now_ms ? end_ms - now_ms : 0;
}
