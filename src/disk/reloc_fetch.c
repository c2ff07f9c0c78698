/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is missing comes from the source and is kept. One fetch for a block, however many want it: whoever comes second waits for
 * the first one's claim. */
#include <errno.h>
#include <string.h>

#include "fut_clock.h"
#include "reloc_internal.h"

#define FETCH_BLOCKS 1024 /* at once, at most: 4 MiB */
#define LOOK_EVERY_US 100000

int fut_reloc_change(FutReloc *reloc, const FutImageChange *change)
{
    int error = fut_bitmap_file_live_write(&reloc->file, change);

    if (error == 0) {
        fut_block_map_apply(&reloc->map, change);
    }
    return error;
}

int fut_reloc_mark(FutReloc *reloc, uint64_t first, uint64_t end)
{
    FutImageChange change = { .end_block = first };
    int error = 0;

    while (change.end_block < end && error == 0) {
        fut_block_map_plan_valid(&reloc->map, change.end_block, end, &change);
        error = fut_reloc_change(reloc, &change);
    }
    return error;
}

/* -- keeping -- */

static bool is_zero(const uint8_t *data, uint64_t length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static int put(FutReloc *reloc, const uint8_t *data, uint64_t length, uint64_t offset)
{
    if (!data || is_zero(data, length)) {
        return reloc->io->ops->zero(reloc->io, offset, length, true);
    }
    return reloc->io->ops->write(reloc->io, FUT_RELOC_CACHE, data, length, offset);
}

/* The sectors of a block that no write has left there. */
static int put_rest(FutReloc *reloc, uint64_t block, unsigned here, const uint8_t *data)
{
    uint64_t base = block << FUT_BLOCK_SHIFT;
    uint64_t end = fut_block_map_length(&reloc->map, block);
    int error = 0;

    for (uint64_t at = 0; at < end && error == 0; at += FUT_SECTOR_SIZE) {
        if (!(here >> (at >> FUT_SECTOR_SHIFT) & 1)) {
            error = put(reloc, data ? data + at : NULL, MIN(FUT_SECTOR_SIZE, end - at), base + at);
        }
    }
    return error;
}

/* Blocks of [*first, end) that can be written in one go: absent ones in a row, or one that is partly here. */
static unsigned next_run(FutReloc *reloc, uint64_t *first, uint64_t *end)
{
    FutBlockMap *map = &reloc->map;
    unsigned here = 0;

    g_mutex_lock(&reloc->lock);
    *first = fut_block_map_next(map, *first, *end, false);
    if (*first < *end) {
        here = fut_block_map_partial(map, *first);
        *end = here ? *first + 1 : fut_block_map_next(map, *first, *end, true);
        for (uint64_t block = *first + 1; g_hash_table_size(map->slot_of) > 0 && block < *end;
             block++) {
            if (fut_block_map_partial(map, block)) {
                *end = block;
            }
        }
    }
    g_mutex_unlock(&reloc->lock);
    return here;
}

static int store_run(FutReloc *reloc, uint64_t first, uint64_t end, unsigned here,
                     const uint8_t *data)
{
    int error =
        here ? put_rest(reloc, first, here, data)
             : put(reloc, data, fut_reloc_bytes(reloc, first, end), first << FUT_BLOCK_SHIFT);
    if (error == 0) {
        g_mutex_lock(&reloc->lock);
        error = fut_reloc_mark(reloc, first, end);
        g_mutex_unlock(&reloc->lock);
    }
    return error;
}

int fut_reloc_store(FutReloc *reloc, uint64_t first, uint64_t end, const uint8_t *data)
{
    FutRange range;
    int error = 0;

    fut_range_lock_take(&reloc->ranges, &range, first, end);
    for (uint64_t at = first; at < end && error == 0;) {
        uint64_t run = at, run_end = end;
        unsigned here = next_run(reloc, &run, &run_end);
        if (run == end) {
            break;
        }
        error = store_run(reloc, run, run_end, here,
                          data ? data + ((run - first) << FUT_BLOCK_SHIFT) : NULL);
        at = run_end;
    }
    fut_range_lock_drop(&reloc->ranges, &range);
    if (error) {
        FUT_COUNT(reloc, store_errors, 1);
    }
    return error;
}

void fut_reloc_unclaim(FutReloc *reloc, uint64_t first, uint64_t end)
{
    g_mutex_lock(&reloc->lock);
    fut_block_map_unclaim(&reloc->map, first, end);
    g_cond_broadcast(&reloc->unclaimed);
    g_mutex_unlock(&reloc->lock);
}

/* -- fetching -- */

/* The range asks for sectors of the block that are not here. */
static bool is_missing(const FutBlockMap *map, uint64_t block, uint64_t offset, uint64_t length)
{
    uint64_t base = block << FUT_BLOCK_SHIFT;
    uint64_t from = MAX(offset, base) - base;
    uint64_t to = MIN(offset + length, base + FUT_BLOCK_SIZE) - base;
    unsigned wanted = (1u << ((to + FUT_SECTOR_SIZE - 1) >> FUT_SECTOR_SHIFT)) -
                      (1u << (from >> FUT_SECTOR_SHIFT));

    return (wanted & ~fut_block_map_sectors(map, block)) != 0;
}

typedef enum {
    ALL_HERE,
    OTHERS_FETCH, /* what is missing is on its way */
    CLAIMED       /* [first, end) is ours to fetch */
} Look;

/* Claims from the first missing block that nobody fetches to the last one before somebody else's claim; what is valid between them comes
 * along, because one long way costs less than two. `lock` is held. */
static Look look(FutReloc *reloc, uint64_t length, uint64_t offset, uint64_t *ret_first,
                 uint64_t *ret_end)
{
    FutBlockMap *map = &reloc->map;
    uint64_t end = fut_block_end(offset, length);
    Look found = ALL_HERE;

    for (uint64_t block = fut_block_map_next(map, fut_block_of(offset), end, false); block < end;
         block = fut_block_map_next(map, block + 1, end, false)) {
        bool taken = fut_block_map_claimed(map, block);
        if (!is_missing(map, block, offset, length)) {
            continue;
        }
        if (taken && found == CLAIMED) {
            break;
        }
        if (taken) {
            found = OTHERS_FETCH;
            continue;
        }
        if (found != CLAIMED) {
            *ret_first = block;
        }
        *ret_end = block + 1;
        found = CLAIMED;
    }
    if (found == CLAIMED) {
        fut_block_map_claim(map, *ret_first, *ret_end);
    }
    return found;
}

/* What was claimed is read and kept; the claim is given back. */
static int fetch(FutReloc *reloc, uint64_t first, uint64_t end, bool *ret_unkept)
{
    uint32_t length = (uint32_t)fut_reloc_bytes(reloc, first, end);
    g_autofree uint8_t *data = g_malloc(length);
    uint64_t start_ns = fut_now_ns();
    int error = reloc->source->ops->read(reloc->source, data, length, first << FUT_BLOCK_SHIFT);
    uint64_t took_ns = fut_now_ns() - start_ns;

    if (error == 0) {
        FUT_COUNT(reloc, fetched, length);
        FUT_COUNT(reloc, fetch_count, 1);
        FUT_COUNT(reloc, fetch_ns_sum, took_ns);
        *ret_unkept = fut_reloc_store(reloc, first, end, data) != 0;
    }
    g_mutex_lock(&reloc->lock);
    if (error == 0) {
        fut_copy_pace_vm(&reloc->pace, length, took_ns, start_ns + took_ns);
    }
    g_mutex_unlock(&reloc->lock);
    fut_reloc_unclaim(reloc, first, end);
    return error;
}

/* Somebody else fetches what we miss. `lock` is held. */
static int wait_for_others(FutReloc *reloc)
{
    gint64 until_us = g_get_monotonic_time() + LOOK_EVERY_US;

    g_cond_wait_until(&reloc->unclaimed, &reloc->lock, until_us);
    return reloc->source->ops->cancelled(reloc->source) ? ESHUTDOWN : 0;
}

static int bring_piece(FutReloc *reloc, uint64_t length, uint64_t offset, bool *ret_unkept)
{
    uint64_t first = 0, end = 0;
    int error = 0;

    while (error == 0 && !*ret_unkept) {
        g_mutex_lock(&reloc->lock);
        Look found = look(reloc, length, offset, &first, &end);
        if (found == OTHERS_FETCH) {
            error = wait_for_others(reloc);
        }
        g_mutex_unlock(&reloc->lock);
        if (found == ALL_HERE) {
            break;
        }
        if (found == CLAIMED) {
            error = fetch(reloc, first, end, ret_unkept);
        }
    }
    return error;
}

int fut_reloc_bring(FutReloc *reloc, uint64_t length, uint64_t offset, bool *ret_unkept)
{
    int error = 0;

    *ret_unkept = false;
    while (length > 0 && error == 0 && !*ret_unkept) {
        uint64_t most = ((fut_block_of(offset) + FETCH_BLOCKS) << FUT_BLOCK_SHIFT) - offset;
        uint64_t piece = MIN(length, most);
        error = bring_piece(reloc, piece, offset, ret_unkept);
        offset += piece;
        length -= piece;
    }
    return error;
}
