/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots of a backup's image. The image stands still between two epochs: the instant is taken there, by the thread of the steps, while
 * the link's thread is kept from the next epoch. What that and later ones overwrite is copied aside before, so nothing has to be
 * protected; and as all that changes the image passes here, what was written since the snapshot before is known. */
#include "series_internal.h"

#include <sys/uio.h>

#include "delta.h"
#include "fut_error.h"
#include "memhash.h"

/* Pages looked at with the series' lock held in one go. */
#define AT_ONCE 64

/* -- who changes the image -- */

/* Lock held. False: there is no room to keep what is there. */
static bool save_page(FutEngine *engine, uint64_t key, uint64_t now_ns)
{
    FutSeries *series = &engine->series;

    if (fut_key_block(key) >= series->written.count) {
        return true; /* the device state, of which the instant takes a copy */
    }
    if (series->phase == FUT_SERIES_COPYING && fut_pagemap_has(&series->set, key) &&
        !fut_pagemap_has(&series->taken, key)) {
        if (!fut_series_has_room(engine, now_ns)) {
            return false;
        }
        if (series->phase == FUT_SERIES_COPYING) {
            fut_series_copy_aside(engine, key);
        }
    }
    fut_pagemap_add(&series->written, key);
    return true;
}

/* Lock held. 1: there is more; 0: done; -1: no room. */
static int save_some(FutEngine *engine, FutDeltaWalk *walk, uint64_t now_ns)
{
    uint64_t key;

    for (unsigned i = 0; i < AT_ONCE; i++) {
        if (!fut_delta_walk(walk, &engine->standby.memory, &key)) {
            return 0;
        }
        if (!save_page(engine, key, now_ns)) {
            return -1;
        }
    }
    return 1;
}

static bool save_stream(FutEngine *engine, const struct iovec *stream, uint64_t now_ns)
{
    FutSeries *series = &engine->series;
    FutDeltaWalk walk = { .at = stream->iov_base };
    int more;

    walk.end = walk.at + stream->iov_len;
    do {
        g_mutex_lock(&series->lock);
        more = series->tracking ? save_some(engine, &walk, now_ns) : 0;
        g_mutex_unlock(&series->lock);
    } while (more > 0);
    return more == 0;
}

/* False: there was no room for all of it. To be done again then, from the beginning: other instants may have come. */
static bool save_streams(FutEngine *engine, const struct iovec *streams, size_t count,
                         uint64_t now_ns)
{
    for (size_t i = 0; i < count && g_atomic_int_get(&engine->series.tracking); i++) {
        if (!save_stream(engine, &streams[i], now_ns)) {
            return false;
        }
    }
    return true;
}

/* Lock held: lets others have it for a moment. The primary hears of us meanwhile. False: this process is at its end. */
static bool wait_a_moment(FutEngine *engine, uint64_t *last_ns)
{
    bool on = fut_engine_host_wait(engine);

    g_mutex_unlock(&engine->lock);
    fut_standby_sign_of_life(engine, last_ns);
    g_mutex_lock(&engine->lock);
    return on;
}

static void take_image(FutEngine *engine, uint64_t *last_ns)
{
    FutSeries *series = &engine->series;

    g_mutex_lock(&engine->lock);
    while ((series->image_busy || series->image_wanted) && wait_a_moment(engine, last_ns)) {
    }
    series->image_busy = true;
    g_mutex_unlock(&engine->lock);
}

static void wait_for_room(FutEngine *engine, uint64_t *last_ns)
{
    g_mutex_lock(&engine->lock);
    bool on = wait_a_moment(engine, last_ns);
    g_mutex_unlock(&engine->lock);
    if (!on) {
        fut_series_cancel(engine, "this process ends");
    }
}

void fut_series_image_enter(FutEngine *engine, const struct iovec *streams, size_t count)
{
    uint64_t now_ns = g_atomic_int_get(&engine->series.tracking) ? fut_engine_now(engine) : 0;
    uint64_t last_ns = now_ns;

    take_image(engine, &last_ns);
    while (!save_streams(engine, streams, count, now_ns)) {
        fut_series_image_leave(engine);
        wait_for_room(engine, &last_ns);
        now_ns = fut_engine_now(engine); /* never asked for while the image is ours */
        take_image(engine, &last_ns);
    }
}

void fut_series_image_leave(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool wanted = engine->series.image_wanted;
    engine->series.image_busy = false;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
    if (wanted && engine->host->series) {
        engine->host->series(engine->opaque);
    }
}

void fut_series_image_record(FutEngine *engine, const FutDiskHead *head)
{
    FutSeries *series = &engine->series;
    unsigned shift = engine->config.series_chunk_shift;

    if (!g_atomic_int_get(&series->tracking) || !fut_disk_kind_changes(head->kind) ||
        head->length == 0) {
        return;
    }
    g_mutex_lock(&series->lock);
    if (series->tracking) {
        uint64_t first = head->offset >> shift, last = (head->offset + head->length - 1) >> shift;
        fut_pagemap_add_run(&series->chunks_written, fut_key(head->disk, first), last - first + 1);
    }
    g_mutex_unlock(&series->lock);
}

void fut_series_image_over(FutEngine *engine, const char *why)
{
    FutSeries *series = &engine->series;

    if (!g_atomic_int_get(&series->tracking)) {
        return;
    }
    g_mutex_lock(&series->lock);
    series->based = false;
    g_mutex_unlock(&series->lock);
    fut_series_cancel(engine, why);
    g_mutex_lock(&engine->lock);
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
}

/* -- the instant; thread of the steps -- */

/* False: somebody changes it. Then it is ours as soon as he is done. */
static bool try_image(FutEngine *engine)
{
    FutSeries *series = &engine->series;

    g_mutex_lock(&engine->lock);
    bool ours = !series->image_busy;
    series->image_wanted = !ours;
    series->image_busy |= ours;
    g_mutex_unlock(&engine->lock);
    return ours;
}

void fut_series_image_unwanted(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    engine->series.image_wanted = false;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
}

/* Lock held: what comes from here on is of after the instant. */
static void keep_image(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    FutStandby *standby = &engine->standby;

    fut_pagemap_merge(&series->set, &series->written);
    fut_pagemap_clear(&series->written);
    fut_series_disks_cut(series);
    g_byte_array_set_size(series->state, 0);
    g_byte_array_append(series->state, standby->memory.block[standby->memory.count - 1].base,
                        standby->head.state_length);
    series->flow_count = fut_flows_list(&engine->flows, series->flows); /* those it heard of */
    series->cut.pages = fut_pagemap_count(&series->set);
    series->cut.time_us = (uint64_t)g_get_real_time();
    series->cut.epoch = standby->head.epoch;
    series->phase = FUT_SERIES_COPYING;
    series->settled = true;
}

/* The image is ours. */
static void take_instant(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    uint64_t hash = series->order.hash ? fut_memory_hash(&engine->standby.guest) : 0;

    g_mutex_lock(&engine->lock);
    uint64_t line = engine->disks.queue.line = engine->disks.queue.readied;
    bool whole = engine->standby.head.epoch > 0 && !engine->disks.failed;
    g_mutex_unlock(&engine->lock);
    g_mutex_lock(&series->lock);
    if (!whole) {
        fut_series_give_up(engine,
                           g_error_new_literal(FUT_ERROR, FUT_ERR_STATE,
                                               "the backup has given its image up: wait until it "
                                               "holds one again (futago status)"));
    } else if (series->phase == FUT_SERIES_CUTTING) {
        series->cut.memory_hash = hash;
        series->image_line = line;
        keep_image(engine);
    }
    g_mutex_unlock(&series->lock);
}

static void go_on(FutSeries *series, FutSeriesPhase phase)
{
    g_mutex_lock(&series->lock);
    if (series->phase != FUT_SERIES_GIVING_UP) {
        series->phase = (int)phase;
    }
    g_mutex_unlock(&series->lock);
}

FutStep fut_series_image_step(FutEngine *engine)
{
    FutSeries *series = &engine->series;
    int phase = g_atomic_int_get(&series->phase);

    if (phase == FUT_SERIES_GUARDING) {
        if (series->order.full) {
            fut_series_add_resident(engine, &series->set);
        }
        go_on(series, FUT_SERIES_CUTTING);
        return FUT_STEP_MORE;
    }
    if (!try_image(engine)) {
        return FUT_STEP_WAIT;
    }
    if (phase == FUT_SERIES_CUTTING) {
        take_instant(engine);
    } else {
        /* Whoever changes the image from here on knows that what is written is followed. */
        go_on(series, FUT_SERIES_GUARDING);
    }
    fut_series_image_leave(engine);
    return FUT_STEP_MORE;
}
