// SPDX-License-Identifier: MIT
//
// The disk group driver "image": a file that several nodes can reach, attached
// as a loop device behind a label that is its host lock (label.h, rule P9).
//
// A device carries the token that its owner's holding began with (label.since).
// So an evict leaves alone what a later owner attached, however late it comes,
// and a node knows a device of its own from an older holding, which it never
// revives.
//
// Import and evict race on purpose without a common lock around the loop
// devices: import attaches and then reads the label again, evict stamps the
// label and then looks for devices.  Whichever comes last sees the other.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/agents/agent.h"
#include "node/agents/evict.h"
#include "node/agents/holders.h"
#include "node/agents/imagefile.h"
#include "node/agents/ktext.h"
#include "node/agents/mounts.h"
#include "node/agents/patience.h"
#include "proto/text.h"

#define ATTACH_MS 5000
// What is left of an older holding has been unmounted before, or it is held.
#define STALE_MS 500

static bool is_ours(const agent_ctx_t *ctx, const loopdev_t *device) {
    return device->tagged &&
           loopdev_tag_is(&device->tag, ctx->setdef->set, ctx->node);
}

// The link that agents above find the device by

static void link_path(const agent_ctx_t *ctx, fleet_text_t ret_path) {
    agent_device_path(ctx, ret_path);
}

static bool link_set(const agent_ctx_t *ctx, const loopdev_t *device) {
    fleet_text_t link;
    char fresh[FLEET_TEXT_MAX + 32];
    fleet_id_t path;
    link_path(ctx, link);
    char *slash = strrchr(link, '/');
    *slash = '\0';
    if (mkdir(link, 0755) != 0 && errno != EEXIST) {
        return false;
    }
    *slash = '/';
    snprintf(fresh, sizeof(fresh), "%s.%d", link, getpid());
    loopdev_path(device->number, path);
    unlink(fresh);
    return symlink(path, fresh) == 0 && rename(fresh, link) == 0;
}

static void link_remove(const agent_ctx_t *ctx) {
    fleet_text_t link;
    link_path(ctx, link);
    unlink(link);
}

// The device that the link names, if it is ours: for when the file cannot be
// seen.
static bool link_device(const agent_ctx_t *ctx, loopdev_t *ret_device) {
    fleet_text_t link;
    link_path(ctx, link);
    char path[FLEET_ID_MAX + 1];
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    const char *at = path;
    uint64_t number = 0;
    loopdev_t device;
    path[n > 0 ? n : 0] = '\0';
    if (!ktext_word(&at, "/dev/loop") || !ktext_number(&at, 10, &number) ||
        !loopdev_look((unsigned)number, &device) || !is_ours(ctx, &device)) {
        return false;
    }
    *ret_device = device;
    return true;
}

// Detaching

static void say_held(const loopdev_t *device, agent_result_t *result) {
    fleet_id_t path;
    loopdev_path(device->number, path);
    holders_t *holders = calloc(1, sizeof(*holders));
    assert(holders);
    holders_target_t target;
    if (holders_target(path, &target)) {
        target.raw = true;
        mounts_learn(&target);
        holders_find_processes(&target, false, holders);
        mounts_find(&target, true, holders);
        holders_find_others(&target, holders);
    }
    fleet_text_t who;
    holders_sum(holders, who, result->said);
    agent_fail(result, FLEET_HELD, "%s is held by %s", path,
               holders->n > 0 ? who : "somebody who cannot be seen from here");
    free(holders);
}

static bool detach(const loopdev_t *device, uint64_t limit_ms, fleet_err_t err,
                   agent_result_t *result) {
    fleet_text_t why;
    switch (loopdev_detach(device, limit_ms, &why)) {
    case LOOPDEV_GONE:
        return true;
    case LOOPDEV_HELD:
        say_held(device, result);
        return false;
    case LOOPDEV_FAILED:
        break;
    }
    agent_fail(result, err, "%s", why);
    return false;
}

static bool find_devices(const imagefile_t *image, fleet_err_t err,
                         loopdev_list_t *ret_list, agent_result_t *result) {
    fleet_text_t why;
    if (!loopdev_find(image->dev, image->ino, ret_list, &why)) {
        agent_fail(result, err, "%s: looking for its loop devices: %s",
                   image->path, why);
        return false;
    }
    if (ret_list->more > 0) {
        agent_fail(result, err, "%s: attached %u times", image->path,
                   ret_list->n + ret_list->more);
        return false;
    }
    return true;
}

// Start

// Is it the device of the holding that this very command goes on with?
static bool goes_on(const agent_ctx_t *ctx, const label_t *label,
                    const loopdev_t *device) {
    uint64_t before = ctx->from_token != 0 ? ctx->from_token : ctx->token;
    return strcmp(label->owner, ctx->node) == 0 &&
           (label->floor == before || label->floor == ctx->token) &&
           device->tag.token == label->since && loopdev_can_write(device) &&
           !device->leaving;
}

// Of the devices on the file, keeps one that may go on, tears down what else is
// ours (P9), and refuses to go near anybody else's that can still write.
static bool sort_devices(const agent_ctx_t *ctx, const imagefile_t *image,
                         const label_t *label, bool *ret_kept,
                         loopdev_t *ret_device, agent_result_t *result) {
    loopdev_list_t list;
    if (!find_devices(image, FLEET_START_FAILED, &list, result)) {
        return false;
    }
    bool kept = false;
    for (uint32_t i = 0; i < list.n; i++) {
        const loopdev_t *device = &list.items[i];
        if (is_ours(ctx, device)) {
            if (!kept && goes_on(ctx, label, device)) {
                *ret_device = *device;
                kept = true;
            } else if (!detach(device, STALE_MS, FLEET_START_FAILED, result)) {
                return false;
            }
        } else if (loopdev_can_write(device)) {
            agent_fail(result, FLEET_HELD, "%s: /dev/loop%u%s%s can write it",
                       image->path, device->number,
                       device->tagged ? " of " : ", which is not fleet's,",
                       device->tag.node);
            return false;
        }
    }
    *ret_kept = kept;
    return true;
}

static bool take_lock(const agent_ctx_t *ctx, const imagefile_t *image,
                      label_t *ret_label, agent_result_t *result) {
    label_command_t command = imagefile_command(ctx, LABEL_IMPORT);
    label_verdict_t verdict = LABEL_REFUSED;
    fleet_text_t why;
    if (label_update(image->fd, &command, IMAGEFILE_LOCK_MS, ret_label,
                     &verdict, &why) != LABEL_OK) {
        agent_fail(result, FLEET_START_FAILED, "%s: %s", image->path, why);
        return false;
    }
    imagefile_report(ret_label, result);
    if (verdict == LABEL_REFUSED) {
        fleet_text_t says;
        label_say(ret_label, says);
        bool other = ret_label->generation != 0 &&
                     strcmp(ret_label->set, ctx->setdef->set) != 0;
        agent_fail(result, FLEET_LOCK_FOREIGN,
                   "%s: its lock names %s%s%s; refused for %s with token %llu",
                   image->path, says, other ? ", of the set " : "",
                   other ? ret_label->set : "", ctx->node,
                   (unsigned long long)ctx->token);
        return false;
    }
    return true;
}

static bool attach(const agent_ctx_t *ctx, const imagefile_t *image,
                   const label_t *label, loopdev_t *ret_device,
                   agent_result_t *result) {
    // Not the label's descriptor: its flags are not for the file system's I/O.
    int file = open(image->path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0 || status.st_dev != image->dev ||
        status.st_ino != image->ino) {
        agent_fail(result, FLEET_START_FAILED, "%s: %s", image->path,
                   file < 0 ? strerror(errno) : "it was exchanged meanwhile");
        if (file >= 0) {
            close(file);
        }
        return false;
    }
    loopdev_tag_t tag = loopdev_tag(ctx->setdef->set, ctx->node, label->since);
    fleet_text_t why;
    bool ok = loopdev_attach(file, &tag, ATTACH_MS, ret_device, &why);
    close(file);
    if (!ok) {
        agent_fail(result, FLEET_START_FAILED, "%s: %s", image->path, why);
    }
    return ok;
}

// The lock may have been stamped between import and attaching; then whoever
// stamped it may have looked for devices before there was this one.
static bool still_locked(const agent_ctx_t *ctx, const imagefile_t *image,
                         agent_result_t *result) {
    label_t label;
    fleet_text_t why;
    if (label_read(image->fd, &label, &why) != LABEL_OK) {
        agent_fail(result, FLEET_START_FAILED, "%s: %s", image->path, why);
        return false;
    }
    if (strcmp(label.owner, ctx->node) != 0 || label.floor != ctx->token) {
        fleet_text_t says;
        label_say(&label, says);
        imagefile_report(&label, result);
        agent_fail(result, FLEET_LOCK_FOREIGN,
                   "%s: its lock was taken meanwhile and names %s", image->path,
                   says);
        return false;
    }
    return true;
}

static void start_open(const agent_ctx_t *ctx, const imagefile_t *image,
                       agent_result_t *result) {
    label_t label;
    fleet_text_t why;
    if (label_read(image->fd, &label, &why) != LABEL_OK) {
        agent_fail(result, FLEET_START_FAILED, "%s: %s", image->path, why);
        return;
    }
    bool kept = false;
    loopdev_t device = {0};
    if (!sort_devices(ctx, image, &label, &kept, &device, result) ||
        !take_lock(ctx, image, &label, result)) {
        return;
    }
    if (!kept && !attach(ctx, image, &label, &device, result)) {
        return;
    }
    if (!still_locked(ctx, image, result)) {
        agent_result_t ignored = {0};
        if (!kept) {
            detach(&device, ATTACH_MS, FLEET_START_FAILED, &ignored);
        }
        return;
    }
    if (!link_set(ctx, &device)) {
        agent_fail(result, FLEET_START_FAILED, "linking /dev/loop%u: %s",
                   device.number, strerror(errno));
        return;
    }
    FLEET_FORMAT(result->text, "%s %s /dev/loop%u, locked with token %llu",
                 image->path, kept ? "is still" : "attached as", device.number,
                 (unsigned long long)ctx->token);
}

static void image_start(const agent_ctx_t *ctx, agent_result_t *result) {
    imagefile_t image = imagefile_open(ctx);
    if (image.fd < 0) {
        agent_fail(result, FLEET_START_FAILED, "%s: %s", image.path,
                   strerror(image.error));
        return;
    }
    start_open(ctx, &image, result);
    imagefile_close(&image);
}

// Stop

// Without the file its device can still go, so that nothing of it is left here;
// the lock cannot.
static void stop_unseen(const agent_ctx_t *ctx, const imagefile_t *image,
                        agent_result_t *result) {
    loopdev_t device;
    const char *rest = "";
    if (link_device(ctx, &device)) {
        patience_t limit = patience_of_limit(ctx->resource->stop_ms);
        if (!detach(&device, patience_left_ms(&limit), FLEET_STOP_FAILED,
                    result)) {
            return;
        }
        rest = ", but its device is detached";
        link_remove(ctx);
    }
    agent_fail(result, FLEET_STOP_FAILED, "%s: %s: its lock stays%s",
               image->path, strerror(image->error), rest);
}

static bool stop_devices(const agent_ctx_t *ctx, const imagefile_t *image,
                         agent_result_t *result) {
    patience_t limit = patience_of_limit(ctx->resource->stop_ms);
    loopdev_list_t list;
    if (!find_devices(image, FLEET_STOP_FAILED, &list, result)) {
        return false;
    }
    for (uint32_t i = 0; i < list.n; i++) {
        const loopdev_t *device = &list.items[i];
        if (is_ours(ctx, device)) {
            if (!detach(device, patience_left_ms(&limit), FLEET_STOP_FAILED,
                        result)) {
                return false;
            }
        } else if (!device->tagged && loopdev_can_write(device)) {
            agent_fail(result, FLEET_HELD,
                       "%s is also attached as /dev/loop%u, not by fleet",
                       image->path, device->number);
            return false;
        }
    }
    link_remove(ctx);
    return true;
}

static void stop_open(const agent_ctx_t *ctx, const imagefile_t *image,
                      agent_result_t *result) {
    if (!stop_devices(ctx, image, result)) {
        return;
    }
    // What the device wrote into the page cache must be on the disk before
    // somebody else may look.
    if (fsync(image->fd) != 0) {
        agent_fail(result, FLEET_STOP_FAILED, "%s: writing it out: %s",
                   image->path, strerror(errno));
        return;
    }
    label_command_t command = imagefile_command(ctx, LABEL_RELEASE);
    label_verdict_t verdict = LABEL_AS_IS;
    label_t label;
    fleet_text_t why;
    if (label_update(image->fd, &command, IMAGEFILE_LOCK_MS, &label, &verdict,
                     &why) != LABEL_OK) {
        agent_fail(result, FLEET_STOP_FAILED, "%s: %s", image->path, why);
        return;
    }
    imagefile_report(&label, result);
    fleet_text_t says;
    label_say(&label, says);
    FLEET_FORMAT(result->text, "%s %s: its lock names %s", image->path,
                 verdict == LABEL_CHANGED ? "released" : "was not ours", says);
}

static void image_stop(const agent_ctx_t *ctx, agent_result_t *result) {
    imagefile_t image = imagefile_open(ctx);
    if (image.fd < 0) {
        stop_unseen(ctx, &image, result);
        return;
    }
    stop_open(ctx, &image, result);
    imagefile_close(&image);
}

// Probe

static void probe_open(const agent_ctx_t *ctx, const imagefile_t *image,
                       agent_result_t *result) {
    label_t label = {0};
    fleet_text_t says;
    bool locked = false;
    if (label_read(image->fd, &label, &says) == LABEL_OK) {
        imagefile_report(&label, result);
        label_say(&label, says);
        locked = strcmp(label.owner, ctx->node) == 0 &&
                 strcmp(label.set, ctx->setdef->set) == 0;
    }
    loopdev_list_t list;
    if (!find_devices(image, FLEET_START_FAILED, &list, result)) {
        result->found = NODE_FOUND_PART; // not known to be gone
        return;
    }
    uint32_t attached = 0;
    bool good = false;
    for (uint32_t i = 0; i < list.n; i++) {
        const loopdev_t *device = &list.items[i];
        if (is_ours(ctx, device)) {
            attached++;
            good =
                device->tag.token == label.since && loopdev_can_write(device);
        }
    }
    bool exact = locked && label.floor == ctx->token;
    if (exact && attached == 1 && good) {
        result->found = NODE_FOUND_ALL;
    } else if (locked || attached > 0) {
        result->found = NODE_FOUND_PART;
    }
    FLEET_FORMAT(result->text, "%s: its lock names %s; %u loop device%s here%s",
                 image->path, says, attached, attached == 1 ? "" : "s",
                 attached > 0 && !good ? ", not of this holding" : "");
}

static void image_probe(const agent_ctx_t *ctx, agent_result_t *result) {
    imagefile_t image = imagefile_open(ctx);
    if (image.fd < 0) {
        loopdev_t device;
        bool left = link_device(ctx, &device);
        result->found = left ? NODE_FOUND_PART : NODE_FOUND_NOTHING;
        FLEET_FORMAT(result->text, "%s: %s%s", image.path,
                     strerror(image.error),
                     left ? "; its device is still attached" : "");
        return;
    }
    probe_open(ctx, &image, result);
    imagefile_close(&image);
}

// Look

static void problem(agent_result_t *result, fleet_err_t err, const char *text,
                    const char *hint) {
    assert(result->problems_n < FLEET_REASONS_MAX);
    fleet_reason_t *reason = &result->problems[result->problems_n++];
    fleet_reason_make(reason, err, "%s", text);
    fleet_reason_hint(reason, "%s", hint);
}

static void image_look(const agent_ctx_t *ctx, agent_result_t *result) {
    fleet_text_t text;
    imagefile_t image = imagefile_open(ctx);
    if (image.fd < 0) {
        FLEET_FORMAT(text, "%s: %s", image.path, strerror(image.error));
        problem(result, FLEET_NO_PORT, text,
                "make the file reachable from this node");
        return;
    }
    result->visible = true;
    label_t label;
    fleet_text_t why;
    if (label_read(image.fd, &label, &why) != LABEL_OK) {
        FLEET_FORMAT(text, "%s: %s", image.path, why);
        problem(result, FLEET_NOT_READY, text,
                "the first MiB of an image must be zero before its first use");
    } else {
        imagefile_report(&label, result);
        result->can_evict = label.kernel_id[0] == '\0' ||
                            strcmp(label.kernel_id, ctx->kernel_id) == 0;
        if (label.generation != 0 && strcmp(label.set, ctx->setdef->set) != 0) {
            FLEET_FORMAT(text, "%s is the image of the set %s", image.path,
                         label.set);
            problem(result, FLEET_NOT_READY, text,
                    "name the right file, or clear its first MiB");
        }
    }
    if (access("/dev/loop-control", R_OK | W_OK) != 0) {
        FLEET_FORMAT(text, "/dev/loop-control: %s", strerror(errno));
        problem(result, FLEET_NOT_READY, text, "load the module loop");
    }
    imagefile_close(&image);
}

static void image_prepare(const agent_ctx_t *ctx, agent_result_t *result) {
    image_look(ctx, result);
    if (result->problems_n > 0) {
        agent_fail(result, FLEET_NOT_READY, "%s", result->problems[0].text);
    }
}

const agent_t agent_image = {
    .kind = FLEET_RESOURCE_DISK_GROUP,
    .driver = "image",
    .prepare = image_prepare,
    .start = image_start,
    .stop = image_stop,
    .probe = image_probe,
    .look = image_look,
    .evict = evict_image,
};
