/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_prune.h"

#include <errno.h>
#include <string.h>

#include "fut_error.h"
#include "pack_join.h"
#include "store_internal.h"
#include "store_marks.h"

typedef struct {
    FutStore *store;
    const FutPrunePolicy *policy;
    FutStoreProgress progress;
    void *opaque;
    uint64_t write_max;
    FutPruneReport *report;
    GPtrArray *all; /* snapshots, oldest first */
    bool *stays;
    bool *
        spare; /* the newest whole ones, if the newest are not: they stay whatever the bounds say */
    uint64_t bound; /* bytes of all files */
    FutPackSet set;
} Prune;

void fut_prune_report_done(FutPruneReport *report)
{
    g_clear_pointer(&report->removed, g_array_unref);
    g_clear_pointer(&report->damages, g_ptr_array_unref);
}

static bool goes_on(const Prune *p, uint64_t done, uint64_t all)
{
    return !p->progress || p->progress(p->opaque, done, all);
}

static uint64_t bytes_of(const FutPackSet *set)
{
    uint64_t bytes = 0;

    for (guint i = 0; i < set->packs->len; i++) {
        bytes += ((const FutPack *)set->packs->pdata[i])->length;
    }
    return bytes;
}

/* Nothing may be removed while it is not known what is needed. */
static bool list_whole(Prune *p, GError **error)
{
    g_autoptr(GPtrArray) damaged = NULL;

    p->all = fut_store_list(p->store, &damaged, error);
    if (p->all && damaged->len > 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: delete that snapshot first",
                    ((FutDamagedSnapshot *)damaged->pdata[0])->what);
        return false;
    }
    return p->all != NULL;
}

/* Bytes that all of it may have. */
static bool byte_bound(const Prune *p, uint64_t *ret, GError **error)
{
    uint64_t is_free, bytes = bytes_of(&p->set);

    *ret = p->policy->max_bytes ? p->policy->max_bytes : UINT64_MAX;
    if (p->policy->min_free == 0) {
        return true;
    }
    int code = p->store->fs->ops->free_bytes(p->store->fs, &is_free);
    if (code) {
        return fut_store_fs_fail(p->store->fs, "look at", "", code, error);
    }
    if (is_free < p->policy->min_free) {
        uint64_t missing = p->policy->min_free - is_free;
        *ret = MIN(*ret, bytes > missing ? bytes - missing : 0);
    }
    return true;
}

/* Stays whatever the bounds say. */
static bool has_to_stay(const Prune *p, guint i)
{
    return fut_prune_is_newest(p->all, i) || p->spare[i] ||
           !fut_prune_may_go(p->all->pdata[i], p->policy);
}

/* As far as its nodes tell. */
static bool is_whole(const Prune *p, guint i, FutRecordReader *reader)
{
    FutMarks marks;

    fut_marks_init(&marks, &p->set);
    fut_marks_add_snapshot(&marks, p->all->pdata[i], reader);
    bool whole = marks.faults->len == 0;
    fut_marks_done(&marks);
    return whole;
}

/* Snapshot i is its VM's newest: if it is damaged, the newest whole one is found. Marked as spare, too, if it stays anyway. */
static void spare_whole(Prune *p, guint i, FutRecordReader *reader)
{
    const char *vm = ((const FutSnapshotInfo *)p->all->pdata[i])->vm;

    for (guint at = i + 1; at-- > 0;) {
        const FutSnapshotInfo *info = p->all->pdata[at];
        if (strcmp(info->vm, vm) == 0 && is_whole(p, at, reader)) {
            p->spare[at] = true;
            return;
        }
    }
}

/* Marks what has to stay; bytes. */
static uint64_t mark_needed(Prune *p, FutMarks *marks, FutRecordReader *reader)
{
    uint64_t sum = 0;

    for (guint i = p->all->len; i-- > 0;) {
        sum += has_to_stay(p, i) ? fut_marks_add_snapshot(marks, p->all->pdata[i], reader) : 0;
    }
    for (guint i = p->all->len; marks->faults->len > 0 && i-- > 0;) {
        if (fut_prune_is_newest(p->all, i)) {
            spare_whole(p, i, reader);
        }
    }
    for (guint i = p->all->len; i-- > 0;) {
        sum += p->spare[i] ? fut_marks_add_snapshot(marks, p->all->pdata[i], reader) : 0;
    }
    return sum;
}

/* First what has to stay; then, from the newest to the oldest, what fits of what the policy lets stay. All that stays is marked. */
static bool choose(Prune *p, FutMarks *marks, GError **error)
{
    if (!byte_bound(p, &p->bound, error)) {
        return false;
    }
    FutRecordReader *reader = fut_record_reader_new(&p->set);
    uint64_t sum = mark_needed(p, marks, reader);

    fut_prune_thin(p->all, p->policy, p->stays);
    p->report->short_of_room = sum > p->bound;
    for (guint i = p->all->len; i-- > 0;) {
        if (has_to_stay(p, i) || !p->stays[i]) {
            p->stays[i] = has_to_stay(p, i);
            continue;
        }
        if (sum <= p->bound) {
            sum += fut_marks_add_snapshot(marks, p->all->pdata[i], reader);
        }
        /* The one that goes beyond the bound does not fit; its marks stay until the next prune. */
        p->stays[i] = sum <= p->bound;
    }
    fut_record_reader_free(reader);
    return true;
}

/* What stays is marked, and what may be needed for it; only that. */
static void mark_what_stays(Prune *p, FutMarks *marks)
{
    FutRecordReader *reader = fut_record_reader_new(&p->set);

    for (guint i = 0; i < p->all->len; i++) {
        if (p->stays[i]) {
            fut_marks_add_snapshot(marks, p->all->pdata[i], reader);
        }
    }
    fut_marks_hold(marks);
    fut_record_reader_free(reader);
}

static bool remove_snapshots(Prune *p, bool dry_run, GError **error)
{
    FutStoreFs *fs = p->store->fs;
    uint64_t highest = 0;
    int code = 0;

    for (guint i = 0; i < p->all->len; i++) {
        const FutSnapshotInfo *info = p->all->pdata[i];
        if (!p->stays[i]) {
            g_array_append_val(p->report->removed, info->id);
            highest = MAX(highest, info->id);
        }
    }
    if (dry_run || p->report->removed->len == 0) {
        return true;
    }
    if (!fut_store_raise_snapshot(p->store, highest + 1, error)) {
        return false;
    }
    for (guint i = 0; i < p->report->removed->len && code == 0; i++) {
        g_autofree char *name = fut_manifest_name(g_array_index(p->report->removed, uint64_t, i));
        code = fs->ops->remove(fs, name);
    }
    code = code ? code : fs->ops->sync_folder(fs);
    return code == 0 || fut_store_fs_fail(fs, "remove snapshots from", "", code, error);
}

/* -- files -- */

static bool remove_unneeded(Prune *p, const FutMarks *marks, GError **error)
{
    FutStoreFs *fs = p->store->fs;

    for (guint i = 0; i < p->set.packs->len; i++) {
        const FutPack *pack = p->set.packs->pdata[i];
        size_t frames;
        fut_join_live_bytes(marks, i, &frames);
        int code = frames ? 0 : fs->ops->remove(fs, pack->name);
        if (code) {
            return fut_store_fs_fail(fs, "remove", pack->name, code, error);
        }
    }
    for (guint i = 0; i < p->set.broken->len; i++) {
        const FutBrokenPack *broken = p->set.broken->pdata[i];
        bool needed = fut_marks_absent(marks, broken->first, broken->last);
        int code = needed ? 0 : fs->ops->remove(fs, broken->name);
        if (code) {
            return fut_store_fs_fail(fs, "remove", broken->name, code, error);
        }
    }
    return true;
}

static bool has_room_for(const Prune *p, const FutMarks *marks, FutJoin join)
{
    uint64_t is_free, bytes = 0;
    size_t frames;

    for (guint i = join.first; i < join.first + join.count; i++) {
        bytes += fut_join_live_bytes(marks, i, &frames) * 9 / 8;
    }
    return p->store->fs->ops->free_bytes(p->store->fs, &is_free) == 0 &&
           is_free > bytes + p->policy->min_free &&
           (p->write_max == 0 || p->report->written + bytes <= p->write_max);
}

/* What is joined keeps its place among the others; the rest is looked at from behind it. */
static bool join_small(Prune *p, FutMarks *marks, GError **error)
{
    bool tight = bytes_of(&p->set) > p->bound;
    FutJoin join = fut_join_choose(marks, 0, tight);

    while (join.count > 0) {
        FutJoinEnd end = FUT_JOIN_DONE;
        if (has_room_for(p, marks, join) &&
            !fut_join_do(p->store, marks, join, &p->report->written, &end, error)) {
            return false;
        }
        p->report->readers = end == FUT_JOIN_READERS;
        if (p->report->readers) {
            return true;
        }
        /* Without the one that is damaged there may be something to do from the same place on. */
        guint next = end == FUT_JOIN_SPOILT ? join.first : join.first + join.count;
        if (!goes_on(p, next, marks->set->packs->len)) {
            return true;
        }
        join = fut_join_choose(marks, next, tight);
    }
    return true;
}

/* Opens the files as they are now, and marks. */
static bool look_again(Prune *p, FutMarks *marks, GError **error)
{
    fut_marks_done(marks);
    fut_pack_set_done(&p->set);
    if (!fut_store_packs(p->store, &p->set, error)) {
        return false;
    }
    fut_marks_init(marks, &p->set);
    mark_what_stays(p, marks);
    return true;
}

static void count_after(Prune *p, const FutMarks *marks)
{
    FutPackSet set;

    if (fut_store_packs(p->store, &set, NULL)) {
        p->report->bytes_after = bytes_of(&set);
        p->report->files_after = set.packs->len;
        p->report->short_of_room |= marks->held > 0 && p->report->bytes_after > p->bound;
        fut_pack_set_done(&set);
    }
}

static bool prune_locked(Prune *p, FutMarks *marks, bool dry_run, GError **error)
{
    if (!list_whole(p, error) || !fut_store_packs(p->store, &p->set, error)) {
        return false;
    }
    fut_marks_init(marks, &p->set);
    p->stays = g_new0(bool, p->all->len + 1);
    p->spare = g_new0(bool, p->all->len + 1);
    p->report->bytes_before = p->report->bytes_after = bytes_of(&p->set);
    p->report->files_before = p->report->files_after = p->set.packs->len;
    if (!choose(p, marks, error) || !remove_snapshots(p, dry_run, error)) {
        return false;
    }
    if (dry_run) {
        return true;
    }
    if (p->store->fs->ops->claim(p->store->fs) == EAGAIN) {
        p->report->readers = true;
        return true;
    }
    bool good = fut_store_tidy(p->store, &p->set, error) && look_again(p, marks, error) &&
                remove_unneeded(p, marks, error);
    p->store->fs->ops->unclaim(p->store->fs);
    if (!good || !look_again(p, marks, error) || !join_small(p, marks, error)) {
        return false;
    }
    count_after(p, marks);
    return true;
}

bool fut_store_prune(FutStore *store, const FutPrunePolicy *policy, bool dry_run,
                     uint64_t write_max, FutStoreProgress progress, void *opaque,
                     FutPruneReport *ret, GError **error)
{
    FutPruneReport report = { .removed = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
    Prune p = { .store = store,
                .policy = policy,
                .progress = progress,
                .opaque = opaque,
                .write_max = write_max,
                .report = &report };
    FutMarks marks = { 0 };

    if (!fut_store_lock(store, FUT_STORE_LOCK_WAIT_MS, error)) {
        fut_prune_report_done(&report);
        return false;
    }
    bool good = prune_locked(&p, &marks, dry_run, error);
    fut_store_unlock(store);
    report.damages = g_steal_pointer(&marks.faults);
    fut_marks_done(&marks);
    fut_pack_set_done(&p.set);
    g_free(p.stays);
    g_free(p.spare);
    g_clear_pointer(&p.all, g_ptr_array_unref);
    if (good) {
        *ret = report;
    } else {
        fut_prune_report_done(&report);
    }
    return good;
}
