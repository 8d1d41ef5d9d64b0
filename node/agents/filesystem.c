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

static bool find_device(const agent_ctx_t *ctx, holders_target_t *ret_target) {
    fleet_text_t link;
    agent_device_path(ctx, link);
    if (!holders_target(link, ret_target)) {
        return false;
    }
    // Only btrfs hides its device behind other numbers; asking costs a search.
    if (strcmp(ctx->resource->filesystem.type, "btrfs") == 0) {
        mounts_learn(ret_target);
    }
    return true;
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
    patience_t limit = patience_of_ms(ctx->resource->start_ms);
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
    bool killed;
} signalled_t;

// One stop, as far as it has come.
typedef struct effort {
    const agent_ctx_t *ctx;
    holders_target_t target;
    patience_t limit;
    patience_t term;  // until SIGTERM becomes SIGKILL
    patience_t quiet; // how long to go on without anybody to signal
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

// The pidfd is opened first and the hold looked at again after that: whoever is
// signalled is the process that was seen, and it still holds.
static void signal_holder(effort_t *effort, const holder_t *holder) {
    signalled_t *before = remember(effort, holder);
    bool kill_it = patience_left_ms(&effort->term) == 0;
    int fd = pidfd_open(holder->pid, 0);
    if (fd < 0) {
        return;
    }
    if (!holders_still(&effort->target, holder)) {
        close(fd);
        return;
    }
    if (!before || (kill_it && !before->killed)) {
        if (pidfd_send_signal(fd, kill_it ? SIGKILL : SIGTERM, NULL, 0) == 0) {
            did(effort, kill_it ? "SIGKILL" : "SIGTERM", holder);
        }
        if (!before && effort->signalled_n < SIGNALLED_MAX) {
            before = &effort->signalled[effort->signalled_n++];
            before->pid = holder->pid;
            before->start_ticks = holder->start_ticks;
        }
        if (before) {
            before->killed = kill_it;
        }
    }
    if (effort->watched_n < WATCHED_MAX) {
        effort->watched[effort->watched_n++] =
            (struct pollfd){.fd = fd, .events = POLLIN};
    } else {
        close(fd);
    }
}

static void say_waiting(const effort_t *effort, const holder_t *first,
                        uint32_t n) {
    char more[32] = "";
    if (n > 1) {
        snprintf(more, sizeof(more), " and %u more", n - 1);
    }
    uint64_t term_ms = patience_left_ms(&effort->term);
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
static uint32_t signal_holders(effort_t *effort) {
    uint32_t n = 0;
    const holder_t *first = NULL;
    for (uint32_t i = 0; i < effort->holders->n; i++) {
        const holder_t *holder = &effort->holders->items[i];
        if (holder->kind != HOLDER_PROCESS || holder->spared) {
            continue;
        }
        signal_holder(effort, holder);
        first = first ? first : holder;
        n++;
    }
    if (first) {
        say_waiting(effort, first, n);
    }
    return n;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// Until somebody who was signalled is gone, or it is time for the next round.
static void wait_for_exit(effort_t *effort) {
    uint64_t ms = least(ROUND_MS, patience_left_ms(&effort->limit));
    uint64_t term_ms = patience_left_ms(&effort->term);
    if (term_ms > 0) {
        ms = least(ms, term_ms);
    }
    if (effort->watched_n > 0) {
        (void)poll(effort->watched, effort->watched_n, (int)ms);
    }
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

// The slow way: somebody is on it.
static bool insist(effort_t *effort) {
    bool deep = false;
    patience_t nap = effort->limit;
    while (!let_go(effort)) {
        effort->holders->n = 0;
        effort->holders->more = 0;
        holders_find_processes(&effort->target, deep, effort->holders);
        if (signal_holders(effort) > 0) {
            wait_for_exit(effort);
            effort->quiet =
                patience_of_ms(effort->ctx->resource->filesystem.term_ms);
            deep = false;
        } else {
            // Threads may have a directory or descriptors of their own.  And
            // the kernel lets go of the last mount somewhat after its last
            // user.
            deep = true;
            patience_nap(&nap);
            if (patience_left_ms(&effort->quiet) == 0) {
                return false;
            }
        }
        if (patience_left_ms(&effort->limit) == 0) {
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
    uint32_t in_use = holders->n;
    mounts_find(&effort->target, holders);
    fleet_text_t who;
    holders_sum(holders, who, result->said);
    if (holders->n == 0) {
        FLEET_COPY(who,
                   "the kernel, and no process, mount, loop device, "
                   "swap or device mapper was found that explains it");
    }
    agent_fail(result, FLEET_HELD, "%s is held by %s%s",
               effort->ctx->resource->filesystem.mount, who, effort->did);
    if (in_use == 0 && holders->n > 0) {
        agent_say(effort->ctx, "only mounts are left: %s", who);
    }
}

static bool is_root(const holders_target_t *target) {
    struct stat status;
    return stat("/", &status) == 0 && holders_target_has(target, status.st_dev);
}

// Somewhat before the runner's limit, so that it is still said who holds it.
static uint64_t stop_limit_ms(const fleet_resource_t *resource) {
    return resource->stop_ms - resource->stop_ms / 10;
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
    effort.limit = patience_of_ms(stop_limit_ms(ctx->resource));
    effort.term = patience_of_ms(filesystem->term_ms);
    effort.quiet = patience_of_ms(filesystem->term_ms);
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

static bool kernel_knows(const agent_ctx_t *ctx, const char *type) {
    FILE *types = fopen("/proc/filesystems", "re");
    bool knows = false;
    char line[128];
    while (types && !knows && fgets(line, sizeof(line), types)) {
        char *name = strrchr(line, '\t');
        line[strcspn(line, "\n")] = '\0';
        knows = name && strcmp(name + 1, type) == 0;
    }
    if (types) {
        fclose(types);
    }
    if (!knows) {
        fleet_text_t modprobe;
        FLEET_FORMAT(modprobe, "modprobe -q %s", type);
        command_t command = {
            .line = modprobe, .ctx = ctx, .cgroup = -1, .limit_ms = 5000};
        command_end_t end = {0};
        command_run(&command, &end);
        knows = end.ok;
    }
    return knows;
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
