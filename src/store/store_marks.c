/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_marks.h"

#include <string.h>

#include "byteorder.h"
#include "manifest.h"

static uint16_t **masks_new(const FutPackSet *set)
{
    uint16_t **masks = g_new0(uint16_t *, set->packs->len + 1);

    for (guint i = 0; i < set->packs->len; i++) {
        masks[i] = g_new0(uint16_t, ((FutPack *)set->packs->pdata[i])->count + 1);
    }
    return masks;
}

/* Ends with a NULL. */
static void masks_free(uint16_t **masks)
{
    for (guint i = 0; masks[i]; i++) {
        g_free(masks[i]);
    }
    g_free(masks);
}

void fut_marks_init(FutMarks *marks, const FutPackSet *set)
{
    *marks = (FutMarks){ .set = set, .masks = masks_new(set) };
}

void fut_marks_done(FutMarks *marks)
{
    g_clear_pointer(&marks->masks, masks_free);
    for (unsigned level = 0; level < FUT_LEVELS_MAX; level++) {
        g_clear_pointer(&marks->walked[level], masks_free);
    }
}

/* False: no such record. */
static bool find(const FutMarks *marks, uint64_t place, guint *ret_pack, size_t *ret_entry)
{
    FutPack *pack;

    if (!fut_pack_set_find(marks->set, place, &pack, ret_entry)) {
        return false;
    }
    *ret_pack = fut_pack_set_index(marks->set, pack);
    return true;
}

static uint16_t bit_of(uint64_t place)
{
    return (uint16_t)(1u << fut_place_number(place) % FUT_GROUP_RECORDS);
}

static bool set_bit(uint16_t *mask, uint16_t bit)
{
    bool was = *mask & bit;

    *mask |= bit;
    return was;
}

bool fut_marks_set(FutMarks *marks, uint64_t place, unsigned level, bool *ret_was, bool *ret_walked)
{
    guint pack;
    size_t entry;

    g_assert(level < FUT_LEVELS_MAX);
    if (!find(marks, place, &pack, &entry)) {
        return false;
    }
    if (!marks->walked[level]) {
        marks->walked[level] = masks_new(marks->set);
    }
    *ret_was = set_bit(&marks->masks[pack][entry], bit_of(place));
    *ret_walked = set_bit(&marks->walked[level][pack][entry], bit_of(place));
    return true;
}

bool fut_marks_get(const FutMarks *marks, uint64_t place)
{
    guint pack;
    size_t entry;

    return find(marks, place, &pack, &entry) && marks->masks[pack][entry] & bit_of(place);
}

/* -- going through a snapshot -- */

typedef struct {
    FutRecordReader *reader;
    FutVisitor visit;
    FutVisitFault fault;
    void *opaque;
} Visit;

static bool visit_place(const Visit *v, uint64_t place, unsigned level, GError **error)
{
    uint64_t places[FUT_NODE_PLACES];
    GError *fault = NULL;

    if (place == 0 || !v->visit(v->opaque, place, level) || level == 0) {
        return true;
    }
    const uint8_t *record = fut_record_read(v->reader, place, &fault);
    if (!record && v->fault) {
        v->fault(v->opaque, place, fault);
        g_error_free(fault);
        return true;
    }
    if (!record) {
        g_propagate_error(error, fault);
        return false;
    }
    for (unsigned i = 0; i < FUT_NODE_PLACES; i++) {
        places[i] = fut_get_le64(record + i * 8);
    }
    for (unsigned i = 0; i < FUT_NODE_PLACES; i++) {
        if (!visit_place(v, places[i], level - 1, error)) {
            return false;
        }
    }
    return true;
}

bool fut_snapshot_visit(const FutSnapshotInfo *info, FutRecordReader *reader, FutVisitor visit,
                        FutVisitFault fault, void *opaque, GError **error)
{
    Visit v = { reader, visit, fault, opaque };

    for (guint i = 0; i < info->areas->len; i++) {
        const FutArea *area = info->areas->pdata[i];
        if (!visit_place(&v, area->root, fut_area_height(area->length), error)) {
            return false;
        }
    }
    return true;
}

/* -- marking -- */

typedef struct {
    FutMarks *marks;
    uint64_t bytes;
    uint64_t missing; /* a place that is nowhere; 0: none */
} Marking;

static bool mark_one(void *opaque, uint64_t place, unsigned level)
{
    Marking *m = opaque;
    FutPack *pack;
    size_t entry;
    bool was, walked;

    if (!fut_marks_set(m->marks, place, level, &was, &walked)) {
        m->missing = place;
        return false;
    }
    if (!was && fut_pack_set_find(m->marks->set, place, &pack, &entry)) {
        unsigned count = fut_mask_count(pack->entries[entry].mask);
        m->bytes += (F_SIZE + pack->entries[entry].stored + E_SIZE) / count + FUT_HASH_SIZE;
    }
    return !walked;
}

bool fut_marks_add_snapshot(FutMarks *marks, const FutSnapshotInfo *info, FutRecordReader *reader,
                            uint64_t *ret_bytes, GError **error)
{
    Marking m = { .marks = marks };

    if (!fut_snapshot_visit(info, reader, mark_one, NULL, &m, error)) {
        return false;
    }
    *ret_bytes = m.bytes;
    return m.missing == 0 || fut_pack_set_fail(marks->set, m.missing, error);
}
