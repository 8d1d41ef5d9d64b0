// SPDX-License-Identifier: MIT
//
// Control groups v2 through their files.  Nothing here knows what a service is.

#include "node/agents/group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "proto/text.h"

// Only root reads or writes it, so no service can mark itself.
#define MARK "trusted.fleet.started"
#define DEPTH_MAX 8
#define NAMED_MAX 4

bool group_find_root(fleet_text_t ret_path) {
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (!file) {
        return false;
    }
    bool found = false;
    bool whole = false;
    char line[4096];
    while (!whole && fgets(line, sizeof(line), file)) {
        char root[FLEET_TEXT_MAX + 1];
        char point[FLEET_TEXT_MAX + 1];
        const char *rest = strstr(line, " - ");
        if (rest && strncmp(rest + 3, "cgroup2 ", 8) == 0 &&
            sscanf(line, "%*s %*s %*s %256s %256s", root, point) == 2) {
            // A part of the hierarchy that is mounted elsewhere will do if all
            // that may be seen of it is mounted nowhere.
            whole = strcmp(root, "/") == 0;
            if (whole || !found) {
                fleet_text_copy(ret_path, FLEET_TEXT_MAX + 1, point);
            }
            found = true;
        }
    }
    fclose(file);
    return found;
}

static bool make_path(const char *path) {
    char copy[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof(copy)) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(copy, path, length + 1);
    for (char *slash = strchr(copy + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST) {
            return false;
        }
        *slash = '/';
    }
    return mkdir(copy, 0755) == 0 || errno == EEXIST;
}

bool group_open(const char *path, bool make, group_t *ret_group) {
    int dir = -1;
    // The set's folder may be removed by the stop of a neighbour while this one
    // makes its own in it: then again.
    for (int attempt = 0; attempt < 5 && dir < 0; attempt++) {
        if (make && !make_path(path) && errno != ENOENT) {
            return false;
        }
        dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 && (!make || errno != ENOENT)) {
            return false;
        }
    }
    if (dir < 0) {
        return false;
    }
    int events = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (events < 0) {
        int err = errno;
        close(dir);
        errno = err;
        return false;
    }
    *ret_group = (group_t){.dir = dir, .events = events};
    return true;
}

void group_close(group_t *group) {
    close(group->events);
    close(group->dir);
    *group = (group_t){.dir = -1, .events = -1};
}

bool group_populated(const group_t *group) {
    char text[256];
    ssize_t size = pread(group->events, text, sizeof(text) - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    return strstr(text, "populated 1") != NULL;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool group_wait_empty(const group_t *group, uint64_t wait_ms) {
    uint64_t begin = now_ms();
    // Reading the file arms the next POLLPRI, so nothing is missed in between.
    while (group_populated(group)) {
        uint64_t passed = now_ms() - begin;
        if (passed >= wait_ms) {
            return false;
        }
        struct pollfd changed = {.fd = group->events, .events = POLLPRI};
        (void)poll(&changed, 1, (int)(wait_ms - passed));
    }
    return true;
}

typedef struct pids {
    size_t n;
    pid_t items[GROUP_PIDS_MAX];
} pids_t;

static void read_procs(const char *path, pids_t *pids) {
    char file_path[PATH_MAX];
    snprintf(file_path, sizeof(file_path), "%s/cgroup.procs", path);
    FILE *file = fopen(file_path, "re");
    if (!file) {
        return;
    }
    char line[32];
    while (pids->n < GROUP_PIDS_MAX && fgets(line, sizeof(line), file)) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        if (pid > 1) { // 0: a process of another pid namespace
            pids->items[pids->n++] = pid;
        }
    }
    fclose(file);
}

typedef void on_group_t(const char *path, void *context);

// Calls on_group for every group below `path`, the deepest first, then for
// itself.
static void walk(const char *path, int depth, on_group_t *on_group,
                 void *context) {
    DIR *dir = depth < DEPTH_MAX ? opendir(path) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            char below[PATH_MAX];
            snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
            walk(below, depth + 1, on_group, context);
        }
    }
    if (dir) {
        closedir(dir);
    }
    on_group(path, context);
}

static void collect_procs(const char *path, void *context) {
    read_procs(path, context);
}

static void members(const char *path, pids_t *ret_pids) {
    ret_pids->n = 0;
    walk(path, 0, collect_procs, ret_pids);
}

static bool is_among(const pids_t *pids, pid_t pid) {
    for (size_t i = 0; i < pids->n; i++) {
        if (pids->items[i] == pid) {
            return true;
        }
    }
    return false;
}

size_t group_signal(const char *path, int signal) {
    static pids_t first;
    static pids_t second;
    static int pidfds[GROUP_PIDS_MAX];
    members(path, &first);
    for (size_t i = 0; i < first.n; i++) {
        pidfds[i] = pidfd_open(first.items[i], 0);
    }
    // Who is listed again after its pidfd was opened is the process that the
    // pidfd means, or that one is dead and the signal goes nowhere.
    members(path, &second);
    size_t signalled = 0;
    for (size_t i = 0; i < first.n; i++) {
        if (pidfds[i] < 0) {
            continue;
        }
        if (is_among(&second, first.items[i]) &&
            pidfd_send_signal(pidfds[i], signal, NULL, 0) == 0) {
            signalled += 1;
        }
        close(pidfds[i]);
    }
    return signalled;
}

void group_kill(const char *path, const group_t *group) {
    int fd = openat(group->dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    bool killed = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0) {
        close(fd);
    }
    if (!killed) { // before Linux 5.14: a fork may escape one round
        for (int round = 0; round < 10; round++) {
            if (group_signal(path, SIGKILL) == 0) {
                break;
            }
        }
    }
}

static void remove_one(const char *path, void *context) {
    bool *ok = context;
    if (rmdir(path) < 0 && errno != ENOENT) {
        *ok = false;
    }
}

bool group_remove(const char *path, const char *parent) {
    bool ok = true;
    walk(path, 0, remove_one, &ok);
    if (ok && parent) {
        (void)rmdir(parent); // stays while another service of the set is there
    }
    return ok;
}

void group_name_members(const char *path, fleet_text_t ret_names) {
    static pids_t pids;
    members(path, &pids);
    fleet_text_copy(ret_names, FLEET_TEXT_MAX + 1, "");
    fleet_text_t names = "";
    for (size_t i = 0; i < pids.n && i < NAMED_MAX; i++) {
        char comm_path[64];
        char comm[32] = "?";
        snprintf(comm_path, sizeof(comm_path), "/proc/%d/comm", pids.items[i]);
        FILE *file = fopen(comm_path, "re");
        if (file) {
            if (fgets(comm, sizeof(comm), file)) {
                comm[strcspn(comm, "\n")] = '\0';
            }
            fclose(file);
        }
        fleet_text_format(ret_names, FLEET_TEXT_MAX + 1, "%s%spid %d (%s)",
                          names, i > 0 ? ", " : "", pids.items[i], comm);
        FLEET_COPY(names, ret_names);
    }
    if (pids.n > NAMED_MAX) {
        fleet_text_format(ret_names, FLEET_TEXT_MAX + 1, "%s and %zu more",
                          names, pids.n - NAMED_MAX);
    }
}

bool group_mark(const group_t *group, uint64_t token) {
    char value[32];
    int size = snprintf(value, sizeof(value), "%" PRIu64, token);
    return fsetxattr(group->dir, MARK, value, (size_t)size, 0) == 0;
}

uint64_t group_marked(const group_t *group) {
    char value[32];
    ssize_t size = fgetxattr(group->dir, MARK, value, sizeof(value) - 1);
    uint64_t token = 0;
    if (size > 0) {
        value[size] = '\0';
        token = strtoull(value, NULL, 10);
    }
    return token;
}
