/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: what fut_unpack() accepts is a message of a type that may be packed, no longer than that type's cap, and packs and
 * unpacks again to the same bytes; all else is an error. Input: the body of a PACKED. */
#include <string.h>

#include "fuzz.h"
#include "wire.h"
#include "wire_packed.h"

static void pack_again(const FutFrame *frame, FutPackKind kind)
{
    FutBuf packed = { 0 }, out = { 0 };

    if (fut_pack(&packed, kind, frame->type, frame->flags, frame->body, frame->length)) {
        FutFrame again = { .length = (uint32_t)packed.len, .body = packed.data };
        g_assert(fut_unpack(&out, &again, NULL));
        g_assert(again.type == frame->type && again.flags == frame->flags);
        g_assert(again.length == frame->length);
        g_assert(memcmp(again.body, frame->body, frame->length) == 0);
    }
    fut_buf_done(&packed);
    fut_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FutFrame frame = { .type = FUT_MSG_PACKED, .length = (uint32_t)size, .body = data };
    FutBuf out = { 0 };
    g_autoptr(GError) error = NULL;

    if (fut_unpack(&out, &frame, &error)) {
        g_assert(fut_pack_allowed(frame.type) && frame.length <= fut_wire_cap(frame.type));
        pack_again(&frame, FUT_PACK_LZ4);
        pack_again(&frame, FUT_PACK_ZSTD);
    } else {
        g_assert(error && frame.body == data);
    }
    fut_buf_done(&out);
    return 0;
}
