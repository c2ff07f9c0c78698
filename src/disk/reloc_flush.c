/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Durability: first the data, then the pages of the bitmap that speak of it, then both are safe. */
#include <errno.h>
#include <string.h>

#include "reloc_internal.h"

/* Pages as they were before the data was made durable: they speak of nothing later. */
typedef struct {
    uint64_t count;
    uint64_t *pages;
    uint64_t (*words)[FUT_IMAGE_PAGE_WORDS];
    unsigned retired; /* slots whose blocks are valid in these pages, or in earlier ones */
} Snapshot;

static void snapshot_done(Snapshot *snapshot)
{
    g_free(snapshot->pages);
    g_free(snapshot->words);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Snapshot, snapshot_done)

static void take_snapshot(FutReloc *reloc, Snapshot *ret)
{
    FutBlockMap *map = &reloc->map;

    g_mutex_lock(&reloc->lock);
    reloc->flushing = true;
    ret->pages = g_new(uint64_t, map->dirty_pages);
    ret->words = g_malloc_n(map->dirty_pages, sizeof(ret->words[0]));
    ret->retired = map->retired_slots->len;
    for (uint64_t page = 0; map->dirty_pages > 0; page++) {
        if (map->dirty[page]) {
            ret->pages[ret->count] = page;
            fut_block_map_page(map, page, ret->words[ret->count++]);
            fut_block_map_set_clean(map, page);
        }
    }
    g_mutex_unlock(&reloc->lock);
}

static void end_snapshot(FutReloc *reloc, const Snapshot *snapshot, bool durable)
{
    g_mutex_lock(&reloc->lock);
    for (uint64_t i = 0; i < snapshot->count; i++) {
        if (durable) {
            fut_bitmap_file_page_durable(&reloc->file, snapshot->pages[i]);
        } else {
            fut_block_map_set_dirty(&reloc->map, snapshot->pages[i]);
        }
    }
    if (durable) {
        fut_block_map_free_retired(&reloc->map, snapshot->retired);
    }
    reloc->flushing = false;
    g_mutex_unlock(&reloc->lock);
}

/* After a failed sync nobody knows what the cache has lost: from then on no flush says that all is well, and no bitmap that it is. */
static int sync_cache(FutReloc *reloc)
{
    if (__atomic_load_n(&reloc->failed, __ATOMIC_ACQUIRE)) {
        return EIO;
    }
    int error = reloc->io->ops->sync(reloc->io, FUT_RELOC_CACHE);
    if (error && !__atomic_exchange_n(&reloc->failed, true, __ATOMIC_ACQ_REL) && !reloc->plain) {
        fut_bitmap_file_live_stop(&reloc->file);
    }
    return error;
}

/* flush_lock is held. */
static int flush_pages(FutReloc *reloc)
{
    g_auto(Snapshot) snapshot = { 0 };

    take_snapshot(reloc, &snapshot);
    int error = sync_cache(reloc);
    for (uint64_t i = 0; i < snapshot.count && error == 0; i++) {
        error = fut_bitmap_file_page_write(&reloc->file, snapshot.pages[i], snapshot.words[i]);
    }
    if (error == 0 && snapshot.count > 0) {
        error = reloc->io->ops->sync(reloc->io, FUT_RELOC_BITMAP);
    }
    end_snapshot(reloc, &snapshot, error == 0);
    return error;
}

int fut_reloc_flush(FutReloc *reloc)
{
    FUT_COUNT(reloc, flushes, 1);
    if (__atomic_load_n(&reloc->complete, __ATOMIC_ACQUIRE)) {
        return sync_cache(reloc);
    }
    g_mutex_lock(&reloc->lock);
    bool pages = reloc->map.dirty_pages > 0 || reloc->flushing;
    g_mutex_unlock(&reloc->lock);
    if (!pages) {
        return sync_cache(reloc);
    }
    g_mutex_lock(&reloc->flush_lock);
    int error = flush_pages(reloc);
    g_mutex_unlock(&reloc->flush_lock);
    return error;
}

bool fut_reloc_all_valid(FutReloc *reloc)
{
    return fut_reloc_is_complete(reloc) ||
           __atomic_load_n(&reloc->map.valid_blocks, __ATOMIC_RELAXED) == reloc->map.blocks;
}

bool fut_reloc_is_complete(FutReloc *reloc)
{
    return __atomic_load_n(&reloc->complete, __ATOMIC_ACQUIRE);
}

int fut_reloc_complete(FutReloc *reloc)
{
    if (fut_reloc_is_complete(reloc)) {
        return 0;
    }
    g_mutex_lock(&reloc->flush_lock);
    g_assert(fut_block_map_valid(&reloc->map, 0, reloc->map.blocks));
    int error = flush_pages(reloc);
    if (error == 0) {
        reloc->file.complete = true;
        error = fut_bitmap_file_header_write(&reloc->file);
        reloc->file.complete = error == 0;
    }
    if (error == 0) {
        __atomic_store_n(&reloc->complete, true, __ATOMIC_RELEASE);
        g_mutex_lock(&reloc->lock);
        fut_reloc_progress(reloc, true);
        g_mutex_unlock(&reloc->lock);
    }
    g_mutex_unlock(&reloc->flush_lock);
    return error;
}
