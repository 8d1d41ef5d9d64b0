// SPDX-License-Identifier: MIT
//
// What changed between two definitions, by lines: what both begin and end with
// is cut off, the longest common subsequence of the rest stays, and where that
// would cost too much the rest is told as it is.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/shell.h"

#define CELLS_MAX (1024 * 1024)

typedef struct lines {
    size_t n;
    const char **begins;
    size_t *sizes;
} lines_t;

static void *zeroed(size_t n, size_t size) {
    void *block = calloc(n + 1, size);
    if (block == NULL) {
        abort();
    }
    return block;
}

static void split(const char *text, lines_t *ret_lines) {
    size_t n = 0;
    for (const char *c = text; *c != '\0'; c++) {
        n += *c == '\n' ? 1 : 0;
    }
    ret_lines->n = 0;
    ret_lines->begins = zeroed(n + 1, sizeof(char *));
    ret_lines->sizes = zeroed(n + 1, sizeof(size_t));
    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        ret_lines->begins[ret_lines->n] = text;
        ret_lines->sizes[ret_lines->n++] = size;
        text += text[size] == '\n' ? size + 1 : size;
    }
}

static bool same(const lines_t *a, size_t i, const lines_t *b, size_t j) {
    return a->sizes[i] == b->sizes[j] &&
           memcmp(a->begins[i], b->begins[j], a->sizes[i]) == 0;
}

// Adds a line as a whole or, where there is no room, "..." once.
static void tell(fleet_words_t diff, size_t *used, char mark,
                 const lines_t *lines, size_t i) {
    size_t room = sizeof(fleet_words_t) - *used;
    size_t size = lines->sizes[i];
    if (room == 0) {
        return;
    }
    if (size + 3 + sizeof "...\n" > room) {
        // The field is full from here on.
        snprintf(diff + *used, room, "...\n");
        *used = sizeof(fleet_words_t);
        return;
    }
    diff[(*used)++] = mark;
    memcpy(diff + *used, lines->begins[i], size);
    *used += size;
    diff[(*used)++] = '\n';
    diff[*used] = '\0';
}

// lengths[i * (m + 1) + j]: of the longest common subsequence of what is left
// from i and j on.
static void fill(uint16_t *lengths, const lines_t *a, const lines_t *b,
                 size_t begin, size_t n, size_t m) {
    for (size_t i = n; i-- > 0;) {
        for (size_t j = m; j-- > 0;) {
            uint16_t *at = &lengths[i * (m + 1) + j];
            uint16_t down = lengths[(i + 1) * (m + 1) + j];
            uint16_t right = at[1];
            uint16_t both = lengths[(i + 1) * (m + 1) + j + 1];
            if (same(a, begin + i, b, begin + j)) {
                *at = (uint16_t)(both + 1);
            } else {
                *at = down > right ? down : right;
            }
        }
    }
}

static void walk(const lines_t *a, const lines_t *b, size_t begin, size_t n,
                 size_t m, fleet_words_t ret_diff) {
    bool small = (n + 1) * (m + 1) <= CELLS_MAX;
    uint16_t *lengths = zeroed(small ? (n + 1) * (m + 1) : 0, sizeof *lengths);
    if (small) {
        fill(lengths, a, b, begin, n, m);
    }
    size_t i = 0;
    size_t j = 0;
    size_t used = 0;
    while (i < n || j < m) {
        if (small && i < n && j < m && same(a, begin + i, b, begin + j)) {
            i++;
            j++;
        } else if (i < n && (j == m || !small ||
                             lengths[(i + 1) * (m + 1) + j] >=
                                 lengths[i * (m + 1) + j + 1])) {
            tell(ret_diff, &used, '-', a, begin + i++);
        } else {
            tell(ret_diff, &used, '+', b, begin + j++);
        }
    }
    free(lengths);
}

void shell_diff(const char *before, const char *after, fleet_words_t ret_diff) {
    lines_t a;
    lines_t b;
    split(before, &a);
    split(after, &b);
    memset(ret_diff, 0, sizeof(fleet_words_t));
    size_t begin = 0;
    while (begin < a.n && begin < b.n && same(&a, begin, &b, begin)) {
        begin++;
    }
    size_t n = a.n - begin;
    size_t m = b.n - begin;
    while (n > 0 && m > 0 && same(&a, begin + n - 1, &b, begin + m - 1)) {
        n--;
        m--;
    }
    walk(&a, &b, begin, n, m, ret_diff);
    free(a.begins);
    free(a.sizes);
    free(b.begins);
    free(b.sizes);
}
