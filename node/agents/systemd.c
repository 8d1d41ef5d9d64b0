// SPDX-License-Identifier: MIT
//
// StartUnit and StopUnit return the path of a job at once; its end is told by
// the signal JobRemoved, which is therefore subscribed to first (systemd's
// org.freedesktop.systemd1(5)).

#include "node/agents/systemd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "proto/text.h"

#define SERVICE "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define UNIT "org.freedesktop.systemd1.Unit"

static bool booted(fleet_text_t ret_why) {
    if (sd_booted() > 0) {
        return true;
    }
    fleet_text_copy(ret_why, FLEET_TEXT_MAX + 1,
                    "systemd does not run on this machine: give start and stop "
                    "commands instead of a unit");
    return false;
}

static sd_bus *open_bus(fleet_text_t ret_why) {
    if (!booted(ret_why)) {
        return NULL;
    }
    sd_bus *bus = NULL;
    int err = sd_bus_open_system(&bus);
    if (err < 0) {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                          "no connection to systemd: %s", strerror(-err));
        return NULL;
    }
    return bus;
}

typedef struct job_wait {
    char *path; // of the job
    bool ended;
    char result[32];
} job_wait_t;

static int on_removed(sd_bus_message *message, void *context,
                      sd_bus_error *error) {
    (void)error;
    job_wait_t *wait = context;
    uint32_t id;
    const char *path;
    const char *unit;
    const char *result;
    int err = sd_bus_message_read(message, "uoss", &id, &path, &unit, &result);
    if (err >= 0 && wait->path && strcmp(path, wait->path) == 0) {
        wait->ended = true;
        FLEET_COPY(wait->result, result);
    }
    return 0;
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool wait_job(sd_bus *bus, job_wait_t *wait, uint64_t limit_us) {
    uint64_t begin = now_us();
    while (!wait->ended) {
        int handled = sd_bus_process(bus, NULL);
        if (handled < 0) {
            return false;
        }
        uint64_t passed = now_us() - begin;
        if (passed >= limit_us) {
            return false;
        }
        if (handled == 0 && sd_bus_wait(bus, limit_us - passed) < 0) {
            return false;
        }
    }
    return true;
}

static bool unit_path(sd_bus *bus, const char *unit, char **ret_path,
                      fleet_text_t ret_why) {
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    const char *path = NULL;
    int err = sd_bus_call_method(bus, SERVICE, MANAGER_PATH, MANAGER,
                                 "LoadUnit", &error, &reply, "s", unit);
    bool ok = err >= 0 && sd_bus_message_read(reply, "o", &path) >= 0;
    if (ok) {
        *ret_path = strdup(path);
    } else {
        fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "unit %s: %s", unit,
                          error.message ? error.message : strerror(-err));
    }
    sd_bus_message_unref(reply);
    sd_bus_error_free(&error);
    return ok && *ret_path;
}

static void unit_property(sd_bus *bus, const char *path, const char *interface,
                          const char *property, char *value, size_t size) {
    char *text = NULL;
    int err = sd_bus_get_property_string(bus, SERVICE, path, interface,
                                         property, NULL, &text);
    fleet_text_copy(value, size, err >= 0 ? text : "");
    free(text);
}

// What systemd itself knows of a failed unit, for the operator.
static void say_failed(sd_bus *bus, const char *unit, const char *verb,
                       const char *how, fleet_err_t err,
                       agent_result_t *result) {
    char *path = NULL;
    fleet_text_t why;
    char state[32] = "";
    char reason[32] = "";
    if (unit_path(bus, unit, &path, why)) {
        unit_property(bus, path, UNIT, "ActiveState", state, sizeof(state));
        unit_property(bus, path, SERVICE ".Service", "Result", reason,
                      sizeof(reason));
        free(path);
    }
    agent_fail(result, err, "systemd could not %s %s: %s; it is %s (%s)", verb,
               unit, how, state[0] ? state : "unknown",
               reason[0] ? reason : "no result");
}

static void run_job(const char *unit, const char *method, const char *verb,
                    uint64_t limit_ms, fleet_err_t err_code,
                    agent_result_t *result) {
    fleet_text_t why;
    sd_bus *bus = open_bus(why);
    if (!bus) {
        agent_fail(result, err_code, "%s", why);
        return;
    }
    job_wait_t wait = {.path = NULL};
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    const char *path = NULL;
    int err = sd_bus_match_signal(bus, NULL, SERVICE, MANAGER_PATH, MANAGER,
                                  "JobRemoved", on_removed, &wait);
    if (err >= 0) {
        err = sd_bus_call_method(bus, SERVICE, MANAGER_PATH, MANAGER,
                                 "Subscribe", &error, NULL, "");
    }
    if (err >= 0) {
        err = sd_bus_call_method(bus, SERVICE, MANAGER_PATH, MANAGER, method,
                                 &error, &reply, "ss", unit, "replace");
    }
    if (err >= 0) {
        err = sd_bus_message_read(reply, "o", &path);
    }
    if (err < 0) {
        agent_fail(result, err_code, "systemd would not %s %s: %s", verb, unit,
                   error.message ? error.message : strerror(-err));
        goto out;
    }
    wait.path = strdup(path);
    if (!wait.path || !wait_job(bus, &wait, limit_ms * 1000)) {
        say_failed(bus, unit, verb, "it did not end in time", err_code, result);
    } else if (strcmp(wait.result, "done") != 0) {
        say_failed(bus, unit, verb, wait.result, err_code, result);
    }
out:
    free(wait.path);
    sd_bus_message_unref(reply);
    sd_bus_error_free(&error);
    sd_bus_flush_close_unref(bus);
}

void systemd_start(const char *unit, uint64_t limit_ms,
                   agent_result_t *result) {
    run_job(unit, "StartUnit", "start", limit_ms, FLEET_START_FAILED, result);
}

void systemd_stop(const char *unit, uint64_t limit_ms, agent_result_t *result) {
    run_job(unit, "StopUnit", "stop", limit_ms, FLEET_STOP_FAILED, result);
}

void systemd_probe(const char *unit, agent_result_t *result) {
    fleet_text_t why;
    char *path = NULL;
    sd_bus *bus = open_bus(why);
    if (!bus || !unit_path(bus, unit, &path, why)) {
        sd_bus_flush_close_unref(bus);
        // Without systemd nothing of the unit can run.
        result->found = NODE_FOUND_NOTHING;
        FLEET_COPY(result->text, why);
        return;
    }
    char state[32];
    unit_property(bus, path, UNIT, "ActiveState", state, sizeof(state));
    if (strcmp(state, "active") == 0) {
        result->found = NODE_FOUND_ALL;
    } else if (strcmp(state, "inactive") == 0 || strcmp(state, "failed") == 0) {
        result->found = NODE_FOUND_NOTHING;
    } else {
        result->found = NODE_FOUND_PART;
    }
    FLEET_FORMAT(result->text, "unit %s is %s", unit,
                 state[0] ? state : "in an unknown state");
    free(path);
    sd_bus_flush_close_unref(bus);
}

bool systemd_knows(const char *unit, fleet_text_t ret_why) {
    char *path = NULL;
    sd_bus *bus = open_bus(ret_why);
    bool known = false;
    if (bus && unit_path(bus, unit, &path, ret_why)) {
        char state[32];
        unit_property(bus, path, UNIT, "LoadState", state, sizeof(state));
        known = strcmp(state, "loaded") == 0;
        if (!known) {
            fleet_text_format(ret_why, FLEET_TEXT_MAX + 1,
                              "unit %s cannot be used: it is %s", unit,
                              state[0] ? state : "not known to systemd");
        }
        free(path);
    }
    sd_bus_flush_close_unref(bus);
    return known;
}
