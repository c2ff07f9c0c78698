/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's requests. */
#include <errno.h>
#include <string.h>

#include "fut_clock.h"
#include "reloc_internal.h"

#define THROUGH_BLOCKS 1024 /* read past the cache at once */

static void note_use(FutReloc *reloc)
{
    __atomic_store_n(&reloc->busy_ns, fut_now_ns(), __ATOMIC_RELAXED);
}

/* -- reading -- */

/* The copy likes to know where the VM reads; it is not worth waiting for a lock. */
static void note_read(FutReloc *reloc, uint64_t length, uint64_t offset, bool missed)
{
    FUT_COUNT(reloc, reads, 1);
    FUT_COUNT(reloc, read_misses, missed);
    if (__atomic_load_n(&reloc->complete, __ATOMIC_ACQUIRE)) {
        return;
    }
    note_use(reloc);
    if (g_mutex_trylock(&reloc->lock)) {
        fut_copy_order_read(&reloc->order, &reloc->map, offset, length, missed);
        g_mutex_unlock(&reloc->lock);
    }
}

/* Puts the sectors of [first, end) that are here over what the source said. */
static int overlay(FutReloc *reloc, uint64_t first, uint64_t end, uint8_t *data)
{
    int error = 0;

    for (uint64_t block = first; block < end && error == 0; block++) {
        g_mutex_lock(&reloc->lock);
        unsigned here = fut_block_map_sectors(&reloc->map, block);
        g_mutex_unlock(&reloc->lock);
        uint32_t length = fut_block_map_length(&reloc->map, block);
        for (uint32_t at = 0; at < length && error == 0; at += FUT_SECTOR_SIZE) {
            if (here >> (at >> FUT_SECTOR_SHIFT) & 1) {
                uint64_t offset = (block << FUT_BLOCK_SHIFT) + at;
                error = reloc->io->ops->read(reloc->io, FUT_RELOC_CACHE,
                                             data + (offset - (first << FUT_BLOCK_SHIFT)),
                                             MIN(FUT_SECTOR_SIZE, length - at), offset);
            }
        }
    }
    return error;
}

/* What cannot be kept (a full disk) is still to be had. */
static int read_through(FutReloc *reloc, uint8_t *buf, uint64_t length, uint64_t offset)
{
    int error = 0;

    while (length > 0 && error == 0) {
        uint64_t first = fut_block_of(offset);
        uint64_t end = MIN(fut_block_end(offset, length), first + THROUGH_BLOCKS);
        uint64_t skip = offset - (first << FUT_BLOCK_SHIFT);
        uint64_t bytes = fut_reloc_bytes(reloc, first, end);
        uint64_t piece = MIN(length, bytes - skip);
        g_autofree uint8_t *data = g_malloc(bytes);
        FutRange range;
        error = reloc->source->ops->read(reloc->source, data, (uint32_t)bytes,
                                         first << FUT_BLOCK_SHIFT);
        fut_range_lock_take(&reloc->ranges, &range, first, end);
        error = error ? error : overlay(reloc, first, end, data);
        fut_range_lock_drop(&reloc->ranges, &range);
        memcpy(buf, data + skip, piece * (error == 0));
        buf += piece;
        offset += piece;
        length -= piece;
    }
    return error;
}

int fut_reloc_read(FutReloc *reloc, void *buf, uint32_t length, uint64_t offset)
{
    bool missed = !fut_reloc_here(reloc, offset, length);
    bool unkept = false;

    if (missed && fut_reloc_asleep(reloc)) {
        return read_through(reloc, buf, length, offset);
    }
    note_read(reloc, length, offset, missed);
    int error = missed ? fut_reloc_bring(reloc, length, offset, &unkept) : 0;
    if (error) {
        return error;
    }
    if (unkept) {
        return read_through(reloc, buf, length, offset);
    }
    return reloc->io->ops->read(reloc->io, FUT_RELOC_CACHE, buf, length, offset);
}

int fut_reloc_fetch(FutReloc *reloc, uint64_t length, uint64_t offset)
{
    bool unkept;
    bool nothing = fut_reloc_here(reloc, offset, length) || fut_reloc_asleep(reloc);

    return nothing ? 0 : fut_reloc_bring(reloc, length, offset, &unkept);
}

/* -- writing -- */

typedef struct {
    const uint8_t *data; /* NULL: zeroes */
    bool trim;
    uint64_t offset, length;
} Change;

static int carry_out(FutReloc *reloc, const Change *change)
{
    if (!change->data) {
        return reloc->io->ops->zero(reloc->io, change->offset, change->length, change->trim);
    }
    return reloc->io->ops->write(reloc->io, FUT_RELOC_CACHE, change->data, change->length,
                                 change->offset);
}

/* Sectors of a block that the change covers. False: it cuts one in two. */
static bool covered(const FutReloc *reloc, const Change *change, uint64_t block,
                    unsigned *ret_sectors)
{
    uint64_t base = block << FUT_BLOCK_SHIFT;
    uint64_t block_end = base + fut_block_map_length(&reloc->map, block);
    uint64_t from = MAX(change->offset, base);
    uint64_t to = MIN(change->offset + change->length, block_end);

    if (from % FUT_SECTOR_SIZE || (to % FUT_SECTOR_SIZE && to != reloc->size)) {
        return false;
    }
    unsigned first = (unsigned)((from - base) >> FUT_SECTOR_SHIFT);
    unsigned end = (unsigned)((to - base + FUT_SECTOR_SIZE - 1) >> FUT_SECTOR_SHIFT);
    *ret_sectors = (1u << end) - (1u << first);
    return true;
}

/* Adds the sectors of a block that is covered in part. EAGAIN: its rest must come first. `lock` is held. */
static int mark_edge(FutReloc *reloc, const Change *change, uint64_t block)
{
    FutImageChange plan;
    unsigned sectors;

    if (fut_block_map_valid(&reloc->map, block, block + 1)) {
        return 0;
    }
    if (!covered(reloc, change, block, &sectors) ||
        !fut_block_map_plan_partial(&reloc->map, block, sectors, &plan)) {
        return EAGAIN;
    }
    fut_copy_order_want(&reloc->order, block << FUT_BLOCK_SHIFT);
    return fut_reloc_change(reloc, &plan);
}

static bool edge_is_cut(FutReloc *reloc, const Change *change, uint64_t block)
{
    unsigned sectors;

    return !fut_block_map_valid(&reloc->map, block, block + 1) &&
           !covered(reloc, change, block, &sectors);
}

/* Its data is in the cache; now its blocks are called valid. *ret_wanted is set on EAGAIN. `lock` is held. */
static int mark_change(FutReloc *reloc, const Change *change, uint64_t *ret_wanted)
{
    uint64_t change_end = change->offset + change->length;
    uint64_t first = fut_block_of(change->offset),
             end = fut_block_end(change->offset, change->length);
    uint64_t whole = change->offset % FUT_BLOCK_SIZE ? first + 1 : first;
    uint64_t whole_end = change_end % FUT_BLOCK_SIZE && change_end != reloc->size ? end - 1 : end;
    int error = whole < whole_end ? fut_reloc_mark(reloc, whole, whole_end) : 0;

    if (error == 0 && whole > first) {
        *ret_wanted = first;
        error = mark_edge(reloc, change, first);
    }
    if (error == 0 && whole_end < end && (end - 1 != first || whole == first)) {
        *ret_wanted = end - 1;
        error = mark_edge(reloc, change, end - 1);
    }
    return error;
}

/* EAGAIN: block *ret_wanted has to be fetched first, because what is here of it cannot be written down. */
static int try_change(FutReloc *reloc, const Change *change, uint64_t *ret_wanted)
{
    uint64_t first = fut_block_of(change->offset),
             end = fut_block_end(change->offset, change->length);
    FutRange range;
    int error = 0;

    fut_range_lock_take(&reloc->ranges, &range, first, end);
    *ret_wanted = edge_is_cut(reloc, change, first) ? first : end - 1;
    if (edge_is_cut(reloc, change, first) || edge_is_cut(reloc, change, end - 1)) {
        error = EAGAIN;
    }
    error = error ? error : carry_out(reloc, change);
    if (error == 0) {
        g_mutex_lock(&reloc->lock);
        error = mark_change(reloc, change, ret_wanted);
        g_mutex_unlock(&reloc->lock);
    }
    fut_range_lock_drop(&reloc->ranges, &range);
    return error;
}

static bool has_retired_slots(FutReloc *reloc)
{
    g_mutex_lock(&reloc->lock);
    bool some = reloc->map.free_slots->len == 0 && reloc->map.retired_slots->len > 0;
    g_mutex_unlock(&reloc->lock);
    return some;
}

/* A flush may free what is needed to remember a small write; otherwise the block is fetched. */
static int make_way(FutReloc *reloc, uint64_t block)
{
    bool unkept = false;

    if (has_retired_slots(reloc)) {
        return fut_reloc_flush(reloc);
    }
    int error = fut_reloc_bring(reloc, fut_block_map_length(&reloc->map, block),
                                block << FUT_BLOCK_SHIFT, &unkept);
    return error || !unkept ? error : ENOSPC;
}

static int apply(FutReloc *reloc, const Change *change)
{
    uint64_t wanted;
    int error;

    fut_reloc_wake(reloc); /* who writes here owns it here */
    note_use(reloc);
    if (fut_reloc_here(reloc, change->offset, change->length)) {
        return carry_out(reloc, change);
    }
    while ((error = try_change(reloc, change, &wanted)) == EAGAIN) {
        error = make_way(reloc, wanted);
        if (error) {
            break;
        }
    }
    return error;
}

int fut_reloc_write(FutReloc *reloc, const void *buf, uint32_t length, uint64_t offset)
{
    Change change = { .data = buf, .offset = offset, .length = length };

    FUT_COUNT(reloc, writes, 1);
    return apply(reloc, &change);
}

int fut_reloc_zero(FutReloc *reloc, uint64_t length, uint64_t offset, bool trim)
{
    Change change = { .trim = trim, .offset = offset, .length = length };

    FUT_COUNT(reloc, writes, 1);
    return apply(reloc, &change);
}

int fut_reloc_trim(FutReloc *reloc, uint64_t length, uint64_t offset)
{
    uint64_t last = offset + length;
    uint64_t from = (offset + FUT_BLOCK_SIZE - 1) & ~(uint64_t)(FUT_BLOCK_SIZE - 1);
    uint64_t to = last == reloc->size ? last : last & ~(uint64_t)(FUT_BLOCK_SIZE - 1);

    return from < to ? fut_reloc_zero(reloc, to - from, from, true) : 0;
}

int fut_reloc_extent(FutReloc *reloc, uint64_t length, uint64_t offset, uint64_t *ret_length,
                     bool *ret_hole)
{
    if (!fut_reloc_here(reloc, offset, length)) {
        uint64_t end = fut_block_end(offset, length), first = fut_block_of(offset);
        bool valid = fut_block_map_valid(&reloc->map, first, first + 1);
        uint64_t until = fut_block_map_next(&reloc->map, first, end, !valid);
        length = MIN(until << FUT_BLOCK_SHIFT, offset + length) - offset;
        if (!valid) {
            *ret_length = length;
            *ret_hole = false;
            return 0;
        }
    }
    return reloc->io->ops->extent(reloc->io, offset, length, ret_length, ret_hole);
}
