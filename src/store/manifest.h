/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot's manifest as bytes (store_format.h), and as a file. */
#ifndef FUT_MANIFEST_H
#define FUT_MANIFEST_H

#include "fut_buf.h"
#include "pack.h"
#include "store.h"

#define FUT_MANIFEST_LIST_MAX 100000 /* words of a command line, lines of a fingerprint */

char *fut_manifest_name(uint64_t id);
/* False: not a manifest's name. */
bool fut_manifest_parse_name(const char *name, uint64_t *ret_id);

void fut_manifest_encode(FutBuf *buf, const FutSnapshotInfo *info,
                         const FutStoreIdentity *identity);
/* `bytes` is what a file has; `id`, what its name says. The error says what is wrong, without a name. */
FutSnapshotInfo *fut_manifest_decode(const uint8_t *bytes, size_t length, uint64_t id,
                                     const FutStoreIdentity *identity, GError **error);

/* The error names the file. FUT_ERR_STATE: there is none of that ID. */
FutSnapshotInfo *fut_manifest_read(FutStoreFs *fs, uint64_t id, const FutStoreIdentity *identity,
                                   GError **error);
/* Durable when it returns. The packs it speaks of must be. */
bool fut_manifest_write(FutStoreFs *fs, const FutSnapshotInfo *info,
                        const FutStoreIdentity *identity, GError **error);
/* A file as a whole, durable: a temporary one is written, renamed to `name`, and the folder synced. */
bool fut_store_put_file(FutStoreFs *fs, const char *name, const uint8_t *bytes, size_t length,
                        GError **error);

/* Levels of nodes over an area of that length: 0 if one unit is all. Then its place is the root. */
unsigned fut_area_height(uint64_t length);
static inline uint64_t fut_area_units(uint64_t length)
{
    return (length + FUT_UNIT_SIZE - 1) >> FUT_UNIT_SHIFT;
}

#endif
