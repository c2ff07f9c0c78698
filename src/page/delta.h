/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: what changed in a page since the copy the peer holds.
 *
 * A stream is a sequence of records, no padding, little-endian:
 *   u64 head      bits 0..59 key (pageset.h; block number below 2^20), bits 60..63 kind
 *   kind ZERO     nothing more: the page is all zero
 *   kind RAW      4096 bytes
 *   kind DIFF     u64 lines: bit i set = 64-byte line i changed; must not be 0
 *                 then for each set bit, lowest first: u8 words (bit j = 8-byte word j of the line
 *                 changed; not 0) and the changed words, lowest first
 * A page that did not change has no record. One pass over page and shadow both finds and stores the
 * difference (AVX-512, AVX2 or plain C, chosen once at run time; all three give the same bytes).
 */
#ifndef FUT_DELTA_H
#define FUT_DELTA_H

#include <glib.h>

#include "fut_buf.h"
#include "pageset.h"

#define FUT_DELTA_KIND_SHIFT 60
typedef enum {
    FUT_DELTA_DIFF = 0,
    FUT_DELTA_ZERO = 1,
    FUT_DELTA_RAW = 2
} FutDeltaKind;
/* No record is longer. */
#define FUT_DELTA_RECORD_MAX (8 + 8 + 64 + FUT_PAGE_SIZE)

typedef struct {
    uint64_t pages;     /* keys looked at */
    uint64_t unchanged; /* of them: identical to the shadow, no record */
    uint64_t zero;
    uint64_t raw;
} FutDeltaStats;

/* Appends a record for every key whose page differs from its shadow and brings the shadow up to
 * date. The guest must not run meanwhile. Keys must be inside both memories (assertion). `stats`
 * is added to; may be NULL. Pages are written as DIFF, as RAW where that is not longer, or as
 * ZERO. */
void fut_delta_encode(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                      const uint64_t *keys, size_t count, FutDeltaStats *stats);
/* Same, but the peer's copy is unknown: every key gets a ZERO or RAW record and the shadow
 * becomes the page. Safe while the guest writes the page: what is sent is what the shadow holds. */
void fut_delta_encode_full(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                           const uint64_t *keys, size_t count, FutDeltaStats *stats);
/* Walks a stream from the peer without applying it: structure, kinds, and every key inside
 * `memory`. FUT_ERR_PEER on the first fault. *ret_records may be NULL. */
bool fut_delta_check(const uint8_t *stream, size_t length, const FutMemory *memory,
                     size_t *ret_records, GError **error);
/* Applies a stream that fut_delta_check() accepted for this memory (assertion otherwise). The
 * stream must be a copy of the peer's bytes that nobody can change any more. */
void fut_delta_apply(const uint8_t *stream, size_t length, const FutMemory *memory);

/* The implementations, for tests and benchmarks. Returns false when this CPU lacks it. */
typedef enum {
    FUT_DELTA_AUTO,
    FUT_DELTA_PLAIN,
    FUT_DELTA_AVX2,
    FUT_DELTA_AVX512
} FutDeltaImpl;
bool fut_delta_select(FutDeltaImpl impl);
const char *fut_delta_impl_name(void);

#endif
