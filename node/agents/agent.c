// SPDX-License-Identifier: MIT
//
// What every agent uses to speak and to look around its set.  Which agent is
// the one for a resource is in act.c, which knows all of them.

#include "node/agents/agent.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/text.h"

// Formats into a text that is then cut at a character's boundary.
static void print_text(fleet_text_t text, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void print_text(fleet_text_t text, const char *format, va_list args) {
    char line[4 * FLEET_TEXT_MAX];
    if (vsnprintf(line, sizeof(line), format, args) < 0) {
        line[0] = '\0';
    }
    fleet_text_copy(text, FLEET_TEXT_MAX + 1, line);
}

void agent_say(const agent_ctx_t *ctx, const char *format, ...) {
    if (ctx->progress < 0) {
        return;
    }
    fleet_text_t text;
    va_list args;
    va_start(args, format);
    print_text(text, format, args);
    va_end(args);
    size_t size = strlen(text);
    if (size == 0) {
        return; // an empty packet would read as the end
    }
    // A line that finds no room is lost: it is only progress.
    ssize_t sent = send(ctx->progress, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == ENOTSOCK) {
        sent = write(ctx->progress, text, size);
    }
    (void)sent;
}

void agent_fail(agent_result_t *result, fleet_err_t err, const char *format,
                ...) {
    result->err = err;
    va_list args;
    va_start(args, format);
    print_text(result->text, format, args);
    va_end(args);
}

const fleet_resource_t *agent_below(const agent_ctx_t *ctx,
                                    fleet_resource_kind_t kind) {
    const fleet_resource_t *first = ctx->setdef->resources;
    const fleet_resource_t *resource =
        ctx->resource ? ctx->resource : first + ctx->setdef->resources_n;
    while (resource > first) {
        resource -= 1;
        if (resource->kind == kind) {
            return resource;
        }
    }
    return NULL;
}

void agent_device_path(const agent_ctx_t *ctx, fleet_text_t ret_path) {
    fleet_text_format(ret_path, FLEET_TEXT_MAX + 1, "%s/disk/%s", ctx->run,
                      ctx->setdef->set);
}
