/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which blocks of a relocating disk are here. A block is absent, partly here (a small write came before the rest of it) or valid;
 * valid blocks stay valid. A block is claimed while somebody fetches it. Pure: no I/O, no clock. The caller's lock covers all
 * but fut_block_map_valid(), which may be called without.
 *
 * What has to outlive the process is one array of words, the image: first a bit for each block, then a slot for each block that is
 * partly here. The image is cut into pages; a page that differs from the file is dirty. */
#ifndef FUT_BLOCK_MAP_H
#define FUT_BLOCK_MAP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_BLOCK_SHIFT 12
#define FUT_BLOCK_SIZE (1u << FUT_BLOCK_SHIFT)
#define FUT_SECTOR_SHIFT 9
#define FUT_SECTOR_SIZE (1u << FUT_SECTOR_SHIFT)
#define FUT_SECTORS_ALL 0xffu  /* a bit for each sector of a block */
#define FUT_PARTIAL_SLOTS 8192 /* blocks that can be partly here at once */
#define FUT_IMAGE_PAGE_WORDS 510

typedef struct {
    uint64_t size;        /* of the disk, bytes, > 0 */
    uint64_t blocks;      /* the last one may be short */
    uint64_t bit_words;   /* words of the image that hold bits; the slots come after them */
    uint64_t image_words; /* all of it */
    uint64_t image_pages;
    uint64_t *image;
    uint64_t *claimed; /* a bit for each block */
    uint8_t *dirty;    /* a byte for each page */
    uint64_t dirty_pages;
    uint64_t valid_blocks; /* may be read without the lock: a moment's value */
    GHashTable *slot_of;   /* block -> slot + 1, of blocks partly here */
    GArray *free_slots;    /* of unsigned */
    GArray *retired_slots; /* of unsigned: their blocks are valid, the file does not know yet */
} FutBlockMap;

/* Nothing is here. size > 0. */
void fut_block_map_init(FutBlockMap *map, uint64_t size);
void fut_block_map_done(FutBlockMap *map);
/* After the caller has filled the image from a file: takes the slots in. FUT_ERR_IO when they make no sense. */
bool fut_block_map_adopt(FutBlockMap *map, GError **error);

static inline uint64_t fut_block_of(uint64_t offset)
{
    return offset >> FUT_BLOCK_SHIFT;
}

/* First block after [offset, offset + length). */
static inline uint64_t fut_block_end(uint64_t offset, uint64_t length)
{
    return (offset + length + FUT_BLOCK_SIZE - 1) >> FUT_BLOCK_SHIFT;
}

/* All of [first, end) is valid. Needs no lock: a block whose bit is seen has its content in place. */
bool fut_block_map_valid(const FutBlockMap *map, uint64_t first, uint64_t end);
bool fut_block_map_claimed(const FutBlockMap *map, uint64_t block);
/* Bytes of a block: less for the last one. */
uint32_t fut_block_map_length(const FutBlockMap *map, uint64_t block);
/* Sectors that small writes have left in a block that is not valid; 0 for any other block. */
unsigned fut_block_map_partial(const FutBlockMap *map, uint64_t block);
/* Sectors of a block that are here, FUT_SECTORS_ALL for a valid one. Sectors beyond the disk's end count as here. */
unsigned fut_block_map_sectors(const FutBlockMap *map, uint64_t block);
/* First block in [from, end) that is absent or partly here and not claimed; `end` if there is none. */
uint64_t fut_block_map_next_absent(const FutBlockMap *map, uint64_t from, uint64_t end);
/* First block in [from, end) whose validity is `valid`; `end` if there is none. */
uint64_t fut_block_map_next(const FutBlockMap *map, uint64_t from, uint64_t end, bool valid);

/* -- changes of the image in two steps, so that the caller can write it to a file in between -- */
#define FUT_IMAGE_CHANGE_WORDS 512
typedef struct {
    uint64_t first_word;
    unsigned count;
    uint64_t words[FUT_IMAGE_CHANGE_WORDS]; /* what they will be */
    uint64_t end_block;                     /* blocks before this one are covered */
} FutImageChange;

/* What makes [first, end) valid: as many of the blocks as fit. */
void fut_block_map_plan_valid(const FutBlockMap *map, uint64_t first, uint64_t end,
                              FutImageChange *ret);
/* What adds sectors to a block that is not valid. False: no slot is free. If all of it is here then, it becomes a change as above. */
bool fut_block_map_plan_partial(const FutBlockMap *map, uint64_t block, unsigned sectors,
                                FutImageChange *ret);
/* Carries a planned change out; nothing was changed in between. */
void fut_block_map_apply(FutBlockMap *map, const FutImageChange *change);

/* -- claims -- */
void fut_block_map_claim(FutBlockMap *map, uint64_t first, uint64_t end);
void fut_block_map_unclaim(FutBlockMap *map, uint64_t first, uint64_t end);

/* -- pages -- */
/* Slots whose blocks are known to be valid in the file become free: the first `count` of retired_slots. */
void fut_block_map_free_retired(FutBlockMap *map, unsigned count);
/* Words of a page, little-endian; zeroes behind the image's end. */
void fut_block_map_page(const FutBlockMap *map, uint64_t page,
                        uint64_t ret_words[FUT_IMAGE_PAGE_WORDS]);
void fut_block_map_set_dirty(FutBlockMap *map, uint64_t page);
void fut_block_map_set_clean(FutBlockMap *map, uint64_t page);

#endif
