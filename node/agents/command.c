// SPDX-License-Identifier: MIT
//
// Splitting and running commands.  The output goes to a memfd and not to a
// pipe: a daemon that the command leaves behind keeps that descriptor, and must
// neither hold us up until it closes it nor be killed by SIGPIPE when it speaks
// later. After the command the memfd is sealed, so that it cannot grow either.

#include "node/agents/command.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/agents/words.h"
#include "proto/text.h"

#define SEARCH_PATH                                                            \
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// What may stay of the output in memory while the command runs.
#define OUTPUT_KEPT ((off_t)64 * 1024)
#define OUTPUT_CHECK_MS 200

#define ENVIRONMENT_MAX 12
#define GROUPS_MAX 64

// errno says why not.
static bool is_program(const char *path) {
    struct stat stat;
    if (fstatat(AT_FDCWD, path, &stat, 0) < 0 || access(path, X_OK) < 0) {
        return false;
    }
    errno = S_ISREG(stat.st_mode) ? 0 : EACCES;
    return S_ISREG(stat.st_mode);
}

bool command_find(const char *word, fleet_text_t ret_path,
                  fleet_text_t ret_why) {
    fleet_text_t path;
    if (strchr(word, '/')) {
        FLEET_COPY(path, word);
        if (is_program(path)) {
            memcpy(ret_path, path, sizeof(path));
            return true;
        }
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: %s", path,
                          strerror(errno));
        return false;
    }
    for (const char *at = SEARCH_PATH; *at;) {
        size_t length = strcspn(at, ":");
        FLEET_FORMAT(path, "%.*s/%s", (int)length, at, word);
        if (is_program(path)) {
            memcpy(ret_path, path, sizeof(path));
            return true;
        }
        at += length + (at[length] == ':');
    }
    fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s: not found in %s", word,
                      SEARCH_PATH);
    return false;
}

// Everything that the child needs, worked out before it is born: between clone
// and exec only system calls are made.
typedef struct plan {
    command_words_t words;
    fleet_text_t path;
    char *environment[ENVIRONMENT_MAX + 1];
    char variables[ENVIRONMENT_MAX][FLEET_TEXT_MAX + 32];
    bool change_user;
    uid_t uid;
    gid_t gid;
    int groups_n;
    gid_t groups[GROUPS_MAX];
    int output;
    int failure; // the child's end: errno of what went wrong before exec
} plan_t;

static void add_variable(plan_t *plan, size_t *n, const char *name,
                         const char *value) {
    if (*n == ENVIRONMENT_MAX) {
        return;
    }
    FLEET_FORMAT(plan->variables[*n], "%s=%s", name, value);
    plan->environment[*n] = plan->variables[*n];
    *n += 1;
    plan->environment[*n] = NULL;
}

static bool plan_user(plan_t *plan, const char *user, size_t *n,
                      fleet_text_t ret_why) {
    char buffer[4096];
    struct passwd entry;
    struct passwd *found = NULL;
    int err = getpwnam_r(user, &entry, buffer, sizeof(buffer), &found);
    if (!found) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          err ? "user %s: %s" : "user %s does not exist here",
                          user, strerror(err));
        return false;
    }
    plan->change_user = true;
    plan->uid = entry.pw_uid;
    plan->gid = entry.pw_gid;
    plan->groups_n = GROUPS_MAX;
    if (getgrouplist(user, entry.pw_gid, plan->groups, &plan->groups_n) < 0) {
        plan->groups_n = GROUPS_MAX;
    }
    add_variable(plan, n, "USER", user);
    add_variable(plan, n, "LOGNAME", user);
    add_variable(plan, n, "HOME", entry.pw_dir);
    return true;
}

static bool plan_make(const command_t *command, plan_t *plan,
                      fleet_text_t ret_why) {
    if (!command_split(command->line, &plan->words, ret_why) ||
        !command_find(plan->words.argv[0], plan->path, ret_why)) {
        return false;
    }
    const agent_ctx_t *ctx = command->ctx;
    fleet_id_t token;
    FLEET_FORMAT(token, "%llu", (unsigned long long)ctx->token);
    size_t n = 0;
    add_variable(plan, &n, "PATH", SEARCH_PATH);
    add_variable(plan, &n, "LANG", "C.UTF-8");
    add_variable(plan, &n, "FLEET_SET", ctx->setdef->set);
    add_variable(plan, &n, "FLEET_NODE", ctx->node);
    add_variable(plan, &n, "FLEET_TOKEN", token);
    add_variable(plan, &n, "FLEET_RESOURCE",
                 ctx->resource ? ctx->resource->name : "");
    if (command->user && command->user[0] != '\0') {
        return plan_user(plan, command->user, &n, ret_why);
    }
    add_variable(plan, &n, "HOME", "/");
    return true;
}

static void child_exec(const plan_t *plan) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    bool ok = null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
              dup2(plan->output, STDOUT_FILENO) >= 0 &&
              dup2(plan->output, STDERR_FILENO) >= 0 && setpgid(0, 0) == 0 &&
              chdir("/") == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
              signal(SIGPIPE, SIG_DFL) != SIG_ERR &&
              sigprocmask(SIG_SETMASK, &none, NULL) == 0;
    umask(022);
    if (ok && plan->change_user) {
        ok = setgroups((size_t)plan->groups_n, plan->groups) == 0 &&
             setgid(plan->gid) == 0 && setuid(plan->uid) == 0 &&
             // A change of user clears it.
             prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    }
    ok = ok && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0;
    if (ok) {
        execve(plan->path, plan->words.argv, plan->environment);
    }
    int err = errno;
    ssize_t written = write(plan->failure, &err, sizeof(err));
    (void)written;
    _exit(127);
}

// The child is born inside its group, so that not even its first fork can
// escape from it.
static pid_t child_start(const plan_t *plan, int cgroup, int *ret_pidfd) {
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup >= 0 ? (uint32_t)cgroup : 0,
    };
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        child_exec(plan);
    }
    if (pid > 0) {
        *ret_pidfd = pidfd;
    }
    return (pid_t)pid;
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// Gives back the memory of all but the last part of a long output.
static void output_trim(int output) {
    struct stat stat;
    if (fstat(output, &stat) == 0 && stat.st_size > 2 * OUTPUT_KEPT) {
        (void)fallocate(output, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        stat.st_size - OUTPUT_KEPT);
    }
}

static void output_take(int output, fleet_words_t said) {
    (void)fcntl(output, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK);
    // Fails where a daemon maps it writable; then the size is sealed at least.
    (void)fcntl(output, F_ADD_SEALS, F_SEAL_WRITE);
    struct stat stat;
    if (fstat(output, &stat) < 0) {
        return;
    }
    char tail[FLEET_WORDS_MAX];
    off_t from =
        stat.st_size > FLEET_WORDS_MAX ? stat.st_size - FLEET_WORDS_MAX : 0;
    ssize_t size = pread(output, tail, sizeof(tail), from);
    words_clean(tail, size > 0 ? (size_t)size : 0, from > 0, said);
}

// True if it ended by itself.
static bool child_wait(int pidfd, int output, uint64_t limit_ms) {
    uint64_t begin = now_ms();
    for (;;) {
        uint64_t passed = now_ms() - begin;
        if (passed >= limit_ms) {
            return false;
        }
        uint64_t left = limit_ms - passed;
        struct pollfd ready = {.fd = pidfd, .events = POLLIN};
        int n = poll(&ready, 1,
                     (int)(left < OUTPUT_CHECK_MS ? left : OUTPUT_CHECK_MS));
        if (n > 0) {
            return true;
        }
        output_trim(output);
    }
}

static void say_status(int status, command_end_t *end) {
    if (WIFEXITED(status)) {
        end->status = WEXITSTATUS(status);
        end->ok = end->status == 0;
        FLEET_FORMAT(end->text, "exit status %d", WEXITSTATUS(status));
    } else {
        FLEET_FORMAT(end->text, "killed by signal %d (%s)", WTERMSIG(status),
                     strsignal(WTERMSIG(status)));
    }
}

static void child_end(pid_t pid, int pidfd, const command_t *command,
                      const plan_t *plan, int failure, command_end_t *end) {
    bool in_time = child_wait(pidfd, plan->output, command->limit_ms);
    if (!in_time) {
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
    }
    // A process that cannot die must not hold us: the runner's limit is near.
    struct pollfd ready = {.fd = pidfd, .events = POLLIN};
    int status = 0;
    bool gone = poll(&ready, 1, in_time ? -1 : OUTPUT_CHECK_MS) > 0 &&
                waitpid(pid, &status, 0) == pid;
    output_take(plan->output, end->said);
    int err = 0;
    if (read(failure, &err, sizeof(err)) == (ssize_t)sizeof(err)) {
        FLEET_FORMAT(end->text, "%s: %s", plan->path, strerror(err));
    } else if (!in_time) {
        char limit[32];
        fleet_duration_print(command->limit_ms * 1000, limit, sizeof(limit));
        end->over_limit = true;
        FLEET_FORMAT(end->text, "did not end within %s%s", limit,
                     gone ? "" : ", and cannot be killed");
    } else {
        say_status(status, end);
    }
}

void command_run(const command_t *command, command_end_t *ret_end) {
    *ret_end = (command_end_t){.status = -1};
    plan_t plan = {.output = -1, .failure = -1};
    if (!plan_make(command, &plan, ret_end->text)) {
        return;
    }
    int failure[2] = {-1, -1};
    plan.output = memfd_create("fleet-output", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (plan.output < 0 || pipe2(failure, O_CLOEXEC | O_NONBLOCK) < 0) {
        FLEET_FORMAT(ret_end->text, "cannot run %s: %s", plan.path,
                     strerror(errno));
        goto out;
    }
    plan.failure = failure[1];
    int pidfd = -1;
    pid_t pid = child_start(&plan, command->cgroup, &pidfd);
    if (pid < 0) {
        FLEET_FORMAT(ret_end->text, "cannot start a process for %s: %s",
                     plan.path, strerror(errno));
        goto out;
    }
    child_end(pid, pidfd, command, &plan, failure[0], ret_end);
    close(pidfd);
out:
    close(plan.output);
    close(failure[0]);
    close(failure[1]);
}
