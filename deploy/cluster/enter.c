// SPDX-License-Identifier: MIT
//
// Runs a command inside a host of the one-machine cluster:
//
//   fleet-demo-enter PID COMMAND [ARGUMENT ...]
//
// PID is the host's pid 1.  As nsenter(1), but transparent: signals that
// somebody sends to it go on to the command, the command ends when it is
// killed, and its exit status is the command's.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t child_pid;

static void die(const char *what) {
    fprintf(stderr, "fleet-demo-enter: cannot %s: %s\n", what, strerror(errno));
    exit(125);
}

// What the terminal sends reaches the command by itself.
static void forward(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code <= 0 && child_pid > 0) {
        kill((pid_t)child_pid, number);
    }
}

static void forward_signals(void) {
    static const int numbers[] = {SIGTERM, SIGINT,  SIGHUP,
                                  SIGQUIT, SIGUSR1, SIGUSR2};
    struct sigaction action = {.sa_sigaction = forward,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

static void enter(const char *pid) {
    static const struct {
        const char *name;
        int type;
    } spaces[] = {{"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC},
                  {"uts", CLONE_NEWUTS},       {"net", CLONE_NEWNET},
                  {"pid", CLONE_NEWPID},       {"mnt", CLONE_NEWNS}};
    enum { N = sizeof(spaces) / sizeof(spaces[0]) };
    int fds[N];
    for (size_t i = 0; i < N; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%.20s/ns/%s", pid, spaces[i].name);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (fds[i] < 0) {
            die("find the host's namespaces; is it off?");
        }
    }
    for (size_t i = 0; i < N; i++) {
        if (setns(fds[i], spaces[i].type) < 0) {
            die("enter the host");
        }
    }
    if (chdir("/") < 0) {
        die("enter the host's root");
    }
}

int main(int arguments_n, char **arguments) {
    if (arguments_n < 3) {
        fprintf(stderr, "usage: fleet-demo-enter PID COMMAND [ARGUMENT ...]\n");
        return 125;
    }
    enter(arguments[1]);
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    pid_t child = fork();
    if (child < 0) {
        die("fork");
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigprocmask(SIG_SETMASK, &old, NULL);
        execvp(arguments[2], arguments + 2);
        fprintf(stderr, "%s: %s\n", arguments[2], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
    }
    child_pid = child;
    forward_signals();
    sigprocmask(SIG_SETMASK, &old, NULL);
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            die("wait");
        }
    }
    if (WIFSIGNALED(status)) {
        // Ends as the command did, so that a shell sees the same.
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
        return 128 + WTERMSIG(status);
    }
    return WEXITSTATUS(status);
}
