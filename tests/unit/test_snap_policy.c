/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>

#include "snap_policy.h"

#define S 1000000000ull
#define MS 1000000ull

static FutSnapClock clock_by(FutSnapBy by, double cost)
{
    FutSnapClock clock;

    fut_snap_clock_init(&clock, &(FutSnapPolicy){ by, 5 * S, 300 * S, cost });
    return clock;
}

static void test_first_is_due_at_once(void)
{
    FutSnapClock clock = clock_by(FUT_SNAP_BY_CPU, 0.02);

    g_assert_cmpuint(fut_snap_clock_due(&clock), ==, 0);
    fut_snap_clock_began(&clock, 7 * S);
    g_assert_cmpuint(fut_snap_clock_due(&clock), ==, 12 * S);
}

static void test_busy_guest_is_saved_seldom(void)
{
    FutSnapClock clock = clock_by(FUT_SNAP_BY_CPU, 0.02);

    for (unsigned i = 0; i < 100; i++) {
        fut_snap_clock_busy(&clock, 1.7); /* more than there is counts as all */
    }
    g_assert_cmpuint(fut_snap_clock_interval(&clock), >, 299 * S);
    for (unsigned i = 0; i < 100; i++) {
        fut_snap_clock_busy(&clock, 0.5);
    }
    g_assert_cmpuint(fut_snap_clock_interval(&clock), >, 150 * S);
    g_assert_cmpuint(fut_snap_clock_interval(&clock), <, 155 * S);
    for (unsigned i = 0; i < 100; i++) {
        fut_snap_clock_busy(&clock, 0);
    }
    g_assert_cmpuint(fut_snap_clock_interval(&clock), <, 6 * S);
}

static void test_budget(void)
{
    FutSnapClock clock = clock_by(FUT_SNAP_BY_DIRTY, 0.02);

    fut_snap_clock_began(&clock, S);
    fut_snap_clock_done(&clock, 1 * MS, 0);
    g_assert_cmpuint(fut_snap_clock_interval(&clock), ==, 5 * S); /* 50 ms would do */
    fut_snap_clock_done(&clock, 100 * MS, 10000); /* 0.4 s of the guest's time: one in 20 s */
    g_assert_cmpuint(fut_snap_clock_interval(&clock), >, 19 * S);
    g_assert_cmpuint(fut_snap_clock_interval(&clock), <, 21 * S);
    fut_snap_clock_done(&clock, 60 * S, 0);
    g_assert_cmpuint(fut_snap_clock_interval(&clock), ==, 300 * S);
    uint64_t before = fut_snap_clock_interval(&clock);
    for (unsigned i = 0; i < 50; i++) {
        fut_snap_clock_done(&clock, 1 * MS, 0);
        g_assert_cmpuint(fut_snap_clock_interval(&clock), <=, before);
        before = fut_snap_clock_interval(&clock);
    }
    g_assert_cmpuint(before, ==, 5 * S);
}

static void test_failures_wait_longer(void)
{
    FutSnapClock clock = clock_by(FUT_SNAP_BY_DIRTY, 0.02);
    uint64_t before = 0;

    for (unsigned i = 0; i < 40; i++) {
        fut_snap_clock_failed(&clock);
        g_assert_cmpuint(fut_snap_clock_interval(&clock), >=, before);
        before = fut_snap_clock_interval(&clock);
        g_assert_cmpuint(before, <=, 300 * S);
    }
    g_assert_cmpuint(before, ==, 300 * S);
    fut_snap_clock_done(&clock, 1 * MS, 0);
    g_assert_cmpuint(fut_snap_clock_interval(&clock), ==, 5 * S);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/snap-policy/first", test_first_is_due_at_once);
    g_test_add_func("/snap-policy/busy", test_busy_guest_is_saved_seldom);
    g_test_add_func("/snap-policy/budget", test_budget);
    g_test_add_func("/snap-policy/failures", test_failures_wait_longer);
    return g_test_run();
}
