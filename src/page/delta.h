/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: what changed in a page since the copy the peer holds.
 *
 * A stream is a sequence of records, no padding, little-endian:
 *   head          LEB128, 8 bytes at most: bits 0..1 kind; above them the key (pageset.h) less that of
 *                 the record before (of the first: less 0), zigzag: 0, -1, 1, -2, 2 as 0, 1, 2, 3, 4
 *   kind ZERO     nothing more: the page is all zero
 *   kind RAW      4096 bytes
 *   kind DIFF     u64 lines: bit i set = 64-byte line i changed; must not be 0
 *                 then for each set bit, lowest first: u8 words (bit j = 8-byte word j of the line
 *                 changed; not 0) and the changed words, lowest first
 *   kind DENSE    the same in fewer bytes: u8 groups (bit i = some of lines 8i to 8i + 7 changed), for
 *                 each set bit a u8 with a bit for each line, for each line a u8 with a bit for
 *                 each word (none of them 0), and for each word, after its line's u8, a code:
 *     0x00..0x7f  the word in that place of the table of words
 *     0x80..0xbf  bits 3..5 first byte f, bits 0..2 bytes less one: these bytes of the word, from f on,
 *                 follow, the others are as they were
 *     0xc0..0xff  the upper five bytes are those in that place of the table of uppers, the lower three follow
 * Each word so coded goes into both tables, of 128 words and of 64 upper parts (the word shifted right by
 * 24 bits), which are all zero when a stream begins; its places are the top 7 and 6 bits of the word's and
 * of the upper part's product with 0x9e3779b97f4a7c15. What a checkpoint changes are mostly a few bytes of
 * a word (counters, positions, times), values that change in several places, and pointers to the same
 * region. Tables of recent words stem from Wilson, Kaplan and Smaragdakis's compression of memory
 * (USENIX 1999).
 *
 * A page that did not change has no record. The comparison is made with AVX-512, AVX2 or plain C,
 * chosen once at run time; all three give the same bytes.
 */
#ifndef FUT_DELTA_H
#define FUT_DELTA_H

#include <glib.h>

#include "fut_buf.h"
#include "pageset.h"
#include "resident.h"

typedef enum {
    FUT_DELTA_DIFF = 0,
    FUT_DELTA_ZERO = 1,
    FUT_DELTA_RAW = 2,
    FUT_DELTA_DENSE = 3
} FutDeltaKind;
/* No record is longer. */
#define FUT_DELTA_HEAD_MAX 8
#define FUT_DELTA_RECORD_MAX (FUT_DELTA_HEAD_MAX + FUT_PAGE_SIZE)
/* Dense records cost time: a stream in which so many words are coded goes on with DIFF. */
#define FUT_DELTA_DENSE_WORDS 2048

typedef struct {
    uint64_t pages;     /* keys looked at */
    uint64_t unchanged; /* of them: identical to the shadow, no record */
    uint64_t zero;
    uint64_t raw;
} FutDeltaStats;

/* Appends a record for every key whose page differs from its shadow and brings the shadow up to
 * date. The guest must not run meanwhile. Keys must be inside both memories (assertion). `stats`
 * is added to; may be NULL. Pages are written as DENSE or, once FUT_DELTA_DENSE_WORDS are, as
 * DIFF, as RAW where that is not longer, or as ZERO. `out` must begin a stream. */
void fut_delta_encode(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                      const uint64_t *keys, size_t count, FutDeltaStats *stats);
/* Same, but the peer's copy is unknown: every key gets a ZERO or RAW record and the shadow
 * becomes the page. Safe while the guest writes the page: what is sent is what the shadow holds.
 * `touched` has a bit for each key: clear where page and shadow are known to be zero, and are not
 * to be looked at; NULL: nothing is known. */
void fut_delta_encode_full(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                           const uint64_t *keys, size_t count, const uint64_t *touched,
                           FutDeltaStats *stats);
/* Walks a stream from the peer without applying it: structure, kinds, and every key inside
 * `memory`. FUT_ERR_PEER on the first fault. *ret_records may be NULL. */
bool fut_delta_check(const uint8_t *stream, size_t length, const FutMemory *memory,
                     size_t *ret_records, GError **error);
/* Applies a stream that fut_delta_check() accepted for this memory (assertion otherwise). The
 * stream must be a copy of the peer's bytes that nobody can change any more. With `resident`, of
 * this memory, pages that were never touched stay so where long runs of them are zero; NULL: as if
 * all were touched. */
void fut_delta_apply(const uint8_t *stream, size_t length, const FutMemory *memory,
                     const FutResident *resident);

/* Which pages a stream that was checked will change. Zeroed but for `at` and `end` it is before the first record. False: there are no more. */
typedef struct {
    const uint8_t *at, *end;
    uint64_t key; /* of the record before */
} FutDeltaWalk;
bool fut_delta_walk(FutDeltaWalk *walk, const FutMemory *memory, uint64_t *ret_key);

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
