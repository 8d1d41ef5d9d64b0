// SPDX-License-Identifier: MIT
//
// The agent of services: commands in a control group of their own, or a unit of
// systemd.  A service runs if its group has a process and the group is marked
// as started; it is gone if the group is empty.  No pid file is believed.
//
// The group is marked with the token when the start command has returned 0.
// Processes in a group without a mark are the rest of a start that was killed
// half way (the agent died, the limit ran out): they are cleared away before
// the next start.

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/agents/agent.h"
#include "node/agents/command.h"
#include "node/agents/group.h"
#include "node/agents/systemd.h"
#include "proto/text.h"

// How much of a limit is left unused, so that this agent and not the runner's
// SIGKILL is who tells what did not end.
#define RESERVE_MS_MAX 500
// What of a stop's limit is kept for SIGTERM and for SIGKILL after a stop
// command.
#define TERM_MS_MAX 2000
#define KILL_MS_MAX 1000

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t without_reserve(uint64_t limit_ms) {
    return limit_ms - least(limit_ms / 10, RESERVE_MS_MAX);
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t left_until(uint64_t deadline_ms) {
    uint64_t now = now_ms();
    return deadline_ms > now ? deadline_ms - now : 0;
}

static const fleet_service_t *service_of(const agent_ctx_t *ctx) {
    return &ctx->resource->service;
}

static void group_paths(const agent_ctx_t *ctx, fleet_text_t ret_path,
                        fleet_text_t ret_parent) {
    fleet_text_format(ret_parent, FLEET_TEXT_MAX + 1, "%s/%s", ctx->cgroup,
                      ctx->setdef->set);
    fleet_text_format(ret_path, FLEET_TEXT_MAX + 1, "%s/%s/%s", ctx->cgroup,
                      ctx->setdef->set, ctx->resource->name);
}

static void run(const agent_ctx_t *ctx, const char *line, int cgroup,
                uint64_t limit_ms, command_end_t *ret_end) {
    command_t command = {.line = line,
                         .ctx = ctx,
                         .user = service_of(ctx)->user,
                         .cgroup = cgroup,
                         .limit_ms = limit_ms};
    command_run(&command, ret_end);
}

static void fail_with(agent_result_t *result, fleet_err_t err,
                      const agent_ctx_t *ctx, const char *what,
                      const command_end_t *end) {
    agent_fail(result, err, "%s: %s: %s", ctx->resource->name, what, end->text);
    FLEET_COPY(result->said, end->said);
}

// Probes and tests run in a group beside the service's: what they leave behind
// must neither look like the service nor escape its stop.
static void aside_path(const agent_ctx_t *ctx, fleet_text_t ret_path) {
    fleet_text_format(ret_path, FLEET_TEXT_MAX + 1, "%s/%s/%s.aside",
                      ctx->cgroup, ctx->setdef->set, ctx->resource->name);
}

// Kills and removes it.  False if somebody in it cannot be killed.
static bool aside_clear(const agent_ctx_t *ctx) {
    fleet_text_t path;
    aside_path(ctx, path);
    group_t group;
    if (!group_open(path, false, &group)) {
        return true;
    }
    group_kill(path, &group);
    bool empty = group_wait_empty(&group, KILL_MS_MAX);
    group_close(&group);
    return empty && group_remove(path, NULL);
}

static void run_aside(const agent_ctx_t *ctx, const char *line,
                      uint64_t limit_ms, command_end_t *ret_end) {
    fleet_text_t path;
    aside_path(ctx, path);
    group_t group;
    if (ctx->cgroup[0] == '\0' || !group_open(path, true, &group)) {
        run(ctx, line, -1, limit_ms, ret_end);
        return;
    }
    run(ctx, line, group.dir, limit_ms, ret_end);
    group_close(&group);
    (void)aside_clear(ctx); // the stop asks again
}

// True if the probe command succeeds, or there is none.
static bool probe_ok(const agent_ctx_t *ctx, command_end_t *ret_end) {
    const fleet_service_t *service = service_of(ctx);
    *ret_end = (command_end_t){.ok = true};
    if (service->probe[0] != '\0') {
        run_aside(ctx, service->probe,
                  service->probe_limit_ms > 0 ? service->probe_limit_ms
                                              : FLEET_PROBE_LIMIT_MS_DEFAULT,
                  ret_end);
    }
    return ret_end->ok;
}

// SIGTERM, then SIGKILL, then the proof.  False if somebody is left.
static bool clear_group(const agent_ctx_t *ctx, const char *path,
                        const group_t *group, uint64_t term_ms,
                        uint64_t kill_ms) {
    if (!group_populated(group)) {
        return true;
    }
    if (term_ms > 0) {
        group_signal(path, SIGTERM);
        if (group_wait_empty(group, term_ms)) {
            return true;
        }
        fleet_text_t names;
        group_name_members(path, names);
        agent_say(ctx, "SIGKILL to %s, which SIGTERM did not end", names);
    }
    group_kill(path, group);
    return group_wait_empty(group, kill_ms);
}

static bool open_for_start(const agent_ctx_t *ctx, const char *path,
                           group_t *ret_group, agent_result_t *result) {
    if (ctx->cgroup[0] == '\0') {
        agent_fail(result, FLEET_START_FAILED,
                   "%s: no control groups (v2) are mounted on this node, so "
                   "nothing could be kept from escaping a stop",
                   ctx->resource->name);
        return false;
    }
    if (!group_open(path, true, ret_group)) {
        agent_fail(result, FLEET_START_FAILED,
                   "%s: cannot make the control group %s: %s",
                   ctx->resource->name, path, strerror(errno));
        return false;
    }
    return true;
}

// It was started under this token, or goes on in place under a new one.
// Anything else is from before and is never revived (P9).
static bool may_stay(const agent_ctx_t *ctx, const group_t *group) {
    uint64_t token = group_marked(group);
    return token != 0 && (token == ctx->token || token == ctx->from_token);
}

static void set_mark(const agent_ctx_t *ctx, const group_t *group,
                     agent_result_t *result) {
    if (!group_mark(group, ctx->token)) {
        agent_fail(result, FLEET_START_FAILED,
                   "%s: its control group cannot be marked: %s",
                   ctx->resource->name, strerror(errno));
    }
}

static void start_command(const agent_ctx_t *ctx, const char *path,
                          const group_t *group, agent_result_t *result) {
    command_end_t end;
    if (group_populated(group)) {
        if (may_stay(ctx, group) && probe_ok(ctx, &end)) {
            set_mark(ctx, group, result);
            FLEET_FORMAT(result->text, "%s runs already", ctx->resource->name);
            return;
        }
        // What is there is no running service; it would be in the way of one.
        agent_say(ctx, "clearing what is left of an earlier start");
        if (!clear_group(ctx, path, group, TERM_MS_MAX, KILL_MS_MAX)) {
            fleet_text_t names;
            group_name_members(path, names);
            agent_fail(result, FLEET_HELD,
                       "%s: left over from an earlier start and cannot be "
                       "killed: %s",
                       ctx->resource->name, names);
            return;
        }
    }
    run(ctx, service_of(ctx)->start, group->dir,
        without_reserve(ctx->resource->start_ms), &end);
    if (!end.ok) {
        fail_with(result, FLEET_START_FAILED, ctx, "the start command failed",
                  &end);
        return;
    }
    if (!group_populated(group)) {
        agent_fail(result, FLEET_START_FAILED,
                   "%s: the start command returned 0 but left no process "
                   "running",
                   ctx->resource->name);
        FLEET_COPY(result->said, end.said);
        return;
    }
    FLEET_FORMAT(result->text, "%s started", ctx->resource->name);
    set_mark(ctx, group, result);
}

static void service_start(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_service_t *service = service_of(ctx);
    if (service->unit[0] != '\0') {
        systemd_start(service->unit, without_reserve(ctx->resource->start_ms),
                      result);
        return;
    }
    fleet_text_t path;
    fleet_text_t parent;
    group_paths(ctx, path, parent);
    group_t group;
    if (open_for_start(ctx, path, &group, result)) {
        start_command(ctx, path, &group, result);
        group_close(&group);
    }
}

// The stop command, and the time that it and the daemon have to follow it. What
// it said, if it failed, is only progress: the group tells whether the service
// is gone.
static void ask_to_stop(const agent_ctx_t *ctx, const group_t *group,
                        uint64_t deadline_ms, agent_result_t *result) {
    command_end_t end;
    run(ctx, service_of(ctx)->stop, group->dir, left_until(deadline_ms), &end);
    if (!end.ok) {
        agent_say(ctx, "the stop command failed: %s", end.text);
        FLEET_COPY(result->said, end.said);
        return;
    }
    if (group_wait_empty(group, left_until(deadline_ms))) {
        return;
    }
    agent_say(ctx, "still runs after its stop command: SIGTERM");
}

static void stop_group(const agent_ctx_t *ctx, const char *path,
                       const group_t *group, agent_result_t *result) {
    uint64_t limit_ms = without_reserve(ctx->resource->stop_ms);
    uint64_t end_ms = now_ms() + limit_ms;
    uint64_t kill_ms = least(limit_ms / 4, KILL_MS_MAX);
    uint64_t term_ms = least(limit_ms / 4, TERM_MS_MAX);
    if (service_of(ctx)->stop[0] != '\0' && group_populated(group)) {
        ask_to_stop(ctx, group, end_ms - kill_ms - term_ms, result);
    } else {
        term_ms = limit_ms - kill_ms;
    }
    term_ms = least(term_ms, left_until(end_ms - kill_ms));
    if (clear_group(ctx, path, group, term_ms, kill_ms)) {
        return;
    }
    fleet_text_t names;
    group_name_members(path, names);
    agent_fail(result, FLEET_STOP_FAILED, "%s: cannot be killed: %s",
               ctx->resource->name, names);
}

static void service_stop(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_service_t *service = service_of(ctx);
    if (service->unit[0] != '\0') {
        systemd_stop(service->unit, without_reserve(ctx->resource->stop_ms),
                     result);
        return;
    }
    fleet_text_t path;
    fleet_text_t parent;
    group_paths(ctx, path, parent);
    if (!aside_clear(ctx)) {
        agent_fail(result, FLEET_STOP_FAILED,
                   "%s: a probe or test of it cannot be killed",
                   ctx->resource->name);
        return;
    }
    group_t group;
    if (!group_open(path, false, &group)) {
        if (errno != ENOENT) {
            agent_fail(result, FLEET_STOP_FAILED, "%s: %s: %s",
                       ctx->resource->name, path, strerror(errno));
        } else {
            FLEET_FORMAT(result->text, "%s does not run", ctx->resource->name);
        }
        return;
    }
    stop_group(ctx, path, &group, result);
    group_close(&group);
    if (result->err != FLEET_OK) {
        return;
    }
    if (!group_remove(path, parent)) {
        agent_fail(result, FLEET_STOP_FAILED,
                   "%s: its control group %s cannot be removed: %s",
                   ctx->resource->name, path, strerror(errno));
        return;
    }
    memset(result->said, 0, sizeof(result->said));
    FLEET_FORMAT(result->text, "%s stopped", ctx->resource->name);
}

static void service_probe(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_service_t *service = service_of(ctx);
    fleet_text_t path;
    fleet_text_t parent;
    group_paths(ctx, path, parent);
    group_t group = {.dir = -1, .events = -1};
    if (service->unit[0] != '\0') {
        systemd_probe(service->unit, result);
    } else if (!group_open(path, false, &group) || !group_populated(&group)) {
        result->found = NODE_FOUND_NOTHING;
        FLEET_FORMAT(result->text, "%s: nothing of it runs",
                     ctx->resource->name);
    } else {
        result->found = group_marked(&group) == ctx->token ? NODE_FOUND_ALL
                                                           : NODE_FOUND_PART;
        FLEET_FORMAT(result->text, "%s %s", ctx->resource->name,
                     result->found == NODE_FOUND_ALL
                         ? "runs"
                         : "was not started under this token");
    }
    command_end_t end;
    if (result->found == NODE_FOUND_ALL && !probe_ok(ctx, &end)) {
        result->found = NODE_FOUND_PART;
        FLEET_FORMAT(result->text, "%s: its probe failed: %s",
                     ctx->resource->name, end.text);
        FLEET_COPY(result->said, end.said);
    }
    if (group.dir >= 0) {
        group_close(&group);
    }
}

// A file below a mount point of the set is there only while the set is.
static bool is_on_own_disk(const agent_ctx_t *ctx, const char *path) {
    for (uint32_t i = 0; i < ctx->setdef->resources_n; i++) {
        const fleet_resource_t *other = &ctx->setdef->resources[i];
        if (other->kind != FLEET_RESOURCE_FILESYSTEM) {
            continue;
        }
        size_t length = strlen(other->filesystem.mount);
        if (length > 0 && strncmp(path, other->filesystem.mount, length) == 0 &&
            (path[length] == '/' || path[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool has_filesystem(const agent_ctx_t *ctx) {
    for (uint32_t i = 0; i < ctx->setdef->resources_n; i++) {
        if (ctx->setdef->resources[i].kind == FLEET_RESOURCE_FILESYSTEM) {
            return true;
        }
    }
    return false;
}

// True if the command could be executed, as far as that can be seen from here.
static bool command_there(const agent_ctx_t *ctx, const char *line,
                          fleet_text_t ret_why) {
    command_words_t words;
    fleet_text_t path;
    return command_split(line, &words, ret_why) &&
           (is_on_own_disk(ctx, words.argv[0]) ||
            command_find(words.argv[0], path, ret_why));
}

static bool user_there(const char *user, fleet_text_t ret_why) {
    char buffer[4096];
    struct passwd entry;
    struct passwd *found = NULL;
    if (user[0] == '\0' ||
        (getpwnam_r(user, &entry, buffer, sizeof(buffer), &found) == 0 &&
         found)) {
        return true;
    }
    fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                      "the user %s does not exist here", user);
    return false;
}

// Without one of these a start could only fail.  False with the reason.
static bool could_start(const agent_ctx_t *ctx, fleet_text_t ret_why) {
    const fleet_service_t *service = service_of(ctx);
    if (service->unit[0] != '\0') {
        return systemd_knows(service->unit, ret_why);
    }
    if (ctx->cgroup[0] == '\0') {
        fleet_text_copy(ret_why, FLEET_TEXT_MAX + 1,
                        "no control groups (v2) are mounted on this node");
        return false;
    }
    return command_there(ctx, service->start, ret_why) &&
           (service->stop[0] == '\0' ||
            command_there(ctx, service->stop, ret_why)) &&
           user_there(service->user, ret_why);
}

// The test command is run only in a set without a file system.  Where there is
// one, the command most likely reads what is on it, which is not here before
// the release: it would refuse every move of a set whose configuration travels
// with it.
static void service_prepare(const agent_ctx_t *ctx, agent_result_t *result) {
    const fleet_service_t *service = service_of(ctx);
    fleet_text_t why;
    if (!could_start(ctx, why)) {
        agent_fail(result, FLEET_NOT_READY, "%s: %s", ctx->resource->name, why);
        return;
    }
    if (service->test[0] == '\0') {
        return;
    }
    if (has_filesystem(ctx)) {
        if (!command_there(ctx, service->test, why)) {
            agent_fail(result, FLEET_NOT_READY, "%s: test: %s",
                       ctx->resource->name, why);
        }
        return;
    }
    command_end_t end;
    run_aside(ctx, service->test, without_reserve(ctx->resource->start_ms),
              &end);
    fleet_text_t path;
    fleet_text_t parent;
    group_paths(ctx, path, parent);
    (void)group_remove(path, parent); // nothing of the set is to stay here
    if (!end.ok) {
        fail_with(result, FLEET_NOT_READY, ctx, "its test failed", &end);
    }
}

static void service_look(const agent_ctx_t *ctx, agent_result_t *result) {
    fleet_text_t why;
    result->visible = true;
    if (could_start(ctx, why)) {
        return;
    }
    fleet_reason_t *reason = &result->problems[result->problems_n++];
    fleet_reason_make(reason, FLEET_NOT_READY, "%s: %s", ctx->resource->name,
                      why);
    fleet_reason_hint(reason, "install on %s what the set needs", ctx->node);
}

const agent_t agent_service = {
    .kind = FLEET_RESOURCE_SERVICE,
    .driver = NULL,
    .prepare = service_prepare,
    .start = service_start,
    .stop = service_stop,
    .probe = service_probe,
    .look = service_look,
};
