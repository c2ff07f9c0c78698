/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue of marked pages.
 *
 * All that writes guest memory in QEMU's process (translated code, devices) marks it with one
 * function, bitmap_set_atomic(). It is replaced by one that does the same and puts each page whose
 * mark was clear into the queue. So a page is in the queue once, and what is in it is marked.
 *
 * Pages are put in by vCPU threads and by threads that hold the BQL. They are taken out with the
 * BQL held and the vCPUs stopped, so that nobody puts one in meanwhile. Who did all the same is found
 * out at once while its page is counted and not there, and else by the next check (qmemory.c).
 */
#include "qdirty.h"

#include "fut_error.h"
#include "qdetour.h"

/* Pages; with more than so many written in an epoch a scan is a small part of what they cost. */
#define QUEUE_MAX 32768
#define MAPS_MAX 64 /* pieces of QEMU's bitmap, each for 8 GB */

/* One a process, as the function that it hangs on. */
static struct {
    bool installed;
    bool on; /* atomic */
    unsigned maps;
    const unsigned long *map[MAPS_MAX];
    size_t count;              /* atomic; QUEUE_MAX or more: some are not in it */
    uint64_t pages[QUEUE_MAX]; /* number of the page + 1; 0 = not there yet */
} queue;

static void put(uint64_t ram_page)
{
    if (qatomic_read(&queue.count) >= QUEUE_MAX) {
        return;
    }
    size_t at = qatomic_fetch_inc(&queue.count);
    if (at < QUEUE_MAX) {
        qatomic_store_release(&queue.pages[at], ram_page + 1);
    }
}

/* Marks that were not set before: bit i of `fresh` is bit first + i of the map. */
static void put_fresh(const unsigned long *map, uint64_t first, unsigned long fresh)
{
    for (unsigned i = 0; i < queue.maps; i++) {
        if (queue.map[i] != map) {
            continue;
        }
        for (; fresh; fresh &= fresh - 1) {
            put((uint64_t)i * DIRTY_MEMORY_BLOCK_SIZE + first + ctzl(fresh));
        }
        return;
    }
}

/* In place of QEMU's bitmap_set_atomic(), for whatever bitmap; a full barrier as that is. */
static void set_bits(unsigned long *map, long start, long count)
{
    g_assert(start >= 0 && count >= 0);
    if (count == 0) {
        smp_mb();
    }
    while (count > 0) {
        unsigned first = start % BITS_PER_LONG;
        long here = MIN(count, (long)(BITS_PER_LONG - first));
        unsigned long bits = (~0ul >> (BITS_PER_LONG - here)) << first;
        unsigned long fresh = bits & ~qatomic_fetch_or(map + BIT_WORD(start), bits);
        if (fresh && qatomic_read(&queue.on)) {
            put_fresh(map, start - first, fresh);
        }
        start += here;
        count -= here;
    }
}

bool fut_qqueue_install(GError **error)
{
    unsigned long probe[2] = { 0, 0 };

    if (!queue.installed && !fut_qdetour((void *)bitmap_set_atomic, (void *)set_bits, error)) {
        return false;
    }
    queue.installed = true;
    bitmap_set_atomic(probe, BITS_PER_LONG - 1, 2);
    g_assert(probe[0] == 1ul << (BITS_PER_LONG - 1) && probe[1] == 1);
    return true;
}

bool fut_qqueue_begin(GError **error)
{
    uint64_t end = 0;
    RAMBlock *block;

    RCU_READ_LOCK_GUARD();
    const DirtyMemoryBlocks *marks = fut_qdirty_marks();
    RAMBLOCK_FOREACH (block) {
        end = MAX(end, (block->offset + block->max_length) >> FUT_PAGE_SHIFT);
    }
    if (DIV_ROUND_UP(end, DIRTY_MEMORY_BLOCK_SIZE) > MAPS_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "more than %u GB of memory",
                    MAPS_MAX * 8);
        return false;
    }
    queue.maps = DIV_ROUND_UP(end, DIRTY_MEMORY_BLOCK_SIZE);
    for (unsigned i = 0; i < queue.maps; i++) {
        queue.map[i] = marks->blocks[i];
    }
    fut_qqueue_clear();
    qatomic_set(&queue.on, true);
    smp_mb();
    return true;
}

void fut_qqueue_end(void)
{
    qatomic_set(&queue.on, false);
}

void fut_qqueue_mark(uint64_t ram_page)
{
    unsigned map = ram_page / DIRTY_MEMORY_BLOCK_SIZE;

    if (map < queue.maps) {
        set_bits((unsigned long *)queue.map[map], ram_page % DIRTY_MEMORY_BLOCK_SIZE, 1);
    }
}

void fut_qqueue_clear(void)
{
    memset(queue.pages, 0, MIN(queue.count, QUEUE_MAX) * sizeof(queue.pages[0]));
    qatomic_set(&queue.count, 0);
}

/* The block that a page is in, beginning with a guess; none for memory that is not protected. */
static unsigned block_of(const FutQvmm *qvmm, uint64_t ram_page, unsigned guess)
{
    ram_addr_t address = ram_page << FUT_PAGE_SHIFT;

    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        unsigned number = (guess + i) % qvmm->memory.count;
        if (address - qvmm->blocks[number]->offset < qvmm->blocks[number]->max_length) {
            return number;
        }
    }
    return FUT_BLOCKS_MAX;
}

static bool take_mark(const DirtyMemoryBlocks *marks, uint64_t ram_page)
{
    uint64_t offset = ram_page % DIRTY_MEMORY_BLOCK_SIZE;
    unsigned long *word = marks->blocks[ram_page / DIRTY_MEMORY_BLOCK_SIZE] + BIT_WORD(offset);

    return qatomic_fetch_and(word, ~BIT_MASK(offset)) & BIT_MASK(offset);
}

bool fut_qqueue_take(const FutQvmm *qvmm, FutQtaken *taken)
{
    const DirtyMemoryBlocks *marks = fut_qdirty_marks();
    size_t count = qatomic_read(&queue.count);
    bool whole = count < QUEUE_MAX;
    unsigned block = 0;

    for (size_t i = 0; i < count && whole; i++) {
        uint64_t page = qatomic_load_acquire(&queue.pages[i]);
        whole = page != 0;
        unsigned found = whole ? block_of(qvmm, page - 1, block) : FUT_BLOCKS_MAX;
        /* What is not protected stays marked: then it will not come again. */
        if (found < FUT_BLOCKS_MAX && take_mark(marks, page - 1)) {
            block = found;
            uint64_t first = qvmm->blocks[block]->offset >> FUT_PAGE_SHIFT;
            fut_qtaken_add(taken, qvmm, block, page - 1 - first, 1);
        }
    }
    fut_qqueue_clear();
    return whole;
}
