// SPDX-License-Identifier: MIT

#include "node/scan.h"

#include <string.h>

static const char blanks[] = " \n";

static const char *skip(const char *at) {
    return at + strspn(at, blanks);
}

bool scan_word(const char **at, const char *word) {
    const char *from = skip(*at);
    size_t length = strcspn(from, blanks);
    if (length != strlen(word) || memcmp(from, word, length) != 0) {
        return false;
    }
    *at = from + length;
    return true;
}

bool scan_text(const char **at, char *ret_text, size_t size) {
    const char *from = skip(*at);
    size_t length = strcspn(from, blanks);
    if (length == 0 || length >= size) {
        return false;
    }
    memcpy(ret_text, from, length);
    ret_text[length] = '\0';
    *at = from + length;
    return true;
}

bool scan_u64(const char **at, uint64_t *ret_number) {
    const char *from = skip(*at);
    uint64_t number = 0;
    size_t length = 0;
    for (; from[length] >= '0' && from[length] <= '9'; length++) {
        uint64_t digit = (uint64_t)(from[length] - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (length == 0) {
        return false;
    }
    *ret_number = number;
    *at = from + length;
    return true;
}

bool scan_end(const char *at) {
    return *skip(at) == '\0';
}
