// SPDX-License-Identifier: MIT
//
// Small words: names, durations, keys in digits, times, addresses.  Pure: no
// allocation, no clock, no locale.

#include "proto/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS_PER_SECOND UINT64_C(1000)
#define MS_PER_MINUTE (60 * MS_PER_SECOND)
#define MS_PER_HOUR (60 * MS_PER_MINUTE)
#define MS_PER_DAY (24 * MS_PER_HOUR)
#define DURATION_MAX_MS (36525 * MS_PER_DAY) // 100 years

// ------------------------------------------------------------------------
// UTF-8

// Bytes of the well-formed character at text, 0 if there is none (RFC 3629, the
// table of section 4: no surrogates, nothing above U+10FFFF, no long forms).
static size_t character_size(const uint8_t *text, size_t left) {
    uint8_t first = text[0];
    if (first < 0x80) {
        return 1;
    }
    size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || size > left) {
        return 0;
    }
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (text[1] < low || text[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

bool fleet_utf8_ok(const char *text, size_t size) {
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t at = 0; at < size;) {
        if (bytes[at] == 0) {
            return false;
        }
        size_t step = character_size(bytes + at, size - at);
        if (step == 0) {
            return false;
        }
        at += step;
    }
    return true;
}

void fleet_text_copy(char *field, size_t size, const char *text) {
    size_t room = size - 1;
    // One character more than fits, so that one that is cut is still seen
    // whole.
    size_t length = strnlen(text, room + 4);
    size_t to = 0;
    for (size_t from = 0; from < length;) {
        size_t step =
            character_size((const uint8_t *)text + from, length - from);
        if (to + (step == 0 ? 1 : step) > room) {
            break;
        }
        if (step == 0) {
            field[to++] = '?';
            from++;
        } else {
            memmove(field + to, text + from, step);
            to += step;
            from += step;
        }
    }
    memset(field + to, 0, size - to);
}

void fleet_text_vformat(char *field, size_t size, const char *format,
                        va_list arguments) {
    // The longest field that is formatted is FLEET_WORDS_MAX; the definition of
    // a set is never formatted, only copied.
    char text[FLEET_WORDS_MAX + 8];
    if (vsnprintf(text, sizeof(text), format, arguments) < 0) {
        text[0] = '\0';
    }
    fleet_text_copy(field, size, text);
}

void fleet_text_format(char *field, size_t size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fleet_text_vformat(field, size, format, arguments);
    va_end(arguments);
}

// ----------------------------------------------------------------------- names

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool fleet_name_ok(const char *name) {
    static const char *const reserved[] = {"all", "any", "here", "none"};
    if (!name_char(name[0])) {
        return false;
    }
    size_t length = 1;
    for (; name[length] != '\0'; length++) {
        if (length >= FLEET_NAME_MAX ||
            (!name_char(name[length]) && name[length] != '-')) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (strcmp(name, reserved[i]) == 0) {
            return false;
        }
    }
    return true;
}

#define WORD_MAX 63

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

// Letters to change, add, leave out or swap with their neighbour (Damerau, in
// its "optimal string alignment" form).  Both words have at most WORD_MAX
// letters.
static size_t distance(const char *a, const char *b) {
    size_t rows[3][WORD_MAX + 1];
    size_t a_n = strlen(a);
    size_t b_n = strlen(b);
    for (size_t j = 0; j <= b_n; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_n; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *second = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_n; j++) {
            size_t changed = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            row[j] = least(changed, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], second[j - 2] + 1);
            }
        }
    }
    return rows[a_n % 3][b_n];
}

const char *fleet_name_nearest(const char *word, const char *const *candidates,
                               size_t candidates_n) {
    size_t length = strlen(word);
    if (length > WORD_MAX) {
        return NULL;
    }
    const char *nearest = NULL;
    size_t best = length / 3 + 1;
    for (size_t i = 0; i < candidates_n; i++) {
        if (strlen(candidates[i]) > WORD_MAX) {
            continue;
        }
        size_t wrong = distance(word, candidates[i]);
        if (wrong < best) {
            best = wrong;
            nearest = candidates[i];
        }
    }
    return nearest;
}

// ------------------------------------------------------------------- durations

static uint64_t unit_ms(const char *unit) {
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1},
                 {"s", MS_PER_SECOND},
                 {"m", MS_PER_MINUTE},
                 {"h", MS_PER_HOUR},
                 {"d", MS_PER_DAY}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(units[i].unit, unit) == 0) {
            return units[i].ms;
        }
    }
    return 0;
}

bool fleet_duration_parse(const char *text, uint64_t *ret_ms) {
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > DURATION_MAX_MS) {
            return false;
        }
        number = number * 10 + (uint64_t)(*at - '0');
    }
    uint64_t ms = unit_ms(at);
    if (at == text || ms == 0 || number > DURATION_MAX_MS / ms) {
        return false;
    }
    *ret_ms = number * ms;
    return true;
}

static void print_two(char *text, size_t size, uint64_t large, char large_unit,
                      uint64_t small, char small_unit) {
    if (small == 0) {
        snprintf(text, size, "%llu %c", (unsigned long long)large, large_unit);
    } else {
        snprintf(text, size, "%llu %c %llu %c", (unsigned long long)large,
                 large_unit, (unsigned long long)small, small_unit);
    }
}

void fleet_duration_print(uint64_t us, char *text, size_t size) {
    uint64_t ms = us / 1000;
    if (ms < MS_PER_SECOND) {
        snprintf(text, size, "%llu.%llu ms", (unsigned long long)ms,
                 (unsigned long long)(us % 1000 / 100));
    } else if (ms < MS_PER_MINUTE) {
        snprintf(text, size, "%llu.%llu s",
                 (unsigned long long)(ms / MS_PER_SECOND),
                 (unsigned long long)(ms % MS_PER_SECOND / 100));
    } else if (ms < MS_PER_HOUR) {
        print_two(text, size, ms / MS_PER_MINUTE, 'm',
                  ms % MS_PER_MINUTE / MS_PER_SECOND, 's');
    } else if (ms < MS_PER_DAY) {
        print_two(text, size, ms / MS_PER_HOUR, 'h',
                  ms % MS_PER_HOUR / MS_PER_MINUTE, 'm');
    } else {
        print_two(text, size, ms / MS_PER_DAY, 'd',
                  ms % MS_PER_DAY / MS_PER_HOUR, 'h');
    }
}

void fleet_time_print(uint64_t time_us, char text[32]) {
    text[0] = '\0';
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm utc;
    if (time_us == 0 || gmtime_r(&seconds, &utc) == NULL) {
        return;
    }
    char line[96];
    snprintf(line, sizeof(line), "%04ld-%02d-%02dT%02d:%02d:%02d.%06uZ",
             1900L + utc.tm_year, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
             utc.tm_min, utc.tm_sec, (unsigned)(time_us % 1000000));
    fleet_text_copy(text, 32, line);
}

// ------------------------------------------------------------------------ keys

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool fleet_key_parse(const char *digits, fleet_key_t ret_key) {
    if (strnlen(digits, 2 * FLEET_KEY_SIZE + 1) != 2 * FLEET_KEY_SIZE) {
        return false;
    }
    fleet_key_t key;
    for (size_t i = 0; i < FLEET_KEY_SIZE; i++) {
        int high = hex_value(digits[2 * i]);
        int low = hex_value(digits[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        key[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret_key, key, sizeof(key));
    return true;
}

static void print_hex(const uint8_t *bytes, size_t n, char *digits) {
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        digits[2 * i] = hex[bytes[i] >> 4];
        digits[2 * i + 1] = hex[bytes[i] & 15];
    }
    digits[2 * n] = '\0';
}

void fleet_key_print(const fleet_key_t key, char digits[65]) {
    print_hex(key, FLEET_KEY_SIZE, digits);
}

void fleet_key_short(const fleet_key_t key, char digits[9]) {
    print_hex(key, 4, digits);
}

// ------------------------------------------------------------------- addresses

static bool prefix_parse(const char *digits, size_t size,
                         unsigned *ret_prefix) {
    size_t length = strlen(digits);
    if (length < 1 || length > 3 || (length > 1 && digits[0] == '0')) {
        return false;
    }
    unsigned prefix = 0;
    for (; *digits != '\0'; digits++) {
        if (*digits < '0' || *digits > '9') {
            return false;
        }
        prefix = prefix * 10 + (unsigned)(*digits - '0');
    }
    if (prefix > 8 * size) {
        return false;
    }
    *ret_prefix = prefix;
    return true;
}

// The address before the slash; ret_digits is what follows the slash, or NULL.
static bool octets_parse(const char *address, uint8_t ret_bytes[16],
                         size_t *ret_size, const char **ret_digits) {
    char host[FLEET_ID_MAX + 1];
    const char *slash = strchr(address, '/');
    size_t length = slash == NULL ? strnlen(address, sizeof(host))
                                  : (size_t)(slash - address);
    if (length >= sizeof(host)) {
        return false;
    }
    memcpy(host, address, length);
    host[length] = '\0';
    if (inet_pton(AF_INET, host, ret_bytes) == 1) {
        *ret_size = 4;
    } else if (inet_pton(AF_INET6, host, ret_bytes) == 1) {
        *ret_size = 16;
    } else {
        return false;
    }
    *ret_digits = slash == NULL ? NULL : slash + 1;
    return true;
}

bool fleet_address_parse(const char *address, uint8_t ret_bytes[16],
                         size_t *ret_size, unsigned *ret_prefix) {
    uint8_t bytes[16];
    size_t size;
    const char *digits;
    unsigned prefix;
    if (!octets_parse(address, bytes, &size, &digits) || digits == NULL ||
        !prefix_parse(digits, size, &prefix)) {
        return false;
    }
    memcpy(ret_bytes, bytes, size);
    *ret_size = size;
    *ret_prefix = prefix;
    return true;
}

bool fleet_address_normal(const char *address, fleet_id_t ret_address) {
    uint8_t bytes[16];
    size_t size;
    unsigned prefix;
    char host[INET6_ADDRSTRLEN];
    if (!fleet_address_parse(address, bytes, &size, &prefix) ||
        inet_ntop(size == 4 ? AF_INET : AF_INET6, bytes, host, sizeof(host)) ==
            NULL) {
        return false;
    }
    fleet_text_format(ret_address, sizeof(fleet_id_t), "%s/%u", host, prefix);
    return true;
}

bool fleet_mac_default(const char *address, fleet_id_t ret_mac) {
    uint8_t bytes[16];
    size_t size;
    const char *digits;
    unsigned prefix;
    if (!octets_parse(address, bytes, &size, &digits) ||
        (digits != NULL && !prefix_parse(digits, size, &prefix))) {
        return false;
    }
    const uint8_t *last = bytes + size - 4;
    fleet_text_format(ret_mac, sizeof(fleet_id_t), "02:%s:%02x:%02x:%02x:%02x",
                      size == 4 ? "00" : "01", last[0], last[1], last[2],
                      last[3]);
    return true;
}

static bool mac_parse(const char *mac, uint8_t ret_octets[6]) {
    if (strnlen(mac, 18) != 17) {
        return false;
    }
    for (size_t i = 0; i < 6; i++) {
        int high = hex_value(mac[3 * i]);
        int low = hex_value(mac[3 * i + 1]);
        if (high < 0 || low < 0 || (i < 5 && mac[3 * i + 2] != ':')) {
            return false;
        }
        ret_octets[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool fleet_mac_ok(const char *mac, fleet_text_t *ret_why) {
    uint8_t octets[6];
    if (!mac_parse(mac, octets)) {
        FLEET_FORMAT(*ret_why,
                     "\"%.40s\" is not a MAC address: six octets of two hex "
                     "digits, with colons between",
                     mac);
        return false;
    }
    if ((octets[0] & 1) != 0) {
        FLEET_FORMAT(*ret_why,
                     "%s has the group bit set (IEEE 802: the lowest bit of "
                     "the first octet): it names many stations, not one",
                     mac);
        return false;
    }
    static const uint8_t zero[6];
    if (memcmp(octets, zero, sizeof(zero)) == 0) {
        FLEET_FORMAT(*ret_why, "%s is no station's address", mac);
        return false;
    }
    // A vendor's address (local bit clear) that was taken from a card would be
    // on the wire twice, should that card be plugged in; the reserved block of
    // IANA belongs to VRRP and its like (RFC 9542).
    static const uint8_t iana[3] = {0x00, 0x00, 0x5e};
    if (memcmp(octets, iana, sizeof(iana)) == 0) {
        FLEET_FORMAT(*ret_why,
                     "%s is in IANA's block 00:00:5e, where VRRP has its "
                     "addresses",
                     mac);
        return false;
    }
    return true;
}
