/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A relocating disk's beginning and end. */
#include "reloc.h"

#include <string.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "reloc_internal.h"

/* Is the bitmap of this disk, this cache and this source? */
static bool check_identity(const FutBitmapIdentity *is, const FutRelocSetup *setup, bool complete,
                           GError **error)
{
    const FutBitmapIdentity *wanted = &setup->identity;

    if (is->size != wanted->size) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "the bitmap is of a disk of %" G_GUINT64_FORMAT
                    " bytes, this one has %" G_GUINT64_FORMAT,
                    is->size, wanted->size);
        return false;
    }
    if (setup->adopt) {
        return true;
    }
    if (memcmp(is->cache_id, wanted->cache_id, sizeof(is->cache_id)) != 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_MISMATCH,
                            "the bitmap is of another cache: if the files were moved together, "
                            "say adopt=true");
        return false;
    }
    if (!complete && setup->source && strcmp(is->source, wanted->source) != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                    "the bitmap is of source %s: if this is the same disk at another address, "
                    "say adopt=true",
                    is->source);
        return false;
    }
    return true;
}

static bool fail_code(const char *what, int code, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: %s", what, g_strerror(code));
    return false;
}

static bool check_source(FutReloc *reloc, GError **error)
{
    uint64_t missing = reloc->map.blocks - reloc->map.valid_blocks;

    if (reloc->source || reloc->complete || missing == 0) {
        return true;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                "%.1f MiB of the disk are not here: say where they are (source=URI)",
                (double)(missing << FUT_BLOCK_SHIFT) / (1 << 20));
    return false;
}

/* A bitmap that is there. */
static bool open_bitmap(FutReloc *reloc, const FutRelocSetup *setup, GError **error)
{
    g_autoptr(GError) fault = NULL;
    FutBitmapIdentity is;
    bool complete, live = false;

    if (!fut_bitmap_file_look(reloc->io, &is, &complete, &fault)) {
        g_assert(fault);
        g_propagate_error(error, g_steal_pointer(&fault));
        return false;
    }
    if (!check_identity(&is, setup, complete, error) ||
        !fut_bitmap_file_open(&reloc->file, reloc->io, &reloc->map, setup->boot_id, &live, error)) {
        return false;
    }
    reloc->complete = complete;
    if (setup->adopt) {
        bool keep_source = !setup->source;
        reloc->file.identity = setup->identity;
        if (keep_source) {
            memcpy(reloc->file.identity.source, is.source, sizeof(is.source));
        }
        int code = fut_bitmap_file_header_write(&reloc->file);
        return code == 0 || fail_code("cannot write the bitmap", code, error);
    }
    return true;
}

static bool start(FutReloc *reloc, const FutRelocSetup *setup, GError **error)
{
    if (setup->plain) {
        reloc->plain = reloc->complete = true;
        return true;
    }
    bool good = setup->fresh
                    ? fut_bitmap_file_create(&reloc->file, reloc->io, &setup->identity, error)
                    : open_bitmap(reloc, setup, error);
    if (!good || !check_source(reloc, error)) {
        return false;
    }
    if (reloc->complete) {
        return true;
    }
    /* What a killed process had done is made durable before it is built upon: if the cache lost some of it, that shows here. */
    int code = fut_reloc_flush(reloc);
    if (code) {
        return fail_code("cannot make durable what is here already", code, error);
    }
    code = fut_bitmap_file_live_start(&reloc->file, &reloc->map, setup->boot_id);
    return code == 0 || fail_code("cannot write the bitmap", code, error);
}

static uint64_t bytes_here(const FutReloc *reloc)
{
    return fut_reloc_is_complete((FutReloc *)reloc)
               ? reloc->size
               : MIN(reloc->map.valid_blocks << FUT_BLOCK_SHIFT, reloc->size);
}

FutReloc *fut_reloc_new(const FutRelocSetup *setup, GError **error)
{
    FutReloc *reloc = g_new0(FutReloc, 1);
    uint64_t now_ns = fut_now_ns();

    reloc->io = setup->io;
    reloc->source = setup->source;
    reloc->size = setup->identity.size;
    g_mutex_init(&reloc->lock);
    g_mutex_init(&reloc->flush_lock);
    g_cond_init(&reloc->unclaimed);
    fut_range_lock_init(&reloc->ranges);
    fut_block_map_init(&reloc->map, reloc->size);
    fut_copy_order_init(&reloc->order, setup->policy);
    fut_copy_pace_init(&reloc->pace, setup->adaptive, setup->rate, now_ns);
    reloc->control = (FutCopyControl){ .policy = setup->policy,
                                       .adaptive = setup->adaptive,
                                       .rate = setup->rate };
    if (!start(reloc, setup, error)) {
        fut_reloc_free(reloc);
        return NULL;
    }
    bool untouched = reloc->map.valid_blocks == 0 && g_hash_table_size(reloc->map.slot_of) == 0;
    reloc->asleep = setup->asleep && untouched && !reloc->complete;
    fut_progress_init(&reloc->progress, now_ns, bytes_here(reloc));
    return reloc;
}

void fut_reloc_free(FutReloc *reloc)
{
    if (!reloc) {
        return;
    }
    fut_bitmap_file_done(&reloc->file);
    fut_block_map_done(&reloc->map);
    fut_range_lock_done(&reloc->ranges);
    g_cond_clear(&reloc->unclaimed);
    g_mutex_clear(&reloc->flush_lock);
    g_mutex_clear(&reloc->lock);
    g_free(reloc);
}

void fut_reloc_wake(FutReloc *reloc)
{
    __atomic_store_n(&reloc->asleep, false, __ATOMIC_RELEASE);
}

bool fut_reloc_asleep(const FutReloc *reloc)
{
    return __atomic_load_n(&reloc->asleep, __ATOMIC_ACQUIRE);
}

/* -- sight -- */

static FutProgressLook look_now(const FutReloc *reloc)
{
    return (FutProgressLook){ fut_now_ns(), reloc->counters.fetched, reloc->counters.copied };
}

void fut_reloc_progress(FutReloc *reloc, bool last)
{
    FutProgressLook look = look_now(reloc);

    fut_progress_note(&reloc->progress, &look, bytes_here(reloc), last);
}

void fut_reloc_note_progress(FutReloc *reloc)
{
    g_mutex_lock(&reloc->lock);
    fut_reloc_progress(reloc, false);
    g_mutex_unlock(&reloc->lock);
}

unsigned fut_reloc_curve(FutReloc *reloc, FutCurvePoint ret[FUT_CURVE_POINTS])
{
    g_mutex_lock(&reloc->lock);
    unsigned count = reloc->progress.count;
    memcpy(ret, reloc->progress.points, count * sizeof(ret[0]));
    g_mutex_unlock(&reloc->lock);
    return count;
}

void fut_reloc_stats(FutReloc *reloc, FutRelocStats *ret)
{
    const FutRelocCounters *counters = &reloc->counters;
    bool complete = fut_reloc_is_complete(reloc);

    g_mutex_lock(&reloc->lock);
    FutProgressLook look = look_now(reloc);
    *ret = (FutRelocStats){
        .size = reloc->size,
        .blocks = reloc->map.blocks,
        .valid_blocks = complete ? reloc->map.blocks : reloc->map.valid_blocks,
        .partial_blocks = g_hash_table_size(reloc->map.slot_of),
        .complete = complete,
        .reads = counters->reads,
        .read_misses = counters->read_misses,
        .writes = counters->writes,
        .flushes = counters->flushes,
        .fetched = counters->fetched,
        .copied = counters->copied,
        .holes = counters->holes,
        .window = (uint64_t)reloc->pace.window,
        .under_way = reloc->pace.under_way,
        .fetch_ns_sum = counters->fetch_ns_sum,
        .fetch_count = counters->fetch_count,
        .store_errors = counters->store_errors,
        .failed = reloc->failed,
        .age_ns = look.at_ns - reloc->progress.start_ns,
    };
    if (!complete) {
        ret->rates = fut_progress_rates(&reloc->progress, &look);
    }
    g_mutex_unlock(&reloc->lock);
}
