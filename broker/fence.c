// SPDX-License-Identifier: MIT

#include "broker/fence.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/text.h"

extern char **environ;

typedef struct child {
    fleet_name_t node;
    pid_t pid;  // 0: it could not be started
    int pid_fd; // -1: likewise
    int out_fd; // what it says; -1 at its end
    uint64_t limit_ms;
    uint64_t until_ms;
    bool killed;
    size_t said_n;
    char said[FLEET_TEXT_MAX]; // its last bytes
} child_t;

struct fence {
    uint32_t n;
    child_t children[FENCE_RUNNING_MAX];
};

fence_t *fence_new(void) {
    fence_t *fence = calloc(1, sizeof *fence);
    if (fence == NULL) {
        abort();
    }
    return fence;
}

static void close_child(child_t *child) {
    if (child->pid_fd >= 0) {
        close(child->pid_fd);
    }
    if (child->out_fd >= 0) {
        close(child->out_fd);
    }
}

void fence_destroy(fence_t **fence_p) {
    if (*fence_p == NULL) {
        return;
    }
    for (uint32_t i = 0; i < (*fence_p)->n; i++) {
        child_t *child = &(*fence_p)->children[i];
        if (child->pid > 0) {
            kill(-child->pid, SIGKILL);
            waitpid(child->pid, NULL, 0);
        }
        close_child(child);
    }
    free(*fence_p);
    *fence_p = NULL;
}

bool fence_split(const char *command, fleet_text_t room,
                 char *words[FENCE_WORDS_MAX + 1]) {
    size_t words_n = 0;
    char *to = room;
    const char *from = command;
    while (*from != '\0') {
        if (*from == ' ' || *from == '\t') {
            from++;
            continue;
        }
        if (words_n == FENCE_WORDS_MAX) {
            return false;
        }
        words[words_n++] = to;
        char quote = '\0';
        for (; *from != '\0' &&
               (quote != '\0' || (*from != ' ' && *from != '\t'));
             from++) {
            if (quote == '\0' && (*from == '\'' || *from == '"')) {
                quote = *from;
            } else if (quote != '\0' && *from == quote) {
                quote = '\0';
            } else if (*from == '\\' && quote != '\'' && from[1] != '\0') {
                *to++ = *++from;
            } else {
                *to++ = *from;
            }
        }
        if (quote != '\0') {
            return false;
        }
        *to++ = '\0';
    }
    words[words_n] = NULL;
    return words_n > 0;
}

// Standard input is nothing, both outputs are the pipe; a group of its own, so
// that its limit ends whatever it started; none of our blocked signals.
static int spawn(char *const words[], int out_fd, pid_t *ret_pid) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    int bad = posix_spawn_file_actions_init(&files);
    bad |= posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
                                            O_RDONLY, 0);
    bad |= posix_spawn_file_actions_adddup2(&files, out_fd, STDOUT_FILENO);
    bad |= posix_spawn_file_actions_adddup2(&files, out_fd, STDERR_FILENO);
    bad |= posix_spawnattr_init(&attributes);
    bad |= posix_spawnattr_setpgroup(&attributes, 0);
    bad |= posix_spawnattr_setsigmask(&attributes, &none);
    bad |= posix_spawnattr_setsigdefault(&attributes, &all);
    bad |= posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP |
                                                     POSIX_SPAWN_SETSIGMASK |
                                                     POSIX_SPAWN_SETSIGDEF);
    assert(bad == 0);
    int error =
        posix_spawnp(ret_pid, words[0], &files, &attributes, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error;
}

static void say(child_t *child, const char *bytes, size_t size) {
    if (size > sizeof child->said) {
        bytes += size - sizeof child->said;
        size = sizeof child->said;
    }
    size_t keep = child->said_n;
    if (keep + size > sizeof child->said) {
        keep = sizeof child->said - size;
        memmove(child->said, child->said + child->said_n - keep, keep);
    }
    memcpy(child->said + keep, bytes, size);
    child->said_n = keep + size;
}

static void say_text(child_t *child, const char *text) {
    say(child, text, strlen(text));
}

void fence_start(fence_t *fence, const char *node, const char *command,
                 uint64_t limit_ms, uint64_t now_ms) {
    assert(fence->n < FENCE_RUNNING_MAX);
    child_t *child = &fence->children[fence->n++];
    *child = (child_t){.pid_fd = -1, .out_fd = -1, .limit_ms = limit_ms};
    child->until_ms = now_ms + limit_ms;
    FLEET_COPY(child->node, node);
    fleet_text_t room;
    char *words[FENCE_WORDS_MAX + 1];
    int pipe_fds[2];
    if (!fence_split(command, room, words)) {
        say_text(child, "the fence command has an open quote or no words");
        return;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        say_text(child, strerror(errno));
        return;
    }
    child->out_fd = pipe_fds[0];
    fcntl(child->out_fd, F_SETFL, O_NONBLOCK);
    int error = spawn(words, pipe_fds[1], &child->pid);
    close(pipe_fds[1]);
    if (error != 0) {
        child->pid = 0;
        say_text(child, words[0]);
        say_text(child, ": ");
        say_text(child, strerror(error));
        return;
    }
    child->pid_fd = (int)syscall(SYS_pidfd_open, child->pid, 0);
}

uint32_t fence_polls(const fence_t *fence, struct pollfd *polls) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < fence->n; i++) {
        const child_t *child = &fence->children[i];
        if (child->pid_fd >= 0) {
            polls[n++] = (struct pollfd){.fd = child->pid_fd, .events = POLLIN};
        }
        if (child->out_fd >= 0) {
            polls[n++] = (struct pollfd){.fd = child->out_fd, .events = POLLIN};
        }
    }
    return n;
}

uint64_t fence_deadline(const fence_t *fence, uint64_t now_ms) {
    uint64_t left_ms = UINT64_MAX;
    for (uint32_t i = 0; i < fence->n; i++) {
        const child_t *child = &fence->children[i];
        uint64_t until_ms = child->pid == 0 ? now_ms : child->until_ms;
        uint64_t of_child = until_ms > now_ms ? until_ms - now_ms : 0;
        // A killed one ends when the kernel says so.
        if (!child->killed && of_child < left_ms) {
            left_ms = of_child;
        }
    }
    return left_ms;
}

static void read_said(child_t *child) {
    char bytes[1024];
    ssize_t n = 0;
    while (child->out_fd >= 0 &&
           (n = read(child->out_fd, bytes, sizeof bytes)) > 0) {
        say(child, bytes, (size_t)n);
    }
    if (child->out_fd >= 0 && n == 0) {
        close(child->out_fd);
        child->out_fd = -1;
    }
}

// Fills how a child ended; false while it runs.
static bool outcome(child_t *child, bool *ret_ok, fleet_text_t ret_text) {
    int status = 0;
    bool ok = false;
    fleet_text_t how = "";
    if (child->pid > 0) {
        pid_t pid = waitpid(child->pid, &status, WNOHANG);
        if (pid == 0) {
            return false;
        }
        read_said(child);
        ok = pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (child->killed) {
            ok = false;
            FLEET_FORMAT(how, "ended after its limit of %" PRIu64 " ms. ",
                         child->limit_ms);
        } else if (WIFSIGNALED(status)) {
            FLEET_FORMAT(how, "ended by signal %d. ", WTERMSIG(status));
        } else if (!ok) {
            FLEET_FORMAT(how, "exit status %d. ", WEXITSTATUS(status));
        }
        // What it left behind, a killed power switch's helper, ends with it.
        kill(-child->pid, SIGKILL);
    }
    char said[FLEET_TEXT_MAX + 1] = "";
    memcpy(said, child->said, child->said_n);
    for (size_t i = 0; i < child->said_n; i++) {
        unsigned char c = (unsigned char)said[i];
        if (c < ' ' || c > '~') {
            said[i] = ' '; // a cut character, a NUL: this is one line of text
        }
    }
    while (child->said_n > 0 && said[child->said_n - 1] == ' ') {
        said[--child->said_n] = '\0';
    }
    fleet_text_format(ret_text, sizeof(fleet_text_t), "%s%s", how, said);
    *ret_ok = ok;
    return true;
}

bool fence_ended(fence_t *fence, uint64_t now_ms, fleet_name_t ret_node,
                 bool *ret_ok, fleet_text_t ret_text) {
    for (uint32_t i = 0; i < fence->n; i++) {
        child_t *child = &fence->children[i];
        read_said(child);
        if (child->pid > 0 && !child->killed && now_ms >= child->until_ms) {
            kill(-child->pid, SIGKILL);
            child->killed = true;
        }
        if (outcome(child, ret_ok, ret_text)) {
            memcpy(ret_node, child->node, sizeof(fleet_name_t));
            close_child(child);
            fence->n--;
            memmove(child, child + 1, (fence->n - i) * sizeof *child);
            return true;
        }
    }
    return false;
}
