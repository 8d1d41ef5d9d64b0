// SPDX-License-Identifier: MIT
//
// A host of the one-machine cluster: what a machine's firmware and init are to
// a real one.  It enters the network namespace that was made for the host,
// makes the other namespaces, an overlay root of its own, /run and /tmp, a boot
// id, and then is the host's pid 1, which reaps and waits to be killed.
//
//   fleet-demo-host NAME NETNS LOWER UPPER WORK ROOT BOOT_ID_FILE [FROM:TO ...]
//
// FROM:TO are bind mounts.  Writes "ready PID\n" to stdout, PID as seen
// outside. Everything that it mounts lives in its own mount namespace and goes
// with it.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ARG_NAME = 1,
    ARG_NETNS,
    ARG_LOWER,
    ARG_UPPER,
    ARG_WORK,
    ARG_ROOT,
    ARG_BOOT_ID,
    ARG_BINDS
};

static void die(const char *what, const char *object) {
    fprintf(stderr, "fleet-demo-host: cannot %s %s: %s\n", what, object,
            strerror(errno));
    exit(1);
}

static void need(int result, const char *what, const char *object) {
    if (result < 0) {
        die(what, object);
    }
}

static void make_folder(const char *path) {
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        die("make", path);
    }
}

static void path_in(char *path, size_t size, const char *root,
                    const char *rest) {
    int n = snprintf(path, size, "%s%s", root, rest);
    if (n < 0 || (size_t)n >= size) {
        errno = ENAMETOOLONG;
        die("name", rest);
    }
}

static void mount_at(const char *root, const char *where, const char *type,
                     const char *options) {
    char path[512];
    path_in(path, sizeof(path), root, where);
    make_folder(path);
    need(mount(type, path, type, MS_NOSUID, options), "mount", path);
}

static void bind_at(const char *root, char *from_to) {
    char *colon = strchr(from_to, ':');
    if (colon == NULL) {
        errno = EINVAL;
        die("bind", from_to);
    }
    *colon = '\0';
    char path[512];
    path_in(path, sizeof(path), root, colon + 1);
    make_folder(path);
    need(mount(from_to, path, NULL, MS_BIND, NULL), "bind", path);
}

static void make_root(char **arguments) {
    const char *root = arguments[ARG_ROOT];
    char options[2048];
    int n = snprintf(
        options, sizeof(options), "lowerdir=%s:/,upperdir=%s,workdir=%s",
        arguments[ARG_LOWER], arguments[ARG_UPPER], arguments[ARG_WORK]);
    if (n < 0 || (size_t)n >= sizeof(options)) {
        errno = ENAMETOOLONG;
        die("mount", root);
    }
    need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "detach from", "/");
    need(mount("fleet-demo", root, "overlay", 0, options), "mount overlay on",
         root);

    char dev[512];
    path_in(dev, sizeof(dev), root, "/dev");
    need(mount("/dev", dev, NULL, MS_BIND | MS_REC, NULL), "bind", dev);
    mount_at(root, "/proc", "proc", NULL);
    mount_at(root, "/sys", "sysfs", NULL);
    mount_at(root, "/sys/fs/cgroup", "cgroup2", NULL);
    mount_at(root, "/run", "tmpfs", "mode=755,size=64m");
    mount_at(root, "/tmp", "tmpfs", "mode=1777,size=256m");
    for (char **bind = arguments + ARG_BINDS; *bind != NULL; bind++) {
        bind_at(root, *bind);
    }

    char boot_id[512];
    path_in(boot_id, sizeof(boot_id), root, "/proc/sys/kernel/random/boot_id");
    need(mount(arguments[ARG_BOOT_ID], boot_id, NULL, MS_BIND, NULL),
         "give a boot id to", arguments[ARG_NAME]);

    need(chdir(root), "enter", root);
    need((int)syscall(SYS_pivot_root, ".", "."), "pivot to", root);
    need(umount2(".", MNT_DETACH), "leave", "the machine's root");
    need(chdir("/"), "enter", "/");
}

static _Noreturn void be_init(void) {
    // A host that loses its maker is a host without power.
    prctl(PR_SET_NAME, "init");
    int devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (devnull >= 0) {
        dup2(devnull, STDIN_FILENO);
        dup2(devnull, STDOUT_FILENO);
        dup2(devnull, STDERR_FILENO);
    }
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;) {
        if (waitpid(-1, NULL, 0) < 0) {
            int signal_number = 0;
            sigset_t child;
            sigemptyset(&child);
            sigaddset(&child, SIGCHLD);
            sigwait(&child, &signal_number);
        }
    }
}

int main(int arguments_n, char **arguments) {
    if (arguments_n < ARG_BINDS) {
        fprintf(stderr,
                "usage: fleet-demo-host NAME NETNS LOWER UPPER WORK "
                "ROOT BOOT_ID_FILE [FROM:TO ...]\n");
        return 64;
    }
    int netns = open(arguments[ARG_NETNS], O_RDONLY | O_CLOEXEC);
    need(netns, "open", arguments[ARG_NETNS]);
    need(setns(netns, CLONE_NEWNET), "enter", arguments[ARG_NETNS]);
    need(unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID |
                 CLONE_NEWCGROUP),
         "unshare for", arguments[ARG_NAME]);
    need(sethostname(arguments[ARG_NAME], strlen(arguments[ARG_NAME])), "name",
         arguments[ARG_NAME]);

    int ready[2];
    need(pipe2(ready, O_CLOEXEC), "make a pipe for", arguments[ARG_NAME]);
    pid_t child = fork();
    need((int)child, "fork for", arguments[ARG_NAME]);
    if (child == 0) {
        setsid();
        close(ready[0]);
        make_root(arguments);
        if (write(ready[1], "r", 1) != 1) {
            return 1;
        }
        close(ready[1]);
        be_init();
    }
    close(ready[1]);
    char byte;
    if (read(ready[0], &byte, 1) != 1) {
        return 1; // the child has said why
    }
    printf("ready %d\n", (int)child);
    return 0;
}
