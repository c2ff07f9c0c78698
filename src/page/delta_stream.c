/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: checking and applying a stream. */
#include <string.h>

#include "byteorder.h"
#include "delta.h"
#include "delta_impl.h"
#include "fut_error.h"

#define KIND_MASK ((1u << FUT_DELTA_KIND_BITS) - 1)

typedef struct {
    FutDeltaKind kind;
    uint64_t key;
} Head;

/* Reads the head at `at`, of which at most `left` bytes are there; `before` is the key of the record
 * before. Returns its length; 0 when it does not end in time. */
static size_t read_head(const uint8_t *at, size_t left, uint64_t before, Head *ret)
{
    uint64_t head = 0;
    for (size_t i = 0; i < MIN(left, FUT_DELTA_HEAD_MAX); i++) {
        head |= (uint64_t)(at[i] & 0x7f) << (7 * i);
        if (at[i] < 0x80) {
            uint64_t step = head >> FUT_DELTA_KIND_BITS;
            ret->kind = (FutDeltaKind)(head & KIND_MASK);
            ret->key = before + (step >> 1 ^ -(step & 1));
            return i + 1;
        }
    }
    return 0;
}

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

/* Length of the body at `at`; 0 and *ret_fault when it is bad. Not for ZERO, which has none. */
static size_t body_length(FutDeltaKind kind, const uint8_t *at, size_t left, const char **ret_fault)
{
    if (kind == FUT_DELTA_DIFF) {
        return diff_length(at, left, ret_fault);
    }
    if (kind == FUT_DELTA_DENSE) {
        return fut_dense_length(at, left, ret_fault);
    }
    *ret_fault = "ends inside a RAW record";
    return left >= FUT_PAGE_SIZE ? FUT_PAGE_SIZE : 0;
}

/* Length of the record at `at`; 0 and *ret_fault when it is bad. *key: of the record before, then of
 * this one. */
static size_t record_length(const uint8_t *at, size_t left, const FutMemory *memory, uint64_t *key,
                            const char **ret_fault)
{
    Head head;
    size_t length = read_head(at, left, *key, &head);
    if (length == 0) {
        *ret_fault = left < FUT_DELTA_HEAD_MAX ? "ends inside a record's head"
                                               : "has a record whose head is too long";
        return 0;
    }
    if (!fut_memory_page(memory, head.key)) {
        *ret_fault = "names a page outside the memory";
        return 0;
    }
    *key = head.key;
    if (head.kind == FUT_DELTA_ZERO) {
        return length;
    }
    size_t body = body_length(head.kind, at + length, left - length, ret_fault);
    return body ? length + body : 0;
}

bool fut_delta_check(const uint8_t *stream, size_t length, const FutMemory *memory,
                     size_t *ret_records, GError **error)
{
    size_t records = 0;
    uint64_t key = 0;
    for (size_t at = 0; at < length; records++) {
        const char *fault;
        size_t step = record_length(stream + at, length - at, memory, &key, &fault);
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

bool fut_delta_walk(FutDeltaWalk *walk, const FutMemory *memory, uint64_t *ret_key)
{
    const char *fault;

    if (walk->at == walk->end) {
        return false;
    }
    size_t step =
        record_length(walk->at, (size_t)(walk->end - walk->at), memory, &walk->key, &fault);
    g_assert(step > 0);
    walk->at += step;
    *ret_key = walk->key;
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

/* Runs of ZERO records that are looked up before their pages are read. */
#define ZERO_RUN_MIN 8
#define ZERO_RUN_MAX 512

/* Applies a record's body; returns past it. */
static const uint8_t *apply_body(FutDeltaKind kind, uint8_t *page, const uint8_t *from,
                                 const uint8_t *end, FutDense *dense)
{
    switch (kind) {
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
    case FUT_DELTA_DENSE:
        return fut_dense_apply(dense, page, from, end);
    }
    g_assert_not_reached();
}

/* The ZERO record `head` and those of the pages that follow it. Returns past them. */
static const uint8_t *apply_zeroes(const uint8_t *at, const uint8_t *end, const FutMemory *memory,
                                   const FutResident *resident, Head *head)
{
    uint64_t first = head->key, count = 1, bits[ZERO_RUN_MAX / 64] = { 0 };

    while (at < end && count < ZERO_RUN_MAX) {
        Head next = { 0 };
        size_t step = read_head(at, (size_t)(end - at), head->key, &next);
        if (step == 0 || next.kind != FUT_DELTA_ZERO || next.key != first + count ||
            fut_key_block(next.key) != fut_key_block(first)) {
            break;
        }
        *head = next;
        at += step;
        count++;
    }
    if (count >= ZERO_RUN_MIN) {
        fut_resident_look(resident, memory, first, count, bits);
    } else {
        bits[0] = ~0ull;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *page = fut_memory_page(memory, first + i);
        g_assert(page);
        if (bits[i / 64] >> (i % 64) & 1) {
            apply_body(FUT_DELTA_ZERO, page, NULL, NULL, NULL);
        }
    }
    return at;
}

void fut_delta_apply(const uint8_t *stream, size_t length, const FutMemory *memory,
                     const FutResident *resident)
{
    const uint8_t *end = stream + length;
    FutDense dense = { 0 };
    Head head = { 0 };
    while (stream < end) {
        size_t step = read_head(stream, (size_t)(end - stream), head.key, &head);
        uint8_t *page = step > 0 ? fut_memory_page(memory, head.key) : NULL;
        g_assert(page);
        stream += step;
        stream = head.kind == FUT_DELTA_ZERO && resident
                     ? apply_zeroes(stream, end, memory, resident, &head)
                     : apply_body(head.kind, page, stream, end, &dense);
    }
    g_assert(stream == end);
}
