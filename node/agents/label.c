// SPDX-License-Identifier: MIT
//
// See label.h.  What the lock allows is in label_apply, which is pure; the rest
// is how the bytes get to the disk and back.

#include "node/agents/label.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/agents/patience.h"
#include "proto/text.h"

#define FORMAT 1
#define HASH_SIZE 32
#define HASHED_SIZE (LABEL_COPY_SIZE - HASH_SIZE)

static const uint8_t magic[8] = {'f', 'l', 'e', 'e', 't', 'i', 'm', 'g'};

// Direct I/O wants memory that is aligned like the disk's blocks.
typedef struct block {
    _Alignas(4096) uint8_t bytes[LABEL_COPY_SIZE];
} block_t;

static label_verdict_t apply_import(label_t *label,
                                    const label_command_t *command) {
    bool mine = strcmp(label->owner, command->node) == 0;
    bool free = label->owner[0] == '\0';
    bool same = mine && label->floor == command->token;
    if (command->from_token != 0) {
        bool exchange = mine && label->floor == command->from_token &&
                        command->from_token <= command->token;
        if (!exchange && !same) {
            return LABEL_REFUSED;
        }
    } else if ((!mine && !free) || command->token < label->floor) {
        return LABEL_REFUSED;
    }
    if (same && strcmp(label->kernel_id, command->kernel_id) == 0 &&
        strcmp(label->boot_id, command->boot_id) == 0) {
        return LABEL_AS_IS;
    }
    // Repeating an import, or exchanging the token in place, lets nobody in
    // between: the device that was attached then is still the right one.
    if (!same && command->from_token == 0) {
        label->since = command->token;
    }
    FLEET_COPY(label->owner, command->node);
    FLEET_COPY(label->kernel_id, command->kernel_id);
    FLEET_COPY(label->boot_id, command->boot_id);
    label->floor = command->token;
    return LABEL_CHANGED;
}

static label_verdict_t apply_release(label_t *label,
                                     const label_command_t *command) {
    if (strcmp(label->owner, command->node) != 0 ||
        label->floor > command->token) {
        return LABEL_AS_IS; // no longer its lock: nothing to give back
    }
    FLEET_COPY(label->owner, "");
    FLEET_COPY(label->kernel_id, ""); // its device is gone before it releases
    FLEET_COPY(label->boot_id, "");
    label->floor = command->token + 1;
    label->since = 0;
    return LABEL_CHANGED;
}

static label_verdict_t apply_evict(label_t *label,
                                   const label_command_t *command) {
    bool free = label->owner[0] == '\0';
    if (free && label->floor == command->token) {
        return LABEL_AS_IS;
    }
    if (label->floor >= command->token ||
        (!free && strcmp(label->owner, command->node) != 0)) {
        return LABEL_REFUSED;
    }
    // The kernel stays on record: its device may still be attached.
    FLEET_COPY(label->owner, "");
    FLEET_COPY(label->boot_id, "");
    label->floor = command->token;
    label->since = 0;
    return LABEL_CHANGED;
}

label_verdict_t label_apply(label_t *label, const label_command_t *command) {
    assert(command->node[0] != '\0' || command->verb == LABEL_EVICT);
    if (label->generation != 0 && strcmp(label->set, command->set) != 0) {
        return LABEL_REFUSED;
    }
    label_verdict_t verdict = LABEL_REFUSED;
    switch (command->verb) {
    case LABEL_IMPORT:
        verdict = apply_import(label, command);
        break;
    case LABEL_RELEASE:
        verdict = apply_release(label, command);
        break;
    case LABEL_EVICT:
        verdict = apply_evict(label, command);
        break;
    }
    if (verdict == LABEL_CHANGED) {
        FLEET_COPY(label->set, command->set);
        label->generation++;
    }
    return verdict;
}

void label_say(const label_t *label, fleet_text_t ret_text) {
    if (label->owner[0] != '\0') {
        fleet_text_format(ret_text, FLEET_TEXT_MAX + 1, "%s with token %llu",
                          label->owner, (unsigned long long)label->floor);
    } else {
        fleet_text_format(ret_text, FLEET_TEXT_MAX + 1,
                          "nobody, and tokens from %llu",
                          (unsigned long long)label->floor);
    }
}

// Bytes

static uint8_t *put(uint8_t *at, const void *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_u64(uint8_t *at, uint64_t number) {
    for (int i = 0; i < 8; i++) {
        at[i] = (uint8_t)(number >> (8 * i));
    }
    return at + 8;
}

static const uint8_t *get_u64(const uint8_t *at, uint64_t *ret_number) {
    uint64_t number = 0;
    for (int i = 0; i < 8; i++) {
        number |= (uint64_t)at[i] << (8 * i);
    }
    *ret_number = number;
    return at + 8;
}

static const uint8_t *get_text(const uint8_t *at, char *text, size_t size) {
    memcpy(text, at, size);
    text[size - 1] = '\0';
    return at + size;
}

static void hash_copy(const uint8_t *copy, uint8_t hash[HASH_SIZE]) {
    int rc = crypto_generichash(hash, HASH_SIZE, copy, HASHED_SIZE, NULL, 0);
    assert(rc == 0);
}

void label_encode(const label_t *label, uint8_t copy[LABEL_COPY_SIZE]) {
    memset(copy, 0, LABEL_COPY_SIZE);
    uint8_t *at = put(copy, magic, sizeof(magic));
    at = put_u64(at, FORMAT);
    at = put_u64(at, label->generation);
    at = put_u64(at, label->floor);
    at = put_u64(at, label->since);
    at = put(at, label->set, sizeof(label->set));
    at = put(at, label->owner, sizeof(label->owner));
    at = put(at, label->kernel_id, sizeof(label->kernel_id));
    at = put(at, label->boot_id, sizeof(label->boot_id));
    assert(at <= copy + HASHED_SIZE);
    hash_copy(copy, copy + HASHED_SIZE);
}

bool label_decode(const uint8_t copy[LABEL_COPY_SIZE], label_t *ret_label) {
    uint8_t hash[HASH_SIZE];
    hash_copy(copy, hash);
    uint64_t format = 0;
    const uint8_t *at = get_u64(copy + sizeof(magic), &format);
    if (memcmp(copy, magic, sizeof(magic)) != 0 || format != FORMAT ||
        memcmp(hash, copy + HASHED_SIZE, HASH_SIZE) != 0) {
        return false;
    }
    label_t label = {0};
    at = get_u64(at, &label.generation);
    at = get_u64(at, &label.floor);
    at = get_u64(at, &label.since);
    at = get_text(at, label.set, sizeof(label.set));
    at = get_text(at, label.owner, sizeof(label.owner));
    at = get_text(at, label.kernel_id, sizeof(label.kernel_id));
    get_text(at, label.boot_id, sizeof(label.boot_id));
    *ret_label = label;
    return true;
}

// The file

int label_open(const char *path) {
    int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_DSYNC;
    int fd = open(path, flags | O_DIRECT);
    if (fd < 0 && errno == EINVAL) {
        fd = open(path, flags); // a file system without direct I/O
    }
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
        close(fd);
        errno = ENOTSUP;
        return -1;
    }
    return fd;
}

static bool read_block(int fd, uint64_t offset, block_t *ret_block) {
    ssize_t n = pread(fd, ret_block->bytes, LABEL_COPY_SIZE, (off_t)offset);
    return n == LABEL_COPY_SIZE;
}

static bool is_zero(const block_t *block) {
    return sodium_is_zero(block->bytes, LABEL_COPY_SIZE) == 1;
}

// No copy is whole: may the file take a first label?  Only copy 0 may be
// anything but zero, because a crash may have torn the very first one that was
// written.
static label_err_t read_unlabelled(int fd, label_t *ret_label,
                                   fleet_text_t *ret_why) {
    struct stat status;
    if (fstat(fd, &status) != 0 ||
        (uint64_t)status.st_size < LABEL_FILE_SIZE_MIN) {
        FLEET_FORMAT(*ret_why, "not a fleet image: it is smaller than %llu KiB",
                     (unsigned long long)(LABEL_FILE_SIZE_MIN >> 10));
        return LABEL_NOT_OURS;
    }
    block_t block;
    for (uint64_t at = 0; at < LABEL_AREA_SIZE; at += LABEL_COPY_SIZE) {
        if (!read_block(fd, at, &block)) {
            FLEET_FORMAT(*ret_why, "reading its first MiB: %s",
                         strerror(errno));
            return LABEL_FAILED;
        }
        if (is_zero(&block) || at == LABEL_COPY_OFFSET(0)) {
            continue;
        }
        if (at == LABEL_COPY_OFFSET(1)) {
            FLEET_COPY(*ret_why, "both copies of its label are damaged");
            return LABEL_DAMAGED;
        }
        FLEET_FORMAT(*ret_why,
                     "not a fleet image: it has no label, and its first MiB "
                     "is in use at offset %llu",
                     (unsigned long long)at);
        return LABEL_NOT_OURS;
    }
    *ret_label = (label_t){0};
    return LABEL_OK;
}

label_err_t label_read(int fd, label_t *ret_label, fleet_text_t *ret_why) {
    label_t newest = {0};
    for (uint64_t i = 0; i < LABEL_COPIES; i++) {
        block_t block;
        label_t label;
        errno = 0;
        if (read_block(fd, LABEL_COPY_OFFSET(i), &block)) {
            if (label_decode(block.bytes, &label) &&
                label.generation > newest.generation) {
                newest = label;
            }
        } else if (errno != 0) {
            FLEET_FORMAT(*ret_why, "reading its label: %s", strerror(errno));
            return LABEL_FAILED;
        }
    }
    if (newest.generation == 0) {
        return read_unlabelled(fd, ret_label, ret_why);
    }
    *ret_label = newest;
    return LABEL_OK;
}

// Generation g goes where g - 2 was: the copy of g - 1 stays whole meanwhile.
static label_err_t write_label(int fd, const label_t *label,
                               fleet_text_t *ret_why) {
    uint64_t offset = LABEL_COPY_OFFSET((label->generation - 1) % LABEL_COPIES);
    block_t written;
    label_encode(label, written.bytes);
    ssize_t n = pwrite(fd, written.bytes, LABEL_COPY_SIZE, (off_t)offset);
    if (n != LABEL_COPY_SIZE) {
        FLEET_FORMAT(*ret_why, "writing its label: %s",
                     n < 0 ? strerror(errno) : "short write");
        return LABEL_FAILED;
    }
    block_t read_back;
    posix_fadvise(fd, (off_t)offset, LABEL_COPY_SIZE, POSIX_FADV_DONTNEED);
    if (!read_block(fd, offset, &read_back) ||
        memcmp(read_back.bytes, written.bytes, LABEL_COPY_SIZE) != 0) {
        FLEET_COPY(*ret_why, "its label does not read back as written");
        return LABEL_FAILED;
    }
    return LABEL_OK;
}

static bool lock_file(int fd, uint64_t limit_ms) {
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = 0,
                         .l_len = (off_t)LABEL_AREA_SIZE};
    patience_t patience = patience_of_ms(limit_ms);
    while (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        if ((errno != EAGAIN && errno != EACCES && errno != EINTR) ||
            !patience_nap(&patience)) {
            return false;
        }
    }
    return true;
}

static void unlock_file(int fd) {
    struct flock lock = {.l_type = F_UNLCK,
                         .l_whence = SEEK_SET,
                         .l_start = 0,
                         .l_len = (off_t)LABEL_AREA_SIZE};
    (void)fcntl(fd, F_OFD_SETLK, &lock); // if not now, then when fd is closed
}

static label_err_t change_locked(int fd, const label_command_t *command,
                                 label_t *ret_label,
                                 label_verdict_t *ret_verdict,
                                 fleet_text_t *ret_why) {
    label_t label;
    label_err_t err = label_read(fd, &label, ret_why);
    if (err != LABEL_OK) {
        return err;
    }
    bool first = label.generation == 0;
    label_verdict_t verdict = label_apply(&label, command);
    if (verdict == LABEL_CHANGED) {
        // A first label names nobody, so that nothing is lost with a first
        // label that was torn and is written again.
        if (first) {
            label_t blank = {.generation = 1};
            FLEET_COPY(blank.set, label.set);
            err = write_label(fd, &blank, ret_why);
            label.generation = 2;
        }
        if (err == LABEL_OK) {
            err = write_label(fd, &label, ret_why);
        }
        if (err != LABEL_OK) {
            return err;
        }
    }
    *ret_label = label;
    *ret_verdict = verdict;
    return LABEL_OK;
}

label_err_t label_update(int fd, const label_command_t *command,
                         uint64_t limit_ms, label_t *ret_label,
                         label_verdict_t *ret_verdict, fleet_text_t *ret_why) {
    if (!lock_file(fd, limit_ms)) {
        FLEET_FORMAT(*ret_why,
                     "its lock is held by another process for %llu ms",
                     (unsigned long long)limit_ms);
        return LABEL_LOCKED;
    }
    // Whoever hangs with this lock would block an eviction for ever.
    signal(SIGALRM, SIG_DFL);
    alarm(LABEL_HOLD_MAX_S);
    label_err_t err =
        change_locked(fd, command, ret_label, ret_verdict, ret_why);
    unlock_file(fd);
    alarm(0);
    return err;
}
