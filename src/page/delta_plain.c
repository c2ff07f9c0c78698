/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: comparison in plain C, for processors without AVX2 and as the yardstick of the
 * others. */
#include <string.h>

#include "byteorder.h"
#include "delta_impl.h"

/* Packs the words of a line that differ; returns past them. */
static uint8_t *pack_line(uint8_t *at, const uint64_t *now, const uint64_t *old)
{
    uint8_t *words = at++;
    *words = 0;
    for (unsigned i = 0; i < FUT_LINE_WORDS; i++) {
        if (now[i] != old[i]) {
            *words |= (uint8_t)(1u << i);
            memcpy(at, &now[i], 8);
            at += 8;
        }
    }
    return at;
}

size_t fut_delta_diff_plain(uint8_t *at, const uint8_t *page, uint8_t *shadow, const uint8_t *next,
                            const uint8_t *next_shadow)
{
    uint8_t *end = at + 8;
    uint64_t lines = 0;
    for (unsigned i = 0; i < FUT_PAGE_LINES; i++) {
        uint64_t now[FUT_LINE_WORDS], old[FUT_LINE_WORDS];
        memcpy(now, page + i * FUT_LINE_SIZE, FUT_LINE_SIZE);
        memcpy(old, shadow + i * FUT_LINE_SIZE, FUT_LINE_SIZE);
        __builtin_prefetch(next + i * FUT_LINE_SIZE);
        __builtin_prefetch(next_shadow + i * FUT_LINE_SIZE);
        uint64_t differ = 0;
        for (unsigned j = 0; j < FUT_LINE_WORDS; j++) {
            differ |= now[j] ^ old[j];
        }
        if (differ) {
            lines |= 1ull << i;
            end = pack_line(end, now, old);
            memcpy(shadow + i * FUT_LINE_SIZE, now, FUT_LINE_SIZE);
        }
    }
    fut_put_le64(at, lines);
    return lines ? (size_t)(end - at) : 0;
}

uint64_t fut_delta_find_plain(uint8_t words[FUT_PAGE_LINES], const uint8_t *page,
                              const uint8_t *shadow, const uint8_t *next,
                              const uint8_t *next_shadow)
{
    uint64_t lines = 0;
    for (unsigned i = 0; i < FUT_PAGE_LINES; i++) {
        uint64_t now[FUT_LINE_WORDS], old[FUT_LINE_WORDS];
        memcpy(now, page + i * FUT_LINE_SIZE, FUT_LINE_SIZE);
        memcpy(old, shadow + i * FUT_LINE_SIZE, FUT_LINE_SIZE);
        __builtin_prefetch(next + i * FUT_LINE_SIZE);
        __builtin_prefetch(next_shadow + i * FUT_LINE_SIZE);
        unsigned differ = 0;
        for (unsigned j = 0; j < FUT_LINE_WORDS; j++) {
            differ |= (unsigned)(now[j] != old[j]) << j;
        }
        words[i] = (uint8_t)differ;
        lines |= (uint64_t)(differ != 0) << i;
    }
    return lines;
}
