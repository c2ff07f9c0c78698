/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_diff.h"

#include <string.h>

#include "byteorder.h"
#include "fut_error.h"
#include "store_internal.h"

typedef struct {
    FutRecordReader *reader;
    FutDiffSink sink;
    void *opaque;
    unsigned area;
    uint64_t units;
    uint64_t first, end; /* of the range that is not reported yet; equal: none */
} Diff;

static void report(Diff *d)
{
    if (d->end > d->first) {
        d->sink(d->opaque, d->area, d->first, d->end - d->first);
    }
    d->first = d->end = 0;
}

static void add(Diff *d, uint64_t unit)
{
    if (d->end != unit || d->end == d->first) {
        report(d);
        d->first = unit;
    }
    d->end = unit + 1;
}

static bool load(Diff *d, uint64_t place, uint64_t *places, GError **error)
{
    const uint8_t *record = place ? fut_record_read(d->reader, place, error) : NULL;

    memset(places, 0, FUT_RECORD_SIZE);
    for (unsigned i = 0; record && i < FUT_NODE_PLACES; i++) {
        places[i] = fut_get_le64(record + i * 8);
    }
    return !place || record;
}

static bool same_content(Diff *d, uint64_t a, uint64_t b, bool *ret, GError **error)
{
    uint8_t one[FUT_HASH_SIZE], other[FUT_HASH_SIZE];

    *ret = false;
    if (a == 0 || b == 0) {
        return true;
    }
    if (!fut_record_hash(d->reader, a, one, error) ||
        !fut_record_hash(d->reader, b, other, error)) {
        return false;
    }
    *ret = memcmp(one, other, sizeof(one)) == 0;
    return true;
}

/* `first`: number of the first unit below these. */
static bool compare(Diff *d, uint64_t a, uint64_t b, unsigned level, uint64_t first, GError **error)
{
    uint64_t one[FUT_NODE_PLACES], other[FUT_NODE_PLACES];
    bool same;

    if (a == b || first >= d->units) {
        return true;
    }
    if (!same_content(d, a, b, &same, error)) {
        return false;
    }
    if (same || level == 0) {
        if (!same) {
            add(d, first);
        }
        return true;
    }
    if (!load(d, a, one, error) || !load(d, b, other, error)) {
        return false;
    }
    for (unsigned i = 0; i < FUT_NODE_PLACES; i++) {
        uint64_t at = first + ((uint64_t)i << (level - 1) * FUT_NODE_SHIFT);
        if (!compare(d, one[i], other[i], level - 1, at, error)) {
            return false;
        }
    }
    return true;
}

static bool compare_areas(Diff *d, const FutSnapshotInfo *a, const FutSnapshotInfo *b,
                          GError **error)
{
    for (unsigned i = 0; i < b->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(b, i);
        const FutArea *was = fut_snapshot_info_area(a, area->kind, area->name, NULL);
        if (area->kind == FUT_AREA_STATE) {
            continue;
        }
        if (!was || was->length != area->length) {
            g_set_error(error, FUT_ERROR, FUT_ERR_MISMATCH,
                        "snapshots %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
                        " are not of one VM: '%s' is not in both, or not as long",
                        a->id, b->id, area->name);
            return false;
        }
        d->area = i;
        d->units = fut_area_units(area->length);
        if (!compare(d, was->root, area->root, fut_area_height(area->length), 0, error)) {
            return false;
        }
        report(d);
    }
    return true;
}

bool fut_store_diff(FutStore *store, uint64_t a, uint64_t b, FutDiffSink sink, void *opaque,
                    GError **error)
{
    g_autoptr(FutSnapshotInfo) first = fut_manifest_read(store->fs, a, &store->identity, error);
    g_autoptr(FutSnapshotInfo) second =
        first ? fut_manifest_read(store->fs, b, &store->identity, error) : NULL;
    FutPackSet set;

    if (!second || !fut_store_packs(store, &set, error)) {
        return false;
    }
    Diff d = { .reader = fut_record_reader_new(&set), .sink = sink, .opaque = opaque };
    bool good = compare_areas(&d, first, second, error);
    fut_record_reader_free(d.reader);
    fut_pack_set_done(&set);
    return good;
}

/* -- export -- */

typedef struct {
    FutSnapshotWriter *writer;
    unsigned area;
    uint64_t length, done, all;
    FutStoreProgress progress;
    void *opaque;
} Export;

static bool export_unit(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    Export *e = opaque;
    uint64_t at = unit << FUT_UNIT_SHIFT;

    e->done++;
    if (e->progress && e->done % 1024 == 0 && !e->progress(e->opaque, e->done, e->all)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "stopped");
        return false;
    }
    return fut_snapshot_put(e->writer, e->area, at, data, MIN(FUT_UNIT_SIZE, e->length - at),
                            error);
}

static bool export_areas(Export *e, FutSnapshot *snapshot, GError **error)
{
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    unsigned to = 0;
    size_t length;

    for (unsigned i = 0; i < info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        if (area->kind == FUT_AREA_STATE) {
            continue;
        }
        e->area = to++;
        e->length = area->length;
        if (!fut_snapshot_each(snapshot, i, 0, UINT64_MAX, export_unit, e, error)) {
            return false;
        }
    }
    if (!fut_snapshot_info_area(info, FUT_AREA_STATE, "", NULL)) {
        return true;
    }
    g_autofree uint8_t *state = fut_snapshot_state(snapshot, &length, error);
    return state && fut_snapshot_put_state(e->writer, state, length, error);
}

/* The same, without a parent and without the state's area. */
static FutSnapshotInfo *alone(const FutSnapshotInfo *info, uint64_t *ret_units)
{
    FutSnapshotInfo *copy = fut_snapshot_info_copy(info);

    *ret_units = 0;
    copy->parent = 0;
    g_ptr_array_set_size(copy->areas, 0);
    for (unsigned i = 0; i < info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        if (area->kind != FUT_AREA_STATE) {
            fut_snapshot_info_add(copy, area->kind, area->name, area->length);
            *ret_units += fut_area_units(area->length);
        }
    }
    return copy;
}

bool fut_store_export(FutStore *store, uint64_t id, const char *path, FutStoreProgress progress,
                      void *opaque, GError **error)
{
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(store, id, error);
    g_autoptr(FutStore) to = snapshot ? fut_store_open(path, FUT_STORE_CREATE, error) : NULL;
    Export e = { .progress = progress, .opaque = opaque };

    if (!to) {
        return false;
    }
    g_autoptr(GPtrArray) there = fut_store_list(to, NULL, error);
    if (there && there->len > 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "%s has snapshots already: name a folder that is empty or does not exist",
                    path);
    }
    if (!there || there->len > 0) {
        return false;
    }
    g_autoptr(FutSnapshotInfo) info = alone(fut_snapshot_info(snapshot), &e.all);
    e.writer = fut_store_begin(to, info, 0, FUT_STORE_LOCK_WAIT_MS, error);
    if (!e.writer) {
        return false;
    }
    if (!export_areas(&e, snapshot, error)) {
        fut_snapshot_abort(e.writer);
        return false;
    }
    return fut_snapshot_commit(e.writer, NULL, error);
}
