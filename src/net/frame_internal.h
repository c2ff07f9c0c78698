/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside framing: where the fields of a header stand (their meaning: frame.h). */
#ifndef FUT_FRAME_INTERNAL_H
#define FUT_FRAME_INTERNAL_H

#include "frame.h"

enum {
    FRAME_AT_MAGIC = 0,
    FRAME_AT_TYPE = 4,
    FRAME_AT_FLAGS = 6,
    FRAME_AT_LENGTH = 8,
    FRAME_AT_SESSION = 12,
    FRAME_AT_SEQUENCE = 16,
    FRAME_AT_BODY_HASH = 24,
    FRAME_AT_RESERVED = 32,
    FRAME_AT_HEAD_HASH = 36,
    FRAME_END = 40
};
G_STATIC_ASSERT(FRAME_END == FUT_FRAME_HEADER_SIZE);

/* Hash over all fields before it. */
uint32_t fut_frame_head_hash(const uint8_t *header);
uint64_t fut_frame_body_hash(const void *body, uint32_t length);

#endif
