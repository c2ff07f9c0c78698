/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PACKED: compressing and decompressing a message's body. */
#include "wire_packed.h"

#include <lz4.h>
#include <zstd.h>

#include "byteorder.h"
#include "fut_error.h"
#include "wire.h"

/* The fastest of Zstandard's ordinary levels. */
#define ZSTD_LEVEL 1

const char *fut_pack_kind_name(FutPackKind kind)
{
    static const char *const names[FUT_PACK_KINDS] = { "none", "lz4", "zstd" };
    return names[kind];
}

bool fut_pack_allowed(uint16_t type)
{
    return type == FUT_MSG_PAGES || type == FUT_MSG_EPOCH_PART || type == FUT_MSG_CHECKPOINT ||
           type == FUT_MSG_DISK;
}

/* Length of what was written to `at`; 0 when it does not fit into `room`. */
static size_t compress_body(FutPackKind kind, uint8_t *at, size_t room, const uint8_t *body,
                            size_t length)
{
    if (kind == FUT_PACK_LZ4) {
        int packed = LZ4_compress_default((const char *)body, (char *)at, (int)length, (int)room);
        return packed > 0 ? (size_t)packed : 0;
    }
    size_t packed = ZSTD_compress(at, room, body, length, ZSTD_LEVEL);
    return ZSTD_isError(packed) ? 0 : packed;
}

bool fut_pack(FutBuf *out, FutPackKind kind, uint16_t type, uint16_t flags, const uint8_t *body,
              size_t length)
{
    g_assert(kind != FUT_PACK_NONE && fut_pack_allowed(type) && length <= fut_wire_cap(type));
    size_t before = out->len, room = length - length / 8;
    if (room <= FUT_PACKED_HEAD_SIZE) {
        return false;
    }
    uint8_t *at = fut_buf_extend(out, room);
    size_t packed =
        compress_body(kind, at + FUT_PACKED_HEAD_SIZE, room - FUT_PACKED_HEAD_SIZE, body, length);
    if (packed == 0) {
        out->len = before;
        return false;
    }
    fut_put_le16(at, type);
    fut_put_le16(at + 2, flags);
    fut_put_le32(at + 4, (uint32_t)length);
    fut_put_le32(at + 8, kind);
    fut_put_le32(at + 12, 0);
    out->len = before + FUT_PACKED_HEAD_SIZE + packed;
    return true;
}

/* Did exactly `length` bytes come out? Both decoders stop at the end of their output. */
static bool decompress_body(FutPackKind kind, uint8_t *at, size_t length, const uint8_t *packed,
                            size_t packed_length)
{
    if (kind == FUT_PACK_LZ4) {
        return LZ4_decompress_safe((const char *)packed, (char *)at, (int)packed_length,
                                   (int)length) == (int)length;
    }
    return ZSTD_decompress(at, length, packed, packed_length) == length;
}

static const char *fault_of(const FutFrame *head, uint32_t kind, uint32_t reserved, size_t packed)
{
    if (!fut_pack_allowed(head->type)) {
        return "holds a message that must not be packed";
    }
    if (head->length > fut_wire_cap(head->type)) {
        return "announces more than such a message may have";
    }
    if (packed == 0 || packed >= head->length) {
        return "is not shorter than what it holds";
    }
    if (kind != FUT_PACK_LZ4 && kind != FUT_PACK_ZSTD) {
        return "is of unknown kind";
    }
    return reserved != 0 ? "has a reserved field that is not 0" : NULL;
}

bool fut_unpack(FutBuf *out, FutFrame *frame, GError **error)
{
    FutFrame whole = *frame;
    const char *fault = "is cut off";
    fut_buf_clear(out);
    if (frame->length >= FUT_PACKED_HEAD_SIZE) {
        const uint8_t *packed = frame->body + FUT_PACKED_HEAD_SIZE;
        size_t length = frame->length - FUT_PACKED_HEAD_SIZE;
        uint32_t kind = fut_get_le32(frame->body + 8);
        whole.type = fut_get_le16(frame->body);
        whole.flags = fut_get_le16(frame->body + 2);
        whole.length = fut_get_le32(frame->body + 4);
        fault = fault_of(&whole, kind, fut_get_le32(frame->body + 12), length);
        if (!fault) {
            whole.body = fut_buf_extend(out, whole.length);
            if (!decompress_body((FutPackKind)kind, out->data, whole.length, packed, length)) {
                fault = "does not unpack to the length it announces";
            }
        }
    }
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "packed message from the peer %s", fault);
        return false;
    }
    *frame = whole;
    return true;
}
