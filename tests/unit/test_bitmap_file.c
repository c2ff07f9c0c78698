/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bitmap's file: fixed bytes, and what of it is believed when. */
#include "expect.h"
#include "reloc_sim.h"

#define SIZE (200ull << 20) /* two pages of bits */

static const uint8_t boot[2][FUT_BOOT_ID_SIZE] = { { 1 }, { 2 } };

static FutBitmapIdentity identity(void)
{
    FutBitmapIdentity is = { .size = SIZE, .cache_id = { 1, 4711 } };
    g_strlcpy(is.source, "nbd://there/disk", sizeof(is.source));
    return is;
}

/* A bitmap with a durable page 0 that says `first` and page 1 that says `second`. */
static void make(SimIo *sim, FutBitmapFile *file, uint64_t first, uint64_t second)
{
    uint64_t words[FUT_IMAGE_PAGE_WORDS] = { 0 };
    FutBitmapIdentity is = identity();

    sim_init_sizes(sim, SIZE, 4096);
    g_assert_true(fut_bitmap_file_create(file, &sim->io, &is, NULL));
    words[0] = GUINT64_TO_LE(first);
    g_assert_cmpint(fut_bitmap_file_page_write(file, 0, words), ==, 0);
    words[0] = GUINT64_TO_LE(second);
    g_assert_cmpint(fut_bitmap_file_page_write(file, 1, words), ==, 0);
    g_assert_cmpint(sim_sync(&sim->io, FUT_RELOC_BITMAP), ==, 0);
    fut_bitmap_file_page_durable(file, 0);
    fut_bitmap_file_page_durable(file, 1);
}

/* First words of pages 0 and 1 as a new process finds them. */
static bool found(SimIo *sim, const uint8_t *boot_id, uint64_t *ret_first, uint64_t *ret_second,
                  GError **error)
{
    FutBitmapFile file;
    FutBlockMap map;
    bool live;

    fut_block_map_init(&map, SIZE);
    bool good = fut_bitmap_file_open(&file, &sim->io, &map, boot_id, &live, error);
    *ret_first = map.image[0];
    *ret_second = map.image[FUT_IMAGE_PAGE_WORDS];
    if (good) {
        fut_bitmap_file_done(&file);
    }
    fut_block_map_done(&map);
    return good;
}

static void check(SimIo *sim, const uint8_t *boot_id, uint64_t first, uint64_t second)
{
    GError *error = NULL;
    uint64_t is_first, is_second;

    g_assert_true(found(sim, boot_id, &is_first, &is_second, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(is_first, ==, first);
    g_assert_cmpuint(is_second, ==, second);
}

static void test_golden(void)
{
    SimIo sim;
    FutBitmapFile file;

    make(&sim, &file, 0x0102030405060708, 0);
    const uint8_t *at = sim.now[FUT_RELOC_BITMAP];
    static const uint8_t head[] = { 'F', 'U', 'T', 'R', 'E',  'L',  'O', 'C', 1, 0, 0, 0, 12, 0,
                                    0,   0,   0,   0,   0x80, 0x0c, 0,   0,   0, 0, 1, 0, 0,  0,
                                    0,   0,   0,   0,   0x67, 0x12, 0,   0,   0, 0, 0, 0, 0,  0,
                                    0,   0,   0,   0,   0,    0,    1,   0,   0, 0, 0, 0, 0,  0 };
    g_assert_cmpmem(at + 4096, sizeof(head), head, sizeof(head)); /* the first goes to slot 1 */
    g_assert_cmpstr((const char *)at + 4096 + 64, ==, "nbd://there/disk");
    static const uint8_t sum[] = { 0x61, 0xac, 0xdb, 0x12, 0x1b, 0x4b, 0xb4, 0x6d };
    g_assert_cmpmem(at + 8192 - 8, 8, sum, 8);
    static const uint8_t page[] = { 1, 0, 0, 0, 0, 0, 0, 0 };
    g_assert_cmpuint(fut_bitmap_file_length(SIZE), ==, sim.size[FUT_RELOC_BITMAP]);
    g_assert_cmpmem(at + file.pages_at + 4096, 8, page, 8);
    static const uint8_t words[] = { 8, 7, 6, 5, 4, 3, 2, 1 };
    g_assert_cmpmem(at + file.pages_at + 4096 + 16, 8, words, 8);
    fut_bitmap_file_done(&file);
    sim_done(&sim);
}

/* A page that was torn by a power cut, at any sector, leaves the one before. */
static void test_torn_page(void)
{
    uint64_t words[FUT_IMAGE_PAGE_WORDS];

    for (unsigned sectors = 0; sectors < 256; sectors++) {
        SimIo sim;
        FutBitmapFile file;
        make(&sim, &file, 3, 5);
        memset(words, 0xff, sizeof(words));
        g_assert_cmpint(fut_bitmap_file_page_write(&file, 0, words), ==, 0);
        uint8_t *durable = sim.durable[FUT_RELOC_BITMAP] + file.pages_at;
        const uint8_t *now = sim.now[FUT_RELOC_BITMAP] + file.pages_at;
        for (unsigned i = 0; i < 8; i++) {
            memcpy(durable + i * 512, now + i * 512, sectors >> i & 1 ? 512 : 0);
        }
        memcpy(sim.now[FUT_RELOC_BITMAP], sim.durable[FUT_RELOC_BITMAP],
               sim.size[FUT_RELOC_BITMAP]);
        check(&sim, boot[0], sectors == 255 ? UINT64_MAX : 3, 5);
        fut_bitmap_file_done(&file);
        sim_done(&sim);
    }
}

static void test_live_image(void)
{
    SimIo sim;
    FutBitmapFile file;
    FutBlockMap map;
    FutImageChange change;

    make(&sim, &file, 3, 0);
    fut_block_map_init(&map, SIZE);
    g_assert_cmpint(fut_bitmap_file_live_start(&file, &map, boot[0]), ==, 0);
    fut_block_map_plan_valid(&map, 60, 70, &change);
    g_assert_cmpint(fut_bitmap_file_live_write(&file, &change), ==, 0);
    check(&sim, boot[0], 0xfull << 60, 0);
    check(&sim, boot[1], 3, 0); /* another boot: worth nothing */
    g_assert_cmpint(fut_bitmap_file_live_stop(&file), ==, 0);
    check(&sim, boot[0], 3, 0);
    fut_block_map_done(&map);
    fut_bitmap_file_done(&file);
    sim_done(&sim);
}

static void test_refused(void)
{
    SimIo sim;
    FutBitmapFile file;
    FutBitmapIdentity is;
    bool complete;
    GError *error = NULL;
    uint64_t first, second;

    make(&sim, &file, 3, 5);
    uint8_t *at = sim.now[FUT_RELOC_BITMAP];
    at[file.pages_at + 4096 + 100] ^=
        1; /* the only slot that holds page 0; the other one was never written: as after a torn first write */
    g_assert_true(found(&sim, boot[0], &first, &second, &error));
    g_assert_cmpuint(first, ==, 0);
    at[file.pages_at + 100] ^= 1; /* now neither does */
    g_assert_false(found(&sim, boot[0], &first, &second, &error));
    expect_error(error, FUT_ERR_IO,
                 "page 0 of the bitmap is damaged: which blocks are here cannot be told");
    at[4096 + 70] ^= 1;
    g_assert_false(fut_bitmap_file_look(&sim.io, &is, &complete, &error));
    expect_error(error, FUT_ERR_IO, "not a bitmap of Futago, or a damaged one");
    memset(at, 0, 8192);
    g_assert_false(fut_bitmap_file_look(&sim.io, &is, &complete, &error));
    g_assert_no_error(error); /* its making was cut short */
    fut_bitmap_file_done(&file);
    sim_done(&sim);
}

static void test_header(void)
{
    SimIo sim;
    FutBitmapFile file;
    FutBitmapIdentity is;
    bool complete;

    make(&sim, &file, 0, 0);
    file.complete = true;
    g_assert_cmpint(fut_bitmap_file_header_write(&file), ==, 0);
    g_assert_true(fut_bitmap_file_look(&sim.io, &is, &complete, NULL));
    g_assert_true(complete);
    sim.now[FUT_RELOC_BITMAP][100] ^= 1; /* slot 0: torn, the one before counts */
    g_assert_true(fut_bitmap_file_look(&sim.io, &is, &complete, NULL));
    g_assert_false(complete);
    g_assert_cmpuint(is.size, ==, SIZE);
    g_assert_cmpuint(is.cache_id[1], ==, 4711);
    fut_bitmap_file_done(&file);
    sim_done(&sim);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bitmap-file/golden", test_golden);
    g_test_add_func("/bitmap-file/torn-page", test_torn_page);
    g_test_add_func("/bitmap-file/live-image", test_live_image);
    g_test_add_func("/bitmap-file/refused", test_refused);
    g_test_add_func("/bitmap-file/header", test_header);
    return g_test_run();
}
