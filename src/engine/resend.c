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

static void drop_parts(FutKept *kept, unsigned count)
{
    size_t length = 0;

    for (unsigned i = 0; i < count; i++) {
        length += kept->part[i].length;
    }
    kept->count -= count;
    kept->records.len -= length;
    memmove(kept->part, kept->part + count, kept->count * sizeof(kept->part[0]));
    if (kept->records.len > 0) {
        memmove(kept->records.data, kept->records.data + length, kept->records.len);
    }
}

void fut_kept_add(FutKept *kept, uint64_t epoch, const uint8_t *records, size_t length)
{
    g_assert(kept->count == 0 || kept->part[kept->count - 1].epoch < epoch);
    if (length == 0) {
        return;
    }
    if (kept->count == FUT_KEPT_MAX) {
        drop_parts(kept, 1);
    }
    fut_buf_append(&kept->records, records, length);
    kept->part[kept->count].epoch = epoch;
    kept->part[kept->count++].length = length;
}

void fut_kept_drop(FutKept *kept, uint64_t upto)
{
    unsigned count = 0;

    while (count < kept->count && kept->part[count].epoch <= upto) {
        count++;
    }
    if (count > 0) {
        drop_parts(kept, count);
    }
}

void fut_kept_clear(FutKept *kept)
{
    fut_buf_clear(&kept->records);
    kept->count = 0;
}

void fut_kept_done(FutKept *kept)
{
    fut_buf_done(&kept->records);
    kept->count = 0;
}
