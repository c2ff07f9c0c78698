/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Histogram: percentiles within its resolution, exact ends. */
#include "histogram.h"

#include <glib.h>

static void test_empty(void)
{
    g_autofree FutHistogram *h = g_new0(FutHistogram, 1);
    g_assert_cmpuint(fut_histogram_percentile(h, 50), ==, 0);
    g_assert_cmpuint(fut_histogram_percentile(h, 100), ==, 0);
    g_assert_cmpfloat(fut_histogram_mean(h), ==, 0);
}

static void test_small_values_are_exact(void)
{
    g_autofree FutHistogram *h = g_new0(FutHistogram, 1);
    for (unsigned i = 1; i <= 20; i++) {
        fut_histogram_add(h, i);
    }
    g_assert_cmpuint(fut_histogram_percentile(h, 0), ==, 1);
    g_assert_cmpuint(fut_histogram_percentile(h, 5), ==, 1);
    g_assert_cmpuint(fut_histogram_percentile(h, 50), ==, 10);
    g_assert_cmpuint(fut_histogram_percentile(h, 95), ==, 19);
    g_assert_cmpuint(fut_histogram_percentile(h, 95.1), ==, 20);
    g_assert_cmpuint(fut_histogram_percentile(h, 100), ==, 20);
    g_assert_cmpfloat(fut_histogram_mean(h), ==, 10.5);
}

/* One sample a time: what comes back is at most 1/32 too high and never too low. */
static void test_resolution(void)
{
    g_autofree FutHistogram *h = g_new0(FutHistogram, 1);
    for (uint64_t value = 1; value < 1ull << 40; value += 1 + value / 7) {
        fut_histogram_clear(h);
        fut_histogram_add(h, value);
        fut_histogram_add(h, 1ull << 40);
        uint64_t found = fut_histogram_percentile(h, 50);
        g_assert_cmpuint(found, >=, value);
        g_assert_cmpuint(found - value, <=, value / 32);
    }
}

static void test_ranks(void)
{
    g_autofree FutHistogram *h = g_new0(FutHistogram, 1);
    for (unsigned i = 1; i <= 10000; i++) {
        fut_histogram_add(h, i * 1000);
    }
    for (unsigned percent = 1; percent < 100; percent++) {
        uint64_t wanted = percent * 100 * 1000, found = fut_histogram_percentile(h, percent);
        g_assert_cmpuint(found, >=, wanted);
        g_assert_cmpuint(found, <=, wanted + wanted / 32);
    }
    g_assert_cmpuint(fut_histogram_percentile(h, 100), ==, 10000000);
}

static void test_enormous_values(void)
{
    g_autofree FutHistogram *h = g_new0(FutHistogram, 1);
    fut_histogram_add(h, 5);
    fut_histogram_add(h, 1ull << 50);
    g_assert_cmpuint(fut_histogram_percentile(h, 50), ==, 5);
    g_assert_cmpuint(fut_histogram_percentile(h, 99), ==, 1ull << 50);
    fut_histogram_add(h, UINT64_MAX);
    g_assert_cmpuint(fut_histogram_percentile(h, 100), ==, UINT64_MAX);
    g_assert_cmpuint(h->count, ==, 3);
}

static void test_full_bin_does_not_wrap(void)
{
    g_autofree FutHistogram *h = g_new0(FutHistogram, 1);
    fut_histogram_add(h, 7);
    h->bins[7] = UINT32_MAX;
    fut_histogram_add(h, 7);
    g_assert_cmpuint(h->bins[7], ==, UINT32_MAX);
    g_assert_cmpuint(fut_histogram_percentile(h, 50), ==, 7);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/histogram/empty", test_empty);
    g_test_add_func("/histogram/small-values-are-exact", test_small_values_are_exact);
    g_test_add_func("/histogram/resolution", test_resolution);
    g_test_add_func("/histogram/ranks", test_ranks);
    g_test_add_func("/histogram/enormous-values", test_enormous_values);
    g_test_add_func("/histogram/full-bin-does-not-wrap", test_full_bin_does_not_wrap);
    return g_test_run();
}
