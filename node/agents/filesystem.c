// SPDX-License-Identifier: MIT
//
// The agent for a file system on the set's disk group: checked by policy,
// mounted, and on stop let go of by everybody, so that the disk group can be
// released.
//
// What a stop has to reach is the file system, not the mount point: the kernel
// keeps it, and its block device, as long as any mount of it anywhere or any
// process on any of those mounts is left.  So users are found by device number
// (holders.h), mounts in every namespace (mounts.h), and the only proof that
// counts is that the block device can be claimed.  A file system that nobody
// uses goes by one umount, and nothing is searched.

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/agents/agent.h"
#include "node/agents/command.h"
#include "node/agents/fsck.h"
#include "node/agents/holders.h"
#include "node/agents/loopdev.h"
#include "node/agents/mounts.h"
#include "node/agents/patience.h"
#include "proto/text.h"

#define SIGNALLED_MAX 512
#define WATCHED_MAX 64
#define ROUND_MS 50
#define QUIET_ROUNDS 4

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static bool find_device(const agent_ctx_t *ctx, holders_target_t *ret_target) {
    fleet_text_t link;
    agent_device_path(ctx, link);
    return holders_target(link, ret_target);
}

static bool make_dirs(const char *path) {
    char part[FLEET_TEXT_MAX + 1];
    snprintf(part, sizeof(part), "%s", path);
    for (char *at = part + 1; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '\0';
            if (mkdir(part, 0755) != 0 && errno != EEXIST) {
                return false;
            }
            *at = '/';
        }
    }
    return mkdir(part, 0755) == 0 || errno == EEXIST;
}

// Start

static void fs_start(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    patience_t limit = patience_of_limit(ctx->resource->start_ms);
    holders_target_t target;
    if (!find_device(ctx, &target)) {
        agent_fail(result, FLEET_START_FAILED,
                   "%s: the set's disk group is not imported here",
                   filesystem->mount);
        return;
    }
    mounts_top_t top;
    if (mounts_top(filesystem->mount, &target, &top)) {
        if (top.of_target) {
            FLEET_FORMAT(result->text, "%s is mounted already",
                         filesystem->mount);
        } else {
            agent_fail(result, FLEET_START_FAILED,
                       "%s: something else is mounted there: %s (%s)",
                       filesystem->mount, top.source, top.type);
        }
        return;
    }
    if (!make_dirs(filesystem->mount)) {
        agent_fail(result, FLEET_START_FAILED, "making %s: %s",
                   filesystem->mount, strerror(errno));
        return;
    }
    fleet_text_t note = "not checked: it never left this kernel";
    if (loopdev_unclaimed(target.path) &&
        !fsck_run(ctx, target.path, patience_left_ms(&limit), note, result)) {
        return;
    }
    fleet_text_t why;
    if (!mounts_mount(target.path, filesystem->mount, filesystem->type,
                      filesystem->options, why)) {
        agent_fail(result, FLEET_START_FAILED, "mounting %s (%s) at %s: %s",
                   target.path, filesystem->type, filesystem->mount, why);
        return;
    }
    FLEET_FORMAT(result->text, "%s mounted from %s; %s", filesystem->mount,
                 target.path, note);
}

// Stop

typedef struct signalled {
    pid_t pid;
    uint64_t start_ticks;
    patience_t term; // from its SIGTERM to its SIGKILL
    bool killed;
} signalled_t;

// One stop, as far as it has come.
typedef struct effort {
    const agent_ctx_t *ctx;
    holders_target_t target;
    patience_t limit;
    patience_t quiet; // how long to go on without anybody to signal
    uint32_t quiet_rounds;
    holders_t *holders;
    uint32_t signalled_n;
    signalled_t signalled[SIGNALLED_MAX];
    uint32_t watched_n; // pidfds of who was signalled and is still there
    struct pollfd watched[WATCHED_MAX];
    fleet_text_t did; // "; SIGTERM to pid 4121 (rsync)"
} effort_t;

static void did(effort_t *effort, const char *signal_name,
                const holder_t *holder) {
    size_t n = strlen(effort->did);
    snprintf(effort->did + n, sizeof(effort->did) - n, "; %s to pid %d (%s)",
             signal_name, holder->pid, holder->name);
}

static signalled_t *remember(effort_t *effort, const holder_t *holder) {
    for (uint32_t i = 0; i < effort->signalled_n; i++) {
        signalled_t *one = &effort->signalled[i];
        if (one->pid == holder->pid &&
            one->start_ticks == holder->start_ticks) {
            return one;
        }
    }
    return NULL;
}

// Sends what is due: SIGTERM to whom is new, SIGKILL when its time is over.
static void send_due(effort_t *effort, const holder_t *holder, int fd) {
    signalled_t *one = remember(effort, holder);
    if (!one && effort->signalled_n < SIGNALLED_MAX) {
        one = &effort->signalled[effort->signalled_n++];
        *one = (signalled_t){
            .pid = holder->pid,
            .start_ticks = holder->start_ticks,
            .term = patience_of_ms(effort->ctx->resource->filesystem.term_ms)};
        if (pidfd_send_signal(fd, SIGTERM, NULL, 0) == 0) {
            did(effort, "SIGTERM", holder);
        }
    } else if (one && !one->killed && patience_left_ms(&one->term) == 0) {
        one->killed = true;
        if (pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0) {
            did(effort, "SIGKILL", holder);
        }
    }
}

// The pidfd is opened first and the hold looked at again after that: whoever is
// signalled is the process that was seen, and it still holds.
static void signal_holder(effort_t *effort, const holder_t *holder) {
    int fd = pidfd_open(holder->pid, 0);
    if (fd < 0) {
        return;
    }
    if (!holders_still(&effort->target, holder)) {
        close(fd);
        return;
    }
    send_due(effort, holder, fd);
    if (effort->watched_n < WATCHED_MAX) {
        effort->watched[effort->watched_n++] =
            (struct pollfd){.fd = fd, .events = POLLIN};
    } else {
        close(fd);
    }
}

static uint64_t term_left_ms(effort_t *effort, const holder_t *holder) {
    const signalled_t *one = remember(effort, holder);
    return one && !one->killed ? patience_left_ms(&one->term) : 0;
}

static void say_waiting(effort_t *effort, const holder_t *first, uint32_t n) {
    char more[32] = "";
    if (n > 1) {
        snprintf(more, sizeof(more), " and %u more", n - 1);
    }
    uint64_t term_ms = term_left_ms(effort, first);
    if (term_ms > 0) {
        agent_say(effort->ctx, "waiting for pid %d (%s)%s; KILL in %llu.%llu s",
                  first->pid, first->name, more,
                  (unsigned long long)(term_ms / 1000),
                  (unsigned long long)(term_ms % 1000 / 100));
    } else {
        agent_say(effort->ctx, "waiting for pid %d (%s)%s to die: state %c",
                  first->pid, first->name, more, first->state);
    }
}

// Signals everybody who can be; returns how many that are.
static uint32_t signal_holders(effort_t *effort, uint64_t *ret_term_ms) {
    uint32_t n = 0;
    const holder_t *first = NULL;
    uint64_t term_ms = ROUND_MS;
    for (uint32_t i = 0; i < effort->holders->n; i++) {
        const holder_t *holder = &effort->holders->items[i];
        if (holder->kind != HOLDER_PROCESS || holder->spared) {
            continue;
        }
        signal_holder(effort, holder);
        uint64_t left_ms = term_left_ms(effort, holder);
        if (left_ms > 0) {
            term_ms = least(term_ms, left_ms);
        }
        first = first ? first : holder;
        n++;
    }
    if (first) {
        say_waiting(effort, first, n);
    }
    *ret_term_ms = term_ms;
    return n;
}

// Until somebody who was signalled is gone, or it is time for the next round.
static void wait_for_exit(effort_t *effort, uint64_t ms) {
    ms = least(ms, patience_left_ms(&effort->limit));
    (void)poll(effort->watched, effort->watched_n, (int)ms);
    for (uint32_t i = 0; i < effort->watched_n; i++) {
        close(effort->watched[i].fd);
    }
    effort->watched_n = 0;
}

static bool let_go(const effort_t *effort) {
    mounts_clear(&effort->target);
    if (loopdev_unclaimed(effort->target.path)) {
        return true;
    }
    mounts_clear_elsewhere(&effort->target);
    return loopdev_unclaimed(effort->target.path);
}

// Nobody to signal was found.  Threads may have a directory or descriptors of
// their own, so the next look is a deep one; and the kernel lets go of the last
// mount somewhat after its last user.  False when that has gone on for long
// enough, in time and, on a machine that is slow just now, in looks.
static bool wait_quietly(effort_t *effort, patience_t *nap) {
    effort->quiet_rounds++;
    patience_nap(nap);
    return effort->quiet_rounds < QUIET_ROUNDS ||
           patience_left_ms(&effort->quiet) > 0;
}

// The slow way: somebody is on it.
static bool insist(effort_t *effort) {
    uint64_t term_ms = effort->ctx->resource->filesystem.term_ms;
    effort->quiet = patience_of_ms(term_ms);
    patience_t nap = effort->limit;
    while (!let_go(effort)) {
        if (patience_left_ms(&effort->limit) == 0) {
            return false;
        }
        *effort->holders = (holders_t){0};
        holders_find_processes(&effort->target, effort->quiet_rounds > 0,
                               effort->holders);
        uint64_t round_ms = 0;
        if (signal_holders(effort, &round_ms) > 0) {
            wait_for_exit(effort, round_ms);
            effort->quiet = patience_of_ms(term_ms);
            effort->quiet_rounds = 0;
            nap.nap_us = effort->limit.nap_us;
        } else if (!wait_quietly(effort, &nap)) {
            return let_go(effort);
        }
    }
    return true;
}

static void say_held(const effort_t *effort, agent_result_t *result) {
    holders_t *holders = effort->holders;
    *holders = (holders_t){0};
    holders_find_processes(&effort->target, false, holders);
    if (holders->n == 0) {
        holders_find_processes(&effort->target, true, holders);
    }
    holders_find_others(&effort->target, holders);
    mounts_find(&effort->target, false, holders);
    if (holders->n == 0) {
        mounts_find(&effort->target, true, holders);
    }
    fleet_text_t who;
    holders_sum(holders, who, result->said);
    if (holders->n == 0) {
        FLEET_COPY(who,
                   "the kernel, and no process, mount, loop device, "
                   "swap or device mapper was found that explains it");
    }
    agent_fail(result, FLEET_HELD, "%s is held by %s%s",
               effort->ctx->resource->filesystem.mount, who, effort->did);
}

static bool is_root(const holders_target_t *target) {
    struct stat status;
    return stat("/", &status) == 0 && holders_target_has(target, status.st_dev);
}

static void fs_stop(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    effort_t effort = {.ctx = ctx};
    if (!find_device(ctx, &effort.target)) {
        FLEET_FORMAT(result->text, "%s: its disk group is not here",
                     filesystem->mount);
        return;
    }
    if (is_root(&effort.target)) {
        agent_fail(result, FLEET_STOP_FAILED,
                   "%s is on the root file system of this node",
                   filesystem->mount);
        return;
    }
    mounts_clear(&effort.target);
    if (loopdev_unclaimed(effort.target.path)) {
        FLEET_FORMAT(result->text, "%s unmounted", filesystem->mount);
        return;
    }
    mounts_learn(&effort.target);
    effort.limit = patience_of_limit(ctx->resource->stop_ms);
    effort.holders = calloc(1, sizeof(*effort.holders));
    assert(effort.holders);
    if (insist(&effort)) {
        FLEET_FORMAT(result->text, "%s unmounted%s", filesystem->mount,
                     effort.did);
    } else {
        say_held(&effort, result);
    }
    free(effort.holders);
}

// Probe

static void fs_probe(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    holders_target_t target;
    if (!find_device(ctx, &target)) {
        result->found = NODE_FOUND_NOTHING;
        FLEET_FORMAT(result->text, "%s: its disk group is not here",
                     filesystem->mount);
        return;
    }
    mounts_top_t top;
    if (mounts_top(filesystem->mount, &target, &top) && top.of_target) {
        bool wanted_read_only = false;
        char options[FLEET_TEXT_MAX + 3];
        snprintf(options, sizeof(options), ",%s,", filesystem->options);
        wanted_read_only = strstr(options, ",ro,") != NULL;
        bool broken = top.read_only && !wanted_read_only;
        result->found = broken ? NODE_FOUND_PART : NODE_FOUND_ALL;
        FLEET_FORMAT(result->text, "%s is mounted from %s%s", filesystem->mount,
                     target.path,
                     broken ? ", but has become read-only after an error" : "");
    } else if (!loopdev_unclaimed(target.path)) {
        result->found = NODE_FOUND_PART;
        FLEET_FORMAT(result->text, "%s is not mounted, but the kernel holds %s",
                     filesystem->mount, target.path);
    } else {
        result->found = NODE_FOUND_NOTHING;
        FLEET_FORMAT(result->text, "%s is not mounted", filesystem->mount);
    }
}

// Readiness

static bool is_registered(const char *type) {
    FILE *types = fopen("/proc/filesystems", "re");
    bool found = false;
    char line[128];
    while (types && !found && fgets(line, sizeof(line), types)) {
        line[strcspn(line, "\n")] = '\0';
        const char *name = strrchr(line, '\t');
        found = name && strcmp(name + 1, type) == 0;
    }
    if (types) {
        fclose(types);
    }
    return found;
}

// Loads its module if need be, which then is not to be waited for during a
// move.
static bool kernel_knows(const agent_ctx_t *ctx, const char *type) {
    if (is_registered(type)) {
        return true;
    }
    fleet_text_t line;
    FLEET_FORMAT(line, "modprobe -q %s", type);
    command_t command = {
        .line = line, .ctx = ctx, .cgroup = -1, .limit_ms = 5000};
    command_end_t end = {0};
    command_run(&command, &end);
    return is_registered(type);
}

static void problem(agent_result_t *result, const char *text,
                    const char *hint) {
    assert(result->problems_n < FLEET_REASONS_MAX);
    fleet_reason_t *reason = &result->problems[result->problems_n++];
    fleet_reason_make(reason, FLEET_NOT_READY, "%s", text);
    fleet_reason_hint(reason, "%s", hint);
}

static void look_at_mount_point(const agent_ctx_t *ctx,
                                agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    fleet_text_t text;
    holders_target_t target;
    bool here = find_device(ctx, &target);
    mounts_top_t top;
    struct stat status;
    if (mounts_top(filesystem->mount, here ? &target : NULL, &top)) {
        if (!top.of_target) {
            FLEET_FORMAT(text, "%s: something else is mounted there: %s (%s)",
                         filesystem->mount, top.source, top.type);
            problem(result, text, "unmount it");
        }
    } else if (stat(filesystem->mount, &status) == 0 &&
               !S_ISDIR(status.st_mode)) {
        FLEET_FORMAT(text, "%s is not a directory", filesystem->mount);
        problem(result, text, "remove it, or mount elsewhere");
    }
}

static void fs_look(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    fleet_text_t text;
    fleet_text_t path;
    fleet_text_t why;
    if (!kernel_knows(ctx, filesystem->type)) {
        FLEET_FORMAT(text, "this kernel cannot mount %s", filesystem->type);
        problem(result, text, "install its kernel module");
    }
    const char *helper = fsck_helper(filesystem);
    if (helper && !command_find(helper, path, why)) {
        FLEET_FORMAT(text, "%s cannot be checked: %s", filesystem->type, why);
        problem(result, text, "install it, or set fsck: no");
    }
    look_at_mount_point(ctx, result);
}

static void fs_prepare(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    fs_look(ctx, result);
    if (result->problems_n > 0) {
        agent_fail(result, FLEET_NOT_READY, "%s", result->problems[0].text);
    } else if (!make_dirs(filesystem->mount)) {
        agent_fail(result, FLEET_NOT_READY, "making %s: %s", filesystem->mount,
                   strerror(errno));
    }
}

const agent_t agent_filesystem = {
    .kind = FLEET_RESOURCE_FILESYSTEM,
    .prepare = fs_prepare,
    .start = fs_start,
    .stop = fs_stop,
    .probe = fs_probe,
    .look = fs_look,
};
