/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page sets and keys. */
#include "pageset.h"

#include <glib.h>

static void test_key(void)
{
    uint64_t key = fut_key(255, FUT_KEY_PAGE_MASK);
    g_assert_cmpuint(fut_key_block(key), ==, 255);
    g_assert_cmphex(fut_key_page(key), ==, FUT_KEY_PAGE_MASK);
    g_assert_cmphex(fut_key(3, 0x1234), ==, 0x30000001234ull);
    g_assert_cmpuint(fut_key(1, 0), >, fut_key(0, FUT_KEY_PAGE_MASK));
}

static void test_memory_page(void)
{
    static uint8_t first[3 * FUT_PAGE_SIZE], second[FUT_PAGE_SIZE];
    FutMemory memory = {
        .count = 3, .block = { { first, sizeof(first) }, { NULL, 0 }, { second, sizeof(second) } }
    };
    g_assert_true(fut_memory_page(&memory, fut_key(0, 0)) == first);
    g_assert_true(fut_memory_page(&memory, fut_key(0, 2)) == first + 2 * FUT_PAGE_SIZE);
    g_assert_true(fut_memory_page(&memory, fut_key(2, 0)) == second);
    g_assert_null(fut_memory_page(&memory, fut_key(0, 3)));
    g_assert_null(fut_memory_page(&memory, fut_key(1, 0)));
    g_assert_null(fut_memory_page(&memory, fut_key(2, 1)));
    g_assert_null(fut_memory_page(&memory, fut_key(3, 0)));
    g_assert_null(fut_memory_page(&memory, fut_key(0, FUT_KEY_PAGE_MASK)));
    g_assert_null(fut_memory_page(&memory, UINT64_MAX));
}

static void test_add(void)
{
    FutPageSet set = { 0 };
    for (unsigned i = 0; i < 5000; i++) {
        fut_pageset_add(&set, i * 3);
    }
    g_assert_cmpuint(set.count, ==, 5000);
    for (unsigned i = 0; i < 5000; i++) {
        g_assert_cmpuint(set.keys[i], ==, i * 3);
    }
    const uint64_t *keys = set.keys;
    fut_pageset_clear(&set);
    g_assert_cmpuint(set.count, ==, 0);
    fut_pageset_add(&set, 1);
    g_assert_true(set.keys == keys);
    fut_pageset_done(&set);
    g_assert_null(set.keys);
}

static void test_add_word(void)
{
    FutPageSet set = { 0 };
    fut_pageset_add_word(&set, 2, 64, 0x8000000000000005ull);
    fut_pageset_add_word(&set, 2, 128, 0);
    fut_pageset_add_word(&set, 0, 0, 2);
    g_assert_cmpuint(set.count, ==, 4);
    g_assert_cmphex(set.keys[0], ==, fut_key(2, 64));
    g_assert_cmphex(set.keys[1], ==, fut_key(2, 66));
    g_assert_cmphex(set.keys[2], ==, fut_key(2, 127));
    g_assert_cmphex(set.keys[3], ==, fut_key(0, 1));
    fut_pageset_done(&set);
}

static void test_add_full_words(void)
{
    FutPageSet set = { 0 };
    for (unsigned i = 0; i < 100; i++) {
        fut_pageset_add_word(&set, 1, i * 64, UINT64_MAX);
    }
    g_assert_cmpuint(set.count, ==, 6400);
    for (unsigned i = 0; i < 6400; i++) {
        g_assert_cmphex(set.keys[i], ==, fut_key(1, i));
    }
    fut_pageset_done(&set);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pageset/key", test_key);
    g_test_add_func("/pageset/memory-page", test_memory_page);
    g_test_add_func("/pageset/add", test_add);
    g_test_add_func("/pageset/add-word", test_add_word);
    g_test_add_func("/pageset/add-full-words", test_add_full_words);
    return g_test_run();
}
