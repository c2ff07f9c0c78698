/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which pages were never touched. */
#include "resident.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <glib.h>

/* Memory of this process alone, with nothing behind it: what is not in its tables was never written. */
static bool is_private(const uint8_t *at)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t begin, end, inode;
    char line[512], mode[5];
    bool found = false;

    while (maps && !found && fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %" SCNu64, &begin, &end, mode,
                   &inode) == 4 &&
            (uintptr_t)at >= begin && (uintptr_t)at < end) {
            found = mode[3] == 'p' && inode == 0;
            break;
        }
    }
    if (maps) {
        fclose(maps);
    }
    return found;
}

/* From Documentation/admin-guide/mm/pagemap.rst of Linux: an entry of 64 bits a page, bit 63: in memory, 62: swapped out. */
static bool read_entries(int fd, const uint8_t *at, uint64_t pages, uint64_t *bits)
{
    enum {
        AT_ONCE = 4096
    };
    uint64_t entries[AT_ONCE];

    for (uint64_t page = 0; page < pages; page += AT_ONCE) {
        uint64_t count = MIN(AT_ONCE, pages - page);
        off_t offset = (off_t)((((uintptr_t)at >> FUT_PAGE_SHIFT) + page) * sizeof(uint64_t));
        if (pread(fd, entries, count * sizeof(uint64_t), offset) !=
            (ssize_t)(count * sizeof(uint64_t))) {
            return false;
        }
        for (uint64_t i = 0; i < count; i++) {
            bits[(page + i) / 64] |= (uint64_t)(entries[i] >> 62 != 0) << ((page + i) % 64);
        }
    }
    return true;
}

static int open_map(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

static void look(int fd, const uint8_t *at, uint64_t pages, uint64_t *bits)
{
    if (fd < 0 || !read_entries(fd, at, pages, bits)) {
        for (uint64_t page = 0; page < pages; page++) {
            bits[page / 64] |= 1ull << (page % 64);
        }
    }
}

void fut_resident_init(FutResident *resident, const FutMemory *memory)
{
    resident->fd = open_map();
    for (unsigned i = 0; i < memory->count; i++) {
        resident->plain[i] = (uintptr_t)memory->block[i].base % FUT_PAGE_SIZE == 0 &&
                             is_private(memory->block[i].base);
    }
}

void fut_resident_done(FutResident *resident)
{
    if (resident->fd >= 0) {
        close(resident->fd);
    }
    resident->fd = -1;
}

void fut_resident_look(const FutResident *resident, const FutMemory *memory, uint64_t key,
                       uint64_t pages, uint64_t *bits)
{
    look(resident->plain[fut_key_block(key)] ? resident->fd : -1, fut_memory_page(memory, key),
         pages, bits);
}

void fut_resident_look_at(const uint8_t *at, uint64_t pages, uint64_t *bits)
{
    int fd = is_private(at) ? open_map() : -1;

    look(fd, at, pages, bits);
    if (fd >= 0) {
        close(fd);
    }
}
