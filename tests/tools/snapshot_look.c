/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a store holds, for tests: reads every snapshot whole and compares its memory with the hash that was taken at its cut.
 *
 *   snapshot_look STORE            a line for each snapshot: ID, parent, hash at the cut, hash as read, "same" or "OTHER" or "unhashed"
 *   snapshot_look STORE ID DISK    writes that disk to standard output
 *   snapshot_look STORE ID         writes the memory's blocks, one after the other, to standard output */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memhash.h"
#include "store.h"

static void must(bool ok, const GError *error)
{
    if (!ok) {
        fprintf(stderr, "snapshot_look: %s\n", error ? error->message : "no");
        exit(1);
    }
}

typedef struct {
    uint8_t *base;
    uint64_t length;
} Area;

static bool put_unit(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    const Area *area = opaque;

    uint64_t at = unit * FUT_UNIT_SIZE;

    memcpy(area->base + at, data, MIN(FUT_UNIT_SIZE, area->length - at));
    return true;
}

static Area read_area(FutSnapshot *snapshot, unsigned number)
{
    const FutArea *info = fut_snapshot_info_nth(fut_snapshot_info(snapshot), number);
    uint64_t units = (info->length + FUT_UNIT_SIZE - 1) / FUT_UNIT_SIZE;
    Area area = { mmap(NULL, info->length, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                  info->length };
    GError *error = NULL;

    must(area.base != MAP_FAILED, NULL);
    must(fut_snapshot_each(snapshot, number, 0, units, put_unit, &area, &error), error);
    return area;
}

static void write_area(const Area *area)
{
    must(fwrite(area->base, 1, area->length, stdout) == area->length, NULL);
}

static FutMemory read_memory(FutSnapshot *snapshot)
{
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    FutMemory memory = { 0 };

    for (guint i = 0; i < info->areas->len; i++) {
        if (fut_snapshot_info_nth(info, i)->kind == FUT_AREA_MEMORY) {
            Area area = read_area(snapshot, i);
            memory.block[memory.count].base = area.base;
            memory.block[memory.count++].length = area.length;
        }
    }
    return memory;
}

static void look(FutStore *store, uint64_t id)
{
    GError *error = NULL;
    FutSnapshot *snapshot = fut_snapshot_open(store, id, &error);

    must(snapshot != NULL, error);
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    FutMemory memory = read_memory(snapshot);
    uint64_t hash = fut_memory_hash(&memory);
    printf("%" PRIu64 " %" PRIu64 " %016" PRIx64 " %016" PRIx64 " %s\n", info->id, info->parent,
           info->memory_hash, hash,
           info->memory_hash == 0      ? "unhashed"
           : info->memory_hash == hash ? "same"
                                       : "OTHER");
    for (unsigned i = 0; i < memory.count; i++) {
        munmap(memory.block[i].base, memory.block[i].length);
    }
    fut_snapshot_close(snapshot);
}

static void look_at_all(FutStore *store)
{
    GError *error = NULL;
    GPtrArray *damaged = NULL;
    g_autoptr(GPtrArray) all = fut_store_list(store, &damaged, &error);

    must(all != NULL, error);
    for (guint i = 0; i < damaged->len; i++) {
        printf("damaged %s\n", ((FutDamagedSnapshot *)damaged->pdata[i])->what);
    }
    g_ptr_array_unref(damaged);
    for (guint i = 0; i < all->len; i++) {
        look(store, ((const FutSnapshotInfo *)all->pdata[i])->id);
    }
}

static void write_out(FutStore *store, uint64_t id, const char *disk)
{
    GError *error = NULL;
    FutSnapshot *snapshot = fut_snapshot_open(store, id, &error);
    unsigned number;

    must(snapshot != NULL, error);
    if (disk) {
        must(fut_snapshot_info_area(fut_snapshot_info(snapshot), FUT_AREA_DISK, disk, &number),
             NULL);
        Area area = read_area(snapshot, number);
        write_area(&area);
    } else {
        FutMemory memory = read_memory(snapshot);
        for (unsigned i = 0; i < memory.count; i++) {
            write_area(&(Area){ memory.block[i].base, memory.block[i].length });
        }
    }
    fut_snapshot_close(snapshot);
}

int main(int argc, char **argv)
{
    GError *error = NULL;

    must(argc >= 2, NULL);
    g_autoptr(FutStore) store = fut_store_open(argv[1], FUT_STORE_READ, &error);
    must(store != NULL, error);
    if (argc == 2) {
        look_at_all(store);
    } else {
        write_out(store, g_ascii_strtoull(argv[2], NULL, 10), argc > 3 ? argv[3] : NULL);
    }
    return 0;
}
