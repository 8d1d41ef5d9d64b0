// SPDX-License-Identifier: MIT
//
// One line is one write, so that lines of this process and of its children do
// not mix.

#include "node/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void line(const char *level, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void line(const char *level, const char *format, va_list args) {
    char text[1024];
    int prefix = snprintf(text, sizeof(text), "%s",
                          getenv("JOURNAL_STREAM") ? level : "");
    size_t used = prefix > 0 ? (size_t)prefix : 0;
    vsnprintf(text + used, sizeof(text) - used - 1, format, args);
    // What a peer or a daemon said may be in it: one line stays one line.
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = ' ';
        }
    }
    size_t size = strlen(text);
    text[size++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, size);
    (void)written; // there is nobody else to tell
}

void log_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    line("<3>", format, args);
    va_end(args);
}

void log_warning(const char *format, ...) {
    va_list args;
    va_start(args, format);
    line("<4>", format, args);
    va_end(args);
}

void log_info(const char *format, ...) {
    va_list args;
    va_start(args, format);
    line("<6>", format, args);
    va_end(args);
}
