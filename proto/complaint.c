// SPDX-License-Identifier: MIT
//
// The list of what is wrong with a file.

#include "proto/complaint.h"

#include <assert.h>

#include "proto/text.h"

fleet_complaint_t *fleet_complaints_vadd(fleet_complaints_t *complaints,
                                         unsigned line, unsigned column,
                                         const char *format,
                                         va_list arguments) {
    if (complaints->n == FLEET_COMPLAINTS_MAX) {
        return &complaints->items[FLEET_COMPLAINTS_MAX - 1];
    }
    fleet_complaint_t *complaint = &complaints->items[complaints->n++];
    *complaint = (fleet_complaint_t){.line = line, .column = column};
    fleet_text_vformat(complaint->text, sizeof(complaint->text), format,
                       arguments);
    return complaint;
}

fleet_complaint_t *fleet_complaints_add(fleet_complaints_t *complaints,
                                        unsigned line, unsigned column,
                                        const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fleet_complaint_t *complaint =
        fleet_complaints_vadd(complaints, line, column, format, arguments);
    va_end(arguments);
    return complaint;
}

static bool before(const fleet_complaint_t *a, const fleet_complaint_t *b) {
    return a->line < b->line || (a->line == b->line && a->column < b->column);
}

// By insertion: few, nearly sorted, and those of one place keep their order.
void fleet_complaints_sort(fleet_complaints_t *complaints) {
    assert(complaints->n <= FLEET_COMPLAINTS_MAX);
    for (uint32_t i = 1; i < complaints->n; i++) {
        fleet_complaint_t moving = complaints->items[i];
        uint32_t to = i;
        for (; to > 0 && before(&moving, &complaints->items[to - 1]); to--) {
            complaints->items[to] = complaints->items[to - 1];
        }
        complaints->items[to] = moving;
    }
}

// Where it is, as compilers write it, so that editors can jump there.
static void print_place(const fleet_complaint_t *complaint, const char *file,
                        char *place, size_t size) {
    if (complaint->line == 0) {
        snprintf(place, size, "%s", file);
    } else {
        snprintf(place, size, "%s:%u:%u", file, complaint->line,
                 complaint->column);
    }
}

void fleet_complaint_print(const fleet_complaint_t *complaint, const char *file,
                           char *line, size_t size) {
    char place[FLEET_WORDS_MAX];
    print_place(complaint, file, place, sizeof(place));
    if (complaint->hint[0] == '\0') {
        fleet_text_format(line, size, "%s: %s", place, complaint->text);
    } else {
        fleet_text_format(line, size, "%s: %s (%s)", place, complaint->text,
                          complaint->hint);
    }
}

void fleet_complaints_print(const fleet_complaints_t *complaints,
                            const char *file, FILE *stream) {
    for (uint32_t i = 0; i < complaints->n; i++) {
        const fleet_complaint_t *complaint = &complaints->items[i];
        char place[FLEET_WORDS_MAX];
        print_place(complaint, file, place, sizeof(place));
        fprintf(stream, "%s: %s\n", place, complaint->text);
        if (complaint->hint[0] != '\0') {
            fprintf(stream, "    %s\n", complaint->hint);
        }
    }
}
