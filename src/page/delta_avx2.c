/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: comparison with AVX2. */
#include "delta_impl.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "byteorder.h"

#define AVX2 __attribute__((target("avx2,popcnt")))

/* For each set of 64-bit lanes: the 32-bit lanes that bring them to the front. */
#define L(i) 2 * (i), 2 * (i) + 1
static const uint32_t pack_lanes[16][8] __attribute__((aligned(32))) = {
    { 0 },
    { L(0) },
    { L(1) },
    { L(0), L(1) },
    { L(2) },
    { L(0), L(2) },
    { L(1), L(2) },
    { L(0), L(1), L(2) },
    { L(3) },
    { L(0), L(3) },
    { L(1), L(3) },
    { L(0), L(1), L(3) },
    { L(2), L(3) },
    { L(0), L(2), L(3) },
    { L(1), L(2), L(3) },
    { L(0), L(1), L(2), L(3) },
};
#undef L

AVX2 static inline __m256i load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

/* Stores the lanes of `mask` one after the other; writes 32 bytes, returns past those that
 * count. */
AVX2 static inline uint8_t *pack(uint8_t *at, __m256i now, unsigned mask)
{
    __m256i lanes = _mm256_load_si256((const __m256i *)pack_lanes[mask]);
    _mm256_storeu_si256((__m256i *)at, _mm256_permutevar8x32_epi32(now, lanes));
    return at + 8 * (unsigned)__builtin_popcount(mask);
}

AVX2 static inline unsigned differing(__m256i now, __m256i old)
{
    return ~(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(now, old))) & 15u;
}

/* One line that differs. */
AVX2 static inline uint8_t *pack_line(uint8_t *at, const uint8_t *line, uint8_t *shadow)
{
    __m256i low = load(line), high = load(line + 32);
    unsigned low_mask = differing(low, load(shadow)),
             high_mask = differing(high, load(shadow + 32));
    *at = (uint8_t)(low_mask | high_mask << 4);
    at = pack(at + 1, low, low_mask);
    at = pack(at, high, high_mask);
    _mm256_storeu_si256((__m256i *)shadow, low);
    _mm256_storeu_si256((__m256i *)(shadow + 32), high);
    return at;
}

AVX2 size_t fut_delta_diff_avx2(uint8_t *at, const uint8_t *page, uint8_t *shadow,
                                const uint8_t *next, const uint8_t *next_shadow)
{
    uint8_t *end = at + 8;
    uint64_t lines = 0;
    for (unsigned i = 0; i < FUT_PAGE_LINES; i++) {
        size_t line = i * FUT_LINE_SIZE;
        _mm_prefetch((const char *)next + line, _MM_HINT_T0);
        _mm_prefetch((const char *)next_shadow + line, _MM_HINT_T0);
        __m256i low = _mm256_xor_si256(load(page + line), load(shadow + line));
        __m256i high = _mm256_xor_si256(load(page + line + 32), load(shadow + line + 32));
        __m256i any = _mm256_or_si256(low, high);
        if (!_mm256_testz_si256(any, any)) {
            lines |= 1ull << i;
            end = pack_line(end, page + line, shadow + line);
        }
    }
    fut_put_le64(at, lines);
    return lines ? (size_t)(end - at) : 0;
}

AVX2 uint64_t fut_delta_find_avx2(uint8_t words[FUT_PAGE_LINES], const uint8_t *page,
                                  const uint8_t *shadow, const uint8_t *next,
                                  const uint8_t *next_shadow)
{
    uint64_t lines = 0;
    for (unsigned i = 0; i < FUT_PAGE_LINES; i++) {
        size_t line = i * FUT_LINE_SIZE;
        _mm_prefetch((const char *)next + line, _MM_HINT_T0);
        _mm_prefetch((const char *)next_shadow + line, _MM_HINT_T0);
        unsigned differ = differing(load(page + line), load(shadow + line)) |
                          differing(load(page + line + 32), load(shadow + line + 32)) << 4;
        words[i] = (uint8_t)differ;
        lines |= (uint64_t)(differ != 0) << i;
    }
    return lines;
}
#endif
