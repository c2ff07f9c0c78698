/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pack_writer.h"

#include <string.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_buf.h"
#include "fut_error.h"

/* Of program text level 1 leaves 40 % and this 44 %, in 5/6 of the time. */
#define ZSTD_LEVEL (-1)
/* The disk begins with so much at a time while more is made, and only of so much: a small pack is durable sooner by it, and a large one
 * would fill the disk's queue, for which who writes then waits. */
#define EARLY_BYTES (1u << 20)
#define EARLY_MAX (32u << 20)

struct FutPackWriter {
    FutStoreFs *fs;
    char *name; /* while it is written */
    int file;   /* -1: closed */
    uint32_t first, last;
    uint8_t header[P_SIZE];
    uint64_t at;     /* where the file ends */
    uint64_t early;  /* up to there the disk has begun */
    uint32_t number; /* of the next record */
    GArray *entries; /* FutPackEntry */
    FutBuf hashes;
    ZSTD_CCtx *packer;
    ZSTD_DCtx *unpacker;
    unsigned pending; /* records of the frame that is not written yet */
    uint8_t records[FUT_GROUP_BYTES];
    uint8_t stored[F_SIZE + ZSTD_COMPRESSBOUND(FUT_GROUP_BYTES)];
};

/* Whole pieces alone: what is written to again would go to the disk twice. */
static void begin_sync(FutPackWriter *writer)
{
    const FutStoreFsOps *ops = writer->fs->ops;
    uint64_t end = MIN(writer->at, EARLY_MAX) / EARLY_BYTES * EARLY_BYTES;

    if (ops->begin_sync && end > writer->early) {
        ops->begin_sync(writer->fs, writer->file, writer->early, end - writer->early);
        writer->early = end;
    }
}

static bool put(FutPackWriter *writer, const void *bytes, size_t length, GError **error)
{
    int code = writer->fs->ops->write(writer->fs, writer->file, bytes, length, writer->at);

    if (code) {
        return fut_store_fs_fail(writer->fs, "write", writer->name, code, error);
    }
    writer->at += length;
    begin_sync(writer);
    return true;
}

static void fill_header(FutPackWriter *writer, const FutStoreIdentity *identity)
{
    uint8_t *header = writer->header;

    memcpy(header + P_MAGIC, "FUTPACK1", 8);
    fut_put_le32(header + P_VERSION, FUT_STORE_VERSION);
    fut_put_le32(header + P_FIRST, writer->first);
    fut_put_le32(header + P_LAST, writer->last);
    memcpy(header + P_ID, identity->id, sizeof(identity->id));
    fut_put_le64(header + P_CHECKSUM, XXH3_64bits(header, P_CHECKSUM));
}

FutPackWriter *fut_pack_writer_new(FutStoreFs *fs, const FutStoreIdentity *identity, uint32_t first,
                                   uint32_t last, GError **error)
{
    FutPackWriter *writer = g_new0(FutPackWriter, 1);

    writer->fs = fs;
    writer->first = first;
    writer->last = last;
    writer->name = g_strdup_printf("pack-%08x-%08x" FUT_TMP_SUFFIX, first, last);
    writer->entries = g_array_new(FALSE, FALSE, sizeof(FutPackEntry));
    writer->packer = ZSTD_createCCtx();
    writer->unpacker = ZSTD_createDCtx();
    g_assert(writer->packer && writer->unpacker);
    int code = fs->ops->create(fs, writer->name, &writer->file);
    if (code) {
        writer->file = -1;
        fut_store_fs_fail(fs, "make", writer->name, code, error);
    }
    fill_header(writer, identity);
    if (code || !put(writer, writer->header, P_SIZE, error)) {
        fut_pack_writer_free(writer);
        return NULL;
    }
    return writer;
}

static void release(FutPackWriter *writer)
{
    if (writer->file >= 0) {
        writer->fs->ops->close(writer->fs, writer->file);
    }
    g_array_unref(writer->entries);
    fut_buf_done(&writer->hashes);
    ZSTD_freeCCtx(writer->packer);
    ZSTD_freeDCtx(writer->unpacker);
    g_free(writer->name);
    g_free(writer);
}

void fut_pack_writer_free(FutPackWriter *writer)
{
    if (writer) {
        if (writer->file >= 0) {
            writer->fs->ops->remove(writer->fs, writer->name);
        }
        release(writer);
    }
}

bool fut_pack_writer_full(const FutPackWriter *writer)
{
    return writer->entries->len >= FUT_PACK_FRAMES_MAX;
}

uint32_t fut_pack_writer_number(const FutPackWriter *writer)
{
    return writer->first;
}

size_t fut_pack_writer_frames(const FutPackWriter *writer)
{
    return writer->entries->len;
}

uint64_t fut_pack_writer_bytes(const FutPackWriter *writer)
{
    return writer->at;
}

/* -- frames -- */

bool fut_pack_writer_add_stored(FutPackWriter *writer, const FutPackEntry *entry,
                                const uint8_t *stored, const uint8_t *hashes, GError **error)
{
    FutPackEntry mine = *entry;
    unsigned count = fut_mask_count(entry->mask);

    g_assert(!fut_pack_writer_full(writer));
    mine.offset = writer->at;
    mine.first_hash = writer->hashes.len / FUT_HASH_SIZE;
    if (!put(writer, stored, F_SIZE + entry->stored, error)) {
        return false;
    }
    g_array_append_val(writer->entries, mine);
    fut_buf_append(&writer->hashes, hashes, (size_t)count * FUT_HASH_SIZE);
    return true;
}

static void seal_frame(uint8_t *stored, const FutPackEntry *entry)
{
    memset(stored, 0, F_SIZE);
    fut_put_le32(stored + F_MAGIC, FUT_FRAME_MAGIC);
    fut_put_le32(stored + F_PACK, entry->pack);
    fut_put_le32(stored + F_GROUP, entry->group);
    fut_put_le16(stored + F_MASK, entry->mask);
    fut_put_le16(stored + F_METHOD, entry->method);
    fut_put_le32(stored + F_STORED, entry->stored);
    fut_put_le64(stored + F_CHECKSUM, fut_frame_check(stored, entry->stored));
}

bool fut_pack_writer_add_records(FutPackWriter *writer, uint32_t pack, uint32_t group,
                                 uint16_t mask, const uint8_t *records, const uint8_t *hashes,
                                 GError **error)
{
    size_t length = (size_t)fut_mask_count(mask) * FUT_RECORD_SIZE;
    FutPackEntry entry = { .pack = pack, .group = group, .mask = mask };

    size_t packed = ZSTD_compressCCtx(writer->packer, writer->stored + F_SIZE,
                                      sizeof(writer->stored) - F_SIZE, records, length, ZSTD_LEVEL);
    if (!ZSTD_isError(packed) && packed < length - length / 16) {
        entry.method = FUT_FRAME_ZSTD;
        entry.stored = (uint32_t)packed;
    } else {
        entry.method = FUT_FRAME_RAW;
        entry.stored = (uint32_t)length;
        memcpy(writer->stored + F_SIZE, records, length);
    }
    seal_frame(writer->stored, &entry);
    return fut_pack_writer_add_stored(writer, &entry, writer->stored, hashes, error);
}

/* The hashes of pending records stand at the end of the buffer already: taken off and put back by the frame. */
static bool flush_frame(FutPackWriter *writer, GError **error)
{
    uint8_t hashes[FUT_GROUP_RECORDS * FUT_HASH_SIZE];
    size_t length = (size_t)writer->pending * FUT_HASH_SIZE;
    uint32_t group = (writer->number - 1) >> FUT_GROUP_SHIFT;
    uint16_t mask = (uint16_t)((1u << writer->pending) - 1);

    if (writer->pending == 0) {
        return true;
    }
    writer->hashes.len -= length;
    memcpy(hashes, writer->hashes.data + writer->hashes.len, length);
    if (!fut_pack_writer_add_records(writer, writer->first, group, mask, writer->records, hashes,
                                     error)) {
        return false;
    }
    writer->pending = 0;
    return true;
}

bool fut_pack_writer_add(FutPackWriter *writer, const uint8_t record[FUT_RECORD_SIZE],
                         const uint8_t hash[FUT_HASH_SIZE], uint64_t *ret_place, GError **error)
{
    memcpy(writer->records + writer->pending * FUT_RECORD_SIZE, record, FUT_RECORD_SIZE);
    fut_buf_append(&writer->hashes, hash, FUT_HASH_SIZE);
    *ret_place = FUT_PLACE(writer->first, writer->number);
    writer->number++;
    writer->pending++;
    return writer->pending < FUT_GROUP_RECORDS || flush_frame(writer, error);
}

/* Stands in for an open file while there is none. */
static bool read_written(FutPackWriter *writer, size_t entry, uint8_t *records, GError **error)
{
    FutPack pack = { .fs = writer->fs,
                     .name = writer->name,
                     .file = writer->file,
                     .entries = (FutPackEntry *)(void *)writer->entries->data,
                     .count = writer->entries->len };

    return fut_pack_read_frame(&pack, entry, writer->unpacker, records, error);
}

bool fut_pack_writer_read(FutPackWriter *writer, uint64_t place, uint8_t record[FUT_RECORD_SIZE],
                          GError **error)
{
    uint8_t records[FUT_GROUP_BYTES];
    uint32_t number = fut_place_number(place);
    uint32_t pending_from = writer->number - writer->pending;

    g_assert(fut_place_pack(place) == writer->first && number < writer->number);
    if (number >= pending_from) {
        memcpy(record, writer->records + (number - pending_from) * FUT_RECORD_SIZE,
               FUT_RECORD_SIZE);
        return true;
    }
    if (!read_written(writer, number >> FUT_GROUP_SHIFT, records, error)) {
        return false;
    }
    memcpy(record, records + number % FUT_GROUP_RECORDS * FUT_RECORD_SIZE, FUT_RECORD_SIZE);
    return true;
}

/* -- the end -- */

static void encode_entry(uint8_t *at, const FutPackEntry *entry)
{
    fut_put_le64(at + E_OFFSET, entry->offset);
    fut_put_le32(at + E_PACK, entry->pack);
    fut_put_le32(at + E_GROUP, entry->group);
    fut_put_le16(at + E_MASK, entry->mask);
    fut_put_le16(at + E_METHOD, entry->method);
    fut_put_le32(at + E_STORED, entry->stored);
    fut_put_le64(at + E_FIRST, entry->first_hash);
}

static bool write_index(FutPackWriter *writer, GError **error)
{
    uint64_t entries_at = writer->at;
    size_t length = writer->entries->len * E_SIZE;
    g_autofree uint8_t *entries = g_malloc(length + 1);
    uint8_t footer[T_CHECKSUM + P_SIZE] = { 0 };

    for (guint i = 0; i < writer->entries->len; i++) {
        encode_entry(entries + i * E_SIZE, &g_array_index(writer->entries, FutPackEntry, i));
    }
    memcpy(footer + T_MAGIC, "FUTINDEX", 8);
    fut_put_le64(footer + T_ENTRIES_AT, entries_at);
    fut_put_le64(footer + T_ENTRIES, writer->entries->len);
    fut_put_le64(footer + T_HASHES, writer->hashes.len / FUT_HASH_SIZE);
    fut_put_le64(footer + T_ENTRIES_CHECK, XXH3_64bits(entries, length));
    fut_put_le64(footer + T_HASHES_CHECK, XXH3_64bits(writer->hashes.data, writer->hashes.len));
    fut_put_le64(footer + T_LENGTH, entries_at + length + writer->hashes.len + T_SIZE);
    memcpy(footer + T_CHECKSUM, writer->header, P_SIZE);
    uint64_t check = XXH3_64bits(footer, sizeof(footer));
    fut_put_le64(footer + T_CHECKSUM, check);
    return put(writer, entries, length, error) &&
           put(writer, writer->hashes.data, writer->hashes.len, error) &&
           put(writer, footer, T_SIZE, error);
}

static bool seal(FutPackWriter *writer, const char *name, GError **error)
{
    if (!flush_frame(writer, error) || !write_index(writer, error)) {
        return false;
    }
    int code = writer->fs->ops->sync(writer->fs, writer->file);
    code = code ? code : writer->fs->ops->rename(writer->fs, writer->name, name);
    return code == 0 || fut_store_fs_fail(writer->fs, "write", writer->name, code, error);
}

FutPack *fut_pack_writer_finish(FutPackWriter *take_writer, const FutStoreIdentity *identity,
                                GError **error)
{
    g_autofree char *name = fut_pack_file_name(take_writer->first, take_writer->last);
    FutStoreFs *fs = take_writer->fs;

    if (!seal(take_writer, name, error)) {
        fut_pack_writer_free(take_writer);
        return NULL;
    }
    release(take_writer);
    return fut_pack_open(fs, name, identity, error);
}
