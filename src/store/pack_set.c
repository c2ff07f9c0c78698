/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All pack files of a store, and the records in them. */
#include <errno.h>
#include <string.h>

#include "fut_error.h"
#include "pack.h"

#define CACHED_FRAMES 32

typedef struct {
    FutPack *pack; /* NULL: nothing */
    size_t entry;
    uint64_t used;    /* when last */
    uint8_t *records; /* owned, FUT_GROUP_BYTES; NULL until the first use */
} CachedFrame;

struct FutRecordReader {
    const FutPackSet *set;
    ZSTD_DCtx *unpacker;
    uint64_t clock;
    CachedFrame frames[CACHED_FRAMES];
};

static void broken_free(gpointer opaque)
{
    FutBrokenPack *broken = opaque;

    g_free(broken->name);
    g_free(broken->reason);
    g_free(broken);
}

static void set_init(FutPackSet *set, FutStoreFs *fs)
{
    set->fs = fs;
    set->packs = g_ptr_array_new_with_free_func((GDestroyNotify)fut_pack_unref);
    set->broken = g_ptr_array_new_with_free_func(broken_free);
    set->covered = g_ptr_array_new_with_free_func(g_free);
}

void fut_pack_set_done(FutPackSet *set)
{
    g_clear_pointer(&set->packs, g_ptr_array_unref);
    g_clear_pointer(&set->broken, g_ptr_array_unref);
    g_clear_pointer(&set->covered, g_ptr_array_unref);
}

typedef struct {
    const char *name; /* borrowed */
    uint32_t first, last;
} Candidate;

/* By first number; of those that begin together the one that holds more comes first. */
static gint by_range(gconstpointer a, gconstpointer b)
{
    const Candidate *x = a, *y = b;

    if (x->first != y->first) {
        return x->first < y->first ? -1 : 1;
    }
    return x->last > y->last ? -1 : x->last < y->last;
}

static GArray *candidates_of(const GPtrArray *names)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(Candidate));

    for (guint i = 0; i < names->len; i++) {
        Candidate one = { .name = names->pdata[i] };
        if (fut_pack_parse_name(one.name, &one.first, &one.last)) {
            g_array_append_val(all, one);
        }
    }
    g_array_sort(all, by_range);
    return all;
}

static void add_broken(FutPackSet *set, const Candidate *one, const GError *fault)
{
    FutBrokenPack *broken = g_new0(FutBrokenPack, 1);

    *broken =
        (FutBrokenPack){ g_strdup(one->name), g_strdup(fault->message), one->first, one->last };
    g_ptr_array_add(set->broken, broken);
}

/* Is there a file of that name still? */
static bool is_there(FutStoreFs *fs, const char *name)
{
    int file;
    int code = fs->ops->open(fs, name, &file);

    if (code == 0) {
        fs->ops->close(fs, file);
    }
    return code != ENOENT;
}

bool fut_pack_set_open(FutPackSet *set, FutStoreFs *fs, const GPtrArray *names,
                       const FutStoreIdentity *identity)
{
    g_autoptr(GArray) all = candidates_of(names);
    uint64_t known = 0; /* last number that an opened file stands for */

    set_init(set, fs);
    for (guint i = 0; i < all->len; i++) {
        const Candidate *one = &g_array_index(all, Candidate, i);
        g_autoptr(GError) fault = NULL;
        if (one->last <= known) {
            g_ptr_array_add(set->covered, g_strdup(one->name));
            continue;
        }
        FutPack *pack = fut_pack_open(fs, one->name, identity, &fault);
        if (pack) {
            g_ptr_array_add(set->packs, pack);
            known = one->last;
        } else if (is_there(fs, one->name)) {
            add_broken(set, one, fault);
        } else {
            fut_pack_set_done(set);
            return false;
        }
    }
    return true;
}

void fut_pack_set_copy(FutPackSet *set, const FutPackSet *from)
{
    set_init(set, from->fs);
    for (guint i = 0; i < from->packs->len; i++) {
        g_ptr_array_add(set->packs, fut_pack_ref(from->packs->pdata[i]));
    }
    for (guint i = 0; i < from->broken->len; i++) {
        const FutBrokenPack *one = from->broken->pdata[i];
        FutBrokenPack *broken = g_new(FutBrokenPack, 1);
        *broken =
            (FutBrokenPack){ g_strdup(one->name), g_strdup(one->reason), one->first, one->last };
        g_ptr_array_add(set->broken, broken);
    }
}

void fut_pack_set_add(FutPackSet *set, FutPack *take_pack)
{
    guint at = set->packs->len;

    while (at > 0 && ((FutPack *)set->packs->pdata[at - 1])->first > take_pack->first) {
        at--;
    }
    g_ptr_array_insert(set->packs, (gint)at, take_pack);
}

guint fut_pack_set_index(const FutPackSet *set, const FutPack *pack)
{
    guint low = 0, high = set->packs->len;

    while (high - low > 1) {
        guint middle = low + (high - low) / 2;
        bool below = pack->first < ((const FutPack *)set->packs->pdata[middle])->first;
        low = below ? low : middle;
        high = below ? middle : high;
    }
    g_assert(set->packs->pdata[low] == pack);
    return low;
}

bool fut_pack_set_find(const FutPackSet *set, uint64_t place, FutPack **ret_pack, size_t *ret_entry)
{
    uint32_t number = fut_place_pack(place);
    guint low = 0, high = set->packs->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        FutPack *pack = set->packs->pdata[middle];
        if (number >= pack->first && number <= pack->last) {
            *ret_pack = pack;
            return fut_pack_find(pack, place, ret_entry);
        }
        low = pack->last < number ? middle + 1 : low;
        high = pack->last < number ? high : middle;
    }
    return false;
}

bool fut_pack_set_fail(const FutPackSet *set, uint64_t place, GError **error)
{
    uint32_t number = fut_place_pack(place);

    for (guint i = 0; i < set->broken->len; i++) {
        const FutBrokenPack *broken = set->broken->pdata[i];
        if (number >= broken->first && number <= broken->last) {
            g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, broken->reason);
            return false;
        }
    }
    for (guint i = 0; i < set->packs->len; i++) {
        const FutPack *pack = set->packs->pdata[i];
        if (number >= pack->first && number <= pack->last) {
            g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                        "%s/%s is damaged: record %u of pack %08x is missing", set->fs->path,
                        pack->name, fut_place_number(place), number);
            return false;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: the file of pack %08x is missing", set->fs->path,
                number);
    return false;
}

/* -- records -- */

FutRecordReader *fut_record_reader_new(const FutPackSet *set)
{
    FutRecordReader *reader = g_new0(FutRecordReader, 1);

    reader->set = set;
    reader->unpacker = ZSTD_createDCtx();
    g_assert(reader->unpacker);
    return reader;
}

static void forget(CachedFrame *frame)
{
    g_clear_pointer(&frame->pack, fut_pack_unref);
}

void fut_record_reader_free(FutRecordReader *reader)
{
    if (!reader) {
        return;
    }
    for (unsigned i = 0; i < CACHED_FRAMES; i++) {
        forget(&reader->frames[i]);
        g_free(reader->frames[i].records);
    }
    ZSTD_freeDCtx(reader->unpacker);
    g_free(reader);
}

/* The cached frame, or the one to be used for it: then *ret_fresh. */
static CachedFrame *look_up(FutRecordReader *reader, const FutPack *pack, size_t entry,
                            bool *ret_fresh)
{
    CachedFrame *oldest = &reader->frames[0];

    for (unsigned i = 0; i < CACHED_FRAMES; i++) {
        CachedFrame *frame = &reader->frames[i];
        if (frame->pack == pack && frame->entry == entry) {
            *ret_fresh = false;
            return frame;
        }
        oldest = frame->used < oldest->used ? frame : oldest;
    }
    forget(oldest);
    if (!oldest->records) {
        oldest->records = g_malloc(FUT_GROUP_BYTES);
    }
    *ret_fresh = true;
    return oldest;
}

const uint8_t *fut_record_read(FutRecordReader *reader, uint64_t place, GError **error)
{
    FutPack *pack;
    size_t entry;
    bool fresh;

    if (!fut_pack_set_find(reader->set, place, &pack, &entry)) {
        fut_pack_set_fail(reader->set, place, error);
        return NULL;
    }
    CachedFrame *frame = look_up(reader, pack, entry, &fresh);
    if (fresh && !fut_pack_read_frame(pack, entry, reader->unpacker, frame->records, error)) {
        return NULL;
    }
    if (fresh) {
        frame->pack = fut_pack_ref(pack);
        frame->entry = entry;
    }
    frame->used = ++reader->clock;
    unsigned number = fut_place_number(place) % FUT_GROUP_RECORDS;
    unsigned slot = fut_mask_slot(pack->entries[entry].mask, number);
    return frame->records + slot * FUT_RECORD_SIZE;
}

bool fut_record_hash(FutRecordReader *reader, uint64_t place, uint8_t hash[FUT_HASH_SIZE],
                     GError **error)
{
    FutPack *pack;
    size_t entry;

    if (!fut_pack_set_find(reader->set, place, &pack, &entry)) {
        return fut_pack_set_fail(reader->set, place, error);
    }
    const FutPackEntry *is = &pack->entries[entry];
    unsigned slot = fut_mask_slot(is->mask, fut_place_number(place) % FUT_GROUP_RECORDS);
    return fut_pack_read_hashes(pack, is->first_hash + slot, 1, hash, error);
}
