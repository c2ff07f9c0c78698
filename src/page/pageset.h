/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of guest pages, and the memory they point into. A page is named by a key: the number of its
 * memory block in the top bits, the number of the page in its block below. */
#ifndef FUT_PAGESET_H
#define FUT_PAGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUT_PAGE_SHIFT 12
#define FUT_PAGE_SIZE (1u << FUT_PAGE_SHIFT)
#define FUT_BLOCKS_MAX 256     /* memory blocks of one VM, the device state's included */
#define FUT_KEY_BLOCK_SHIFT 40 /* 2^40 pages a block at most */
#define FUT_KEY_PAGE_MASK ((1ull << FUT_KEY_BLOCK_SHIFT) - 1)

static inline uint64_t fut_key(unsigned block, uint64_t page)
{
    return ((uint64_t)block << FUT_KEY_BLOCK_SHIFT) | page;
}

static inline unsigned fut_key_block(uint64_t key)
{
    return (unsigned)(key >> FUT_KEY_BLOCK_SHIFT);
}

static inline uint64_t fut_key_page(uint64_t key)
{
    return key & FUT_KEY_PAGE_MASK;
}

/* Addressable memory: block number -> host address and length (a multiple of FUT_PAGE_SIZE).
 * Borrowed. */
typedef struct {
    unsigned count;
    struct {
        uint8_t *base;
        uint64_t length;
    } block[FUT_BLOCKS_MAX];
} FutMemory;

/* Host address of a page, or NULL when the key is outside the memory. */
static inline uint8_t *fut_memory_page(const FutMemory *memory, uint64_t key)
{
    unsigned block = fut_key_block(key);
    uint64_t page = fut_key_page(key);
    if (block >= memory->count || page >= memory->block[block].length >> FUT_PAGE_SHIFT) {
        return NULL;
    }
    return memory->block[block].base + (page << FUT_PAGE_SHIFT);
}

/* Ordered list of keys that keeps its memory between uses. A zeroed set is a valid empty one. */
typedef struct {
    uint64_t *keys; /* owned */
    size_t count;
    size_t cap;
} FutPageSet;

void fut_pageset_done(FutPageSet *set);
void fut_pageset_reserve(FutPageSet *set, size_t more);
static inline void fut_pageset_clear(FutPageSet *set)
{
    set->count = 0;
}
static inline void fut_pageset_add(FutPageSet *set, uint64_t key)
{
    if (set->count == set->cap) {
        fut_pageset_reserve(set, 1);
    }
    set->keys[set->count++] = key;
}
/* Adds a key for each bit set in `word`: bit i stands for page first_page + i of the block.
 * The word-wise half of finding dirty pages: one call a nonzero word. */
void fut_pageset_add_word(FutPageSet *set, unsigned block, uint64_t first_page, uint64_t word);

#endif
