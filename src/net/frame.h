/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames: how messages are cut out of a byte stream. Pure: bytes in, frames out.
 *
 * Header, 40 bytes, little-endian:
 *   0  u32 magic      FUT_FRAME_MAGIC
 *   4  u16 type       meaning belongs to the layer above
 *   6  u16 flags      meaning belongs to the layer above
 *   8  u32 length     bytes of body that follow
 *  12  u32 session    agreed by both ends of one connection; 0 until then. A replayed recording
 *                     carries another.
 *  16  u64 sequence   0, 1, 2, ... in each direction of a connection: nothing lost, doubled
 *                     or replayed
 *  24  u64 body_hash  XXH3-64 of the body
 *  32  u32 reserved   0
 *  36  u32 head_hash  low half of XXH3-64 over bytes 0..35
 */
#ifndef FUT_FRAME_H
#define FUT_FRAME_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "fut_buf.h"

#define FUT_FRAME_MAGIC 0x32545546u /* "FUT2" */
#define FUT_FRAME_HEADER_SIZE 40

typedef struct {
    uint16_t type;
    uint16_t flags;
    uint32_t length;
    uint32_t session;
    uint64_t sequence;
    const uint8_t *body; /* borrowed from the reader until its next call */
} FutFrame;

/* Writes the header for a body. `at` has FUT_FRAME_HEADER_SIZE bytes; body may follow elsewhere. */
void fut_frame_header_encode(uint8_t *at, uint16_t type, uint16_t flags, uint32_t session,
                             uint64_t sequence, const void *body, uint32_t length);

/* Largest body accepted for a type; 0 = type unknown, refused. */
typedef uint32_t (*FutFrameCap)(uint16_t type);

typedef struct FutFrameReader FutFrameReader;
FutFrameReader *fut_frame_reader_new(FutFrameCap cap);
void fut_frame_reader_free(FutFrameReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutFrameReader, fut_frame_reader_free)
/* Frames must carry this session from now on (0 accepted before the first call: only session 0). */
void fut_frame_reader_set_session(FutFrameReader *reader, uint32_t session);
/* Room to read into, at least 64 KiB or what the frame under way still lacks, whichever is
 * larger (no copy of large bodies). Room grows with bytes received (doubling), never to the
 * announced length at once, so that a header alone cannot make us allocate. */
uint8_t *fut_frame_reader_space(FutFrameReader *reader, size_t *ret_length);
void fut_frame_reader_filled(FutFrameReader *reader, size_t bytes);
/* 1 = *ret_frame set, 0 = more bytes needed, -1 = the stream is bad (FUT_ERR_PEER; every later
 * call says so again). */
int fut_frame_reader_next(FutFrameReader *reader, FutFrame *ret_frame, GError **error);
/* Gives back memory above `keep` bytes when no frame is under way. */
void fut_frame_reader_trim(FutFrameReader *reader, size_t keep);

#endif
