// SPDX-License-Identifier: MIT
//
// Frames of RFC 903 (RARP), RFC 826 with RFC 5227 section 3 (gratuitous ARP in
// both forms: a receiver may honour only one) and RFC 4861 section 7.2.6
// (unsolicited neighbour advertisement).

#include "node/agents/announce.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "node/agents/detach.h"

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define RARP_REQUEST 3
#define NEXT_ICMPV6 58
#define NEIGHBOUR_ADVERTISEMENT 136
#define FLAG_OVERRIDE 0x20
#define OPTION_TARGET_ADDRESS 2

// Waits between the rounds after the first, in the manner of a hypervisor that
// moved a guest (50 ms, then longer each time).
static const long REPEAT_AFTER_MS[] = {50, 150, 300, 500};

typedef struct writer {
    uint8_t *bytes;
    size_t n;
} writer_t;

static void put(writer_t *to, const void *bytes, size_t n) {
    memcpy(to->bytes + to->n, bytes, n);
    to->n += n;
}

static void put_8(writer_t *to, uint8_t value) {
    put(to, &value, 1);
}

static void put_16(writer_t *to, uint16_t value) {
    uint16_t wire = htons(value);
    put(to, &wire, sizeof wire);
}

static void put_zeros(writer_t *to, size_t n) {
    memset(to->bytes + to->n, 0, n);
    to->n += n;
}

static void put_ethernet(writer_t *to, const uint8_t *destination,
                         const net_mac_t *source, uint16_t type) {
    put(to, destination, ETH_ALEN);
    put(to, source->bytes, ETH_ALEN);
    put_16(to, type);
}

static const uint8_t EVERYBODY[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void put_arp_head(writer_t *to, uint16_t operation) {
    put_16(to, ARP_ETHERNET);
    put_16(to, ETH_P_IP);
    put_8(to, ETH_ALEN);
    put_8(to, 4);
    put_16(to, operation);
}

static size_t padded(writer_t *to) {
    if (to->n < ETH_ZLEN) {
        put_zeros(to, ETH_ZLEN - to->n);
    }
    return to->n;
}

size_t announce_rarp(const net_mac_t *mac, uint8_t frame[ANNOUNCE_FRAME_MAX]) {
    writer_t to = {.bytes = frame};
    put_ethernet(&to, EVERYBODY, mac, ETH_P_RARP);
    put_arp_head(&to, RARP_REQUEST);
    put(&to, mac->bytes, ETH_ALEN);
    put_zeros(&to, 4);
    put(&to, mac->bytes, ETH_ALEN);
    put_zeros(&to, 4);
    return padded(&to);
}

size_t announce_arp(const net_mac_t *mac, const net_ip_t *ip, bool reply,
                    uint8_t frame[ANNOUNCE_FRAME_MAX]) {
    writer_t to = {.bytes = frame};
    put_ethernet(&to, EVERYBODY, mac, ETH_P_ARP);
    put_arp_head(&to, reply ? ARP_REPLY : ARP_REQUEST);
    put(&to, mac->bytes, ETH_ALEN);
    put(&to, ip->bytes, 4);
    if (reply) {
        put(&to, EVERYBODY, ETH_ALEN);
    } else {
        put_zeros(&to, ETH_ALEN);
    }
    put(&to, ip->bytes, 4);
    return padded(&to);
}

// RFC 1071, over the pseudo header of RFC 8200 section 8.1.
static uint16_t checksum(const uint8_t *from, const uint8_t *to,
                         const uint8_t *body, uint16_t body_n) {
    uint32_t sum = (uint32_t)body_n + NEXT_ICMPV6;
    for (size_t i = 0; i < 16; i += 2) {
        sum += (uint32_t)(from[i] << 8 | from[i + 1]);
        sum += (uint32_t)(to[i] << 8 | to[i + 1]);
    }
    for (size_t i = 0; i < body_n; i += 2) {
        sum += (uint32_t)(body[i] << 8 | body[i + 1]);
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

size_t announce_na(const net_mac_t *mac, const net_ip_t *ip,
                   uint8_t frame[ANNOUNCE_FRAME_MAX]) {
    static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};
    static const uint8_t all_nodes_mac[ETH_ALEN] = {0x33, 0x33, 0, 0, 0, 1};
    const uint16_t body_n = 24 + 8;
    writer_t to = {.bytes = frame};

    put_ethernet(&to, all_nodes_mac, mac, ETH_P_IPV6);
    put_8(&to, 6 << 4);
    put_zeros(&to, 3);
    put_16(&to, body_n);
    put_8(&to, NEXT_ICMPV6);
    put_8(&to, 255); // receivers drop it with any other hop limit
    put(&to, ip->bytes, 16);
    put(&to, all_nodes, 16);
    size_t body = to.n;
    put_8(&to, NEIGHBOUR_ADVERTISEMENT);
    put_8(&to, 0);
    put_16(&to, 0);
    put_8(&to, FLAG_OVERRIDE);
    put_zeros(&to, 3);
    put(&to, ip->bytes, 16);
    put_8(&to, OPTION_TARGET_ADDRESS);
    put_8(&to, 1);
    put(&to, mac->bytes, ETH_ALEN);
    uint16_t sum = htons(checksum(ip->bytes, all_nodes, frame + body, body_n));
    memcpy(frame + body + 2, &sum, sizeof sum);
    return to.n;
}

// The kernel writes the Ethernet header anew (a datagram socket), with the MAC
// address that the link has at that moment: a round that comes late on a
// physical interface which was given back does not send from the set's address.
static void send_frame(int fd, int index, const uint8_t *frame, size_t n,
                       int *err) {
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_ifindex = index, .sll_halen = ETH_ALEN};
    memcpy(to.sll_addr, frame, ETH_ALEN);
    memcpy(&to.sll_protocol, frame + 12L, sizeof to.sll_protocol);
    if (sendto(fd, frame + ETH_HLEN, n - ETH_HLEN, 0,
               (const struct sockaddr *)&to, sizeof to) < 0) {
        *err = errno;
    }
}

static int send_round(int fd, int index, const net_mac_t *mac,
                      const net_ip_t *ips, uint32_t ips_n) {
    uint8_t frame[ANNOUNCE_FRAME_MAX];
    int err = 0;
    send_frame(fd, index, frame, announce_rarp(mac, frame), &err);
    for (uint32_t i = 0; i < ips_n; i++) {
        if (ips[i].family == AF_INET) {
            send_frame(fd, index, frame,
                       announce_arp(mac, &ips[i], false, frame), &err);
            send_frame(fd, index, frame,
                       announce_arp(mac, &ips[i], true, frame), &err);
        } else {
            send_frame(fd, index, frame, announce_na(mac, &ips[i], frame),
                       &err);
        }
    }
    return err;
}

int announce_once(int index, const net_mac_t *mac, const net_ip_t *ips,
                  uint32_t ips_n) {
    // Protocol 0: it is only written to, nothing is delivered to it.
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    int err = send_round(fd, index, mac, ips, ips_n);
    (void)close(fd);
    return err;
}

static bool still_ours(net_t *net, int index, const net_mac_t *mac,
                       const net_ip_t *ips, uint32_t ips_n) {
    static net_address_t there[NET_ADDRESSES_MAX];
    net_link_t link;
    uint32_t n = 0;
    if (net_link_read(net, index, &link) != 0 || !link.up ||
        !net_mac_equal(&link.mac, mac) ||
        net_addresses(net, index, there, NET_ADDRESSES_MAX, &n) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < ips_n; i++) {
        bool found = false;
        for (uint32_t j = 0; j < n && !found; j++) {
            found = net_ip_equal(&there[j].ip, &ips[i]);
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static void repeat(int index, const net_mac_t *mac, const net_ip_t *ips,
                   uint32_t ips_n) {
    net_t *net = net_open();
    size_t rounds = sizeof REPEAT_AFTER_MS / sizeof REPEAT_AFTER_MS[0];
    for (size_t i = 0; net != NULL && i < rounds; i++) {
        struct timespec wait = {.tv_nsec = REPEAT_AFTER_MS[i] * 1000000};
        (void)nanosleep(&wait, NULL);
        // Between this question and the frame the link may still go: then it is
        // down, and the kernel sends nothing.
        if (!still_ours(net, index, mac, ips, ips_n)) {
            break;
        }
        (void)announce_once(index, mac, ips, ips_n);
    }
    net_close(&net);
}

int announce_repeat(int index, const net_mac_t *mac, const net_ip_t *ips,
                    uint32_t ips_n) {
    int err = 0;
    if (detach(&err)) {
        repeat(index, mac, ips, ips_n);
        _exit(0);
    }
    return err;
}
