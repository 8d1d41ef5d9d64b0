// SPDX-License-Identifier: MIT
//
// The broker's log: lines on stderr, with the levels of sd-daemon(3) in front
// where the journal reads them.  What a stranger can provoke is counted and
// said at most once a minute for each who and kind.

#ifndef FLEET_BROKER_LOG_H
#define FLEET_BROKER_LOG_H

#include <stdint.h>

// A human must act; somebody should know; a decision was taken.
void broker_log_error(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
void broker_log_warning(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
void broker_log_info(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#define LOG_LIMITS_MAX 256
#define LOG_LIMIT_MS 60000

typedef struct log_limit {
    char who[80];  // an address or a key's owner; empty: the slot is free
    char kind[40]; // a word
    char last[160];
    uint64_t until_ms; // nothing more is said before
    uint64_t held;     // lines not said since
} log_limit_t;

typedef struct log_limits {
    log_limit_t items[LOG_LIMITS_MAX];
} log_limits_t;

// Says "who: kind: text" now if it was not said within the last minute, else
// counts.
void broker_log_limited(log_limits_t *limits, uint64_t now_ms, const char *who,
                        const char *kind, const char *text);

// Says what was counted in minutes that are over.
void broker_log_flush(log_limits_t *limits, uint64_t now_ms);

#endif
