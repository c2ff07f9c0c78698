/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delta codec: choice of implementation, and encoding. */
#include "delta.h"

#include <string.h>

#include "byteorder.h"
#include "delta_impl.h"

/* Room is made for this many pages at a time, never for a whole large set. */
#define RESERVE_PAGES 64

typedef struct {
    const char *name;
    FutDeltaDiff diff;
} Impl;

static const Impl impl_plain = { "plain", fut_delta_diff_plain };
#if defined(__x86_64__)
static const Impl impl_avx2 = { "avx2", fut_delta_diff_avx2 };
static const Impl impl_avx512 = { "avx512", fut_delta_diff_avx512 };
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

/* Room for one more record; `left` pages are still to come. Returns where the record goes. */
static inline uint8_t *record_room(FutBuf *out, size_t left)
{
    if (G_UNLIKELY(out->cap - out->len < FUT_DELTA_RECORD_MAX + FUT_DELTA_SLACK)) {
        fut_buf_reserve(out, MIN(left, RESERVE_PAGES) * FUT_DELTA_RECORD_MAX + FUT_DELTA_SLACK);
    }
    return out->data + out->len;
}

static inline void put_head(uint8_t *at, uint64_t key, FutDeltaKind kind)
{
    fut_put_le64(at, key | (uint64_t)kind << FUT_DELTA_KIND_SHIFT);
}

/* A ZERO or RAW record of what `page` holds, which nobody changes meanwhile. Returns its length. */
static size_t put_whole(uint8_t *at, uint64_t key, const uint8_t *page, FutDeltaStats *stats)
{
    if (fut_delta_is_zero(page)) {
        put_head(at, key, FUT_DELTA_ZERO);
        stats->zero++;
        return 8;
    }
    put_head(at, key, FUT_DELTA_RAW);
    memcpy(at + 8, page, FUT_PAGE_SIZE);
    stats->raw++;
    return 8 + FUT_PAGE_SIZE;
}

/* The record of a page whose DIFF body of `length` bytes stands at `at` + 8 and whose shadow is
 * up to date. */
static size_t put_changed(uint8_t *at, uint64_t key, const uint8_t *shadow, size_t length,
                          FutDeltaStats *stats)
{
    if (length >= FUT_PAGE_SIZE || fut_delta_is_zero(shadow)) {
        return put_whole(at, key, shadow, stats);
    }
    put_head(at, key, FUT_DELTA_DIFF);
    return 8 + length;
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
    FutDeltaDiff diff = current_impl()->diff;
    FutDeltaStats seen = { .pages = count };
    const uint8_t *next = count ? fut_memory_page(memory, keys[0]) : NULL;
    uint8_t *next_copy = count ? fut_memory_page(shadow, keys[0]) : NULL;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *page = next;
        uint8_t *copy = next_copy;
        g_assert(page && copy);
        if (i + 1 < count) {
            next = fut_memory_page(memory, keys[i + 1]);
            next_copy = fut_memory_page(shadow, keys[i + 1]);
        }
        uint8_t *at = record_room(out, count - i);
        size_t length = diff(at + 8, page, copy, next, next_copy);
        if (length == 0) {
            seen.unchanged++;
            continue;
        }
        out->len += put_changed(at, keys[i], copy, length, &seen);
    }
    add_stats(stats, &seen);
}

void fut_delta_encode_full(FutBuf *out, const FutMemory *memory, const FutMemory *shadow,
                           const uint64_t *keys, size_t count, FutDeltaStats *stats)
{
    FutDeltaStats seen = { .pages = count };
    for (size_t i = 0; i < count; i++) {
        const uint8_t *page = fut_memory_page(memory, keys[i]);
        uint8_t *copy = fut_memory_page(shadow, keys[i]);
        g_assert(page && copy);
        /* Untouched memory stays so: written, it would take room on both hosts. */
        if (!fut_delta_is_zero(page) || !fut_delta_is_zero(copy)) {
            memcpy(copy, page, FUT_PAGE_SIZE);
        }
        /* The guest may write the page at any time: from here on the compiler must read the
         * copy, not the page. */
        __asm__ __volatile__("" : : "r"(copy) : "memory");
        out->len += put_whole(record_room(out, count - i), keys[i], copy, &seen);
    }
    add_stats(stats, &seen);
}
