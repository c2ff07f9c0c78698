/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory hash: equal for equal images, different for any difference. */
#include "memhash.h"

#include <glib.h>
#include <string.h>

static uint8_t left[4 * FUT_PAGE_SIZE], right[4 * FUT_PAGE_SIZE];

static FutMemory two_blocks(uint8_t *bytes)
{
    return (FutMemory){ .count = 2,
                        .block = { { bytes, FUT_PAGE_SIZE },
                                   { bytes + FUT_PAGE_SIZE, 3 * FUT_PAGE_SIZE } } };
}

static void test_equal(void)
{
    for (size_t i = 0; i < sizeof(left); i++) {
        left[i] = right[i] = (uint8_t)(i * 31 + i / 256);
    }
    FutMemory a = two_blocks(left), b = two_blocks(right);
    g_assert_cmphex(fut_memory_hash(&a), ==, fut_memory_hash(&b));
}

static void test_every_bit_counts(void)
{
    FutMemory a = two_blocks(left), b = two_blocks(right);
    memcpy(right, left, sizeof(left));
    uint64_t hash = fut_memory_hash(&a);
    for (size_t i = 0; i < sizeof(right); i += 509) {
        right[i] ^= 1;
        g_assert_cmphex(fut_memory_hash(&b), !=, hash);
        right[i] ^= 1;
    }
    g_assert_cmphex(fut_memory_hash(&b), ==, hash);
}

/* The same bytes in blocks of other sizes are another machine. */
static void test_shape_counts(void)
{
    FutMemory two = two_blocks(left);
    FutMemory one = { .count = 1, .block = { { left, sizeof(left) } } };
    FutMemory three = { .count = 3,
                        .block = { { left, FUT_PAGE_SIZE },
                                   { left + FUT_PAGE_SIZE, 3 * FUT_PAGE_SIZE },
                                   { NULL, 0 } } };
    g_assert_cmphex(fut_memory_hash(&two), !=, fut_memory_hash(&one));
    g_assert_cmphex(fut_memory_hash(&two), !=, fut_memory_hash(&three));
}

/* Two versions that meet must agree on it: this value never changes. */
static void test_golden(void)
{
    static uint8_t zero[FUT_PAGE_SIZE];
    FutMemory memory = { .count = 1, .block = { { zero, sizeof(zero) } } };
    g_assert_cmphex(fut_memory_hash(&memory), ==, 0x63bda0cfe544f26eull);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memhash/equal", test_equal);
    g_test_add_func("/memhash/every-bit-counts", test_every_bit_counts);
    g_test_add_func("/memhash/shape-counts", test_shape_counts);
    g_test_add_func("/memhash/golden", test_golden);
    return g_test_run();
}
