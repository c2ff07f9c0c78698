/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pack files and records in them (store_format.h). A pack keeps its index in memory: 32 bytes for each frame of up to 64 KiB. */
#ifndef FUT_PACK_H
#define FUT_PACK_H

#include <zstd.h>

#include "store_format.h"
#include "store_fs.h"

/* Frames of one pack file: keeps the index, and what is held while a record is looked for, small. */
#define FUT_PACK_FRAMES_MAX (1u << 16)

typedef struct {
    uint64_t offset, first_hash;
    uint32_t pack, group, stored;
    uint16_t mask, method;
} FutPackEntry;

/* What is the same for all files of a store. */
typedef struct {
    uint8_t id[16];
    uint64_t seed;
} FutStoreIdentity;

/* A pack file in use. Counted: fut_pack_ref(), fut_pack_unref(). */
typedef struct {
    FutStoreFs *fs; /* borrowed */
    char *name;
    int file;
    uint32_t first, last; /* pack numbers it stands for */
    uint64_t length, entries_at, hash_count, hashes_check;
    FutPackEntry *entries;
    size_t count;
    uint8_t *looked_at; /* for each frame: what a look found; NULL: none was made */
} FutPack;

/* FUT_ERR_IO names the file and what is wrong with it. */
FutPack *fut_pack_open(FutStoreFs *fs, const char *name, const FutStoreIdentity *identity,
                       GError **error);
FutPack *fut_pack_ref(FutPack *pack);
void fut_pack_unref(FutPack *pack);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutPack, fut_pack_unref)

char *fut_pack_file_name(uint32_t first, uint32_t last);
/* False: not a pack's name. */
bool fut_pack_parse_name(const char *name, uint32_t *ret_first, uint32_t *ret_last);
/* Where a record is; false: not here. */
bool fut_pack_find(const FutPack *pack, uint64_t place, size_t *ret_entry);
/* Position of a record among those that are in its frame. */
static inline unsigned fut_mask_slot(uint16_t mask, unsigned number)
{
    return (unsigned)__builtin_popcount(mask & ((1u << number) - 1u));
}
static inline unsigned fut_mask_count(uint16_t mask)
{
    return (unsigned)__builtin_popcount(mask);
}

/* Checksum of a frame: head before it, and the `length` bytes behind the head. */
uint64_t fut_frame_check(const uint8_t *stored, uint32_t length);
/* A frame as it lies in a file: head and stored bytes. */
bool fut_pack_read_stored(const FutPack *pack, size_t entry,
                          uint8_t stored[F_SIZE + FUT_GROUP_BYTES], GError **error);
/* Its records, one after the other. */
bool fut_pack_read_frame(const FutPack *pack, size_t entry, ZSTD_DCtx *unpacker,
                         uint8_t records[FUT_GROUP_BYTES], GError **error);
/* Does its checksum hold? Reads it, the first time. */
bool fut_pack_frame_holds(FutPack *pack, size_t entry);
/* Do its hashes hold, all of them? Reads them. FUT_ERR_IO. */
bool fut_pack_check_hashes(const FutPack *pack, GError **error);
/* `count` hashes from number `first` on. */
bool fut_pack_read_hashes(const FutPack *pack, uint64_t first, size_t count, uint8_t *hashes,
                          GError **error);

/* -- all packs of a store -- */

typedef struct {
    FutStoreFs *fs;     /* borrowed */
    GPtrArray *packs;   /* of FutPack, by number, not overlapping */
    GPtrArray *broken;  /* of FutBrokenPack: files that could not be opened */
    GPtrArray *covered; /* names of files whose records are in another, too: leftovers of a join */
} FutPackSet;
typedef struct {
    char *name, *reason;
    uint32_t first, last;
} FutBrokenPack;

/* Opens all that are among `names`. False: a file vanished meanwhile, the names have to be read anew. */
bool fut_pack_set_open(FutPackSet *set, FutStoreFs *fs, const GPtrArray *names,
                       const FutStoreIdentity *identity);
/* Another set of the same open files. */
void fut_pack_set_copy(FutPackSet *set, const FutPackSet *from);
void fut_pack_set_add(FutPackSet *set, FutPack *take_pack);
void fut_pack_set_done(FutPackSet *set);
/* The file and frame of a record. False: not there. */
bool fut_pack_set_find(const FutPackSet *set, uint64_t place, FutPack **ret_pack,
                       size_t *ret_entry);
/* Position of a pack of the set. */
guint fut_pack_set_index(const FutPackSet *set, const FutPack *pack);
/* Why a record is not there: names the file. Always false. */
bool fut_pack_set_fail(const FutPackSet *set, uint64_t place, GError **error);

/* -- records, read in any order -- */

typedef struct FutRecordReader FutRecordReader;
/* Keeps the last frames it unpacked (up to 2 MiB). `set` is borrowed. */
FutRecordReader *fut_record_reader_new(const FutPackSet *set);
void fut_record_reader_free(FutRecordReader *reader);
/* FUT_RECORD_SIZE bytes, valid until the next call; `place` is not 0. */
const uint8_t *fut_record_read(FutRecordReader *reader, uint64_t place, GError **error);
/* Its hash. */
bool fut_record_hash(FutRecordReader *reader, uint64_t place, uint8_t hash[FUT_HASH_SIZE],
                     GError **error);

#endif
