/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets waiting for something: an ordered list with a byte cap. */
#include "outputs.h"

#include <string.h>
#include <sys/uio.h>

FutPacket *fut_packet_new(uint64_t epoch, uint32_t nic, uint32_t flags, const struct iovec *iov,
                          int count)
{
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += iov[i].iov_len;
    }
    g_assert(length <= UINT32_MAX);
    FutPacket *packet = g_malloc(sizeof(*packet) + length);
    *packet = (FutPacket){ .epoch = epoch, .nic = nic, .flags = flags, .length = (uint32_t)length };
    uint8_t *at = packet->data;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0) {
            memcpy(at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
    }
    return packet;
}

bool fut_packets_append(FutPacketList *list, FutPacket *take_packet)
{
    if (list->bytes + take_packet->length > list->max_bytes) {
        return false;
    }
    if (list->last) {
        list->last->next = take_packet;
    } else {
        list->first = take_packet;
    }
    list->last = take_packet;
    list->count++;
    list->bytes += take_packet->length;
    return true;
}

FutPacket *fut_packets_take(FutPacketList *list, uint64_t upto)
{
    FutPacket *head = list->first, *tail = NULL;
    for (FutPacket *p = head; p && p->epoch <= upto; p = p->next) {
        list->count--;
        list->bytes -= p->length;
        tail = p;
    }
    if (!tail) {
        return NULL;
    }
    list->first = tail->next;
    if (!list->first) {
        list->last = NULL;
    }
    tail->next = NULL;
    return head;
}

void fut_packets_free(FutPacket *take_first)
{
    while (take_first) {
        FutPacket *next = take_first->next;
        g_free(take_first);
        take_first = next;
    }
}

void fut_packets_clear(FutPacketList *list)
{
    fut_packets_free(fut_packets_take(list, UINT64_MAX));
}
