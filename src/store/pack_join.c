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

/* The longest run from `from` on whose files are of that size or smaller, and fit into one. */
static guint run_length(const FutMarks *marks, guint from, unsigned tier)
{
    uint64_t bytes = 0;
    size_t frames = 0, more;
    guint count = 0;

    for (guint i = from; i < marks->set->packs->len; i++, count++) {
        uint64_t live = fut_join_live_bytes(marks, i, &more);
        bytes += live;
        frames += more;
        if (tier_of(live) > tier || bytes > JOIN_BYTES_MAX || frames > FUT_PACK_FRAMES_MAX) {
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
        if (is_sparse(marks, i, tight)) {
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

static bool join_frame(Joining *j, const FutPack *pack, size_t at, uint16_t live, GError **error)
{
    const FutPackEntry *entry = &pack->entries[at];

    if (live == 0) {
        return true;
    }
    if (!fut_pack_read_hashes(pack, entry->first_hash, fut_mask_count(entry->mask), j->hashes,
                              error)) {
        return false;
    }
    if (live == entry->mask) {
        return fut_pack_read_stored(pack, at, j->stored, error) &&
               fut_pack_writer_add_stored(j->writer, entry, j->stored, j->hashes, error);
    }
    if (!fut_pack_read_frame(pack, at, j->unpacker, j->records, error)) {
        return false;
    }
    leave_out(j, entry->mask, live);
    return fut_pack_writer_add_records(j->writer, entry->pack, entry->group, live, j->records,
                                       j->hashes, error);
}

static bool join_packs(Joining *j, FutJoin join, GError **error)
{
    for (guint p = join.first; p < join.first + join.count; p++) {
        const FutPack *pack = nth(j->marks, p);
        for (size_t i = 0; i < pack->count; i++) {
            if (!join_frame(j, pack, i, j->marks->masks[p][i], error)) {
                return false;
            }
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

bool fut_join_do(FutStore *store, const FutMarks *marks, FutJoin join, uint64_t *ret_written,
                 GError **error)
{
    g_autofree Joining *j = g_new0(Joining, 1);
    uint32_t first = nth(marks, join.first)->first;
    uint32_t last = nth(marks, join.first + join.count - 1)->last;

    g_assert(store->locked);
    j->marks = marks;
    j->writer = fut_pack_writer_new(store->fs, &store->identity, first, last, error);
    if (!j->writer) {
        return false;
    }
    j->unpacker = ZSTD_createDCtx();
    bool good = join_packs(j, join, error);
    ZSTD_freeDCtx(j->unpacker);
    if (!good) {
        fut_pack_writer_free(j->writer);
        return false;
    }
    if (store->fs->ops->claim(store->fs) == EAGAIN) {
        *ret_written = 0;
        fut_pack_writer_free(j->writer);
        return true;
    }
    *ret_written = fut_pack_writer_bytes(j->writer);
    FutPack *pack = fut_pack_writer_finish(j->writer, &store->identity, error);
    if (pack) {
        fut_pack_unref(pack);
    }
    good = pack && remove_old(store, marks, join, error);
    store->fs->ops->unclaim(store->fs);
    return good;
}
