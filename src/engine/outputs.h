/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets waiting for something: an ordered list with a byte cap. Used for held outputs (primary) and for the log of inbound
 * packets (backup). Not locked: the engine's lock covers it. */
#ifndef FUT_OUTPUTS_H
#define FUT_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm.h"

struct iovec;

typedef struct {
    FutPacket *first, *last; /* owned */
    uint64_t count, bytes;
    uint64_t max_bytes;
} FutPacketList;

/* Copies a packet out of its pieces. Caller frees with g_free(). */
FutPacket *fut_packet_new(uint64_t epoch, uint32_t nic, uint32_t flags, const struct iovec *iov,
                          int count);
/* Appends unless the cap would be passed (then false and the packet stays the caller's). */
bool fut_packets_append(FutPacketList *list, FutPacket *take_packet);
/* Cuts off the head of the list: all packets with epoch <= upto. The caller owns what is returned. */
FutPacket *fut_packets_take(FutPacketList *list, uint64_t upto);
void fut_packets_free(FutPacket *take_first);
void fut_packets_clear(FutPacketList *list);

#endif
