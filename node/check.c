// SPDX-License-Identifier: MIT

#include "node/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "node/inventory.h"
#include "node/loop.h"
#include "proto/codec.h"
#include "proto/text.h"

static bool print_key(const config_t *config) {
    fleet_key_pair_t pair;
    fleet_text_t why = "";
    char digits[9];
    if (fleet_key_file_read(config->key, &pair, why) != FLEET_OK) {
        printf("key      %s\n", why);
        return false;
    }
    fleet_key_short(pair.public_key, digits);
    fleet_key_pair_wipe(&pair);
    printf("key      %s... (%s)\n", digits, config->key);
    return true;
}

static bool print_slots(const config_t *config) {
    static slots_t slots;
    fleet_text_t why = "";
    if (slots_find(&config->slots, &slots, why) != FLEET_OK) {
        printf("slots    %s\n", why);
        return false;
    }
    printf("slots    %u%s%s\n", slots.n, slots.parent[0] ? " on " : "",
           slots.parent);
    for (uint32_t i = 0; i < slots.interfaces_n; i++) {
        printf("         %s\n", slots.interfaces[i]);
    }
    for (uint32_t i = 0; i < slots.notes_n; i++) {
        printf("         %s\n", slots.notes[i]);
    }
    printf("private  %s\n",
           slots.private_interface[0] ? slots.private_interface : "none found");
    return true;
}

int check_print(const config_t *config) {
    static inventory_t inventory;
    fleet_text_t cgroup;
    fleet_text_t why = "";
    printf("node     %s of site %s\n", config->node, config->site);
    for (uint32_t i = 0; i < config->brokers_n; i++) {
        char digits[9];
        fleet_key_short(config->brokers[i].key, digits);
        printf("broker   %s, key %s...\n", config->brokers[i].control, digits);
    }
    bool ok = print_key(config);
    ok &= print_slots(config);
    loop_cgroup(config, cgroup);
    printf("services %s\n",
           cgroup[0] ? cgroup : "impossible: no control groups v2 are mounted");
    printf("systemd  %s\n",
           sd_booted() > 0 ? "runs: units can be used" : "does not run here");
    if (!inventory_read(&inventory, why)) {
        printf("boot     %s\n", why);
        ok = false;
    } else {
        printf("boot     %s\nkernel   %s, %s\n", inventory.boot_id,
               inventory.kernel, inventory.kernel_id);
    }
    printf("state    %s\nrun      %s\n", config->state, config->run);
    return ok ? 0 : 1;
}

static int connect_agent(const config_t *config) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = snprintf(address.sun_path, sizeof(address.sun_path),
                        "%s/node.sock", config->run);
    if (size < 0 || size >= (int)sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

static void print_step(const fleet_step_t *step) {
    char took[32];
    fleet_duration_print(step->us, took, sizeof(took));
    printf("%-16s %-12s %-8s %s", step->set, step->resource, step->step,
           step->running ? "..."
           : step->ok    ? took
                         : "FAILED");
    printf("%s%s\n", step->detail[0] ? "  " : "", step->detail);
    if (step->said[0] != '\0') {
        printf("%s\n", step->said);
    }
    fflush(stdout);
}

// -1: more comes.
static int take_answer(const fleet_message_t *message) {
    if (message->type == FLEET_MESSAGE_step) {
        if (!message->step.running || message->step.detail[0] != '\0') {
            print_step(&message->step);
        }
        return -1;
    }
    if (message->type == FLEET_MESSAGE_end) {
        printf("left: nothing of fleet runs here any more\n");
        return 0;
    }
    if (message->type == FLEET_MESSAGE_refused) {
        fprintf(stderr, "%s\n", message->refused.reasons[0].text);
        return 1;
    }
    return -1;
}

int check_leave(const config_t *config) {
    static uint8_t bytes[FLEET_FRAME_MAX];
    static fleet_message_t message;
    size_t size = 0;
    int fd = connect_agent(config);
    if (fd < 0) {
        fprintf(stderr, "no fleet-node answers at %s/node.sock: %s\n",
                config->run, strerror(errno));
        return 69;
    }
    message.type = FLEET_MESSAGE_local_ask;
    message.local_ask.verb = fleet_local_verb_LEAVE;
    FLEET_COPY(message.local_ask.reason, "fleet-node --leave");
    int status = 1;
    if (fleet_encode(&message, bytes, sizeof(bytes), &size) == FLEET_OK &&
        send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size) {
        status = -1;
    }
    while (status < 0) {
        ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            fprintf(stderr, "fleet-node went away before it had left\n");
            status = 1;
        } else if (fleet_decode(bytes, (size_t)got, &message, NULL) ==
                   FLEET_OK) {
            status = take_answer(&message);
        }
    }
    close(fd);
    return status;
}
