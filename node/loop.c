// SPDX-License-Identifier: MIT
//
// One turn: wait until something is there or something is due, take all of it,
// let the core decide.  Nothing in here waits for anything else; the only calls
// that take time are those that make a record durable.

#include "node/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "node/agents/act.h"
#include "node/log.h"
#include "node/loop_state.h"
#include "proto/text.h"

// So much of one source, then the others have their turn.
#define BATCH 256

// Without a broker the node is ready all the same: what it has it keeps.
#define READY_MS 5000

// How long a broker may say nothing before the next is tried, until a lease is
// known.
#define PATIENCE_MS 10000

#define FLUSH_MS 1000

static uint64_t now_ms(void) {
    return ticker_now().boot_us / 1000;
}

static node_input_t *new_input(loop_t *loop, node_input_kind_t kind) {
    memset(&loop->input, 0, sizeof(loop->input));
    loop->input.kind = kind;
    return &loop->input;
}

static bool open_signals(loop_t *loop) {
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGHUP);
    loop->signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    loop->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->signals < 0 || loop->timer < 0) {
        log_error("node: no descriptor for signals and time: %s",
                  strerror(errno));
        return false;
    }
    return true;
}

static void uplink_config_of(const loop_t *loop, const config_t *config,
                             uplink_config_t *ret_config) {
    *ret_config = (uplink_config_t){.brokers_n = config->brokers_n,
                                    .pair = loop->config.pair};
    memcpy(ret_config->brokers, config->brokers, sizeof(config->brokers));
}

static bool open_ends(loop_t *loop) {
    const config_t *config = &loop->config.config;
    fleet_text_t path;
    fleet_text_t why = "";
    FLEET_FORMAT(path, "%s/node.sock", config->run);
    uplink_config_t uplink;
    uplink_config_of(loop, config, &uplink);
    loop->local = local_new(path, why);
    loop->uplink = loop->local ? uplink_new(&uplink, why) : NULL;
    fleet_key_pair_wipe(&uplink.pair);
    if (!loop->local || !loop->uplink) {
        log_error("node: %s -> does not start", why);
        return false;
    }
    loop->carrier = carrier_new();
    if (!loop->carrier) {
        log_error("node: the state of cables cannot be watched: %s",
                  strerror(errno));
        return false;
    }
    return true;
}

loop_t *loop_new(const loop_config_t *config) {
    loop_t *loop = calloc(1, sizeof(*loop));
    if (!loop) {
        abort();
    }
    loop->config = *config;
    loop->runner = config->runner;
    loop->jobs = jobs_new();
    loop->signals = -1;
    loop->timer = -1;
    if (!open_ends(loop) || !open_signals(loop) || !loop_load(loop)) {
        loop_destroy(&loop);
    }
    return loop;
}

void loop_destroy(loop_t **loop_p) {
    loop_t *loop = *loop_p;
    if (!loop) {
        return;
    }
    asks_destroy(&loop->asks);
    carrier_destroy(&loop->carrier);
    uplink_destroy(&loop->uplink);
    local_destroy(&loop->local);
    jobs_destroy(&loop->jobs);
    defs_destroy(&loop->defs);
    record_store_destroy(&loop->records);
    free(loop->core);
    free(loop->effects);
    if (loop->signals >= 0) {
        close(loop->signals);
    }
    if (loop->timer >= 0) {
        close(loop->timer);
    }
    fleet_key_pair_wipe(&loop->config.pair);
    free(loop);
    *loop_p = NULL;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t left_ms(uint64_t since_ms, uint64_t period_ms, uint64_t now) {
    uint64_t passed_ms = now - since_ms;
    return passed_ms < period_ms ? period_ms - passed_ms : 0;
}

static uint64_t patience_ms(const loop_t *loop) {
    return loop->lease_ms > 0 ? loop->lease_ms : PATIENCE_MS;
}

// How long nothing is due.
static uint64_t next_ms(loop_t *loop) {
    uint64_t now = now_ms();
    uint64_t next = node_core_deadline(loop->core);
    next = least(next, asks_repeat(loop->asks, now));
    next = least(next, patience_ms(loop));
    if (!loop->ready) {
        next = least(next, left_ms(loop->started_ms, READY_MS, now));
    }
    if (loop->watchdog_ms > 0) {
        next = least(next, left_ms(loop->fed_ms, loop->watchdog_ms, now));
    }
    return next;
}

static void arm_timer(const loop_t *loop, uint64_t wait_ms) {
    // Zero would disarm it.
    uint64_t ns = wait_ms > 0 ? wait_ms * 1000000 : 1;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(ns / 1000000000),
                                           .tv_nsec = (long)(ns % 1000000000)}};
    (void)timerfd_settime(loop->timer, 0, &when, NULL);
}

static void wait_turn(loop_t *loop) {
    ticker_clocks_t now = ticker_now();
    uint64_t wait_ms = next_ms(loop);
    arm_timer(loop, wait_ms);
    ticker_wait(&loop->ticker, &now, wait_ms);
    struct pollfd *fds = loop->ready_fds;
    fds[0] = (struct pollfd){.fd = loop->timer, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = loop->signals, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = runner_fd(loop->runner),
                             .events = runner_events(loop->runner)};
    fds[3] =
        (struct pollfd){.fd = uplink_bus_fd(loop->uplink), .events = POLLIN};
    fds[4] = (struct pollfd){.fd = uplink_monitor_fd(loop->uplink),
                             .events = POLLIN};
    fds[5] = (struct pollfd){.fd = carrier_fd(loop->carrier), .events = POLLIN};
    size_t n = 6 + local_poll(loop->local, fds + 6);
    (void)poll(fds, n, -1);
    uint64_t fired;
    (void)!read(loop->timer, &fired, sizeof(fired));
}

// P20, before anything that came meanwhile is believed.
static void take_hole(loop_t *loop) {
    ticker_clocks_t now = ticker_now();
    uint64_t hole_ms = ticker_hole_ms(&loop->ticker, &now);
    if (loop->lease_ms > 0 && hole_ms > loop->lease_ms) {
        node_input_t *input = new_input(loop, NODE_IN_CLOCK);
        input->elapsed_ms = hole_ms;
        loop_step(loop, input);
    }
}

static void reload(loop_t *loop) {
    static config_t config;
    const config_t *old = &loop->config.config;
    const char *path = loop->config.config_path;
    if (config_read(path, &config, &loop->complaints) != FLEET_OK) {
        for (uint32_t i = 0; i < loop->complaints.n; i++) {
            char line[1024];
            fleet_complaint_print(&loop->complaints.items[i], path, line,
                                  sizeof(line));
            log_error("%s", line);
        }
        log_error("%s: is refused -> the node goes on with the old one", path);
        return;
    }
    fleet_text_t why = "";
    uplink_config_t uplink;
    uplink_config_of(loop, &config, &uplink);
    if (!uplink_configure(loop->uplink, &uplink, why)) {
        log_error("%s: %s", path, why);
    }
    fleet_key_pair_wipe(&uplink.pair);
    memcpy(loop->config.config.brokers, config.brokers, sizeof(config.brokers));
    loop->config.config.brokers_n = config.brokers_n;
    bool other = !config_same(old, &config);
    log_info("%s: read again -> the list of brokers is taken%s", path,
             other ? "; what else is different holds from the next start on"
                   : "");
}

static void take_signals(loop_t *loop) {
    struct signalfd_siginfo info;
    while (read(loop->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload(loop);
        } else {
            log_info("node: signal %u -> ends; what runs here runs on",
                     info.ssi_signo);
            loop->over = true;
        }
    }
}

static void take_runner(loop_t *loop) {
    for (;;) {
        switch (runner_recv(loop->runner, &loop->event)) {
        case RUNNER_NONE:
            return;
        case RUNNER_SAID:
            loop_job_said(loop, &loop->event);
            break;
        case RUNNER_DONE:
            loop_job_done(loop, &loop->event);
            break;
        case RUNNER_LOST:
            loop_fail(loop, "the helper that runs the agents is gone",
                      "what they did is not known");
            return;
        }
    }
}

static void take_bus(loop_t *loop) {
    fleet_text_t text;
    for (;;) {
        switch (uplink_recv(loop->uplink, &loop->parcel, &text)) {
        case UPLINK_NONE:
            return;
        case UPLINK_CONNECTED:
            log_info("broker: %s -> connected", text);
            loop_step(loop, new_input(loop, NODE_IN_CONNECTED));
            break;
        case UPLINK_LOST:
            log_info("broker: %s -> the connection is lost; tried again", text);
            break;
        case UPLINK_REFUSED:
            log_warning("broker: %s", text);
            break;
        case UPLINK_PARCEL:
            loop_parcel(loop, &loop->parcel);
            fleet_parcel_clear(&loop->parcel);
            break;
        case UPLINK_BAD:
            log_warning("broker: what it said cannot be read: %s -> dropped",
                        text);
            break;
        }
    }
}

static void take_carrier(loop_t *loop) {
    carrier_event_t event;
    for (int n = 0; n < BATCH && carrier_next(loop->carrier, &event); n++) {
        node_input_t *input = new_input(loop, NODE_IN_CARRIER);
        FLEET_COPY(input->set, event.set);
        input->ok = event.up;
        loop_step(loop, input);
    }
}

static void take_local(loop_t *loop) {
    for (int n = 0; n < BATCH; n++) {
        if (local_recv(loop->local, &loop->ask) == LOCAL_NONE) {
            return;
        }
        fleet_text_t reason = "";
        if (asks_take(loop->asks, &loop->ask, &reason)) {
            log_info("node: root asks for the leave: %s -> stops everything",
                     reason);
            node_input_t *input = new_input(loop, NODE_IN_LEAVE);
            FLEET_COPY(input->text, reason);
            loop_step(loop, input);
        }
    }
}

static void take_time(loop_t *loop) {
    fleet_text_t text;
    if (uplink_turn(loop->uplink, now_ms(), patience_ms(loop), text)) {
        log_info("broker: no answer -> tries %s", text);
    }
    // Until nothing is due: a list of effects that was full is emptied at once.
    for (int n = 0; n < BATCH && !loop->over && !loop->left; n++) {
        ticker_clocks_t now = ticker_now();
        uint64_t passed_ms = ticker_passed_ms(&loop->ticker, &now);
        if (node_core_deadline(loop->core) > passed_ms) {
            return;
        }
        loop_step(loop, new_input(loop, NODE_IN_TICK));
    }
}

static void tell_manager(loop_t *loop) {
    static fleet_local_head_t head;
    static fleet_local_row_t row;
    uint64_t now = now_ms();
    if (loop->watchdog_ms > 0 &&
        left_ms(loop->fed_ms, loop->watchdog_ms, now) == 0) {
        sd_notify(0, "WATCHDOG=1");
        loop->fed_ms = now;
    }
    node_core_head(loop->core, &head);
    bool first =
        !loop->ready &&
        (head.connected || left_ms(loop->started_ms, READY_MS, now) == 0);
    if (!first && (!loop->ready || !loop->status_changed)) {
        return;
    }
    fleet_text_t held = "";
    unsigned n = 0;
    for (uint32_t i = 0; i < NODE_SETS_MAX; i++) {
        if (node_core_row(loop->core, i, &row) && row.owns) {
            fleet_text_t before;
            memcpy(before, held, sizeof(before));
            FLEET_FORMAT(held, "%s %s", before, row.set);
            n += 1;
        }
    }
    sd_notifyf(0, "%sSTATUS=%u sets held%s%s; broker %s",
               first ? "READY=1\n" : "", n, n > 0 ? ":" : "", held,
               head.connected ? uplink_endpoint(loop->uplink) : "not reached");
    loop->ready = true;
    loop->status_changed = false;
}

static void end_leave(loop_t *loop) {
    asks_left(loop->asks);
    uint64_t begin = now_ms();
    while (!local_is_idle(loop->local) && now_ms() - begin < FLUSH_MS) {
        struct pollfd fds[LOCAL_CLIENTS_MAX + 1];
        size_t n = local_poll(loop->local, fds);
        (void)poll(fds, n, 10);
        while (local_recv(loop->local, &loop->ask) != LOCAL_NONE) {
        }
    }
    log_info("node: has left -> ends");
    loop->over = true;
}

int loop_run(loop_t *loop) {
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0) {
        loop->watchdog_ms = watchdog_us / 2000;
    }
    loop->started_ms = now_ms();
    loop->fed_ms = loop->started_ms;
    loop_step(loop, new_input(loop, NODE_IN_START));
    while (!loop->over) {
        take_runner(loop);
        take_bus(loop);
        take_carrier(loop);
        take_local(loop);
        take_time(loop);
        take_runner(loop); // what could not even be begun
        tell_manager(loop);
        if (loop->left && !loop->over) {
            end_leave(loop);
        }
        if (!loop->over) {
            wait_turn(loop);
            take_hole(loop);
            take_signals(loop);
        }
    }
    sd_notify(0, "STOPPING=1");
    return loop->status;
}
