/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_marks.h"

#include <string.h>

#include "byteorder.h"
#include "manifest.h"

void fut_marks_init(FutMarks *marks, const FutPackSet *set)
{
    marks->set = set;
    marks->masks = g_new0(uint16_t *, set->packs->len);
    for (guint i = 0; i < set->packs->len; i++) {
        marks->masks[i] = g_new0(uint16_t, ((FutPack *)set->packs->pdata[i])->count);
    }
}

void fut_marks_done(FutMarks *marks)
{
    for (guint i = 0; marks->masks && i < marks->set->packs->len; i++) {
        g_free(marks->masks[i]);
    }
    g_clear_pointer(&marks->masks, g_free);
}

static uint16_t *mask_of(const FutMarks *marks, uint64_t place)
{
    FutPack *pack;
    size_t entry;
    guint at;

    if (!fut_pack_set_find(marks->set, place, &pack, &entry)) {
        return NULL;
    }
    at = fut_pack_set_index(marks->set, pack);
    return &marks->masks[at][entry];
}

bool fut_marks_set(FutMarks *marks, uint64_t place, bool *ret_was)
{
    uint16_t *mask = mask_of(marks, place);
    uint16_t bit = (uint16_t)(1u << fut_place_number(place) % FUT_GROUP_RECORDS);

    if (mask) {
        *ret_was = *mask & bit;
        *mask |= bit;
    }
    return mask != NULL;
}

bool fut_marks_get(const FutMarks *marks, uint64_t place)
{
    const uint16_t *mask = mask_of(marks, place);

    return mask && *mask >> fut_place_number(place) % FUT_GROUP_RECORDS & 1;
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
    bool was;

    if (!fut_marks_set(m->marks, place, &was)) {
        m->missing = place;
        return false;
    }
    if (!was && fut_pack_set_find(m->marks->set, place, &pack, &entry)) {
        unsigned count = fut_mask_count(pack->entries[entry].mask);
        m->bytes += (F_SIZE + pack->entries[entry].stored + E_SIZE) / count + FUT_HASH_SIZE;
    }
    return !was;
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
