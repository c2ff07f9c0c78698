/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: the bodies of DENSE records, written, checked and applied. */
#include "byteorder.h"
#include "delta_impl.h"

#define CODE_BYTES 0x80u /* first of the codes that say which bytes of a word changed */
#define CODE_NEAR 0xc0u  /* first of the codes of words whose upper bytes the other table has */
#define NEAR_BYTES 3u

/* Of a code with what follows it; 0: there is no such code. */
static const uint8_t code_length[256] = {
    [0x00 ... CODE_BYTES - 1] = 1,
    /* clang-format off */
    [CODE_BYTES] = 2, 3, 4, 5, 6, 7, 8, 9,
                   2, 3, 4, 5, 6, 7, 8, 0,
                   2, 3, 4, 5, 6, 7, 0, 0,
                   2, 3, 4, 5, 6, 0, 0, 0,
                   2, 3, 4, 5, 0, 0, 0, 0,
                   2, 3, 4, 0, 0, 0, 0, 0,
                   2, 3, 0, 0, 0, 0, 0, 0,
                   2, 0, 0, 0, 0, 0, 0, 0,
    /* clang-format on */
    [CODE_NEAR... 0xff] = 1 + NEAR_BYTES,
};

static inline unsigned place_of(uint64_t word, unsigned bits)
{
    return (unsigned)(word * 0x9e3779b97f4a7c15u >> (64 - bits));
}

/* `yes` where `mask` is all ones, `no` where it is 0. Written so that no compiler makes a branch of it. */
static inline unsigned pick(unsigned mask, unsigned yes, unsigned no)
{
    return no ^ ((no ^ yes) & mask);
}

/* Returns past the code; up to 8 bytes more are written. Without branches: which code it will be cannot
 * be foretold, and a wrong guess takes longer than all of this. */
static inline uint8_t *put_word(FutDense *dense, uint8_t *at, uint64_t now, uint64_t old)
{
    uint64_t upper = now >> (8 * NEAR_BYTES);
    unsigned place = place_of(now, FUT_DENSE_WORDS_BITS);
    unsigned upper_place = place_of(upper, FUT_DENSE_UPPERS_BITS);
    uint64_t differ = now ^ old;
    differ |= differ == 0; /* cannot be while the guest stands still, and must do no harm */
    unsigned first = (unsigned)__builtin_ctzll(differ) / 8;
    unsigned more = 7 - (unsigned)__builtin_clzll(differ) / 8 - first;
    unsigned near = -(unsigned)((dense->uppers[upper_place] == upper) & (more >= NEAR_BYTES));
    unsigned same = -(unsigned)(dense->words[place] == now);
    unsigned code = pick(near, CODE_NEAR | upper_place, CODE_BYTES | first << 3 | more);
    unsigned length = pick(near, 1 + NEAR_BYTES, 2 + more);
    dense->words[place] = now;
    dense->uppers[upper_place] = upper;
    *at = (uint8_t)pick(same, place, code);
    fut_put_le64(at + 1, now >> (8 * first & ~near));
    return at + pick(same, 1, length);
}

static inline uint8_t *put_line(FutDense *dense, uint8_t *at, const uint8_t *line, uint8_t *shadow,
                                unsigned words)
{
    *at++ = (uint8_t)words;
    dense->coded += (unsigned)__builtin_popcount(words);
    for (; words; words &= words - 1) {
        unsigned offset = 8 * (unsigned)__builtin_ctz(words);
        uint64_t now = fut_get_le64(line + offset);
        at = put_word(dense, at, now, fut_get_le64(shadow + offset));
        fut_put_le64(shadow + offset, now);
    }
    return at;
}

size_t fut_dense_put(FutDense *dense, uint8_t *at, const uint8_t *page, uint8_t *shadow,
                     uint64_t lines, const uint8_t words[FUT_PAGE_LINES])
{
    uint8_t *groups = at++;
    *groups = 0;
    for (unsigned group = 0; group < 8; group++) {
        unsigned of_group = lines >> (8 * group) & 0xff;
        if (of_group == 0) {
            continue;
        }
        *groups |= (uint8_t)(1u << group);
        *at++ = (uint8_t)of_group;
        for (; of_group; of_group &= of_group - 1) {
            unsigned i = 8 * group + (unsigned)__builtin_ctz(of_group);
            at =
                put_line(dense, at, page + i * FUT_LINE_SIZE, shadow + i * FUT_LINE_SIZE, words[i]);
        }
    }
    return (size_t)(at - groups);
}

/* -- reading -- */

typedef struct {
    const uint8_t *at;
    size_t left;
    const char *fault;
} Scan;

/* The next byte, of which each bit stands for something: 0 is a fault, and returned for one. */
static unsigned scan_bits(Scan *scan)
{
    if (scan->left == 0) {
        scan->fault = "ends inside a DENSE record";
        return 0;
    }
    scan->left--;
    if (*scan->at == 0) {
        scan->fault = "has a DENSE record with an empty part";
    }
    return *scan->at++;
}

static inline bool scan_word(Scan *scan)
{
    size_t length = scan->left > 0 ? code_length[*scan->at] : SIZE_MAX;
    if (length - 1 >= scan->left) { /* 0, too */
        scan->fault =
            length ? "ends inside a DENSE record" : "has a DENSE record with an unknown code";
        return false;
    }
    scan->at += length;
    scan->left -= length;
    return true;
}

static bool scan_line(Scan *scan)
{
    unsigned words = scan_bits(scan);
    for (unsigned left = words; left; left &= left - 1) {
        if (!scan_word(scan)) {
            return false;
        }
    }
    return words != 0;
}

static bool scan_group(Scan *scan)
{
    unsigned lines = scan_bits(scan);
    for (unsigned left = lines; left; left &= left - 1) {
        if (!scan_line(scan)) {
            return false;
        }
    }
    return lines != 0;
}

size_t fut_dense_length(const uint8_t *at, size_t left, const char **ret_fault)
{
    Scan scan = { .at = at, .left = left };
    unsigned groups = scan_bits(&scan);
    for (; groups; groups &= groups - 1) {
        if (!scan_group(&scan)) {
            break;
        }
    }
    *ret_fault = scan.fault;
    return scan.fault ? 0 : (size_t)(scan.at - at);
}

/* The bytes at `from` as a number; those from `end` on as 0. */
static inline uint64_t get_bytes(const uint8_t *from, const uint8_t *end)
{
    uint64_t value = 0;
    if (end - from >= 8) {
        return fut_get_le64(from);
    }
    for (unsigned i = 0; from + i < end; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

static inline const uint8_t *apply_word(FutDense *dense, uint8_t *word, const uint8_t *from,
                                        const uint8_t *end)
{
    unsigned code = *from, length = code_length[code];
    uint64_t now;
    if (code < CODE_BYTES) {
        now = dense->words[code];
    } else {
        unsigned near = -(unsigned)(code >= CODE_NEAR);
        unsigned shift = code & 56 & ~near;
        uint64_t mask = UINT64_MAX >> (72 - 8 * length);
        uint64_t old = near ? dense->uppers[code & 63] << (8 * NEAR_BYTES) : fut_get_le64(word);
        now = (old & ~(mask << shift)) | (get_bytes(from + 1, end) & mask) << shift;
        dense->words[place_of(now, FUT_DENSE_WORDS_BITS)] = now;
    }
    uint64_t upper = now >> (8 * NEAR_BYTES);
    dense->uppers[place_of(upper, FUT_DENSE_UPPERS_BITS)] = upper;
    fut_put_le64(word, now);
    return from + length;
}

const uint8_t *fut_dense_apply(FutDense *dense, uint8_t *page, const uint8_t *from,
                               const uint8_t *end)
{
    for (unsigned groups = *from++; groups; groups &= groups - 1) {
        uint8_t *group = page + 8 * FUT_LINE_SIZE * (unsigned)__builtin_ctz(groups);
        for (unsigned lines = *from++; lines; lines &= lines - 1) {
            uint8_t *line = group + FUT_LINE_SIZE * (unsigned)__builtin_ctz(lines);
            for (unsigned words = *from++; words; words &= words - 1) {
                from = apply_word(dense, line + 8 * (unsigned)__builtin_ctz(words), from, end);
            }
        }
    }
    return from;
}
