/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots of the running guest: commands and cuts. What goes on while the guest runs is in series_steps.c and series_disks.c. */
#include "series_internal.h"

#include "fut_clock.h"
#include "fut_error.h"
#include "memhash.h"

/* With more than so many written while pages were being protected, these are protected before the cut, too; so often at most. */
#define ROUND_PAGES 4096
#define ROUNDS_MAX 6
/* So few written while a full one was made ready are what the guest writes all the time. */
#define BUSY_PAGES 256
/* To copy so few takes no longer than one more stop would. */
#define FEW_PAGES 128
/* Runs of pages with no more than so many between them are protected as one. */
#define GAP_PAGES 16

void fut_series_init(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    g_mutex_init(&series->lock);
    series->pages_tail = &series->pages;
    series->pieces_tail = &series->pieces;
    series->state = g_byte_array_new();
    series->flows = g_new0(FutFlow, FUT_FLOWS_MAX);
}

/* All but `spill`: the pair has not yet been told of that. */
static void free_maps(FutSeries *series)
{
    FutPageMap *maps[] = { &series->written,    &series->set,          &series->todo,
                           &series->taken,      &series->busy,         &series->chunks_written,
                           &series->chunks_set, &series->chunks_taken, &series->chunks_claimed };

    for (size_t i = 0; i < G_N_ELEMENTS(maps); i++) {
        fut_pagemap_done(maps[i]);
    }
    fut_pageset_done(&series->collected);
    g_clear_pointer(&series->bounce, g_free);
}

static void drop_pages(FutSeries *series)
{
    while (series->pages) {
        FutSeriesPage *page = series->pages;
        series->pages = page->next;
        g_free(page);
    }
    series->pages_tail = &series->pages;
}

/* -- room for what is copied with the guest stopped -- */

/* Of the device state; it grows if that is longer. */
#define STATE_ROOM (256u << 10)

static void fill_spares(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    for (;;) {
        g_mutex_lock(&series->lock);
        bool enough = series->spares >= engine->config.series_copy_max_pages;
        g_mutex_unlock(&series->lock);
        if (enough) {
            return;
        }
        FutSeriesPage *page = g_new(FutSeriesPage, 1);
        memset(page, 0, sizeof(*page));
        g_mutex_lock(&series->lock);
        page->next = series->spare;
        series->spare = page;
        series->spares++;
        g_mutex_unlock(&series->lock);
    }
}

/* Lock held. */
static FutSeriesPage *new_page(FutSeries *series)
{
    FutSeriesPage *page = series->spare;

    if (!page) {
        return g_new(FutSeriesPage, 1);
    }
    series->spare = page->next;
    series->spares--;
    return page;
}

static void drop_spares(FutSeries *series)
{
    while (series->spare) {
        g_free(new_page(series));
    }
}

static void touch_state(FutSeries *series)
{
    g_byte_array_set_size(series->state, STATE_ROOM);
    memset(series->state->data, 0, STATE_ROOM);
    g_byte_array_set_size(series->state, 0);
}

void fut_series_done(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    drop_pages(series);
    drop_spares(series);
    fut_series_disks_drop(series);
    free_maps(series);
    fut_series_early_done(engine);
    fut_pagemap_done(&series->spill);
    g_byte_array_unref(series->state);
    g_free(series->flows);
    fut_buf_done(&series->code);
    g_clear_error(&series->error);
    g_mutex_clear(&series->lock);
}

/* -- beginning -- */

static void make_maps(FutSeries *series, const FutMemory *memory, const FutDiskInfo *disks,
                      unsigned shift)
{
    FutPageMap *maps[] = { &series->written, &series->set, &series->todo, &series->taken,
                           &series->busy };
    FutPageMap *chunks[] = { &series->chunks_written, &series->chunks_set, &series->chunks_taken,
                             &series->chunks_claimed };

    for (size_t i = 0; i < G_N_ELEMENTS(maps); i++) {
        fut_pagemap_add_memory(maps[i], memory);
    }
    if (series->spill.count == 0) {
        fut_pagemap_add_memory(&series->spill, memory);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(maps); i++) {
        fut_pagemap_clear(maps[i]); /* touched now, not with the guest stopped */
    }
    for (size_t i = 0; i < G_N_ELEMENTS(chunks); i++) {
        for (unsigned disk = 0; disk < series->disks; disk++) {
            fut_pagemap_add_block(chunks[i], (disks[disk].length + (1ull << shift) - 1) >> shift);
        }
    }
    series->bounce = g_malloc((size_t)FUT_SERIES_GROUP * FUT_PAGE_SIZE);
}

/* `image`: of a backup. What the link brings is seen before it is there, so nobody has to look for it. */
static bool start_tracking(FutEngine *engine, bool image, GError **error)
{
    FutSeries *series = &engine->series;
    const FutVmmOps *ops = engine->vmm->ops;
    const FutDiskInfo *disks = ops->disks ? ops->disks(engine->vmm, &series->disks) : NULL;

    make_maps(series, ops->memory(engine->vmm), disks, engine->config.series_chunk_shift);
    fut_series_early_init(engine);
    if (!image && !ops->dirty_start(engine->vmm, FUT_FOR_SNAPSHOTS, error)) {
        free_maps(series);
        fut_series_early_done(engine);
        return false;
    }
    if (!image && ops->state_prepare) {
        fut_series_background(engine, true);
        ops->state_prepare(engine->vmm);
        fut_series_background(engine, false);
    }
    touch_state(series);
    series->guard = !image && engine->host->guard_open &&
                    engine->host->guard_open(engine->opaque, ops->memory(engine->vmm));
    g_mutex_lock(&series->lock);
    series->image = image;
    series->based = false;
    g_atomic_int_set(&series->tracking, TRUE);
    g_mutex_unlock(&series->lock);
    return true;
}

/* Without protection what is not copied ahead is copied during the stop, and that may be all of it. `whole`: it is. */
#define UNGUARDED_MAX (256ull << 20)

static bool may_go_unguarded(FutEngine *engine, bool whole, GError **error)
{
    FutSeries *series = &engine->series;
    const FutMemory *memory = engine->vmm->ops->memory(engine->vmm);
    uint64_t bytes = 0;

    for (unsigned i = 0; i < memory->count; i++) {
        bytes += memory->block[i].length;
    }
    if (bytes > UNGUARDED_MAX) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "guest memory cannot be protected against writing, and more than %u MiB would be copied "
            "with the guest stopped: run QEMU as root, or let it use /dev/userfaultfd, and give it no "
            "memory of huge pages",
            (unsigned)(UNGUARDED_MAX >> 20));
        return false;
    }
    if (whole) {
        g_mutex_lock(&series->lock);
        fut_pagemap_add_all(&series->written);
        g_mutex_unlock(&series->lock);
    }
    return true;
}

/* What speaks against one of a backup's image. */
static const char *image_fault(const FutEngine *engine, const FutPairStatus *status)
{
    if (engine->config.moving) {
        return "the VM moves here, and until it runs here its disks are at the source: take the "
               "snapshot there";
    }
    if (status->state == FUT_STATE_TAKING) {
        return "this backup is taking the VM over: try again when it runs here";
    }
    if (status->state != FUT_STATE_STANDBY && status->state != FUT_STATE_CLAIMING) {
        return "this backup does not hold a whole VM yet: wait until the first copy is done "
               "(futago status)";
    }
    return NULL;
}

bool fut_series_possible(const FutEngine *engine, GError **error)
{
    if (engine->shared.count > 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "a disk is shared by both hosts, and what is held back for it is not "
                            "in its image: snapshots need disks of each host's own");
        return false;
    }
    return true;
}

/* *ret_image: it would be of a backup's image. */
static bool may_begin(FutEngine *engine, bool *ret_image, GError **error)
{
    FutPairStatus status;
    const char *fault = NULL;

    g_mutex_lock(&engine->lock);
    fut_pair_status(engine->pair, &status);
    bool exiting = engine->exiting;
    g_mutex_unlock(&engine->lock);
    *ret_image = status.role == FUT_ROLE_BACKUP;
    if (status.state == FUT_STATE_FENCED || exiting) {
        fault = "this VM ends here: take the snapshot where it runs";
    } else if (engine->series.phase != FUT_SERIES_IDLE) {
        fault = "a snapshot is being taken: wait until it is done";
    } else if (*ret_image) {
        fault = image_fault(engine, &status);
    } else if (!engine->vmm->ops->running(engine->vmm)) {
        fault = "the guest is paused: let it go on (QMP cont) and try again";
    }
    if (fault) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, fault);
    }
    return !fault;
}

/* Lock held. What was written before is among what is copied ahead, and belongs to this snapshot: or to the next, if this one fails. */
static void begin_ahead(FutSeries *series, bool ahead)
{
    series->ahead = ahead;
    series->phase = ahead ? FUT_SERIES_AHEAD : FUT_SERIES_ARMING;
    if (ahead) {
        fut_pagemap_merge(&series->set, &series->written);
        fut_pagemap_clear(&series->written);
        series->cut.pages = fut_pagemap_count(&series->set);
    }
}

bool fut_series_begin(FutEngine *engine, const FutSeriesOrder *order, GError **error)
{
    FutSeries *series = &engine->series;
    bool image;

    if (!may_begin(engine, &image, error)) {
        return false;
    }
    if (series->image != image) {
        fut_series_end(engine); /* it took the VM over: what was followed was the image */
    }
    if (!series->tracking && !start_tracking(engine, image, error)) {
        return false;
    }
    bool ahead = !image && order->full && !order->soon;
    if (!image && !series->guard &&
        !may_go_unguarded(engine, !ahead && (order->full || !series->based), error)) {
        return false;
    }
    if (ahead) {
        fut_series_add_resident(engine, &series->set);
    } else {
        fill_spares(engine);
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&series->lock);
    if (!order->full && !series->based) {
        g_mutex_unlock(&series->lock);
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_MISMATCH,
            "what was written since the last snapshot is not known: take a full one");
        return false;
    }
    series->order = *order;
    series->asked_ns = series->cut_asked_ns = series->nudged_ns = now_ns;
    series->cursor = series->disk_cursor = 0;
    series->rounds = 0;
    series->guarded = false;
    series->stalled_ns = 0;
    series->cut = (FutSeriesCut){ 0 };
    series->settled = false;
    begin_ahead(series, ahead);
    g_atomic_int_set(&series->cut_due, !image && !ahead);
    g_mutex_unlock(&series->lock);
    if (!image && !ahead) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
    return true;
}

bool fut_series_prepare_some(FutEngine *engine)
{
    fut_series_background(engine, true);
    fill_spares(engine);
    bool more = fut_series_early_touch(engine);
    fut_series_background(engine, false);
    return more;
}

bool fut_series_prepare(FutEngine *engine)
{
    if (!fut_series_based(engine)) {
        return false;
    }
    return fut_series_prepare_some(engine);
}

bool fut_series_based(FutEngine *engine)
{
    g_mutex_lock(&engine->series.lock);
    bool based = engine->series.tracking && engine->series.based;
    g_mutex_unlock(&engine->series.lock);
    return based;
}

void fut_series_end(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    if (!series->tracking) {
        return;
    }
    g_mutex_lock(&series->lock);
    g_assert(series->phase == FUT_SERIES_IDLE);
    g_atomic_int_set(&series->tracking, FALSE);
    series->based = false;
    g_mutex_unlock(&series->lock);
    if (!series->image) {
        engine->vmm->ops->dirty_stop(engine->vmm, FUT_FOR_SNAPSHOTS);
    }
    if (series->guard) {
        engine->host->guard_close(engine->opaque);
    }
    /* A cut that runs has seen that nothing is followed, or ends before the lock is ours. */
    g_mutex_lock(&series->lock);
    free_maps(series);
    fut_series_early_done(engine);
    drop_spares(series);
    g_mutex_unlock(&series->lock);
}

/* -- giving up -- */

void fut_series_give_up(FutEngine *engine, GError *take_error)
{
    FutSeries *series = &engine->series;

    if (series->phase == FUT_SERIES_IDLE || series->phase == FUT_SERIES_GIVING_UP) {
        g_error_free(take_error);
        return;
    }
    series->error = take_error;
    series->phase = FUT_SERIES_GIVING_UP;
    g_atomic_int_set(&series->cut_due, FALSE);
}

void fut_series_cancel(FutEngine *engine, const char *why)
{
    g_mutex_lock(&engine->series.lock);
    fut_series_give_up(engine, g_error_new_literal(FUT_ERROR, FUT_ERR_STATE, why));
    g_mutex_unlock(&engine->series.lock);
    if (engine->host->series) {
        engine->host->series(engine->opaque);
    }
}

bool fut_series_has_room(FutEngine *engine, uint64_t now_ns)
{
    FutSeries *series = &engine->series;

    if (series->side_bytes < engine->config.series_side_max_bytes) {
        return true;
    }
    series->stalled_ns = series->stalled_ns ? series->stalled_ns : now_ns;
    if (now_ns - series->stalled_ns > FUT_SERIES_STALL_NS) {
        fut_series_give_up(
            engine, g_error_new(FUT_ERROR, FUT_ERR_TIMEOUT,
                                "the guest writes faster than the snapshot's store takes what was "
                                "there before (%" G_GUINT64_FORMAT
                                " MiB wait for it): use a faster disk for it",
                                engine->config.series_side_max_bytes >> 20));
        return true;
    }
    return false;
}

/* -- who writes to a protected page -- */

void fut_series_copy_aside(FutEngine *engine, uint64_t key)
{
    FutSeries *series = &engine->series;
    FutSeriesPage *page = new_page(series);

    page->next = NULL;
    page->key = key;
    memcpy(page->data, fut_memory_page(engine->vmm->ops->memory(engine->vmm), key), FUT_PAGE_SIZE);
    *series->pages_tail = page;
    series->pages_tail = &page->next;
    series->side_bytes += sizeof(*page);
    fut_pagemap_add(&series->taken, key);
}

static bool key_of(const FutMemory *memory, const uint8_t *address, uint64_t *ret_key)
{
    for (unsigned i = 0; i < memory->count; i++) {
        if (address >= memory->block[i].base &&
            address < memory->block[i].base + memory->block[i].length) {
            *ret_key = fut_key(i, (uint64_t)(address - memory->block[i].base) >> FUT_PAGE_SHIFT);
            return true;
        }
    }
    return false;
}

/* Lock held. False: not yet. */
static bool save_before(FutEngine *engine, uint64_t key, uint64_t now_ns)
{
    FutSeries *series = &engine->series;

    switch (series->phase) {
    case FUT_SERIES_ARMING:
    case FUT_SERIES_GUARDING:
    case FUT_SERIES_CUTTING:
        /* The VMM marks it, too; but it may do so after the write, and this page will not be guarded by then. */
        fut_pagemap_add(&series->written, key);
        return true;
    case FUT_SERIES_COPYING:
        if (!fut_pagemap_has(&series->set, key) || fut_pagemap_has(&series->taken, key)) {
            return true;
        }
        if (!fut_series_has_room(engine, now_ns)) {
            return false;
        }
        if (series->phase == FUT_SERIES_COPYING) {
            fut_series_copy_aside(engine, key);
        }
        return true;
    default:
        return true;
    }
}

/* Lock held. Who meets the protection of a full one first will meet it at all pages that he writes all the time: they are let go with the first, for
 * that is one wait and takes half as long. */
static void release_busy(FutEngine *engine, uint64_t now_ns)
{
    FutSeries *series = &engine->series;
    const FutMemory *memory = engine->vmm->ops->memory(engine->vmm);
    uint64_t key = 0, pages;

    if (!series->busy_kept || !fut_series_has_room(engine, now_ns) ||
        series->phase != FUT_SERIES_COPYING) {
        return;
    }
    series->busy_kept = false;
    for (; fut_pagemap_next(&series->busy, &key, &pages, UINT64_MAX); key += pages) {
        for (uint64_t i = 0; i < pages; i++) {
            if (!fut_pagemap_has(&series->taken, key + i)) {
                fut_series_copy_aside(engine, key + i);
            }
        }
        engine->host->guard(engine->opaque, fut_memory_page(memory, key), pages << FUT_PAGE_SHIFT,
                            false);
    }
}

bool fut_series_fault(FutEngine *engine, const uint8_t *address)
{
    FutSeries *series = &engine->series;
    uint64_t key;

    if (!key_of(engine->vmm->ops->memory(engine->vmm), address, &key)) {
        return true;
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&series->lock);
    bool ok = !series->tracking || save_before(engine, key, now_ns);
    if (ok) {
        release_busy(engine, now_ns);
        /* With the lock: no cut comes between the decision and its consequence. */
        engine->host->guard(engine->opaque,
                            fut_memory_page(engine->vmm->ops->memory(engine->vmm), key),
                            FUT_PAGE_SIZE, false);
        series->cut.faults++;
    }
    g_mutex_unlock(&series->lock);
    return ok;
}

/* -- cuts -- */

/* Guest stopped, no lock. */
static void collect(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    fut_pageset_clear(&series->collected);
    engine->vmm->ops->dirty_collect(engine->vmm, &series->collected);
    g_mutex_lock(&series->lock);
    fut_pagemap_add_keys(&series->written, series->collected.keys, series->collected.count);
    if (series->pair_follows && series->collected.count > 0) {
        fut_pagemap_add_keys(&series->spill, series->collected.keys, series->collected.count);
        series->spilt = true;
    }
    g_mutex_unlock(&series->lock);
}

void fut_series_collect_for_pair(FutEngine *engine, FutPageSet *set)
{
    FutSeries *series = &engine->series;
    engine->vmm->ops->dirty_collect(engine->vmm, set);
    g_mutex_lock(&series->lock);
    if (series->tracking) {
        /* Also what was in it before: where all pages count as written it was filled anew. */
        fut_pagemap_add_keys(&series->written, set->keys, set->count);
    }
    if (series->spilt) {
        uint64_t pages;
        for (uint64_t key = 0; fut_pagemap_next(&series->spill, &key, &pages, UINT64_MAX);
             key += pages) {
            for (uint64_t i = 0; i < pages; i++) {
                fut_pageset_add(set, key + i);
            }
        }
        fut_pagemap_clear(&series->spill);
        series->spilt = false;
    }
    g_mutex_unlock(&series->lock);
}

void fut_series_pair_follows(FutEngine *engine, bool follows)
{
    FutSeries *series = &engine->series;

    g_mutex_lock(&series->lock);
    series->pair_follows = follows;
    if (series->spilt) {
        fut_pagemap_clear(&series->spill);
        series->spilt = false;
    }
    g_mutex_unlock(&series->lock);
}

/* Lock held. What was written belongs to the snapshot, and is to be copied or protected. */
static void take_round(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    uint64_t count = fut_pagemap_count(&series->written);

    fut_series_early_cut(series);
    if (fut_series_takes_all(series) && count <= BUSY_PAGES) {
        fut_pagemap_merge(&series->busy, &series->written);
        series->busy_kept = count > 0;
    }
    series->early.on = fut_series_early_fits(engine, count);
    series->early.round = series->early.on ? count : 0;
    series->guarded |= !series->early.on;
    fut_pagemap_merge(&series->todo, &series->written);
    fut_pagemap_merge(&series->set, &series->written);
    fut_pagemap_clear(&series->written);
    series->phase = FUT_SERIES_GUARDING;
    series->rounds++;
}

/* Lock held: is this cut the last one? */
static bool is_instant(const FutEngine *engine)
{
    const FutSeries *series = &engine->series;
    uint64_t count = fut_pagemap_count(&series->written);
    bool first = series->phase == FUT_SERIES_ARMING;

    if (first && fut_series_takes_all(series)) {
        return !series->guard;
    }
    uint64_t few = engine->config.series_copy_max_pages;
    if (series->rounds >= ROUNDS_MAX ||
        count <= (first && !series->ahead ? few : MIN(few, FEW_PAGES))) {
        return true;
    }
    if (fut_series_early_fits(engine, count)) {
        return false;
    }
    if (count <= few) {
        return true;
    }
    /* To protect takes longer than to copy: not in the stop, unless it was done before it, too, and these are what is left. */
    return !series->guard || (series->guarded && count <= ROUND_PAGES);
}

/* Lock held. */
static bool protect(FutEngine *engine, const FutPageMap *map, GError **error)
{
    const FutMemory *memory = engine->vmm->ops->memory(engine->vmm);
    uint64_t key = 0, pages, next, more;

    for (; fut_pagemap_next(map, &key, &pages, UINT64_MAX); key += pages) {
        for (next = key + pages;
             fut_pagemap_next(map, &next, &more, UINT64_MAX) && next - (key + pages) <= GAP_PAGES;
             next = key + pages) {
            pages = next + more - key;
        }
        if (!engine->host->guard(engine->opaque, fut_memory_page(memory, key),
                                 pages << FUT_PAGE_SHIFT, true)) {
            g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO,
                                "guest memory cannot be protected against writing (userfaultfd)");
            return false;
        }
    }
    return true;
}

static void copy_written(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    uint64_t pages;

    for (uint64_t key = 0; fut_pagemap_next(&series->written, &key, &pages, UINT64_MAX);
         key += pages) {
        for (uint64_t i = 0; i < pages; i++) {
            fut_series_copy_aside(engine, key + i);
        }
    }
}

/* Lock held, guest stopped: what was written since the last look stays as it is now. */
static bool keep_written(FutEngine *engine, GError **error)
{
    FutSeries *series = &engine->series;
    uint64_t count = fut_pagemap_count(&series->written);
    bool copy = !series->guard || count <= engine->config.series_copy_max_pages;

    fut_series_early_cut(series);
    fut_pagemap_merge(&series->taken, &series->early.good);
    series->cut.early = fut_pagemap_count(&series->taken);
    fut_pagemap_merge(&series->set, &series->written);
    series->guarded |= !copy;
    if (copy) {
        copy_written(engine);
    } else if (!protect(engine, &series->written, error)) {
        return false;
    }
    series->cut.pages = fut_pagemap_count(&series->set);
    series->cut.guarded = series->cut.pages - fut_pagemap_count(&series->taken);
    fut_pagemap_clear(&series->written);
    return true;
}

static bool save_state(FutEngine *engine, GError **error)
{
    FutSeries *series = &engine->series;
    FutStateImage image;

    /* What the VMM says of changes is relative to its last save: the pair's next one has to be whole. */
    engine->capture.state_encoded = false;
    if (!engine->vmm->ops->state_save(engine->vmm, FUT_FOR_SNAPSHOTS, &image, error)) {
        return false;
    }
    g_byte_array_set_size(series->state, 0);
    g_byte_array_append(series->state, image.data, (guint)image.length);
    return true;
}

/* Guest stopped, no lock: the snapshot is of now. */
static void take_instant(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    GError *error = NULL;

    bool ok = save_state(engine, &error);
    series->flow_count = fut_flows_list(&engine->flows, series->flows);
    collect(engine); /* also what the saving has written */
    if (ok && series->order.hash) {
        series->cut.memory_hash = fut_memory_hash(engine->vmm->ops->memory(engine->vmm));
    }
    g_mutex_lock(&series->lock);
    if (series->phase == FUT_SERIES_GIVING_UP) {
        g_clear_error(&error);
    } else if (!ok || !keep_written(engine, &error)) {
        fut_series_give_up(engine, error);
    } else {
        series->cut.time_us = (uint64_t)g_get_real_time();
        fut_series_disks_cut(series);
        series->phase = FUT_SERIES_COPYING;
    }
    g_mutex_unlock(&series->lock);
}

void fut_series_cut(FutEngine *engine, uint64_t begin_ns)
{
    FutSeries *series = &engine->series;

    if (!g_atomic_int_get(&series->cut_due)) {
        return;
    }
    g_atomic_int_set(&series->cut_due, FALSE);
    collect(engine);
    g_mutex_lock(&series->lock);
    bool wanted = series->phase == FUT_SERIES_ARMING || series->phase == FUT_SERIES_CUTTING;
    bool instant = wanted && is_instant(engine);
    if (wanted && !instant) {
        take_round(engine);
    }
    g_mutex_unlock(&series->lock);
    if (instant) {
        take_instant(engine);
    }
    series->cut_begin_ns = begin_ns;
}

void fut_series_cut_done(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    if (series->cut_begin_ns == 0) {
        return;
    }
    uint64_t stop_ns = fut_engine_now(engine) - series->cut_begin_ns;
    series->cut_begin_ns = 0;
    g_mutex_lock(&series->lock);
    series->cut.stop_ns += stop_ns;
    series->cut.longest_stop_ns = MAX(series->cut.longest_stop_ns, stop_ns);
    series->settled = series->phase == FUT_SERIES_COPYING;
    g_mutex_unlock(&series->lock);
    if (engine->host->series) {
        engine->host->series(engine->opaque);
    }
}
