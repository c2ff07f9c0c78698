/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP segments in frames of Ethernet (plain or with one 802.1Q tag), over IPv4 and IPv6. Frames come from outside: whatever does not hold is no
 * segment. Fragments and IPv6 with extension headers are none either. */
#ifndef FUT_FLOW_FRAME_H
#define FUT_FLOW_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    FUT_END_GUEST,
    FUT_END_PEER
} FutEnd;

#define FUT_FLOW_UNTAGGED 0xffff

/* A connection; by FutEnd. All bytes are set, so that flows compare with memcmp(). */
typedef struct {
    uint8_t address[2][16]; /* network order; of IPv4 the first four, then zeroes */
    uint16_t port[2];
    uint16_t nic;   /* number */
    uint16_t tag;   /* 802.1Q tag control information, or FUT_FLOW_UNTAGGED */
    uint8_t family; /* 4, 6 */
    uint8_t reserved;
} FutFlowKey;
_Static_assert(sizeof(FutFlowKey) == 42, "no padding: compared and hashed as bytes");

typedef struct {
    FutFlowKey key;
    uint8_t mac[2][6];
} FutFlow;

enum {
    FUT_TCP_FIN = 1,
    FUT_TCP_SYN = 2,
    FUT_TCP_RST = 4,
    FUT_TCP_PSH = 8,
    FUT_TCP_ACK = 16
};

typedef struct {
    uint32_t seq, ack;
    uint32_t length; /* of the payload */
    uint8_t flags;
} FutSegment;

/* As much of a frame as a look at it needs. */
#define FUT_FLOW_LOOK (14 + 4 + 60 + 20)
/* What is built fits. */
#define FUT_FLOW_FRAME_MAX (14 + 4 + 40 + 20)

/* `frame`: the first MIN(whole, FUT_FLOW_LOOK) bytes of a frame of `whole` that `from` sends. False: no TCP segment; nothing is set then. */
bool fut_flow_parse(const uint8_t *frame, size_t whole, uint16_t nic, FutEnd from, FutFlow *ret,
                    FutSegment *ret_segment);
/* A frame with a segment without payload, from that end to the other. Returns its length. */
size_t fut_flow_build(const FutFlow *flow, FutEnd from, const FutSegment *segment,
                      uint8_t ret[FUT_FLOW_FRAME_MAX]);

#endif
