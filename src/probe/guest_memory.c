/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's memory through its page tables. */
#include "guest_memory.h"

#include <glib.h>
#include <string.h>

#include "byteorder.h"

#define ENTRY_PRESENT 1u
#define ENTRY_LARGE 0x80u
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
#define PAGE_BITS 12
#define LEVEL_BITS 9

/* The upper bits repeat the highest one that counts. */
static bool is_canonical(uint64_t address, int levels)
{
    int unused = 64 - PAGE_BITS - LEVEL_BITS * levels;

    return (uint64_t)((int64_t)(address << unused) >> unused) == address;
}

bool fut_guest_translate(const FutGuestMemory *memory, uint64_t address, uint64_t *ret_physical)
{
    int levels = memory->five_levels ? 5 : 4;
    uint64_t table = memory->cr3 & ENTRY_ADDRESS;

    if (!is_canonical(address, levels)) {
        return false;
    }
    for (int level = levels; level > 0; level--) {
        int shift = PAGE_BITS + LEVEL_BITS * (level - 1);
        uint64_t index = address >> shift & ((1u << LEVEL_BITS) - 1);
        uint8_t bytes[8];
        if (!memory->read(memory->opaque, table + index * sizeof(bytes), bytes, sizeof(bytes))) {
            return false;
        }
        uint64_t entry = fut_get_le64(bytes);
        if (!(entry & ENTRY_PRESENT)) {
            return false;
        }
        table = entry & ENTRY_ADDRESS;
        if (level == 1 || (level <= 3 && entry & ENTRY_LARGE)) {
            uint64_t within = (UINT64_C(1) << shift) - 1;
            *ret_physical = (table & ~within) | (address & within);
            return true;
        }
    }
    return false;
}

bool fut_guest_read(const FutGuestMemory *memory, uint64_t address, void *ret, size_t length)
{
    uint8_t *to = ret;

    while (length > 0) {
        size_t piece = MIN(length, FUT_GUEST_PAGE_BYTES - address % FUT_GUEST_PAGE_BYTES);
        uint64_t physical;
        if (!fut_guest_translate(memory, address, &physical) ||
            !memory->read(memory->opaque, physical, to, piece)) {
            return false;
        }
        address += piece;
        to += piece;
        length -= piece;
    }
    return true;
}

static void make_printable(char *text)
{
    size_t length = strlen(text);

    while (length > 0 && text[length - 1] == '\n') {
        text[--length] = '\0';
    }
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isprint(text[i])) {
            text[i] = '?';
        }
    }
}

bool fut_guest_read_string(const FutGuestMemory *memory, uint64_t address, char *ret, size_t size)
{
    size_t first = MIN(size - 1, FUT_GUEST_PAGE_BYTES - address % FUT_GUEST_PAGE_BYTES);

    memset(ret, 0, size);
    if (!fut_guest_read(memory, address, ret, first)) {
        return false;
    }
    if (memchr(ret, '\0', first) == NULL && first < size - 1 &&
        !fut_guest_read(memory, address + first, ret + first, size - 1 - first)) {
        memset(ret + first, 0, size - first);
    }
    make_printable(ret);
    return true;
}
