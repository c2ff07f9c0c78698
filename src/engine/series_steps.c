/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is done for a snapshot while the guest runs: protecting pages, copying and handing them over. One thread makes the steps. */
#include "series_internal.h"

#include "code_list.h"
#include "flow_list.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "hot_list.h"

/* A cut that does not come is asked for again this often, and given up after that. */
#define NUDGE_NS (100 * FUT_NS_PER_MS)
#define CUT_WAIT_NS (10 * FUT_NS_PER_S)
/* Pages protected in one call. */
#define PROTECT_PAGES (64u << 20 >> FUT_PAGE_SHIFT)
/* Handed over in one go, before others are let go first. */
#define HAND_PAGES 16
/* To hand over so many keeps a processor for some hundredths of a second. */
#define SHORT_PAGES (32u << 20 >> FUT_PAGE_SHIFT)
/* One in so many pieces of translated code is new, or gone, when the list of them is old. */
#define CODES_SHARE 64

static const FutMemory *memory_of(FutEngine *engine)
{
    return engine->vmm->ops->memory(engine->vmm);
}

/* -- waiting for a cut -- */

static FutStep wait_for_cut(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    uint64_t now_ns = fut_engine_now(engine);

    if (now_ns - series->cut_asked_ns > CUT_WAIT_NS) {
        fut_series_cancel(engine,
                          "the guest cannot be stopped for a snapshot: it is paused, or its "
                          "epoch does not end (see futago status)");
        return FUT_STEP_MORE;
    }
    if (now_ns - series->nudged_ns > NUDGE_NS) {
        series->nudged_ns = now_ns;
        engine->vmm->ops->cut_request(engine->vmm);
    }
    return FUT_STEP_WAIT;
}

/* -- protecting -- */

/* The first snapshot: all pages that may hold other than zeroes. */
void fut_series_add_resident(FutEngine *engine, FutPageMap *map)
{
    const FutMemory *memory = memory_of(engine);

    for (unsigned i = 0; i < memory->count; i++) {
        uint64_t pages = memory->block[i].length >> FUT_PAGE_SHIFT;
        if (engine->host->resident) {
            engine->host->resident(engine->opaque, memory->block[i].base, pages,
                                   map->block[i].bits);
        } else {
            fut_pagemap_add_run(map, fut_key(i, 0), pages);
        }
    }
}

static bool guard_todo(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    uint64_t key = 0, pages;

    if (series->order.full && !series->ahead && series->rounds == 1) {
        fut_series_add_resident(engine, &series->todo);
    }
    for (; fut_pagemap_next(&series->todo, &key, &pages, PROTECT_PAGES); key += pages) {
        if (!engine->host->guard(engine->opaque, fut_memory_page(memory_of(engine), key),
                                 pages << FUT_PAGE_SHIFT, true)) {
            fut_series_cancel(engine,
                              "guest memory cannot be protected against writing (userfaultfd)");
            return false;
        }
    }
    return true;
}

/* `set`, `todo` and the early copies are this thread's in this phase; faults look at `written` alone. */
static FutStep take_round(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    if (series->early.on) {
        fut_series_early_copy(engine);
    } else if (!guard_todo(engine)) {
        return FUT_STEP_MORE;
    }
    series->cut_asked_ns = fut_engine_now(engine);
    g_mutex_lock(&series->lock);
    fut_pagemap_merge(&series->set, &series->todo);
    fut_pagemap_clear(&series->todo);
    if (series->phase == FUT_SERIES_GUARDING) {
        series->phase = FUT_SERIES_CUTTING;
        g_atomic_int_set(&series->cut_due, TRUE);
    }
    g_mutex_unlock(&series->lock);
    engine->vmm->ops->cut_request(engine->vmm);
    return FUT_STEP_WAIT;
}

/* -- handing over pages -- */

void fut_series_background(FutEngine *engine, bool on)
{
    if (engine->host->background) {
        engine->host->background(engine->opaque, on);
    }
}

/* The guest goes first, unless it will have to wait for this one soon, or there is so little to be done that it hardly notices. */
static void begin_handing(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    g_mutex_lock(&series->lock);
    bool hurry = series->side_bytes > engine->config.series_side_max_bytes / 4 ||
                 series->cut.pages <= SHORT_PAGES;
    g_mutex_unlock(&series->lock);
    fut_series_background(engine, !hurry);
}

static void end_handing(FutEngine *engine)
{
    fut_series_background(engine, false);
}

bool fut_series_hand_pages(FutEngine *engine, uint64_t key, const uint8_t *data, uint64_t count,
                           GError **error)
{
    const FutSeriesOrder *order = &engine->series.order;
    uint64_t piece;

    for (; count > 0; key += piece, data += piece * FUT_PAGE_SIZE, count -= piece) {
        piece = MIN(count, HAND_PAGES);
        if (!order->ops->pages(order->sink, fut_key_block(key), fut_key_page(key), data, piece,
                               error)) {
            return false;
        }
        if (engine->host->give_way) {
            engine->host->give_way(engine->opaque);
        }
    }
    return true;
}

static bool hand_aside(FutEngine *engine, FutSeriesPage *take_pages, GError **error)
{
    bool ok = true;

    while (take_pages) {
        FutSeriesPage *page = take_pages;
        take_pages = page->next;
        ok = ok && fut_series_hand_pages(engine, page->key, page->data, 1, error);
        g_free(page);
    }
    return ok;
}

static FutSeriesPage *take_aside(FutSeries *series)
{
    g_mutex_lock(&series->lock);
    FutSeriesPage *pages = series->pages;
    series->pages = NULL;
    series->pages_tail = &series->pages;
    for (const FutSeriesPage *page = pages; page; page = page->next) {
        series->side_bytes -= sizeof(*page);
    }
    series->stalled_ns = 0;
    g_mutex_unlock(&series->lock);
    return pages;
}

/* Lock held: which of a group's pages nobody has copied yet. A group begins with a word of the maps. */
static void find_left(const FutSeries *series, uint64_t first, uint64_t count, uint64_t *ret_bits)
{
    const uint64_t *set = fut_pagemap_word(&series->set, first);
    const uint64_t *taken = fut_pagemap_word(&series->taken, first);

    for (uint64_t i = 0; i < (count + 63) / 64; i++) {
        ret_bits[i] = set[i] & ~taken[i];
    }
}

/* Lock held: of the pages in `have`, those that nobody has copied aside meanwhile; they are taken now. */
static void take_left(FutSeries *series, uint64_t first, uint64_t count, uint64_t *have)
{
    uint64_t *taken = fut_pagemap_word(&series->taken, first);

    for (uint64_t i = 0; i < (count + 63) / 64; i++) {
        have[i] &= ~taken[i];
        taken[i] |= have[i];
    }
}

/* A group's pages that nobody has copied yet, into `bounce`; `have` becomes which these are. They are copied without the lock: a vCPU may wait for it, and waits long if
 * this thread has it and loses its processor. Who writes to a page meanwhile copies it aside before, and what was copied here of it is not used. */
static void copy_group(FutEngine *engine, uint64_t first, uint64_t count, FutPageMap *have)
{
    FutSeries *series = &engine->series;
    uint64_t at = 0, pages;

    g_mutex_lock(&series->lock);
    find_left(series, first, count, have->block[0].bits);
    g_mutex_unlock(&series->lock);
    for (; fut_pagemap_next(have, &at, &pages, UINT64_MAX); at += pages) {
        memcpy(series->bounce + at * FUT_PAGE_SIZE, fut_memory_page(memory_of(engine), first + at),
               pages << FUT_PAGE_SHIFT);
    }
    g_mutex_lock(&series->lock);
    take_left(series, first, count, have->block[0].bits);
    g_mutex_unlock(&series->lock);
}

static bool hand_group(FutEngine *engine, uint64_t first, const FutPageMap *have, GError **error)
{
    uint64_t at = 0, pages;

    for (; fut_pagemap_next(have, &at, &pages, UINT64_MAX); at += pages) {
        if (!fut_series_hand_pages(engine, first + at, engine->series.bounce + at * FUT_PAGE_SIZE,
                                   pages, error)) {
            return false;
        }
    }
    return true;
}

/* The next group of pages of which one is in the set. */
static bool copy_some(FutEngine *engine, bool *ret_any, GError **error)
{
    FutSeries *series = &engine->series;
    uint64_t pages;

    *ret_any = fut_pagemap_next(&series->set, &series->cursor, &pages, 1);
    if (!*ret_any) {
        return true;
    }
    unsigned block = fut_key_block(series->cursor);
    uint64_t page = fut_key_page(series->cursor) / FUT_SERIES_GROUP * FUT_SERIES_GROUP;
    uint64_t first = fut_key(block, page);
    uint64_t count = MIN(FUT_SERIES_GROUP, series->set.block[block].pages - page);
    FutPageMap have = { 0 };

    fut_pagemap_add_block(&have, FUT_SERIES_GROUP);
    copy_group(engine, first, count, &have);
    if (series->guarded) {
        engine->host->guard(engine->opaque, fut_memory_page(memory_of(engine), first),
                            count << FUT_PAGE_SHIFT, false);
    }
    series->cursor = first + count;
    begin_handing(engine);
    bool ok = hand_group(engine, first, &have, error);
    end_handing(engine);
    fut_pagemap_done(&have);
    return ok;
}

/* All pages before the cut, and the room for what is copied then. After that it goes on as if there were a snapshot before this one. */
static FutStep ahead_step(FutEngine *engine, GError **error)
{
    FutSeries *series = &engine->series;
    bool any;

    if (!copy_some(engine, &any, error)) {
        return FUT_STEP_FAILED;
    }
    if (any || fut_series_prepare_some(engine)) {
        return FUT_STEP_MORE;
    }
    g_mutex_lock(&series->lock);
    if (series->phase == FUT_SERIES_AHEAD) {
        series->phase = FUT_SERIES_ARMING;
        series->cursor = 0;
        series->cut_asked_ns = series->nudged_ns = fut_engine_now(engine);
        g_atomic_int_set(&series->cut_due, TRUE);
    }
    g_mutex_unlock(&series->lock);
    engine->vmm->ops->cut_request(engine->vmm);
    return FUT_STEP_WAIT;
}

/* -- the end -- */

/* Lock held. */
static void forget_set(FutSeries *series)
{
    fut_pagemap_clear(&series->set);
    fut_pagemap_clear(&series->todo);
    fut_pagemap_clear(&series->taken);
    fut_pagemap_clear(&series->busy);
    series->busy_kept = false;
    fut_series_early_forget(series);
    fut_series_disks_drop(series);
    series->phase = FUT_SERIES_IDLE;
}

/* What it has used since the instant belongs to it: a guest that runs from there uses that first. */
static void note_hot(FutEngine *engine, FutBuf *ret)
{
    FutVmm *vmm = engine->vmm;

    if (vmm->ops->hot_pages) {
        g_autofree uint64_t *keys = g_new(uint64_t, FUT_HOT_NOTED);
        fut_hot_list_encode(ret, keys, vmm->ops->hot_pages(vmm, keys, FUT_HOT_NOTED));
    }
}

/* The list is made anew when a good part of it would be another one. */
static void note_code(FutEngine *engine)
{
    FutVmm *vmm = engine->vmm;
    FutSeries *series = &engine->series;
    size_t count = vmm->ops->code_count ? vmm->ops->code_count(vmm) : 0;

    if (count > series->codes + series->codes / CODES_SHARE ||
        count + series->codes / CODES_SHARE < series->codes) {
        g_autofree FutCode *codes = g_new(FutCode, FUT_CODES_NOTED);
        fut_code_list_encode(&series->code, codes,
                             vmm->ops->code_pieces(vmm, codes, FUT_CODES_NOTED));
        series->codes = count;
    }
}

static FutStep commit(FutEngine *engine, FutSeriesCut *ret, GError **error)
{
    FutSeries *series = &engine->series;

    g_mutex_lock(&series->lock);
    bool settled = series->settled;
    FutSeriesCut cut = series->cut;
    g_mutex_unlock(&series->lock);
    if (!settled) {
        return FUT_STEP_WAIT;
    }
    cut.state = series->state->data;
    cut.state_length = series->state->len;
    cut.took_ns = fut_engine_now(engine) - series->asked_ns;
    FutBuf flows = { 0 }, hot = { 0 };
    fut_flow_list_encode(&flows, series->flows, series->flow_count);
    cut.flows = flows.data;
    cut.flows_length = flows.len;
    note_hot(engine, &hot);
    cut.hot = hot.data;
    cut.hot_length = hot.len;
    note_code(engine);
    cut.code = series->code.data;
    cut.code_length = series->code.len;
    begin_handing(engine);
    bool good = series->order.ops->commit(series->order.sink, &cut, error);
    end_handing(engine);
    fut_buf_done(&flows);
    fut_buf_done(&hot);
    if (!good) {
        return FUT_STEP_FAILED;
    }
    g_mutex_lock(&series->lock);
    /* Of a backup that has taken over meanwhile, nobody follows the image any more. */
    series->based = !(series->image && series->phase == FUT_SERIES_GIVING_UP);
    g_clear_error(&series->error);
    forget_set(series);
    g_mutex_unlock(&series->lock);
    *ret = cut;
    ret->state = NULL;
    ret->flows = NULL;
    ret->hot = NULL;
    ret->code = NULL;
    return FUT_STEP_DONE;
}

/* What belonged to this snapshot belongs to the next. */
static FutStep give_up(FutEngine *engine, GError **error)
{
    FutSeries *series = &engine->series;
    uint64_t key = 0, pages;

    fut_series_image_unwanted(engine);
    g_mutex_lock(&series->lock);
    fut_pagemap_merge(&series->set, &series->todo);
    g_mutex_unlock(&series->lock);
    for (; series->guarded && fut_pagemap_next(&series->set, &key, &pages, PROTECT_PAGES);
         key += pages) {
        engine->host->guard(engine->opaque, fut_memory_page(memory_of(engine), key),
                            pages << FUT_PAGE_SHIFT, false);
    }
    for (FutSeriesPage *page = take_aside(series); page;) {
        FutSeriesPage *next = page->next;
        g_free(page);
        page = next;
    }
    g_mutex_lock(&series->lock);
    fut_pagemap_merge(&series->written, &series->set);
    fut_series_disks_restore(series);
    forget_set(series);
    g_propagate_error(error, g_steal_pointer(&series->error));
    g_mutex_unlock(&series->lock);
    return FUT_STEP_FAILED;
}

/* -- steps -- */

/* Some of what is in hand, if there is any: what was copied before who writes could go on, or before the cut. */
static bool hand_some(FutEngine *engine, bool *ret_any, GError **error)
{
    FutSeriesPage *aside = take_aside(&engine->series);
    bool good = true;

    *ret_any = aside != NULL;
    begin_handing(engine);
    if (aside) {
        good = hand_aside(engine, aside, error);
    } else {
        good = fut_series_disks_hand(engine, ret_any, error);
    }
    end_handing(engine);
    return good;
}

static bool hand_early(FutEngine *engine, bool *ret_any, GError **error)
{
    begin_handing(engine);
    bool good = fut_series_early_hand(engine, ret_any, error);
    end_handing(engine);
    return good;
}

/* What somebody waits for first: protected pages before those that nobody will wait for. */
static FutStep copy_step(FutEngine *engine, FutSeriesCut *ret, GError **error)
{
    GError *failure = NULL;
    bool over = false, any = false;

    bool good = hand_some(engine, &any, &failure);
    good = good && (any || copy_some(engine, &any, &failure));
    good = good && (any || hand_early(engine, &any, &failure));
    if (!good) {
        g_propagate_error(error, failure);
        return FUT_STEP_FAILED;
    }
    if (any) {
        return FUT_STEP_MORE;
    }
    FutStep step = fut_series_disks_step(engine, &over, error);
    return over ? commit(engine, ret, error) : step;
}

FutStep fut_series_step(FutEngine *engine, FutSeriesCut *ret, GError **error)
{
    FutSeries *series = &engine->series;
    GError *failure = NULL;
    FutStep step;

    switch (g_atomic_int_get(&series->phase)) {
    case FUT_SERIES_ARMING:
    case FUT_SERIES_CUTTING:
        return series->image ? fut_series_image_step(engine) : wait_for_cut(engine);
    case FUT_SERIES_AHEAD:
        step = ahead_step(engine, &failure);
        break;
    case FUT_SERIES_GUARDING:
        return series->image ? fut_series_image_step(engine) : take_round(engine);
    case FUT_SERIES_COPYING:
        step = copy_step(engine, ret, &failure);
        break;
    case FUT_SERIES_GIVING_UP:
        return give_up(engine, error);
    default:
        g_assert_not_reached();
    }
    if (failure) {
        g_mutex_lock(&series->lock);
        fut_series_give_up(engine, failure);
        g_mutex_unlock(&series->lock);
        return FUT_STEP_MORE;
    }
    return step;
}

/* Some microseconds' worth. */
#define COUNT_PAGES (1u << 18)

/* Lock held: is there anything to count? */
static bool hands_over(const FutSeries *series)
{
    int phase = g_atomic_int_get(&series->phase);

    return phase == FUT_SERIES_COPYING ||
           (series->ahead && phase != FUT_SERIES_IDLE && phase != FUT_SERIES_GIVING_UP);
}

/* One piece, under the lock: short, for a vCPU may wait for it. -1: it is not copying any more; 0: the map has no more; else there is more. */
static int count_piece(FutSeries *series, const FutPageMap *map, unsigned *block, uint64_t *page,
                       uint64_t *count)
{
    int more = -1;

    g_mutex_lock(&series->lock);
    if (hands_over(series)) {
        more = *block < map->count;
        if (more && !fut_pagemap_count_part(map, *block, page, COUNT_PAGES, count)) {
            ++*block;
            *page = 0;
        }
    }
    g_mutex_unlock(&series->lock);
    return more;
}

static bool count_pages(FutSeries *series, const FutPageMap *map, unsigned shift, uint64_t *sum)
{
    uint64_t page = 0, count = 0;
    unsigned block = 0;
    int more;

    do {
        more = count_piece(series, map, &block, &page, &count);
    } while (more > 0);
    *sum += count << shift;
    return more == 0;
}

/* A full one copies all of the disks, but what that is is set at the cut only. */
static uint64_t chunks_to_come(FutSeries *series)
{
    uint64_t chunks = 0;

    g_mutex_lock(&series->lock);
    if (g_atomic_int_get(&series->phase) != FUT_SERIES_COPYING) {
        for (unsigned i = 0; i < series->chunks_set.count; i++) {
            chunks += series->chunks_set.block[i].pages;
        }
    }
    g_mutex_unlock(&series->lock);
    return chunks;
}

/* What is copied while this counts may be in one sum and not in the other: so no more than all. */
double fut_series_share(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    unsigned shift = engine->config.series_chunk_shift - FUT_PAGE_SHIFT;
    uint64_t all = chunks_to_come(series) << shift, done = 0;

    if (!count_pages(series, &series->set, 0, &all) ||
        !count_pages(series, &series->chunks_set, shift, &all) ||
        !count_pages(series, &series->taken, 0, &done) ||
        !count_pages(series, &series->chunks_taken, shift, &done)) {
        return 0;
    }
    return all > 0 ? MIN(1.0, (double)done / (double)all) : 1;
}
