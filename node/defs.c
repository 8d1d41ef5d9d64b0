// SPDX-License-Identifier: MIT

#include "node/defs.h"

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
#include "node/twin.h"
#include "proto/text.h"

#define KEPT 2

typedef struct def {
    struct def *next;
    uint64_t rev;
    uint64_t order; // larger: kept later
    bool pinned;
    fleet_setdef_t setdef;
} def_t;

struct defs {
    int dir;
    fleet_text_t path;
    uint64_t order;
    def_t *first;
};

static void file_name(const char *set, uint64_t rev, char name[96]) {
    snprintf(name, 96, "%s.%" PRIu64 ".yaml", set, rev);
}

static def_t *def_add(defs_t *defs, uint64_t rev,
                      const fleet_setdef_t *setdef) {
    def_t *def = calloc(1, sizeof(*def));
    if (!def) {
        abort();
    }
    def->rev = rev;
    def->order = ++defs->order;
    def->setdef = *setdef;
    def->next = defs->first;
    defs->first = def;
    return def;
}

static def_t *def_find(const defs_t *defs, const char *set, uint64_t rev) {
    for (def_t *def = defs->first; def; def = def->next) {
        if (def->rev == rev && strcmp(def->setdef.set, set) == 0) {
            return def;
        }
    }
    return NULL;
}

static void def_remove(defs_t *defs, def_t *gone) {
    char name[96];
    file_name(gone->setdef.set, gone->rev, name);
    // What is left of an old revision after a failure does no harm.
    (void)unlinkat(defs->dir, name, 0);
    for (def_t **at = &defs->first; *at; at = &(*at)->next) {
        if (*at == gone) {
            *at = gone->next;
            break;
        }
    }
    free(gone);
}

// Removes the oldest of a set that are neither pinned nor among the last KEPT.
static void prune(defs_t *defs, const char *set) {
    for (;;) {
        size_t n = 0;
        def_t *oldest = NULL;
        for (def_t *def = defs->first; def; def = def->next) {
            if (strcmp(def->setdef.set, set) != 0) {
                continue;
            }
            n += 1;
            if (!def->pinned && (!oldest || def->order < oldest->order)) {
                oldest = def;
            }
        }
        size_t newer = 0;
        for (def_t *def = defs->first; oldest && def; def = def->next) {
            newer +=
                strcmp(def->setdef.set, set) == 0 && def->order > oldest->order;
        }
        if (n <= KEPT || !oldest || newer < KEPT) {
            return;
        }
        def_remove(defs, oldest);
    }
}

static fleet_err_t bad(const defs_t *defs, const char *name, const char *what,
                       fleet_text_t ret_why) {
    fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                      "%s/%s: %s. Put the definition back as it was applied "
                      "(fleet show), or stop what it runs and move it away",
                      defs->path, name, what);
    return FLEET_BAD_FILE;
}

// "www.3.yaml"
static bool read_name(const char *name, fleet_name_t ret_set,
                      uint64_t *ret_rev) {
    const char *dot = strchr(name, '.');
    size_t length = dot ? (size_t)(dot - name) : 0;
    if (length == 0 || length > FLEET_NAME_MAX) {
        return false;
    }
    memcpy(ret_set, name, length);
    ret_set[length] = '\0';
    const char *at = dot + 1;
    return scan_u64(&at, ret_rev) && strcmp(at, ".yaml") == 0;
}

static fleet_err_t read_one(defs_t *defs, const char *name,
                            fleet_text_t ret_why) {
    static char yaml[FLEET_YAML_MAX + 1];
    static fleet_setdef_t setdef;
    static fleet_complaints_t complaints;
    fleet_name_t set = "";
    uint64_t rev = 0;
    if (!read_name(name, set, &rev)) {
        return FLEET_OK; // not ours
    }
    int fd = openat(defs->dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? pread(fd, yaml, sizeof(yaml), 0) : -1;
    int err = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (size < 0) {
        return bad(defs, name, strerror(err), ret_why);
    }
    memset(&complaints, 0, sizeof(complaints));
    if (fleet_setdef_read(yaml, (size_t)size, &setdef, &complaints) !=
        FLEET_OK) {
        fleet_text_t what;
        FLEET_FORMAT(what, "line %u: %s", complaints.items[0].line,
                     complaints.items[0].text);
        return bad(defs, name, what, ret_why);
    }
    if (strcmp(setdef.set, set) != 0) {
        return bad(defs, name, "is the definition of another set", ret_why);
    }
    def_add(defs, rev, &setdef)->order = rev;
    defs->order = rev > defs->order ? rev : defs->order;
    return FLEET_OK;
}

fleet_err_t defs_new(const char *state, defs_t **ret_defs,
                     fleet_text_t ret_why) {
    defs_t *defs = calloc(1, sizeof(*defs));
    if (!defs) {
        abort();
    }
    FLEET_FORMAT(defs->path, "%s/sets", state);
    defs->dir = -1;
    if (mkdir(defs->path, 0700) == 0 || errno == EEXIST) {
        defs->dir = open(defs->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    int fd = defs->dir >= 0 ? dup(defs->dir) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    fleet_err_t err = FLEET_OK;
    if (!dir) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: %s", defs->path,
                          strerror(errno));
        err = FLEET_STORE_FAILED;
    }
    for (struct dirent *item;
         err == FLEET_OK && dir && (item = readdir(dir));) {
        err = read_one(defs, item->d_name, ret_why);
    }
    if (dir) {
        closedir(dir);
    }
    if (err != FLEET_OK) {
        defs_destroy(&defs);
        return err;
    }
    *ret_defs = defs;
    return FLEET_OK;
}

void defs_destroy(defs_t **defs_p) {
    defs_t *defs = *defs_p;
    if (!defs) {
        return;
    }
    while (defs->first) {
        def_t *first = defs->first;
        defs->first = first->next;
        free(first);
    }
    if (defs->dir >= 0) {
        close(defs->dir);
    }
    free(defs);
    *defs_p = NULL;
}

const fleet_setdef_t *defs_find(const defs_t *defs, const char *set,
                                uint64_t rev) {
    const def_t *best = NULL;
    for (const def_t *def = defs->first; def; def = def->next) {
        if (strcmp(def->setdef.set, set) == 0 &&
            (rev == 0 ? !best || def->rev > best->rev : def->rev == rev)) {
            best = def;
        }
    }
    return best ? &best->setdef : NULL;
}

fleet_err_t defs_keep(defs_t *defs, const char *set, uint64_t rev,
                      const char *yaml, size_t size,
                      const fleet_setdef_t *setdef, fleet_text_t ret_why) {
    char name[96];
    file_name(set, rev, name);
    def_t *def = def_find(defs, set, rev);
    if (def && memcmp(def->setdef.facts.digest, setdef->facts.digest,
                      sizeof(fleet_key_t)) == 0) {
        def->order = ++defs->order;
        return FLEET_OK;
    }
    fleet_err_t err = twin_write_whole(defs->dir, name, yaml, size, ret_why);
    if (err != FLEET_OK) {
        return err;
    }
    if (def) {
        def->setdef = *setdef;
        def->order = ++defs->order;
    } else {
        def_add(defs, rev, setdef);
    }
    prune(defs, set);
    return FLEET_OK;
}

void defs_pin(defs_t *defs, const char *set, uint64_t rev) {
    for (def_t *def = defs->first; def; def = def->next) {
        if (strcmp(def->setdef.set, set) == 0) {
            def->pinned = def->rev == rev;
        }
    }
    prune(defs, set);
}

void defs_forget(defs_t *defs, const char *set) {
    for (def_t *def = defs->first; def;) {
        def_t *next = def->next;
        if (strcmp(def->setdef.set, set) == 0) {
            def_remove(defs, def);
        }
        def = next;
    }
}
