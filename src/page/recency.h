/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which guest pages were used last, and which are used most. Time is counted in uses: a moment ends when FUT_RECENCY_MOMENT pages were used that had not
 * been in it. Each page has the number of the last moment in which it was used, and of how many, of which those long ago count less and less. */
#ifndef FUT_RECENCY_H
#define FUT_RECENCY_H

#include "pageset.h"

#define FUT_RECENCY_MOMENT 64
#define FUT_RECENCY_FADE_SHIFT                                                                     \
    8 /* after so many moments (a power of two) what was before counts half */
#define FUT_RECENCY_CHUNK_SHIFT 10 /* pages whose numbers are looked at together, or not at all */

typedef struct {
    uint32_t last; /* moment; 0: never used */
    uint32_t times;
} FutPageUse;

typedef struct {
    const FutMemory *memory;
    uint32_t now;   /* atomic, like all that follows; where two threads meet a use may be lost */
    uint32_t fresh; /* pages of this moment */
    FutPageUse *pages[FUT_BLOCKS_MAX]; /* memory that nobody touched costs nothing */
    uint8_t *used[FUT_BLOCKS_MAX];     /* by chunk: any was ever used */
} FutRecency;

/* `memory` is borrowed, and does not change. False: no room. */
bool fut_recency_init(FutRecency *recency, const FutMemory *memory);
void fut_recency_done(FutRecency *recency);

/* What `times` uses, the last of them `age` moments ago, count now. */
static inline uint32_t fut_recency_fade(uint32_t times, uint32_t age)
{
    uint32_t halves = age >> FUT_RECENCY_FADE_SHIFT;

    return halves < 32 ? times >> halves : 0;
}

/* A page of the memory is used. Any thread. */
static inline void fut_recency_use(FutRecency *recency, unsigned block, uint64_t page)
{
    uint32_t now = __atomic_load_n(&recency->now, __ATOMIC_RELAXED);
    FutPageUse *use = &recency->pages[block][page];
    uint32_t last = __atomic_load_n(&use->last, __ATOMIC_RELAXED);

    if (last == now) {
        return;
    }
    if (last == 0) {
        __atomic_store_n(&recency->used[block][page >> FUT_RECENCY_CHUNK_SHIFT], 1,
                         __ATOMIC_RELAXED);
    }
    uint32_t times =
        fut_recency_fade(__atomic_load_n(&use->times, __ATOMIC_RELAXED), now - last) + 1;
    __atomic_store_n(&use->times, times, __ATOMIC_RELAXED);
    __atomic_store_n(&use->last, now, __ATOMIC_RELAXED);
    uint32_t fresh = __atomic_load_n(&recency->fresh, __ATOMIC_RELAXED) + 1;
    if (fresh >= FUT_RECENCY_MOMENT) {
        fresh = 0;
        __atomic_store_n(&recency->now, now + 1, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&recency->fresh, fresh, __ATOMIC_RELAXED);
}

#define FUT_RECENCY_NEVER UINT32_MAX
/* How many moments ago the page was used. Any thread. */
static inline uint32_t fut_recency_age(const FutRecency *recency, unsigned block, uint64_t page)
{
    uint32_t last = __atomic_load_n(&recency->pages[block][page].last, __ATOMIC_RELAXED);
    uint32_t age = __atomic_load_n(&recency->now, __ATOMIC_RELAXED) - last;

    /* Used since `now` was read: the difference is below zero. */
    return last == 0 ? FUT_RECENCY_NEVER : (int32_t)age < 0 ? 0 : age;
}

typedef enum {
    FUT_RECENCY_NEWEST, /* used last */
    FUT_RECENCY_MOST    /* used most often; what passes once, however new, comes behind that */
} FutRecencyOrder;

/* Keys of pages in that order; returns how many, at most `max`. Any thread, while pages are used. */
size_t fut_recency_best(const FutRecency *recency, FutRecencyOrder order, uint64_t *ret_keys,
                        size_t max);

#endif
