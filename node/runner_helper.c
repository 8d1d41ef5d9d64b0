// SPDX-License-Identifier: MIT
//
// The helper's half of the runner: one child per job, its lines and its result
// passed on, its limit kept, whatever it leaves behind reaped.
//
// A child speaks over a SOCK_SEQPACKET of its own: a packet as long as a result
// is the result, a shorter one a line of progress.  Each child leads a session,
// so that at its limit all that it started can be found, whatever process
// groups the commands have.  Daemons of services stay in that session too; they
// are safe, because a job that has ended is never killed.

#include "node/runner_wire.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/text.h"

#define JOBS_MAX 1024
#define SPARES_MAX 8
#define SPARE_AFTER_MS 5

static_assert(sizeof(agent_result_t) > sizeof(fleet_text_t),
              "a packet's length tells a line from a result");

typedef struct running {
    uint64_t job;
    pid_t pid;
    int socket;
    uint64_t begin_us;
    uint64_t limit_us; // from begin_us
    bool closed;       // its end of the socket is; only its exit is waited for
    bool exited;       // reaped
    int status;
} running_t;

// A child that waits for its job.
typedef struct spare {
    pid_t pid;
    int socket;
} spare_t;

// Not copied by fork, or each one would have to be paid for again, page by
// page, when the next order comes.
typedef struct buffers {
    runner_order_t order;
    runner_event_t event;
} buffers_t;

typedef struct helper {
    int agent; // socket to the agent
    int signals;
    runner_call_t *call;
    uint32_t n;
    running_t running[JOBS_MAX];
    uint32_t spares_n;
    spare_t spares[SPARES_MAX];
    struct pollfd ready[JOBS_MAX + 2];
    buffers_t *buffers;
} helper_t;

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void send_event(helper_t *helper, int flags) {
    while (send(helper->agent, &helper->buffers->event,
                sizeof(helper->buffers->event), MSG_NOSIGNAL | flags) < 0 &&
           errno == EINTR) {
    }
}

static void send_done(helper_t *helper, uint64_t job, uint64_t begin_us,
                      const agent_result_t *result) {
    helper->buffers->event = (runner_event_t){.kind = RUNNER_DONE,
                                              .job = job,
                                              .us = now_us() - begin_us,
                                              .result = *result};
    send_event(helper, 0);
}

static void send_failed(helper_t *helper, uint64_t job, uint64_t begin_us,
                        fleet_err_t err, const char *text) {
    agent_result_t result = {.err = err};
    FLEET_COPY(result.text, text);
    send_done(helper, job, begin_us, &result);
}

static void touch_stack(void) {
    volatile char pages[128 * 1024];
    for (size_t i = 0; i < sizeof(pages); i += 4096) {
        pages[i] = 0;
    }
}

// In the child: leaves what is the helper's and waits for its job.
static void child_main(helper_t *helper, int socket) {
    close(helper->agent);
    close(helper->signals);
    for (uint32_t i = 0; i < helper->n; i++) {
        close(helper->running[i].socket);
    }
    for (uint32_t i = 0; i < helper->spares_n; i++) {
        close(helper->spares[i].socket);
    }
    setsid();
    prctl(PR_SET_NAME, "fleet-act");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    static runner_order_t order;
    static agent_result_t result;
    // Their pages are there before the job is.
    memset(&order, 1, sizeof(order));
    memset(&result, 1, sizeof(result));
    touch_stack();
    ssize_t size;
    do {
        size = recv(socket, &order, sizeof(order), 0);
    } while (size < 0 && errno == EINTR);
    if (size != (ssize_t)sizeof(order)) {
        _exit(0); // the helper ends
    }
    runner_job_t *job = &order.run;
    job->ctx.setdef = &job->setdef;
    job->ctx.resource = job->resource < job->setdef.resources_n
                            ? &job->setdef.resources[job->resource]
                            : NULL;
    job->ctx.progress = socket;
    memset(&result, 0, sizeof(result));
    helper->call(job->act, &job->ctx, &result);
    while (send(socket, &result, sizeof(result), MSG_NOSIGNAL) < 0 &&
           errno == EINTR) {
    }
    _exit(0);
}

// False if the system is out of descriptors or processes.
static bool spare_make(helper_t *helper) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child_main(helper, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return false;
    }
    helper->spares[helper->spares_n++] =
        (spare_t){.pid = pid, .socket = ends[0]};
    return true;
}

static void spare_remove(helper_t *helper, uint32_t i) {
    close(helper->spares[i].socket);
    helper->spares_n -= 1;
    helper->spares[i] = helper->spares[helper->spares_n];
}

static void job_begin(helper_t *helper) {
    uint64_t begin_us = now_us();
    uint64_t job = helper->buffers->order.job;
    if (helper->n == JOBS_MAX) {
        send_failed(helper, job, begin_us, FLEET_NO_ANSWER,
                    "1024 acts run at once: this one was not begun");
        return;
    }
    for (;;) {
        if (helper->spares_n == 0 && !spare_make(helper)) {
            send_failed(helper, job, begin_us, FLEET_NO_ANSWER,
                        "no process can be made to run the act");
            return;
        }
        spare_t spare = helper->spares[helper->spares_n - 1];
        if (send(spare.socket, &helper->buffers->order,
                 sizeof(helper->buffers->order),
                 MSG_NOSIGNAL) == (ssize_t)sizeof(helper->buffers->order)) {
            helper->spares_n -= 1;
            helper->running[helper->n++] = (running_t){
                .job = job,
                .pid = spare.pid,
                .socket = spare.socket,
                .begin_us = begin_us,
                .limit_us = helper->buffers->order.run.limit_ms * 1000};
            return;
        }
        spare_remove(helper, helper->spares_n - 1); // somebody killed it
    }
}

static void job_remove(helper_t *helper, uint32_t i) {
    close(helper->running[i].socket);
    helper->n -= 1;
    helper->running[i] = helper->running[helper->n];
}

static pid_t session_of(pid_t pid) {
    char path[64];
    char stat[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(stat, 1, sizeof(stat) - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    stat[size] = '\0';
    // The name may hold anything, a parenthesis too: it ends at the last one.
    // Behind it are ") STATE PARENT GROUP SESSION".
    char *rest = strrchr(stat, ')');
    if (!rest || strlen(rest) < 4) {
        return 0;
    }
    rest += 3;
    long numbers[3];
    for (size_t i = 0; i < 3; i++) {
        numbers[i] = strtol(rest, &rest, 10);
    }
    return (pid_t)numbers[2];
}

// Kills the leader and everybody in its session.  Only while the leader is not
// reaped: its number cannot be anybody else's then.  Twice, because the first
// round may miss a child that is just being made.
static void session_kill(pid_t leader) {
    kill(leader, SIGKILL);
    for (int round = 0; round < 2; round++) {
        DIR *proc = opendir("/proc");
        if (!proc) {
            kill(-leader, SIGKILL);
            return;
        }
        for (struct dirent *entry; (entry = readdir(proc));) {
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
            if (pid > 1 && session_of(pid) == leader) {
                kill(pid, SIGKILL);
            }
        }
        closedir(proc);
    }
}

// Reports and forgets a job that did not end by itself.  Whether the child can
// die now is not waited for: it is reaped whenever it does.
static void job_kill(helper_t *helper, uint32_t i, const char *why) {
    running_t *running = &helper->running[i];
    if (!running->exited) {
        session_kill(running->pid);
    }
    send_failed(helper, running->job, running->begin_us, FLEET_NO_ANSWER, why);
    job_remove(helper, i);
}

static void job_limit(helper_t *helper, uint32_t i) {
    char limit[32];
    fleet_text_t why;
    fleet_duration_print(helper->running[i].limit_us, limit, sizeof(limit));
    FLEET_FORMAT(why, "did not end within its limit of %s and was killed",
                 limit);
    job_kill(helper, i, why);
}

static void job_died(helper_t *helper, uint32_t i) {
    const running_t *running = &helper->running[i];
    fleet_text_t why;
    if (WIFSIGNALED(running->status)) {
        FLEET_FORMAT(why, "ended without a result: killed by signal %d (%s)",
                     WTERMSIG(running->status),
                     strsignal(WTERMSIG(running->status)));
    } else {
        FLEET_FORMAT(why, "ended without a result: exit status %d",
                     WEXITSTATUS(running->status));
    }
    send_failed(helper, running->job, running->begin_us, FLEET_BUG, why);
    job_remove(helper, i);
}

static void send_line(helper_t *helper, const running_t *running,
                      const char *line, size_t size) {
    helper->buffers->event =
        (runner_event_t){.kind = RUNNER_SAID,
                         .job = running->job,
                         .us = now_us() - running->begin_us};
    memcpy(helper->buffers->event.line, line,
           size < FLEET_TEXT_MAX ? size : FLEET_TEXT_MAX);
    send_event(helper, MSG_DONTWAIT);
}

// Reads what a job's child said.  False if the job is over and removed.
static bool job_read(helper_t *helper, uint32_t i) {
    running_t *running = &helper->running[i];
    static agent_result_t result;
    for (;;) {
        ssize_t size =
            recv(running->socket, &result, sizeof(result), MSG_DONTWAIT);
        if (size == (ssize_t)sizeof(result)) {
            send_done(helper, running->job, running->begin_us, &result);
            job_remove(helper, i);
            return false;
        }
        if (size > 0) {
            send_line(helper, running, (const char *)&result, (size_t)size);
        } else if (size == 0) {
            running->closed = true;
            return true;
        } else if (errno != EINTR) {
            return true;
        }
    }
}

// Reaps children, and what they left behind when it ended.  A result is sent
// before the exit: a job that has exited and has none in its socket died.
static void reap(helper_t *helper) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (uint32_t i = 0; i < helper->spares_n; i++) {
            if (helper->spares[i].pid == pid) {
                spare_remove(helper, i);
                break;
            }
        }
        for (uint32_t i = 0; i < helper->n; i++) {
            if (helper->running[i].pid != pid) {
                continue;
            }
            helper->running[i].exited = true;
            helper->running[i].status = status;
            if (job_read(helper, i)) {
                job_died(helper, i);
            }
            break;
        }
    }
}

// False if the agent is gone.
static bool read_orders(helper_t *helper) {
    for (;;) {
        ssize_t size = recv(helper->agent, &helper->buffers->order,
                            sizeof(helper->buffers->order), MSG_DONTWAIT);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return errno == EAGAIN;
        }
        if (size == 0) {
            return false;
        }
        if (helper->buffers->order.kind == RUNNER_ORDER_RUN) {
            job_begin(helper);
            continue;
        }
        for (uint32_t i = 0; i < helper->n; i++) {
            if (helper->running[i].job == helper->buffers->order.job) {
                job_kill(helper, i, "was called off and killed");
                break;
            }
        }
    }
}

static int wait_ms(const helper_t *helper) {
    uint64_t now = now_us();
    uint64_t left = UINT64_MAX;
    for (uint32_t i = 0; i < helper->n; i++) {
        const running_t *running = &helper->running[i];
        uint64_t passed = now - running->begin_us;
        uint64_t mine =
            passed < running->limit_us ? running->limit_us - passed : 0;
        left = mine < left ? mine : left;
    }
    if (left == UINT64_MAX) {
        return -1;
    }
    left = (left + 999) / 1000;
    return left < 3600000 ? (int)left : 3600000;
}

static void keep_limits(helper_t *helper) {
    uint64_t now = now_us();
    for (uint32_t i = helper->n; i > 0; i--) {
        const running_t *running = &helper->running[i - 1];
        if (now - running->begin_us >= running->limit_us) {
            job_limit(helper, i - 1);
        }
    }
}

// False if a signal asked for the end.
static bool read_signals(helper_t *helper) {
    struct signalfd_siginfo info;
    while (read(helper->signals, &info, sizeof(info)) ==
           (ssize_t)sizeof(info)) {
        if (info.ssi_signo != SIGCHLD) {
            return false;
        }
    }
    reap(helper);
    return true;
}

static bool turn(helper_t *helper) {
    uint32_t n = helper->n;
    helper->ready[0] = (struct pollfd){.fd = helper->agent, .events = POLLIN};
    helper->ready[1] = (struct pollfd){.fd = helper->signals, .events = POLLIN};
    for (uint32_t i = 0; i < n; i++) {
        helper->ready[i + 2] = (struct pollfd){
            .fd = helper->running[i].closed ? -1 : helper->running[i].socket,
            .events = POLLIN};
    }
    // Made only when nothing has happened for a while: while it forks it hears
    // no result.
    bool short_of = helper->spares_n < SPARES_MAX;
    int wait = wait_ms(helper);
    bool quiet = short_of && (wait < 0 || wait > SPARE_AFTER_MS);
    int changed = poll(helper->ready, n + 2, quiet ? SPARE_AFTER_MS : wait);
    if (changed < 0) {
        return errno == EINTR;
    }
    if (changed == 0 && quiet && !spare_make(helper)) {
        // None can be made now: wait as if there were enough of them.
        (void)poll(helper->ready, n + 2, wait);
    }
    // From the end on: a removal puts the last one, already seen, in its place.
    for (uint32_t i = n; i > 0; i--) {
        if (helper->ready[i + 1].revents != 0) {
            job_read(helper, i - 1);
        }
    }
    keep_limits(helper);
    if (helper->ready[1].revents != 0 && !read_signals(helper)) {
        return false;
    }
    return helper->ready[0].revents == 0 || read_orders(helper);
}

void runner_helper(int socket, runner_call_t *call) {
    static helper_t helper;
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGTERM);
    // A Ctrl-C at a terminal reaches the whole group; the agent decides.
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGHUP);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    sigdelset(&watched, SIGINT);
    sigdelset(&watched, SIGHUP);
    helper.agent = socket;
    helper.call = call;
    helper.buffers = mmap(NULL, sizeof(buffers_t), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (helper.buffers == MAP_FAILED ||
        madvise(helper.buffers, sizeof(buffers_t), MADV_DONTFORK) < 0) {
        return;
    }
    helper.signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (helper.signals < 0) {
        return;
    }
    while (turn(&helper)) {
    }
    for (uint32_t i = 0; i < helper.n; i++) {
        if (!helper.running[i].exited) {
            session_kill(helper.running[i].pid);
        }
    }
}
