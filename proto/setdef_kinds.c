// SPDX-License-Identifier: MIT
//
// The kinds of resources, each checked within itself.  What one resource must
// be to another is setdef.c's.

#include "proto/setdef_yaml.h"

#include <arpa/inet.h>
#include <string.h>

#include "proto/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define TERM_MAX_MS (10 * 60 * 1000)
#define PROBE_EVERY_MS_DEFAULT 10000
#define PROBE_MAX_MS (24 * 60 * 60 * 1000)

const char *fleet_setdef_at(setdef_reader_t *reader, const char *key) {
    snprintf(reader->path + reader->base, sizeof(reader->path) - reader->base,
             "%s%s", key[0] == '\0' ? "" : ".", key);
    return reader->path;
}

// ------------------------------------------------------------------- disk
// group

void fleet_setdef_read_disk_group(setdef_reader_t *reader,
                                  const yaml_disk_group_t *yaml,
                                  fleet_disk_group_t *ret) {
    static const char *const drivers[] = {"image"};
    size_t driver = 0;
    if (fleet_yaml_word(reader->doc, fleet_setdef_at(reader, "driver"),
                        yaml->driver, drivers, COUNT(drivers), &driver)) {
        FLEET_COPY(ret->driver, drivers[driver]);
    }
    fleet_yaml_path(reader->doc, fleet_setdef_at(reader, "path"), yaml->path,
                    &ret->path);
}

// ------------------------------------------------------------------ file
// system

// Is it spelled as the kernel will spell it in its list of mounts?
static bool is_normal_path(const char *path) {
    size_t length = strlen(path);
    return length > 1 && path[length - 1] != '/' &&
           strstr(path, "//") == NULL && strstr(path, "/./") == NULL &&
           strstr(path, "/../") == NULL &&
           strcmp(path + length - 2, "/.") != 0 &&
           (length < 3 || strcmp(path + length - 3, "/..") != 0);
}

static void read_mount(setdef_reader_t *reader, const char *mount,
                       fleet_text_t *ret) {
    const char *at = fleet_setdef_at(reader, "mount");
    if (fleet_yaml_path(reader->doc, at, mount, ret) &&
        !is_normal_path(mount)) {
        fleet_yaml_complain(reader->doc, at,
                            "mount \"%.80s\" is \"/\" or has . or .. or a "
                            "slash too many",
                            mount);
    }
}

void fleet_setdef_read_filesystem(setdef_reader_t *reader,
                                  const yaml_filesystem_t *yaml,
                                  fleet_filesystem_t *ret) {
    static const char *const types[] = {"ext4", "xfs", "btrfs"};
    static const char *const checks[] = {[FLEET_FSCK_NO] = "no",
                                         [FLEET_FSCK_PREEN] = "preen",
                                         [FLEET_FSCK_FULL] = "full"};
    const fleet_yaml_doc_t *doc = reader->doc;
    read_mount(reader, yaml->mount, &ret->mount);
    size_t type = 0;
    fleet_yaml_word(doc, fleet_setdef_at(reader, "type"), yaml->type, types,
                    COUNT(types), &type);
    FLEET_COPY(ret->type, types[type]);
    fleet_yaml_text(doc, fleet_setdef_at(reader, "options"), yaml->options,
                    ret->options, sizeof(ret->options));
    size_t check = FLEET_FSCK_PREEN;
    fleet_yaml_word(doc, fleet_setdef_at(reader, "fsck"), yaml->fsck, checks,
                    COUNT(checks), &check);
    ret->fsck = (fleet_fsck_t)check;
    ret->term_ms = FLEET_TERM_MS_DEFAULT;
    fleet_yaml_duration(doc, fleet_setdef_at(reader, "term"), yaml->term, 0,
                        TERM_MAX_MS, &ret->term_ms);
}

// ----------------------------------------------------------------------
// address

typedef struct network {
    uint8_t bytes[16];
    size_t size; // 4 or 16
    unsigned prefix;
} network_t;

static bool same_network(const network_t *network, const uint8_t *bytes) {
    for (unsigned bit = 0; bit < network->prefix; bit++) {
        unsigned mask = 0x80U >> (bit % 8);
        if (((network->bytes[bit / 8] ^ bytes[bit / 8]) & mask) != 0) {
            return false;
        }
    }
    return true;
}

// Are all bits behind the prefix alike?
static bool host_bits_are(const network_t *network, bool ones) {
    for (unsigned i = network->prefix; i < 8 * network->size; i++) {
        bool set = (network->bytes[i / 8] & (0x80U >> (i % 8))) != 0;
        if (set != ones) {
            return false;
        }
    }
    return true;
}

// Why nobody can be reached at it; NULL if it is fine.
static const char *unusable(const network_t *network) {
    static const uint8_t zero[16];
    static const uint8_t loopback[16] = {[15] = 1};
    const uint8_t *bytes = network->bytes;
    bool four = network->size == 4;
    if (network->prefix == 0) {
        return "has no network: its prefix length is 0";
    }
    if (memcmp(bytes, zero, network->size) == 0 || (four && bytes[0] == 0)) {
        return "is no host's address";
    }
    if (four ? bytes[0] == 127 : memcmp(bytes, loopback, 16) == 0) {
        return "is a loopback address";
    }
    if (four ? bytes[0] >= 224 : bytes[0] == 0xff) {
        return "is a multicast or reserved address";
    }
    if (!four && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) {
        return "is link-local: clients beyond the link cannot reach it";
    }
    if (four && network->prefix < 31 && host_bits_are(network, false)) {
        return "is the network, not a host in it";
    }
    if (four && network->prefix < 31 && host_bits_are(network, true)) {
        return "is the network's broadcast address";
    }
    return NULL;
}

static bool read_ip(setdef_reader_t *reader, const char *text, unsigned index,
                    fleet_address_t *ret, network_t *ret_network) {
    char key[16];
    snprintf(key, sizeof(key), "ip[%u]", index);
    const char *at = fleet_setdef_at(reader, key);
    network_t network;
    if (!fleet_address_parse(text, network.bytes, &network.size,
                             &network.prefix)) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            reader->doc, at, "\"%.48s\" is no address with its prefix length",
            text);
        FLEET_COPY(complaint->hint, "192.0.2.80/24 or \"2001:db8::80/64\"");
        return false;
    }
    const char *why = unusable(&network);
    if (why != NULL) {
        fleet_yaml_complain(reader->doc, at, "%s %s", text, why);
        return false;
    }
    fleet_id_t address;
    fleet_address_normal(text, address);
    for (uint32_t i = 0; i < ret->ips_n; i++) {
        if (strcmp(ret->ips[i], address) == 0) {
            fleet_yaml_complain(reader->doc, at, "%s stands twice", address);
            return false;
        }
    }
    FLEET_COPY(ret->ips[ret->ips_n], address);
    ret->ips_n++;
    *ret_network = network;
    return true;
}

static void read_mac(setdef_reader_t *reader, const char *mac,
                     fleet_address_t *ret) {
    if (mac == NULL) {
        if (ret->ips_n > 0) {
            fleet_mac_default(ret->ips[0], ret->mac);
        }
        return;
    }
    fleet_text_t why;
    if (!fleet_mac_ok(mac, &why)) {
        fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, "mac"), "%s",
                            why);
        return;
    }
    // Lower case, so that equal addresses are equal texts.
    for (size_t i = 0; mac[i] != '\0'; i++) {
        bool upper = mac[i] >= 'A' && mac[i] <= 'F';
        ret->mac[i] = upper ? (char)(mac[i] - 'A' + 'a') : mac[i];
    }
}

static void read_gateway(setdef_reader_t *reader, const char *gateway,
                         const network_t *networks, size_t networks_n,
                         fleet_address_t *ret) {
    if (gateway == NULL) {
        return;
    }
    const char *at = fleet_setdef_at(reader, "gateway");
    uint8_t bytes[16];
    int family = strchr(gateway, ':') == NULL ? AF_INET : AF_INET6;
    if (inet_pton(family, gateway, bytes) != 1) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            reader->doc, at, "\"%.48s\" is no address", gateway);
        FLEET_COPY(complaint->hint, "192.0.2.1, without a prefix length");
        return;
    }
    size_t size = family == AF_INET ? 4 : 16;
    bool link_local =
        size == 16 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
    bool reachable = link_local;
    for (size_t i = 0; i < networks_n; i++) {
        if (networks[i].size == size) {
            reachable = reachable || same_network(&networks[i], bytes);
            if (memcmp(networks[i].bytes, bytes, size) == 0) {
                fleet_yaml_complain(reader->doc, at,
                                    "gateway %s is the set's own address",
                                    gateway);
                return;
            }
        }
    }
    if (!reachable) {
        fleet_yaml_complain(reader->doc, at,
                            "gateway %s is in none of the networks of ip",
                            gateway);
        return;
    }
    inet_ntop(family, bytes, ret->gateway, sizeof(ret->gateway));
}

void fleet_setdef_read_address(setdef_reader_t *reader,
                               const yaml_address_t *yaml,
                               fleet_address_t *ret) {
    network_t networks[FLEET_ADDRESSES_MAX];
    size_t networks_n = 0;
    for (unsigned i = 0; i < yaml->ip_count; i++) {
        if (read_ip(reader, yaml->ip[i], i, ret, &networks[networks_n])) {
            networks_n++;
        }
    }
    read_mac(reader, yaml->mac, ret);
    // A wrong ip was named; a gateway that lacks it need not be.
    if (networks_n == yaml->ip_count) {
        read_gateway(reader, yaml->gateway, networks, networks_n, ret);
    }
}

// ----------------------------------------------------------------------
// service

static void refuse_beside_unit(setdef_reader_t *reader, const char *key,
                               const char *value) {
    if (value != NULL) {
        fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, key),
                            "%s stands beside unit; a unit says that itself",
                            key);
    }
}

static void check_unit(setdef_reader_t *reader, const yaml_service_t *yaml) {
    if (yaml->unit == NULL && yaml->start == NULL) {
        fleet_complaint_t *complaint =
            fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, ""),
                                "service has neither \"start\" nor \"unit\"");
        FLEET_COPY(complaint->hint,
                   "start: a command, or unit: a systemd unit");
    }
    if (yaml->unit == NULL) {
        return;
    }
    refuse_beside_unit(reader, "start", yaml->start);
    refuse_beside_unit(reader, "stop", yaml->stop);
    refuse_beside_unit(reader, "user", yaml->user);
    const char *dot = strrchr(yaml->unit, '.');
    if (dot == NULL || dot == yaml->unit || dot[1] == '\0' ||
        strpbrk(yaml->unit, "/ ") != NULL) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            reader->doc, fleet_setdef_at(reader, "unit"),
            "\"%.80s\" is not the name of a unit", yaml->unit);
        FLEET_COPY(complaint->hint, "nginx.service");
    }
}

// As useradd(8) has it.
static bool is_user_name(const char *user) {
    size_t length = strspn(user, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return user[length] == '\0' && user[0] != '-' && length > 0;
}

static void read_probe(setdef_reader_t *reader, const yaml_probe_t *yaml,
                       fleet_service_t *ret) {
    const fleet_yaml_doc_t *doc = reader->doc;
    if (yaml == NULL) {
        return;
    }
    fleet_yaml_text(doc, fleet_setdef_at(reader, "probe.command"),
                    yaml->command, ret->probe, sizeof(ret->probe));
    ret->probe_every_ms = PROBE_EVERY_MS_DEFAULT;
    fleet_yaml_duration(doc, fleet_setdef_at(reader, "probe.every"),
                        yaml->every, 100, PROBE_MAX_MS, &ret->probe_every_ms);
    ret->probe_limit_ms = FLEET_PROBE_LIMIT_MS_DEFAULT;
    fleet_yaml_duration(doc, fleet_setdef_at(reader, "probe.limit"),
                        yaml->limit, 1, PROBE_MAX_MS, &ret->probe_limit_ms);
}

void fleet_setdef_read_service(setdef_reader_t *reader,
                               const yaml_service_t *yaml,
                               fleet_service_t *ret) {
    const fleet_yaml_doc_t *doc = reader->doc;
    check_unit(reader, yaml);
    fleet_yaml_text(doc, fleet_setdef_at(reader, "start"), yaml->start,
                    ret->start, sizeof(ret->start));
    fleet_yaml_text(doc, fleet_setdef_at(reader, "stop"), yaml->stop, ret->stop,
                    sizeof(ret->stop));
    fleet_yaml_text(doc, fleet_setdef_at(reader, "test"), yaml->test, ret->test,
                    sizeof(ret->test));
    fleet_yaml_text(doc, fleet_setdef_at(reader, "unit"), yaml->unit, ret->unit,
                    sizeof(ret->unit));
    const char *at = fleet_setdef_at(reader, "user");
    if (fleet_yaml_text(doc, at, yaml->user, ret->user, sizeof(ret->user)) &&
        yaml->user != NULL && !is_user_name(yaml->user)) {
        fleet_yaml_complain(doc, at, "\"%.40s\" is not a user's name",
                            yaml->user);
    }
    read_probe(reader, yaml->probe, ret);
}
