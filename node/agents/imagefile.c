// SPDX-License-Identifier: MIT
//
// See imagefile.h.

#include "node/agents/imagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/agents/ktext.h"
#include "proto/text.h"

imagefile_t imagefile_open(const agent_ctx_t *ctx) {
    imagefile_t image = {.path = ctx->resource->disk_group.path};
    image.fd = label_open(image.path);
    image.error = errno;
    struct stat status;
    if (image.fd >= 0 && fstat(image.fd, &status) == 0) {
        image.dev = status.st_dev;
        image.ino = status.st_ino;
    }
    return image;
}

void imagefile_close(imagefile_t *image) {
    if (image->fd >= 0) {
        close(image->fd);
        image->fd = -1;
    }
}

// As this host sees it, which on a machine that plays several hosts is not the
// kernel's.
static void read_boot_id(fleet_id_t ret_boot_id) {
    fleet_id_t boot_id;
    if (ktext_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot_id,
                   sizeof(boot_id))) {
        fleet_text_copy(ret_boot_id, FLEET_ID_MAX + 1, boot_id);
    }
}

label_command_t imagefile_command(const agent_ctx_t *ctx, label_verb_t verb) {
    label_command_t command = {.verb = verb, .token = ctx->token};
    FLEET_COPY(command.set, ctx->setdef->set);
    FLEET_COPY(command.node, verb == LABEL_EVICT ? ctx->victim : ctx->node);
    if (verb == LABEL_IMPORT) {
        command.from_token = ctx->from_token;
        FLEET_COPY(command.kernel_id, ctx->kernel_id);
        read_boot_id(command.boot_id);
    }
    return command;
}

void imagefile_report(const label_t *label, agent_result_t *result) {
    FLEET_COPY(result->lock_owner, label->owner);
    result->lock_token = label->floor;
}
