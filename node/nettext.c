// SPDX-License-Identifier: MIT
//
// MAC and IP addresses as text.  Pure.

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/netlink.h"
#include "proto/text.h"

static int hex_digit(char c) {
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

bool net_mac_parse(const char *text, net_mac_t *ret_mac) {
    net_mac_t mac;
    if (strlen(text) != 17) {
        return false;
    }
    for (size_t i = 0; i < sizeof mac.bytes; i++) {
        int high = hex_digit(text[3 * i]);
        int low = hex_digit(text[3 * i + 1]);
        if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':')) {
            return false;
        }
        mac.bytes[i] = (uint8_t)(high * 16 + low);
    }
    *ret_mac = mac;
    return true;
}

void net_mac_print(const net_mac_t *mac, char text[18]) {
    const uint8_t *b = mac->bytes;
    (void)snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2],
                   b[3], b[4], b[5]);
}

bool net_mac_equal(const net_mac_t *a, const net_mac_t *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool net_mark_read(const char *alias, fleet_name_t ret_set) {
    static const char mark[] = "fleet:";
    fleet_name_t set = {0};
    if (strncmp(alias, mark, sizeof mark - 1) != 0) {
        return false;
    }
    alias += sizeof mark - 1;
    size_t length = strcspn(alias, " ");
    if (length >= sizeof set) {
        return false;
    }
    memcpy(set, alias, length);
    if (!fleet_name_ok(set)) {
        return false;
    }
    fleet_text_copy(ret_set, sizeof(fleet_name_t), set);
    return true;
}

size_t net_ip_size(const net_ip_t *ip) {
    return ip->family == AF_INET ? 4 : 16;
}

bool net_ip_parse(const char *text, net_ip_t *ret_ip) {
    char host[FLEET_ID_MAX + 1];
    net_ip_t ip = {0};
    const char *slash = strchr(text, '/');
    size_t length = slash == NULL ? strlen(text) : (size_t)(slash - text);
    if (length >= sizeof host) {
        return false;
    }
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET, host, ip.bytes) == 1) {
        ip.family = AF_INET;
    } else if (inet_pton(AF_INET6, host, ip.bytes) == 1) {
        ip.family = AF_INET6;
    } else {
        return false;
    }
    unsigned long bits = 8 * net_ip_size(&ip);
    if (slash != NULL) {
        char *end;
        unsigned long given = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || given > bits) {
            return false;
        }
        bits = given;
    }
    ip.prefix = (uint8_t)bits;
    *ret_ip = ip;
    return true;
}

void net_ip_print(const net_ip_t *ip, fleet_id_t ret_text) {
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(ip->family, ip->bytes, text, sizeof text) == NULL) {
        text[0] = '\0';
    }
    fleet_text_copy(ret_text, sizeof(fleet_id_t), text);
}

bool net_ip_equal(const net_ip_t *a, const net_ip_t *b) {
    return a->family == b->family &&
           memcmp(a->bytes, b->bytes, net_ip_size(a)) == 0;
}

net_ip_t net_ip_prefix(const net_ip_t *ip) {
    net_ip_t prefix = *ip;
    for (unsigned bit = ip->prefix; bit < 8 * net_ip_size(ip); bit++) {
        prefix.bytes[bit / 8] &= (uint8_t) ~(0x80U >> (bit % 8));
    }
    return prefix;
}
