// SPDX-License-Identifier: MIT

#include "cli/screen.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct row {
    char *cells[SCREEN_COLUMNS_MAX];
} row_t;

struct screen {
    size_t columns_n;
    const char *heads[SCREEN_COLUMNS_MAX];
    size_t rows_n;
    size_t rows_max;
    row_t *rows;
};

screen_t *screen_new(const char *const *heads) {
    screen_t *screen = calloc(1, sizeof(*screen));

    assert(screen != NULL);
    while (heads[screen->columns_n] != NULL) {
        assert(screen->columns_n < SCREEN_COLUMNS_MAX);
        screen->heads[screen->columns_n] = heads[screen->columns_n];
        screen->columns_n++;
    }
    return screen;
}

void screen_destroy(screen_t **screen_p) {
    screen_t *screen = *screen_p;

    if (screen == NULL) {
        return;
    }
    for (size_t i = 0; i < screen->rows_n; i++) {
        for (size_t c = 0; c < screen->columns_n; c++) {
            free(screen->rows[i].cells[c]);
        }
    }
    free(screen->rows);
    free(screen);
    *screen_p = NULL;
}

void screen_add(screen_t *screen, const char *const *cells) {
    row_t *row;

    if (screen->rows_n == screen->rows_max) {
        screen->rows_max = screen->rows_max * 2 + 16;
        screen->rows =
            realloc(screen->rows, screen->rows_max * sizeof(*screen->rows));
        assert(screen->rows != NULL);
    }
    row = &screen->rows[screen->rows_n++];
    for (size_t c = 0; c < screen->columns_n; c++) {
        row->cells[c] = strndup(cells[c], SCREEN_CELL_MAX);
        assert(row->cells[c] != NULL);
    }
}

size_t screen_rows(const screen_t *screen) {
    return screen->rows_n;
}

static const char *head_of(const screen_t *screen, size_t column) {
    const char *head = screen->heads[column];

    return head[0] == '>' ? head + 1 : head;
}

static size_t width_of(const screen_t *screen, size_t column) {
    size_t width = strlen(head_of(screen, column));

    for (size_t i = 0; i < screen->rows_n; i++) {
        size_t length = strlen(screen->rows[i].cells[column]);

        width = length > width ? length : width;
    }
    return width;
}

// The last column: words that do not fit go on in lines below it.
static void print_last(FILE *out, const char *text, int column, int width) {
    int at = column;

    while (*text != '\0') {
        int length = (int)strcspn(text, " ");

        if (at + length > width && at > column) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        }
        fprintf(out, "%.*s", length, text);
        at += length;
        text += length;
        if (*text == ' ') {
            text++;
            if (at + 1 + (int)strcspn(text, " ") <= width) {
                fputc(' ', out);
                at++;
            } else {
                at = width;
            }
        }
    }
    fputc('\n', out);
}

static void print_row(const screen_t *screen, FILE *out, const size_t *widths,
                      const row_t *row, int width) {
    int at = 0;

    for (size_t c = 0; c < screen->columns_n; c++) {
        const char *text = row != NULL ? row->cells[c] : head_of(screen, c);

        if (c + 1 == screen->columns_n) {
            print_last(out, text, at, width);
        } else if (screen->heads[c][0] == '>') {
            at += fprintf(out, "%*s  ", (int)widths[c], text);
        } else {
            at += fprintf(out, "%-*s  ", (int)widths[c], text);
        }
    }
}

void screen_print(const screen_t *screen, FILE *out, int width) {
    size_t widths[SCREEN_COLUMNS_MAX];

    for (size_t c = 0; c < screen->columns_n; c++) {
        widths[c] = width_of(screen, c);
    }
    print_row(screen, out, widths, NULL, width);
    for (size_t i = 0; i < screen->rows_n; i++) {
        print_row(screen, out, widths, &screen->rows[i], width);
    }
}

void screen_age(uint64_t us, char *text, size_t size) {
    uint64_t seconds = us / 1000000;
    uint64_t minutes = seconds / 60;
    uint64_t hours = minutes / 60;

    if (seconds < 10) {
        snprintf(text, size, "%" PRIu64 ".%" PRIu64 " s", seconds,
                 us % 1000000 / 100000);
    } else if (minutes < 1) {
        snprintf(text, size, "%" PRIu64 " s", seconds);
    } else if (minutes < 10) {
        snprintf(text, size, "%" PRIu64 " m %" PRIu64 " s", minutes,
                 seconds % 60);
    } else if (hours < 1) {
        snprintf(text, size, "%" PRIu64 " m", minutes);
    } else if (hours < 10) {
        snprintf(text, size, "%" PRIu64 " h %" PRIu64 " m", hours,
                 minutes % 60);
    } else if (hours < 48) {
        snprintf(text, size, "%" PRIu64 " h", hours);
    } else {
        snprintf(text, size, "%" PRIu64 " d", hours / 24);
    }
}

void screen_upper(const char *word, char *text, size_t size) {
    size_t i = 0;

    for (; i + 1 < size && word[i] != '\0'; i++) {
        text[i] = (char)(word[i] >= 'a' && word[i] <= 'z' ? word[i] - 'a' + 'A'
                                                          : word[i]);
    }
    text[i] = '\0';
}
