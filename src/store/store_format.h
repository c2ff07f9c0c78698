/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a store's files hold. Little-endian, reserved fields zero, each file with its store's ID, so that a file of another store is not
 * taken for one of this. Checksums are XXH3, 64 bit. Files are never changed: they are written under a name that ends in ".tmp", made durable
 * and renamed.
 *
 * store                       the store's identity, and which numbers were ever given away
 * NNNNNNNNNN.snap             a snapshot's manifest; N its ID, decimal. What is not named by one does not count
 * FFFFFFFF-LLLLLLLL.pack      records: those of the packs with numbers F to L, hexadecimal. Each snapshot writes packs of its own; when there
 *                             are many files, neighbours are joined into one, which then stands for all their numbers. A pack number is never
 *                             given away twice, also not after a crash.
 * lock                        empty: locked by who writes
 *
 * The folder itself is locked, shared, by who reads more files than he keeps open, and exclusively while packs are removed or replaced.
 *
 * A record is 4096 bytes: a unit of an area, or a node of a tree. Its place is pack << 32 | number in the pack; place 0 means zeroes. A node
 * is 512 places, of the nodes below or, in the lowest, of units: unit u of an area is found in entry u % 512 of the node over it, and so on up
 * to the one node that covers the area, whose place is in the manifest. Only nodes over something that changed are written anew.
 *
 * Equal records have one place, whatever they are: it can be that of a unit and of nodes of several levels, for a guest can write a page that
 * looks like a node.
 *
 * Records are kept in frames of up to 16 with consecutive numbers (a group: number / 16), compressed together. A record that no snapshot refers to
 * can be missing: the frame's mask says which are there. */
#ifndef FUT_STORE_FORMAT_H
#define FUT_STORE_FORMAT_H

#include <glib.h>
#include <stdint.h>

#define FUT_STORE_VERSION 1u
#define FUT_STORE_NAME "store"
#define FUT_STORE_LOCK "lock"
#define FUT_TMP_SUFFIX ".tmp"
#define FUT_PACK_SUFFIX ".pack"
#define FUT_SNAP_SUFFIX ".snap"

#define FUT_RECORD_SIZE 4096u
#define FUT_NODE_SHIFT 9
#define FUT_NODE_PLACES (1u << FUT_NODE_SHIFT)
#define FUT_LEVELS_MAX 8 /* 0: a unit, 1: a node over units, ... */
#define FUT_GROUP_SHIFT 4
#define FUT_GROUP_RECORDS (1u << FUT_GROUP_SHIFT)
#define FUT_GROUP_BYTES (FUT_GROUP_RECORDS * FUT_RECORD_SIZE)
#define FUT_HASH_SIZE 16 /* of a record: XXH3, 128 bit, with the store's seed */

G_STATIC_ASSERT(FUT_NODE_PLACES * 8 == FUT_RECORD_SIZE);

/* The file "store". */
enum {
    S_MAGIC = 0,          /* "FUTSTORE" */
    S_VERSION = 8,        /* u32 */
    S_ID = 16,            /* 16 random bytes */
    S_SEED = 32,          /* u64, random: of the records' hashes */
    S_NEXT_PACK = 40,     /* u64: no pack from this number on was ever begun */
    S_NEXT_SNAPSHOT = 48, /* u64: likewise */
    S_CHECKSUM = 56,      /* u64, of all before */
    S_SIZE = 64
};

/* A pack file: header, frames, index, footer. */
enum {
    P_MAGIC = 0,   /* "FUTPACK1" */
    P_VERSION = 8, /* u32 */
    P_FIRST = 12,  /* u32 */
    P_LAST = 16,   /* u32 */
    P_ID = 24,     /* the store's */
    P_CHECKSUM = 40,
    P_SIZE = 48
};
enum {
    F_MAGIC = 0,     /* u32 */
    F_PACK = 4,      /* u32 */
    F_GROUP = 8,     /* u32 */
    F_MASK = 12,     /* u16: bit n: record 16 * group + n is here; not 0 */
    F_METHOD = 14,   /* u16 */
    F_STORED = 16,   /* u32: bytes that follow this head */
    F_CHECKSUM = 24, /* u64: of the bytes, its seed the checksum of the head before it */
    F_SIZE = 32
};
#define FUT_FRAME_MAGIC 0x4d524646u /* "FFRM" */
enum {
    FUT_FRAME_RAW = 0,
    FUT_FRAME_ZSTD = 1
};
/* The index: an entry a frame, ordered by pack and group; then the hashes of all records, in the same order. */
enum {
    E_OFFSET = 0, /* u64, of the frame */
    E_PACK = 8,
    E_GROUP = 12,
    E_MASK = 16,
    E_METHOD = 18,
    E_STORED = 20,
    E_FIRST = 24, /* u64: number of the frame's first hash */
    E_SIZE = 32
};
enum {
    T_MAGIC = 0,          /* "FUTINDEX" */
    T_ENTRIES_AT = 8,     /* u64 */
    T_ENTRIES = 16,       /* u64: how many */
    T_HASHES = 24,        /* u64: how many; they follow the entries */
    T_ENTRIES_CHECK = 32, /* u64 */
    T_HASHES_CHECK = 40,  /* u64 */
    T_LENGTH = 48,        /* u64: of the file */
    T_CHECKSUM = 56,      /* u64: of the footer before it, and the file's header */
    T_SIZE = 64
};

/* A manifest: head, fields. A field is tag u32, length u32, bytes. Tags with bit 31 must be understood, others may be left out. */
enum {
    M_MAGIC = 0,         /* "FUTSNAP1" */
    M_VERSION = 8,       /* u32 */
    M_LENGTH = 12,       /* u32: of the fields */
    M_ID = 16,           /* the store's */
    M_SNAPSHOT = 32,     /* u64: its ID */
    M_FIELDS_CHECK = 40, /* u64 */
    M_CHECKSUM = 48,     /* u64: of all before */
    M_SIZE = 56
};
#define FUT_MANIFEST_MAX (16u << 20)
#define FUT_FIELD_NEEDED 0x80000000u
enum {
    FUT_FIELD_PARENT = 1,  /* u64 */
    FUT_FIELD_TIME,        /* u64: microseconds since 1970 */
    FUT_FIELD_STOP,        /* u64: ns */
    FUT_FIELD_TOOK,        /* u64: ns */
    FUT_FIELD_HASH,        /* u64: of the memory */
    FUT_FIELD_STORED,      /* u64: bytes */
    FUT_FIELD_VM,          /* text */
    FUT_FIELD_REASON,      /* text */
    FUT_FIELD_COMMAND,     /* text: one word of the command line */
    FUT_FIELD_FINGERPRINT, /* text: one line */
    FUT_FIELD_FLOWS,       /* bytes: the guest's connections (flow_list.h) */
    FUT_FIELD_HOT,         /* bytes: the pages that the guest used last (hot_list.h) */
    FUT_FIELD_CODE,        /* bytes: the pieces of its code that were translated (code_list.h) */
    FUT_FIELD_AREA =
        64 | (int)FUT_FIELD_NEEDED /* kind u32, reserved u32, length, root, put u64, name */
};
enum {
    A_KIND = 0,
    A_LENGTH = 8,
    A_ROOT = 16,
    A_PUT = 24,
    A_NAME = 32
};

#define FUT_PLACE(pack, number) ((uint64_t)(pack) << 32 | (uint32_t)(number))
static inline uint32_t fut_place_pack(uint64_t place)
{
    return (uint32_t)(place >> 32);
}
static inline uint32_t fut_place_number(uint64_t place)
{
    return (uint32_t)place;
}

#endif
