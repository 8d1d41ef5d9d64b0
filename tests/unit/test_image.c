// SPDX-License-Identifier: MIT
//
// The disk group driver `image` on real loop devices.

#include "tests/unit/scene.h"

#include <sodium.h>
#include <sys/mman.h>

#include "node/agents/label.h"

static const agent_t *const image = &agent_image;

static loopdev_list_t devices(const char *path) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    loopdev_list_t list;
    fleet_text_t why = "";
    assert_true(loopdev_find(status.st_dev, status.st_ino, &list, &why));
    return list;
}

static void device_of(const scene_node_t *node, char *path, size_t size) {
    fleet_text_t link;
    agent_device_path(&node->disk, link);
    ssize_t n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = '\0';
}

static void import_and_release(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *node = scene_node("node1", path, 5);
    scene_ok(node, image->probe, &node->disk);
    assert_int_equal(node->result.found, NODE_FOUND_NOTHING);
    scene_ok(node, image->start, &node->disk);
    assert_string_equal(node->result.lock_owner, "node1");
    assert_int_equal(node->result.lock_token, 5);
    loopdev_list_t list = devices(path);
    assert_int_equal(list.n, 1);
    assert_true(loopdev_can_write(&list.items[0]));
    char link[64];
    char expected[64];
    device_of(node, link, sizeof(link));
    snprintf(expected, sizeof(expected), "/dev/loop%u", list.items[0].number);
    assert_string_equal(link, expected);
    scene_ok(node, image->probe, &node->disk);
    assert_int_equal(node->result.found, NODE_FOUND_ALL);

    scene_ok(node, image->start, &node->disk); // again: nothing changes
    loopdev_list_t again = devices(path);
    assert_int_equal(again.n, 1);
    assert_int_equal(again.items[0].number, list.items[0].number);

    scene_ok(node, image->stop, &node->disk);
    assert_int_equal(devices(path).n, 0);
    assert_string_equal(node->result.lock_owner, "");
    assert_int_equal(node->result.lock_token, 6);
    device_of(node, link, sizeof(link));
    assert_string_equal(link, "");
    scene_ok(node, image->stop, &node->disk); // and again
    assert_int_equal(node->result.lock_token, 6);
    scene_ok(node, image->probe, &node->disk);
    assert_int_equal(node->result.found, NODE_FOUND_NOTHING);

    assert_int_equal(scene_call(node, image->start, &node->disk),
                     FLEET_LOCK_FOREIGN); // the token is used up
    assert_int_equal(devices(path).n, 0);
    scene_node_free(node);
}

static void a_held_lock_refuses_others(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *one = scene_node("node1", path, 5);
    scene_node_t *two = scene_node("node2", path, 9);
    two->disk.from_token = 0;
    scene_ok(one, image->start, &one->disk);
    // Its device is on this kernel: refused for that before the lock is asked.
    assert_int_equal(scene_call(two, image->start, &two->disk), FLEET_HELD);
    scene_text_has(two->result.text, "node1");
    scene_clear_loops();
    assert_int_equal(scene_call(two, image->start, &two->disk),
                     FLEET_LOCK_FOREIGN);
    assert_string_equal(two->result.lock_owner, "node1");
    assert_int_equal(two->result.lock_token, 5);
    scene_text_has(two->result.text, "node1 with token 5");
    assert_int_equal(devices(path).n, 0);
    scene_ok(two, image->stop, &two->disk); // not its lock: nothing to do
    assert_string_equal(two->result.lock_owner, "node1");
    scene_node_free(one);
    scene_node_free(two);
}

// Eviction

typedef struct shared {
    _Atomic unsigned acknowledged; // lines that were written and synced
    _Atomic int error;             // errno of the first write that failed
} shared_t;

static shared_t *shared;

static void write_lines(int ready, const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    for (unsigned i = 1;; i++) {
        char line[16];
        int n = snprintf(line, sizeof(line), "%010u\n", i);
        bool ok = write(fd, line, (size_t)n) == n && fsync(fd) == 0;
        if (ok) {
            shared->acknowledged = i;
        } else if (shared->error == 0) {
            shared->error = errno;
        }
        if (i == 20) {
            scene_child_ready(ready);
        }
    }
}

static void hash_file(const char *path, uint8_t hash[32]) {
    static uint8_t bytes[16 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, bytes, sizeof(bytes));
    close(fd);
    assert_true(n > (ssize_t)LABEL_AREA_SIZE && n < (ssize_t)sizeof(bytes));
    // The label changes, and the ditch is there to be written to.
    crypto_generichash(hash, 32, bytes + LABEL_AREA_SIZE,
                       (size_t)n - LABEL_AREA_SIZE, NULL, 0);
}

static void wait_for_error(void) {
    patience_t patience = patience_of_ms(SCENE_WAIT_MS);
    while (shared->error == 0) {
        assert_true(patience_nap(&patience));
    }
}

static void overwrite_device(const char *device) {
    int fd = open(device, O_WRONLY | O_CLOEXEC);
    char sector[512];
    memset(sector, 0xee, sizeof(sector));
    for (off_t at = 0; at < 64 << 10; at += (off_t)sizeof(sector)) {
        (void)!pwrite(fd, sector, sizeof(sector), at);
    }
    fsync(fd);
    close(fd);
}

static void an_evicted_writer_gets_errors(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *one = scene_node("node1", path, 5);
    scene_node_t *two = scene_node("node2", path, 6);
    scene_ok(one, image->start, &one->disk);
    char device[64];
    device_of(one, device, sizeof(device));
    fleet_text_t mount_point;
    scene_path("srv", mount_point);
    mkdir(mount_point, 0755);
    assert_int_equal(mount(device, mount_point, "ext4", 0, ""), 0);
    fleet_text_t log;
    scene_path("srv/log", log);
    *shared = (shared_t){0};
    scene_child_t writer = scene_child(write_lines, log);

    FLEET_COPY(two->disk.victim, "node1");
    two->disk.victim_token = 5;
    scene_ok(two, image->evict, &two->disk);
    assert_true(two->result.stamped && two->result.blocked);
    scene_text_has(two->result.text, "1 loop device blocked");
    uint8_t before[32];
    hash_file(path, before);
    unsigned acknowledged = shared->acknowledged;
    assert_true(acknowledged >= 20);

    wait_for_error();
    assert_true(shared->error == EIO || shared->error == EROFS);
    overwrite_device(device);
    sync();
    scene_ok(two, image->evict, &two->disk); // again: the same answer
    assert_true(two->result.stamped && two->result.blocked);
    scene_child_kill(&writer);
    assert_int_equal(umount2(mount_point, 0), 0);
    uint8_t after[32];
    hash_file(path, after);
    assert_memory_equal(before, after, 32);

    scene_ok(one, image->probe, &one->disk);
    assert_int_equal(one->result.found, NODE_FOUND_PART);
    scene_ok(one, image->stop, &one->disk); // the device goes, the lock stays
    assert_int_equal(devices(path).n, 0);
    assert_string_equal(one->result.lock_owner, "");
    assert_int_equal(one->result.lock_token, 6);
    assert_int_equal(scene_call(one, image->start, &one->disk),
                     FLEET_LOCK_FOREIGN);

    // Every line that was acknowledged is there, and no other.
    scene_ok(two, image->start, &two->disk);
    device_of(two, device, sizeof(device));
    scene_shell("e2fsck -p %s >/dev/null; test $? -le 1", device);
    assert_int_equal(mount(device, mount_point, "ext4", 0, ""), 0);
    struct stat status;
    assert_int_equal(stat(log, &status), 0);
    assert_true(status.st_size >= (off_t)acknowledged * 11);
    assert_true(shared->acknowledged <= acknowledged + 1);
    assert_int_equal(umount2(mount_point, 0), 0);
    scene_ok(two, image->stop, &two->disk);
    scene_node_free(one);
    scene_node_free(two);
}

static void a_late_evict_touches_no_later_owner(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *one = scene_node("node1", path, 5);
    scene_node_t *two = scene_node("node2", path, 6);
    scene_ok(one, image->start, &one->disk);
    FLEET_COPY(two->disk.victim, "node1");
    scene_ok(two, image->evict, &two->disk);
    scene_ok(two, image->start, &two->disk);
    assert_int_equal(devices(path).n, 2); // node1's is left, and evicted
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scene_call(two, image->evict, &two->disk),
                         FLEET_LOCK_FOREIGN);
        assert_false(two->result.stamped || two->result.blocked);
        assert_string_equal(two->result.lock_owner, "node2");
    }
    loopdev_list_t list = devices(path);
    unsigned writers = 0;
    for (uint32_t i = 0; i < list.n; i++) {
        writers += loopdev_can_write(&list.items[i]);
        assert_true(loopdev_can_write(&list.items[i]) ==
                    (strcmp(list.items[i].tag.node, "node2") == 0));
    }
    assert_int_equal(writers, 1);
    scene_ok(one, image->stop, &one->disk);
    scene_ok(two, image->probe, &two->disk);
    assert_int_equal(two->result.found, NODE_FOUND_ALL);
    scene_ok(two, image->stop, &two->disk);
    scene_node_free(one);
    scene_node_free(two);
}

static void another_kernel_cannot_be_blocked(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *one = scene_node("node1", path, 5);
    scene_node_t *two = scene_node("node2", path, 6);
    FLEET_COPY(one->disk.kernel_id, "kernel-of-somewhere-else");
    scene_call(two, image->look, &two->disk);
    assert_true(two->result.visible && two->result.can_evict);
    scene_ok(one, image->start, &one->disk);
    scene_call(two, image->look, &two->disk);
    assert_true(two->result.visible);
    assert_false(two->result.can_evict);
    assert_string_equal(two->result.lock_owner, "node1");
    assert_int_equal(two->result.problems_n, 0);
    FLEET_COPY(two->disk.victim, "node1");
    for (int i = 0; i < 2; i++) {
        scene_ok(two, image->evict, &two->disk);
        assert_true(two->result.stamped);
        assert_false(two->result.blocked);
        scene_text_has(two->result.text, "another kernel");
    }
    scene_ok(one, image->stop, &one->disk);
    scene_node_free(one);
    scene_node_free(two);
}

static void in_place_keeps_the_device(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *node = scene_node("node1", path, 5);
    scene_ok(node, image->start, &node->disk);
    unsigned number = devices(path).items[0].number;
    node->disk.token = 7;
    node->disk.from_token = 5;
    for (int i = 0; i < 2; i++) {
        scene_ok(node, image->start, &node->disk);
        assert_int_equal(node->result.lock_token, 7);
        assert_int_equal(devices(path).n, 1);
        assert_int_equal(devices(path).items[0].number, number);
    }
    node->disk.from_token = 0;
    scene_ok(node, image->probe, &node->disk);
    assert_int_equal(node->result.found, NODE_FOUND_ALL);
    node->disk.token = 9;
    node->disk.from_token = 8; // it is 7
    assert_int_equal(scene_call(node, image->start, &node->disk),
                     FLEET_LOCK_FOREIGN);
    node->disk.from_token = 0;
    scene_ok(node, image->stop, &node->disk);
    scene_node_free(node);
}

// P9: what is left from before is torn down, never revived.
static void a_stale_device_is_torn_down(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *one = scene_node("node1", path, 5);
    scene_node_t *two = scene_node("node2", path, 6);
    scene_ok(one, image->start, &one->disk);
    FLEET_COPY(two->disk.victim, "node1");
    scene_ok(two, image->evict, &two->disk);
    one->disk.token = 7;
    scene_ok(one, image->start, &one->disk);
    loopdev_list_t list = devices(path);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.items[0].tag.token, 7);
    assert_true(loopdev_can_write(&list.items[0]));

    // Still mounted, it cannot be torn down: then nothing is imported.
    char device[64];
    device_of(one, device, sizeof(device));
    fleet_text_t mount_point;
    scene_path("srv", mount_point);
    mkdir(mount_point, 0755);
    assert_int_equal(mount(device, mount_point, "ext4", 0, ""), 0);
    one->disk.token = 8;
    assert_int_equal(scene_call(one, image->start, &one->disk), FLEET_HELD);
    scene_text_has(one->result.text, mount_point);
    one->disk.token = 7;
    scene_ok(one, image->probe, &one->disk);
    assert_int_equal(one->result.found, NODE_FOUND_ALL);
    assert_int_equal(one->result.lock_token, 7);
    umount2(mount_point, 0);
    scene_ok(one, image->stop, &one->disk);
    scene_node_free(one);
    scene_node_free(two);
}

// Holders

static void keep_open(int ready, const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        scene_child_ready(ready);
        pause();
        close(fd);
    }
}

static void a_held_device_is_not_released(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *node = scene_node("node1", path, 5);
    scene_ok(node, image->start, &node->disk);
    char device[64];
    device_of(node, device, sizeof(device));
    fleet_text_t mount_point;
    scene_path("srv", mount_point);
    mkdir(mount_point, 0755);
    assert_int_equal(mount(device, mount_point, "ext4", 0, ""), 0);
    assert_int_equal(scene_call(node, image->stop, &node->disk), FLEET_HELD);
    scene_text_has(node->result.text, mount_point);
    scene_ok(node, image->probe, &node->disk);
    assert_int_equal(node->result.found, NODE_FOUND_ALL); // as it was
    assert_int_equal(umount2(mount_point, 0), 0);

    scene_child_t reader = scene_child(keep_open, device);
    assert_int_equal(scene_call(node, image->stop, &node->disk), FLEET_HELD);
    char pid[32];
    snprintf(pid, sizeof(pid), "pid %d", reader.pid);
    scene_text_has(node->result.text, pid);
    scene_ok(node, image->probe, &node->disk);
    assert_string_equal(node->result.lock_owner, "node1");
    scene_child_kill(&reader);
    scene_ok(node, image->stop, &node->disk);
    assert_int_equal(devices(path).n, 0);
    scene_node_free(node);
}

static void somebody_elses_writer_is_never_joined(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *node = scene_node("node1", path, 5);
    scene_shell("losetup -f -o 1048576 %s", path);
    assert_int_equal(scene_call(node, image->start, &node->disk), FLEET_HELD);
    scene_text_has(node->result.text, "not fleet's");
    scene_call(node, image->look, &node->disk);
    assert_string_equal(node->result.lock_owner, "");
    scene_clear_loops();
    scene_shell("losetup -r -f -o 1048576 %s", path); // a reader may stay
    scene_ok(node, image->start, &node->disk);
    scene_ok(node, image->stop, &node->disk);
    assert_int_equal(devices(path).n, 1);
    scene_clear_loops();
    scene_node_free(node);
}

static void other_files_devices_are_never_touched(void **state) {
    (void)state;
    fleet_text_t path;
    fleet_text_t other;
    scene_image("a.img", path);
    scene_image("b.img", other);
    scene_node_t *one = scene_node("node1", path, 5);
    scene_node_t *two = scene_node("node2", other, 5);
    scene_ok(one, image->start, &one->disk);
    scene_ok(two, image->start, &two->disk);
    two->disk.token = 6;
    FLEET_COPY(two->disk.victim, "node2");
    scene_ok(two, image->evict, &two->disk);
    scene_ok(two, image->stop, &two->disk);
    loopdev_list_t list = devices(path);
    assert_int_equal(list.n, 1);
    assert_true(loopdev_can_write(&list.items[0]));
    scene_ok(one, image->stop, &one->disk);
    scene_node_free(one);
    scene_node_free(two);
}

// Files that are not right

static void bad_files_are_refused(void **state) {
    (void)state;
    fleet_text_t path;
    scene_path("none.img", path);
    scene_node_t *node = scene_node("node1", path, 5);
    assert_int_equal(scene_call(node, image->start, &node->disk),
                     FLEET_START_FAILED);
    scene_call(node, image->look, &node->disk);
    assert_false(node->result.visible);
    assert_int_equal(node->result.problems_n, 1);
    assert_string_equal(node->result.problems[0].code, "no-port");
    assert_int_equal(scene_call(node, image->prepare, &node->disk),
                     FLEET_NOT_READY);
    scene_shell(
        "truncate -s 4M %s; printf x | dd of=%s bs=1 seek=1080 "
        "conv=notrunc status=none",
        path, path);
    assert_int_equal(scene_call(node, image->start, &node->disk),
                     FLEET_START_FAILED);
    scene_text_has(node->result.text, "not a fleet image");
    scene_call(node, image->look, &node->disk);
    assert_true(node->result.visible);
    assert_string_equal(node->result.problems[0].code, "not-ready");
    assert_int_equal(devices(path).n, 0);
    scene_node_free(node);
}

static void without_its_file_the_device_still_goes(void **state) {
    (void)state;
    fleet_text_t path;
    fleet_text_t hidden;
    scene_image("a.img", path);
    scene_path("hidden.img", hidden);
    scene_node_t *node = scene_node("node1", path, 5);
    scene_ok(node, image->start, &node->disk);
    assert_int_equal(rename(path, hidden), 0);
    scene_ok(node, image->probe, &node->disk);
    assert_int_equal(node->result.found, NODE_FOUND_PART);
    assert_int_equal(scene_call(node, image->stop, &node->disk),
                     FLEET_STOP_FAILED);
    scene_text_has(node->result.text, "its lock stays");
    assert_int_equal(devices(hidden).n, 0);
    assert_int_equal(rename(hidden, path), 0);
    scene_ok(node, image->stop, &node->disk);
    assert_int_equal(node->result.lock_token, 6);
    scene_node_free(node);
}

// An import that is overtaken by an evict between lock and device must not
// leave a device behind that can write: many times, both at once.
static void evict_and_import_at_once(void **state) {
    (void)state;
    fleet_text_t path;
    scene_image("a.img", path);
    scene_node_t *one = scene_node("node1", path, 0);
    scene_node_t *two = scene_node("node2", path, 0);
    FLEET_COPY(two->disk.victim, "node1");
    unsigned won = 0;
    for (uint64_t round = 1; round <= 10; round++) {
        one->disk.token = 10 * round;
        two->disk.token = 10 * round + 5;
        pid_t pid = fork();
        if (pid == 0) {
            agent_result_t result = {0};
            image->start(&one->disk, &result);
            _exit(result.err == FLEET_OK ? 0 : 1);
        }
        patience_t patience = patience_of_ms(round % 5);
        while (patience_nap(&patience)) {
        }
        scene_ok(two, image->evict, &two->disk);
        assert_true(two->result.stamped && two->result.blocked);
        int status = 0;
        waitpid(pid, &status, 0);
        won += WEXITSTATUS(status) == 0;
        loopdev_list_t list = devices(path);
        for (uint32_t i = 0; i < list.n; i++) {
            assert_false(loopdev_can_write(&list.items[i]));
        }
        scene_ok(one, image->stop, &one->disk);
        assert_int_equal(devices(path).n, 0);
    }
    print_message("import was quicker %u times of 10\n", won);
    scene_node_free(one);
    scene_node_free(two);
}

static int all_tests(void) {
    int memory = memfd_create("shared", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, sizeof(*shared)) != 0) {
        return 1;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED,
                  memory, 0);
    close(memory);
    const struct CMUnitTest tests[] = {
        SCENE_TEST(import_and_release),
        SCENE_TEST(a_held_lock_refuses_others),
        SCENE_TEST(an_evicted_writer_gets_errors),
        SCENE_TEST(a_late_evict_touches_no_later_owner),
        SCENE_TEST(another_kernel_cannot_be_blocked),
        SCENE_TEST(in_place_keeps_the_device),
        SCENE_TEST(a_stale_device_is_torn_down),
        SCENE_TEST(a_held_device_is_not_released),
        SCENE_TEST(somebody_elses_writer_is_never_joined),
        SCENE_TEST(other_files_devices_are_never_touched),
        SCENE_TEST(bad_files_are_refused),
        SCENE_TEST(without_its_file_the_device_still_goes),
        SCENE_TEST(evict_and_import_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
    return scene_run(all_tests);
}
