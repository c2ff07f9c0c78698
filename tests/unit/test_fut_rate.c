/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fut_rate.h"

#include <glib.h>

static unsigned passed(FutRate *rate, unsigned count, uint64_t now_ns, uint64_t *ret_kept_back)
{
    unsigned passes = 0;

    for (unsigned i = 0; i < count; i++) {
        passes += fut_rate_pass(rate, now_ns, ret_kept_back);
    }
    return passes;
}

static void test_flood(void)
{
    FutRate rate = FUT_RATE_INIT(5, 100);
    uint64_t kept_back = 77;

    g_assert_cmpuint(passed(&rate, 1000, 5000, &kept_back), ==, 5);
    g_assert_cmpuint(kept_back, ==, 0);
    g_assert_cmpuint(passed(&rate, 10, 5099, &kept_back), ==, 0);
    g_assert_cmpuint(passed(&rate, 10, 5100, &kept_back), ==, 1);
    g_assert_cmpuint(kept_back, ==, 995 + 10);
    /* Quiet for long: as at first, and no more than that. */
    g_assert_cmpuint(passed(&rate, 10, 500000, &kept_back), ==, 5);
    g_assert_cmpuint(passed(&rate, 1, 500100, &kept_back), ==, 1);
    g_assert_cmpuint(kept_back, ==, 5);
}

/* A flood over a long time: burst and refill, however the calls fall. */
static void test_long_flood(void)
{
    FutRate rate = FUT_RATE_INIT(5, 100);
    uint64_t kept_back;
    unsigned passes = 0;

    for (uint64_t now_ns = 1000; now_ns < 11000; now_ns += 7) {
        passes += fut_rate_pass(&rate, now_ns, &kept_back);
    }
    g_assert_cmpuint(passes, >=, 5 + 98);
    g_assert_cmpuint(passes, <=, 5 + 100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fut-rate/flood", test_flood);
    g_test_add_func("/fut-rate/long-flood", test_long_flood);
    return g_test_run();
}
