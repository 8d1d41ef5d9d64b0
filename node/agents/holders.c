// SPDX-License-Identifier: MIT
//
// See holders.h.  A scan reads, for each process, three links, one directory of
// descriptors and one file of mappings; it stops at the first thing that holds.

#include "node/agents/holders.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "node/agents/ktext.h"
#include "node/agents/loopdev.h"
#include "node/agents/patience.h"
#include "proto/text.h"

#define PF_KTHREAD 0x00200000
#define ANCESTORS_MAX 32

// Targets

bool holders_target_has(const holders_target_t *target, dev_t dev) {
    for (uint32_t i = 0; i < target->devs_n; i++) {
        if (target->devs[i] == dev) {
            return true;
        }
    }
    return false;
}

void holders_target_add(holders_target_t *target, dev_t dev) {
    if (!holders_target_has(target, dev) && target->devs_n < HOLDERS_DEVS_MAX) {
        target->devs[target->devs_n++] = dev;
    }
}

void holders_target_add_mount(holders_target_t *target, uint64_t id) {
    if (target->mounts_n < HOLDERS_MOUNTS_MAX) {
        target->mounts[target->mounts_n++] = id;
    }
}

bool holders_target(const char *device, holders_target_t *ret_target) {
    struct stat status;
    char path[PATH_MAX];
    if (!realpath(device, path) || stat(path, &status) != 0 ||
        !S_ISBLK(status.st_mode)) {
        return false;
    }
    holders_target_t target = {.block = status.st_rdev};
    holders_target_add(&target, status.st_rdev);
    FLEET_COPY(target.path, path);
    *ret_target = target;
    return true;
}

void holders_add(holders_t *holders, const holder_t *holder) {
    if (holders->n < HOLDERS_MAX) {
        holders->items[holders->n++] = *holder;
    } else {
        holders->more++;
    }
}

// What one process has open.  Links are followed without asking the file system
// for anything: a dead server, or one that never answers, must not stop the
// scan.

static bool is_on_mount(const holders_target_t *target, uint64_t id) {
    for (uint32_t i = 0; i < target->mounts_n; i++) {
        if (target->mounts[i] == id) {
            return true;
        }
    }
    return false;
}

static bool silent_file_holds(const holders_target_t *target, int dir,
                              const char *name) {
    int fd = openat(dir, name, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    uint64_t id = 0;
    bool holds = ktext_mount_id(fd, &id) && is_on_mount(target, id);
    close(fd);
    return holds;
}

static bool file_holds(const holders_target_t *target, int dir,
                       const char *name) {
    struct statx status;
    if (statx(dir, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
              STATX_TYPE | STATX_MNT_ID, &status) != 0) {
        return errno == EIO && silent_file_holds(target, dir, name);
    }
    if (holders_target_has(
            target, makedev(status.stx_dev_major, status.stx_dev_minor)) ||
        ((status.stx_mask & STATX_MNT_ID) != 0 &&
         is_on_mount(target, status.stx_mnt_id))) {
        return true;
    }
    return target->raw && S_ISBLK(status.stx_mode) &&
           makedev(status.stx_rdev_major, status.stx_rdev_minor) ==
               target->block;
}

static void say_link(int dir, const char *name, const char *what,
                     fleet_text_t ret_how) {
    char path[PATH_MAX];
    ssize_t n = readlinkat(dir, name, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    fleet_text_format(ret_how, FLEET_TEXT_MAX + 1, "%s %s", what, path);
}

// ret_empty: it has no program, as a thread of the kernel, or shows nothing to
// us; so the rest need not be asked.
static bool links_hold(const holders_target_t *target, int dir,
                       fleet_text_t ret_how, bool *ret_empty) {
    static const char *const links[] = {"cwd", "root", "exe"};
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        errno = 0;
        if (file_holds(target, dir, links[i])) {
            say_link(dir, links[i], links[i], ret_how);
            return true;
        }
        *ret_empty = errno != 0; // of the last, exe
        if (errno == EACCES) {
            break;
        }
    }
    return false;
}

static DIR *open_dir(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    DIR *entries = fdopendir(fd);
    if (!entries) {
        close(fd);
    }
    return entries;
}

static bool descriptors_hold(const holders_target_t *target, int dir,
                             fleet_text_t ret_how) {
    DIR *entries = open_dir(dir, "fd");
    if (!entries) {
        return false;
    }
    bool holds = false;
    for (const struct dirent *entry; !holds && (entry = readdir(entries));) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            file_holds(target, dirfd(entries), entry->d_name)) {
            fleet_name_t what;
            FLEET_FORMAT(what, "fd %.20s", entry->d_name);
            say_link(dirfd(entries), entry->d_name, what, ret_how);
            holds = true;
        }
    }
    closedir(entries);
    return holds;
}

// A line of maps is "55d0-55d1 r-xp 00000000 fd:02 131 /srv/www/lib.so": one
// file says what map_files says in hundreds of links.
static bool mappings_hold(const holders_target_t *target, int dir,
                          fleet_text_t ret_how) {
    int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
    FILE *maps = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!maps) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    bool holds = false;
    char *line = NULL;
    size_t size = 0;
    while (!holds && getline(&line, &size, maps) > 0) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = line;
        uint64_t major_number = 0;
        uint64_t minor_number = 0;
        uint64_t inode = 0;
        if (ktext_skip(&at, 3) && ktext_number(&at, 16, &major_number) &&
            ktext_word(&at, ":") && ktext_number(&at, 16, &minor_number) &&
            ktext_number(&at, 10, &inode) && inode != 0 &&
            holders_target_has(target, makedev((unsigned)major_number,
                                               (unsigned)minor_number))) {
            at += strspn(at, " ");
            fleet_text_format(ret_how, FLEET_TEXT_MAX + 1, "mapped %s", at);
            holds = true;
        }
    }
    free(line);
    fclose(maps);
    return holds;
}

static bool task_holds(const holders_target_t *target, int dir,
                       fleet_text_t ret_how) {
    bool empty = false;
    return links_hold(target, dir, ret_how, &empty) ||
           (!empty && (descriptors_hold(target, dir, ret_how) ||
                       mappings_hold(target, dir, ret_how)));
}

static bool threads_hold(const holders_target_t *target, int dir,
                         fleet_text_t ret_how) {
    DIR *tasks = open_dir(dir, "task");
    if (!tasks) {
        return false;
    }
    bool holds = false;
    for (const struct dirent *entry; !holds && (entry = readdir(tasks));) {
        if (!isdigit((unsigned char)entry->d_name[0])) {
            continue;
        }
        int task = openat(dirfd(tasks), entry->d_name,
                          O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (task >= 0) {
            holds = task_holds(target, task, ret_how);
            close(task);
        }
    }
    closedir(tasks);
    return holds;
}

// Who it is

typedef struct stat_line {
    fleet_name_t name;
    char state;
    pid_t parent;
    unsigned flags;
    uint64_t start_ticks;
} stat_line_t;

// The name in parentheses may itself hold parentheses and blanks: the last one
// ends it.
static bool read_stat(int dir, stat_line_t *ret_stat) {
    char text[1024];
    if (!ktext_read(dir, "stat", text, sizeof(text))) {
        return false;
    }
    const char *open_at = strchr(text, '(');
    char *close_at = strrchr(text, ')');
    if (!open_at || !close_at || close_at < open_at || close_at[1] != ' ') {
        return false;
    }
    *close_at = '\0';
    stat_line_t stat_line = {.state = close_at[2]};
    FLEET_COPY(stat_line.name, open_at + 1);
    // state ppid pgrp session tty tpgid flags, 12 numbers more, starttime
    const char *at = close_at + 3;
    uint64_t parent = 0;
    uint64_t flags = 0;
    if (!ktext_number(&at, 10, &parent) || !ktext_skip(&at, 4) ||
        !ktext_number(&at, 10, &flags) || !ktext_skip(&at, 12) ||
        !ktext_number(&at, 10, &stat_line.start_ticks)) {
        return false;
    }
    stat_line.parent = (pid_t)parent;
    stat_line.flags = (unsigned)flags;
    *ret_stat = stat_line;
    return true;
}

typedef struct family {
    uint32_t n;
    pid_t pids[ANCESTORS_MAX];
} family_t;

static int open_process(int proc, pid_t pid) {
    char name[16];
    snprintf(name, sizeof(name), "%d", pid);
    return openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

// We and our ancestors, as far as this /proc shows them.
static family_t find_family(int proc) {
    family_t family = {0};
    pid_t pid = getpid();
    while (pid > 0 && family.n < ANCESTORS_MAX) {
        family.pids[family.n++] = pid;
        int dir = open_process(proc, pid);
        stat_line_t stat_line = {0};
        if (dir < 0) {
            break;
        }
        pid = read_stat(dir, &stat_line) ? stat_line.parent : 0;
        close(dir);
    }
    return family;
}

static bool is_spared(const family_t *family, pid_t pid,
                      const stat_line_t *stat_line) {
    for (uint32_t i = 0; i < family->n; i++) {
        if (family->pids[i] == pid) {
            return true;
        }
    }
    return pid == 1 || (stat_line->flags & PF_KTHREAD) != 0;
}

static bool describe(int dir, pid_t pid, const family_t *family,
                     holder_t *ret_holder) {
    stat_line_t stat_line;
    if (!read_stat(dir, &stat_line)) {
        return false;
    }
    ret_holder->kind = HOLDER_PROCESS;
    ret_holder->pid = pid;
    FLEET_COPY(ret_holder->name, stat_line.name);
    ret_holder->state = stat_line.state;
    ret_holder->start_ticks = stat_line.start_ticks;
    uint64_t start_ms =
        stat_line.start_ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    uint64_t now_ms = patience_now_us() / 1000;
    ret_holder->age_ms = now_ms > start_ms ? now_ms - start_ms : 0;
    ret_holder->spared = is_spared(family, pid, &stat_line);
    struct stat status;
    if (fstatat(dir, "", &status, AT_EMPTY_PATH) == 0) {
        ret_holder->uid = status.st_uid;
    }
    return true;
}

void holders_find_processes(const holders_target_t *target, bool deep,
                            holders_t *holders) {
    DIR *proc = opendir("/proc");
    if (!proc) {
        return;
    }
    family_t family = find_family(dirfd(proc));
    for (const struct dirent *entry; (entry = readdir(proc));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0) {
            continue;
        }
        int dir = open_process(dirfd(proc), pid);
        if (dir < 0) {
            continue;
        }
        holder_t holder = {0};
        bool holds = deep ? threads_hold(target, dir, holder.how)
                          : task_holds(target, dir, holder.how);
        if (holds && describe(dir, pid, &family, &holder)) {
            holders_add(holders, &holder);
        }
        close(dir);
    }
    closedir(proc);
}

bool holders_still(const holders_target_t *target, const holder_t *holder) {
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0) {
        return false;
    }
    int dir = open_process(proc, holder->pid);
    close(proc);
    if (dir < 0) {
        return false;
    }
    stat_line_t stat_line;
    fleet_text_t how;
    bool still =
        read_stat(dir, &stat_line) &&
        stat_line.start_ticks == holder->start_ticks &&
        (task_holds(target, dir, how) || threads_hold(target, dir, how));
    close(dir);
    return still;
}

// What is no process

static void find_loops(const holders_target_t *target, holders_t *holders) {
    for (uint32_t i = 0; i < target->devs_n; i++) {
        loopdev_list_t list;
        fleet_text_t why;
        if (!loopdev_find_on(target->devs[i], &list, &why)) {
            continue;
        }
        for (uint32_t j = 0; j < list.n; j++) {
            holder_t holder = {.kind = HOLDER_LOOP};
            char name[64];
            snprintf(name, sizeof(name), "/sys/block/loop%u/loop/backing_file",
                     list.items[j].number);
            char file[PATH_MAX];
            if (!ktext_read(AT_FDCWD, name, file, sizeof(file))) {
                snprintf(file, sizeof(file), "a file of it");
            }
            FLEET_FORMAT(holder.how, "loop device /dev/loop%u on %s",
                         list.items[j].number, file);
            holders_add(holders, &holder);
        }
    }
}

static void find_swap(const holders_target_t *target, holders_t *holders) {
    FILE *swaps = fopen("/proc/swaps", "re");
    if (!swaps) {
        return;
    }
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, swaps) > 0) {
        line[strcspn(line, " \t\n")] = '\0';
        struct stat status;
        if (line[0] == '/' && stat(line, &status) == 0 &&
            (holders_target_has(target, status.st_dev) ||
             (S_ISBLK(status.st_mode) && status.st_rdev == target->block))) {
            holder_t holder = {.kind = HOLDER_SWAP};
            FLEET_FORMAT(holder.how, "swap on %s", line);
            holders_add(holders, &holder);
        }
    }
    free(line);
    fclose(swaps);
}

static void find_mappers(const holders_target_t *target, holders_t *holders) {
    char name[64];
    snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/holders",
             major(target->block), minor(target->block));
    DIR *entries = opendir(name);
    if (!entries) {
        return;
    }
    for (const struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_name[0] != '.') {
            holder_t holder = {.kind = HOLDER_MAPPER};
            FLEET_FORMAT(holder.how, "block device %s on top of it",
                         entry->d_name);
            holders_add(holders, &holder);
        }
    }
    closedir(entries);
}

void holders_find_others(const holders_target_t *target, holders_t *holders) {
    find_loops(target, holders);
    find_swap(target, holders);
    find_mappers(target, holders);
}

// Words

static void print_user(uid_t uid, fleet_name_t ret_user) {
    struct passwd entry;
    struct passwd *found = NULL;
    char buffer[1024];
    if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found) {
        fleet_text_copy(ret_user, FLEET_NAME_MAX + 1, found->pw_name);
    } else {
        fleet_text_format(ret_user, FLEET_NAME_MAX + 1, "uid %u", uid);
    }
}

void holders_say(const holder_t *holder, fleet_text_t ret_text) {
    if (holder->kind != HOLDER_PROCESS) {
        fleet_text_copy(ret_text, FLEET_TEXT_MAX + 1, holder->how);
        return;
    }
    fleet_name_t user;
    print_user(holder->uid, user);
    char age[32];
    fleet_duration_print(holder->age_ms * 1000, age, sizeof(age));
    fleet_text_format(ret_text, FLEET_TEXT_MAX + 1,
                      "pid %d (%s, user %s, state %c, up %s): %s", holder->pid,
                      holder->name, user, holder->state, age, holder->how);
}

void holders_sum(const holders_t *holders, fleet_text_t ret_text,
                 fleet_words_t ret_words) {
    char text[FLEET_HOLDERS_MAX * (FLEET_TEXT_MAX + 3) + 32];
    char words[FLEET_WORDS_MAX + 1];
    size_t text_n = 0;
    size_t words_n = 0;
    text[0] = '\0';
    words[0] = '\0';
    for (uint32_t i = 0; i < holders->n; i++) {
        fleet_text_t one;
        holders_say(&holders->items[i], one);
        size_t n = strlen(one);
        if (i < FLEET_HOLDERS_MAX) {
            text_n += (size_t)snprintf(text + text_n, sizeof(text) - text_n,
                                       "%s%s", i > 0 ? "; " : "", one);
        }
        if (words_n + n + 2 < sizeof(words)) {
            words_n +=
                (size_t)snprintf(words + words_n, sizeof(words) - words_n,
                                 "%s%s", words_n > 0 ? "\n" : "", one);
        }
    }
    uint32_t all = holders->n + holders->more;
    if (all > FLEET_HOLDERS_MAX) {
        snprintf(text + text_n, sizeof(text) - text_n, "; and %u more",
                 all - FLEET_HOLDERS_MAX);
    }
    fleet_text_copy(ret_text, FLEET_TEXT_MAX + 1, text);
    fleet_text_copy(ret_words, FLEET_WORDS_MAX + 1, words);
}
