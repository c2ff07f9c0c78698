/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of guest pages: growth and filling from a dirty bitmap. */
#include "pageset.h"

#include <glib.h>

#define PAGESET_FIRST 512

void fut_pageset_done(FutPageSet *set)
{
    g_free(set->keys);
    *set = (FutPageSet){ 0 };
}

void fut_pageset_reserve(FutPageSet *set, size_t more)
{
    if (set->cap - set->count >= more) {
        return;
    }
    g_assert(more <= G_MAXSSIZE / sizeof(uint64_t) / 2 - set->count);
    set->cap = MAX(MAX(set->count + more, set->cap * 2), PAGESET_FIRST);
    set->keys = g_renew(uint64_t, set->keys, set->cap);
}

void fut_pageset_add_word(FutPageSet *set, unsigned block, uint64_t first_page, uint64_t word)
{
    fut_pageset_reserve(set, 64);
    uint64_t *at = set->keys + set->count;
    uint64_t first = fut_key(block, first_page);
    for (; word; word &= word - 1) {
        *at++ = first + (unsigned)__builtin_ctzll(word);
    }
    set->count = (size_t)(at - set->keys);
}
