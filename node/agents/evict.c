// SPDX-License-Identifier: MIT
//
// See evict.h.  The order is what makes it evidence: the stamp first, so that
// nobody who looks at the lock afterwards attaches a device; then the devices;
// then the lock once more, which must still be as it was stamped.

#include "node/agents/evict.h"

#include <string.h>

#include "node/agents/imagefile.h"
#include "proto/text.h"

#define PASSES_MAX 3

// Blocks every device that is older than the stamp.  True if a look at all
// devices after that shows none that can write.
static bool block_devices(const agent_ctx_t *ctx, const imagefile_t *image,
                          uint32_t *ret_blocked, fleet_text_t *ret_why) {
    uint32_t blocked = 0;
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        loopdev_list_t list;
        if (!loopdev_find(image->dev, image->ino, &list, ret_why)) {
            return false;
        }
        uint32_t writers = list.more;
        for (uint32_t i = 0; i < list.n; i++) {
            const loopdev_t *device = &list.items[i];
            bool later = device->tagged && device->tag.token >= ctx->token;
            if (device->evicted || later) {
                continue; // of a later owner: the lock says so too, see evict
            }
            writers++;
            if (!loopdev_evict(device, ret_why)) {
                return false;
            }
            blocked++;
        }
        if (writers == 0) {
            *ret_blocked = blocked;
            return true;
        }
    }
    FLEET_COPY(*ret_why,
               "new devices are attached faster than they can be "
               "blocked");
    return false;
}

// The answer is evidence only if the lock still is as it was stamped: then no
// later owner has come, and no device was left alone above for being a later
// owner's.
static void evict_here(const agent_ctx_t *ctx, const imagefile_t *image,
                       agent_result_t *result) {
    fleet_text_t why = "";
    uint32_t blocked = 0;
    bool ok = block_devices(ctx, image, &blocked, &why);
    label_t label;
    fleet_text_t read_why;
    if (label_read(image->fd, &label, &read_why) != LABEL_OK ||
        label.owner[0] != '\0' || label.floor != ctx->token) {
        result->stamped = false;
        agent_fail(result, FLEET_LOCK_FOREIGN,
                   "%s: its lock does not read back as stamped: too late",
                   image->path);
        return;
    }
    result->blocked = ok;
    if (ok) {
        FLEET_FORMAT(result->text,
                     "%s: its lock names nobody and refuses tokens below "
                     "%llu; %u loop device%s blocked, and none is left that "
                     "can write",
                     image->path, (unsigned long long)ctx->token, blocked,
                     blocked == 1 ? "" : "s");
    } else {
        FLEET_FORMAT(result->text, "%s: stamped, but not blocked: %s",
                     image->path, why);
    }
}

static void evict_open(const agent_ctx_t *ctx, const imagefile_t *image,
                       agent_result_t *result) {
    label_command_t command = imagefile_command(ctx, LABEL_EVICT);
    label_verdict_t verdict = LABEL_REFUSED;
    label_t label;
    fleet_text_t why;
    if (label_update(image->fd, &command, IMAGEFILE_LOCK_MS, &label, &verdict,
                     &why) != LABEL_OK) {
        agent_fail(result, FLEET_CANNOT_EVICT, "%s: %s", image->path, why);
        return;
    }
    imagefile_report(&label, result);
    if (verdict == LABEL_REFUSED) {
        fleet_text_t says;
        label_say(&label, says);
        agent_fail(result, FLEET_LOCK_FOREIGN,
                   "%s: its lock names %s; not evicted for token %llu",
                   image->path, says, (unsigned long long)ctx->token);
        return;
    }
    result->stamped = true;
    if (label.kernel_id[0] != '\0' &&
        strcmp(label.kernel_id, ctx->kernel_id) != 0) {
        FLEET_FORMAT(result->text,
                     "%s: stamped, but it was attached on another kernel, "
                     "whose writes cannot be blocked from here",
                     image->path);
        return;
    }
    evict_here(ctx, image, result);
}

void evict_image(const agent_ctx_t *ctx, agent_result_t *result) {
    imagefile_t image = imagefile_open(ctx);
    if (image.fd < 0) {
        agent_fail(result, FLEET_CANNOT_EVICT, "%s: %s", image.path,
                   strerror(image.error));
        return;
    }
    evict_open(ctx, &image, result);
    imagefile_close(&image);
}
