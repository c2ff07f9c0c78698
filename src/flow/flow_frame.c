/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_frame.h"

#include <glib.h>
#include <string.h>

/* Network order, throughout this file. */
enum {
    ETHER = 14,
    TAG = 4,
    TYPE_IPV4 = 0x0800,
    TYPE_IPV6 = 0x86dd,
    TYPE_TAG = 0x8100,
    PROTOCOL_TCP = 6,
    IPV6 = 40,
    TCP = 20
};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

/* -- looking -- */

/* What is left of a frame; `seen` of its `whole` bytes are there. */
typedef struct {
    const uint8_t *at;
    size_t seen, whole;
} Rest;

static void skip(Rest *rest, size_t bytes)
{
    rest->at += bytes;
    rest->seen -= bytes;
    rest->whole -= bytes;
}

static bool take_ether(Rest *rest, FutEnd from, FutFlow *flow, uint16_t *ret_type)
{
    if (rest->seen < ETHER) {
        return false;
    }
    memcpy(flow->mac[!from], rest->at, 6);
    memcpy(flow->mac[from], rest->at + 6, 6);
    *ret_type = get16(rest->at + 12);
    flow->key.tag = FUT_FLOW_UNTAGGED;
    skip(rest, ETHER);
    if (*ret_type == TYPE_TAG) {
        if (rest->seen < TAG) {
            return false;
        }
        flow->key.tag = get16(rest->at) & 0xfff; /* the priority may differ by way */
        *ret_type = get16(rest->at + 2);
        skip(rest, TAG);
    }
    return true;
}

/* A short frame is padded; one that is yet to be cut up may have no length. */
static void cut_to(Rest *rest, size_t length)
{
    if (length > 0 && length < rest->whole) {
        rest->whole = length;
        rest->seen = MIN(rest->seen, length);
    }
}

static bool take_ipv4(Rest *rest, FutEnd from, FutFlow *flow)
{
    size_t head = rest->seen >= 20 ? (rest->at[0] & 15) * 4u : 0;

    if (head < 20 || rest->seen < head || rest->at[0] >> 4 != 4 || rest->at[9] != PROTOCOL_TCP ||
        (get16(rest->at + 6) & 0x3fff)) {
        return false;
    }
    flow->key.family = 4;
    memcpy(flow->key.address[from], rest->at + 12, 4);
    memcpy(flow->key.address[!from], rest->at + 16, 4);
    cut_to(rest, get16(rest->at + 2));
    if (rest->seen < head) {
        return false;
    }
    skip(rest, head);
    return true;
}

static bool take_ipv6(Rest *rest, FutEnd from, FutFlow *flow)
{
    if (rest->seen < IPV6 || rest->at[0] >> 4 != 6 || rest->at[6] != PROTOCOL_TCP) {
        return false;
    }
    size_t length = get16(rest->at + 4);
    flow->key.family = 6;
    memcpy(flow->key.address[from], rest->at + 8, 16);
    memcpy(flow->key.address[!from], rest->at + 24, 16);
    skip(rest, IPV6);
    cut_to(rest, length);
    return true;
}

static bool take_tcp(Rest *rest, FutEnd from, FutFlow *flow, FutSegment *segment)
{
    size_t head = rest->seen >= TCP ? (rest->at[12] >> 4) * 4u : 0;

    if (head < TCP || rest->whole < head) {
        return false;
    }
    flow->key.port[from] = get16(rest->at);
    flow->key.port[!from] = get16(rest->at + 2);
    *segment = (FutSegment){ .seq = get32(rest->at + 4),
                             .ack = get32(rest->at + 8),
                             .length = (uint32_t)(rest->whole - head),
                             .flags = rest->at[13] };
    return true;
}

bool fut_flow_parse(const uint8_t *frame, size_t whole, uint16_t nic, FutEnd from, FutFlow *ret,
                    FutSegment *ret_segment)
{
    Rest rest = { frame, MIN(whole, FUT_FLOW_LOOK), MIN(whole, UINT32_MAX) };
    FutFlow flow = { .key = { .nic = nic } };
    FutSegment segment;
    uint16_t type;

    if (!take_ether(&rest, from, &flow, &type) ||
        !(type == TYPE_IPV4   ? take_ipv4(&rest, from, &flow)
          : type == TYPE_IPV6 ? take_ipv6(&rest, from, &flow)
                              : false) ||
        !take_tcp(&rest, from, &flow, &segment)) {
        return false;
    }
    *ret = flow;
    *ret_segment = segment;
    return true;
}

/* -- building -- */

static uint32_t sum(const uint8_t *bytes, size_t length, uint32_t so_far)
{
    for (size_t i = 0; i < length; i += 2) {
        so_far += get16(bytes + i);
    }
    return so_far;
}

static uint32_t folded(uint32_t sum32)
{
    sum32 = (sum32 & 0xffff) + (sum32 >> 16);
    sum32 = (sum32 & 0xffff) + (sum32 >> 16);
    return ~sum32 & 0xffff;
}

static size_t put_ether(const FutFlow *flow, FutEnd from, uint8_t *at)
{
    size_t length = ETHER;

    memcpy(at, flow->mac[!from], 6);
    memcpy(at + 6, flow->mac[from], 6);
    if (flow->key.tag != FUT_FLOW_UNTAGGED) {
        put16(at + 12, TYPE_TAG);
        put16(at + 14, flow->key.tag);
        length += TAG;
    }
    put16(at + length - 2, flow->key.family == 4 ? TYPE_IPV4 : TYPE_IPV6);
    return length;
}

static size_t put_ip(const FutFlow *flow, FutEnd from, uint8_t *at)
{
    size_t width = flow->key.family == 4 ? 4 : 16, head = flow->key.family == 4 ? 20 : IPV6;
    uint8_t *addresses = at + head - 2 * width;

    memset(at, 0, head);
    memcpy(addresses, flow->key.address[from], width);
    memcpy(addresses + width, flow->key.address[!from], width);
    if (flow->key.family == 4) {
        at[0] = 0x45;
        put16(at + 2, (uint32_t)head + TCP);
        put16(at + 6, 0x4000); /* not to be cut up */
        at[8] = 64;
        at[9] = PROTOCOL_TCP;
        put16(at + 10, folded(sum(at, head, 0)));
    } else {
        at[0] = 0x60;
        put16(at + 4, TCP);
        at[6] = PROTOCOL_TCP;
        at[7] = 64;
    }
    return head;
}

size_t fut_flow_build(const FutFlow *flow, FutEnd from, const FutSegment *segment,
                      uint8_t ret[FUT_FLOW_FRAME_MAX])
{
    size_t width = flow->key.family == 4 ? 4 : 16;
    size_t at = put_ether(flow, from, ret);
    at += put_ip(flow, from, ret + at);
    uint8_t *tcp = ret + at;

    memset(tcp, 0, TCP);
    put16(tcp, flow->key.port[from]);
    put16(tcp + 2, flow->key.port[!from]);
    put32(tcp + 4, segment->seq);
    put32(tcp + 8, segment->ack);
    tcp[12] = TCP / 4 << 4;
    tcp[13] = segment->flags;
    put16(tcp + 14, segment->flags & FUT_TCP_RST ? 0 : 1024);
    uint32_t pseudo = sum(tcp - 2 * width, 2 * width, PROTOCOL_TCP + TCP);
    put16(tcp + 16, folded(sum(tcp, TCP, pseudo)));
    return at + TCP;
}
