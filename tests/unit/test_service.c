// SPDX-License-Identifier: MIT
//
// The agent of services, for real, in a control group made for the test.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/agents/agent.h"
#include "node/agents/group.h"
#include "proto/text.h"

#define DEADLINE_MS 10000

// A daemon in two commands: it goes into the background, ends by SIGTERM.
#define START "sh -c 'sleep 1000 & exit 0'"
// One that cannot be asked.
#define START_DEAF "sh -c '(trap \"\" TERM; while :; do sleep 1000; done) &'"

typedef struct fixture {
    fleet_setdef_t setdef;
    agent_ctx_t ctx;
    fleet_service_t *service;
    agent_result_t result;
    fleet_text_t group;
} fixture_t;

static fixture_t fixture;

static int make(void **state) {
    (void)state;
    memset(&fixture, 0, sizeof(fixture));
    fleet_text_t root;
    if (geteuid() != 0 || !group_find_root(root)) {
        return 0;
    }
    FLEET_COPY(fixture.setdef.set, "www");
    fixture.setdef.resources_n = 1;
    fleet_resource_t *resource = &fixture.setdef.resources[0];
    resource->kind = FLEET_RESOURCE_SERVICE;
    FLEET_COPY(resource->name, "httpd");
    resource->start_ms = 5000;
    resource->stop_ms = 2000;
    fixture.service = &resource->service;
    FLEET_COPY(fixture.service->start, START);
    fixture.ctx.setdef = &fixture.setdef;
    fixture.ctx.resource = resource;
    fixture.ctx.progress = -1;
    fixture.ctx.token = 7;
    FLEET_COPY(fixture.ctx.node, "node1");
    FLEET_FORMAT(fixture.ctx.cgroup, "%s/fleet-test-%d", root, getpid());
    FLEET_FORMAT(fixture.group, "%s/www/httpd", fixture.ctx.cgroup);
    return 0;
}

static int clean(void **state) {
    (void)state;
    if (fixture.ctx.cgroup[0] == '\0') {
        return 0;
    }
    group_t group;
    if (group_open(fixture.ctx.cgroup, false, &group)) {
        group_kill(fixture.ctx.cgroup, &group);
        group_wait_empty(&group, DEADLINE_MS);
        group_close(&group);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    return group_remove(fixture.ctx.cgroup, NULL) ? 0 : 1;
}

static void need_groups(void) {
    if (fixture.ctx.cgroup[0] == '\0') {
        print_message("[  SKIPPED ] needs root and control groups v2\n");
        skip();
    }
}

typedef void call_t(const agent_ctx_t *ctx, agent_result_t *result);

static const agent_result_t *call(call_t *function) {
    memset(&fixture.result, 0, sizeof(fixture.result));
    function(&fixture.ctx, &fixture.result);
    return &fixture.result;
}

static void is_ok(call_t *function) {
    const agent_result_t *result = call(function);
    if (result->err != FLEET_OK) {
        fail_msg("%s: %s", fleet_error_spec(result->err)->code, result->text);
    }
}

static void is_bad(call_t *function, fleet_err_t err, const char *what) {
    const agent_result_t *result = call(function);
    if (result->err != err || !strstr(result->text, what)) {
        fail_msg("%s: %s", fleet_error_spec(result->err)->code, result->text);
    }
}

static node_found_t found(void) {
    is_ok(agent_service.probe);
    return fixture.result.found;
}

static size_t members(void) {
    fleet_text_t path;
    FLEET_FORMAT(path, "%s/cgroup.procs", fixture.group);
    FILE *file = fopen(path, "re");
    size_t n = 0;
    for (int pid; file && fscanf(file, "%d", &pid) == 1;) {
        n += 1;
    }
    if (file) {
        fclose(file);
    }
    return n;
}

static bool group_there(void) {
    return access(fixture.group, F_OK) == 0;
}

static void starts_and_stops(void **state) {
    (void)state;
    need_groups();
    assert_int_equal(found(), NODE_FOUND_NOTHING);
    is_ok(agent_service.start);
    assert_string_equal(fixture.result.text, "httpd started");
    assert_int_equal(members(), 1);
    assert_int_equal(found(), NODE_FOUND_ALL);
    is_ok(agent_service.start); // again: nothing more is started
    assert_string_equal(fixture.result.text, "httpd runs already");
    assert_int_equal(members(), 1);
    is_ok(agent_service.stop);
    assert_false(group_there());
    assert_int_equal(found(), NODE_FOUND_NOTHING);
    is_ok(agent_service.stop); // what is gone stops at once
}

static void runs_the_stop_command(void **state) {
    (void)state;
    need_groups();
    fleet_text_t pid_file;
    FLEET_FORMAT(pid_file, "/tmp/fleet-test-service-%d", getpid());
    FLEET_FORMAT(fixture.service->start, "sh -c 'sleep 1000 & echo $! >%s'",
                 pid_file);
    FLEET_FORMAT(fixture.service->stop, "sh -c 'kill $(cat %s); rm %s'",
                 pid_file, pid_file);
    is_ok(agent_service.start);
    is_ok(agent_service.stop);
    assert_false(group_there());
    assert_int_equal(access(pid_file, F_OK), -1);
}

static void kills_what_does_not_listen(void **state) {
    (void)state;
    need_groups();
    FLEET_COPY(fixture.service->start, START_DEAF);
    fixture.setdef.resources[0].stop_ms = 200;
    is_ok(agent_service.start);
    is_ok(agent_service.stop);
    assert_false(group_there());
}

// A stop command that fails, and one that stops nothing, still end with a group
// that is empty.
static void does_not_believe_the_stop_command(void **state) {
    (void)state;
    need_groups();
    static const char *const commands[] = {"false", "true", "/no/such/program"};
    fixture.setdef.resources[0].stop_ms = 200;
    for (size_t i = 0; i < 3; i++) {
        FLEET_COPY(fixture.service->stop, commands[i]);
        is_ok(agent_service.start);
        is_ok(agent_service.stop);
        assert_false(group_there());
    }
}

static void nothing_escapes(void **state) {
    (void)state;
    need_groups();
    // Away from its parent, its session and its process group.
    FLEET_COPY(
        fixture.service->start,
        "sh -c 'setsid sh -c \"setsid sleep 1000 & sleep 1000 &\"; true'");
    is_ok(agent_service.start);
    assert_true(members() >= 2);
    is_ok(agent_service.stop);
    assert_false(group_there());
}

static void says_why_a_start_failed(void **state) {
    (void)state;
    need_groups();
    FLEET_COPY(fixture.service->start, "sh -c 'echo no such page; exit 4'");
    is_bad(agent_service.start, FLEET_START_FAILED, "exit status 4");
    assert_string_equal(fixture.result.said, "no such page");
    is_ok(agent_service.stop);
    FLEET_COPY(fixture.service->start, "true");
    is_bad(agent_service.start, FLEET_START_FAILED, "left no process");
    is_ok(agent_service.stop);
    FLEET_COPY(fixture.service->start, "sleep 1000");
    fixture.setdef.resources[0].start_ms = 100;
    is_bad(agent_service.start, FLEET_START_FAILED, "did not end within");
    is_ok(agent_service.stop);
    assert_false(group_there());
}

// The agent was killed in the middle of a start: what is there is no service.
static void clears_half_a_start(void **state) {
    (void)state;
    need_groups();
    FLEET_COPY(fixture.service->start, "sh -c 'sleep 1000 & sleep 1000'");
    fixture.setdef.resources[0].start_ms = 100;
    is_bad(agent_service.start, FLEET_START_FAILED, "did not end within");
    FLEET_COPY(fixture.service->start, "sh -c 'setsid sleep 999 & false'");
    is_bad(agent_service.start, FLEET_START_FAILED, "exit status 1");
    assert_int_equal(members(), 1);
    assert_int_equal(found(), NODE_FOUND_PART);
    FLEET_COPY(fixture.service->start, START);
    fixture.setdef.resources[0].start_ms = 5000;
    is_ok(agent_service.start);
    assert_string_equal(fixture.result.text, "httpd started");
    assert_int_equal(members(), 1);
    assert_int_equal(found(), NODE_FOUND_ALL);
    is_ok(agent_service.stop);
}

// What runs from before is not revived under a new token, unless it never let
// go.
static void knows_its_token(void **state) {
    (void)state;
    need_groups();
    is_ok(agent_service.start);
    fixture.ctx.token = 8;
    assert_int_equal(found(), NODE_FOUND_PART);
    fixture.ctx.from_token = 7;
    is_ok(agent_service.start);
    assert_string_equal(fixture.result.text, "httpd runs already");
    assert_int_equal(found(), NODE_FOUND_ALL);
    fixture.ctx.token = 9;
    fixture.ctx.from_token = 0;
    is_ok(agent_service.start);
    assert_string_equal(fixture.result.text, "httpd started");
    assert_int_equal(members(), 1);
    assert_int_equal(found(), NODE_FOUND_ALL);
    is_ok(agent_service.stop);
}

static void probes_with_the_command(void **state) {
    (void)state;
    need_groups();
    FLEET_COPY(fixture.service->probe, "sh -c 'echo sick; exit 9'");
    is_ok(agent_service.start);
    assert_int_equal(found(), NODE_FOUND_PART);
    assert_non_null(strstr(fixture.result.text, "exit status 9"));
    assert_string_equal(fixture.result.said, "sick");
    FLEET_COPY(fixture.service->probe, "sleep 1000");
    fixture.service->probe_limit_ms = 50;
    assert_int_equal(found(), NODE_FOUND_PART);
    assert_non_null(strstr(fixture.result.text, "did not end within"));
    assert_int_equal(members(), 1); // the probe is not among them
    FLEET_COPY(fixture.service->probe, "true");
    fixture.service->probe_limit_ms = 0;
    assert_int_equal(found(), NODE_FOUND_ALL);
    // A service that runs but is sick is started anew.
    FLEET_COPY(fixture.service->probe, "false");
    is_ok(agent_service.start);
    assert_string_equal(fixture.result.text, "httpd started");
    is_ok(agent_service.stop);
}

static void looks_at_what_a_start_needs(void **state) {
    (void)state;
    need_groups();
    is_ok(agent_service.look);
    assert_int_equal(fixture.result.problems_n, 0);
    is_ok(agent_service.prepare);
    FLEET_COPY(fixture.service->start, "/no/such/program");
    is_ok(agent_service.look);
    assert_int_equal(fixture.result.problems_n, 1);
    assert_string_equal(fixture.result.problems[0].code, "not-ready");
    is_bad(agent_service.prepare, FLEET_NOT_READY, "/no/such/program");
    FLEET_COPY(fixture.service->start, START);
    FLEET_COPY(fixture.service->user, "no-such-user-here");
    is_bad(agent_service.prepare, FLEET_NOT_READY, "no-such-user-here");
    FLEET_COPY(fixture.service->user, "");
    FLEET_COPY(fixture.service->test, "sh -c 'echo bad line 3; exit 1'");
    is_bad(agent_service.prepare, FLEET_NOT_READY, "its test failed");
    assert_string_equal(fixture.result.said, "bad line 3");
    assert_int_equal(access(fixture.ctx.cgroup, F_OK), 0);
    assert_false(group_there());
    // With a file system the test may need what is on it: it is not run.
    fixture.setdef.resources_n = 2;
    fixture.setdef.resources[1].kind = FLEET_RESOURCE_FILESYSTEM;
    FLEET_COPY(fixture.setdef.resources[1].filesystem.mount, "/srv/www");
    is_ok(agent_service.prepare);
    FLEET_COPY(fixture.service->start, "/srv/www/bin/httpd");
    is_ok(agent_service.look);
    assert_int_equal(fixture.result.problems_n, 0);
    FLEET_COPY(fixture.service->start, "/srv/wwwx/bin/httpd");
    is_ok(agent_service.look);
    assert_int_equal(fixture.result.problems_n, 1);
}

static void needs_control_groups(void **state) {
    (void)state;
    need_groups();
    fleet_text_t kept;
    memcpy(kept, fixture.ctx.cgroup, sizeof(kept));
    FLEET_COPY(fixture.ctx.cgroup, "");
    is_bad(agent_service.start, FLEET_START_FAILED, "no control groups");
    is_ok(agent_service.look);
    assert_int_equal(fixture.result.problems_n, 1);
    memcpy(fixture.ctx.cgroup, kept, sizeof(kept));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make, clean)

int main(void) {
    // As the runner does: daemons that lose their parent are reaped here.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGCHLD, SIG_DFL);
    const struct CMUnitTest tests[] = {
        TEST(starts_and_stops),
        TEST(runs_the_stop_command),
        TEST(kills_what_does_not_listen),
        TEST(does_not_believe_the_stop_command),
        TEST(nothing_escapes),
        TEST(says_why_a_start_failed),
        TEST(clears_half_a_start),
        TEST(knows_its_token),
        TEST(probes_with_the_command),
        TEST(looks_at_what_a_start_needs),
        TEST(needs_control_groups),
    };
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
