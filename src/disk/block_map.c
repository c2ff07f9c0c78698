/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block_map.h"

#include <string.h>

#include "fut_error.h"

#define SLOT(block, sectors) ((block) << 8 | (sectors))
#define SLOT_BLOCK(slot) ((slot) >> 8)
#define SLOT_SECTORS(slot) ((unsigned)((slot)&0xff))
/* The hash holds slot + 1, because 0 means that there is none. */
#define KEY(block) GSIZE_TO_POINTER(block)

void fut_block_map_init(FutBlockMap *map, uint64_t size)
{
    g_assert(size > 0);
    memset(map, 0, sizeof(*map));
    map->size = size;
    map->blocks = fut_block_end(0, size);
    map->bit_words = (map->blocks + 63) / 64;
    map->image_words = map->bit_words + FUT_PARTIAL_SLOTS;
    map->image_pages = (map->image_words + FUT_IMAGE_PAGE_WORDS - 1) / FUT_IMAGE_PAGE_WORDS;
    map->image = g_new0(uint64_t, map->image_words);
    map->claimed = g_new0(uint64_t, map->bit_words);
    map->dirty = g_new0(uint8_t, map->image_pages);
    map->slot_of = g_hash_table_new(NULL, NULL);
    map->free_slots = g_array_new(FALSE, FALSE, sizeof(unsigned));
    map->retired_slots = g_array_new(FALSE, FALSE, sizeof(unsigned));
    for (unsigned slot = 0; slot < FUT_PARTIAL_SLOTS; slot++) {
        g_array_append_val(map->free_slots, slot);
    }
}

void fut_block_map_done(FutBlockMap *map)
{
    g_free(map->image);
    g_free(map->claimed);
    g_free(map->dirty);
    g_hash_table_destroy(map->slot_of);
    g_array_free(map->free_slots, TRUE);
    g_array_free(map->retired_slots, TRUE);
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Bits of [first, end) that lie in word number `word`. */
static uint64_t mask_of(uint64_t first, uint64_t end, uint64_t word)
{
    uint64_t from = MAX(first, word * 64) - word * 64;
    uint64_t to = MIN(end, (word + 1) * 64) - word * 64;

    return to - from == 64 ? UINT64_MAX : ((1ull << (to - from)) - 1) << from;
}

static bool bit(const uint64_t *words, uint64_t block)
{
    return load(&words[block / 64]) >> (block % 64) & 1;
}

bool fut_block_map_valid(const FutBlockMap *map, uint64_t first, uint64_t end)
{
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        uint64_t mask = mask_of(first, end, word);
        if ((load(&map->image[word]) & mask) != mask) {
            return false;
        }
    }
    return true;
}

bool fut_block_map_claimed(const FutBlockMap *map, uint64_t block)
{
    return bit(map->claimed, block);
}

uint32_t fut_block_map_length(const FutBlockMap *map, uint64_t block)
{
    return (uint32_t)MIN(FUT_BLOCK_SIZE, map->size - (block << FUT_BLOCK_SHIFT));
}

/* Sectors of a block that lie beyond the disk's end. */
static unsigned beyond_end(const FutBlockMap *map, uint64_t block)
{
    uint32_t sectors = (fut_block_map_length(map, block) + FUT_SECTOR_SIZE - 1) >> FUT_SECTOR_SHIFT;

    return FUT_SECTORS_ALL & ~((1u << sectors) - 1);
}

static unsigned slot_of(const FutBlockMap *map, uint64_t block)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(map->slot_of, KEY(block)));
}

unsigned fut_block_map_partial(const FutBlockMap *map, uint64_t block)
{
    unsigned slot = slot_of(map, block);
    return slot ? SLOT_SECTORS(map->image[map->bit_words + slot - 1]) : 0;
}

unsigned fut_block_map_sectors(const FutBlockMap *map, uint64_t block)
{
    return bit(map->image, block) ? FUT_SECTORS_ALL
                                  : fut_block_map_partial(map, block) | beyond_end(map, block);
}

/* First bit in [from, end) that is 1 in the words that look() makes; `end` if there is none. */
#define FIND(from, end, look)                                                                      \
    for (uint64_t word = (from) / 64; word * 64 < (end); word++) {                                 \
        uint64_t found = (look)&mask_of((from), (end), word);                                      \
        if (found) {                                                                               \
            return word * 64 + (uint64_t)__builtin_ctzll(found);                                   \
        }                                                                                          \
    }                                                                                              \
    return (end)

uint64_t fut_block_map_next_absent(const FutBlockMap *map, uint64_t from, uint64_t end)
{
    FIND(from, end, ~(load(&map->image[word]) | map->claimed[word]));
}

uint64_t fut_block_map_next(const FutBlockMap *map, uint64_t from, uint64_t end, bool valid)
{
    FIND(from, end, valid ? load(&map->image[word]) : ~load(&map->image[word]));
}

void fut_block_map_plan_valid(const FutBlockMap *map, uint64_t first, uint64_t end,
                              FutImageChange *ret)
{
    uint64_t word = first / 64;

    g_assert(first < end && end <= map->blocks);
    ret->first_word = word;
    ret->count = 0;
    for (; word * 64 < end && ret->count < FUT_IMAGE_CHANGE_WORDS; word++) {
        ret->words[ret->count++] = map->image[word] | mask_of(first, end, word);
    }
    ret->end_block = MIN(end, word * 64);
}

bool fut_block_map_plan_partial(const FutBlockMap *map, uint64_t block, unsigned sectors,
                                FutImageChange *ret)
{
    unsigned all = fut_block_map_sectors(map, block) | sectors;
    unsigned slot = slot_of(map, block);

    if (all == FUT_SECTORS_ALL) {
        fut_block_map_plan_valid(map, block, block + 1, ret);
        return true;
    }
    if (!slot && map->free_slots->len == 0) {
        return false;
    }
    if (!slot) {
        slot = g_array_index(map->free_slots, unsigned, map->free_slots->len - 1) + 1;
    }
    ret->first_word = map->bit_words + slot - 1;
    ret->count = 1;
    ret->words[0] = SLOT(block, all & ~beyond_end(map, block));
    ret->end_block = block + 1;
    return true;
}

/* The slots of blocks that have become valid wait until the file knows. */
static void retire(FutBlockMap *map, uint64_t word, uint64_t fresh)
{
    if (g_hash_table_size(map->slot_of) == 0) {
        return;
    }
    for (; fresh; fresh &= fresh - 1) {
        uint64_t block = word * 64 + (uint64_t)__builtin_ctzll(fresh);
        unsigned slot = slot_of(map, block);
        if (slot) {
            slot--;
            g_array_append_val(map->retired_slots, slot);
            g_hash_table_remove(map->slot_of, KEY(block));
        }
    }
}

static void apply_slot(FutBlockMap *map, uint64_t word, uint64_t value)
{
    unsigned slot = (unsigned)(word - map->bit_words);
    uint64_t block = SLOT_BLOCK(value);

    if (!slot_of(map, block)) {
        g_assert(g_array_index(map->free_slots, unsigned, map->free_slots->len - 1) == slot);
        g_array_set_size(map->free_slots, map->free_slots->len - 1);
        g_hash_table_insert(map->slot_of, KEY(block), GUINT_TO_POINTER(slot + 1));
    }
    map->image[word] = value;
}

void fut_block_map_apply(FutBlockMap *map, const FutImageChange *change)
{
    for (unsigned i = 0; i < change->count; i++) {
        uint64_t word = change->first_word + i;
        fut_block_map_set_dirty(map, word / FUT_IMAGE_PAGE_WORDS);
        if (word >= map->bit_words) {
            apply_slot(map, word, change->words[i]);
            continue;
        }
        uint64_t fresh = change->words[i] & ~map->image[word];
        __atomic_store_n(&map->image[word], change->words[i], __ATOMIC_RELEASE);
        __atomic_fetch_add(&map->valid_blocks, (uint64_t)__builtin_popcountll(fresh),
                           __ATOMIC_RELAXED);
        retire(map, word, fresh);
    }
}

void fut_block_map_claim(FutBlockMap *map, uint64_t first, uint64_t end)
{
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        map->claimed[word] |= mask_of(first, end, word);
    }
}

void fut_block_map_unclaim(FutBlockMap *map, uint64_t first, uint64_t end)
{
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        map->claimed[word] &= ~mask_of(first, end, word);
    }
}

void fut_block_map_free_retired(FutBlockMap *map, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = g_array_index(map->retired_slots, unsigned, i);
        uint64_t word = map->bit_words + slot;
        map->image[word] = 0;
        fut_block_map_set_dirty(map, word / FUT_IMAGE_PAGE_WORDS);
        g_array_append_val(map->free_slots, slot);
    }
    g_array_remove_range(map->retired_slots, 0, count);
}

void fut_block_map_page(const FutBlockMap *map, uint64_t page,
                        uint64_t ret_words[FUT_IMAGE_PAGE_WORDS])
{
    for (unsigned i = 0; i < FUT_IMAGE_PAGE_WORDS; i++) {
        uint64_t word = page * FUT_IMAGE_PAGE_WORDS + i;
        ret_words[i] = word < map->image_words ? GUINT64_TO_LE(map->image[word]) : 0;
    }
}

void fut_block_map_set_dirty(FutBlockMap *map, uint64_t page)
{
    map->dirty_pages += !map->dirty[page];
    map->dirty[page] = 1;
}

void fut_block_map_set_clean(FutBlockMap *map, uint64_t page)
{
    map->dirty_pages -= map->dirty[page];
    map->dirty[page] = 0;
}

/* One slot of a file: empty, of a block that is valid by now (then it is empty, too), or of one that is partly here. */
static bool adopt_slot(FutBlockMap *map, unsigned slot)
{
    uint64_t value = map->image[map->bit_words + slot];
    uint64_t block = SLOT_BLOCK(value);

    if (value == 0) {
        g_array_append_val(map->free_slots, slot);
        return true;
    }
    if (block >= map->blocks || SLOT_SECTORS(value) == 0) {
        return false;
    }
    if (bit(map->image, block)) {
        g_array_append_val(map->retired_slots, slot);
        return true;
    }
    return g_hash_table_insert(map->slot_of, KEY(block), GUINT_TO_POINTER(slot + 1));
}

bool fut_block_map_adopt(FutBlockMap *map, GError **error)
{
    bool good = map->blocks % 64 == 0 || (map->image[map->bit_words - 1] &
                                          ~mask_of(0, map->blocks, map->bit_words - 1)) == 0;

    map->valid_blocks = 0;
    for (uint64_t word = 0; word < map->bit_words; word++) {
        map->valid_blocks += (uint64_t)__builtin_popcountll(map->image[word]);
    }
    g_array_set_size(map->free_slots, 0);
    for (unsigned slot = 0; slot < FUT_PARTIAL_SLOTS; slot++) {
        good = good && adopt_slot(map, slot);
    }
    if (!good) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO,
                            "the bitmap contradicts itself: it was changed by something else");
    }
    return good;
}
