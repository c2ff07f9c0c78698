/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes a pack file, under a name that does not count until fut_pack_writer_finish(). Holds the index meanwhile: for the longest file
 * 18 MiB. After an error it can only be freed. */
#ifndef FUT_PACK_WRITER_H
#define FUT_PACK_WRITER_H

#include <stdbool.h>

#include "pack.h"

typedef struct FutPackWriter FutPackWriter;

FutPackWriter *fut_pack_writer_new(FutStoreFs *fs, const FutStoreIdentity *identity, uint32_t first,
                                   uint32_t last, GError **error);
/* A new record of pack `first`; *ret_place tells where. Not when it is full. */
bool fut_pack_writer_add(FutPackWriter *writer, const uint8_t record[FUT_RECORD_SIZE],
                         const uint8_t hash[FUT_HASH_SIZE], uint64_t *ret_place, GError **error);
/* A record that was added: copied. */
bool fut_pack_writer_read(FutPackWriter *writer, uint64_t place, uint8_t record[FUT_RECORD_SIZE],
                          GError **error);
/* A frame of another file, as it is there, or with fewer records. Frames come in order of pack and group. */
bool fut_pack_writer_add_stored(FutPackWriter *writer, const FutPackEntry *entry,
                                const uint8_t *stored, const uint8_t *hashes, GError **error);
bool fut_pack_writer_add_records(FutPackWriter *writer, uint32_t pack, uint32_t group,
                                 uint16_t mask, const uint8_t *records, const uint8_t *hashes,
                                 GError **error);
bool fut_pack_writer_full(const FutPackWriter *writer);
/* The pack of which new records are. */
uint32_t fut_pack_writer_number(const FutPackWriter *writer);
/* Frames in the file so far. */
size_t fut_pack_writer_frames(const FutPackWriter *writer);
/* Bytes in the file so far. */
uint64_t fut_pack_writer_bytes(const FutPackWriter *writer);
/* Makes it durable and gives it its name (the name itself is durable after the folder is synced); then it is open for reading. Frees the
 * writer. */
FutPack *fut_pack_writer_finish(FutPackWriter *take_writer, const FutStoreIdentity *identity,
                                GError **error);
/* Removes the file. */
void fut_pack_writer_free(FutPackWriter *writer);

#endif
