/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: choice of implementation, and encoding. */
#include "delta.h"

#include <string.h>

#include "byteorder.h"
#include "delta_impl.h"

/* Room is made for this many pages at a time, never for a whole large set. */
#define RESERVE_PAGES 64
/* Room for one record while it is written: a whole body of any kind, before RAW takes its place. */
#define RECORD_ROOM (FUT_DELTA_HEAD_MAX + 8 + FUT_PAGE_LINES + FUT_PAGE_SIZE + FUT_DELTA_SLACK)

typedef struct {
    const char *name;
    FutDeltaDiff diff;
    FutDeltaFind find;
} Impl;

static const Impl impl_plain = { "plain", fut_delta_diff_plain, fut_delta_find_plain };
#if defined(__x86_64__)
static const Impl impl_avx2 = { "avx2", fut_delta_diff_avx2, fut_delta_find_avx2 };
static const Impl impl_avx512 = { "avx512", fut_delta_diff_avx512, fut_delta_find_avx512 };
#endif

/* Set on first use; any thread may do so, all find the same. */
static const Impl *chosen;

/* NULL when this processor lacks it. */
static const Impl *find_impl(FutDeltaImpl impl)
{
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
    if (avx512 && (impl == FUT_DELTA_AVX512 || impl == FUT_DELTA_AUTO)) {
        return &impl_avx512;
    }
    if (avx2 && (impl == FUT_DELTA_AVX2 || impl == FUT_DELTA_AUTO)) {
        return &impl_avx2;
    }
#endif
    return impl == FUT_DELTA_PLAIN || impl == FUT_DELTA_AUTO ? &impl_plain : NULL;
}

static const Impl *current_impl(void)
{
    const Impl *impl = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    if (!impl) {
        fut_delta_select(FUT_DELTA_AUTO);
        impl = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    }
    return impl;
}

bool fut_delta_select(FutDeltaImpl impl)
{
    const Impl *found = find_impl(impl);
    if (found) {
        __atomic_store_n(&chosen, found, __ATOMIC_RELEASE);
    }
    return found != NULL;
}

const char *fut_delta_impl_name(void)
{
    return current_impl()->name;
}

/* A stream being written. */
typedef struct {
    FutBuf *out;
    const Impl *impl;
    uint64_t key; /* of the last record */
    FutDense dense;
    FutDeltaStats stats;
} Stream;

/* Where the next record goes; `left` pages are still to come. */
static inline uint8_t *record_room(Stream *stream, size_t left)
{
    FutBuf *out = stream->out;
    if (G_UNLIKELY(out->cap - out->len < RECORD_ROOM)) {
        fut_buf_reserve(out, MIN(left, RESERVE_PAGES) * RECORD_ROOM);
    }
    return out->data + out->len;
}

/* A record's head without its kind: the same length with any kind. */
static inline uint64_t head_of(const Stream *stream, uint64_t key)
{
    int64_t step = (int64_t)(key - stream->key);
    return ((uint64_t)step << 1 ^ (uint64_t)(step >> 63)) << FUT_DELTA_KIND_BITS;
}

/* Returns past it. */
static inline uint8_t *put_head(uint8_t *at, uint64_t head)
{
    for (; head > 0x7f; head >>= 7) {
        *at++ = (uint8_t)(head | 0x80);
    }
    *at = (uint8_t)head;
    return at + 1;
}

static inline size_t head_length(uint64_t head)
{
    return (size_t)(70 - __builtin_clzll(head | 1)) / 7;
}

/* The record's body of `length` bytes, if any, is in its place already. */
static inline void end_record(Stream *stream, uint64_t key, FutDeltaKind kind, size_t length)
{
    FutBuf *out = stream->out;
    uint8_t *body = put_head(out->data + out->len, head_of(stream, key) | kind);
    out->len = (size_t)(body - out->data) + length;
    stream->key = key;
}

/* A ZERO or RAW record of what `page` holds, which nobody changes meanwhile. `body` is where the
 * record's body begins. */
static void put_whole(Stream *stream, uint8_t *body, uint64_t key, const uint8_t *page)
{
    if (fut_delta_is_zero(page)) {
        end_record(stream, key, FUT_DELTA_ZERO, 0);
        stream->stats.zero++;
        return;
    }
    memcpy(body, page, FUT_PAGE_SIZE);
    end_record(stream, key, FUT_DELTA_RAW, FUT_PAGE_SIZE);
    stream->stats.raw++;
}

/* Two neighbours in the list of pages: one to encode, and one to fetch meanwhile. */
typedef struct {
    const uint8_t *page, *next;
    uint8_t *copy, *next_copy;
} Pages;

static void put_diff(Stream *stream, uint8_t *body, uint64_t key, const Pages *p)
{
    size_t length = stream->impl->diff(body, p->page, p->copy, p->next, p->next_copy);
    if (length == 0) {
        stream->stats.unchanged++;
    } else if (length >= FUT_PAGE_SIZE || fut_delta_is_zero(p->copy)) {
        put_whole(stream, body, key, p->copy);
    } else {
        end_record(stream, key, FUT_DELTA_DIFF, length);
    }
}

static void put_dense(Stream *stream, uint8_t *body, uint64_t key, const Pages *p)
{
    uint8_t words[FUT_PAGE_LINES];
    uint64_t lines = stream->impl->find(words, p->page, p->copy, p->next, p->next_copy);
    if (lines == 0) {
        stream->stats.unchanged++;
    } else if (__builtin_popcountll(lines) > FUT_DENSE_LINES_MAX || fut_delta_is_zero(p->page)) {
        put_diff(stream, body, key, p);
    } else {
        size_t length = fut_dense_put(&stream->dense, body, p->page, p->copy, lines, words);
        end_record(stream, key, FUT_DELTA_DENSE, length);
    }
}

static void add_stats(FutDeltaStats *to, const FutDeltaStats *from)
{
    if (to) {
        to->pages += from->pages;
        to->unchanged += from->unchanged;
        to->zero += from->zero;
        to->raw += from->raw;
    }
}

void fut_delta_encode(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                      const uint64_t *keys, size_t count, FutDeltaStats *stats)
{
    Stream stream = { .out = out, .impl = current_impl(), .stats.pages = count };
    Pages p = { .next = count ? fut_memory_page(memory, keys[0]) : NULL,
                .next_copy = count ? fut_memory_page(shadow, keys[0]) : NULL };
    for (size_t i = 0; i < count; i++) {
        p.page = p.next;
        p.copy = p.next_copy;
        g_assert(p.page && p.copy);
        if (i + 1 < count) {
            p.next = fut_memory_page(memory, keys[i + 1]);
            p.next_copy = fut_memory_page(shadow, keys[i + 1]);
        }
        uint8_t *body = record_room(&stream, count - i) + head_length(head_of(&stream, keys[i]));
        if (stream.dense.coded < FUT_DELTA_DENSE_WORDS) {
            put_dense(&stream, body, keys[i], &p);
        } else {
            put_diff(&stream, body, keys[i], &p);
        }
    }
    add_stats(stats, &stream.stats);
}

void fut_delta_encode_full(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                           const uint64_t *keys, size_t count, const uint64_t *touched,
                           FutDeltaStats *stats)
{
    Stream stream = { .out = out, .stats.pages = count };
    for (size_t i = 0; i < count; i++) {
        const uint8_t *page = fut_memory_page(memory, keys[i]);
        uint8_t *copy = fut_memory_page(shadow, keys[i]);
        g_assert(page && copy);
        if (touched && !(touched[i / 64] >> (i % 64) & 1)) {
            record_room(&stream, count - i);
            end_record(&stream, keys[i], FUT_DELTA_ZERO, 0);
            stream.stats.zero++;
            continue;
        }
        /* Untouched memory stays so: written, it would take room on both hosts. */
        if (!fut_delta_is_zero(page) || !fut_delta_is_zero(copy)) {
            memcpy(copy, page, FUT_PAGE_SIZE);
        }
        /* The guest may write the page at any time: from here on the compiler must read the
         * copy, not the page. */
        __asm__ __volatile__("" : : "r"(copy) : "memory");
        uint8_t *body = record_room(&stream, count - i) + head_length(head_of(&stream, keys[i]));
        put_whole(&stream, body, keys[i], copy);
    }
    add_stats(stats, &stream.stats);
}
