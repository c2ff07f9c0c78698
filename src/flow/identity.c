/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "identity.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "fut_error.h"

enum {
    ETHER = 14,
    TAG = 4,
    IPV4 = 20,
    ARP = 28
};

/* -- the text -- */

static bool parse_mac(const char *text, uint8_t ret[6])
{
    unsigned part[6];
    int end = 0;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &part[0], &part[1], &part[2], &part[3], &part[4],
               &part[5], &end) != 6 ||
        text[end] || end != 17 || part[0] & 1) {
        return false;
    }
    for (unsigned i = 0; i < 6; i++) {
        ret[i] = (uint8_t)part[i];
    }
    return true;
}

static bool known(const FutIdentity *identity, const uint8_t pair[2][4])
{
    for (unsigned i = 0; i < identity->count; i++) {
        if (memcmp(identity->address[i][0], pair[0], 4) == 0 ||
            memcmp(identity->address[i][1], pair[1], 4) == 0) {
            return true;
        }
    }
    return false;
}

static bool parse_pair(FutIdentity *identity, const char *text)
{
    g_auto(GStrv) sides = g_strsplit(text, "=", 2);
    uint8_t pair[2][4];

    if (!sides[0] || !sides[1] || inet_pton(AF_INET, sides[0], pair[0]) != 1 ||
        inet_pton(AF_INET, sides[1], pair[1]) != 1 ||
        identity->count == FUT_IDENTITY_ADDRESSES_MAX || known(identity, pair)) {
        return false;
    }
    memcpy(identity->address[identity->count++], pair, sizeof(pair));
    return true;
}

bool fut_identity_parse(const char *text, FutIdentity *ret, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, ",", FUT_IDENTITY_ADDRESSES_MAX + 2);
    FutIdentity identity = *ret;
    bool good = words[0] && parse_mac(words[0], identity.mac[1]);

    identity.count = 0;
    for (unsigned i = 1; good && words[i]; i++) {
        good = parse_pair(&identity, words[i]);
    }
    if (!good) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "'%s': must be a hardware address, and at most %u pairs OLD=NEW of different "
                    "IPv4 addresses, as in 52:54:00:12:34:56,10.0.0.5=10.0.0.6",
                    text, FUT_IDENTITY_ADDRESSES_MAX);
        return false;
    }
    *ret = identity;
    return true;
}

/* -- addresses -- */

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void change_mac(const FutIdentity *identity, FutEnd from, uint8_t *at)
{
    unsigned is = from == FUT_END_GUEST ? 0 : 1;

    if (memcmp(at, identity->mac[is], 6) == 0) {
        memcpy(at, identity->mac[!is], 6);
    }
}

/* What is to stand there instead; NULL: it stays. */
static const uint8_t *other(const FutIdentity *identity, FutEnd from, const uint8_t *at)
{
    unsigned is = from == FUT_END_GUEST ? 0 : 1;

    for (unsigned i = 0; i < identity->count; i++) {
        if (memcmp(at, identity->address[i][is], 4) == 0) {
            return identity->address[i][!is];
        }
    }
    return NULL;
}

/* It is for the guest's own address, which is somebody else's now. */
static bool is_for_another(const FutIdentity *identity, const uint8_t *at)
{
    return other(identity, FUT_END_GUEST, at) && !other(identity, FUT_END_PEER, at);
}

/* -- checksums -- */

/* RFC 1624, equation 3; of a sum that is yet to be completed, which is not inverted. */
static void adjust(uint8_t *at, const uint8_t *old, const uint8_t *new, bool inverted)
{
    uint32_t sum = inverted ? (uint16_t)~get16(at) : get16(at);

    for (unsigned i = 0; i < 4; i += 2) {
        sum += (uint16_t)~get16(old + i);
        sum += get16(new + i);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = inverted ? ~sum : sum;
    at[0] = (uint8_t)(sum >> 8);
    at[1] = (uint8_t)sum;
}

/* Where TCP or UDP have theirs; NULL: they have none, or not here. */
static uint8_t *transport_sum(uint8_t *ip, size_t length)
{
    size_t head = (ip[0] & 15) * 4u;
    size_t at = head + (ip[9] == 6 ? 16 : 6);

    if ((ip[9] != 6 && ip[9] != 17) || (get16(ip + 6) & 0x1fff) || length < at + 2) {
        return NULL;
    }
    return ip[9] == 17 && get16(ip + at) == 0 ? NULL : ip + at;
}

/* -- protocols -- */

static void change_address(const FutIdentity *identity, FutEnd from, uint8_t *ip, size_t length,
                           uint8_t *at, bool partial)
{
    const uint8_t *new = other(identity, from, at);
    uint8_t *sum = transport_sum(ip, length);

    if (!new) {
        return;
    }
    adjust(ip + 10, at, new, true);
    if (sum) {
        adjust(sum, at, new, !partial);
        if (ip[9] == 17 && !partial && get16(sum) == 0) {
            memset(sum, 0xff, 2); /* a zero would say that there is none */
        }
    }
    memcpy(at, new, 4);
}

static bool change_ipv4(const FutIdentity *identity, FutEnd from, uint8_t *ip, size_t length,
                        bool partial)
{
    if (length < IPV4 || ip[0] >> 4 != 4 || (ip[0] & 15) < 5) {
        return false;
    }
    if (from == FUT_END_PEER && is_for_another(identity, ip + 16)) {
        return false;
    }
    change_address(identity, from, ip, length, ip + (from == FUT_END_GUEST ? 12 : 16), partial);
    return true;
}

static void change_arp_address(const FutIdentity *identity, FutEnd from, uint8_t *at)
{
    const uint8_t *new = other(identity, from, at);

    if (new) {
        memcpy(at, new, 4);
    }
}

/* ARP and RARP: sender and target, each a hardware address and one of IPv4. */
static bool change_arp(const FutIdentity *identity, FutEnd from, uint8_t *arp, size_t length)
{
    static const uint8_t ether_ipv4[] = { 0, 1, 8, 0, 6, 4 };

    if (length < ARP || memcmp(arp, ether_ipv4, sizeof(ether_ipv4)) != 0) {
        return false;
    }
    if (from == FUT_END_PEER && is_for_another(identity, arp + 24)) {
        return false;
    }
    change_mac(identity, from, arp + 18);
    if (from == FUT_END_GUEST) {
        change_mac(identity, from, arp + 8);
        change_arp_address(identity, from, arp + 14);
        if (other(identity, from, arp + 24)) { /* tells of itself */
            change_arp_address(identity, from, arp + 24);
        }
    } else {
        change_arp_address(identity, from, arp + 24);
    }
    return true;
}

bool fut_identity_change(const FutIdentity *identity, FutEnd from, uint8_t *frame, size_t length,
                         bool partial)
{
    size_t at = ETHER;

    if (length < ETHER || (from == FUT_END_PEER && memcmp(frame, identity->mac[0], 6) == 0)) {
        return false;
    }
    change_mac(identity, from, frame + (from == FUT_END_GUEST ? 6 : 0));
    if (get16(frame + 12) == 0x8100 && length >= ETHER + TAG) {
        at += TAG;
    }
    switch (get16(frame + at - 2)) {
    case 0x0800:
        return change_ipv4(identity, from, frame + at, length - at, partial);
    case 0x0806:
    case 0x8035:
        return change_arp(identity, from, frame + at, length - at);
    case 0x86dd:
        return false;
    default:
        return true;
    }
}
