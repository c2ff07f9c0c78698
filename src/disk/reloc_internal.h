/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the relocating disk share. Order of locks: flush_lock, a range, lock. */
#ifndef FUT_RELOC_INTERNAL_H
#define FUT_RELOC_INTERNAL_H

#include "range_lock.h"
#include "reloc.h"

typedef struct {
    uint64_t reads, read_misses, writes, flushes;
    uint64_t fetched, copied, holes, fetch_ns_sum, fetch_count, store_errors;
} FutRelocCounters;

struct FutReloc {
    FutRelocIo *io;
    FutRelocSource *source;
    uint64_t size;
    FutRangeLock ranges;
    GMutex flush_lock; /* one flush of pages at a time: file but its live image */

    GMutex lock; /* map (beyond reading valid bits), live image, order, pace, control, progress */
    GCond unclaimed; /* with lock: claims were given back */
    FutBlockMap map;
    FutBitmapFile file;
    FutCopyOrder order;
    FutCopyPace pace;
    FutCopyControl control;
    FutProgress progress;
    bool flushing; /* pages are on their way that no longer count as dirty */

    /* atomic */
    bool plain, complete, failed, asleep;
    uint64_t busy_ns; /* when the VM last used the disk */
    FutRelocCounters counters;
};

#define FUT_COUNT(reloc, what, by)                                                                 \
    __atomic_fetch_add(&(reloc)->counters.what, (by), __ATOMIC_RELAXED)

static inline bool fut_reloc_here(const FutReloc *reloc, uint64_t offset, uint64_t length)
{
    return __atomic_load_n(&reloc->complete, __ATOMIC_ACQUIRE) ||
           fut_block_map_valid(&reloc->map, fut_block_of(offset), fut_block_end(offset, length));
}

/* Bytes from the start of block `first` to the start of block `end`, or to the disk's end. */
static inline uint64_t fut_reloc_bytes(const FutReloc *reloc, uint64_t first, uint64_t end)
{
    return MIN(end << FUT_BLOCK_SHIFT, reloc->size) - (first << FUT_BLOCK_SHIFT);
}

/* -- reloc.c -- */
/* The curve goes on, or ends here. `lock` is held. */
void fut_reloc_progress(FutReloc *reloc, bool last);

/* -- reloc_fetch.c -- */
/* Fetches what is missing of the range. *ret_unkept: it was fetched but could not be kept (a full disk, say). */
int fut_reloc_bring(FutReloc *reloc, uint64_t length, uint64_t offset, bool *ret_unkept);
/* Keeps what is missing of [first, end) and makes it valid. `data` begins with block `first`; NULL: zeroes. */
int fut_reloc_store(FutReloc *reloc, uint64_t first, uint64_t end, const uint8_t *data);
/* Gives claims back. */
void fut_reloc_unclaim(FutReloc *reloc, uint64_t first, uint64_t end);
/* The content of [first, end) is in the cache: makes the blocks valid. `lock` is held. */
int fut_reloc_mark(FutReloc *reloc, uint64_t first, uint64_t end);
/* A planned change of the map: the live image first, then the map. `lock` is held. */
int fut_reloc_change(FutReloc *reloc, const FutImageChange *change);

#endif
