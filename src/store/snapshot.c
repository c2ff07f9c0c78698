/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads a snapshot. */
#include <stdlib.h>
#include <string.h>

#include "byteorder.h"
#include "fut_error.h"
#include "store_internal.h"

#define STATE_MAX (256u << 20)

struct FutSnapshot {
    FutSnapshotInfo *info;
    FutPackSet set;
    FutRecordReader *reader;
    /* The nodes over the unit that was read last, one a level. */
    unsigned area; /* that they are of; UINT32_MAX: none */
    struct {
        bool valid;
        uint64_t index;
        uint64_t places[FUT_NODE_PLACES];
    } node[FUT_LEVELS_MAX];
};

static void begin_reading(FutSnapshot *snapshot)
{
    snapshot->reader = fut_record_reader_new(&snapshot->set);
    snapshot->area = UINT32_MAX;
}

FutSnapshot *fut_snapshot_open(FutStore *store, uint64_t id, GError **error)
{
    FutSnapshot *snapshot = g_new0(FutSnapshot, 1);

    snapshot->info = fut_manifest_read(store->fs, id, &store->identity, error);
    if (!snapshot->info || !fut_store_packs(store, &snapshot->set, error)) {
        fut_snapshot_close(snapshot);
        return NULL;
    }
    begin_reading(snapshot);
    return snapshot;
}

FutSnapshot *fut_snapshot_copy(const FutSnapshot *from)
{
    FutSnapshot *snapshot = g_new0(FutSnapshot, 1);

    snapshot->info = fut_snapshot_info_copy(from->info);
    fut_pack_set_copy(&snapshot->set, &from->set);
    begin_reading(snapshot);
    return snapshot;
}

void fut_snapshot_close(FutSnapshot *snapshot)
{
    if (snapshot) {
        fut_record_reader_free(snapshot->reader);
        fut_pack_set_done(&snapshot->set);
        fut_snapshot_info_free(snapshot->info);
        g_free(snapshot);
    }
}

bool fut_snapshot_reachable(const FutSnapshot *snapshot, GError **error)
{
    for (guint i = 0; i < snapshot->set.packs->len; i++) {
        const FutPack *pack = g_ptr_array_index(snapshot->set.packs, i);
        char byte;
        int code = pack->fs->ops->read(pack->fs, pack->file, &byte, 1, 0);
        if (code) {
            return fut_store_fs_fail(pack->fs, "read", pack->name, code, error);
        }
    }
    return true;
}

const FutSnapshotInfo *fut_snapshot_info(const FutSnapshot *snapshot)
{
    return snapshot->info;
}

static void choose_area(FutSnapshot *snapshot, unsigned area)
{
    if (snapshot->area != area) {
        for (unsigned i = 0; i < FUT_LEVELS_MAX; i++) {
            snapshot->node[i].valid = false;
        }
        snapshot->area = area;
    }
}

/* Reads a node into its level's place. */
static bool load_node(FutSnapshot *snapshot, unsigned level, uint64_t index, uint64_t place,
                      GError **error)
{
    snapshot->node[level].valid = false;
    if (place == 0) {
        memset(snapshot->node[level].places, 0, sizeof(snapshot->node[level].places));
    } else {
        const uint8_t *record = fut_record_read(snapshot->reader, place, error);
        if (!record) {
            return false;
        }
        for (unsigned i = 0; i < FUT_NODE_PLACES; i++) {
            snapshot->node[level].places[i] = fut_get_le64(record + i * 8);
        }
    }
    snapshot->node[level].valid = true;
    snapshot->node[level].index = index;
    return true;
}

/* Place of a unit. */
static bool look_up(FutSnapshot *snapshot, unsigned area, uint64_t unit, uint64_t *ret_place,
                    GError **error)
{
    const FutArea *is = fut_snapshot_info_nth(snapshot->info, area);
    unsigned height = fut_area_height(is->length), level = 1;

    G_STATIC_ASSERT(FUT_STORE_AREA_MAX >> FUT_UNIT_SHIFT <=
                    1ull << (FUT_LEVELS_MAX - 1) * FUT_NODE_SHIFT);
    choose_area(snapshot, area);
    while (level <= height && !(snapshot->node[level].valid &&
                                snapshot->node[level].index == unit >> level * FUT_NODE_SHIFT)) {
        level++;
    }
    uint64_t place = level > height
                         ? is->root
                         : snapshot->node[level]
                               .places[(unit >> (level - 1) * FUT_NODE_SHIFT) % FUT_NODE_PLACES];
    while (--level > 0) {
        if (!load_node(snapshot, level, unit >> level * FUT_NODE_SHIFT, place, error)) {
            return false;
        }
        place =
            snapshot->node[level].places[(unit >> (level - 1) * FUT_NODE_SHIFT) % FUT_NODE_PLACES];
    }
    *ret_place = place;
    return true;
}

bool fut_snapshot_read(FutSnapshot *snapshot, unsigned area, uint64_t unit, uint8_t *buffer,
                       bool *ret_zero, GError **error)
{
    const FutArea *is = fut_snapshot_info_nth(snapshot->info, area);
    uint64_t place = 0;

    if (unit < fut_area_units(is->length) && !look_up(snapshot, area, unit, &place, error)) {
        return false;
    }
    if (place) {
        const uint8_t *record = fut_record_read(snapshot->reader, place, error);
        if (!record) {
            return false;
        }
        memcpy(buffer, record, FUT_UNIT_SIZE);
    } else {
        memset(buffer, 0, FUT_UNIT_SIZE);
    }
    if (ret_zero) {
        *ret_zero = place == 0;
    }
    return true;
}

/* -- many -- */

typedef struct {
    uint64_t place, unit;
} Wanted;

static int by_place(const void *a, const void *b)
{
    const Wanted *x = a, *y = b;

    return x->place < y->place ? -1 : x->place > y->place;
}

/* Up to FUT_NODE_PLACES units, in the order in which they lie in the store: each frame is unpacked once. */
static bool each_under_node(FutSnapshot *snapshot, unsigned area, uint64_t first, uint64_t end,
                            FutUnitSink sink, void *opaque, GError **error)
{
    Wanted wanted[FUT_NODE_PLACES];
    size_t count = 0;

    for (uint64_t unit = first; unit < end; unit++) {
        uint64_t place;
        if (!look_up(snapshot, area, unit, &place, error)) {
            return false;
        }
        if (place) {
            wanted[count++] = (Wanted){ place, unit };
        }
    }
    qsort(wanted, count, sizeof(wanted[0]), by_place);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *record = fut_record_read(snapshot->reader, wanted[i].place, error);
        if (!record || !sink(opaque, wanted[i].unit, record, error)) {
            return false;
        }
    }
    return true;
}

/* Units from this one on that are zeroes because a node above the lowest is: 0 if that cannot be said. */
static bool skip(FutSnapshot *snapshot, unsigned area, uint64_t unit, uint64_t *ret_next,
                 GError **error)
{
    unsigned height = fut_area_height(fut_snapshot_info_nth(snapshot->info, area)->length);
    uint64_t place;

    *ret_next = unit;
    if (!look_up(snapshot, area, unit, &place, error)) {
        return false;
    }
    for (unsigned level = 2; level <= height; level++) {
        unsigned shift = (level - 1) * FUT_NODE_SHIFT;
        if (snapshot->node[level].places[(unit >> shift) % FUT_NODE_PLACES] == 0) {
            *ret_next = ((unit >> shift) + 1) << shift;
        }
    }
    return true;
}

bool fut_snapshot_each(FutSnapshot *snapshot, unsigned area, uint64_t first, uint64_t count,
                       FutUnitSink sink, void *opaque, GError **error)
{
    const FutArea *is = fut_snapshot_info_nth(snapshot->info, area);
    uint64_t units = fut_area_units(is->length);
    uint64_t end = first < units ? first + MIN(count, units - first) : first;

    if (is->root == 0) {
        return true;
    }
    for (uint64_t unit = first; unit < end;) {
        uint64_t next;
        if (!skip(snapshot, area, unit, &next, error)) {
            return false;
        }
        if (next == unit) {
            next = MIN(end, (unit | (FUT_NODE_PLACES - 1)) + 1);
            if (!each_under_node(snapshot, area, unit, next, sink, opaque, error)) {
                return false;
            }
        }
        unit = next;
    }
    return true;
}

uint8_t *fut_snapshot_state(FutSnapshot *snapshot, size_t *ret_length, GError **error)
{
    unsigned area;
    const FutArea *is = fut_snapshot_info_area(snapshot->info, FUT_AREA_STATE, "", &area);

    if (!is || is->length > STATE_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "snapshot %" G_GUINT64_FORMAT " has no device state: nothing can run from it",
                    snapshot->info->id);
        return NULL;
    }
    g_autofree uint8_t *state = g_malloc0(fut_area_units(is->length) * FUT_UNIT_SIZE + 1);
    for (uint64_t unit = 0; unit < fut_area_units(is->length); unit++) {
        if (!fut_snapshot_read(snapshot, area, unit, state + unit * FUT_UNIT_SIZE, NULL, error)) {
            return NULL;
        }
    }
    *ret_length = is->length;
    return g_steal_pointer(&state);
}
