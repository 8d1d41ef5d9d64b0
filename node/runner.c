// SPDX-License-Identifier: MIT
//
// The agent's half of the runner: makes the helper, hands jobs over, takes
// results. The helper's half is in runner_helper.c.

#include "node/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/runner_wire.h"
#include "proto/text.h"

// Room for the results of a node full of sets, so that the helper need not
// wait.
#define SOCKET_BUFFER (4 * 1024 * 1024)
#define LOCK_RETRY_MS 20

typedef struct waiting {
    struct waiting *next;
    size_t size;
    runner_order_t order;
} waiting_t;

typedef struct returned {
    struct returned *next;
    runner_event_t event;
} returned_t;

struct runner {
    int socket;
    pid_t pid;
    waiting_t *first; // orders that the socket had no room for
    waiting_t *last;
    returned_t *returned;
    runner_event_t incoming;
};

static void sleep_ms(long ms) {
    struct timespec pause = {.tv_sec = ms / 1000,
                             .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

// The descriptor of the locked file, or -1.  ret_why is only written if the
// file cannot be opened or somebody else has it after wait_ms.
static int lock_take(const char *path, uint64_t wait_ms, fleet_text_t ret_why) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: %s", path,
                          strerror(errno));
        return -1;
    }
    for (uint64_t waited = 0; flock(fd, LOCK_EX | LOCK_NB) < 0;
         waited += LOCK_RETRY_MS) {
        if (waited >= wait_ms) {
            fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                              "an act of an agent before this one still runs "
                              "and cannot be killed (%s is locked)",
                              path);
            break;
        }
        sleep_ms(LOCK_RETRY_MS);
    }
    return fd;
}

static void grow_buffer(int fd, int option, int fallback) {
    int size = SOCKET_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, option, &size, sizeof(size)) < 0) {
        // Without the right to it the system's limit has to do.
        (void)setsockopt(fd, SOL_SOCKET, fallback, &size, sizeof(size));
    }
}

static void helper_main(int socket, pid_t agent, runner_call_t *call) {
    prctl(PR_SET_NAME, "fleet-runner");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == agent) { // else it died before the line above
        runner_helper(socket, call);
    }
    _exit(0);
}

runner_t *runner_new(runner_call_t *call, const char *lock_path,
                     uint64_t wait_ms, fleet_text_t ret_why) {
    int lock = -1;
    if (lock_path) {
        lock = lock_take(lock_path, wait_ms, ret_why);
        if (lock < 0) {
            return NULL;
        }
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "no socket pair for the runner: %s", strerror(errno));
        close(lock);
        return NULL;
    }
    grow_buffer(ends[0], SO_SNDBUFFORCE, SO_SNDBUF);
    grow_buffer(ends[1], SO_SNDBUFFORCE, SO_SNDBUF);
    pid_t agent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        helper_main(ends[1], agent, call);
    }
    int err = errno;
    close(ends[1]);
    if (lock >= 0) {
        close(lock); // the helper and its children have it
    }
    if (pid < 0) {
        close(ends[0]);
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "no process for the runner: %s", strerror(err));
        return NULL;
    }
    runner_t *runner = calloc(1, sizeof(*runner));
    if (!runner) {
        abort();
    }
    *runner = (runner_t){.socket = ends[0], .pid = pid};
    return runner;
}

static void drop_first(runner_t *runner) {
    waiting_t *first = runner->first;
    runner->first = first->next;
    if (!runner->first) {
        runner->last = NULL;
    }
    free(first);
}

void runner_destroy(runner_t **runner_p) {
    runner_t *runner = *runner_p;
    if (!runner) {
        return;
    }
    close(runner->socket); // the helper ends by this
    while (waitpid(runner->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    while (runner->first) {
        drop_first(runner);
    }
    while (runner->returned) {
        returned_t *first = runner->returned;
        runner->returned = first->next;
        free(first);
    }
    free(runner);
    *runner_p = NULL;
}

static bool send_now(runner_t *runner, const runner_order_t *order,
                     size_t size) {
    ssize_t sent =
        send(runner->socket, order, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    // Any other error is the helper's end, which runner_recv will find.
    return sent >= 0 || (errno != EAGAIN && errno != EINTR);
}

static void flush_waiting(runner_t *runner) {
    while (runner->first &&
           send_now(runner, &runner->first->order, runner->first->size)) {
        drop_first(runner);
    }
}

static void send_order(runner_t *runner, const runner_order_t *order,
                       size_t size) {
    flush_waiting(runner);
    if (!runner->first && send_now(runner, order, size)) {
        return;
    }
    waiting_t *waiting = malloc(sizeof(*waiting));
    if (!waiting) {
        abort();
    }
    waiting->next = NULL;
    waiting->size = size;
    memcpy(&waiting->order, order, size);
    if (runner->last) {
        runner->last->next = waiting;
    } else {
        runner->first = waiting;
    }
    runner->last = waiting;
}

void runner_submit(runner_t *runner, const runner_job_t *job) {
    runner_order_t order = {
        .kind = RUNNER_ORDER_RUN, .job = job->job, .run = *job};
    send_order(runner, &order, sizeof(order));
}

void runner_return(runner_t *runner, const runner_event_t *event) {
    returned_t *returned = malloc(sizeof(*returned));
    if (!returned) {
        abort();
    }
    *returned = (returned_t){.next = runner->returned, .event = *event};
    runner->returned = returned;
}

void runner_abandon(runner_t *runner, uint64_t job) {
    runner_order_t order = {.kind = RUNNER_ORDER_ABANDON, .job = job};
    send_order(runner, &order, RUNNER_ORDER_SHORT);
}

int runner_fd(const runner_t *runner) {
    return runner->socket;
}

short runner_events(const runner_t *runner) {
    return runner->first ? POLLIN | POLLOUT : POLLIN;
}

runner_event_kind_t runner_recv(runner_t *runner, runner_event_t *ret_event) {
    flush_waiting(runner);
    returned_t *returned = runner->returned;
    if (returned) {
        runner->returned = returned->next;
        *ret_event = returned->event;
        free(returned);
        return ret_event->kind;
    }
    for (;;) {
        ssize_t size = recv(runner->socket, &runner->incoming,
                            sizeof(runner->incoming), MSG_DONTWAIT);
        if (size == (ssize_t)sizeof(runner->incoming)) {
            *ret_event = runner->incoming;
            return ret_event->kind;
        }
        if (size < 0 && errno == EINTR) {
            continue;
        }
        return size < 0 && errno == EAGAIN ? RUNNER_NONE : RUNNER_LOST;
    }
}

pid_t runner_pid(const runner_t *runner) {
    return runner->pid;
}
