/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's memory made for a test: page tables as a kernel would write them. */
#ifndef FUT_PROBE_FIXTURE_H
#define FUT_PROBE_FIXTURE_H

#include <string.h>

#include "byteorder.h"
#include "guest_memory.h"

#define FIXTURE_BYTES (16u << 20)
#define FIXTURE_CR3 0x1000u

typedef struct {
    uint8_t *ram; /* FIXTURE_BYTES */
    uint64_t next_table;
    unsigned reads;
} Fixture;

static bool fixture_read(void *opaque, uint64_t physical, void *ret, size_t length)
{
    Fixture *fixture = opaque;

    fixture->reads++;
    g_assert_cmpuint(physical % FUT_GUEST_PAGE_BYTES + length, <=, FUT_GUEST_PAGE_BYTES);
    if (physical >= FIXTURE_BYTES || FIXTURE_BYTES - physical < length) {
        return false;
    }
    memcpy(ret, fixture->ram + physical, length);
    return true;
}

static inline FutGuestMemory fixture_memory(Fixture *fixture)
{
    *fixture = (Fixture){ g_malloc0(FIXTURE_BYTES), 2 * FIXTURE_CR3, 0 };
    return (FutGuestMemory){ fixture_read, fixture, FIXTURE_CR3, false };
}

/* Maps one page of 4 KiB (level 1), 2 MiB (2) or 1 GiB (3). */
static inline void fixture_map(Fixture *fixture, const FutGuestMemory *memory, uint64_t address,
                               uint64_t physical, int at_level)
{
    uint64_t table = memory->cr3;

    for (int level = memory->five_levels ? 5 : 4; level > at_level; level--) {
        uint8_t *entry = fixture->ram + table + (address >> (12 + 9 * (level - 1)) & 511) * 8;
        if (fut_get_le64(entry) == 0) {
            fut_put_le64(entry, fixture->next_table | 3);
            fixture->next_table += FUT_GUEST_PAGE_BYTES;
        }
        table = fut_get_le64(entry) & ~UINT64_C(0xfff);
    }
    fut_put_le64(fixture->ram + table + (address >> (12 + 9 * (at_level - 1)) & 511) * 8,
                 physical | (at_level > 1 ? 0x83 : 3));
}

#endif
