/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Golden bytes of the messages about disks, and what their decoders refuse. As in test_wire.c: a
 * change here needs a new protocol version. */
#include "wire_disk.h"

#include "fut_error.h"
#include "wire.h"

/* clang-format off */
static const uint8_t golden_write[] = {
    9, 0, 0, 0, 0, 0, 0, 0,       /* epoch */
    0, 0x10, 0, 0, 1, 0, 0, 0,    /* offset */
    3, 0, 0, 0, 0, 0, 0, 0,       /* length */
    2, 0, 0, 0,  1, 0, 0, 0,      /* disk, kind */
    0, 0, 0, 0, 0, 0, 0, 0,       /* reserved */
    'a', 'b', 'c',
};

static const uint8_t golden_base[] = {
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    1, 0, 0, 0, 0, 0, 0, 0,
    3, 1, 0, 0, 0, 0, 0, 0,
};

static const uint8_t golden_kept[] = {
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    4, 1, 0, 0, 0, 0, 0, 0,
    1, 0, 0, 0, 0, 0, 0, 0,
};
/* clang-format on */

static void test_write(void)
{
    FutDiskHead head = {
        .epoch = 9, .offset = 0x100001000, .length = 3, .disk = 2, .kind = FUT_DISK_WRITE
    };
    FutDiskHead back;
    uint8_t at[FUT_DISK_HEAD_SIZE];

    fut_disk_head_encode(at, &head);
    g_assert_cmpmem(at, sizeof(at), golden_write, FUT_DISK_HEAD_SIZE);
    g_assert_true(fut_disk_head_decode(golden_write, sizeof(golden_write), &back, NULL));
    g_assert_cmpmem(&back, sizeof(back), &head, sizeof(head));
    g_assert_cmpuint(fut_wire_cap(FUT_MSG_DISK), ==, FUT_DISK_HEAD_SIZE + FUT_WIRE_DISK_MAX);
}

/* The golden write with one byte changed and its data cut to `data` bytes. */
static void check_refused(size_t at, uint8_t value, size_t data, const char *word)
{
    uint8_t body[sizeof(golden_write)];
    FutDiskHead untouched = { .epoch = 77 };
    g_autoptr(GError) error = NULL;

    memcpy(body, golden_write, sizeof(body));
    body[at] = value;
    g_assert_false(fut_disk_head_decode(body, FUT_DISK_HEAD_SIZE + data, &untouched, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
    g_assert_nonnull(strstr(error->message, word));
    g_assert_cmpuint(untouched.epoch, ==, 77);
}

static void test_refused(void)
{
    g_autoptr(GError) error = NULL;
    FutDiskHead head;

    check_refused(0, 9, 2, "length");
    check_refused(16, 4, 3, "length");
    check_refused(16, 0, 0, "empty");
    check_refused(28, 0, 3, "kind");
    check_refused(28, 7, 3, "kind");
    check_refused(28, FUT_DISK_MARK, 0, "mark");
    check_refused(28, FUT_DISK_ZEROES, 3, "data");
    check_refused(28, FUT_DISK_FLUSH, 0, "range");
    check_refused(28, FUT_DISK_STORED, 0, "stored");
    check_refused(15, 0x80, 3, "beyond");
    check_refused(23, 0x80, 3, "beyond");
    check_refused(39, 1, 3, "reserved");
    g_assert_false(fut_disk_head_decode(golden_write, FUT_DISK_HEAD_SIZE - 1, &head, &error));
    g_assert_nonnull(strstr(error->message, "short"));
}

/* No data: any length up to the largest disk. */
static void test_without_data(void)
{
    static const FutDiskHead heads[] = {
        { .epoch = 1, .offset = 512, .length = INT64_MAX - 512, .kind = FUT_DISK_ZEROES },
        { .epoch = 0, .length = FUT_WIRE_DISK_MAX + 1, .disk = 31, .kind = FUT_DISK_DISCARD },
        { .epoch = 5, .disk = 1, .kind = FUT_DISK_FLUSH },
        { .epoch = 5, .kind = FUT_DISK_STORED },
        { .epoch = 5, .offset = 7, .kind = FUT_DISK_MARK },
    };
    uint8_t at[FUT_DISK_HEAD_SIZE];
    FutDiskHead back;

    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) {
        fut_disk_head_encode(at, &heads[i]);
        g_assert_true(fut_disk_head_decode(at, sizeof(at), &back, NULL));
        g_assert_cmpmem(&back, sizeof(back), &heads[i], sizeof(back));
    }
}

static void test_base(void)
{
    FutDiskBase base = { .base = 0x1122334455667788, .next = 1, .mark = 0x103 }, back;
    uint8_t at[FUT_DISK_BASE_SIZE];
    g_autoptr(GError) error = NULL;

    fut_disk_base_encode(at, &base);
    g_assert_cmpmem(at, sizeof(at), golden_base, sizeof(golden_base));
    g_assert_true(fut_disk_base_decode(at, sizeof(at), &back, NULL));
    g_assert_cmpmem(&back, sizeof(back), &base, sizeof(base));
    g_assert_false(fut_disk_base_decode(at, sizeof(at) - 1, &back, NULL));
    at[8] = 0;
    g_assert_false(fut_disk_base_decode(at, sizeof(at), &back, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
}

static void test_kept(void)
{
    FutDiskKept kept = { .base = 0x1122334455667788, .mark = 0x104, .life = 1 }, back;
    uint8_t at[FUT_DISK_KEPT_SIZE];
    g_autoptr(GError) error = NULL;

    fut_disk_kept_encode(at, &kept);
    g_assert_cmpmem(at, sizeof(at), golden_kept, sizeof(golden_kept));
    g_assert_true(fut_disk_kept_decode(at, sizeof(at), &back, NULL));
    g_assert_cmpuint(back.base, ==, kept.base);
    g_assert_cmpuint(back.mark, ==, kept.mark);
    g_assert_cmpuint(back.life, ==, 1);
    g_assert_false(fut_disk_kept_decode(at, sizeof(at) - 1, &back, NULL));
    at[16] = 0;
    g_assert_false(fut_disk_kept_decode(at, sizeof(at), &back, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire-disk/write", test_write);
    g_test_add_func("/wire-disk/refused", test_refused);
    g_test_add_func("/wire-disk/without-data", test_without_data);
    g_test_add_func("/wire-disk/base", test_base);
    g_test_add_func("/wire-disk/kept", test_kept);
    return g_test_run();
}
