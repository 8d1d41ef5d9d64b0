// SPDX-License-Identifier: MIT
//
// fleet-node: the options, the order of the start, and nothing else.

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/agents/act.h"
#include "node/check.h"
#include "node/log.h"
#include "node/loop.h"
#include "proto/text.h"

// How long the acts of an agent that was killed may take to end.
#define ACTS_WAIT_MS 5000

typedef enum mode { MODE_RUN, MODE_CHECK, MODE_LEAVE, MODE_PRINT_KEY } what_t;

static const char help[] =
    "fleet-node [--config FILE]               runs the sets of this machine\n"
    "fleet-node [--config FILE] --check       reads the file, says what was "
    "found\n"
    "fleet-node [--config FILE] --leave       has the running agent stop "
    "everything\n"
    "                                         in order, as before a shutdown\n"
    "fleet-node [--config FILE] --print-key   prints the public key, for\n"
    "                                         fleet keys admit\n"
    "\n"
    "The file is " CONFIG_PATH " unless said otherwise.\n";

static bool read_config(const char *path, config_t *ret_config) {
    static fleet_complaints_t complaints;
    if (config_read(path, ret_config, &complaints) == FLEET_OK) {
        return true;
    }
    fleet_complaints_print(&complaints, path, stderr);
    return false;
}

static bool read_key(const config_t *config, fleet_key_pair_t *ret_pair) {
    fleet_text_t why = "";
    if (fleet_key_file_read(config->key, ret_pair, why) == FLEET_OK) {
        return true;
    }
    log_error("%s", why);
    return false;
}

// One agent per run folder.  A record lock is this process's alone: its
// children do not inherit it, and it goes with it however it ends.
static bool lock_agent(const config_t *config) {
    fleet_text_t path;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (mkdir(config->run, 0755) < 0 && errno != EEXIST) {
        log_error("%s: %s", config->run, strerror(errno));
        return false;
    }
    FLEET_FORMAT(path, "%s/agent.lock", config->run);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0) {
        // cppcheck-suppress resourceLeak ; open as long as the process
        return true;
    }
    if (fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) {
        log_error("fleet-node runs here already: pid %d has %s", lock.l_pid,
                  path);
    } else {
        log_error("%s: %s", path, strerror(errno));
    }
    return false;
}

// What ps shows of a process is where its arguments are, and nowhere else.
static void show_title(char *area, size_t size, const char *title) {
    size_t length = strlen(title);
    memset(area, 0, size);
    memcpy(area, title, length < size ? length : size - 1);
}

// The helper is forked with a title of its own in place of the arguments.
static runner_t *make_runner(const config_t *config, int argc, char **argv) {
    fleet_text_t acts;
    fleet_text_t why = "";
    char kept[4096];
    size_t size =
        (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]);
    size = size < sizeof(kept) ? size : sizeof(kept);
    FLEET_FORMAT(acts, "%s/acts.lock", config->run);
    memcpy(kept, argv[0], size);
    show_title(argv[0], size, "fleet-node: runner");
    runner_t *runner = runner_new(act_call, acts, ACTS_WAIT_MS, why);
    memcpy(argv[0], kept, size);
    if (why[0] != '\0') {
        log_error("%s", why);
    }
    return runner;
}

static int run(int argc, char **argv, const char *path,
               const config_t *config) {
    loop_config_t loop_config = {.config = *config, .config_path = path};
    if (geteuid() != 0) {
        log_error(
            "fleet-node must run as root: it mounts, raises interfaces "
            "and starts services");
        return 77;
    }
    if (!read_key(config, &loop_config.pair)) {
        return 78;
    }
    if (!lock_agent(config)) {
        return 1;
    }
    sigset_t handled;
    sigemptyset(&handled);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGHUP);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    signal(SIGPIPE, SIG_IGN);
    runner_t *runner = make_runner(config, argc, argv);
    if (!runner) {
        return 1;
    }
    loop_config.runner = runner;
    loop_t *loop = loop_new(&loop_config);
    int status = loop ? loop_run(loop) : 1;
    loop_destroy(&loop);
    runner_destroy(&runner);
    fleet_key_pair_wipe(&loop_config.pair);
    return status;
}

static int print_key(const config_t *config) {
    fleet_key_pair_t pair;
    char digits[65];
    if (!read_key(config, &pair)) {
        return 78;
    }
    fleet_key_print(pair.public_key, digits);
    fleet_key_pair_wipe(&pair);
    printf("%s\n", digits);
    return 0;
}

static bool read_options(int argc, char **argv, const char **ret_path,
                         what_t *ret_mode) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"leave", no_argument, NULL, 'l'},
        {"print-key", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            *ret_path = optarg;
            break;
        case 'k':
            *ret_mode = MODE_CHECK;
            break;
        case 'l':
            *ret_mode = MODE_LEAVE;
            break;
        case 'p':
            *ret_mode = MODE_PRINT_KEY;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            return false;
        }
    }
    return optind == argc;
}

int main(int argc, char **argv) {
    const char *path = CONFIG_PATH;
    what_t mode = MODE_RUN;
    if (!read_options(argc, argv, &path, &mode)) {
        fputs(help, stderr);
        return 64;
    }
    static config_t config;
    umask(022); // anyone may ask the local socket
    fleet_keys_init();
    if (!read_config(path, &config)) {
        return 64;
    }
    switch (mode) {
    case MODE_RUN:
        return run(argc, argv, path, &config);
    case MODE_CHECK:
        return check_print(&config);
    case MODE_LEAVE:
        return check_leave(&config);
    case MODE_PRINT_KEY:
        return print_key(&config);
    }
    return 70;
}
