/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: checking and applying a stream. */
#include <string.h>

#include "byteorder.h"
#include "delta.h"
#include "delta_impl.h"
#include "fut_error.h"

#define KEY_MASK ((1ull << FUT_DELTA_KIND_SHIFT) - 1)

/* Length of the DIFF body at `at`, of which at most `left` bytes are there; 0 and *ret_fault
 * when it is bad. */
static size_t diff_length(const uint8_t *at, size_t left, const char **ret_fault)
{
    uint64_t lines = left >= 8 ? fut_get_le64(at) : 0;
    size_t length = 8;
    *ret_fault = left < 8 ? "ends inside a DIFF record" : "has a DIFF record without lines";
    if (lines == 0) {
        return 0;
    }
    for (; lines; lines &= lines - 1) {
        if (length >= left) {
            *ret_fault = "ends inside a DIFF record";
            return 0;
        }
        if (at[length] == 0) {
            *ret_fault = "has a DIFF record with a line without words";
            return 0;
        }
        length += 1 + 8 * (unsigned)__builtin_popcount(at[length]);
    }
    *ret_fault = "ends inside a DIFF record";
    return length <= left ? length : 0;
}

/* Length of the record at `at`; 0 and *ret_fault when it is bad. */
static size_t record_length(const uint8_t *at, size_t left, const FutMemory *memory,
                            const char **ret_fault)
{
    *ret_fault = "ends inside a record's head";
    if (left < 8) {
        return 0;
    }
    uint64_t head = fut_get_le64(at);
    *ret_fault = "names a page outside the memory";
    if (!fut_memory_page(memory, head & KEY_MASK)) {
        return 0;
    }
    size_t body;
    switch (head >> FUT_DELTA_KIND_SHIFT) {
    case FUT_DELTA_ZERO:
        return 8;
    case FUT_DELTA_RAW:
        *ret_fault = "ends inside a RAW record";
        return left - 8 >= FUT_PAGE_SIZE ? 8 + FUT_PAGE_SIZE : 0;
    case FUT_DELTA_DIFF:
        body = diff_length(at + 8, left - 8, ret_fault);
        return body ? 8 + body : 0;
    default:
        *ret_fault = "has a record of unknown kind";
        return 0;
    }
}

bool fut_delta_check(const uint8_t *stream, size_t length, const FutMemory *memory,
                     size_t *ret_records, GError **error)
{
    size_t records = 0;
    for (size_t at = 0; at < length; records++) {
        const char *fault;
        size_t step = record_length(stream + at, length - at, memory, &fault);
        if (step == 0) {
            g_set_error(error, FUT_ERROR, FUT_ERR_PEER,
                        "page stream from the peer %s (record %zu, byte %zu of %zu)", fault,
                        records, at, length);
            return false;
        }
        at += step;
    }
    if (ret_records) {
        *ret_records = records;
    }
    return true;
}

/* Stores the words of one line; returns past them. */
static const uint8_t *apply_line(uint8_t *line, const uint8_t *from)
{
    unsigned words = *from++;
    if (words == 0xff) {
        memcpy(line, from, FUT_LINE_SIZE);
        return from + FUT_LINE_SIZE;
    }
    for (; words; words &= words - 1, from += 8) {
        memcpy(line + 8 * (unsigned)__builtin_ctz(words), from, 8);
    }
    return from;
}

static const uint8_t *apply_diff(uint8_t *page, const uint8_t *from)
{
    uint64_t lines = fut_get_le64(from);
    from += 8;
    for (; lines; lines &= lines - 1) {
        from = apply_line(page + FUT_LINE_SIZE * (unsigned)__builtin_ctzll(lines), from);
    }
    return from;
}

/* Applies one record; returns past it. */
static const uint8_t *apply_record(const uint8_t *from, const FutMemory *memory)
{
    uint64_t head = fut_get_le64(from);
    uint8_t *page = fut_memory_page(memory, head & KEY_MASK);
    g_assert(page);
    from += 8;
    switch (head >> FUT_DELTA_KIND_SHIFT) {
    case FUT_DELTA_ZERO:
        if (!fut_delta_is_zero(page)) {
            memset(page, 0, FUT_PAGE_SIZE);
        }
        return from;
    case FUT_DELTA_RAW:
        memcpy(page, from, FUT_PAGE_SIZE);
        return from + FUT_PAGE_SIZE;
    case FUT_DELTA_DIFF:
        return apply_diff(page, from);
    default:
        g_assert_not_reached();
    }
}

void fut_delta_apply(const uint8_t *stream, size_t length, const FutMemory *memory)
{
    const uint8_t *end = stream + length;
    while (stream < end) {
        stream = apply_record(stream, memory);
    }
    g_assert(stream == end);
}
