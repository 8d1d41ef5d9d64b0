// SPDX-License-Identifier: MIT
//
// Tables for people: columns as wide as what is in them, ASCII, the last column
// wraps.  Whoever fills one decides what is worth a row.

#ifndef FLEET_CLI_SCREEN_H
#define FLEET_CLI_SCREEN_H

#include <stdint.h>
#include <stdio.h>

#define SCREEN_COLUMNS_MAX 8
#define SCREEN_CELL_MAX 512

typedef struct screen screen_t;

// heads: the columns' names, ended by NULL.  A name that begins with '>' is of
// a column that is aligned to the right.
screen_t *screen_new(const char *const *heads);
void screen_destroy(screen_t **screen_p);

// Adds a row; cells are copied and cut at SCREEN_CELL_MAX.
void screen_add(screen_t *screen, const char *const *cells);

size_t screen_rows(const screen_t *screen);

// Prints head and rows, in `width` columns.
void screen_print(const screen_t *screen, FILE *out, int width);

// "41 m 3 s" is "41 m": how long something is so, short enough for a column.
void screen_age(uint64_t us, char *text, size_t size);

// A word in capitals, cut to size.
void screen_upper(const char *word, char *text, size_t size);

#endif
