/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pack_join.h"

#include <errno.h>
#include <string.h>

#include "fut_error.h"

#define JOIN_FILES 8 /* neighbours, at least */
#define TIER0_BYTES                                                                                \
    (256u << 10) /* files below this are of one size; each size above has eight times the bytes */
#define JOIN_BYTES_MAX (1ull << 30)

static const FutPack *nth(const FutMarks *marks, guint pack)
{
    return marks->set->packs->pdata[pack];
}

uint64_t fut_join_live_bytes(const FutMarks *marks, guint pack, size_t *ret_frames)
{
    const FutPack *is = nth(marks, pack);
    uint64_t bytes = 0;

    *ret_frames = 0;
    for (size_t i = 0; i < is->count; i++) {
        unsigned live = fut_mask_count(marks->masks[pack][i]);
        bytes += (uint64_t)is->entries[i].stored * live / fut_mask_count(is->entries[i].mask);
        *ret_frames += live > 0;
    }
    return bytes;
}

static unsigned tier_of(uint64_t bytes)
{
    unsigned tier = 0;

    for (uint64_t limit = TIER0_BYTES; bytes > limit; limit *= 8) {
        tier++;
    }
    return tier;
}

/* The joined file would stand for all numbers between, too. */
static bool is_neighbour(const FutMarks *marks, guint pack)
{
    uint32_t from = nth(marks, pack - 1)->last, to = nth(marks, pack)->first;

    return to - from <= 1 || !fut_marks_absent(marks, from + 1, to - 1);
}

/* The longest run from `from` on whose files are of that size or smaller, and fit into one. */
static guint run_length(const FutMarks *marks, guint from, unsigned tier)
{
    uint64_t bytes = 0;
    size_t frames = 0, more;
    guint count = 0;

    for (guint i = from; i < marks->set->packs->len && !marks->spoilt[i]; i++, count++) {
        uint64_t live = fut_join_live_bytes(marks, i, &more);
        bytes += live;
        frames += more;
        if (tier_of(live) > tier || bytes > JOIN_BYTES_MAX || frames > FUT_PACK_FRAMES_MAX ||
            (i > from && !is_neighbour(marks, i))) {
            break;
        }
    }
    return count;
}

static bool is_sparse(const FutMarks *marks, guint pack, bool tight)
{
    size_t frames;
    uint64_t live = fut_join_live_bytes(marks, pack, &frames);

    uint64_t bytes = nth(marks, pack)->entries_at;
    return tight ? live < bytes - bytes / 8 : live < bytes / 2 && bytes > TIER0_BYTES / 4;
}

FutJoin fut_join_choose(const FutMarks *marks, guint from, bool tight)
{
    for (guint i = from; i < marks->set->packs->len; i++) {
        for (unsigned tier = 0; TIER0_BYTES * (1ull << 3 * tier) < 2 * JOIN_BYTES_MAX; tier++) {
            guint count = run_length(marks, i, tier);
            if (count >= JOIN_FILES) {
                return (FutJoin){ i, count };
            }
        }
        if (!marks->spoilt[i] && is_sparse(marks, i, tight)) {
            return (FutJoin){ i, 1 };
        }
    }
    return (FutJoin){ 0, 0 };
}

/* -- doing it -- */

typedef struct {
    const FutMarks *marks;
    FutPackWriter *writer;
    ZSTD_DCtx *unpacker;
    bool unread; /* it is a file to be joined that failed, not the new one */
    uint8_t stored[F_SIZE + FUT_GROUP_BYTES];
    uint8_t records[FUT_GROUP_BYTES];
    uint8_t hashes[FUT_GROUP_RECORDS * FUT_HASH_SIZE];
} Joining;

/* Closes up what is to stay: records and hashes move to the front. */
static void leave_out(Joining *j, uint16_t mask, uint16_t live)
{
    unsigned to = 0;

    for (unsigned i = 0; i < FUT_GROUP_RECORDS; i++) {
        if (live >> i & 1) {
            unsigned from = fut_mask_slot(mask, i);
            memmove(j->records + to * FUT_RECORD_SIZE, j->records + from * FUT_RECORD_SIZE,
                    FUT_RECORD_SIZE);
            memmove(j->hashes + to * FUT_HASH_SIZE, j->hashes + from * FUT_HASH_SIZE,
                    FUT_HASH_SIZE);
            to++;
        }
    }
}

static bool read_frame(Joining *j, const FutPack *pack, size_t at, uint16_t live, GError **error)
{
    const FutPackEntry *entry = &pack->entries[at];

    j->unread =
        !fut_pack_read_hashes(pack, entry->first_hash, fut_mask_count(entry->mask), j->hashes,
                              error) ||
        !(live == entry->mask ? fut_pack_read_stored(pack, at, j->stored, error)
                              : fut_pack_read_frame(pack, at, j->unpacker, j->records, error));
    return !j->unread;
}

static bool join_frame(Joining *j, const FutPack *pack, size_t at, uint16_t live, GError **error)
{
    const FutPackEntry *entry = &pack->entries[at];

    if (live == 0) {
        return true;
    }
    if (!read_frame(j, pack, at, live, error)) {
        return false;
    }
    if (live == entry->mask) {
        return fut_pack_writer_add_stored(j->writer, entry, j->stored, j->hashes, error);
    }
    leave_out(j, entry->mask, live);
    return fut_pack_writer_add_records(j->writer, entry->pack, entry->group, live, j->records,
                                       j->hashes, error);
}

/* A wrong hash would be written anew, as one that holds. */
static bool join_pack(Joining *j, guint p, GError **error)
{
    const FutPack *pack = nth(j->marks, p);

    j->unread = !fut_pack_check_hashes(pack, error);
    for (size_t i = 0; i < pack->count && !j->unread; i++) {
        if (!join_frame(j, pack, i, j->marks->masks[p][i], error)) {
            return false;
        }
    }
    return !j->unread;
}

/* *ret_at: the pack at which it ended. */
static bool join_packs(Joining *j, FutJoin join, guint *ret_at, GError **error)
{
    for (guint p = join.first; p < join.first + join.count; p++) {
        *ret_at = p;
        if (!join_pack(j, p, error)) {
            return false;
        }
    }
    return true;
}

static bool remove_old(FutStore *store, const FutMarks *marks, FutJoin join, GError **error)
{
    FutStoreFs *fs = store->fs;
    int code = fs->ops->sync_folder(fs); /* the new one is there for good before the old ones go */

    for (guint p = join.first; p < join.first + join.count && join.count > 1 && code == 0; p++) {
        code = fs->ops->remove(fs, nth(marks, p)->name);
    }
    return code == 0 || fut_store_fs_fail(fs, "join packs in", "", code, error);
}

/* Gives the new file its name, and takes the old ones away. Takes the writer over. */
static bool replace(FutStore *store, const FutMarks *marks, FutJoin join,
                    FutPackWriter *take_writer, uint64_t *ret_written, GError **error)
{
    uint64_t bytes = fut_pack_writer_bytes(take_writer);
    FutPack *pack = fut_pack_writer_finish(take_writer, &store->identity, error);

    if (!pack) {
        return false;
    }
    fut_pack_unref(pack);
    *ret_written += bytes;
    return remove_old(store, marks, join, error);
}

/* All of the new file but its name. NULL without an error: what is noted in the marks. */
static FutPackWriter *write_joined(FutStore *store, FutMarks *marks, FutJoin join, GError **error)
{
    g_autofree Joining *j = g_new0(Joining, 1);
    uint32_t first = nth(marks, join.first)->first;
    uint32_t last = nth(marks, join.first + join.count - 1)->last;
    g_autoptr(GError) fault = NULL;
    guint at = join.first;

    j->marks = marks;
    j->writer = fut_pack_writer_new(store->fs, &store->identity, first, last, error);
    if (!j->writer) {
        return NULL;
    }
    j->unpacker = ZSTD_createDCtx();
    bool good = join_packs(j, join, &at, &fault);
    ZSTD_freeDCtx(j->unpacker);
    if (good) {
        return j->writer;
    }
    fut_pack_writer_free(j->writer);
    if (j->unread) {
        fut_marks_spoil(marks, at, fault->message);
    } else {
        g_propagate_error(error, g_steal_pointer(&fault));
    }
    return NULL;
}

bool fut_join_do(FutStore *store, FutMarks *marks, FutJoin join, uint64_t *ret_written,
                 FutJoinEnd *ret_end, GError **error)
{
    GError *fault = NULL;

    g_assert(store->locked);
    FutPackWriter *writer = write_joined(store, marks, join, &fault);
    if (!writer) {
        *ret_end = FUT_JOIN_SPOILT;
        if (fault) {
            g_propagate_error(error, fault);
        }
        return !fault;
    }
    if (store->fs->ops->claim(store->fs) == EAGAIN) {
        *ret_end = FUT_JOIN_READERS;
        fut_pack_writer_free(writer);
        return true;
    }
    *ret_end = FUT_JOIN_DONE;
    bool good = replace(store, marks, join, writer, ret_written, error);
    store->fs->ops->unclaim(store->fs);
    return good;
}
