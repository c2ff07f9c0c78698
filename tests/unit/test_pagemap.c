/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>

#include "pagemap.h"

static FutPageMap three_blocks(void)
{
    FutPageMap map = { 0 };

    fut_pagemap_add_block(&map, 200);
    fut_pagemap_add_block(&map, 1);
    fut_pagemap_add_block(&map, 64);
    return map;
}

static void expect_run(const FutPageMap *map, uint64_t *key, uint64_t first, uint64_t pages)
{
    uint64_t found = 0;

    g_assert_true(fut_pagemap_next(map, key, &found, UINT64_MAX));
    g_assert_cmpuint(*key, ==, first);
    g_assert_cmpuint(found, ==, pages);
    *key += found;
}

static void test_runs(void)
{
    FutPageMap map = three_blocks();
    uint64_t key = 0, pages;

    g_assert_false(fut_pagemap_next(&map, &key, &pages, 1));
    fut_pagemap_add_run(&map, fut_key(0, 60), 70);
    fut_pagemap_add(&map, fut_key(0, 199));
    fut_pagemap_add(&map, fut_key(1, 0));
    fut_pagemap_add_run(&map, fut_key(2, 0), 64);
    g_assert_cmpuint(fut_pagemap_count(&map), ==, 70 + 1 + 1 + 64);
    key = 0;
    expect_run(&map, &key, fut_key(0, 60), 70);
    expect_run(&map, &key, fut_key(0, 199), 1);
    expect_run(&map, &key, fut_key(1, 0), 1);
    expect_run(&map, &key, fut_key(2, 0), 64);
    g_assert_false(fut_pagemap_next(&map, &key, &pages, UINT64_MAX));
    key = fut_key(0, 61);
    g_assert_true(fut_pagemap_next(&map, &key, &pages, 5));
    g_assert_cmpuint(key, ==, fut_key(0, 61));
    g_assert_cmpuint(pages, ==, 5);
    fut_pagemap_done(&map);
}

static void test_dropping(void)
{
    FutPageMap map = three_blocks();
    uint64_t key = 0;

    fut_pagemap_add_all(&map);
    g_assert_cmpuint(fut_pagemap_count(&map), ==, 265);
    uint64_t sum = 0, steps = 0;
    for (unsigned block = 0; block < map.count; block++) {
        for (uint64_t page = 0; fut_pagemap_count_part(&map, block, &page, 64, &sum); steps++) {
        }
    }
    g_assert_cmpuint(sum, ==, 265);
    g_assert_cmpuint(steps, >, 4);
    fut_pagemap_drop_run(&map, fut_key(0, 3), 130);
    expect_run(&map, &key, fut_key(0, 0), 3);
    expect_run(&map, &key, fut_key(0, 133), 67);
    fut_pagemap_clear(&map);
    g_assert_cmpuint(fut_pagemap_count(&map), ==, 0);
    fut_pagemap_done(&map);
}

/* The same as a list of single pages says, whatever is added and dropped. */
static void test_random(void)
{
    FutPageMap map = three_blocks(), other = three_blocks();
    bool model[200] = { false };

    for (unsigned i = 0; i < 2000; i++) {
        uint64_t first = (uint64_t)g_test_rand_int_range(0, 200);
        uint64_t pages = (uint64_t)g_test_rand_int_range(0, (gint32)(201 - first));
        bool add = g_test_rand_bit();
        (add ? fut_pagemap_add_run : fut_pagemap_drop_run)(&map, fut_key(0, first), pages);
        for (uint64_t j = 0; j < pages; j++) {
            model[first + j] = add;
        }
        uint64_t count = 0;
        for (uint64_t j = 0; j < 200; j++) {
            g_assert_cmpint(fut_pagemap_has(&map, fut_key(0, j)), ==, model[j]);
            count += model[j];
        }
        g_assert_cmpuint(fut_pagemap_count(&map), ==, count);
    }
    fut_pagemap_merge(&other, &map);
    g_assert_cmpuint(fut_pagemap_count(&other), ==, fut_pagemap_count(&map));
    fut_pagemap_add_run(&other, fut_key(1, 0), 1);
    fut_pagemap_subtract(&other, &map);
    g_assert_cmpuint(fut_pagemap_count(&other), ==, 1);
    g_assert_true(fut_pagemap_has(&other, fut_key(1, 0)));
    fut_pagemap_done(&map);
    fut_pagemap_done(&other);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pagemap/runs", test_runs);
    g_test_add_func("/pagemap/dropping", test_dropping);
    g_test_add_func("/pagemap/random", test_random);
    return g_test_run();
}
