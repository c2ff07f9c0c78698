/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of pages that a guest used last, in a snapshot, and read from there. */
#include "hot_pages.h"
#include "pageset.h"
#include "store_fixture.h"

static GArray *decode(const uint64_t *entries, size_t length)
{
    g_autoptr(FutSnapshotInfo) info = image_info(0, 1);

    info->hot = g_bytes_new(entries, length);
    return fut_hot_list_decode(info);
}

/* The host of these tests is little-endian, as all that QEMU's x86 guests run fast on. */
static uint64_t entry(uint64_t block, uint64_t group, uint64_t mask)
{
    return GUINT64_TO_LE(block << 48 | group << 16 | mask);
}

static void expect_group(GArray *list, guint number, unsigned block, uint64_t group, uint16_t mask)
{
    const FutHotGroup *is = &g_array_index(list, FutHotGroup, number);

    g_assert_cmpuint(is->block, ==, block);
    g_assert_cmpuint(is->area, ==, block); /* the fixture's memory comes first */
    g_assert_cmpuint(is->group, ==, group);
    g_assert_cmpuint(is->mask, ==, mask);
}

static void test_round(void)
{
    static const uint64_t keys[] = { 33, 5, 32, 1ull << FUT_KEY_BLOCK_SHIFT, 1299, 5, 47 };
    FutBuf buf = { 0 };

    fut_buf_append(&buf, "x", 1); /* what stands before is left alone */
    fut_hot_list_encode(&buf, keys, G_N_ELEMENTS(keys));
    g_assert_cmpuint(buf.len, ==, 1 + 4 * 8);
    const uint64_t expected[] = { entry(0, 2, 0x8003), entry(0, 0, 0x20), entry(1, 0, 1),
                                  entry(0, 81, 8) };
    g_assert_cmpmem(buf.data + 1, buf.len - 1, expected, sizeof(expected));
    g_autoptr(GArray) list = decode(expected, sizeof(expected));
    g_assert_cmpuint(list->len, ==, 4);
    expect_group(list, 0, 0, 2, 0x8003);
    expect_group(list, 1, 0, 0, 0x20);
    expect_group(list, 2, 1, 0, 1);
    expect_group(list, 3, 0, 81, 8);
    fut_buf_done(&buf);
}

static void test_wrong(void)
{
    const struct {
        uint64_t entries[2];
        size_t length;
    } cases[] = {
        { { 0, 0 }, 0 },                                /* nothing */
        { { entry(0, 0, 1), entry(0, 1, 1) }, 15 },     /* cut off */
        { { entry(0, 0, 1), entry(0, 1, 0) }, 16 },     /* no page */
        { { entry(0, 0, 1), entry(0, 0, 2) }, 16 },     /* twice */
        { { entry(0, 0, 1), entry(2, 0, 1) }, 16 },     /* a disk's number */
        { { entry(0, 0, 1), entry(65535, 0, 1) }, 16 }, /* no block */
        { { entry(0, 0, 1), entry(0, 81, 0x10) }, 16 }, /* page 1300 of 1300 */
        { { entry(0, 0, 1), entry(0, UINT32_MAX, 0xffff) }, 16 },
        { { entry(1, 0, 3), entry(0, 0, 1) }, 16 }, /* a block of one page */
        { { UINT64_MAX, UINT64_MAX }, 16 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GArray) list = decode(cases[i].entries, cases[i].length);
        g_assert_cmpuint(list->len, ==, 0);
    }
}

/* More pages than anybody would write are not read. */
static void test_long(void)
{
    g_autoptr(FutSnapshotInfo) info = fut_snapshot_info_new();
    uint64_t entries[FUT_HOT_TAKEN / FUT_HOT_GROUP + 1];

    fut_snapshot_info_add(info, FUT_AREA_MEMORY, "ram", 1ull << 30);
    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++) {
        entries[i] = entry(0, i, 0xffff);
    }
    info->hot = g_bytes_new(entries, sizeof(entries));
    g_autoptr(GArray) none = fut_hot_list_decode(info);
    g_assert_cmpuint(none->len, ==, 0);
    g_bytes_unref(info->hot);
    info->hot = g_bytes_new(entries, sizeof(entries) - 8);
    g_autoptr(GArray) all = fut_hot_list_decode(info);
    g_assert_cmpuint(all->len, ==, G_N_ELEMENTS(entries) - 1);
}

/* -- through a store -- */

static uint64_t take(FutStore *store, Image *image, const uint64_t *keys, size_t count)
{
    GError *error = NULL;
    g_autoptr(FutSnapshotInfo) info = image_info(0, 1);
    FutSnapshotWriter *writer = fut_store_begin(store, info, 0, 0, &error);
    FutBuf buf = { 0 };

    g_assert_no_error(error);
    uint64_t id = fut_snapshot_writer_id(writer);
    g_assert_true(image_put(writer, image, NULL, &error));
    fut_hot_list_encode(&buf, keys, count);
    fut_snapshot_note_hot(writer, buf.data, buf.len);
    g_assert_true(fut_snapshot_commit(writer, NULL, &error));
    fut_buf_done(&buf);
    return id;
}

static FutHotNext next(FutHotPages *hot, FutHotGroup *ret, uint16_t *ret_zero,
                       const uint8_t **ret_data)
{
    FutHotNext what;

    while ((what = fut_hot_pages_next(hot, ret, ret_zero, ret_data)) == FUT_HOT_NOT_YET) {
        g_usleep(1000);
    }
    return what;
}

static void test_read(void)
{
    static const uint64_t keys[] = { 1299, 16, 18, 17, 1ull << FUT_KEY_BLOCK_SHIFT };
    g_autofree char *folder = fut_test_tmp();
    g_autofree Image *image = g_new0(Image, 1);
    GError *error = NULL;
    FutHotGroup group;
    uint16_t zero;
    const uint8_t *data;

    for (unsigned i = 0; i < RAM_UNITS; i++) {
        image_set(image, RAM, i, i == 17 ? 0 : i + 1);
    }
    FutStore *store = fut_store_open(folder, FUT_STORE_CREATE, &error);
    uint64_t id = take(store, image, keys, G_N_ELEMENTS(keys));
    uint64_t without = take(store, image, NULL, 0);
    FutSnapshot *snapshot = fut_snapshot_open(store, id, &error);
    FutHotPages *hot = fut_hot_pages_new(snapshot);
    fut_snapshot_close(snapshot);
    g_assert_cmpint(next(hot, &group, &zero, &data), ==, FUT_HOT_READY);
    g_assert_cmpuint(group.group, ==, 81);
    g_assert_cmpmem(data, FUT_UNIT_SIZE, image->ram + 1299 * FUT_UNIT_SIZE, FUT_UNIT_SIZE);
    g_assert_cmpint(next(hot, &group, &zero, &data), ==, FUT_HOT_READY);
    g_assert_cmpuint(group.mask, ==, 7);
    g_assert_cmpuint(zero, ==, 2);
    g_assert_cmpmem(data, 3 * FUT_UNIT_SIZE, image->ram + 16 * FUT_UNIT_SIZE, 3 * FUT_UNIT_SIZE);
    g_assert_cmpint(next(hot, &group, &zero, &data), ==, FUT_HOT_READY);
    g_assert_cmpuint(group.block, ==, 1);
    g_assert_cmpint(next(hot, &group, &zero, &data), ==, FUT_HOT_OVER);
    fut_hot_pages_free(hot);
    snapshot = fut_snapshot_open(store, without, &error);
    g_assert_null(fut_hot_pages_new(snapshot));
    fut_snapshot_close(snapshot);
    fut_store_close(store);
    fut_test_tmp_remove(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hot-list/round", test_round);
    g_test_add_func("/hot-list/wrong", test_wrong);
    g_test_add_func("/hot-list/long", test_long);
    g_test_add_func("/hot-list/read", test_read);
    return g_test_run();
}
