// SPDX-License-Identifier: MIT
//
// See loopdev.h.

#include "node/agents/loopdev.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "node/agents/ktext.h"
#include "node/agents/label.h"
#include "node/agents/patience.h"
#include "proto/text.h"

#define SECTOR 512
#define CONTROL "/dev/loop-control"
#define EVICT_MS 1000
#define STRAGGLERS_MS 500
#define QUIET_US 20000

// Tags: "fleet:HASH:TOKEN:NODE"

loopdev_tag_t loopdev_tag(const char *set, const char *node, uint64_t token) {
    loopdev_tag_t tag = {.token = token};
    FLEET_COPY(tag.node, node);
    uint8_t hash[crypto_generichash_BYTES_MIN];
    int rc = crypto_generichash(hash, sizeof(hash), (const uint8_t *)set,
                                strlen(set), NULL, 0);
    assert(rc == 0);
    memcpy(&tag.set_hash, hash, sizeof(tag.set_hash));
    return tag;
}

bool loopdev_tag_is(const loopdev_tag_t *tag, const char *set,
                    const char *node) {
    loopdev_tag_t wanted = loopdev_tag(set, node, tag->token);
    return tag->set_hash == wanted.set_hash &&
           strcmp(tag->node, wanted.node) == 0;
}

static void print_tag(const loopdev_tag_t *tag, uint8_t name[LO_NAME_SIZE]) {
    char text[LO_NAME_SIZE];
    int n = snprintf(text, sizeof(text), "fleet:%08" PRIx32 ":%" PRIu64 ":%s",
                     tag->set_hash, tag->token, tag->node);
    assert(n > 0 && n < LO_NAME_SIZE);
    memset(name, 0, LO_NAME_SIZE);
    memcpy(name, text, (size_t)n);
}

static bool read_tag(const uint8_t name[LO_NAME_SIZE], loopdev_tag_t *ret_tag) {
    char text[LO_NAME_SIZE];
    memcpy(text, name, sizeof(text));
    text[sizeof(text) - 1] = '\0';
    const char *at = text;
    uint64_t hash = 0;
    loopdev_tag_t tag = {0};
    if (!ktext_word(&at, "fleet:") || !ktext_number(&at, 16, &hash) ||
        !ktext_word(&at, ":") || !ktext_number(&at, 10, &tag.token) ||
        !ktext_word(&at, ":") || !fleet_name_ok(at)) {
        return false;
    }
    tag.set_hash = (uint32_t)hash;
    FLEET_COPY(tag.node, at);
    *ret_tag = tag;
    return true;
}

// Devices

bool loopdev_can_write(const loopdev_t *device) {
    return !device->read_only && !device->evicted;
}

void loopdev_path(unsigned number, fleet_id_t ret_path) {
    fleet_text_format(ret_path, FLEET_ID_MAX + 1, "/dev/loop%u", number);
}

// /dev may be a plain directory that the kernel does not fill: the node is then
// made by its number, as the kernel tells it.
static bool make_node(unsigned number, const char *path) {
    char name[64];
    snprintf(name, sizeof(name), "/sys/block/loop%u/dev", number);
    char text[32];
    const char *at = text;
    uint64_t major_number = 0;
    uint64_t minor_number = 0;
    return ktext_read(AT_FDCWD, name, text, sizeof(text)) &&
           ktext_number(&at, 10, &major_number) && ktext_word(&at, ":") &&
           ktext_number(&at, 10, &minor_number) &&
           (mknod(path, S_IFBLK | 0660,
                  makedev((unsigned)major_number, (unsigned)minor_number)) ==
                0 ||
            errno == EEXIST);
}

// O_RDONLY is enough to administer a device, and spares udev another look at
// it; a device that is attached by an O_RDONLY descriptor is itself read-only.
static int open_device(unsigned number, int flags) {
    fleet_id_t path;
    loopdev_path(number, path);
    int fd = open(path, O_CLOEXEC | flags);
    if (fd < 0 && errno == ENOENT && make_node(number, path)) {
        fd = open(path, O_CLOEXEC | flags);
    }
    return fd;
}

static bool is_evicted(const struct loop_info64 *info) {
    return info->lo_sizelimit == SECTOR &&
           info->lo_offset == LABEL_DITCH_OFFSET;
}

static loopdev_t describe(unsigned number, int fd,
                          const struct loop_info64 *info) {
    loopdev_t device = {
        .number = number,
        .file_dev = (dev_t)info->lo_device,
        .file_ino = (ino_t)info->lo_inode,
        .read_only = (info->lo_flags & LO_FLAGS_READ_ONLY) != 0,
        .leaving = (info->lo_flags & LO_FLAGS_AUTOCLEAR) != 0,
    };
    uint64_t size = UINT64_MAX;
    device.evicted = is_evicted(info) && ioctl(fd, BLKGETSIZE64, &size) == 0 &&
                     size <= SECTOR;
    device.tagged = read_tag(info->lo_file_name, &device.tag);
    return device;
}

typedef enum looked {
    LOOKED_ATTACHED,
    LOOKED_FREE,
    LOOKED_FAILED // errno
} looked_t;

static looked_t look(unsigned number, loopdev_t *ret_device) {
    // Reading is enough to administer, and udev looks again at whatever was
    // open for writing.
    int fd = open_device(number, O_RDONLY);
    if (fd < 0) {
        // Gone between listing and opening, or about to let go of its file.
        bool gone = errno == ENXIO || errno == ENODEV || errno == ENOENT;
        return gone ? LOOKED_FREE : LOOKED_FAILED;
    }
    struct loop_info64 info = {0};
    looked_t looked = LOOKED_ATTACHED;
    if (ioctl(fd, LOOP_GET_STATUS64, &info) != 0) {
        looked = errno == ENXIO ? LOOKED_FREE : LOOKED_FAILED;
    } else {
        *ret_device = describe(number, fd, &info);
    }
    int error = errno;
    close(fd);
    errno = error;
    return looked;
}

bool loopdev_look(unsigned number, loopdev_t *ret_device) {
    return look(number, ret_device) == LOOKED_ATTACHED;
}

static bool find(dev_t dev, const ino_t *ino, loopdev_list_t *ret_list,
                 fleet_text_t *ret_why) {
    DIR *blocks = opendir("/sys/block");
    if (!blocks) {
        FLEET_FORMAT(*ret_why, "/sys/block: %s", strerror(errno));
        return false;
    }
    loopdev_list_t list = {0};
    bool ok = true;
    for (const struct dirent *entry; ok && (entry = readdir(blocks));) {
        const char *at = entry->d_name;
        uint64_t number = 0;
        if (!ktext_word(&at, "loop") || !ktext_number(&at, 10, &number)) {
            continue;
        }
        loopdev_t device;
        looked_t looked = look((unsigned)number, &device);
        if (looked == LOOKED_FAILED) {
            FLEET_FORMAT(*ret_why, "/dev/loop%u: %s", (unsigned)number,
                         strerror(errno));
            ok = false;
        } else if (looked == LOOKED_ATTACHED && device.file_dev == dev &&
                   (!ino || device.file_ino == *ino)) {
            if (list.n < LOOPDEV_MAX) {
                list.items[list.n++] = device;
            } else {
                list.more++;
            }
        }
    }
    closedir(blocks);
    if (ok) {
        *ret_list = list;
    }
    return ok;
}

bool loopdev_find(dev_t dev, ino_t ino, loopdev_list_t *ret_list,
                  fleet_text_t *ret_why) {
    return find(dev, &ino, ret_list, ret_why);
}

bool loopdev_find_on(dev_t dev, loopdev_list_t *ret_list,
                     fleet_text_t *ret_why) {
    return find(dev, NULL, ret_list, ret_why);
}

bool loopdev_unclaimed(const char *path) {
    int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd < 0) {
        return errno != EBUSY;
    }
    close(fd);
    return true;
}

// Attaching

static bool configure(int fd, int file, const loopdev_tag_t *tag) {
    struct loop_config config = {
        .fd = (uint32_t)file,
        // The smallest there is, so that a file system with small blocks fits.
        .block_size = SECTOR,
        .info = {.lo_offset = LABEL_AREA_SIZE, .lo_flags = LO_FLAGS_DIRECT_IO},
    };
    print_tag(tag, config.info.lo_file_name);
    return ioctl(fd, LOOP_CONFIGURE, &config) == 0;
}

bool loopdev_attach(int file, const loopdev_tag_t *tag, uint64_t limit_ms,
                    loopdev_t *ret_device, fleet_text_t *ret_why) {
    int control = open(CONTROL, O_RDWR | O_CLOEXEC);
    if (control < 0) {
        FLEET_FORMAT(*ret_why, "%s: %s", CONTROL, strerror(errno));
        return false;
    }
    patience_t patience = patience_of_ms(limit_ms);
    bool attached = false;
    do {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0) {
            FLEET_FORMAT(*ret_why, "no free loop device: %s", strerror(errno));
            break;
        }
        int fd = open_device((unsigned)number, O_RDWR);
        attached = fd >= 0 && configure(fd, file, tag);
        int error = errno;
        struct loop_info64 info = {0};
        if (attached && ioctl(fd, LOOP_GET_STATUS64, &info) == 0) {
            *ret_device = describe((unsigned)number, fd, &info);
        }
        if (fd >= 0) {
            close(fd);
        }
        if (attached) {
            break;
        }
        FLEET_FORMAT(*ret_why, "attaching /dev/loop%d: %s", number,
                     strerror(error));
        // Another host took this number between the two calls, or the node in
        // /dev is still to come.
        if (error != EBUSY && error != ENXIO && error != ENOENT) {
            break;
        }
    } while (patience_nap(&patience));
    close(control);
    return attached;
}

// Detaching

static bool is_on(const struct loop_info64 *info, const loopdev_t *device) {
    return info->lo_device == device->file_dev &&
           info->lo_inode == device->file_ino;
}

static bool is_gone(const loopdev_t *device) {
    loopdev_t now;
    looked_t looked = look(device->number, &now);
    return looked == LOOKED_FREE ||
           (looked == LOOKED_ATTACHED && (now.file_dev != device->file_dev ||
                                          now.file_ino != device->file_ino));
}

// One attempt.  The device is claimed first: a mount that came in between would
// have it detached under its feet at its end.
static loopdev_gone_t clear(const loopdev_t *device, fleet_text_t *ret_why) {
    int fd = open_device(device->number, O_RDONLY | O_EXCL);
    if (fd < 0) {
        if (errno == ENXIO || errno == ENODEV || errno == ENOENT) {
            return LOOPDEV_GONE;
        }
        if (errno == EBUSY) {
            return LOOPDEV_HELD;
        }
        FLEET_FORMAT(*ret_why, "/dev/loop%u: %s", device->number,
                     strerror(errno));
        return LOOPDEV_FAILED;
    }
    loopdev_gone_t gone = LOOPDEV_HELD;
    struct loop_info64 info = {0};
    if (ioctl(fd, LOOP_GET_STATUS64, &info) != 0) {
        gone = errno == ENXIO ? LOOPDEV_GONE : LOOPDEV_HELD;
    } else if (!is_on(&info, device)) {
        gone = LOOPDEV_GONE;
    } else if (ioctl(fd, LOOP_CLR_FD) != 0 && errno != ENXIO &&
               errno != EBUSY) {
        FLEET_FORMAT(*ret_why, "detaching /dev/loop%u: %s", device->number,
                     strerror(errno));
        gone = LOOPDEV_FAILED;
    }
    close(fd); // the kernel detaches at the last close
    return gone;
}

loopdev_gone_t loopdev_detach(const loopdev_t *device, uint64_t limit_ms,
                              fleet_text_t *ret_why) {
    patience_t patience = patience_of_ms(limit_ms);
    loopdev_gone_t gone = LOOPDEV_HELD;
    do {
        gone = clear(device, ret_why);
        if (gone == LOOPDEV_HELD && is_gone(device)) {
            gone = LOOPDEV_GONE;
        }
    } while (gone == LOOPDEV_HELD && patience_nap(&patience));
    return gone;
}

// Evicting

// Each call waits for all requests that are under way.  EAGAIN: the kernel
// wants the device's page cache empty, and it is not yet.
static bool set_status(int fd, const struct loop_info64 *info) {
    patience_t patience = patience_of_ms(EVICT_MS);
    while (ioctl(fd, LOOP_SET_STATUS64, info) != 0) {
        if (errno != EAGAIN || !patience_nap(&patience)) {
            return false;
        }
    }
    return true;
}

// Writes that the device has ended since it was attached.
static bool count_writes(unsigned number, uint64_t *ret_writes) {
    char name[64];
    snprintf(name, sizeof(name), "/sys/block/loop%u/stat", number);
    char text[256];
    const char *at = text;
    return ktext_read(AT_FDCWD, name, text, sizeof(text)) &&
           ktext_skip(&at, 4) && ktext_number(&at, 10, ret_writes);
}

// A request is measured against the device's size before it waits for its turn,
// and the turn is what a change of the device holds up.  So the stragglers of a
// smaller size are measured by the old one, and still come: until none has for
// a while.
static void let_stragglers_end(unsigned number) {
    patience_t patience = patience_of_ms(STRAGGLERS_MS);
    uint64_t writes = 0;
    uint64_t quiet_us = patience_now_us();
    bool counted = count_writes(number, &writes);
    do {
        uint64_t now = writes;
        if (!counted || !count_writes(number, &now) || now != writes) {
            writes = now;
            quiet_us = patience_now_us();
        }
    } while (patience_now_us() - quiet_us < QUIET_US &&
             patience_nap(&patience));
}

// First the size, and only when nothing comes any more the place: a straggler
// of the smaller size is an ordinary late write; one that met another place
// would hit some block of the file system that it was not meant for.
static bool block_writes(unsigned number, int fd,
                         const struct loop_info64 *info) {
    struct loop_info64 blocked = *info;
    blocked.lo_sizelimit = SECTOR;
    if (!set_status(fd, &blocked)) {
        return false;
    }
    let_stragglers_end(number);
    if (!set_status(fd, &blocked)) {
        return false;
    }
    blocked.lo_offset = LABEL_DITCH_OFFSET;
    return set_status(fd, &blocked);
}

bool loopdev_evict(const loopdev_t *device, fleet_text_t *ret_why) {
    int fd = open_device(device->number, O_RDONLY);
    struct loop_info64 info = {0};
    if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) != 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        FLEET_FORMAT(*ret_why, "/dev/loop%u: %s", device->number,
                     strerror(error));
        return error == ENXIO || error == ENODEV; // it went by itself
    }
    bool ok = true;
    if (is_on(&info, device)) {
        struct loop_info64 back = {0};
        if (!block_writes(device->number, fd, &info)) {
            FLEET_FORMAT(*ret_why, "blocking /dev/loop%u: %s", device->number,
                         strerror(errno));
            ok = false;
        } else if (ioctl(fd, LOOP_GET_STATUS64, &back) != 0 ||
                   !describe(device->number, fd, &back).evicted) {
            FLEET_FORMAT(*ret_why, "/dev/loop%u does not read back as blocked",
                         device->number);
            ok = false;
        }
    }
    close(fd);
    return ok;
}
