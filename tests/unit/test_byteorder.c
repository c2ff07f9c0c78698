/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loads and stores: little-endian bytes at any alignment. */
#include "byteorder.h"

#include <glib.h>

static void test_bytes(void)
{
    uint8_t at[16] = { 0 };
    fut_put_le16(at + 1, 0x0102);
    fut_put_le32(at + 3, 0x03040506);
    fut_put_le64(at + 7, 0x0708090a0b0c0d0eull);
    const uint8_t wanted[16] = { 0, 2, 1, 6, 5, 4, 3, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 9, 8, 7, 0 };
    g_assert_cmpmem(at, sizeof(at), wanted, sizeof(wanted));
}

static void test_back(void)
{
    const uint8_t at[9] = { 0xaa, 0x01, 0x80, 0x02, 0x90, 0x03, 0xa0, 0x04, 0xb0 };
    g_assert_cmphex(fut_get_le16(at + 1), ==, 0x8001);
    g_assert_cmphex(fut_get_le32(at + 1), ==, 0x90028001);
    g_assert_cmphex(fut_get_le64(at + 1), ==, 0xb004a00390028001ull);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/byteorder/bytes", test_bytes);
    g_test_add_func("/byteorder/back", test_back);
    return g_test_run();
}
