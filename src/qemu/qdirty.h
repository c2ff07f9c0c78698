/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of guest memory were written. QEMU marks them: a bit a page in a bitmap of its own,
 * set by whoever writes. The trackers differ in how they find the marks that are set:
 *
 * - flags: asks for each page (as Kemari did; there to compare with);
 * - words: looks at all of the bitmap, many pages at a time;
 * - queue: whoever sets a mark puts the page into a queue, once, as the mark was not set before. What
 *   is found costs what was written, however large the memory. From R. Sato, T. Ito, K. Tsuru,
 *   "I/O Performance Evaluation and Analysis in VM Synchronization" (Mitsubishi Electric).
 *
 * All functions: BQL held, or the guest not started yet; fut_qqueue_mark() apart.
 */
#ifndef FUT_QDIRTY_H
#define FUT_QDIRTY_H

#include "qvmm.h"

/* What one collection has found. */
typedef struct {
    FutPageSet *set;                      /* NULL: found marks are just cleared */
    size_t count;                         /* pages */
    uintptr_t begin, end;                 /* host addresses that hold all of them; 0, 0: none */
    uint64_t blocks[FUT_BLOCKS_MAX / 64]; /* in which there are any: bit n % 64 of word n / 64 */
} FutQtaken;

/* Pages whose marks were cleared: bit i of `word` is page + i of the block. */
void fut_qtaken_add(FutQtaken *taken, const FutQvmm *qvmm, unsigned block, uint64_t page,
                    uint64_t word);

/* QEMU's bitmap. RCU read lock held as long as it is used. */
static inline const DirtyMemoryBlocks *fut_qdirty_marks(void)
{
    return qatomic_rcu_read(&ram_list.dirty_memory[DIRTY_MEMORY_MIGRATION]);
}

/* -- qdirty_scan.c: takes all marks -- */
void fut_qscan_words(const FutQvmm *qvmm, FutQtaken *taken);
void fut_qscan_flags(const FutQvmm *qvmm, FutQtaken *taken);
/* All pages there are, marked or not. */
void fut_qscan_all(const FutQvmm *qvmm, FutQtaken *taken);

/* -- qdirty_queue.c -- */
/* Once, while no other thread of QEMU sets marks. FUT_ERR_UNSUPPORTED: there is no queue here. */
bool fut_qqueue_install(GError **error);
/* From here on what becomes marked is queued, until the end. FUT_ERR_UNSUPPORTED. */
bool fut_qqueue_begin(GError **error);
void fut_qqueue_end(void);
/* Sets the mark of a page, given as QEMU numbers RAM, and queues it. Any thread. */
void fut_qqueue_mark(uint64_t ram_page);
/* Takes the marks of all queued pages. False: not all marked pages are in the queue, scan. */
bool fut_qqueue_take(const FutQvmm *qvmm, FutQtaken *taken);
/* The marks were taken otherwise. */
void fut_qqueue_clear(void);

/* -- qdirty_ring.c: KVM's dirty rings, one a vCPU -- */
/* FUT_ERR_UNSUPPORTED: this KVM has none, or none that we understand. */
bool fut_qring_check(GError **error);
/*
 * Guest stopped: takes what the vCPUs have written out of their rings and marks it. False: QEMU has
 * taken some itself since the last time, or a ring was quite full: it is to be asked
 * (fut_qemu_dirty_log_sync), and the rings are to be looked at.
 */
bool fut_qring_take(void);
/* The rings were emptied otherwise. */
void fut_qring_follow(void);
/* Guest stopped, rings just emptied: false if one of them was overrun, and is of no use any more. */
bool fut_qring_intact(void);

#endif
