/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PACKED: another message, compressed. Whoever takes messages out of the stream unpacks it, so that what
 * looks at messages sees the other one and checks it as ever. */
#ifndef FUT_WIRE_PACKED_H
#define FUT_WIRE_PACKED_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "fut_buf.h"

typedef enum {
    FUT_PACK_NONE = 0,
    FUT_PACK_LZ4 = 1,  /* one LZ4 block */
    FUT_PACK_ZSTD = 2, /* one Zstandard frame */
} FutPackKind;
#define FUT_PACK_KINDS 3

#define FUT_PACKED_HEAD_SIZE 16
/* Layout: 0 u16 type, 2 u16 flags, 4 u32 length: of the message; 8 u32 kind, 12 u32 reserved. The
 * compressed body follows. */

/* Shorter messages are not worth it. */
#define FUT_PACK_MIN (16u << 10)

const char *fut_pack_kind_name(FutPackKind kind); /* "none", "lz4", "zstd" */
/* May messages of this type be packed? Those that carry pages or disk data. */
bool fut_pack_allowed(uint16_t type);
/* Appends a PACKED body. False, and nothing appended, when it would not be shorter by an eighth at
 * least. */
bool fut_pack(FutBuf *out, FutPackKind kind, uint16_t type, uint16_t flags, const uint8_t *body,
              size_t length);
/* Unpacks `frame` into `out`, which is cleared, and makes `frame` what was packed; its body is in
 * `out` then. FUT_ERR_PEER for a type that must not be packed, a length above that type's cap or not
 * below it, and anything that does not unpack to exactly that length: not a byte more is written. */
bool fut_unpack(FutBuf *out, FutFrame *frame, GError **error);

#endif
