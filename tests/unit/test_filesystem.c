// SPDX-License-Identifier: MIT
//
// The file system agent on real loop devices, in a mount namespace of its own.

#include "tests/unit/scene.h"

#include <sys/mman.h>
#include <sys/swap.h>

static const agent_t *const image = &agent_image;
static const agent_t *const filesystem = &agent_filesystem;

static scene_node_t *node;
static fleet_text_t path; // of the image
static const char *point; // where it is mounted
static char device[64];

// A node that has imported a fresh image.
static int before_test(void **state) {
    (void)state;
    scene_image("a.img", path);
    node = scene_node("node1", path, 5);
    scene_ok(node, image->start, &node->disk);
    fleet_text_t link;
    agent_device_path(&node->disk, link);
    ssize_t n = readlink(link, device, sizeof(device) - 1);
    assert_true(n > 0);
    device[n] = '\0';
    point = node->setdef.resources[1].filesystem.mount;
    return 0;
}

static int fuse = -1; // the server of a dead file system

static int after_test(void **state) {
    if (fuse >= 0) {
        close(fuse);
        fuse = -1;
    }
    scene_after_test(state);
    scene_node_free(node);
    return 0;
}

static fleet_filesystem_t *definition(void) {
    return &node->setdef.resources[1].filesystem;
}

static void start(void) {
    scene_ok(node, filesystem->start, &node->filesystem);
}

static void stop(void) {
    scene_ok(node, filesystem->stop, &node->filesystem);
    assert_true(loopdev_unclaimed(device));
}

static void stop_is_held_by(const char *who) {
    assert_int_equal(scene_call(node, filesystem->stop, &node->filesystem),
                     FLEET_HELD);
    scene_text_has(node->result.text, who);
    scene_text_has(node->result.said, who);
}

static node_found_t probe(void) {
    scene_ok(node, filesystem->probe, &node->filesystem);
    return node->result.found;
}

static void inside(const char *name, fleet_text_t ret_path) {
    fleet_text_format(ret_path, FLEET_TEXT_MAX + 1, "%s/%s", point, name);
}

// Start and stop

static void mounts_and_unmounts(void **state) {
    (void)state;
    assert_int_equal(probe(), NODE_FOUND_NOTHING);
    start();
    scene_text_has(node->result.text, "; clean");
    assert_int_equal(probe(), NODE_FOUND_ALL);
    start();
    scene_text_has(node->result.text, "already");
    stop();
    assert_string_equal(strstr(node->result.text, "SIG") ? "signal" : "", "");
    assert_int_equal(probe(), NODE_FOUND_NOTHING);
    stop();
    scene_ok(node, image->stop, &node->disk);
    stop();
    assert_int_equal(scene_call(node, filesystem->start, &node->filesystem),
                     FLEET_START_FAILED);
    scene_text_has(node->result.text, "not imported");
}

static void an_unused_one_goes_quickly(void **state) {
    (void)state;
    uint64_t least_us = UINT64_MAX;
    for (int i = 0; i < 3; i++) {
        start();
        uint64_t begin_us = patience_now_us();
        stop();
        uint64_t us = patience_now_us() - begin_us;
        least_us = us < least_us ? us : least_us;
    }
    print_message("stop of an unused file system: %.1f ms\n",
                  (double)least_us / 1000);
    assert_true(least_us < 250000);
}

static void something_else_there_is_left_alone(void **state) {
    (void)state;
    mkdir(point, 0755);
    assert_int_equal(mount("other", point, "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(scene_call(node, filesystem->start, &node->filesystem),
                     FLEET_START_FAILED);
    scene_text_has(node->result.text, "something else");
    scene_call(node, filesystem->look, &node->filesystem);
    assert_int_equal(node->result.problems_n, 1);
    assert_string_equal(node->result.problems[0].code, "not-ready");
    stop();
    struct stat status;
    assert_int_equal(stat(point, &status), 0);
    assert_int_equal(umount2(point, 0), 0); // it was there all the time
    scene_call(node, filesystem->look, &node->filesystem);
    assert_int_equal(node->result.problems_n, 0);
}

static void looks_at_what_it_needs(void **state) {
    (void)state;
    FLEET_COPY(definition()->type, "nosuchfs");
    rmdir(point); // of an earlier test
    int fd = open(point, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    scene_call(node, filesystem->look, &node->filesystem);
    print_message("%s\n", node->result.problems[0].text);
    assert_int_equal(node->result.problems_n, 2);
    assert_int_equal(scene_call(node, filesystem->prepare, &node->filesystem),
                     FLEET_NOT_READY);
    unlink(point);
    FLEET_COPY(definition()->type, "ext4");
    assert_int_equal(scene_call(node, filesystem->prepare, &node->filesystem),
                     FLEET_OK);
    struct stat status;
    assert_int_equal(stat(point, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
}

static void options_reach_the_mount(void **state) {
    (void)state;
    FLEET_COPY(definition()->options, "ro,noatime");
    start();
    assert_int_equal(probe(), NODE_FOUND_ALL); // read-only as it should be
    fleet_text_t file;
    inside("new", file);
    assert_int_equal(open(file, O_CREAT | O_WRONLY, 0600), -1);
    assert_int_equal(errno, EROFS);
    FLEET_COPY(definition()->options, "");
    assert_int_equal(probe(), NODE_FOUND_PART); // and not as it should be
    stop();
    FLEET_COPY(definition()->options, "nosuchoption");
    assert_int_equal(scene_call(node, filesystem->start, &node->filesystem),
                     FLEET_START_FAILED);
    scene_text_has(node->result.text, "mounting");
}

// Checks

static void a_crash_is_replayed_and_said(void **state) {
    (void)state;
    start();
    scene_shell("echo x > %s/a && sync -f %s", point, point);
    scene_shell("cp --sparse=always %s %s.copy", path, path); // a power cut
    stop();
    scene_ok(node, image->stop, &node->disk);
    scene_shell("mv %s.copy %s", path, path);
    node->disk.token = 6; // the copy still says node1 with 5
    scene_ok(node, image->start, &node->disk);
    start();
    scene_text_has(node->result.text, "journal replayed");
    stop();
    definition()->fsck = FLEET_FSCK_FULL;
    start();
    scene_text_has(node->result.text, "checked");
    char said[4096];
    scene_said(node, said, sizeof(said));
    scene_text_has(said, "e2fsck -p -f");
    stop();
    definition()->fsck = FLEET_FSCK_NO;
    start();
    scene_text_has(node->result.text, "not checked, as its definition says");
}

static void what_cannot_be_repaired_is_refused(void **state) {
    (void)state;
    scene_shell("debugfs -w -R 'clri <2>' %s 2>/dev/null", device);
    definition()->fsck = FLEET_FSCK_FULL;
    assert_int_equal(scene_call(node, filesystem->start, &node->filesystem),
                     FLEET_START_FAILED);
    scene_text_has(node->result.text, "exit status 4");
    scene_text_has(node->result.said, "RUN fsck MANUALLY");
    assert_int_equal(probe(), NODE_FOUND_NOTHING);
}

// Users

static void sit_there(int ready, const char *directory) {
    if (chdir(directory) == 0) {
        scene_child_ready(ready);
    }
    pause();
}

static void users_get_term_and_nobody_else(void **state) {
    (void)state;
    start();
    fleet_text_t bind;
    scene_path("bind", bind);
    mkdir(bind, 0755);
    assert_int_equal(mount(point, bind, NULL, MS_BIND, NULL), 0);
    scene_child_t user = scene_child(sit_there, point);
    scene_child_t through_bind = scene_child(sit_there, bind);
    scene_child_t stranger = scene_child(sit_there, scene_dir);
    stop();
    scene_text_has(node->result.text, "SIGTERM to pid");
    assert_int_equal(scene_child_end(&user, true), SIGTERM);
    assert_int_equal(scene_child_end(&through_bind, true), SIGTERM);
    assert_int_equal(scene_child_end(&stranger, false), -1);
    scene_child_kill(&stranger);
}

static void map_a_file(int ready, const char *file) {
    int fd = open(file, O_RDWR | O_CREAT, 0600);
    void *memory = MAP_FAILED;
    if (ftruncate(fd, 4096) == 0) {
        memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (memory != MAP_FAILED && chdir("/") == 0) {
        scene_child_ready(ready);
    }
    pause();
}

static void open_a_file(int ready, const char *file) {
    int fd = open(file, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0 && unlink(file) == 0 && chdir("/") == 0) {
        scene_child_ready(ready);
    }
    pause();
}

static void run_from_it(int ready, const char *file) {
    scene_child_ready(ready);
    execl(file, "sleeper", "30", (char *)NULL);
}

static void files_and_mappings_are_found(void **state) {
    (void)state;
    start();
    fleet_text_t file;
    inside("mapped", file);
    scene_child_t mapping = scene_child(map_a_file, file);
    inside("unlinked", file);
    scene_child_t opening = scene_child(open_a_file, file);
    inside("sleeper", file);
    scene_shell("cp /bin/sleep %s", file);
    scene_child_t running = scene_child(run_from_it, file);
    // Until it is that program: before, nothing of it is on the file system.
    char exe[64];
    snprintf(exe, sizeof(exe), "/proc/%d/exe", running.pid);
    struct stat now;
    struct stat wanted;
    assert_int_equal(stat(file, &wanted), 0);
    patience_t patience = patience_of_ms(SCENE_WAIT_MS);
    while (stat(exe, &now) != 0 || now.st_dev != wanted.st_dev) {
        assert_true(patience_nap(&patience));
    }
    stop();
    assert_int_equal(scene_child_end(&mapping, true), SIGTERM);
    assert_int_equal(scene_child_end(&opening, true), SIGTERM);
    assert_int_equal(scene_child_end(&running, true), SIGTERM);
}

static void ignore_term(int ready, const char *directory) {
    signal(SIGTERM, SIG_IGN);
    sit_there(ready, directory);
}

static void kill_comes_after_term(void **state) {
    (void)state;
    start();
    scene_child_t user = scene_child(ignore_term, point);
    uint64_t begin_us = patience_now_us();
    stop();
    uint64_t ms = (patience_now_us() - begin_us) / 1000;
    assert_int_equal(scene_child_end(&user, true), SIGKILL);
    assert_true(ms >= definition()->term_ms);
    scene_text_has(node->result.text, "SIGTERM to pid");
    scene_text_has(node->result.text, "SIGKILL to pid");
    char said[4096];
    scene_said(node, said, sizeof(said));
    scene_text_has(said, "; KILL in 0.");
    char pid[32];
    snprintf(pid, sizeof(pid), "waiting for pid %d (", user.pid);
    scene_text_has(said, pid);
}

static void live_elsewhere(int ready, const char *directory) {
    if (unshare(CLONE_NEWNS) == 0 && chdir(directory) == 0) {
        scene_child_ready(ready);
    }
    pause();
}

static void have_a_mount_elsewhere(int ready, const char *directory) {
    (void)directory;
    if (unshare(CLONE_NEWNS) == 0) {
        scene_child_ready(ready);
    }
    pause();
}

static void other_namespaces_are_cleared(void **state) {
    (void)state;
    start();
    scene_child_t user = scene_child(live_elsewhere, point);
    scene_child_t copy = scene_child(have_a_mount_elsewhere, point);
    stop();
    assert_int_equal(scene_child_end(&user, true), SIGTERM);
    // It used nothing: only its mount is gone.
    assert_int_equal(scene_child_end(&copy, false), -1);
    char mounts[64];
    char line[512];
    snprintf(mounts, sizeof(mounts), "/proc/%d/mounts", copy.pid);
    FILE *stream = fopen(mounts, "re");
    assert_non_null(stream);
    while (fgets(line, sizeof(line), stream)) {
        assert_null(strstr(line, point));
    }
    fclose(stream);
    scene_child_kill(&copy);
}

// A thread may have a directory of its own.
static int thread_work(void *directory) {
    if (chdir(directory) == 0) {
        kill(getpid(), SIGUSR1);
    }
    pause();
    return 0;
}

static void thread_sits_there(int ready, const char *directory) {
    static _Alignas(16) char stack[64 << 10];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    clone(thread_work, stack + sizeof(stack),
          CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES,
          (void *)(uintptr_t)directory);
    int got = 0;
    sigwait(&set, &got);
    scene_child_ready(ready);
    pause();
}

static void threads_are_found(void **state) {
    (void)state;
    start();
    scene_child_t user = scene_child(thread_sits_there, point);
    stop();
    assert_int_equal(scene_child_end(&user, true), SIGTERM);
}

// What no signal ends

static void a_loop_device_inside_is_named(void **state) {
    (void)state;
    start();
    scene_shell("truncate -s 1M %s/inner", point);
    scene_shell("losetup -f %s/inner", point);
    struct stat status;
    fleet_text_t inner;
    inside("inner", inner);
    assert_int_equal(stat(inner, &status), 0);
    loopdev_list_t list;
    fleet_text_t why;
    assert_true(loopdev_find(status.st_dev, status.st_ino, &list, &why));
    assert_int_equal(list.n, 1);
    char name[64];
    snprintf(name, sizeof(name), "/dev/loop%u", list.items[0].number);
    stop_is_held_by(name);
    scene_text_has(node->result.text, inner);
    // The set may run on, and the disk group is not released meanwhile.
    assert_int_equal(scene_call(node, image->stop, &node->disk), FLEET_HELD);
    start();
    assert_int_equal(loopdev_detach(&list.items[0], SCENE_WAIT_MS, &why),
                     LOOPDEV_GONE);
    stop();
}

static void swap_inside_is_named(void **state) {
    (void)state;
    start();
    fleet_text_t file;
    inside("swap", file);
    scene_shell(
        "dd if=/dev/zero of=%s bs=64K count=8 status=none && "
        "chmod 600 %s && mkswap -q %s",
        file, file, file);
    if (swapon(file, 0) != 0) {
        print_message("swapon: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(scene_call(node, filesystem->stop, &node->filesystem),
                     FLEET_HELD);
    assert_int_equal(swapoff(file), 0);
    scene_text_has(node->result.text, "swap on ");
    stop();
}

static void another_mount_on_it_is_named_and_kept(void **state) {
    (void)state;
    start();
    fleet_text_t sub;
    inside("sub", sub);
    mkdir(sub, 0755);
    assert_int_equal(mount("other", sub, "tmpfs", 0, "size=64k"), 0);
    stop_is_held_by("another mount on it");
    scene_text_has(node->result.text, sub);
    assert_int_equal(probe(), NODE_FOUND_ALL);
    assert_int_equal(umount2(sub, 0), 0);
    stop();
}

static void we_ourselves_are_named_and_spared(void **state) {
    (void)state;
    start();
    fleet_text_t file;
    inside("mine", file);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    char pid[32];
    snprintf(pid, sizeof(pid), "pid %d (", getpid());
    stop_is_held_by(pid);
    scene_text_has(node->result.text, "fd ");
    close(fd);
    stop();
}

// A holder that SIGKILL does not end: a process that reads from a FUSE file
// system whose server does not answer.
typedef struct fuse_head {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
} fuse_head_t;

static int fuse_mount(const char *directory) {
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    char options[64];
    snprintf(options, sizeof(options),
             "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    if (mount("dead", directory, "fuse", 0, options) != 0) {
        close(fd);
        return -1;
    }
    char request[64 << 10];
    ssize_t n = read(fd, request, sizeof(request));
    fuse_head_t head;
    assert_true(n > (ssize_t)sizeof(head));
    memcpy(&head, request, sizeof(head));
    // INIT: version 7.31, and nothing else; then never a word again.
    struct {
        uint32_t len;
        int32_t error;
        uint64_t unique;
        uint32_t major_version;
        uint32_t minor_version;
        uint32_t rest[14];
    } answer = {.len = sizeof(answer),
                .unique = head.unique,
                .major_version = 7,
                .minor_version = 31};
    assert_int_equal(write(fd, &answer, sizeof(answer)), sizeof(answer));
    return fd;
}

static fleet_text_t dead_file;

static void hang(int ready, const char *directory) {
    close(fuse); // or it would keep its own server alive
    if (chdir(directory) == 0) {
        scene_child_ready(ready);
    }
    int fd = open(dead_file, O_RDONLY);
    close(fd);
    pause();
}

static char state_of(pid_t pid) {
    char text[256] = "";
    char name[64];
    snprintf(name, sizeof(name), "/proc/%d/stat", pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    const char *at = n > 0 ? strrchr(text, ')') : NULL;
    return (char)(at ? at[2] : '?');
}

static void an_unkillable_holder_is_named(void **state) {
    (void)state;
    start();
    fleet_text_t dead;
    scene_path("dead", dead);
    mkdir(dead, 0755);
    FLEET_FORMAT(dead_file, "%s/file", dead);
    fuse = fuse_mount(dead);
    if (fuse < 0) {
        print_message("/dev/fuse: %s\n", strerror(errno));
        skip();
    }
    scene_child_t user = scene_child(hang, point);
    char request[64 << 10];
    assert_true(read(fuse, request, sizeof(request)) > 0); // it asks: LOOKUP
    node->setdef.resources[1].stop_ms = 400;
    char pid[32];
    snprintf(pid, sizeof(pid), "pid %d (", user.pid);
    stop_is_held_by(pid);
    assert_int_equal(state_of(user.pid), 'D');
    scene_text_has(node->result.text, "state D");
    scene_text_has(node->result.text, "cwd ");
    assert_int_equal(probe(), NODE_FOUND_ALL); // the set can run on here
    close(fuse); // the server dies: the holder is free
    fuse = -1;
    node->setdef.resources[1].stop_ms = 5000;
    stop();
    assert_true(scene_child_end(&user, true) > 0);
    umount2(dead, MNT_DETACH);
}

#define WITH_DISK(test)                                                        \
    cmocka_unit_test_setup_teardown(test, before_test, after_test)

static int all_tests(void) {
    const struct CMUnitTest tests[] = {
        WITH_DISK(mounts_and_unmounts),
        WITH_DISK(an_unused_one_goes_quickly),
        WITH_DISK(something_else_there_is_left_alone),
        WITH_DISK(looks_at_what_it_needs),
        WITH_DISK(options_reach_the_mount),
        WITH_DISK(a_crash_is_replayed_and_said),
        WITH_DISK(what_cannot_be_repaired_is_refused),
        WITH_DISK(users_get_term_and_nobody_else),
        WITH_DISK(files_and_mappings_are_found),
        WITH_DISK(kill_comes_after_term),
        WITH_DISK(other_namespaces_are_cleared),
        WITH_DISK(threads_are_found),
        WITH_DISK(a_loop_device_inside_is_named),
        WITH_DISK(swap_inside_is_named),
        WITH_DISK(another_mount_on_it_is_named_and_kept),
        WITH_DISK(we_ourselves_are_named_and_spared),
        WITH_DISK(an_unkillable_holder_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
    return scene_run(all_tests);
}
