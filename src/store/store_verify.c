/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_verify.h"

#include <string.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_error.h"
#include "store_internal.h"
#include "store_marks.h"

typedef struct {
    FutStore *store;
    FutStoreProgress progress;
    void *opaque;
    FutVerifyReport *report;
    GPtrArray *all; /* snapshots */
    FutPackSet set;
    FutMarks bad;     /* records in damaged frames */
    GArray *bad_from; /* for each damage with records: BadFrame */
    uint64_t frames;  /* of all packs */
    uint64_t checked;
    uint64_t hashed, to_hash; /* bytes of memory */
    bool stopped;             /* while hashing */
} Verify;

/* Progress is told after so many units of a memory. */
#define HASH_UNITS 256

typedef struct {
    const FutPack *pack;
    size_t entry;
    guint damage;
} BadFrame;

static void damage_free(gpointer opaque)
{
    FutDamage *damage = opaque;

    g_free(damage->what);
    g_array_unref(damage->snapshots);
    g_free(damage);
}

void fut_verify_report_done(FutVerifyReport *report)
{
    g_clear_pointer(&report->damages, g_ptr_array_unref);
}

static guint add_damage(Verify *v, const char *what)
{
    GPtrArray *damages = v->report->damages;

    for (guint i = 0; i < damages->len; i++) {
        if (strcmp(((FutDamage *)damages->pdata[i])->what, what) == 0) {
            return i;
        }
    }
    FutDamage *damage = g_new0(FutDamage, 1);
    damage->what = g_strdup(what);
    damage->snapshots = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_ptr_array_add(damages, damage);
    return damages->len - 1;
}

static void costs(Verify *v, guint damage, uint64_t id)
{
    GArray *ids = ((FutDamage *)v->report->damages->pdata[damage])->snapshots;

    for (guint i = 0; i < ids->len; i++) {
        if (g_array_index(ids, uint64_t, i) == id) {
            return;
        }
    }
    g_array_append_val(ids, id);
}

/* How far it is: a frame counts as what it holds at most. `more`: bytes of the memory that is being hashed. False: stop. */
static bool tell(const Verify *v, uint64_t more)
{
    const uint64_t frame = (uint64_t)FUT_GROUP_RECORDS * FUT_UNIT_SIZE;

    return !v->progress || v->progress(v->opaque, v->checked * frame + v->hashed + more,
                                       v->frames * frame + v->to_hash);
}

/* -- frames -- */

static bool check_records(Verify *v, const FutPack *pack, size_t at, const uint8_t *records,
                          GError **error)
{
    const FutPackEntry *entry = &pack->entries[at];
    uint8_t hashes[FUT_GROUP_RECORDS * FUT_HASH_SIZE];
    unsigned count = fut_mask_count(entry->mask);

    if (!fut_pack_read_hashes(pack, entry->first_hash, count, hashes, error)) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        XXH128_canonical_t hash;
        XXH128_canonicalFromHash(&hash,
                                 XXH3_128bits_withSeed(records + i * FUT_RECORD_SIZE,
                                                       FUT_RECORD_SIZE, v->store->identity.seed));
        if (memcmp(hash.digest, hashes + i * FUT_HASH_SIZE, FUT_HASH_SIZE) != 0) {
            g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                        "%s/%s is damaged: the hashes of the frame at %" G_GUINT64_FORMAT
                        " do not hold",
                        v->store->fs->path, pack->name, entry->offset);
            return false;
        }
    }
    v->report->records += count;
    return true;
}

static void check_frame(Verify *v, const FutPack *pack, size_t at, ZSTD_DCtx *unpacker,
                        uint8_t *records)
{
    g_autoptr(GError) fault = NULL;

    v->report->bytes += pack->entries[at].stored;
    if (!fut_pack_read_frame(pack, at, unpacker, records, &fault)) {
        BadFrame bad = { pack, at, add_damage(v, fault->message) };
        g_array_append_val(v->bad_from, bad);
        v->bad.masks[fut_pack_set_index(&v->set, pack)][at] = pack->entries[at].mask;
    } else if (!check_records(v, pack, at, records, &fault)) {
        add_damage(v, fault->message); /* the frame holds: its records can be read */
    }
}

/* False: told to stop. */
static bool check_packs(Verify *v)
{
    ZSTD_DCtx *unpacker = ZSTD_createDCtx();
    g_autofree uint8_t *records = g_malloc(FUT_GROUP_BYTES);
    bool on = true;

    for (guint p = 0; p < v->set.packs->len && on; p++) {
        const FutPack *pack = v->set.packs->pdata[p];
        for (size_t i = 0; i < pack->count && on; i++) {
            check_frame(v, pack, i, unpacker, records);
            v->checked++;
            on = !v->progress || v->checked % 64 || tell(v, 0);
        }
    }
    ZSTD_freeDCtx(unpacker);
    return on;
}

/* -- snapshots -- */

typedef struct {
    Verify *v;
    FutMarks *seen;
    uint64_t id;
} Walk;

static guint damage_at(const Verify *v, uint64_t place)
{
    for (guint i = 0; i < v->bad_from->len; i++) {
        const BadFrame *bad = &g_array_index(v->bad_from, BadFrame, i);
        const FutPackEntry *entry = &bad->pack->entries[bad->entry];
        if (entry->pack == fut_place_pack(place) &&
            entry->group == fut_place_number(place) >> FUT_GROUP_SHIFT) {
            return bad->damage;
        }
    }
    g_assert_not_reached();
}

static bool walk_one(void *opaque, uint64_t place, unsigned level)
{
    Walk *walk = opaque;
    bool was, walked;

    if (!fut_marks_set(walk->seen, place, level, &was, &walked)) {
        g_autoptr(GError) fault = NULL;
        fut_pack_set_fail(&walk->v->set, place, &fault);
        costs(walk->v, add_damage(walk->v, fault->message), walk->id);
        return false;
    }
    if (!was && fut_marks_get(&walk->v->bad, place)) {
        costs(walk->v, damage_at(walk->v, place), walk->id);
        return false;
    }
    return !walked;
}

static void walk_fault(void *opaque, uint64_t place, const GError *fault)
{
    Walk *walk = opaque;

    costs(walk->v, add_damage(walk->v, fault->message), walk->id);
}

/* While nothing is damaged, what one snapshot has shown to be there needs not be looked at for the next. */
static void check_snapshots(Verify *v)
{
    FutRecordReader *reader = fut_record_reader_new(&v->set);
    FutMarks seen;

    fut_marks_init(&seen, &v->set);
    for (guint i = 0; i < v->all->len; i++) {
        const FutSnapshotInfo *info = v->all->pdata[i];
        Walk walk = { v, &seen, info->id };
        if (v->report->damages->len > 0) {
            fut_marks_done(&seen);
            fut_marks_init(&seen, &v->set);
        }
        fut_snapshot_visit(info, reader, walk_one, walk_fault, &walk, NULL);
    }
    fut_marks_done(&seen);
    fut_record_reader_free(reader);
}

static uint64_t memory_bytes(const FutSnapshotInfo *info)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < info->areas->len; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        bytes += area->kind == FUT_AREA_MEMORY ? area->length : 0;
    }
    return bytes;
}

typedef struct {
    FutSnapshot *snapshot;
    XXH3_state_t *state;
    FutStoreProgress progress;
    void *opaque;
    uint64_t done, all; /* bytes */
} Hash;

static bool hash_area(Hash *h, unsigned number, uint64_t length, GError **error)
{
    uint8_t unit[FUT_UNIT_SIZE];

    fut_put_le64(unit, length);
    XXH3_64bits_update(h->state, unit, 8);
    for (uint64_t n = 0; n < fut_area_units(length); n++) {
        uint64_t bytes = MIN(FUT_UNIT_SIZE, length - n * FUT_UNIT_SIZE);
        if (n % HASH_UNITS == 0 && h->progress && !h->progress(h->opaque, h->done, h->all)) {
            g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "stopped before all was read");
            return false;
        }
        if (!fut_snapshot_read(h->snapshot, number, n, unit, NULL, error)) {
            return false;
        }
        XXH3_64bits_update(h->state, unit, bytes);
        h->done += bytes;
    }
    return true;
}

bool fut_snapshot_memory_hash(FutSnapshot *snapshot, FutStoreProgress progress, void *opaque,
                              uint64_t *ret, GError **error)
{
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    Hash h = { snapshot, XXH3_createState(), progress, opaque, 0, memory_bytes(info) };
    bool good = true;

    XXH3_64bits_reset(h.state);
    for (unsigned i = 0; i < info->areas->len && good; i++) {
        const FutArea *area = fut_snapshot_info_nth(info, i);
        good = area->kind != FUT_AREA_MEMORY || hash_area(&h, i, area->length, error);
    }
    *ret = XXH3_64bits_digest(h.state);
    XXH3_freeState(h.state);
    return good;
}

static bool on_hash(void *opaque, uint64_t done, uint64_t of)
{
    Verify *v = opaque;

    v->stopped = !tell(v, done);
    return !v->stopped;
}

/* False: stopped. */
static bool check_content(Verify *v, const FutSnapshotInfo *info)
{
    g_autoptr(GError) fault = NULL;
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(v->store, info->id, &fault);
    uint64_t hash;

    if (snapshot && fut_snapshot_memory_hash(snapshot, on_hash, v, &hash, &fault) &&
        hash != info->memory_hash) {
        g_autofree char *name = fut_manifest_name(info->id);
        g_autofree char *what = g_strdup_printf("%s/%s: its memory is not what it was at the cut",
                                                v->store->fs->path, name);
        costs(v, add_damage(v, what), info->id);
    }
    if (v->stopped) {
        return false;
    }
    if (fault) {
        costs(v, add_damage(v, fault->message), info->id);
    }
    v->hashed += memory_bytes(info);
    return true;
}

/* -- all of it -- */

static bool open_all(Verify *v, GError **error)
{
    g_autoptr(GPtrArray) damaged = NULL;

    v->all = fut_store_list(v->store, &damaged, error);
    if (!v->all || !fut_store_packs(v->store, &v->set, error)) {
        return false;
    }
    for (guint i = 0; i < damaged->len; i++) {
        const FutDamagedSnapshot *is = damaged->pdata[i];
        costs(v, add_damage(v, is->what), is->id);
    }
    for (guint i = 0; i < v->set.broken->len; i++) {
        add_damage(v, ((FutBrokenPack *)v->set.broken->pdata[i])->reason);
    }
    for (guint i = 0; i < v->set.packs->len; i++) {
        v->frames += ((FutPack *)v->set.packs->pdata[i])->count;
    }
    v->report->snapshots = v->all->len + damaged->len;
    v->report->unread = damaged->len;
    v->report->files = v->set.packs->len + v->set.broken->len;
    fut_marks_init(&v->bad, &v->set);
    return true;
}

static bool has_hash(const FutSnapshotInfo *info)
{
    return info->memory_hash != 0;
}

static bool check_contents(Verify *v)
{
    bool on = true;

    for (guint i = 0; i < v->all->len && on; i++) {
        const FutSnapshotInfo *info = v->all->pdata[i];
        on = !has_hash(info) || check_content(v, info);
    }
    return on;
}

static bool verify_all(Verify *v, bool contents, GError **error)
{
    if (!open_all(v, error)) {
        return false;
    }
    for (guint i = 0; contents && i < v->all->len; i++) {
        const FutSnapshotInfo *info = v->all->pdata[i];
        v->to_hash += has_hash(info) ? memory_bytes(info) : 0;
    }
    bool on = check_packs(v);
    if (on) {
        check_snapshots(v);
        on = !contents || check_contents(v);
    }
    if (!on) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "%s: stopped before all was read",
                    v->store->fs->path);
    }
    return on;
}

bool fut_store_verify(FutStore *store, bool contents, FutStoreProgress progress, void *opaque,
                      FutVerifyReport *ret, GError **error)
{
    FutVerifyReport report = { .damages = g_ptr_array_new_with_free_func(damage_free) };
    Verify v = { .store = store,
                 .progress = progress,
                 .opaque = opaque,
                 .report = &report,
                 .bad_from = g_array_new(FALSE, FALSE, sizeof(BadFrame)) };
    bool good = verify_all(&v, contents, error);

    fut_marks_done(&v.bad);
    fut_pack_set_done(&v.set);
    g_array_unref(v.bad_from);
    g_clear_pointer(&v.all, g_ptr_array_unref);
    if (good) {
        *ret = report;
    } else {
        fut_verify_report_done(&report);
    }
    return good;
}
