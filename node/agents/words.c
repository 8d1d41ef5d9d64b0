// SPDX-License-Identifier: MIT
//
// The splitter of commands and the cleaner of their output: bytes only, no
// system call, so that both can be tested and fuzzed by themselves.

#include "node/agents/words.h"

#include <stdint.h>
#include <string.h>

#include "node/agents/command.h"
#include "proto/text.h"

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static uint32_t digit_of(char c) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at ? (uint32_t)(at - digits) % 16 : 99;
}

// `n` digits of that base at `at` as a byte; 0 (no byte of a word) if they are
// not.
static uint8_t number_at(const char *at, uint32_t base, int n) {
    uint32_t value = 0;
    for (int i = 0; i < n; i++) {
        uint32_t digit = digit_of(at[i]);
        if (digit >= base) {
            return 0;
        }
        value = value * base + digit;
    }
    return value < 256 ? (uint8_t)value : 0;
}

// The byte of the escape whose backslash is at `at`, and its length; 0: none.
static size_t read_escape(const char *at, char *ret_byte) {
    static const char letters[] = "a\ab\bf\fn\nr\rt\tv\vs \\\\\"\"''";
    for (size_t i = 0; letters[i] != '\0'; i += 2) {
        if (at[1] == letters[i]) {
            *ret_byte = letters[i + 1];
            return 2;
        }
    }
    bool hex = at[1] == 'x';
    uint8_t byte = hex ? number_at(at + 2, 16, 2) : number_at(at + 1, 8, 3);
    if (byte == 0) {
        return 0;
    }
    memcpy(ret_byte, &byte, 1);
    return 4;
}

static bool refuse(fleet_text_t ret_why, const char *line, const char *what) {
    fleet_text_format(ret_why, FLEET_TEXT_MAX + 1, "%s in the command: %s",
                      what, line);
    return false;
}

// One word from *at on, into *to; advances both.
static bool read_word(const char *line, const char **at, char **to,
                      fleet_text_t ret_why) {
    char quote = '\0';
    while (**at != '\0' && (quote != '\0' || !is_blank(**at))) {
        char c = **at;
        if (c == '\\') {
            size_t length = read_escape(*at, *to);
            if (length == 0) {
                return refuse(ret_why, line, "an unknown escape");
            }
            *at += length;
            *to += 1;
            continue;
        }
        *at += 1;
        if (quote == '\0' && (c == '"' || c == '\'')) {
            quote = c;
        } else if (quote != '\0' && c == quote) {
            quote = '\0';
        } else {
            *(*to)++ = c;
        }
    }
    *(*to)++ = '\0';
    return quote == '\0' || refuse(ret_why, line, "a quote that is not closed");
}

bool command_split(const char *line, command_words_t *ret_words,
                   fleet_text_t ret_why) {
    if (strlen(line) > FLEET_TEXT_MAX) {
        return refuse(ret_why, line, "more than 256 bytes");
    }
    ret_words->n = 0;
    const char *at = line;
    char *to = ret_words->text;
    for (;;) {
        while (is_blank(*at)) {
            at += 1;
        }
        if (*at == '\0') {
            break;
        }
        if (ret_words->n == COMMAND_WORDS_MAX) {
            return refuse(ret_why, line, "more than 64 words");
        }
        ret_words->argv[ret_words->n++] = to;
        if (!read_word(line, &at, &to, ret_why)) {
            return false;
        }
    }
    ret_words->argv[ret_words->n] = NULL;
    return ret_words->n > 0 || refuse(ret_why, line, "no word");
}

// Length of the valid UTF-8 character at `at`, or 0.
static size_t character_at(const uint8_t *at, size_t size) {
    uint8_t c = at[0];
    if (c < 0x80) {
        return 1;
    }
    size_t length = c >= 0xc2 && c < 0xe0   ? 2
                    : c >= 0xe0 && c < 0xf0 ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;
    if (length == 0 || length > size) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool bad = (c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] > 0x9f) ||
               (c == 0xf0 && at[1] < 0x90) || (c == 0xf4 && at[1] > 0x8f);
    return bad ? 0 : length;
}

void words_clean(const char *bytes, size_t size, bool cut,
                 fleet_words_t ret_words) {
    memset(ret_words, 0, FLEET_WORDS_MAX + 1);
    if (size > FLEET_WORDS_MAX) {
        bytes += size - FLEET_WORDS_MAX;
        size = FLEET_WORDS_MAX;
        cut = true;
    }
    const char *newline = cut ? memchr(bytes, '\n', size) : NULL;
    if (newline && (size_t)(newline - bytes) + 1 < size) {
        size -= (size_t)(newline - bytes) + 1;
        bytes = newline + 1;
    }
    size_t used = 0;
    for (size_t i = 0; i < size;) {
        size_t length = character_at((const uint8_t *)bytes + i, size - i);
        char c = bytes[i];
        bool odd = length == 0 || (length == 1 && (c < ' ' || c == 0x7f) &&
                                   c != '\n' && c != '\t');
        if (odd) {
            length = 1;
            // At the very beginning it is the rest of a character that was cut.
            bool dropped = (used == 0 && cut) ||
                           (c == '\r' && i + 1 < size && bytes[i + 1] == '\n');
            if (!dropped) {
                ret_words[used++] = c == '\r' ? '\n' : '?';
            }
        } else {
            memcpy(ret_words + used, bytes + i, length);
            used += length;
        }
        i += length;
    }
    while (used > 0 && is_blank(ret_words[used - 1])) {
        ret_words[--used] = '\0';
    }
}
