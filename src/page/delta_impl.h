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

/* Stops at the first byte that is not zero, which in most pages comes early. */
static inline bool fut_delta_is_zero(const uint8_t *page)
{
    uint64_t first;
    memcpy(&first, page, 8);
    return first == 0 && memcmp(page, page + 8, FUT_PAGE_SIZE - 8) == 0;
}

/* Writes the body of a DIFF record (lines and what follows) to `at`, makes `shadow` equal to
 * `page` and returns the body's length, 0 when nothing differs (then only the first 8 bytes of
 * `at` were touched). `at` has room for FUT_DELTA_RECORD_MAX + FUT_DELTA_SLACK bytes. `next` and
 * `next_shadow` are fetched into the cache meanwhile. */
typedef size_t (*FutDeltaDiff)(uint8_t *at, const uint8_t *page, uint8_t *shadow,
                               const uint8_t *next, const uint8_t *next_shadow);

size_t fut_delta_diff_plain(uint8_t *at, const uint8_t *page, uint8_t *shadow, const uint8_t *next,
                            const uint8_t *next_shadow);
#if defined(__x86_64__)
size_t fut_delta_diff_avx2(uint8_t *at, const uint8_t *page, uint8_t *shadow, const uint8_t *next,
                           const uint8_t *next_shadow);
size_t fut_delta_diff_avx512(uint8_t *at, const uint8_t *page, uint8_t *shadow, const uint8_t *next,
                             const uint8_t *next_shadow);
#endif

#endif
