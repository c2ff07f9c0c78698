/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pack.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_error.h"

static bool fail(const FutPack *pack, const char *what, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s/%s is damaged: %s", pack->fs->path, pack->name,
                what);
    return false;
}

char *fut_pack_file_name(uint32_t first, uint32_t last)
{
    return g_strdup_printf("%08x-%08x" FUT_PACK_SUFFIX, first, last);
}

bool fut_pack_parse_name(const char *name, uint32_t *ret_first, uint32_t *ret_last)
{
    unsigned first, last;

    if (sscanf(name, "%8x-%8x", &first, &last) != 2 || first == 0 || first > last) {
        return false;
    }
    g_autofree char *good = fut_pack_file_name(first, last);
    *ret_first = first;
    *ret_last = last;
    return strcmp(name, good) == 0;
}

/* -- opening -- */

static bool check_header(const FutPack *pack, const uint8_t *header,
                         const FutStoreIdentity *identity, GError **error)
{
    if (memcmp(header + P_MAGIC, "FUTPACK1", 8) != 0 ||
        fut_get_le64(header + P_CHECKSUM) != XXH3_64bits(header, P_CHECKSUM)) {
        return fail(pack, "its header does not hold", error);
    }
    if (fut_get_le32(header + P_VERSION) != FUT_STORE_VERSION) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "%s/%s has version %u: this Futago knows version %u", pack->fs->path,
                    pack->name, fut_get_le32(header + P_VERSION), FUT_STORE_VERSION);
        return false;
    }
    if (memcmp(header + P_ID, identity->id, sizeof(identity->id)) != 0) {
        return fail(pack, "it is of another store", error);
    }
    if (fut_get_le32(header + P_FIRST) != pack->first ||
        fut_get_le32(header + P_LAST) != pack->last) {
        return fail(pack, "it is not the file of that name", error);
    }
    return true;
}

static bool check_footer(FutPack *pack, const uint8_t *header, const uint8_t *footer,
                         uint64_t *ret_check, GError **error)
{
    uint8_t both[T_CHECKSUM + P_SIZE];

    memcpy(both, footer, T_CHECKSUM);
    memcpy(both + T_CHECKSUM, header, P_SIZE);
    if (memcmp(footer + T_MAGIC, "FUTINDEX", 8) != 0 ||
        fut_get_le64(footer + T_CHECKSUM) != XXH3_64bits(both, sizeof(both))) {
        return fail(pack, "its end is missing or does not hold", error);
    }
    uint64_t count = fut_get_le64(footer + T_ENTRIES);
    pack->entries_at = fut_get_le64(footer + T_ENTRIES_AT);
    pack->hash_count = fut_get_le64(footer + T_HASHES);
    pack->hashes_check = fut_get_le64(footer + T_HASHES_CHECK);
    *ret_check = fut_get_le64(footer + T_ENTRIES_CHECK);
    if (count > FUT_PACK_FRAMES_MAX || pack->hash_count > count * FUT_GROUP_RECORDS ||
        pack->entries_at < P_SIZE || pack->entries_at > pack->length ||
        fut_get_le64(footer + T_LENGTH) != pack->length ||
        pack->length - pack->entries_at !=
            count * E_SIZE + pack->hash_count * FUT_HASH_SIZE + T_SIZE) {
        return fail(pack, "its sizes contradict each other", error);
    }
    pack->count = count;
    return true;
}

static bool comes_after(const FutPackEntry *entry, const FutPackEntry *before)
{
    return entry->pack > before->pack ||
           (entry->pack == before->pack && entry->group > before->group);
}

/* True if the entry can be one: in order, inside the file, of a possible size. */
static bool take_entry(FutPack *pack, size_t at, const uint8_t *bytes, uint64_t *hash)
{
    FutPackEntry *entry = &pack->entries[at];

    *entry = (FutPackEntry){
        .offset = fut_get_le64(bytes + E_OFFSET),
        .first_hash = fut_get_le64(bytes + E_FIRST),
        .pack = fut_get_le32(bytes + E_PACK),
        .group = fut_get_le32(bytes + E_GROUP),
        .stored = fut_get_le32(bytes + E_STORED),
        .mask = fut_get_le16(bytes + E_MASK),
        .method = fut_get_le16(bytes + E_METHOD),
    };
    bool good = entry->first_hash == *hash && entry->pack >= pack->first &&
                entry->pack <= pack->last && entry->group <= UINT32_MAX >> FUT_GROUP_SHIFT &&
                entry->mask != 0 && entry->stored > 0 && entry->stored <= FUT_GROUP_BYTES &&
                entry->offset >= P_SIZE && entry->offset < pack->entries_at &&
                pack->entries_at - entry->offset >= F_SIZE + entry->stored &&
                (at == 0 || comes_after(entry, entry - 1));
    *hash += fut_mask_count(entry->mask);
    return good;
}

static bool read_entries(FutPack *pack, uint64_t check, GError **error)
{
    size_t length = pack->count * E_SIZE;
    g_autofree uint8_t *bytes = g_malloc(length + 1);
    uint64_t hashes = 0;

    int code = pack->fs->ops->read(pack->fs, pack->file, bytes, length, pack->entries_at);
    if (code) {
        return fut_store_fs_fail(pack->fs, "read", pack->name, code, error);
    }
    if (XXH3_64bits(bytes, length) != check) {
        return fail(pack, "its index does not hold", error);
    }
    pack->entries = g_new(FutPackEntry, pack->count);
    for (size_t i = 0; i < pack->count; i++) {
        if (!take_entry(pack, i, bytes + i * E_SIZE, &hashes)) {
            return fail(pack, "its index contradicts itself", error);
        }
    }
    return hashes == pack->hash_count || fail(pack, "its index contradicts itself", error);
}

static bool load(FutPack *pack, const FutStoreIdentity *identity, GError **error)
{
    const FutStoreFsOps *ops = pack->fs->ops;
    uint8_t header[P_SIZE], footer[T_SIZE];
    uint64_t check;

    int code = ops->size(pack->fs, pack->file, &pack->length);
    if (code == 0 && pack->length < P_SIZE + T_SIZE) {
        code = ENODATA;
    }
    code = code ? code : ops->read(pack->fs, pack->file, header, P_SIZE, 0);
    code = code ? code : ops->read(pack->fs, pack->file, footer, T_SIZE, pack->length - T_SIZE);
    if (code) {
        return fut_store_fs_fail(pack->fs, "read", pack->name, code, error);
    }
    return check_header(pack, header, identity, error) &&
           check_footer(pack, header, footer, &check, error) && read_entries(pack, check, error);
}

static void clear_pack(gpointer opaque)
{
    FutPack *pack = opaque;

    if (pack->file >= 0) {
        pack->fs->ops->close(pack->fs, pack->file);
    }
    g_free(pack->entries);
    g_free(pack->looked_at);
    g_free(pack->name);
}

FutPack *fut_pack_open(FutStoreFs *fs, const char *name, const FutStoreIdentity *identity,
                       GError **error)
{
    g_autoptr(FutPack) pack = g_atomic_rc_box_new0(FutPack);

    pack->fs = fs;
    pack->name = g_strdup(name);
    pack->file = -1;
    if (!fut_pack_parse_name(name, &pack->first, &pack->last)) {
        fail(pack, "it is not the file of that name", error);
        return NULL;
    }
    int code = fs->ops->open(fs, name, &pack->file);
    if (code) {
        pack->file = -1;
        fut_store_fs_fail(fs, "open", name, code, error);
        return NULL;
    }
    return load(pack, identity, error) ? g_steal_pointer(&pack) : NULL;
}

FutPack *fut_pack_ref(FutPack *pack)
{
    return g_atomic_rc_box_acquire(pack);
}

void fut_pack_unref(FutPack *pack)
{
    g_atomic_rc_box_release_full(pack, clear_pack);
}

/* -- reading -- */

bool fut_pack_find(const FutPack *pack, uint64_t place, size_t *ret_entry)
{
    uint64_t group = (fut_place_number(place) >> FUT_GROUP_SHIFT);
    uint64_t wanted = (uint64_t)fut_place_pack(place) << 32 | group;
    size_t low = 0, high = pack->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const FutPackEntry *entry = &pack->entries[middle];
        uint64_t is = (uint64_t)entry->pack << 32 | entry->group;
        if (is == wanted) {
            *ret_entry = middle;
            return entry->mask >> (fut_place_number(place) % FUT_GROUP_RECORDS) & 1;
        }
        low = is < wanted ? middle + 1 : low;
        high = is < wanted ? high : middle;
    }
    return false;
}

static bool fail_frame(const FutPack *pack, const FutPackEntry *entry, const char *what,
                       GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                "%s/%s is damaged: the frame at %" G_GUINT64_FORMAT " %s", pack->fs->path,
                pack->name, entry->offset, what);
    return false;
}

uint64_t fut_frame_check(const uint8_t *stored, uint32_t length)
{
    return XXH3_64bits_withSeed(stored + F_SIZE, length, XXH3_64bits(stored, F_CHECKSUM));
}

bool fut_pack_read_stored(const FutPack *pack, size_t at, uint8_t stored[F_SIZE + FUT_GROUP_BYTES],
                          GError **error)
{
    const FutPackEntry *entry = &pack->entries[at];

    int code =
        pack->fs->ops->read(pack->fs, pack->file, stored, F_SIZE + entry->stored, entry->offset);
    if (code) {
        return fut_store_fs_fail(pack->fs, "read", pack->name, code, error);
    }
    if (fut_get_le32(stored + F_MAGIC) != FUT_FRAME_MAGIC ||
        fut_get_le64(stored + F_CHECKSUM) != fut_frame_check(stored, entry->stored)) {
        return fail_frame(pack, entry, "does not hold", error);
    }
    if (fut_get_le32(stored + F_PACK) != entry->pack ||
        fut_get_le32(stored + F_GROUP) != entry->group ||
        fut_get_le16(stored + F_MASK) != entry->mask ||
        fut_get_le16(stored + F_METHOD) != entry->method ||
        fut_get_le32(stored + F_STORED) != entry->stored) {
        return fail_frame(pack, entry, "is another than the index says", error);
    }
    return true;
}

bool fut_pack_frame_holds(FutPack *pack, size_t at)
{
    enum {
        UNKNOWN,
        HOLDS,
        DAMAGED
    };
    uint8_t stored[F_SIZE + FUT_GROUP_BYTES];

    if (!pack->looked_at) {
        pack->looked_at = g_new0(uint8_t, pack->count);
    }
    if (pack->looked_at[at] == UNKNOWN) {
        pack->looked_at[at] = fut_pack_read_stored(pack, at, stored, NULL) ? HOLDS : DAMAGED;
    }
    return pack->looked_at[at] == HOLDS;
}

bool fut_pack_read_frame(const FutPack *pack, size_t at, ZSTD_DCtx *unpacker,
                         uint8_t records[FUT_GROUP_BYTES], GError **error)
{
    const FutPackEntry *entry = &pack->entries[at];
    uint8_t stored[F_SIZE + FUT_GROUP_BYTES];
    size_t length = fut_mask_count(entry->mask) * FUT_RECORD_SIZE;

    if (!fut_pack_read_stored(pack, at, stored, error)) {
        return false;
    }
    if (entry->method == FUT_FRAME_RAW && entry->stored == length) {
        memcpy(records, stored + F_SIZE, length);
        return true;
    }
    if (entry->method != FUT_FRAME_ZSTD ||
        ZSTD_decompressDCtx(unpacker, records, length, stored + F_SIZE, entry->stored) != length) {
        return fail_frame(pack, entry, "cannot be unpacked", error);
    }
    return true;
}

bool fut_pack_read_hashes(const FutPack *pack, uint64_t first, size_t count, uint8_t *hashes,
                          GError **error)
{
    g_assert(first <= pack->hash_count && count <= pack->hash_count - first);
    uint64_t at = pack->entries_at + pack->count * E_SIZE + first * FUT_HASH_SIZE;
    int code = pack->fs->ops->read(pack->fs, pack->file, hashes, count * FUT_HASH_SIZE, at);
    return code == 0 || fut_store_fs_fail(pack->fs, "read", pack->name, code, error);
}

#define CHECKED_AT_ONCE 1024

bool fut_pack_check_hashes(const FutPack *pack, GError **error)
{
    g_autofree uint8_t *hashes = g_malloc(CHECKED_AT_ONCE * FUT_HASH_SIZE);
    XXH3_state_t *state = XXH3_createState();
    bool good = true;

    XXH3_64bits_reset(state);
    for (uint64_t at = 0; at < pack->hash_count && good; at += CHECKED_AT_ONCE) {
        size_t count = MIN(CHECKED_AT_ONCE, pack->hash_count - at);
        good = fut_pack_read_hashes(pack, at, count, hashes, error);
        XXH3_64bits_update(state, hashes, count * FUT_HASH_SIZE);
    }
    uint64_t is = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return good && (is == pack->hashes_check || fail(pack, "its hashes do not hold", error));
}
