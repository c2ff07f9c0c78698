/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Outputs inside a checkpoint: written by the primary, sent again by a twin. */
#include "resend.h"

#include <sys/uio.h>

#include "byteorder.h"
#include "fut_error.h"
#include "outputs.h"

bool fut_resend_put(FutBuf *out, size_t used, const FutPacket *packet)
{
    if (packet->length > FUT_RESEND_MAX ||
        used + FUT_RESEND_HEAD + packet->length > FUT_RESEND_MAX) {
        return false;
    }
    uint8_t *at = fut_buf_extend(out, FUT_RESEND_HEAD + packet->length);
    fut_put_le32(at, packet->length);
    fut_put_le32(at + 4, packet->nic);
    fut_put_le32(at + 8, packet->flags);
    memcpy(at + FUT_RESEND_HEAD, packet->data, packet->length);
    return true;
}

bool fut_resend_check(const uint8_t *records, size_t length, GError **error)
{
    size_t at = 0;

    while (length <= FUT_RESEND_MAX && length - at >= FUT_RESEND_HEAD &&
           fut_get_le32(records + at) <= length - at - FUT_RESEND_HEAD) {
        at += FUT_RESEND_HEAD + fut_get_le32(records + at);
    }
    if (at != length) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "bad outputs in a checkpoint (%zu bytes)",
                    length);
        return false;
    }
    return true;
}

FutPacket *fut_resend_packets(const uint8_t *records, size_t length)
{
    FutPacketList list = { .max_bytes = UINT64_MAX };

    for (size_t at = 0; at < length;) {
        uint32_t bytes = fut_get_le32(records + at);
        struct iovec iov = { (void *)(records + at + FUT_RESEND_HEAD), bytes };
        FutPacket *packet = fut_packet_new(0, fut_get_le32(records + at + 4),
                                           fut_get_le32(records + at + 8), &iov, 1);
        g_assert(fut_packets_append(&list, packet));
        at += FUT_RESEND_HEAD + bytes;
    }
    return list.first;
}
