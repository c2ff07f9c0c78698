/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the delta codec: what each implementation of the comparison provides. */
#ifndef FUT_DELTA_IMPL_H
#define FUT_DELTA_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "delta.h"

#define FUT_LINE_SIZE 64u
#define FUT_PAGE_LINES (FUT_PAGE_SIZE / FUT_LINE_SIZE)
#define FUT_LINE_WORDS (FUT_LINE_SIZE / 8)

/* Vector stores of the packed words may write this many bytes past the record. */
#define FUT_DELTA_SLACK 64
/* Pages with more changed lines are not written DENSE: below, that is always shorter than RAW. */
#define FUT_DENSE_LINES_MAX 48
#define FUT_DENSE_WORDS_BITS 7
#define FUT_DENSE_UPPERS_BITS 6
#define FUT_DELTA_KIND_BITS 2 /* of a record's head */

/* Stops at the first byte that is not zero, which in most pages comes early. */
static inline bool fut_delta_is_zero(const uint8_t *page)
{
    uint64_t first;
    memcpy(&first, page, 8);
    return first == 0 && memcmp(page, page + 8, FUT_PAGE_SIZE - 8) == 0;
}

/* Writes the body of a DIFF record (lines and what follows) to `at`, makes `shadow` equal to
 * `page` and returns the body's length, 0 when nothing differs (then only the first 8 bytes of
 * `at` were touched). `at` has room for the longest such body and FUT_DELTA_SLACK bytes. `next` and
 * `next_shadow` are fetched into the cache meanwhile. */
typedef size_t (*FutDeltaDiff)(uint8_t *at, const uint8_t *page, uint8_t *shadow,
                               const uint8_t *next, const uint8_t *next_shadow);
/* Only looks: returns the lines that differ and sets `words` of each of these. */
typedef uint64_t (*FutDeltaFind)(uint8_t words[FUT_PAGE_LINES], const uint8_t *page,
                                 const uint8_t *shadow, const uint8_t *next,
                                 const uint8_t *next_shadow);

#define FUT_DELTA_IMPL(name)                                                                       \
    size_t fut_delta_diff_##name(uint8_t *at, const uint8_t *page, uint8_t *shadow,                \
                                 const uint8_t *next, const uint8_t *next_shadow);                 \
    uint64_t fut_delta_find_##name(uint8_t words[FUT_PAGE_LINES], const uint8_t *page,             \
                                   const uint8_t *shadow, const uint8_t *next,                     \
                                   const uint8_t *next_shadow);
FUT_DELTA_IMPL(plain)
#if defined(__x86_64__)
FUT_DELTA_IMPL(avx2)
FUT_DELTA_IMPL(avx512)
#endif
#undef FUT_DELTA_IMPL

/* What both ends of a stream remember in DENSE records. Zeroed when a stream begins. */
typedef struct {
    uint64_t words[1 << FUT_DENSE_WORDS_BITS];
    uint64_t uppers[1 << FUT_DENSE_UPPERS_BITS]; /* without the lowest three bytes */
    unsigned coded;                              /* words written */
} FutDense;

/* Writes the body of a DENSE record of what fut_delta_find_*() found (at most FUT_DENSE_LINES_MAX
 * lines) and brings the shadow up to date. Returns the body's length; writes a few bytes more. */
size_t fut_dense_put(FutDense *dense, uint8_t *at, const uint8_t *page, uint8_t *shadow,
                     uint64_t lines, const uint8_t words[FUT_PAGE_LINES]);
/* Length of the DENSE body at `at`, of which at most `left` bytes are there; 0 and *ret_fault when
 * it is bad. */
size_t fut_dense_length(const uint8_t *at, size_t left, const char **ret_fault);
/* Applies a body that was checked, in a stream that ends at `end`; returns past it. */
const uint8_t *fut_dense_apply(FutDense *dense, uint8_t *page, const uint8_t *from,
                               const uint8_t *end);

#endif
