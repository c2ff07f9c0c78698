/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bitmap_file.h"

#include <string.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_error.h"

#define LIVE_HEADER_AT (2 * FUT_BITMAP_PAGE)
#define LIVE_AT (3 * FUT_BITMAP_PAGE)
#define MAGIC "FUTRELOC"
#define LIVE_MAGIC "FUTRLIVE"
#define FLAG_COMPLETE 1u
#define LIVE_CHUNK_WORDS FUT_IMAGE_CHANGE_WORDS

/* Offsets in a header. */
enum {
    H_MAGIC = 0,
    H_VERSION = 8,      /* u32 */
    H_BLOCK_SHIFT = 12, /* u32 */
    H_SIZE = 16,        /* u64 */
    H_CACHE_ID = 24,    /* u64 * 2 */
    H_FLAGS = 40,       /* u64 */
    H_SEQUENCE = 48,    /* u64, from 1 */
    H_SOURCE = 64,      /* text, zero-terminated, FUT_BITMAP_URI_MAX bytes */
    H_RESERVED = H_SOURCE + FUT_BITMAP_URI_MAX,
    H_CHECKSUM = FUT_BITMAP_PAGE - 8, /* u64, XXH64 of all before it */
};
/* In a live header. */
enum {
    L_MAGIC = 0,
    L_BOOT_ID = 8,
    L_CHECKSUM = 24,
    L_SIZE = 32
};
/* In a page of the image. The checksum's seed is the page's number. */
enum {
    P_SEQUENCE = 0,
    P_CHECKSUM = 8, /* of sequence and words */
    P_WORDS = 16
};
G_STATIC_ASSERT(P_WORDS + FUT_IMAGE_PAGE_WORDS * 8 == FUT_BITMAP_PAGE);

static uint64_t pages_at(const FutBlockMap *map)
{
    uint64_t bytes = map->image_words * 8;
    return LIVE_AT + (bytes + FUT_BITMAP_PAGE - 1) / FUT_BITMAP_PAGE * FUT_BITMAP_PAGE;
}

uint64_t fut_bitmap_file_length(uint64_t size)
{
    FutBlockMap map;
    fut_block_map_init(&map, size);
    uint64_t length = pages_at(&map) + map.image_pages * 2 * FUT_BITMAP_PAGE;
    fut_block_map_done(&map);
    return length;
}

static bool fail_io(const char *what, int code, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot %s the bitmap: %s", what, g_strerror(code));
    return false;
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* -- header -- */

static void encode_header(const FutBitmapFile *file, uint8_t *at)
{
    memset(at, 0, FUT_BITMAP_PAGE);
    memcpy(at + H_MAGIC, MAGIC, 8);
    fut_put_le32(at + H_VERSION, FUT_BITMAP_VERSION);
    fut_put_le32(at + H_BLOCK_SHIFT, FUT_BLOCK_SHIFT);
    fut_put_le64(at + H_SIZE, file->identity.size);
    fut_put_le64(at + H_CACHE_ID, file->identity.cache_id[0]);
    fut_put_le64(at + H_CACHE_ID + 8, file->identity.cache_id[1]);
    fut_put_le64(at + H_FLAGS, file->complete ? FLAG_COMPLETE : 0);
    fut_put_le64(at + H_SEQUENCE, file->header.sequence + 1);
    g_strlcpy((char *)at + H_SOURCE, file->identity.source, FUT_BITMAP_URI_MAX);
    fut_put_le64(at + H_CHECKSUM, XXH64(at, H_CHECKSUM, 0));
}

int fut_bitmap_file_header_write(FutBitmapFile *file)
{
    uint8_t bytes[FUT_BITMAP_PAGE];
    unsigned slot = !file->header.slot;

    encode_header(file, bytes);
    int error = file->io->ops->write(file->io, FUT_RELOC_BITMAP, bytes, sizeof(bytes),
                                     slot * FUT_BITMAP_PAGE);
    error = error ? error : file->io->ops->sync(file->io, FUT_RELOC_BITMAP);
    if (error == 0) {
        file->header.sequence++;
        file->header.slot = slot;
    }
    return error;
}

static bool header_holds(const uint8_t *at)
{
    return memcmp(at + H_MAGIC, MAGIC, 8) == 0 &&
           fut_get_le64(at + H_CHECKSUM) == XXH64(at, H_CHECKSUM, 0) &&
           fut_get_le64(at + H_SEQUENCE) > 0 && at[H_RESERVED - 1] == 0;
}

/* The newer of the headers that hold; false without error when there is none yet. */
static bool read_header(FutRelocIo *io, uint8_t *ret, FutBitmapSlot *ret_slot, GError **error)
{
    uint8_t both[2 * FUT_BITMAP_PAGE];
    int code = io->ops->read(io, FUT_RELOC_BITMAP, both, sizeof(both), 0);

    if (code) {
        return fail_io("read", code, error);
    }
    ret_slot->sequence = 0;
    for (unsigned slot = 0; slot < 2; slot++) {
        const uint8_t *at = both + slot * FUT_BITMAP_PAGE;
        if (header_holds(at) && fut_get_le64(at + H_SEQUENCE) > ret_slot->sequence) {
            ret_slot->sequence = fut_get_le64(at + H_SEQUENCE);
            ret_slot->slot = slot;
        }
    }
    if (ret_slot->sequence == 0 && !is_zero(both, sizeof(both))) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO,
                            "not a bitmap of Futago, or a damaged one");
    }
    memcpy(ret, both + ret_slot->slot * FUT_BITMAP_PAGE * (ret_slot->sequence > 0),
           FUT_BITMAP_PAGE);
    return ret_slot->sequence > 0;
}

bool fut_bitmap_file_look(FutRelocIo *io, FutBitmapIdentity *ret_identity, bool *ret_complete,
                          GError **error)
{
    uint8_t header[FUT_BITMAP_PAGE];
    FutBitmapSlot slot = { 0 };

    if (!read_header(io, header, &slot, error)) {
        return false;
    }
    uint32_t version = fut_get_le32(header + H_VERSION);
    if (version != FUT_BITMAP_VERSION) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "a bitmap of version %u: this Futago knows version %d", version,
                    FUT_BITMAP_VERSION);
        return false;
    }
    memset(ret_identity, 0, sizeof(*ret_identity));
    ret_identity->size = fut_get_le64(header + H_SIZE);
    ret_identity->cache_id[0] = fut_get_le64(header + H_CACHE_ID);
    ret_identity->cache_id[1] = fut_get_le64(header + H_CACHE_ID + 8);
    memcpy(ret_identity->source, header + H_SOURCE, FUT_BITMAP_URI_MAX);
    *ret_complete = fut_get_le64(header + H_FLAGS) & FLAG_COMPLETE;
    if (fut_get_le32(header + H_BLOCK_SHIFT) != FUT_BLOCK_SHIFT || ret_identity->size == 0 ||
        ret_identity->size > INT64_MAX) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "a bitmap with impossible sizes");
        return false;
    }
    return true;
}

static void set_places(FutBitmapFile *file, FutRelocIo *io, const FutBlockMap *map)
{
    file->io = io;
    file->live_at = LIVE_AT;
    file->pages_at = pages_at(map);
    file->pages = g_new0(FutBitmapSlot, map->image_pages);
}

bool fut_bitmap_file_create(FutBitmapFile *file, FutRelocIo *io, const FutBitmapIdentity *identity,
                            GError **error)
{
    FutBlockMap map;

    memset(file, 0, sizeof(*file));
    file->identity = *identity;
    fut_block_map_init(&map, identity->size);
    set_places(file, io, &map);
    fut_block_map_done(&map);
    int code = fut_bitmap_file_header_write(file);
    return code == 0 || fail_io("write", code, error);
}

void fut_bitmap_file_done(FutBitmapFile *file)
{
    g_free(file->pages);
}

/* -- pages -- */

static uint64_t page_checksum(const uint8_t *at, uint64_t page)
{
    uint8_t bytes[FUT_BITMAP_PAGE];

    memcpy(bytes, at, FUT_BITMAP_PAGE);
    fut_put_le64(bytes + P_CHECKSUM, 0);
    return XXH64(bytes, FUT_BITMAP_PAGE, page);
}

static uint64_t page_offset(const FutBitmapFile *file, uint64_t page, unsigned slot)
{
    return file->pages_at + (2 * page + slot) * FUT_BITMAP_PAGE;
}

int fut_bitmap_file_page_write(FutBitmapFile *file, uint64_t page,
                               const uint64_t words[FUT_IMAGE_PAGE_WORDS])
{
    uint8_t bytes[FUT_BITMAP_PAGE] = { 0 };

    fut_put_le64(bytes + P_SEQUENCE, file->pages[page].sequence + 1);
    memcpy(bytes + P_WORDS, words, FUT_IMAGE_PAGE_WORDS * 8);
    fut_put_le64(bytes + P_CHECKSUM, page_checksum(bytes, page));
    return file->io->ops->write(file->io, FUT_RELOC_BITMAP, bytes, sizeof(bytes),
                                page_offset(file, page, !file->pages[page].slot));
}

void fut_bitmap_file_page_durable(FutBitmapFile *file, uint64_t page)
{
    file->pages[page].sequence++;
    file->pages[page].slot = !file->pages[page].slot;
}

/* Both slots of a page: the newer that holds goes into the image. False: neither does, though something was written. A first write that
 * was torn leaves the other slot empty, as it was before. */
static bool take_page(FutBitmapFile *file, FutBlockMap *map, uint64_t page, const uint8_t *both)
{
    FutBitmapSlot *known = &file->pages[page];
    bool empty = false;

    for (unsigned slot = 0; slot < 2; slot++) {
        const uint8_t *at = both + slot * FUT_BITMAP_PAGE;
        uint64_t sequence = fut_get_le64(at + P_SEQUENCE);
        empty = empty || is_zero(at, FUT_BITMAP_PAGE);
        if (sequence > known->sequence &&
            fut_get_le64(at + P_CHECKSUM) == page_checksum(at, page)) {
            known->sequence = sequence;
            known->slot = slot;
        }
    }
    if (known->sequence == 0) {
        return empty;
    }
    const uint8_t *words = both + known->slot * FUT_BITMAP_PAGE + P_WORDS;
    for (unsigned i = 0; i < FUT_IMAGE_PAGE_WORDS; i++) {
        uint64_t word = page * FUT_IMAGE_PAGE_WORDS + i;
        if (word < map->image_words) {
            map->image[word] = fut_get_le64(words + i * 8);
        }
    }
    return true;
}

/* Pages that do not hold are an error, unless the live image is there to replace them. */
static bool read_pages(FutBitmapFile *file, FutBlockMap *map, bool needed, GError **error)
{
    uint8_t both[2 * FUT_BITMAP_PAGE];

    for (uint64_t page = 0; page < map->image_pages; page++) {
        int code = file->io->ops->read(file->io, FUT_RELOC_BITMAP, both, sizeof(both),
                                       page_offset(file, page, 0));
        if (code) {
            return fail_io("read", code, error);
        }
        if (!take_page(file, map, page, both) && needed) {
            g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                        "page %" G_GUINT64_FORMAT
                        " of the bitmap is damaged: which blocks are here cannot be told",
                        page);
            return false;
        }
    }
    return true;
}

/* -- live image -- */

static int write_live_header(FutBitmapFile *file, const uint8_t *boot_id)
{
    uint8_t bytes[L_SIZE] = { 0 };

    memcpy(bytes + L_MAGIC, LIVE_MAGIC, 8);
    memcpy(bytes + L_BOOT_ID, boot_id, FUT_BOOT_ID_SIZE);
    fut_put_le64(bytes + L_CHECKSUM, XXH64(bytes, L_CHECKSUM, 0));
    return file->io->ops->write(file->io, FUT_RELOC_BITMAP, bytes, sizeof(bytes), LIVE_HEADER_AT);
}

static int write_words(FutBitmapFile *file, uint64_t first, const uint64_t *words, unsigned count)
{
    uint64_t bytes[LIVE_CHUNK_WORDS];

    for (unsigned i = 0; i < count; i++) {
        bytes[i] = GUINT64_TO_LE(words[i]);
    }
    return file->io->ops->write(file->io, FUT_RELOC_BITMAP, bytes, count * 8,
                                file->live_at + first * 8);
}

int fut_bitmap_file_live_start(FutBitmapFile *file, const FutBlockMap *map,
                               const uint8_t boot_id[FUT_BOOT_ID_SIZE])
{
    int error = 0;

    for (uint64_t word = 0; word < map->image_words && error == 0; word += LIVE_CHUNK_WORDS) {
        unsigned count = (unsigned)MIN(LIVE_CHUNK_WORDS, map->image_words - word);
        error = write_words(file, word, map->image + word, count);
    }
    return error ? error : write_live_header(file, boot_id);
}

int fut_bitmap_file_live_stop(FutBitmapFile *file)
{
    static const uint8_t nobody[FUT_BOOT_ID_SIZE];
    int error = write_live_header(file, nobody);

    return error ? error : file->io->ops->sync(file->io, FUT_RELOC_BITMAP);
}

int fut_bitmap_file_live_write(FutBitmapFile *file, const FutImageChange *change)
{
    return write_words(file, change->first_word, change->words, change->count);
}

/* Is there a live image of this boot? 0 or errno. */
static int look_for_live(FutBitmapFile *file, const uint8_t *boot_id, bool *ret_found)
{
    uint8_t bytes[L_SIZE];
    int error =
        file->io->ops->read(file->io, FUT_RELOC_BITMAP, bytes, sizeof(bytes), LIVE_HEADER_AT);

    *ret_found = error == 0 && memcmp(bytes + L_MAGIC, LIVE_MAGIC, 8) == 0 &&
                 memcmp(bytes + L_BOOT_ID, boot_id, FUT_BOOT_ID_SIZE) == 0 &&
                 fut_get_le64(bytes + L_CHECKSUM) == XXH64(bytes, L_CHECKSUM, 0);
    return error;
}

static int read_live(FutBitmapFile *file, FutBlockMap *map)
{
    int error = 0;

    for (uint64_t word = 0; word < map->image_words && error == 0; word += LIVE_CHUNK_WORDS) {
        unsigned count = (unsigned)MIN(LIVE_CHUNK_WORDS, map->image_words - word);
        error = file->io->ops->read(file->io, FUT_RELOC_BITMAP, map->image + word, count * 8,
                                    file->live_at + word * 8);
        for (unsigned i = 0; i < count; i++) {
            map->image[word + i] = GUINT64_FROM_LE(map->image[word + i]);
        }
    }
    for (uint64_t page = 0; page < map->image_pages; page++) {
        fut_block_map_set_dirty(map, page);
    }
    return error;
}

bool fut_bitmap_file_open(FutBitmapFile *file, FutRelocIo *io, FutBlockMap *map,
                          const uint8_t boot_id[FUT_BOOT_ID_SIZE], bool *ret_live, GError **error)
{
    uint8_t header[FUT_BITMAP_PAGE];
    memset(file, 0, sizeof(*file));
    if (!fut_bitmap_file_look(io, &file->identity, &file->complete, error) ||
        !read_header(io, header, &file->header, error)) {
        return false;
    }
    g_assert(file->identity.size == map->size);
    set_places(file, io, map);
    int code = look_for_live(file, boot_id, ret_live);
    if (code == 0 && !read_pages(file, map, !*ret_live, error)) {
        fut_bitmap_file_done(file);
        return false;
    }
    if (code == 0 && *ret_live) {
        code = read_live(file, map);
    }
    if (code) {
        fail_io("read", code, error);
    }
    if (code || !fut_block_map_adopt(map, error)) {
        fut_bitmap_file_done(file);
        return false;
    }
    return true;
}
