// SPDX-License-Identifier: MIT

#include "broker/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void line(const char *level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void line(const char *level, const char *format, va_list arguments) {
    char text[1024];
    vsnprintf(text, sizeof text, format, arguments);
    // What a peer said may be in it: one line stays one line.
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ') {
            *c = ' ';
        }
    }
    fprintf(stderr, "%s%s\n", getenv("JOURNAL_STREAM") ? level : "", text);
}

void broker_log_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line("<3>", format, arguments);
    va_end(arguments);
}

void broker_log_warning(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line("<4>", format, arguments);
    va_end(arguments);
}

void broker_log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line("<6>", format, arguments);
    va_end(arguments);
}

static void say_held(log_limit_t *item) {
    if (item->held > 0) {
        broker_log_warning("%s: %s: %" PRIu64 " more within a minute, last: %s",
                           item->who, item->kind, item->held, item->last);
    }
    item->held = 0;
}

static log_limit_t *slot(log_limits_t *limits, uint64_t now_ms, const char *who,
                         const char *kind) {
    log_limit_t *oldest = &limits->items[0];
    for (size_t i = 0; i < LOG_LIMITS_MAX; i++) {
        log_limit_t *item = &limits->items[i];
        if (strcmp(item->who, who) == 0 && strcmp(item->kind, kind) == 0) {
            return item;
        }
        if (item->until_ms < oldest->until_ms) {
            oldest = item;
        }
    }
    if (oldest->until_ms > now_ms && oldest->who[0] != '\0') {
        // More strangers than slots: the kind is what can still be told.
        who = "others";
    }
    say_held(oldest);
    memset(oldest, 0, sizeof *oldest);
    snprintf(oldest->who, sizeof oldest->who, "%s", who);
    snprintf(oldest->kind, sizeof oldest->kind, "%s", kind);
    return oldest;
}

void broker_log_limited(log_limits_t *limits, uint64_t now_ms, const char *who,
                        const char *kind, const char *text) {
    log_limit_t *item = slot(limits, now_ms, who, kind);
    snprintf(item->last, sizeof item->last, "%s", text);
    if (now_ms < item->until_ms) {
        item->held++;
        return;
    }
    say_held(item);
    broker_log_warning("%s: %s: %s", item->who, item->kind, item->last);
    item->until_ms = now_ms + LOG_LIMIT_MS;
}

void broker_log_flush(log_limits_t *limits, uint64_t now_ms) {
    for (size_t i = 0; i < LOG_LIMITS_MAX; i++) {
        log_limit_t *item = &limits->items[i];
        if (item->held > 0 && now_ms >= item->until_ms) {
            say_held(item);
            item->until_ms = now_ms + LOG_LIMIT_MS;
        }
    }
}
