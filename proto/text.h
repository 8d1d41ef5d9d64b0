// SPDX-License-Identifier: MIT
//
// Small words: names, durations, keys in digits, times.  Pure; no allocation.

#ifndef FLEET_TEXT_H
#define FLEET_TEXT_H

#include <stdarg.h>

#include "proto/messages.h"

// Well-formed UTF-8 (RFC 3629) without a NUL byte.
bool fleet_utf8_ok(const char *text, size_t size);

// Copies text into a field of `size` bytes, cut at a UTF-8 character's
// boundary, always terminated, and zeroes the rest, so that equal texts are
// equal bytes. Bytes that are no UTF-8 become '?', so that what a daemon said
// can be sent.
void fleet_text_copy(char *field, size_t size, const char *text);
#define FLEET_COPY(field, text) fleet_text_copy((field), sizeof(field), (text))

// printf into a field, cut and zeroed likewise.
void fleet_text_format(char *field, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void fleet_text_vformat(char *field, size_t size, const char *format,
                        va_list arguments)
    __attribute__((format(printf, 3, 0)));
#define FLEET_FORMAT(field, ...)                                               \
    fleet_text_format((field), sizeof(field), __VA_ARGS__)

// [a-z0-9][a-z0-9-]{0,31} and none of: all any here none.
bool fleet_name_ok(const char *name);

// The nearest of candidates to a mistyped word (at most a third of its letters
// wrong), or NULL.  Loan from candidates.
const char *fleet_name_nearest(const char *word, const char *const *candidates,
                               size_t candidates_n);

// "500ms" "30s" "10m" "2h" "3d" to milliseconds; a unit is needed, one number,
// no sign, no space.  False for anything else, and above 100 years.
bool fleet_duration_parse(const char *text, uint64_t *ret_ms);

// 1234 to "1.2 s", 81000 to "1 m 21 s", 41.2 ms from us: for people.
void fleet_duration_print(uint64_t us, char *text, size_t size);

// 64 hex digits to 32 bytes; upper or lower case.  False for anything else.
bool fleet_key_parse(const char *digits, fleet_key_t ret_key);

// 32 bytes to 64 lower-case digits, and the first 8 of them.
void fleet_key_print(const fleet_key_t key, char digits[65]);
void fleet_key_short(const fleet_key_t key, char digits[9]);

// Microseconds since 1970 to "2026-11-23T03:14:02.123456Z"; "" for 0.
void fleet_time_print(uint64_t time_us, char text[32]);

// An address with its prefix length, as ip(8) writes it: "192.0.2.80/24" or
// "2001:db8::80/64".  ret_bytes gets 4 or 16 octets, ret_size says how many.
// False for anything else, also without a prefix length.
bool fleet_address_parse(const char *address, uint8_t ret_bytes[16],
                         size_t *ret_size, unsigned *ret_prefix);

// The same address in its one usual spelling (RFC 5952), so that equal
// addresses are equal texts.
bool fleet_address_normal(const char *address, fleet_id_t ret_address);

// "02:00:c0:00:02:50" from "192.0.2.80/24" (the paper's scheme); for an IPv6
// address 02:01 and the last four octets.  False if it is no address.
bool fleet_mac_default(const char *address, fleet_id_t ret_mac);

// A unicast, locally administered or vendor MAC address, not zero; refused with
// why in ret_why: IEEE 802, the group bit, the local bit.
bool fleet_mac_ok(const char *mac, fleet_text_t *ret_why);

#endif
