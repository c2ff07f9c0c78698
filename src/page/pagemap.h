/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bit for each page of some blocks: of guest memory, or (a chunk being a page) of disks. Keys as in pageset.h. */
#ifndef FUT_PAGEMAP_H
#define FUT_PAGEMAP_H

#include "pageset.h"

typedef struct {
    unsigned count;
    struct {
        uint64_t *bits; /* owned: bit n % 64 of word n / 64 */
        uint64_t pages;
    } block[FUT_BLOCKS_MAX];
} FutPageMap;

/* A zeroed map has no blocks. New ones are clear. */
void fut_pagemap_add_block(FutPageMap *map, uint64_t pages);
void fut_pagemap_add_memory(FutPageMap *map, const FutMemory *memory);
void fut_pagemap_done(FutPageMap *map);

static inline uint64_t *fut_pagemap_word(const FutPageMap *map, uint64_t key)
{
    return map->block[fut_key_block(key)].bits + fut_key_page(key) / 64;
}

/* The key is one of the map's pages, here and in what follows. */
static inline bool fut_pagemap_has(const FutPageMap *map, uint64_t key)
{
    return *fut_pagemap_word(map, key) >> (key % 64) & 1;
}

static inline void fut_pagemap_add(FutPageMap *map, uint64_t key)
{
    *fut_pagemap_word(map, key) |= 1ull << (key % 64);
}

void fut_pagemap_add_run(FutPageMap *map, uint64_t key, uint64_t pages);
void fut_pagemap_drop_run(FutPageMap *map, uint64_t key, uint64_t pages);
void fut_pagemap_add_keys(FutPageMap *map, const uint64_t *keys, size_t count);
void fut_pagemap_add_all(FutPageMap *map);
void fut_pagemap_clear(FutPageMap *map);
uint64_t fut_pagemap_count(const FutPageMap *map);
/* Likewise of one block, at most `most` pages (a multiple of 64) from *page on, which is one, too; moves *page on. False: the block ends there. */
bool fut_pagemap_count_part(const FutPageMap *map, unsigned block, uint64_t *page, uint64_t most,
                            uint64_t *count);
/* Adds what is in `from`, which has the same blocks. */
void fut_pagemap_merge(FutPageMap *map, const FutPageMap *from);
/* Takes out what is in `from`, likewise. */
void fut_pagemap_subtract(FutPageMap *map, const FutPageMap *from);
/* The first run of set pages at or after *key, within one block, at most `most` pages long. False: none. */
bool fut_pagemap_next(const FutPageMap *map, uint64_t *key, uint64_t *ret_pages, uint64_t most);

#endif
