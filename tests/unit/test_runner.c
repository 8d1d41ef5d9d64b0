// SPDX-License-Identifier: MIT
//
// The runner with a fake agent: what it passes on, what it kills, what outlives
// it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/runner.h"
#include "proto/text.h"

#define DEADLINE_MS 10000

// The fake agent: the act says how it behaves.
#define ACT_OK NODE_ACT_START
#define ACT_FAIL NODE_ACT_STOP
#define ACT_HANG NODE_ACT_PREPARE
#define ACT_CHATTY NODE_ACT_PROBE
#define ACT_CRASH NODE_ACT_EVICT
#define ACT_LEAVE NODE_ACT_RENEW
#define ACT_EXIT NODE_ACT_SPEAK

// Says the pid of a sleeper, which is its child, and of itself.
static void say_sleeper(const agent_ctx_t *ctx) {
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        close(ctx->progress);
        for (;;) {
            pause();
        }
    }
    agent_say(ctx, "%d", pid);
}

static void fake_call(node_act_t act, const agent_ctx_t *ctx,
                      agent_result_t *result) {
    if (act == ACT_OK) {
        FLEET_FORMAT(result->text, "%s of %s, token %llu",
                     ctx->resource ? ctx->resource->name : "all",
                     ctx->setdef->set, (unsigned long long)ctx->token);
    } else if (act == ACT_FAIL) {
        agent_fail(result, FLEET_HELD, "held by %s", ctx->node);
        FLEET_COPY(result->said, "last words");
    } else if (act == ACT_HANG) {
        signal(SIGTERM, SIG_IGN);
        say_sleeper(ctx);
        for (;;) {
            pause();
        }
    } else if (act == ACT_CHATTY) {
        for (int i = 0; i < 5; i++) {
            agent_say(ctx, "line %d", i);
        }
        agent_say(ctx, "%0400d", 0);
    } else if (act == ACT_CRASH) {
        signal(SIGABRT, SIG_DFL);
        abort();
    } else if (act == ACT_LEAVE) {
        say_sleeper(ctx);
    } else if (act == ACT_EXIT) {
        _exit(3);
    }
}

static runner_t *make(const char *lock, uint64_t wait_ms) {
    fleet_text_t why = "";
    runner_t *runner = runner_new(fake_call, lock, wait_ms, why);
    assert_non_null(runner);
    return runner;
}

static void submit(runner_t *runner, uint64_t number, node_act_t act,
                   uint64_t limit_ms) {
    static runner_job_t job;
    job = (runner_job_t){
        .job = number, .act = act, .resource = 1, .limit_ms = limit_ms};
    FLEET_COPY(job.setdef.set, "www");
    FLEET_COPY(job.ctx.node, "node1");
    job.ctx.token = 42;
    job.setdef.resources_n = 2;
    FLEET_COPY(job.setdef.resources[1].name, "httpd");
    runner_submit(runner, &job);
}

// Waits for the next event; fails the test when none comes.
static runner_event_kind_t next(runner_t *runner, runner_event_t *ret_event) {
    for (;;) {
        runner_event_kind_t kind = runner_recv(runner, ret_event);
        if (kind != RUNNER_NONE) {
            return kind;
        }
        struct pollfd ready = {.fd = runner_fd(runner),
                               .events = runner_events(runner)};
        if (poll(&ready, 1, DEADLINE_MS) == 0) {
            fail_msg("no event within %d ms", DEADLINE_MS);
        }
    }
}

static runner_event_t event;

static bool is_alive(pid_t pid) {
    return kill(pid, 0) == 0;
}

static void wait_gone(pid_t pid) {
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; is_alive(pid); i++) {
        assert_true(i < DEADLINE_MS);
        waitpid(pid, NULL, WNOHANG);
        nanosleep(&pause, NULL);
    }
}

static void passes_results_on(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 7, ACT_OK, 5000);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    assert_int_equal(event.job, 7);
    assert_int_equal(event.result.err, FLEET_OK);
    assert_string_equal(event.result.text, "httpd of www, token 42");
    submit(runner, 8, ACT_FAIL, 5000);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    assert_int_equal(event.job, 8);
    assert_int_equal(event.result.err, FLEET_HELD);
    assert_string_equal(event.result.text, "held by node1");
    assert_string_equal(event.result.said, "last words");
    assert_int_equal(runner_recv(runner, &event), RUNNER_NONE);
    runner_destroy(&runner);
    assert_null(runner);
}

static void passes_lines_on_in_order(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 1, ACT_CHATTY, 5000);
    for (int i = 0; i < 5; i++) {
        char expected[16];
        snprintf(expected, sizeof(expected), "line %d", i);
        assert_int_equal(next(runner, &event), RUNNER_SAID);
        assert_int_equal(event.job, 1);
        assert_string_equal(event.line, expected);
    }
    assert_int_equal(next(runner, &event), RUNNER_SAID);
    assert_int_equal(strlen(event.line), FLEET_TEXT_MAX);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    runner_destroy(&runner);
}

static void kills_at_the_limit_with_all_children(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 1, ACT_HANG, 100);
    submit(runner, 2, ACT_OK, 5000); // not held up
    pid_t sleeper = 0;
    uint64_t first_done = 0;
    for (int done = 0; done < 2;) {
        if (next(runner, &event) == RUNNER_SAID) {
            sleeper = (pid_t)strtol(event.line, NULL, 10);
            continue;
        }
        first_done = first_done ? first_done : event.job;
        done += 1;
    }
    assert_int_equal(first_done, 2);
    assert_int_equal(event.job, 1);
    assert_int_equal(event.result.err, FLEET_NO_ANSWER);
    assert_non_null(strstr(event.result.text, "did not end within its limit"));
    assert_true(event.us >= 100000);
    wait_gone(sleeper);
    runner_destroy(&runner);
}

static void calls_off(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 1, ACT_HANG, 60000);
    assert_int_equal(next(runner, &event), RUNNER_SAID);
    pid_t sleeper = (pid_t)strtol(event.line, NULL, 10);
    runner_abandon(runner, 99); // unknown: nothing happens
    runner_abandon(runner, 1);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    assert_int_equal(event.result.err, FLEET_NO_ANSWER);
    assert_string_equal(event.result.text, "was called off and killed");
    wait_gone(sleeper);
    runner_destroy(&runner);
}

static void tells_how_an_agent_died(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 1, ACT_CRASH, 5000);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    assert_int_equal(event.result.err, FLEET_BUG);
    assert_non_null(strstr(event.result.text, "killed by signal 6"));
    submit(runner, 2, ACT_EXIT, 5000);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    assert_int_equal(event.result.err, FLEET_BUG);
    assert_non_null(strstr(event.result.text, "exit status 3"));
    runner_destroy(&runner);
}

// More jobs at once than the socket has room for.
static void takes_many_at_once(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    bool seen[60] = {false};
    for (uint64_t i = 0; i < 60; i++) {
        submit(runner, i, ACT_OK, 30000);
    }
    for (int done = 0; done < 60; done++) {
        assert_int_equal(next(runner, &event), RUNNER_DONE);
        assert_true(event.job < 60 && !seen[event.job]);
        seen[event.job] = true;
    }
    runner_destroy(&runner);
}

static void spares_what_an_ended_act_left(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 1, ACT_LEAVE, 60000);
    assert_int_equal(next(runner, &event), RUNNER_SAID);
    pid_t sleeper = (pid_t)strtol(event.line, NULL, 10);
    assert_int_equal(next(runner, &event), RUNNER_DONE);
    runner_destroy(&runner);
    assert_true(is_alive(sleeper));
    kill(sleeper, SIGKILL);
}

static void says_that_the_helper_is_gone(void **state) {
    (void)state;
    runner_t *runner = make(NULL, 0);
    submit(runner, 1, ACT_HANG, 60000);
    assert_int_equal(next(runner, &event), RUNNER_SAID);
    pid_t sleeper = (pid_t)strtol(event.line, NULL, 10);
    kill(runner_pid(runner), SIGTERM);
    assert_int_equal(next(runner, &event), RUNNER_LOST);
    wait_gone(sleeper);
    runner_destroy(&runner);
}

// The agent is killed: its helper and the acts go too, and only then does the
// next agent get the lock.
static void ends_with_its_agent(void **state) {
    (void)state;
    char lock[] = "/tmp/fleet-test-runner-XXXXXX";
    int fd = mkstemp(lock);
    assert_true(fd >= 0);
    close(fd);
    int said[2];
    assert_int_equal(pipe(said), 0);
    pid_t agent = fork();
    if (agent == 0) {
        fleet_text_t why;
        runner_t *runner = runner_new(fake_call, lock, 0, why);
        submit(runner, 1, ACT_HANG, 60000);
        runner_event_t line;
        while (runner_recv(runner, &line) == RUNNER_NONE) {
            struct pollfd ready = {.fd = runner_fd(runner), .events = POLLIN};
            poll(&ready, 1, DEADLINE_MS);
        }
        pid_t sleeper = (pid_t)strtol(line.line, NULL, 10);
        if (write(said[1], &sleeper, sizeof(sleeper)) > 0) {
            raise(SIGKILL);
        }
        _exit(1);
    }
    pid_t sleeper = 0;
    assert_int_equal(read(said[0], &sleeper, sizeof(sleeper)), sizeof(sleeper));
    waitpid(agent, NULL, 0);
    fleet_text_t why = "";
    runner_t *runner = runner_new(fake_call, lock, DEADLINE_MS, why);
    assert_non_null(runner);
    assert_string_equal(why, "");
    wait_gone(sleeper);
    runner_destroy(&runner);
    close(said[0]);
    close(said[1]);
    unlink(lock);
}

int main(void) {
    // What loses its parent comes to us and not to a pid 1 that may be slow.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_results_on),
        cmocka_unit_test(passes_lines_on_in_order),
        cmocka_unit_test(kills_at_the_limit_with_all_children),
        cmocka_unit_test(calls_off),
        cmocka_unit_test(tells_how_an_agent_died),
        cmocka_unit_test(takes_many_at_once),
        cmocka_unit_test(spares_what_an_ended_act_left),
        cmocka_unit_test(says_that_the_helper_is_gone),
        cmocka_unit_test(ends_with_its_agent),
    };
    return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
