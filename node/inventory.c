// SPDX-License-Identifier: MIT
//
// A host may be a container or a namespace that shows a boot id of its own,
// bind mounted over the kernel's.  The first counts for records ("was this
// written before the boot?"); the second tells whether two hosts share a
// kernel, which decides whether a loop device of the other one can be blocked
// from here.

#include "node/inventory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "proto/text.h"

#define BOOT_ID "sys/kernel/random/boot_id"

static bool read_id(int dir, const char *path, fleet_id_t ret_id) {
    fleet_id_t id = "";
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t size = read(fd, id, sizeof(id) - 1);
    close(fd);
    if (size <= 0) {
        return false;
    }
    id[strcspn(id, " \n")] = '\0';
    fleet_text_copy(ret_id, FLEET_ID_MAX + 1, id);
    return id[0] != '\0';
}

// A procfs that is mounted nowhere has nothing mounted over its files.
static bool read_kernel_id(fleet_id_t ret_id) {
    int context = fsopen("proc", FSOPEN_CLOEXEC);
    if (context < 0) {
        return false;
    }
    int mount = -1;
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
        mount = fsmount(context, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                            MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);
    }
    bool ok = mount >= 0 && read_id(mount, BOOT_ID, ret_id);
    if (mount >= 0) {
        close(mount);
    }
    close(context);
    return ok;
}

bool inventory_read(inventory_t *ret_inventory, fleet_text_t ret_why) {
    inventory_t inventory = {.boot_id = ""};
    if (!read_id(AT_FDCWD, "/proc/" BOOT_ID, inventory.boot_id)) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "/proc/" BOOT_ID ": %s",
                          strerror(errno));
        return false;
    }
    if (!read_kernel_id(inventory.kernel_id)) {
        // Without the right to mount nothing can be evicted either.
        FLEET_COPY(inventory.kernel_id, inventory.boot_id);
    }
    struct utsname name;
    if (uname(&name) == 0) {
        FLEET_COPY(inventory.kernel, name.release);
    }
    *ret_inventory = inventory;
    return true;
}

uint64_t inventory_load_milli(void) {
    char line[64] = "";
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, line, sizeof(line) - 1);
    close(fd);
    char *end = line;
    // By hand: the decimal point of strtod is the locale's.  Two digits follow
    // it.
    uint64_t whole = size > 0 ? strtoull(line, &end, 10) : 0;
    uint64_t hundredths = *end == '.' ? strtoull(end + 1, NULL, 10) : 0;
    return whole * 1000 + hundredths * 10;
}
