// SPDX-License-Identifier: MIT
//
// See fsck.h.  One table knows what each type offers; ext has a shortcut,
// because a clean file system is the rule in a move and starting a checker
// costs more than mounting.

#include "node/agents/fsck.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "node/agents/command.h"
#include "proto/text.h"

// fsck(8): a sum of bits
#define FSCK_REPAIRED 1
#define FSCK_REBOOT 2

typedef enum ext_state {
    EXT_UNKNOWN, // not read
    EXT_CLEAN,   // e2fsck -p would say "clean" and look no further
    EXT_JOURNAL, // unmounted by a crash; the journal makes it whole
    EXT_DUE      // errors on record, or a check is due by count or time
} ext_state_t;

typedef struct checker {
    const char *type;
    const char *preen; // NULL: the kernel does at mount all that is safe
    const char *full;
    bool ext;
    int bad; // exit status from which on it must not be mounted
} checker_t;

static const checker_t checkers[] = {
    {"ext2", "e2fsck -p", "e2fsck -p -f", true, 4},
    {"ext3", "e2fsck -p", "e2fsck -p -f", true, 4},
    {"ext4", "e2fsck -p", "e2fsck -p -f", true, 4},
    // 2: the log is not replayed yet, which only mounting does
    {"xfs", NULL, "xfs_repair -n", false, 1},
    {"btrfs", NULL, "btrfs check --readonly", false, 1},
};

static const checker_t *find_checker(const char *type) {
    for (size_t i = 0; i < sizeof(checkers) / sizeof(checkers[0]); i++) {
        if (strcmp(checkers[i].type, type) == 0) {
            return &checkers[i];
        }
    }
    return NULL;
}

static const char *command_of(const fleet_filesystem_t *filesystem) {
    const checker_t *checker = find_checker(filesystem->type);
    if (!checker || filesystem->fsck == FLEET_FSCK_NO) {
        return NULL;
    }
    return filesystem->fsck == FLEET_FSCK_FULL ? checker->full : checker->preen;
}

const char *fsck_helper(const fleet_filesystem_t *filesystem) {
    const char *command = command_of(filesystem);
    if (!command) {
        return NULL;
    }
    static const char *const names[] = {"e2fsck", "xfs_repair", "btrfs"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(command, names[i], strlen(names[i])) == 0) {
            return names[i];
        }
    }
    assert(false);
    return NULL;
}

// The superblock of ext, as linux/Documentation/filesystems/ext4/super.rst has
// it.

static uint32_t le16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t le32(const uint8_t *at) {
    return le16(at) | le16(at + 2) << 16;
}

static ext_state_t read_ext(const char *device) {
    uint8_t super[1024];
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return EXT_UNKNOWN;
    }
    ssize_t n = pread(fd, super, sizeof(super), 1024);
    close(fd);
    if (n != (ssize_t)sizeof(super) || le16(super + 0x38) != 0xEF53) {
        return EXT_UNKNOWN;
    }
    uint32_t state = le16(super + 0x3A);
    uint32_t mounts = le16(super + 0x34);
    uint32_t mounts_max = le16(super + 0x36);
    uint64_t checked_s = le32(super + 0x40);
    uint64_t interval_s = le32(super + 0x44);
    bool by_count =
        mounts_max != 0 && mounts_max < 0x8000 && mounts >= mounts_max;
    bool by_time =
        interval_s != 0 && checked_s + interval_s <= (uint64_t)time(NULL);
    if ((state & 2) != 0 || by_count || by_time) {
        return EXT_DUE;
    }
    if ((le32(super + 0x60) & 4) != 0) {
        return EXT_JOURNAL;
    }
    return (state & 1) != 0 ? EXT_CLEAN : EXT_DUE;
}

static bool run_checker(const agent_ctx_t *ctx, const checker_t *checker,
                        const char *device, uint64_t limit_ms,
                        fleet_text_t ret_note, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    ext_state_t before = checker->ext ? read_ext(device) : EXT_UNKNOWN;
    fleet_text_t line;
    FLEET_FORMAT(line, "%s %s", command_of(filesystem), device);
    agent_say(ctx, "checking: %s", line);
    command_t command = {
        .line = line, .ctx = ctx, .cgroup = -1, .limit_ms = limit_ms};
    command_end_t end = {0};
    command_run(&command, &end);
    int status = end.status;
    bool log_waits = strcmp(checker->type, "xfs") == 0 && status == 2;
    if ((status < 0 || status >= checker->bad) && !log_waits) {
        FLEET_COPY(result->said, end.said);
        agent_fail(result, FLEET_START_FAILED, "%s: %s: %s", filesystem->mount,
                   line, end.text);
        return false;
    }
    const char *did = "checked";
    if (log_waits) {
        did = "not checked: its log is to be replayed first, by mounting";
    } else if (before == EXT_JOURNAL && filesystem->fsck != FLEET_FSCK_FULL) {
        did = "journal replayed";
    } else if ((status & (FSCK_REPAIRED | FSCK_REBOOT)) != 0) {
        did = "checked and repaired";
    }
    if (status != 0) {
        FLEET_COPY(result->said, end.said);
    }
    fleet_text_copy(ret_note, FLEET_TEXT_MAX + 1, did);
    return true;
}

bool fsck_run(const agent_ctx_t *ctx, const char *device, uint64_t limit_ms,
              fleet_text_t ret_note, agent_result_t *result) {
    const fleet_filesystem_t *filesystem = &ctx->resource->filesystem;
    const checker_t *checker = find_checker(filesystem->type);
    const char *note = NULL;
    if (filesystem->fsck == FLEET_FSCK_NO) {
        note = "not checked, as its definition says";
    } else if (!checker) {
        note = "not checked: no checker is known for its type";
    } else if (!command_of(filesystem)) {
        note = "log replayed by the kernel if need be";
    } else if (checker->ext && filesystem->fsck == FLEET_FSCK_PREEN &&
               read_ext(device) == EXT_CLEAN) {
        note = "clean";
    }
    if (!note && checker) {
        return run_checker(ctx, checker, device, limit_ms, ret_note, result);
    }
    fleet_text_copy(ret_note, FLEET_TEXT_MAX + 1, note);
    return true;
}
