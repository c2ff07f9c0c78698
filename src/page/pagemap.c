/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bitmaps of pages. */
#include "pagemap.h"

#include <glib.h>
#include <string.h>

static size_t words_of(const FutPageMap *map, unsigned block)
{
    return (size_t)((map->block[block].pages + 63) / 64);
}

void fut_pagemap_add_block(FutPageMap *map, uint64_t pages)
{
    g_assert(map->count < FUT_BLOCKS_MAX && pages <= FUT_KEY_PAGE_MASK);
    unsigned block = map->count++;
    map->block[block].pages = pages;
    map->block[block].bits = g_new0(uint64_t, words_of(map, block));
}

void fut_pagemap_add_memory(FutPageMap *map, const FutMemory *memory)
{
    for (unsigned i = 0; i < memory->count; i++) {
        fut_pagemap_add_block(map, memory->block[i].length >> FUT_PAGE_SHIFT);
    }
}

void fut_pagemap_done(FutPageMap *map)
{
    for (unsigned i = 0; i < map->count; i++) {
        g_free(map->block[i].bits);
    }
    map->count = 0;
}

/* Bits of the run in the word that holds its first page; `*pages` becomes how many these are. */
static uint64_t bits_here(uint64_t page, uint64_t *pages)
{
    unsigned first = page % 64;
    *pages = MIN(*pages, 64u - first);
    return (~0ull >> (64 - *pages)) << first;
}

void fut_pagemap_add_run(FutPageMap *map, uint64_t key, uint64_t pages)
{
    for (uint64_t here; pages > 0; key += here, pages -= here) {
        here = pages;
        uint64_t bits = bits_here(fut_key_page(key), &here);
        *fut_pagemap_word(map, key) |= bits;
    }
}

void fut_pagemap_drop_run(FutPageMap *map, uint64_t key, uint64_t pages)
{
    for (uint64_t here; pages > 0; key += here, pages -= here) {
        here = pages;
        uint64_t bits = bits_here(fut_key_page(key), &here);
        *fut_pagemap_word(map, key) &= ~bits;
    }
}

void fut_pagemap_add_keys(FutPageMap *map, const uint64_t *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fut_pagemap_add(map, keys[i]);
    }
}

void fut_pagemap_add_all(FutPageMap *map)
{
    for (unsigned i = 0; i < map->count; i++) {
        fut_pagemap_add_run(map, fut_key(i, 0), map->block[i].pages);
    }
}

void fut_pagemap_clear(FutPageMap *map)
{
    for (unsigned i = 0; i < map->count; i++) {
        memset(map->block[i].bits, 0, words_of(map, i) * sizeof(uint64_t));
    }
}

bool fut_pagemap_count_part(const FutPageMap *map, unsigned block, uint64_t *page, uint64_t most,
                            uint64_t *count)
{
    g_assert(*page % 64 == 0 && most % 64 == 0);
    size_t word = *page / 64, end = MIN(words_of(map, block), word + most / 64);

    if (word >= end) {
        return false;
    }
    for (; word < end; word++) {
        *count += (unsigned)__builtin_popcountll(map->block[block].bits[word]);
    }
    *page = word * 64;
    return true;
}

uint64_t fut_pagemap_count(const FutPageMap *map)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < map->count; i++) {
        uint64_t page = 0;
        while (fut_pagemap_count_part(map, i, &page, 1u << 30, &count)) {
        }
    }
    return count;
}

void fut_pagemap_merge(FutPageMap *map, const FutPageMap *from)
{
    g_assert(map->count == from->count);
    for (unsigned i = 0; i < map->count; i++) {
        g_assert(map->block[i].pages == from->block[i].pages);
        for (size_t word = 0; word < words_of(map, i); word++) {
            map->block[i].bits[word] |= from->block[i].bits[word];
        }
    }
}

void fut_pagemap_subtract(FutPageMap *map, const FutPageMap *from)
{
    g_assert(map->count == from->count);
    for (unsigned i = 0; i < map->count; i++) {
        g_assert(map->block[i].pages == from->block[i].pages);
        for (size_t word = 0; word < words_of(map, i); word++) {
            map->block[i].bits[word] &= ~from->block[i].bits[word];
        }
    }
}

/* The first page at or after `page` whose bit is not `flip`; the block's number of pages if there is none. */
static uint64_t find(const FutPageMap *map, unsigned block, uint64_t page, uint64_t flip)
{
    const uint64_t *bits = map->block[block].bits;
    uint64_t pages = map->block[block].pages;

    while (page < pages) {
        uint64_t word = (bits[page / 64] ^ flip) >> (page % 64);
        if (word != 0) {
            return MIN(page + (unsigned)__builtin_ctzll(word), pages);
        }
        page = (page / 64 + 1) * 64;
    }
    return pages;
}

bool fut_pagemap_next(const FutPageMap *map, uint64_t *key, uint64_t *ret_pages, uint64_t most)
{
    uint64_t page = fut_key_page(*key);

    for (unsigned block = fut_key_block(*key); block < map->count; block++, page = 0) {
        uint64_t first = find(map, block, page, 0);
        if (first < map->block[block].pages) {
            *key = fut_key(block, first);
            *ret_pages = MIN(find(map, block, first, ~0ull) - first, most);
            return true;
        }
    }
    return false;
}
