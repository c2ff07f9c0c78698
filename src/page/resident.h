/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pages of this process's memory were never touched, and so hold zeroes. To read them in order to see it would cost a page fault
 * each, and on a host that has no page of zeroes to share, memory. */
#ifndef FUT_RESIDENT_H
#define FUT_RESIDENT_H

#include "pageset.h"

typedef struct {
    int fd; /* the kernel's page map; -1: nothing can be told of any page */
    bool plain
        [FUT_BLOCKS_MAX]; /* this block can be told of: memory of this process alone, with no file behind it, whole pages */
} FutResident;

/* Looks at `memory`'s blocks as they are mapped now. */
void fut_resident_init(FutResident *resident, const FutMemory *memory);
void fut_resident_done(FutResident *resident);
/* Sets bit n % 64 of word n / 64 for each of `pages` pages from page `key` on that may hold anything but zeroes: those that were
 * touched. The pages are in one block of `memory`, which is fut_resident_init()'s. Any thread. */
void fut_resident_look(const FutResident *resident, const FutMemory *memory, uint64_t key,
                       uint64_t pages, uint64_t *bits);
/* The same for some pages at an address, looked up anew. */
void fut_resident_look_at(const uint8_t *at, uint64_t pages, uint64_t *bits);

#endif
