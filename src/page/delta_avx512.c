/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: comparison with AVX-512 (F is enough). */
#include "delta_impl.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "byteorder.h"

#define AVX512 __attribute__((target("avx512f,popcnt")))

/* One line that differs in the words of `mask`. Packing goes through a register: the form that
 * compresses straight to memory is many times slower on some processors. Writes 64 bytes,
 * returns past those that count. */
AVX512 static inline uint8_t *pack_line(uint8_t *at, __m512i now, __mmask8 mask)
{
    *at++ = mask;
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi64(mask, now));
    return at + 8 * (unsigned)__builtin_popcount(mask);
}

AVX512 size_t fut_delta_diff_avx512(uint8_t *at, const uint8_t *page, uint8_t *shadow,
                                    const uint8_t *next, const uint8_t *next_shadow)
{
    uint8_t *end = at + 8;
    uint64_t lines = 0;
    for (unsigned i = 0; i < FUT_PAGE_LINES; i++) {
        size_t line = i * FUT_LINE_SIZE;
        _mm_prefetch((const char *)next + line, _MM_HINT_T0);
        _mm_prefetch((const char *)next_shadow + line, _MM_HINT_T0);
        __m512i now = _mm512_loadu_si512(page + line);
        __mmask8 mask = _mm512_cmpneq_epi64_mask(now, _mm512_loadu_si512(shadow + line));
        if (mask) {
            lines |= 1ull << i;
            end = pack_line(end, now, mask);
            _mm512_storeu_si512(shadow + line, now);
        }
    }
    fut_put_le64(at, lines);
    return lines ? (size_t)(end - at) : 0;
}

AVX512 uint64_t fut_delta_find_avx512(uint8_t words[FUT_PAGE_LINES], const uint8_t *page,
                                      const uint8_t *shadow, const uint8_t *next,
                                      const uint8_t *next_shadow)
{
    uint64_t lines = 0;
    for (unsigned i = 0; i < FUT_PAGE_LINES; i++) {
        size_t line = i * FUT_LINE_SIZE;
        _mm_prefetch((const char *)next + line, _MM_HINT_T0);
        _mm_prefetch((const char *)next_shadow + line, _MM_HINT_T0);
        words[i] = _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(page + line),
                                            _mm512_loadu_si512(shadow + line));
        lines |= (uint64_t)(words[i] != 0) << i;
    }
    return lines;
}
#endif
