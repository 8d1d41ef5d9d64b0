// SPDX-License-Identifier: MIT

#include "node/twin.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/scan.h"
#include "proto/fd.h"
#include "proto/keys.h"
#include "proto/text.h"

// A sector is written whole or not at all by every disk; the checksum is for
// those that say so and do not.
#define HALF 512

static fleet_err_t failed(fleet_text_t ret_why, const char *name,
                          const char *what) {
    fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: %s: %s", name, what,
                      strerror(errno));
    return FLEET_STORE_FAILED;
}

// "NUMBER CHECKSUM\nTEXT", padded with spaces to a line's end: a person can
// read it.
static void half_make(char half[HALF], uint64_t number, const char *text) {
    fleet_key_t sum;
    char digits[65];
    fleet_bytes_t parts[] = {{&number, sizeof(number)}, {text, strlen(text)}};
    fleet_hash(parts, 2, sum);
    fleet_key_print(sum, digits);
    memset(half, ' ', HALF);
    half[HALF - 1] = '\n';
    char line[HALF + 1];
    int size = snprintf(line, sizeof(line), "%" PRIu64 " %s\n%s", number,
                        digits, text);
    assert(size > 0 && size < HALF - 1);
    memcpy(half, line, (size_t)size);
}

// False if this half is not whole.
static bool half_read(const char half[HALF], twin_t *ret_twin) {
    char text[HALF + 1];
    memcpy(text, half, HALF);
    text[HALF] = '\0';
    size_t size = strlen(text);
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == ' ')) {
        text[--size] = '\0';
    }
    uint64_t number;
    char digits[65];
    const char *at = text;
    if (!scan_u64(&at, &number) || !scan_text(&at, digits, sizeof(digits)) ||
        number == 0 || *at != '\n' || strlen(at + 1) > TWIN_TEXT_MAX) {
        return false;
    }
    // It is whole if it is what would be written for this number and text.
    char again[HALF];
    half_make(again, number, at + 1);
    if (memcmp(again, half, HALF) != 0) {
        return false;
    }
    *ret_twin = (twin_t){.number = number};
    memcpy(ret_twin->text, at + 1, strlen(at + 1));
    return true;
}

fleet_err_t twin_read(int dir, const char *name, twin_t *ret_twin,
                      fleet_text_t ret_why) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *ret_twin = (twin_t){.number = 0};
        return FLEET_OK;
    }
    if (fd < 0) {
        failed(ret_why, name, "cannot be opened");
        return FLEET_BAD_FILE;
    }
    char bytes[2 * HALF];
    ssize_t size = pread(fd, bytes, sizeof(bytes), 0);
    int err = errno;
    close(fd);
    if (size < 0) {
        errno = err;
        failed(ret_why, name, "cannot be read");
        return FLEET_BAD_FILE;
    }
    twin_t halves[2];
    bool whole[2] = {false, false};
    for (size_t i = 0; i < 2; i++) {
        whole[i] = size >= (ssize_t)((i + 1) * HALF) &&
                   half_read(bytes + i * HALF, &halves[i]);
    }
    if (!whole[0] && !whole[1]) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: is damaged", name);
        return FLEET_BAD_FILE;
    }
    bool second =
        whole[1] && (!whole[0] || halves[1].number > halves[0].number);
    *ret_twin = halves[second];
    return FLEET_OK;
}

fleet_err_t twin_write_whole(int dir, const char *name, const void *bytes,
                             size_t size, fleet_text_t ret_why) {
    char temporary[FLEET_TEXT_MAX + 1];
    FLEET_FORMAT(temporary, ".%s.new", name);
    int fd =
        openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failed(ret_why, name, "cannot be made");
    }
    bool ok = fleet_fd_write(fd, bytes, size) && fsync(fd) == 0;
    int err = errno;
    ok = close(fd) == 0 && ok;
    if (ok && renameat(dir, temporary, dir, name) == 0 && fsync(dir) == 0) {
        return FLEET_OK;
    }
    err = ok ? errno : err;
    (void)unlinkat(dir, temporary, 0);
    errno = err;
    return failed(ret_why, name, "cannot be written");
}

static fleet_err_t write_half(int dir, const char *name, uint64_t number,
                              const char half[HALF], fleet_text_t ret_why) {
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed(ret_why, name, "cannot be opened");
    }
    bool ok = lseek(fd, (off_t)(number % 2) * HALF, SEEK_SET) >= 0 &&
              fleet_fd_write(fd, half, HALF) && fdatasync(fd) == 0;
    int err = errno;
    close(fd);
    errno = err;
    return ok ? FLEET_OK : failed(ret_why, name, "cannot be written");
}

fleet_err_t twin_write(int dir, const char *name, const char *text,
                       twin_t *twin, fleet_text_t ret_why) {
    assert(strlen(text) <= TWIN_TEXT_MAX);
    twin_t next = {.number = twin->number + 1};
    memcpy(next.text, text, strlen(text));
    char bytes[2 * HALF];
    fleet_err_t err;
    if (twin->number == 0) {
        // Its full size from the beginning, so that later writes change no
        // inode.
        memset(bytes, '\n', sizeof(bytes));
        half_make(bytes + (next.number % 2) * HALF, next.number, text);
        err = twin_write_whole(dir, name, bytes, sizeof(bytes), ret_why);
    } else {
        half_make(bytes, next.number, text);
        err = write_half(dir, name, next.number, bytes, ret_why);
    }
    if (err == FLEET_OK) {
        *twin = next;
    }
    return err;
}
