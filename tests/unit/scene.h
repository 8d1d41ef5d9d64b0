// SPDX-License-Identifier: MIT
//
// What the tests of the disk group driver and of the file system agent stand
// on: a directory, a mount namespace of their own, images, nodes, and somebody
// who clears all of it away, also after a test that crashed.  Needs root;
// without it the tests are skipped with a word.

#ifndef FLEET_TEST_SCENE_H
#define FLEET_TEST_SCENE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/agents/agent.h"
#include "node/agents/loopdev.h"
#include "node/agents/patience.h"
#include "proto/text.h"

#define SCENE_WAIT_MS 5000
#define SCENE_FS_OFFSET 1048576

static char scene_dir[64];

// Children that are not waited for yet.
#define SCENE_CHILDREN_MAX 16
static pid_t scene_children[SCENE_CHILDREN_MAX];
static unsigned scene_children_n;

static inline void scene_path(const char *name, fleet_text_t ret_path) {
    fleet_text_format(ret_path, FLEET_TEXT_MAX + 1, "%s/%s", scene_dir, name);
}

// A shell command that must succeed; for what a test stands on, not what it
// tests.
static inline void scene_shell(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
static inline void scene_shell(const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    int status = system(line);
    if (status != 0) {
        print_message("%s: status %d\n", line, status);
    }
    assert_int_equal(status, 0);
}

// An image with an ext4 of 8 MiB, not yet labelled.  It is made once, and
// copied.
#define SCENE_IMAGE_SIZE (10 << 20)
static uint8_t scene_template[SCENE_IMAGE_SIZE];

static inline void scene_make_template(void) {
    fleet_text_t path;
    scene_path("template", path);
    scene_shell(
        "truncate -s %d %s && mke2fs -q -F -t ext4 "
        "-E offset=%d,lazy_itable_init=0 %s 8M",
        SCENE_IMAGE_SIZE, path, SCENE_FS_OFFSET, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, scene_template, SCENE_IMAGE_SIZE),
                     SCENE_IMAGE_SIZE);
    close(fd);
    unlink(path);
}

static inline void scene_image(const char *name, fleet_text_t ret_path) {
    static const uint8_t zero[4096];
    if (scene_template[SCENE_FS_OFFSET + 0x438] == 0) { // no superblock
        scene_make_template();
    }
    scene_path(name, ret_path);
    unlink(ret_path);
    int fd = open(ret_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, SCENE_IMAGE_SIZE), 0);
    for (size_t at = 0; at < SCENE_IMAGE_SIZE; at += sizeof(zero)) {
        if (memcmp(scene_template + at, zero, sizeof(zero)) != 0) {
            assert_int_equal(
                pwrite(fd, scene_template + at, sizeof(zero), (off_t)at),
                sizeof(zero));
        }
    }
    close(fd);
}

// One node with a set "www": a disk group and a file system on it.
typedef struct scene_node {
    fleet_setdef_t setdef;
    agent_ctx_t disk;
    agent_ctx_t filesystem;
    agent_result_t result; // of the last call
} scene_node_t;

static inline scene_node_t *scene_node(const char *name, const char *image,
                                       uint64_t token) {
    scene_node_t *node = calloc(1, sizeof(*node));
    assert_non_null(node);
    FLEET_COPY(node->setdef.set, "www");
    node->setdef.resources_n = 2;
    fleet_resource_t *disk = &node->setdef.resources[0];
    disk->kind = FLEET_RESOURCE_DISK_GROUP;
    FLEET_COPY(disk->name, "disk_group");
    FLEET_COPY(disk->disk_group.driver, "image");
    FLEET_COPY(disk->disk_group.path, image);
    disk->start_ms = 10000;
    disk->stop_ms = 300;
    fleet_resource_t *filesystem = &node->setdef.resources[1];
    filesystem->kind = FLEET_RESOURCE_FILESYSTEM;
    FLEET_COPY(filesystem->name, "filesystem");
    FLEET_COPY(filesystem->filesystem.type, "ext4");
    FLEET_FORMAT(filesystem->filesystem.mount, "%s/srv-%s", scene_dir, name);
    filesystem->filesystem.fsck = FLEET_FSCK_PREEN;
    filesystem->filesystem.term_ms = 100;
    filesystem->start_ms = 10000;
    filesystem->stop_ms = 5000;
    agent_ctx_t ctx = {.setdef = &node->setdef, .token = token};
    FLEET_COPY(ctx.node, name);
    FLEET_COPY(ctx.kernel_id, "kernel-1");
    FLEET_FORMAT(ctx.run, "%s/run-%s", scene_dir, name);
    mkdir(ctx.run, 0700);
    fleet_text_t said;
    FLEET_FORMAT(said, "%s/said-%s", scene_dir, name);
    ctx.progress = open(said, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(ctx.progress >= 0);
    node->disk = ctx;
    node->disk.resource = disk;
    node->filesystem = ctx;
    node->filesystem.resource = filesystem;
    return node;
}

static inline void scene_node_free(scene_node_t *node) {
    close(node->disk.progress);
    free(node);
}

// What the node's agents said so far.
static inline void scene_said(const scene_node_t *node, char *text,
                              size_t size) {
    ssize_t n = pread(node->disk.progress, text, size - 1, 0);
    text[n > 0 ? n : 0] = '\0';
}

typedef void scene_call_t(const agent_ctx_t *ctx, agent_result_t *result);

static inline fleet_err_t scene_call(scene_node_t *node, scene_call_t *call,
                                     const agent_ctx_t *ctx) {
    node->result = (agent_result_t){0};
    call(ctx, &node->result);
    return node->result.err;
}

static inline void scene_ok(scene_node_t *node, scene_call_t *call,
                            const agent_ctx_t *ctx) {
    if (scene_call(node, call, ctx) != FLEET_OK) {
        print_message("%s\n%s\n", node->result.text, node->result.said);
    }
    assert_int_equal(node->result.err, FLEET_OK);
    assert_string_not_equal(node->result.text, "");
}

static inline void scene_text_has(const char *text, const char *part) {
    if (!strstr(text, part)) {
        print_message("not in the text: \"%s\"\ntext: %s\n", part, text);
    }
    assert_non_null(strstr(text, part));
}

// A child that does what `work` says, and has said on the pipe that it is
// there.
typedef struct scene_child {
    pid_t pid;
    int ready;
} scene_child_t;

static inline void scene_child_ready(int fd) {
    ssize_t n = write(fd, "r", 1);
    (void)n;
}

static inline scene_child_t
scene_child(void (*work)(int ready, const char *path), const char *path) {
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pipes[0]);
        work(pipes[1], path);
        _exit(0);
    }
    close(pipes[1]);
    assert_true(scene_children_n < SCENE_CHILDREN_MAX);
    scene_children[scene_children_n++] = pid;
    struct pollfd wait = {.fd = pipes[0], .events = POLLIN};
    char byte = 0;
    assert_int_equal(poll(&wait, 1, SCENE_WAIT_MS), 1);
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    return (scene_child_t){.pid = pid, .ready = pipes[0]};
}

// The signal that ended it, 0 for an exit; -1 if it still lives.
static inline int scene_child_end(scene_child_t *child, bool wait) {
    int status = 0;
    pid_t pid = waitpid(child->pid, &status, wait ? 0 : WNOHANG);
    if (pid != child->pid) {
        return -1;
    }
    close(child->ready);
    for (unsigned i = 0; i < scene_children_n; i++) {
        if (scene_children[i] == pid) {
            scene_children[i] = 0;
        }
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static inline void scene_child_kill(scene_child_t *child) {
    kill(child->pid, SIGKILL);
    scene_child_end(child, true);
}

// Loop devices on files of the directory.
static inline void scene_clear_loops(void) {
    DIR *entries = opendir(scene_dir);
    for (const struct dirent *entry; entries && (entry = readdir(entries));) {
        struct stat status;
        loopdev_list_t list;
        fleet_text_t why;
        if (fstatat(dirfd(entries), entry->d_name, &status, 0) != 0 ||
            !S_ISREG(status.st_mode) ||
            !loopdev_find(status.st_dev, status.st_ino, &list, &why)) {
            continue;
        }
        for (uint32_t i = 0; i < list.n; i++) {
            loopdev_detach(&list.items[i], SCENE_WAIT_MS, &why);
        }
    }
    if (entries) {
        closedir(entries);
    }
}

// After each test: what a failed one has left must not spoil the next.
static inline int scene_after_test(void **state) {
    (void)state;
    char points[64][256];
    unsigned n = 0;
    FILE *mounts = fopen("/proc/self/mounts", "re");
    while (mounts && n < 64 &&
           fscanf(mounts, "%*s %255s %*[^\n]", points[n]) == 1) {
        n += strncmp(points[n], scene_dir, strlen(scene_dir)) == 0;
    }
    if (mounts) {
        fclose(mounts);
    }
    while (n > 0) {
        umount2(points[--n], MNT_DETACH);
    }
    for (unsigned i = 0; i < scene_children_n; i++) {
        if (scene_children[i] > 0) {
            kill(scene_children[i], SIGKILL);
            waitpid(scene_children[i], NULL, 0);
        }
    }
    scene_children_n = 0;
    scene_clear_loops();
    return 0;
}

#define SCENE_TEST(test) cmocka_unit_test_teardown(test, scene_after_test)

// The tests run in a child in a process group of its own: when it is gone,
// however it went, its mounts are gone with its namespace, and the rest is
// cleared here.
static inline int scene_run(int (*tests)(void)) {
    if (geteuid() != 0) {
        printf("ok 1 # SKIP it needs root\n");
        return 0;
    }
    snprintf(scene_dir, sizeof(scene_dir), "/tmp/fleet-test-XXXXXX");
    if (!mkdtemp(scene_dir)) {
        return 1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        if (unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
            print_message("skipped: no mount namespace: %s\n", strerror(errno));
            exit(0);
        }
        exit(tests());
    }
    setpgid(pid, pid);
    int status = 1;
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    scene_clear_loops();
    char line[128];
    snprintf(line, sizeof(line), "rm -rf %s", scene_dir);
    int removed = system(line);
    return status == 0 && removed == 0 ? 0 : 1;
}

#endif
