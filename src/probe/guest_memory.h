/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's memory as its kernel sees it: virtual addresses are translated by the guest's own page
 * tables (x86-64, four or five levels; Intel SDM volume 3, chapter 4.5). Whatever stands in these
 * tables, a call makes a bounded number of reads and fails if something is not there.
 */
#ifndef FUT_GUEST_MEMORY_H
#define FUT_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUT_GUEST_PAGE_BYTES 4096u

/* Reads guest-physical memory; false where there is no RAM. Never crosses a page. Any thread. */
typedef bool (*FutGuestPhysicalRead)(void *opaque, uint64_t physical, void *ret, size_t length);

typedef struct {
    FutGuestPhysicalRead read;
    void *opaque;
    uint64_t cr3;     /* the register; bits that are no address are passed over */
    bool five_levels; /* CR4.LA57 */
} FutGuestMemory;

/* Bytes that are to be written to it; they do not cross a page. */
typedef struct {
    uint64_t physical;
    uint32_t length; /* up to 8 */
    uint8_t bytes[8];
} FutGuestWrite;

/* False: not mapped. */
bool fut_guest_translate(const FutGuestMemory *memory, uint64_t address, uint64_t *ret_physical);
/* All of it or nothing useful: false if any byte is not there. */
bool fut_guest_read(const FutGuestMemory *memory, uint64_t address, void *ret, size_t length);
/*
 * A string of at most `size` - 1 bytes, terminated; unprintable characters become '?', newlines at
 * the end go. It ends where the memory does; false if not even its first byte is there.
 */
bool fut_guest_read_string(const FutGuestMemory *memory, uint64_t address, char *ret, size_t size);

#endif
