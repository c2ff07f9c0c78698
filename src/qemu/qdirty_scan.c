/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding marks by looking at those of all memory: a word or a page at a time. */
#include "qdirty.h"

QEMU_BUILD_BUG_ON(TARGET_PAGE_BITS != FUT_PAGE_SHIFT);
/* Words looked at in one go. */
#define GROUP 8
QEMU_BUILD_BUG_ON(DIRTY_MEMORY_BLOCK_SIZE % (GROUP * BITS_PER_LONG) != 0);

void fut_qtaken_add(FutQtaken *taken, const FutQvmm *qvmm, unsigned block, uint64_t page,
                    uint64_t word)
{
    uintptr_t host = (uintptr_t)qvmm->blocks[block]->host;
    uintptr_t begin = host + ((page + ctz64(word)) << FUT_PAGE_SHIFT);
    uintptr_t end = host + ((page + 64 - clz64(word)) << FUT_PAGE_SHIFT);

    taken->begin = taken->end ? MIN(taken->begin, begin) : begin;
    taken->end = MAX(taken->end, end);
    taken->count += ctpop64(word);
    taken->blocks[block / 64] |= 1ull << (block % 64);
    if (taken->set) {
        fut_pageset_add_word(taken->set, block, page, word);
    }
}

static uint64_t pages_of(const RAMBlock *block)
{
    return block->max_length >> FUT_PAGE_SHIFT;
}

/* -- words -- */

static void take_word(const FutQvmm *qvmm, FutQtaken *taken, unsigned block, uint64_t page,
                      unsigned long *word)
{
    uint64_t left = pages_of(qvmm->blocks[block]) - page;
    uint64_t marked = qatomic_xchg(word, 0);

    if (left < BITS_PER_LONG) {
        marked &= (1ull << left) - 1;
    }
    if (marked) {
        fut_qtaken_add(taken, qvmm, block, page, marked);
    }
}

static inline bool group_is_clear(const unsigned long *words)
{
    unsigned long any = 0;

    for (unsigned i = 0; i < GROUP; i++) {
        any |= words[i];
    }
    return any == 0;
}

/* Words that lie one after the other; the first is for `page` of the block. */
static void take_words(const FutQvmm *qvmm, FutQtaken *taken, unsigned block, uint64_t page,
                       unsigned long *words, size_t count)
{
    size_t i = 0;

    while (i < count) {
        if (count - i >= GROUP && likely(group_is_clear(words + i))) {
            i += GROUP;
            continue;
        }
        for (size_t end = MIN(i + GROUP, count); i < end; i++) {
            if (words[i]) {
                take_word(qvmm, taken, block, page + i * BITS_PER_LONG, words + i);
            }
        }
    }
}

static void take_block(const FutQvmm *qvmm, FutQtaken *taken, unsigned block)
{
    const DirtyMemoryBlocks *marks = fut_qdirty_marks();
    uint64_t first = qvmm->blocks[block]->offset >> FUT_PAGE_SHIFT;
    uint64_t pages = pages_of(qvmm->blocks[block]);

    for (uint64_t page = 0; page < pages;) {
        uint64_t number = (first + page) / DIRTY_MEMORY_BLOCK_SIZE;
        uint64_t offset = (first + page) % DIRTY_MEMORY_BLOCK_SIZE;
        uint64_t piece = MIN(pages - page, DIRTY_MEMORY_BLOCK_SIZE - offset);
        take_words(qvmm, taken, block, page, marks->blocks[number] + BIT_WORD(offset),
                   BITS_TO_LONGS(piece));
        page += piece;
    }
}

void fut_qscan_words(const FutQvmm *qvmm, FutQtaken *taken)
{
    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        take_block(qvmm, taken, i);
    }
}

/* -- flags -- */

void fut_qscan_flags(const FutQvmm *qvmm, FutQtaken *taken)
{
    const DirtyMemoryBlocks *marks = fut_qdirty_marks();

    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        const RAMBlock *block = qvmm->blocks[i];
        uint64_t pages = pages_of(block);
        for (uint64_t page = 0; page < pages; page++) {
            ram_addr_t address = block->offset + (page << FUT_PAGE_SHIFT);
            if (likely(!cpu_physical_memory_get_dirty_flag(address, DIRTY_MEMORY_MIGRATION))) {
                continue;
            }
            uint64_t at = address >> FUT_PAGE_SHIFT;
            unsigned long *map = marks->blocks[at / DIRTY_MEMORY_BLOCK_SIZE];
            unsigned bit = at % DIRTY_MEMORY_BLOCK_SIZE;
            qatomic_and(map + BIT_WORD(bit), ~BIT_MASK(bit));
            fut_qtaken_add(taken, qvmm, i, page, 1);
        }
    }
}

/* -- all -- */

void fut_qscan_all(const FutQvmm *qvmm, FutQtaken *taken)
{
    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        uint64_t pages = pages_of(qvmm->blocks[i]);
        for (uint64_t page = 0; page < pages; page += 64) {
            uint64_t left = pages - page;
            fut_qtaken_add(taken, qvmm, i, page, left < 64 ? (1ull << left) - 1 : ~0ull);
        }
    }
}
