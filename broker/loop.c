// SPDX-License-Identifier: MIT
//
// The loop: waits for whatever is first, takes what waits (at most so much that
// nobody starves), lets the core decide, commits, lets out.  One thread.

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <zmq.h>

#include "broker/shell.h"
#include "proto/text.h"

#define MESSAGES_MAX 256 // of one round; libzmq takes from each peer in turn
#define KEYS_MAX 64
#define STRANGERS_MAX 1024 // libzmq waits for them to be taken
#define TICKS_MAX 64
#define OUTBOX_MAX (16 * 1024 * 1024)
#define SNAPSHOT_EVERY 10000
#define STATUS_MS 60000
#define IO_THREADS 1

enum {
    POLL_ZAP,
    POLL_CONTROL,
    POLL_EVENTS,
    POLL_AT_CONTROL,
    POLL_AT_EVENTS,
    POLL_SIGNALS,
    POLL_FENCES
};

typedef struct loop {
    shell_t *shell;
    int signals;
    bool stop;
    uint64_t watchdog_ms; // how often systemd is to hear of us; 0: never
    uint64_t told_ms;     // when it last did
    uint64_t flushed_ms;  // when counted lines of the log were last said
} loop_t;

// ------------------------------------------------------------------- callbacks

static bool on_key(void *context, const fleet_key_t key) {
    shell_t *shell = context;
    fleet_name_t name;
    return broker_core_key(shell->core, key, name) != fleet_role_NONE;
}

static void on_refusal(void *context, const char *address, const char *why,
                       const fleet_key_t key) {
    shell_t *shell = context;
    char digits[9];
    fleet_text_t text;
    fleet_key_short(key, digits);
    FLEET_FORMAT(text, "key %s... was refused", digits);
    if (strncmp(address, "::ffff:", 7) == 0) {
        address += 7; // an IPv4 peer of an IPv6 socket
    }
    broker_log_limited(&shell->limits, shell->now_ms, address, why, text);
}

static void on_stranger(void *context, const char *address,
                        const char *endpoint, const char *why) {
    shell_t *shell = context;
    fleet_text_t text;
    FLEET_FORMAT(text, "gave up in the handshake at %s", endpoint);
    broker_log_limited(&shell->limits, shell->now_ms, address, why, text);
}

// --------------------------------------------------------------------- signals

static void reload(shell_t *shell) {
    fleet_complaints_t complaints = {0};
    fleet_text_t waits = "";
    broker_settings_t *settings = calloc(1, sizeof *settings);
    if (settings == NULL) {
        abort();
    }
    if (broker_config_read(shell->config_path, settings, &complaints) !=
        FLEET_OK) {
        for (uint32_t i = 0; i < complaints.n; i++) {
            char line[1024];
            fleet_complaint_print(&complaints.items[i], shell->config_path,
                                  line, sizeof line);
            broker_log_error("%s", line);
        }
        broker_log_error("%s was not taken: the old one stays in force",
                         shell->config_path);
        free(settings);
        return;
    }
    broker_config_difference(&shell->settings, settings, waits);
    shell->settings.fences_n = settings->fences_n;
    memcpy(shell->settings.fences, settings->fences, sizeof settings->fences);
    shell_tell_fences(shell);
    broker_log_info(
        "%s was read again%s%s", shell->config_path,
        waits[0] != '\0' ? "; takes effect at the next start: " : "", waits);
    free(settings);
}

static void take_signals(loop_t *loop) {
    struct signalfd_siginfo info;
    while (read(loop->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            sd_notify(0, "RELOADING=1");
            reload(loop->shell);
            sd_notify(0, "READY=1");
        } else {
            loop->stop = true;
        }
    }
}

static int make_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    // Before libzmq makes its threads: they inherit it.
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

// ----------------------------------------------------------------------- round

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// What is left of the core's deadline, counted from its last step.
static uint64_t core_left_ms(const shell_t *shell) {
    uint64_t deadline_ms = broker_core_deadline(shell->core);
    uint64_t gone_ms = (uint64_t)(shell->now_us - shell->stepped_us) / 1000;
    if (deadline_ms == UINT64_MAX) {
        return UINT64_MAX;
    }
    return deadline_ms > gone_ms ? deadline_ms - gone_ms : 0;
}

static void wait_for(loop_t *loop) {
    shell_t *shell = loop->shell;
    struct pollfd fences[FENCE_POLLS_MAX];
    zmq_pollitem_t items[POLL_FENCES + FENCE_POLLS_MAX] = {
        [POLL_ZAP] = {.socket = zap_socket(shell->zap), .events = ZMQ_POLLIN},
        [POLL_CONTROL] = {.socket = shell->control, .events = ZMQ_POLLIN},
        [POLL_EVENTS] = {.socket = shell->events, .events = ZMQ_POLLIN},
        [POLL_AT_CONTROL] = {.socket = strangers_socket(shell->at_control),
                             .events = ZMQ_POLLIN},
        [POLL_AT_EVENTS] = {.socket = strangers_socket(shell->at_events),
                            .events = ZMQ_POLLIN},
        [POLL_SIGNALS] = {.fd = loop->signals, .events = ZMQ_POLLIN},
    };
    uint32_t fences_n = fence_polls(shell->fence, fences);
    for (uint32_t i = 0; i < fences_n; i++) {
        items[POLL_FENCES + i].fd = fences[i].fd;
        items[POLL_FENCES + i].events = ZMQ_POLLIN;
    }
    shell_clock(shell);
    uint64_t wait_ms = least(core_left_ms(shell), STATUS_MS);
    wait_ms = least(wait_ms, fence_deadline(shell->fence, shell->now_ms));
    if (loop->watchdog_ms > 0) {
        wait_ms = least(wait_ms, loop->watchdog_ms);
    }
    zmq_poll(items, (int)(POLL_FENCES + fences_n), (long)wait_ms);
    shell_clock(shell);
}

static void take_fences(shell_t *shell) {
    broker_input_t input = {.kind = BROKER_IN_FENCED};
    while (fence_ended(shell->fence, shell->now_ms, input.name, &input.ok,
                       input.text)) {
        shell_step(shell, &input);
    }
}

static void take_inputs(loop_t *loop) {
    shell_t *shell = loop->shell;
    take_signals(loop);
    zap_serve(shell->zap, KEYS_MAX);
    strangers_take(shell->at_control, STRANGERS_MAX);
    strangers_take(shell->at_events, STRANGERS_MAX);
    take_fences(shell);
    for (int i = 0; i < MESSAGES_MAX && shell_take_subscriber(shell); i++) {
    }
    for (int i = 0;
         i < MESSAGES_MAX && outbox_size(shell->outbox) < OUTBOX_MAX &&
         shell_take(shell);
         i++) {
    }
    if (shell->fences_untold) {
        shell_tell_fences(shell);
    }
    for (int i = 0; i < TICKS_MAX && core_left_ms(shell) == 0; i++) {
        broker_input_t tick = {.kind = BROKER_IN_TICK};
        shell_step(shell, &tick);
    }
}

static void tell_systemd(loop_t *loop) {
    shell_t *shell = loop->shell;
    if (shell->now_ms - loop->flushed_ms >= LOG_LIMIT_MS / 4) {
        broker_log_flush(&shell->limits, shell->now_ms);
        loop->flushed_ms = shell->now_ms;
    }
    uint64_t every_ms = loop->watchdog_ms > 0 ? loop->watchdog_ms : STATUS_MS;
    if (shell->now_ms - loop->told_ms >= every_ms / 2) {
        sd_notifyf(0, "WATCHDOG=1\nSTATUS=reign %" PRIu64 ", entry %" PRIu64,
                   broker_core_term(shell->core), broker_core_seq(shell->core));
        loop->told_ms = shell->now_ms;
    }
}

static void keep_snapshot(shell_t *shell) {
    fleet_text_t why = "";
    if (broker_core_seq(shell->core) - shell->snapshot_seq < SNAPSHOT_EVERY) {
        return;
    }
    // Nothing rests on it: the journal itself is durable.
    if (shell_snapshot(shell, why) != FLEET_OK) {
        broker_log_warning("%s", why);
        shell->snapshot_seq = broker_core_seq(shell->core);
    }
}

static fleet_err_t run_rounds(loop_t *loop, fleet_text_t ret_why) {
    shell_t *shell = loop->shell;
    fleet_err_t err = FLEET_OK;
    while (!loop->stop && err == FLEET_OK) {
        wait_for(loop);
        take_inputs(loop);
        err = shell_commit(shell, ret_why);
        keep_snapshot(shell);
        tell_systemd(loop);
    }
    return err;
}

// ----------------------------------------------------------------- start and
// end

static fleet_err_t begin_reign(shell_t *shell, fleet_text_t ret_why) {
    shell_clock(shell);
    shell->stepped_us = shell->now_us;
    fleet_err_t err = shell_replay(shell, ret_why);
    if (err != FLEET_OK) {
        return err;
    }
    if (broker_core_seq(shell->core) == 0) {
        fleet_text_format(ret_why, sizeof(fleet_text_t),
                          "%.120s holds no site yet: make one with "
                          "fleet-broker --config %.60s --make-site YOUR-NAME "
                          "--admin-key FILE",
                          shell->settings.store, shell->config_path);
        return FLEET_STORE_FAILED;
    }
    broker_input_t start = {.kind = BROKER_IN_START};
    shell_step(shell, &start);
    shell_tell_fences(shell);
    return shell_commit(shell, ret_why);
}

static fleet_err_t open_doors(shell_t *shell, fleet_text_t ret_why) {
    shell->context = zmq_ctx_new();
    if (shell->context == NULL) {
        fleet_text_copy(ret_why, sizeof(fleet_text_t), zmq_strerror(errno));
        return FLEET_STORE_FAILED;
    }
    zmq_ctx_set(shell->context, ZMQ_IO_THREADS, IO_THREADS);
    shell->zap = zap_new(shell->context, on_key, on_refusal, shell, ret_why);
    if (shell->zap == NULL) {
        return FLEET_STORE_FAILED;
    }
    shell->events = fleet_bus_xpub(shell->context, shell->settings.events,
                                   &shell->pair, ret_why);
    shell->control =
        shell->events == NULL
            ? NULL
            : fleet_bus_router(shell->context, shell->settings.control,
                               &shell->pair, ret_why);
    if (shell->control == NULL) {
        return FLEET_STORE_FAILED;
    }
    shell->at_control = strangers_new(shell->context, shell->control, "control",
                                      on_stranger, shell, ret_why);
    shell->at_events = strangers_new(shell->context, shell->events, "events",
                                     on_stranger, shell, ret_why);
    return shell->at_control != NULL && shell->at_events != NULL
               ? FLEET_OK
               : FLEET_STORE_FAILED;
}

static void close_doors(shell_t *shell) {
    strangers_destroy(&shell->at_control);
    strangers_destroy(&shell->at_events);
    if (shell->control != NULL) {
        zmq_close(shell->control);
    }
    if (shell->events != NULL) {
        zmq_close(shell->events);
    }
    zap_destroy(&shell->zap);
    if (shell->context != NULL) {
        zmq_ctx_term(shell->context);
    }
    shell->control = shell->events = shell->context = NULL;
}

static void end_reign(shell_t *shell, bool clean) {
    fleet_text_t why = "";
    if (clean && shell->store != NULL &&
        broker_core_seq(shell->core) > shell->snapshot_seq &&
        shell_snapshot(shell, why) != FLEET_OK) {
        broker_log_warning("%s", why);
    }
    if (store_close(&shell->store, clean, why) != FLEET_OK) {
        broker_log_warning("%s", why);
    }
}

int broker_loop_run(shell_t *shell) {
    fleet_text_t why = "";
    loop_t loop = {.shell = shell, .signals = make_signals()};
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0) {
        loop.watchdog_ms = watchdog_us / 2000;
    }
    fleet_err_t err = begin_reign(shell, why);
    if (err == FLEET_OK) {
        err = open_doors(shell, why);
    }
    if (err == FLEET_OK) {
        broker_log_info("site %s: reign %" PRIu64 " begins at entry %" PRIu64
                        ", control %s, events %s",
                        shell->settings.site, broker_core_term(shell->core),
                        broker_core_seq(shell->core), shell->settings.control,
                        shell->settings.events);
        sd_notifyf(0, "READY=1\nSTATUS=reign %" PRIu64,
                   broker_core_term(shell->core));
        err = run_rounds(&loop, why);
    }
    if (err != FLEET_OK) {
        broker_log_error("%s", why);
        sd_notifyf(0, "STATUS=%s", why);
    }
    sd_notify(0, "STOPPING=1");
    if (err == FLEET_OK) {
        broker_log_info("reign %" PRIu64 " ends at entry %" PRIu64,
                        broker_core_term(shell->core),
                        broker_core_seq(shell->core));
    }
    close_doors(shell);
    end_reign(shell, err == FLEET_OK);
    close(loop.signals);
    return err == FLEET_OK ? 0 : 1;
}
