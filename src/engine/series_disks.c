/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disks of a snapshot: their content at the cut is read while the guest goes on writing. What a write is about to change is read
 * first, by whoever carries out the write (vmm.h), and kept here. */
#include "series_internal.h"

#include "fut_error.h"

/* Read at a time; of a first snapshot more, as much of it will be zeroes. */
#define RUN_BYTES (1ull << 20)
#define FULL_RUN_BYTES (64ull << 20)

static uint64_t chunk_bytes(const FutEngine *engine)
{
    return 1ull << engine->config.series_chunk_shift;
}

static uint64_t disk_length(FutEngine *engine, unsigned disk)
{
    unsigned count;

    return engine->vmm->ops->disks(engine->vmm, &count)[disk].length;
}

static void cannot_read(FutEngine *engine, unsigned disk)
{
    unsigned count;

    fut_series_give_up(engine,
                       g_error_new(FUT_ERROR, FUT_ERR_IO,
                                   "disk %s cannot be read: look after its image",
                                   engine->vmm->ops->disks(engine->vmm, &count)[disk].name));
}

/* -- at the cut and at the end; lock held -- */

void fut_series_disks_cut(FutSeries *series)
{
    if (series->order.full) {
        fut_pagemap_add_all(&series->chunks_set);
    } else {
        fut_pagemap_merge(&series->chunks_set, &series->chunks_written);
    }
    fut_pagemap_clear(&series->chunks_written);
}

void fut_series_disks_restore(FutSeries *series)
{
    fut_pagemap_merge(&series->chunks_written, &series->chunks_set);
}

void fut_series_disks_drop(FutSeries *series)
{
    while (series->pieces) {
        FutSeriesPiece *piece = series->pieces;
        series->pieces = piece->next;
        series->side_bytes -= sizeof(*piece) + piece->length;
        g_free(piece);
    }
    series->pieces_tail = &series->pieces;
    fut_pagemap_clear(&series->chunks_set);
    fut_pagemap_clear(&series->chunks_taken);
    fut_pagemap_clear(&series->chunks_claimed);
}

/* -- who writes -- */

static bool is_missing(const FutSeries *series, uint64_t key)
{
    return fut_pagemap_has(&series->chunks_set, key) &&
           !fut_pagemap_has(&series->chunks_taken, key);
}

/* Chunks from `key` on that nobody has read, or is reading; at most `most`. They are the caller's to read. */
static uint64_t claim(FutSeries *series, uint64_t key, uint64_t most)
{
    uint64_t count = 0;

    while (count < most && is_missing(series, key + count) &&
           !fut_pagemap_has(&series->chunks_claimed, key + count)) {
        count++;
    }
    fut_pagemap_add_run(&series->chunks_claimed, key, count);
    return count;
}

/* Lock held. *range: the write's; becomes what is to be saved before it. */
static FutSeriesVerdict look_before(FutEngine *engine, unsigned disk, FutDiskWrite *range,
                                    bool hurry, uint64_t now_ns)
{
    FutSeries *series = &engine->series;
    unsigned shift = engine->config.series_chunk_shift;
    uint64_t end = (range->offset + range->length - 1) >> shift;

    for (uint64_t chunk = range->offset >> shift; chunk <= end; chunk++) {
        uint64_t key = fut_key(disk, chunk);
        if (!is_missing(series, key)) {
            continue;
        }
        if (fut_pagemap_has(&series->chunks_claimed, key) ||
            (!hurry && !fut_series_has_room(engine, now_ns))) {
            return FUT_SERIES_WAIT;
        }
        if (series->phase != FUT_SERIES_COPYING) {
            return FUT_SERIES_PASS;
        }
        uint64_t count = claim(series, key, MIN(end - chunk + 1, RUN_BYTES >> shift));
        range->offset = chunk << shift;
        range->length = MIN(count << shift, disk_length(engine, disk) - range->offset);
        return FUT_SERIES_SAVE;
    }
    return FUT_SERIES_PASS;
}

FutSeriesVerdict fut_engine_series_before(FutEngine *engine, unsigned disk, uint64_t offset,
                                          uint64_t length, bool hurry, uint64_t *ret_offset,
                                          uint64_t *ret_length)
{
    FutSeries *series = &engine->series;
    FutSeriesVerdict verdict = FUT_SERIES_PASS;
    unsigned shift = engine->config.series_chunk_shift;

    if (length == 0 || !g_atomic_int_get(&series->tracking)) {
        return FUT_SERIES_PASS;
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&series->lock);
    if (series->tracking && series->phase == FUT_SERIES_COPYING) {
        FutDiskWrite range = { .offset = offset, .length = length };
        verdict = look_before(engine, disk, &range, hurry, now_ns);
        *ret_offset = range.offset;
        *ret_length = range.length;
    }
    if (series->tracking && verdict == FUT_SERIES_PASS) {
        uint64_t first = offset >> shift;
        fut_pagemap_add_run(&series->chunks_written, fut_key(disk, first),
                            ((offset + length - 1) >> shift) - first + 1);
    }
    g_mutex_unlock(&series->lock);
    return verdict;
}

void fut_engine_series_saved(FutEngine *engine, unsigned disk, uint64_t offset, uint64_t length,
                             const uint8_t *data)
{
    FutSeries *series = &engine->series;
    unsigned shift = engine->config.series_chunk_shift;
    uint64_t key = fut_key(disk, offset >> shift);
    uint64_t chunks = (length + chunk_bytes(engine) - 1) >> shift;

    g_mutex_lock(&series->lock);
    /* It may have been given up meanwhile, and the next one begun: that has not claimed anything here yet, or cannot have
     * while this write is under way. */
    bool ours =
        series->phase == FUT_SERIES_COPYING && fut_pagemap_has(&series->chunks_claimed, key);
    if (ours && !data) {
        cannot_read(engine, disk);
    } else if (ours) {
        FutSeriesPiece *piece = g_malloc(sizeof(*piece) + length);
        *piece = (FutSeriesPiece){ .disk = disk, .offset = offset, .length = length };
        memcpy(piece->data, data, length);
        *series->pieces_tail = piece;
        series->pieces_tail = &piece->next;
        series->side_bytes += sizeof(*piece) + length;
        fut_pagemap_add_run(&series->chunks_taken, key, chunks);
        fut_pagemap_drop_run(&series->chunks_claimed, key, chunks);
    }
    g_mutex_unlock(&series->lock);
    if (ours && engine->host->series) {
        engine->host->series(engine->opaque);
    }
}

/* -- what a backup writes -- */

/* The whole range, which is chunks. NULL: it cannot be read. Free with g_free(). */
static uint8_t *read_range(FutEngine *engine, unsigned disk, const FutDiskWrite *range)
{
    g_autofree uint8_t *data = g_malloc(range->length);
    uint64_t length;

    for (uint64_t at = 0; at < range->length; at += length) {
        bool zero = false;
        length = range->length - at;
        if (!engine->vmm->ops->disk_read(engine->vmm, disk, range->offset + at, &length, data + at,
                                         &zero, NULL)) {
            return NULL;
        }
        if (zero) {
            memset(data + at, 0, length);
        }
    }
    return g_steal_pointer(&data);
}

static void wait_a_moment(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool on = fut_engine_host_wait(engine);
    g_mutex_unlock(&engine->lock);
    if (!on) {
        fut_series_cancel(engine, "this process ends");
    }
}

/* Meanwhile the snapshot may have ended and another have come, whose instant is after this record. */
static void save_range(FutEngine *engine, const FutDiskHead *head, uint64_t first)
{
    FutSeries *series = &engine->series;
    FutSeriesVerdict verdict;

    do {
        FutDiskWrite range = { .offset = head->offset, .length = head->length };
        uint64_t now_ns = fut_engine_now(engine);
        g_mutex_lock(&series->lock);
        verdict = series->phase == FUT_SERIES_COPYING && first >= series->image_line
                      ? look_before(engine, head->disk, &range, false, now_ns)
                      : FUT_SERIES_PASS;
        g_mutex_unlock(&series->lock);
        if (verdict == FUT_SERIES_SAVE) {
            g_autofree uint8_t *data = read_range(engine, head->disk, &range);
            fut_engine_series_saved(engine, head->disk, range.offset, range.length, data);
        } else if (verdict == FUT_SERIES_WAIT) {
            wait_a_moment(engine);
        }
    } while (verdict != FUT_SERIES_PASS);
}

void fut_series_disks_overwrite(FutEngine *engine, const FutDiskRecord *records, uint64_t first)
{
    FutSeries *series = &engine->series;

    for (const FutDiskRecord *r = records; r && g_atomic_int_get(&series->tracking); r = r->next) {
        if (series->image && fut_disk_kind_changes(r->head.kind) && r->head.length > 0) {
            save_range(engine, &r->head, first);
        }
    }
}

/* -- reading the rest -- */

static bool hand(FutEngine *engine, unsigned disk, uint64_t offset, const uint8_t *data,
                 uint64_t length, GError **error)
{
    const FutSeriesOrder *order = &engine->series.order;

    engine->series.cut.disk_bytes += data ? length : 0;
    return order->ops->disk(order->sink, disk, offset, data, length, error);
}

static bool hand_pieces(FutEngine *engine, FutSeriesPiece *take_pieces, GError **error)
{
    bool ok = true;

    while (take_pieces) {
        FutSeriesPiece *piece = take_pieces;
        take_pieces = piece->next;
        ok = ok && hand(engine, piece->disk, piece->offset, piece->data, piece->length, error);
        g_free(piece);
    }
    return ok;
}

static FutSeriesPiece *take_pieces(FutSeries *series)
{
    g_mutex_lock(&series->lock);
    FutSeriesPiece *pieces = series->pieces;
    series->pieces = NULL;
    series->pieces_tail = &series->pieces;
    for (const FutSeriesPiece *piece = pieces; piece; piece = piece->next) {
        series->side_bytes -= sizeof(*piece) + piece->length;
    }
    series->stalled_ns = pieces ? 0 : series->stalled_ns;
    g_mutex_unlock(&series->lock);
    return pieces;
}

/* The next chunks to be read. False: there are none that are not being read. */
static bool claim_next(FutEngine *engine, uint64_t *ret_count)
{
    FutSeries *series = &engine->series;
    uint64_t bytes = series->order.full ? FULL_RUN_BYTES : RUN_BYTES, chunks;
    bool found = false;

    g_mutex_lock(&series->lock);
    while (!found && fut_pagemap_next(&series->chunks_set, &series->disk_cursor, &chunks,
                                      bytes >> engine->config.series_chunk_shift)) {
        *ret_count = claim(series, series->disk_cursor, chunks);
        found = *ret_count > 0;
        series->disk_cursor += !found;
    }
    g_mutex_unlock(&series->lock);
    return found;
}

/* Of `count` chunks from the cursor on `length` bytes were read. */
static void read_ends(FutEngine *engine, uint64_t count, uint64_t length)
{
    FutSeries *series = &engine->series;
    unsigned shift = engine->config.series_chunk_shift;
    uint64_t chunks = (length + chunk_bytes(engine) - 1) >> shift;

    g_mutex_lock(&series->lock);
    fut_pagemap_drop_run(&series->chunks_claimed, series->disk_cursor, count);
    fut_pagemap_add_run(&series->chunks_taken, series->disk_cursor, chunks);
    g_mutex_unlock(&series->lock);
    series->disk_cursor += chunks;
}

static bool read_run(FutEngine *engine, uint64_t count, GError **error)
{
    FutSeries *series = &engine->series;
    unsigned disk = fut_key_block(series->disk_cursor);
    uint64_t offset = fut_key_page(series->disk_cursor) << engine->config.series_chunk_shift;
    uint64_t length =
        MIN(count << engine->config.series_chunk_shift, disk_length(engine, disk) - offset);
    g_autofree uint8_t *buffer = g_malloc(MIN(length, MAX(RUN_BYTES, chunk_bytes(engine))));
    bool zero = false;

    if (!engine->vmm->ops->disk_read(engine->vmm, disk, offset, &length, buffer, &zero, error)) {
        return false;
    }
    read_ends(engine, count, length);
    if (zero && series->order.full) {
        return true;
    }
    return hand(engine, disk, offset, zero ? NULL : buffer, length, error);
}

bool fut_series_disks_hand(FutEngine *engine, bool *ret_any, GError **error)
{
    FutSeriesPiece *pieces = take_pieces(&engine->series);

    *ret_any = pieces != NULL;
    return hand_pieces(engine, pieces, error);
}

FutStep fut_series_disks_step(FutEngine *engine, bool *ret_over, GError **error)
{
    FutSeries *series = &engine->series;
    uint64_t count;

    if (series->image && !fut_disks_at_line(engine)) {
        return FUT_STEP_WAIT;
    }
    if (claim_next(engine, &count)) {
        return read_run(engine, count, error) ? FUT_STEP_MORE : FUT_STEP_FAILED;
    }
    g_mutex_lock(&series->lock);
    *ret_over = !series->pieces && fut_pagemap_count(&series->chunks_claimed) == 0;
    g_mutex_unlock(&series->lock);
    return FUT_STEP_WAIT;
}
