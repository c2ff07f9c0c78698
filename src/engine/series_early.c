/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages that are copied before the cut, while the guest runs. What it writes to meanwhile is copied again, in a further round or in the stop;
 * all else has been taken without anybody having waited, and need not be protected. Only for as many as there is room for, and as long as
 * each round has a quarter less than the one before: else the guest writes faster than this copies, and is held up by protection. */
#include "series_internal.h"

#include <string.h>
#include <sys/mman.h>

/* A place whose page was copied again. */
#define NO_KEY UINT64_MAX
/* So much of the room is touched in one go. */
#define TOUCH_BYTES (2u << 20)

static size_t room_bytes(const FutEngine *engine)
{
    return (size_t)engine->config.series_early_max_pages * FUT_PAGE_SIZE;
}

void fut_series_early_init(FutEngine *engine)
{
    FutSeriesEarly *early = &engine->series.early;

    fut_pagemap_add_memory(&early->good, engine->vmm->ops->memory(engine->vmm));
    fut_pagemap_clear(&early->good);
    early->count = 0;
    if (room_bytes(engine) == 0) {
        return;
    }
    void *data = mmap(NULL, room_bytes(engine), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data != MAP_FAILED) {
        madvise(data, room_bytes(engine), MADV_HUGEPAGE); /* fewer faults, where it can be had */
        early->data = data;
        early->touched = 0;
        early->keys = g_new(uint64_t, engine->config.series_early_max_pages);
    }
}

void fut_series_early_done(FutEngine *engine)
{
    FutSeriesEarly *early = &engine->series.early;

    fut_pagemap_done(&early->good);
    if (early->data) {
        munmap(early->data, room_bytes(engine));
    }
    early->data = NULL;
    g_clear_pointer(&early->keys, g_free);
}

bool fut_series_early_touch(FutEngine *engine)
{
    FutSeriesEarly *early = &engine->series.early;
    size_t end = early->data ? MIN(early->touched + TOUCH_BYTES, room_bytes(engine)) : 0;

    for (; early->touched < end; early->touched += FUT_PAGE_SIZE) {
        early->data[early->touched] = 0;
    }
    return early->data && end < room_bytes(engine);
}

bool fut_series_early_fits(const FutEngine *engine, uint64_t count)
{
    const FutSeries *series = &engine->series;
    const FutSeriesEarly *early = &series->early;

    return early->data && !fut_series_takes_all(series) &&
           (early->round == 0 || count <= early->round / 4 * 3) &&
           count <= engine->config.series_early_max_pages - early->count;
}

void fut_series_early_cut(FutSeries *series)
{
    fut_pagemap_subtract(&series->early.good, &series->written);
    fut_pagemap_subtract(&series->taken, &series->written);
}

static void forget_stale(FutSeriesEarly *early)
{
    for (uint64_t i = 0; i < early->count; i++) {
        if (early->keys[i] != NO_KEY && !fut_pagemap_has(&early->good, early->keys[i])) {
            early->keys[i] = NO_KEY;
        }
    }
}

void fut_series_early_copy(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    FutSeriesEarly *early = &series->early;
    const FutMemory *memory = engine->vmm->ops->memory(engine->vmm);
    uint64_t key = 0, pages;

    forget_stale(early);
    for (; fut_pagemap_next(&series->todo, &key, &pages, UINT64_MAX); key += pages) {
        g_assert(pages <= engine->config.series_early_max_pages - early->count);
        memcpy(early->data + early->count * FUT_PAGE_SIZE, fut_memory_page(memory, key),
               pages << FUT_PAGE_SHIFT);
        for (uint64_t i = 0; i < pages; i++) {
            early->keys[early->count++] = key + i;
        }
    }
    fut_pagemap_merge(&early->good, &series->todo);
}

static bool is_good(const FutSeriesEarly *early, uint64_t at)
{
    return early->keys[at] != NO_KEY && fut_pagemap_has(&early->good, early->keys[at]);
}

/* So many from there on follow each other in memory, too. */
static uint64_t run_at(const FutSeriesEarly *early, uint64_t at)
{
    uint64_t pages = 1;

    while (pages < FUT_SERIES_GROUP && at + pages < early->count &&
           early->keys[at + pages] == early->keys[at] + pages && is_good(early, at + pages)) {
        pages++;
    }
    return pages;
}

bool fut_series_early_hand(FutEngine *engine, bool *ret_any, GError **error)
{
    FutSeriesEarly *early = &engine->series.early;
    uint64_t pages, sum = 0;

    for (; early->handed < early->count && sum < FUT_SERIES_GROUP; early->handed += pages) {
        uint64_t at = early->handed;
        pages = 1;
        if (!is_good(early, at)) {
            continue;
        }
        pages = run_at(early, at);
        sum += pages;
        if (!fut_series_hand_pages(engine, early->keys[at], early->data + at * FUT_PAGE_SIZE, pages,
                                   error)) {
            return false;
        }
    }
    *ret_any = sum > 0;
    return true;
}

void fut_series_early_forget(FutSeries *series)
{
    fut_pagemap_clear(&series->early.good);
    series->early.count = series->early.handed = series->early.round = 0;
}
