// SPDX-License-Identifier: MIT
//
// See mounts.h.  libmount reads the tables and mounts; unmounting is the bare
// system call, because it must never go to a path that another file system
// covers.

#include "node/agents/mounts.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/agents/ktext.h"
#include "proto/text.h"

#define NAMESPACES_MAX 256

static int take_no_notice(struct libmnt_table *table, const char *name,
                          int line) {
    (void)table;
    (void)name;
    (void)line;
    return 1; // a line that cannot be read is skipped
}

// The mounts that mountinfo in that directory of /proc lists; NULL if it is
// gone.
static struct libmnt_table *read_table(int proc, const char *name) {
    char path[64];
    snprintf(path, sizeof(path), "%s/mountinfo", name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!stream) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    struct libmnt_table *table = mnt_new_table();
    assert(table);
    mnt_table_set_parser_errcb(table, take_no_notice);
    if (mnt_table_parse_stream(table, stream, path) != 0) {
        mnt_unref_table(table);
        table = NULL;
    }
    fclose(stream);
    return table;
}

static int open_proc(void) {
    return open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// btrfs has a number of its own that has nothing to do with its device's.
static bool is_anonymous(const holders_target_t *target, struct libmnt_fs *fs) {
    const char *source = mnt_fs_get_srcpath(fs);
    return major(mnt_fs_get_devno(fs)) == 0 && source &&
           strcmp(source, target->path) == 0;
}

static bool is_of(const holders_target_t *target, struct libmnt_fs *fs) {
    return holders_target_has(target, mnt_fs_get_devno(fs)) ||
           is_anonymous(target, fs);
}

// Reading one's own table

bool mounts_top(const char *path, const holders_target_t *target,
                mounts_top_t *ret_top) {
    int proc = open_proc();
    struct libmnt_table *table = read_table(proc, "self");
    close(proc);
    if (!table) {
        return false;
    }
    char resolved[PATH_MAX];
    if (!realpath(path, resolved)) {
        snprintf(resolved, sizeof(resolved), "%s", path);
    }
    struct libmnt_fs *fs =
        mnt_table_find_target(table, resolved, MNT_ITER_BACKWARD);
    if (fs) {
        mounts_top_t top = {.of_target = target && is_of(target, fs)};
        const char *source = mnt_fs_get_source(fs);
        const char *type = mnt_fs_get_fstype(fs);
        const char *options = mnt_fs_get_fs_options(fs);
        FLEET_COPY(top.source, source ? source : "?");
        FLEET_COPY(top.type, type ? type : "?");
        top.read_only =
            options && mnt_optstr_get_option(options, "ro", NULL, NULL) == 0;
        *ret_top = top;
    }
    mnt_unref_table(table);
    return fs != NULL;
}

static void learn_from(struct libmnt_table *table, holders_target_t *target) {
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    assert(iter);
    struct libmnt_fs *fs = NULL;
    while (mnt_table_next_fs(table, iter, &fs) == 0) {
        if (is_of(target, fs)) {
            holders_target_add(target, mnt_fs_get_devno(fs));
            holders_target_add_mount(target, (uint64_t)mnt_fs_get_id(fs));
        }
    }
    mnt_free_iter(iter);
}

// The other namespaces: one process of each speaks for it.

typedef struct place {
    pid_t pid;
    ino_t ns;
} place_t;

typedef struct places {
    uint32_t n;
    place_t items[NAMESPACES_MAX];
} places_t;

static bool add_place(places_t *places, pid_t pid, ino_t ns) {
    for (uint32_t i = 0; i < places->n; i++) {
        if (places->items[i].ns == ns) {
            return false;
        }
    }
    if (places->n == NAMESPACES_MAX) {
        return false;
    }
    places->items[places->n++] = (place_t){.pid = pid, .ns = ns};
    return true;
}

static places_t find_places(int proc) {
    places_t places = {0};
    struct stat status;
    if (fstatat(proc, "self/ns/mnt", &status, 0) != 0) {
        return places;
    }
    ino_t own = status.st_ino;
    int copy = fcntl(proc, F_DUPFD_CLOEXEC, 0);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (!entries) {
        if (copy >= 0) {
            close(copy);
        }
        return places;
    }
    rewinddir(entries); // the copy shares its position
    for (const struct dirent *entry; (entry = readdir(entries));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char path[32];
        snprintf(path, sizeof(path), "%d/ns/mnt", pid);
        if (pid > 0 && fstatat(proc, path, &status, 0) == 0 &&
            status.st_ino != own) {
            add_place(&places, pid, status.st_ino);
        }
    }
    closedir(entries);
    return places;
}

static struct libmnt_table *read_place(int proc, const place_t *place) {
    char name[16];
    snprintf(name, sizeof(name), "%d", place->pid);
    return read_table(proc, name);
}

void mounts_learn(holders_target_t *target) {
    int proc = open_proc();
    struct libmnt_table *table = read_table(proc, "self");
    if (table) {
        learn_from(table, target);
        mnt_unref_table(table);
    }
    places_t places = find_places(proc);
    for (uint32_t i = 0; i < places.n; i++) {
        table = read_place(proc, &places.items[i]);
        if (table) {
            learn_from(table, target);
            mnt_unref_table(table);
        }
    }
    close(proc);
}

// Unmounting

// The path may by now lead to another mount, which covers this one.
static bool is_visible(struct libmnt_fs *fs) {
    int fd = open(mnt_fs_get_target(fs), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    uint64_t id = 0;
    bool visible = ktext_mount_id(fd, &id) && id == (uint64_t)mnt_fs_get_id(fs);
    close(fd);
    return visible;
}

// The last mounted first: a mount never goes before what stands on it.
static void clear_table(struct libmnt_table *table,
                        const holders_target_t *target) {
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_BACKWARD);
    assert(iter);
    struct libmnt_fs *fs = NULL;
    while (mnt_table_next_fs(table, iter, &fs) == 0) {
        if (is_of(target, fs) && is_visible(fs)) {
            (void)umount2(mnt_fs_get_target(fs), UMOUNT_NOFOLLOW);
        }
    }
    mnt_free_iter(iter);
}

void mounts_clear(const holders_target_t *target) {
    int proc = open_proc();
    struct libmnt_table *table = read_table(proc, "self");
    if (table) {
        clear_table(table, target);
        mnt_unref_table(table);
    }
    close(proc);
}

static bool has_mount(struct libmnt_table *table,
                      const holders_target_t *target) {
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    assert(iter);
    struct libmnt_fs *fs = NULL;
    bool has = false;
    while (!has && mnt_table_next_fs(table, iter, &fs) == 0) {
        has = is_of(target, fs);
    }
    mnt_free_iter(iter);
    return has;
}

// In a child, because there is no way back.  Our own /proc is read there, which
// has no need to be mounted in that namespace.
static void clear_place(int proc, const place_t *place,
                        const holders_target_t *target) {
    char path[32];
    snprintf(path, sizeof(path), "%d/ns/mnt", place->pid);
    int ns = openat(proc, path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (ns < 0 || fstat(ns, &status) != 0 || status.st_ino != place->ns) {
        if (ns >= 0) {
            close(ns);
        }
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        struct libmnt_table *table = NULL;
        if (setns(ns, CLONE_NEWNS) == 0) {
            table = read_table(proc, "self");
        }
        if (table) {
            clear_table(table, target);
        }
        _exit(0);
    }
    close(ns);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
}

void mounts_clear_elsewhere(const holders_target_t *target) {
    int proc = open_proc();
    places_t places = find_places(proc);
    for (uint32_t i = 0; i < places.n; i++) {
        struct libmnt_table *table = read_place(proc, &places.items[i]);
        if (table && has_mount(table, target)) {
            clear_place(proc, &places.items[i], target);
        }
        mnt_unref_table(table);
    }
    close(proc);
}

// Naming what is left

static bool stands_on(struct libmnt_table *table, struct libmnt_fs *fs,
                      const holders_target_t *target) {
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    assert(iter);
    struct libmnt_fs *below = NULL;
    bool stands = false;
    while (!stands && mnt_table_next_fs(table, iter, &below) == 0) {
        stands = mnt_fs_get_id(below) == mnt_fs_get_parent_id(fs) &&
                 is_of(target, below);
    }
    mnt_free_iter(iter);
    return stands;
}

static void name_mounts(struct libmnt_table *table, pid_t pid, bool own,
                        const holders_target_t *target, holders_t *holders) {
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    assert(iter);
    struct libmnt_fs *fs = NULL;
    fleet_name_t where = "";
    if (pid != 0) {
        FLEET_FORMAT(where, " in the namespace of pid %d", pid);
    }
    while (mnt_table_next_fs(table, iter, &fs) == 0) {
        holder_t holder = {.kind = HOLDER_MOUNT, .pid = pid};
        if (own && is_of(target, fs)) {
            FLEET_FORMAT(holder.how, "mount %s%s", mnt_fs_get_target(fs),
                         where);
        } else if (!own && stands_on(table, fs, target)) {
            FLEET_FORMAT(holder.how, "another mount on it, %s (%s)%s",
                         mnt_fs_get_target(fs), mnt_fs_get_fstype(fs), where);
        } else {
            continue;
        }
        holders_add(holders, &holder);
    }
    mnt_free_iter(iter);
}

void mounts_find(const holders_target_t *target, bool own, holders_t *holders) {
    int proc = open_proc();
    struct libmnt_table *table = read_table(proc, "self");
    if (table) {
        name_mounts(table, 0, own, target, holders);
        mnt_unref_table(table);
    }
    places_t places = find_places(proc);
    for (uint32_t i = 0; i < places.n; i++) {
        table = read_place(proc, &places.items[i]);
        if (table) {
            name_mounts(table, places.items[i].pid, own, target, holders);
            mnt_unref_table(table);
        }
    }
    close(proc);
}

// Mounting

bool mounts_mount(const char *device, const char *path, const char *type,
                  const char *options, fleet_text_t ret_why) {
    struct libmnt_context *context = mnt_new_context();
    assert(context);
    int rc = mnt_context_set_source(context, device);
    rc = rc ? rc : mnt_context_set_target(context, path);
    rc = rc ? rc : mnt_context_set_fstype(context, type);
    if (options[0] != '\0') {
        rc = rc ? rc : mnt_context_set_options(context, options);
    }
    // A device that cannot be written is an error, not a mount that cannot be.
    rc = rc ? rc : mnt_context_enable_rwonly_mount(context, 1);
    rc = rc ? rc : mnt_context_disable_mtab(context, 1);
    rc = rc ? rc : mnt_context_mount(context);
    char words[FLEET_TEXT_MAX + 1] = "";
    int code = mnt_context_get_excode(context, rc, words, sizeof(words));
    mnt_free_context(context);
    if (code != 0) {
        fleet_text_copy(ret_why, FLEET_TEXT_MAX + 1,
                        words[0] ? words : "mount failed");
    }
    return code == 0;
}
