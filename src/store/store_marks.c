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
    *marks = (FutMarks){ .set = set,
                         .masks = masks_new(set),
                         .spoilt = g_new0(bool, set->packs->len + 1),
                         .faults = g_ptr_array_new_with_free_func(g_free),
                         .absent = g_array_new(FALSE, FALSE, sizeof(uint32_t)) };
}

void fut_marks_done(FutMarks *marks)
{
    g_clear_pointer(&marks->masks, masks_free);
    for (unsigned level = 0; level < FUT_LEVELS_MAX; level++) {
        g_clear_pointer(&marks->walked[level], masks_free);
    }
    g_clear_pointer(&marks->spoilt, g_free);
    g_clear_pointer(&marks->faults, g_ptr_array_unref);
    g_clear_pointer(&marks->absent, g_array_unref);
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

/* -- what cannot be read -- */

static void note_fault(FutMarks *marks, const char *what)
{
    if (!g_ptr_array_find_with_equal_func(marks->faults, what, g_str_equal, NULL)) {
        g_ptr_array_add(marks->faults, g_strdup(what));
    }
}

void fut_marks_spoil(FutMarks *marks, guint pack, const char *what)
{
    marks->spoilt[pack] = true;
    note_fault(marks, what);
}

bool fut_marks_absent(const FutMarks *marks, uint32_t first, uint32_t last)
{
    for (guint i = 0; i < marks->absent->len; i++) {
        uint32_t number = g_array_index(marks->absent, uint32_t, i);
        if (number >= first && number <= last) {
            return true;
        }
    }
    return first <= marks->held;
}

/* Of the file it is said only once what it costs, however many records are missing there. */
static void note_absent(FutMarks *marks, uint64_t place)
{
    uint32_t number = fut_place_pack(place);
    g_autoptr(GError) fault = NULL;

    for (guint i = 0; i < marks->absent->len; i++) {
        if (g_array_index(marks->absent, uint32_t, i) == number) {
            return;
        }
    }
    g_array_append_val(marks->absent, number);
    fut_pack_set_fail(marks->set, place, &fault);
    note_fault(marks, fault->message);
}

/* Units and nodes below a node were stored before it, so their packs' numbers are not higher than its own. */
static void note_lost_node(FutMarks *marks, uint64_t place)
{
    marks->held = MAX(marks->held, fut_place_pack(place));
}

void fut_marks_hold(FutMarks *marks)
{
    for (guint i = 0; i < marks->set->packs->len; i++) {
        const FutPack *pack = marks->set->packs->pdata[i];
        for (size_t entry = 0; pack->first <= marks->held && entry < pack->count; entry++) {
            marks->masks[i][entry] = pack->entries[entry].mask;
        }
    }
}

/* -- marking -- */

typedef struct {
    FutMarks *marks;
    uint64_t bytes;
} Marking;

static bool mark_one(void *opaque, uint64_t place, unsigned level)
{
    Marking *m = opaque;
    FutPack *pack;
    size_t entry;
    bool was, walked;

    if (!fut_marks_set(m->marks, place, level, &was, &walked)) {
        note_absent(m->marks, place);
        if (level > 0) {
            note_lost_node(m->marks, place);
        }
        return false;
    }
    if (!was && fut_pack_set_find(m->marks->set, place, &pack, &entry)) {
        unsigned count = fut_mask_count(pack->entries[entry].mask);
        m->bytes += (F_SIZE + pack->entries[entry].stored + E_SIZE) / count + FUT_HASH_SIZE;
    }
    return !walked;
}

static void mark_fault(void *opaque, uint64_t place, const GError *fault)
{
    Marking *m = opaque;
    FutPack *pack;
    size_t entry;

    if (fut_pack_set_find(m->marks->set, place, &pack, &entry)) {
        fut_marks_spoil(m->marks, fut_pack_set_index(m->marks->set, pack), fault->message);
    }
    note_lost_node(m->marks, place);
}

uint64_t fut_marks_add_snapshot(FutMarks *marks, const FutSnapshotInfo *info,
                                FutRecordReader *reader)
{
    Marking m = { .marks = marks };

    fut_snapshot_visit(info, reader, mark_one, mark_fault, &m, NULL);
    return m.bytes;
}
