/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames: writing a header. */
#include "frame.h"

#include <xxhash.h>

#include "byteorder.h"
#include "frame_internal.h"

uint32_t fut_frame_head_hash(const uint8_t *header)
{
    return (uint32_t)XXH3_64bits(header, FRAME_AT_HEAD_HASH);
}

uint64_t fut_frame_body_hash(const void *body, uint32_t length)
{
    return XXH3_64bits(length ? body : "", length);
}

void fut_frame_header_encode(uint8_t *at, uint16_t type, uint16_t flags, uint32_t session,
                             uint64_t sequence, const void *body, uint32_t length)
{
    fut_put_le32(at + FRAME_AT_MAGIC, FUT_FRAME_MAGIC);
    fut_put_le16(at + FRAME_AT_TYPE, type);
    fut_put_le16(at + FRAME_AT_FLAGS, flags);
    fut_put_le32(at + FRAME_AT_LENGTH, length);
    fut_put_le32(at + FRAME_AT_SESSION, session);
    fut_put_le64(at + FRAME_AT_SEQUENCE, sequence);
    fut_put_le64(at + FRAME_AT_BODY_HASH, fut_frame_body_hash(body, length));
    fut_put_le32(at + FRAME_AT_RESERVED, 0);
    fut_put_le32(at + FRAME_AT_HEAD_HASH, fut_frame_head_hash(at));
}
