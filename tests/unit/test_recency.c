/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages used last. */
#include <glib.h>

#include "recency.h"

#define PAGES 5000u

static const FutMemory memory = {
    .count = 3,
    .block = { { NULL, PAGES << FUT_PAGE_SHIFT }, { NULL, 0 }, { NULL, 10 << FUT_PAGE_SHIFT } }
};

static void test_none(void)
{
    FutRecency recency;
    uint64_t keys[4];

    g_assert_true(fut_recency_init(&recency, &memory));
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, 4), ==, 0);
    fut_recency_use(&recency, 2, 9);
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, 0), ==, 0);
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, 4), ==, 1);
    g_assert_cmpuint(keys[0], ==, fut_key(2, 9));
    fut_recency_done(&recency);
}

/* All once in order: the last ones are the newest. Some of the first again: these. */
static void test_order(void)
{
    FutRecency recency;
    static uint64_t keys[PAGES];

    g_assert_true(fut_recency_init(&recency, &memory));
    for (unsigned i = 0; i < PAGES; i++) {
        fut_recency_use(&recency, 0, i);
    }
    size_t count = fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, 1000);
    g_assert_cmpuint(count, ==, 1000);
    for (size_t i = 0; i < count; i++) {
        g_assert_cmpuint(fut_key_page(keys[i]), >=, PAGES - 1000 - FUT_RECENCY_MOMENT);
        g_assert_cmpuint(fut_key_block(keys[i]), ==, 0);
    }
    for (unsigned i = 100; i < 300; i++) {
        fut_recency_use(&recency, 0, i);
    }
    fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, 1000);
    for (size_t i = 0; i < 192; i++) {
        g_assert_true(fut_key_page(keys[i]) - 100 < 200 || fut_key_page(keys[i]) >= PAGES - 64);
    }
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, PAGES), ==, PAGES);
    fut_recency_done(&recency);
}

/* One page again and again: no time passes, and what was used before stays new. */
static void test_same(void)
{
    FutRecency recency;
    uint64_t keys[100];

    g_assert_true(fut_recency_init(&recency, &memory));
    fut_recency_use(&recency, 0, 1);
    for (unsigned i = 0; i < 1000000; i++) {
        fut_recency_use(&recency, 0, 2);
    }
    g_assert_cmpuint(recency.now, ==, 1);
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_NEWEST, keys, 100), ==, 2);
    fut_recency_done(&recency);
}

/* What passes once is newer than what is used again and again, and less used. */
static void test_most(void)
{
    FutRecency recency;
    static uint64_t keys[2000];

    g_assert_true(fut_recency_init(&recency, &memory));
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < 3000; i++) {
            fut_recency_use(&recency, 0, 2000 + i);
            fut_recency_use(&recency, 0, i % 100);
        }
    }
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_MOST, keys, 100), ==, 100);
    for (size_t i = 0; i < 100; i++) {
        g_assert_cmpuint(fut_key_page(keys[i]), <, 100);
    }
    /* They are used no more: after a while others are what is used most. */
    for (unsigned i = 0; i < 20 * FUT_RECENCY_MOMENT << FUT_RECENCY_FADE_SHIFT; i++) {
        fut_recency_use(&recency, 0, 1000 + i % 500);
    }
    g_assert_cmpuint(fut_recency_best(&recency, FUT_RECENCY_MOST, keys, 500), ==, 500);
    for (size_t i = 0; i < 500; i++) {
        g_assert_cmpuint(fut_key_page(keys[i]) - 1000, <, 500);
    }
    fut_recency_done(&recency);
}

static void test_fade(void)
{
    g_assert_cmpuint(fut_recency_fade(1000, 0), ==, 1000);
    g_assert_cmpuint(fut_recency_fade(1000, 1u << FUT_RECENCY_FADE_SHIFT), ==, 500);
    g_assert_cmpuint(fut_recency_fade(UINT32_MAX, UINT32_MAX), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/recency/none", test_none);
    g_test_add_func("/recency/order", test_order);
    g_test_add_func("/recency/same", test_same);
    g_test_add_func("/recency/most", test_most);
    g_test_add_func("/recency/fade", test_fade);
    return g_test_run();
}
