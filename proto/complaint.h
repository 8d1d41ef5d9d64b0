// SPDX-License-Identifier: MIT
//
// What is wrong with a file that a person wrote, and where: all of it at once,
// as far as that makes sense.  Pure; who prints it is another's business.

#ifndef FLEET_COMPLAINT_H
#define FLEET_COMPLAINT_H

#include <stdarg.h>
#include <stdio.h>

#include "proto/messages.h"

// Where and what is wrong with a file: "www.yaml:14:7: ..." is built from it.
typedef struct fleet_complaint {
    unsigned line;   // from 1; 0: the file as a whole
    unsigned column; // from 1
    fleet_text_t text;
    fleet_text_t hint; // what would be right; may be empty
} fleet_complaint_t;

#define FLEET_COMPLAINTS_MAX 16

typedef struct fleet_complaints {
    uint32_t n; // all are found in one pass, as far as that makes sense
    fleet_complaint_t items[FLEET_COMPLAINTS_MAX];
} fleet_complaints_t;

// Adds a complaint and returns it, so that its hint can be set.  Those beyond
// FLEET_COMPLAINTS_MAX are dropped; the last one that was kept is returned
// then.
fleet_complaint_t *fleet_complaints_add(fleet_complaints_t *complaints,
                                        unsigned line, unsigned column,
                                        const char *format, ...)
    __attribute__((format(printf, 4, 5)));
fleet_complaint_t *fleet_complaints_vadd(fleet_complaints_t *complaints,
                                         unsigned line, unsigned column,
                                         const char *format, va_list arguments)
    __attribute__((format(printf, 4, 0)));

// Sorts by line and column, so that a reader goes down the file once.
void fleet_complaints_sort(fleet_complaints_t *complaints);

// "www.yaml:14:7: TEXT (HINT)" into line; "www.yaml: TEXT" for the whole file.
void fleet_complaint_print(const fleet_complaint_t *complaint, const char *file,
                           char *line, size_t size);

// All of them to a stream, in order: "FILE:LINE:COL: TEXT", and the hint in a
// line of its own, indented.
void fleet_complaints_print(const fleet_complaints_t *complaints,
                            const char *file, FILE *stream);

#endif
