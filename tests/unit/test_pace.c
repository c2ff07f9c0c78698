/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a checkpoint is cut: at once for a lone output, together under load, never later than the longest epoch. */
#include "pace.h"

#include <glib.h>

#include "fut_clock.h"

#define EPOCH_NS (25 * FUT_NS_PER_MS)
#define BATCH_NS FUT_NS_PER_MS
#define GAP_NS (250 * FUT_NS_PER_US)

static FutPace started(uint64_t now_ns)
{
    FutPace pace = { .epoch_max_ns = EPOCH_NS, .batch_max_ns = BATCH_NS, .gap_ns = GAP_NS };
    fut_pace_start(&pace, now_ns);
    return pace;
}

/* Checkpoints of so many outputs each; returns the time. */
static uint64_t checkpoints(FutPace *pace, unsigned count, unsigned outputs, uint64_t now_ns)
{
    while (count-- > 0) {
        for (unsigned i = 0; i < outputs; i++) {
            fut_pace_output(pace, ++now_ns);
        }
        fut_pace_cut(pace, ++now_ns);
    }
    return now_ns;
}

static void test_lone(void)
{
    FutPace pace = started(FUT_NS_PER_S);
    uint64_t now_ns = checkpoints(&pace, 100, 1, FUT_NS_PER_S);

    g_assert_true(fut_pace_alone(&pace));
    g_assert_false(fut_pace_busy(&pace));
    g_assert_false(fut_pace_due(&pace, 0, true, now_ns)); /* for nothing there is no cut */
    fut_pace_output(&pace, now_ns);
    g_assert_true(fut_pace_due(&pace, 0, false, now_ns));
}

static void test_company(void)
{
    FutPace pace = started(FUT_NS_PER_S);
    uint64_t now_ns = checkpoints(&pace, 100, 8, FUT_NS_PER_S);

    g_assert_false(fut_pace_alone(&pace));
    g_assert_true(fut_pace_busy(&pace));
    fut_pace_output(&pace, now_ns);
    g_assert_false(fut_pace_due(&pace, 0, false, now_ns));
    g_assert_true(fut_pace_due(&pace, 0, true, now_ns)); /* nobody else will come */
    g_assert_cmpuint(fut_pace_deadline(&pace, 0), ==, now_ns + BATCH_NS);
    g_assert_true(fut_pace_due(&pace, 0, false, now_ns + BATCH_NS));
}

/* The load is over: a few checkpoints later an output goes at once again. */
static void test_load_ends(void)
{
    FutPace pace = started(FUT_NS_PER_S);
    uint64_t now_ns = checkpoints(&pace, 100, 8, FUT_NS_PER_S);

    checkpoints(&pace, 10, 1, now_ns);
    g_assert_true(fut_pace_busy(&pace));
    checkpoints(&pace, 30, 1, now_ns);
    g_assert_false(fut_pace_busy(&pace));
}

/* Checkpoints of three outputs each, for which so many bytes came in; returns the time. */
static uint64_t taking_in(FutPace *pace, size_t bytes, uint64_t now_ns)
{
    for (unsigned i = 0; i < 100; i++) {
        fut_pace_input(pace, bytes / 2);
        fut_pace_input(pace, bytes / 2);
        now_ns = checkpoints(pace, 1, 3, now_ns);
    }
    return now_ns;
}

/* The acknowledgements of a bulk transfer wait for nobody; answers to requests do, and so do the acknowledgements when it is over. */
static void test_bulk_input(void)
{
    FutPace pace = started(FUT_NS_PER_S);
    uint64_t now_ns = taking_in(&pace, 300000, FUT_NS_PER_S);

    g_assert_false(fut_pace_alone(&pace));
    g_assert_false(fut_pace_busy(&pace));
    fut_pace_output(&pace, now_ns);
    g_assert_true(fut_pace_due(&pace, 0, false, now_ns));
    fut_pace_cut(&pace, now_ns);
    now_ns = taking_in(&pace, 3000, now_ns);
    g_assert_true(fut_pace_busy(&pace));
    fut_pace_start(&pace, now_ns);
    g_assert_false(fut_pace_busy(&pace));
    now_ns = taking_in(&pace, 40000, now_ns);
    g_assert_true(fut_pace_busy(&pace));
    fut_pace_output(&pace, now_ns);
    g_assert_false(fut_pace_due(&pace, 0, false, now_ns));
}

static void commits(FutPace *pace, uint64_t took_ns)
{
    for (unsigned i = 0; i < 100; i++) {
        fut_pace_commit(pace, took_ns);
    }
}

/* Over a short link the acknowledgement is awaited. */
static void test_short_link(void)
{
    FutPace pace = started(FUT_NS_PER_S);

    commits(&pace, 900 * FUT_NS_PER_US);
    g_assert_true(fut_pace_may_cut(&pace, 0));
    g_assert_false(fut_pace_may_cut(&pace, 1));
    for (unsigned i = 0; i < 1000;
         i++) { /* nor is it long where the hosts are slow, and quick at times */
        fut_pace_commit(&pace,
                        i % FUT_PACE_COMMITS == 7 ? 300 * FUT_NS_PER_US : 20 * FUT_NS_PER_MS);
        g_assert_false(fut_pace_may_cut(&pace, 1));
    }
}

/* Over a long one the next is cut meanwhile, the later the more are under way: not even a guest with nothing to do hurries it. */
static void test_long_link(void)
{
    FutPace pace = started(FUT_NS_PER_S);
    uint64_t cut_ns = FUT_NS_PER_S + FUT_NS_PER_MS;

    commits(&pace, 5 * FUT_NS_PER_MS);
    fut_pace_cut(&pace, cut_ns);
    fut_pace_output(&pace, cut_ns + 1);
    g_assert_true(fut_pace_due(&pace, 0, false, cut_ns + 1)); /* it was quick for once */
    for (unsigned k = 1; k < 5; k++) {
        uint64_t at_ns = cut_ns + k * GAP_NS;
        g_assert_true(fut_pace_may_cut(&pace, k));
        g_assert_cmpuint(fut_pace_deadline(&pace, k), ==, at_ns);
        g_assert_false(fut_pace_due(&pace, k, true, at_ns - 1));
        g_assert_true(fut_pace_due(&pace, k, false, at_ns));
    }
    fut_pace_commit(&pace, 900 * FUT_NS_PER_US);
    g_assert_false(fut_pace_may_cut(&pace, 1));
}

/* Three of a bulk transfer are under way without waiting. */
static void test_bulk_window(void)
{
    FutPace pace = started(FUT_NS_PER_S);
    uint64_t now_ns = taking_in(&pace, 300000, FUT_NS_PER_S);

    fut_pace_output(&pace, now_ns);
    g_assert_true(fut_pace_may_cut(&pace, 2));
    g_assert_true(fut_pace_due(&pace, 2, false, now_ns));
    g_assert_false(fut_pace_may_cut(&pace, 3));
    commits(&pace, 5 * FUT_NS_PER_MS);
    g_assert_true(fut_pace_may_cut(&pace, 3));
    g_assert_false(fut_pace_due(&pace, 3, true, now_ns));
}

static void test_longest(void)
{
    FutPace pace = started(FUT_NS_PER_S);

    g_assert_false(fut_pace_due(&pace, 0, false, FUT_NS_PER_S + EPOCH_NS - 1));
    g_assert_true(fut_pace_due(&pace, 0, false, FUT_NS_PER_S + EPOCH_NS));
    fut_pace_resume(&pace, 2 * FUT_NS_PER_S); /* it was stopped meanwhile */
    g_assert_cmpuint(fut_pace_deadline(&pace, 0), ==, 2 * FUT_NS_PER_S + EPOCH_NS);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pace/lone", test_lone);
    g_test_add_func("/pace/company", test_company);
    g_test_add_func("/pace/load-ends", test_load_ends);
    g_test_add_func("/pace/bulk-input", test_bulk_input);
    g_test_add_func("/pace/short-link", test_short_link);
    g_test_add_func("/pace/long-link", test_long_link);
    g_test_add_func("/pace/bulk-window", test_bulk_window);
    g_test_add_func("/pace/longest", test_longest);
    return g_test_run();
}
