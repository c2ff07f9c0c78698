/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Order and pace of the background copy. */
#include "copy_order.h"
#include "copy_pace.h"
#include "fut_clock.h"
#include "progress.h"

#define UNIT_BLOCKS (FUT_COPY_UNIT >> FUT_BLOCK_SHIFT)
#define UNITS 8

static uint64_t next_unit(FutCopyOrder *order, FutBlockMap *map)
{
    uint64_t first, end;

    if (!fut_copy_order_next(order, map, &first, &end)) {
        return UINT64_MAX;
    }
    g_assert_cmpuint(end - first, <=, UNIT_BLOCKS);
    fut_block_map_claim(map, first, end);
    return first / UNIT_BLOCKS;
}

static void test_names(void)
{
    g_assert_cmpint(fut_copy_policy_from_name("idle-only"), ==, FUT_COPY_IDLE_ONLY);
    g_assert_cmpint(fut_copy_policy_from_name("fast"), ==, FUT_COPY_POLICIES);
    g_assert_cmpstr(fut_copy_policy_name(FUT_COPY_NONE), ==, "none");
}

static void test_sequential(void)
{
    FutBlockMap map;
    FutCopyOrder order;
    FutImageChange change;

    fut_block_map_init(&map, UNITS * FUT_COPY_UNIT - 100);
    fut_copy_order_init(&order, FUT_COPY_SEQUENTIAL);
    fut_copy_order_read(&order, &map, 5 * FUT_COPY_UNIT, 4096, true);
    fut_block_map_plan_valid(&map, UNIT_BLOCKS, 2 * UNIT_BLOCKS, &change);
    fut_block_map_apply(&map, &change);
    order.known_end = 3 * UNIT_BLOCKS;
    g_assert_cmpuint(next_unit(&order, &map), ==, 0);
    g_assert_cmpuint(next_unit(&order, &map), ==, 2);
    g_assert_cmpuint(next_unit(&order, &map), ==, UINT64_MAX); /* holes are not known further */
    order.known_end = UINT64_MAX;
    for (uint64_t unit = 3; unit < UNITS; unit++) {
        g_assert_cmpuint(next_unit(&order, &map), ==, unit);
    }
    g_assert_cmpuint(next_unit(&order, &map), ==, UINT64_MAX);
    fut_block_map_unclaim(&map, 10, 12); /* one that failed comes again */
    uint64_t first, end;
    g_assert_true(fut_copy_order_next(&order, &map, &first, &end));
    g_assert_cmpuint(first, ==, 10);
    g_assert_cmpuint(end, ==, 12);
    fut_block_map_done(&map);
}

static void test_hot_first(void)
{
    FutBlockMap map;
    FutCopyOrder order;

    fut_block_map_init(&map, 100 * FUT_COPY_UNIT);
    fut_copy_order_init(&order, FUT_COPY_HOT_FIRST);
    g_assert_cmpuint(next_unit(&order, &map), ==, 0);
    fut_copy_order_read(&order, &map, 50 * FUT_COPY_UNIT + 5, 4096, true);
    fut_copy_order_read(&order, &map, 20 * FUT_COPY_UNIT, 4096, true);
    fut_copy_order_read(&order, &map, 70 * FUT_COPY_UNIT, 4096, false); /* was here: nothing hot */
    g_assert_cmpuint(next_unit(&order, &map), ==, 20);                  /* the latest */
    g_assert_cmpuint(next_unit(&order, &map), ==, 50);
    g_assert_cmpuint(next_unit(&order, &map), ==, 1);
    /* A reader in sequence is run ahead of, further each time, the nearest first. */
    for (unsigned i = 0; i < 3; i++) {
        fut_copy_order_read(&order, &map, 30 * FUT_COPY_UNIT + i * 4096, 4096, i == 0);
    }
    g_assert_cmpuint(next_unit(&order, &map), ==, 31);
    g_assert_cmpuint(next_unit(&order, &map), ==, 32);
    g_assert_cmpuint(next_unit(&order, &map), ==, 30);
    for (unsigned i = 0; i < 2 * FUT_HOT_UNITS; i++) { /* more than are remembered */
        fut_copy_order_want(&order, (i % 90) * FUT_COPY_UNIT);
    }
    g_assert_cmpuint(order.hot_count, ==, FUT_HOT_UNITS);
    order.policy = FUT_COPY_NONE;
    g_assert_cmpuint(next_unit(&order, &map), ==, UINT64_MAX);
    fut_block_map_done(&map);
}

/* -- pace: a link of RATE bytes a second and RTT, simulated -- */

#define RTT_NS (20 * FUT_NS_PER_MS)
#define RATE 119e6

typedef struct {
    FutCopyPace pace;
    double slower;                 /* RATE is divided by it; 0: by 1 */
    uint64_t now_ns, link_free_ns; /* when what is queued on the link is through */
    struct {
        uint64_t sent_ns, at_ns;
    } way[128];
    uint64_t stands_ns, every_ns; /* the machine does not run us for so long, so often */
    unsigned first, count;        /* in order: the link is one queue */
    uint64_t bytes;
} Link;

/* Arrival of so many bytes that are asked for now. */
static uint64_t arrival(Link *link, uint64_t bytes)
{
    uint64_t start_ns = MAX(link->link_free_ns, link->now_ns + RTT_NS / 2);

    link->link_free_ns =
        start_ns + (uint64_t)((double)bytes / RATE * MAX(link->slower, 1) * FUT_NS_PER_S);
    return link->link_free_ns + RTT_NS / 2;
}

/* When we are run, if not while the machine does something else. */
static uint64_t awake(const Link *link, uint64_t now_ns)
{
    uint64_t into_ns = link->every_ns ? now_ns % link->every_ns : 0;

    return into_ns < link->stands_ns ? now_ns - into_ns + link->stands_ns : now_ns;
}

static void copy_until(Link *link, uint64_t until_ns)
{
    while (link->now_ns < until_ns) {
        if (fut_copy_pace_wait(&link->pace, FUT_COPY_UNIT, link->now_ns) == 0) {
            unsigned at = (link->first + link->count++) % G_N_ELEMENTS(link->way);
            g_assert_cmpuint(link->count, <=, G_N_ELEMENTS(link->way));
            link->way[at].sent_ns = link->now_ns;
            link->way[at].at_ns = arrival(link, FUT_COPY_UNIT);
            fut_copy_pace_sent(&link->pace, FUT_COPY_UNIT);
        } else if (link->count > 0) {
            unsigned at = link->first;
            link->first = (link->first + 1) % G_N_ELEMENTS(link->way);
            link->count--;
            link->now_ns = awake(link, MAX(link->now_ns, link->way[at].at_ns));
            link->bytes += FUT_COPY_UNIT;
            fut_copy_pace_done(&link->pace, FUT_COPY_UNIT, link->now_ns - link->way[at].sent_ns,
                               link->now_ns);
        } else {
            link->now_ns += FUT_NS_PER_MS;
        }
    }
}

static void test_pace_fills_the_link(void)
{
    Link link = { .now_ns = FUT_NS_PER_S };

    fut_copy_pace_init(&link.pace, true, 0, link.now_ns);
    copy_until(&link, 2 * FUT_NS_PER_S); /* with the start */
    g_assert_cmpuint(link.bytes, >, (uint64_t)(0.75 * RATE));
    link.bytes = 0;
    copy_until(&link, 5 * FUT_NS_PER_S);
    g_assert_cmpuint(link.bytes, >, (uint64_t)(0.95 * 3 * RATE));
}

/* The VM reads all the time: its fetches wait little, and the copy still has most of the link. */
static void test_pace_makes_way(void)
{
    Link link = { .now_ns = FUT_NS_PER_S };
    uint64_t waited_ns = 0, reads = 0;

    fut_copy_pace_init(&link.pace, true, 0, link.now_ns);
    for (uint64_t ms = 1000; ms < 6000; ms += 5) {
        copy_until(&link, ms * FUT_NS_PER_MS);
        uint64_t latency_ns = arrival(&link, 4096) - link.now_ns;
        fut_copy_pace_vm(&link.pace, 4096, latency_ns, link.now_ns);
        if (ms > 2000) {
            waited_ns += latency_ns - RTT_NS;
            reads++;
        }
    }
    g_assert_cmpuint(waited_ns / reads, <, 6 * FUT_NS_PER_MS);
    g_assert_cmpuint(link.bytes, >, (uint64_t)(0.6 * 5 * RATE));
}

/* Two thirds of the time the machine runs others: that is no queue, and the link stays in use while the VM reads. */
static void test_pace_slow_machine(void)
{
    Link link = { .now_ns = FUT_NS_PER_S,
                  .stands_ns = 40 * FUT_NS_PER_MS,
                  .every_ns = 60 * FUT_NS_PER_MS };

    fut_copy_pace_init(&link.pace, true, 0, link.now_ns);
    for (uint64_t ms = 1000; ms < 11000; ms += 5) {
        copy_until(&link, ms * FUT_NS_PER_MS);
        uint64_t latency_ns = awake(&link, arrival(&link, 4096)) - link.now_ns;
        fut_copy_pace_vm(&link.pace, 4096, latency_ns, link.now_ns);
    }
    g_assert_cmpuint(link.bytes, >, (uint64_t)(0.3 * 10 * RATE));
}

/* A link that became ten times slower: what it held before is forgotten, and no queue stays. */
static void test_pace_slower_link(void)
{
    Link link = { .now_ns = FUT_NS_PER_S };

    fut_copy_pace_init(&link.pace, true, 0, link.now_ns);
    for (uint64_t ms = 1000; ms < 15000; ms += 5) {
        link.slower = ms < 3000 ? 1 : 10;
        copy_until(&link, ms * FUT_NS_PER_MS);
        fut_copy_pace_vm(&link.pace, 4096, arrival(&link, 4096) - link.now_ns, link.now_ns);
    }
    g_assert_cmpfloat(link.pace.window, <=, 4.0 * FUT_COPY_UNIT);
}

static void test_pace_fixed_rate(void)
{
    Link link = { .now_ns = FUT_NS_PER_S };

    fut_copy_pace_init(&link.pace, true, 10000000, link.now_ns);
    copy_until(&link, 11 * FUT_NS_PER_S);
    g_assert_cmpuint(link.bytes, >, 96000000);
    g_assert_cmpuint(link.bytes, <, 102000000);
}

/* -- progress -- */

static void test_progress(void)
{
    FutProgress progress;
    FutProgressLook look = { .at_ns = FUT_NS_PER_S };
    unsigned looks = 3000;

    fut_progress_init(&progress, look.at_ns, 7);
    g_assert_cmpfloat(fut_progress_rates(&progress, &look).copy, ==, 0);
    for (unsigned i = 1; i <= looks; i++) { /* five minutes, 1 MB a look */
        look = (FutProgressLook){ look.at_ns + 100 * FUT_NS_PER_MS, 1000 * i, 1000000ull * i };
        fut_progress_note(&progress, &look, 7 + i, false);
        look.at_ns++; /* too soon: left out */
        fut_progress_note(&progress, &look, 0, false);
        look.at_ns--;
    }
    FutProgressRates rates = fut_progress_rates(&progress, &look);
    g_assert_cmpfloat_with_epsilon(rates.copy, 1e7, 1);
    g_assert_cmpfloat_with_epsilon(rates.demand, 1e4, 1);
    fut_progress_note(&progress, &look, 9999, true); /* the end is there, however soon */
    g_assert_cmpuint(progress.count, >, FUT_CURVE_POINTS / 4);
    g_assert_cmpuint(progress.count, <=, FUT_CURVE_POINTS);
    g_assert_cmpuint(progress.points[0].here, ==, 7);
    g_assert_cmpuint(progress.points[progress.count - 1].here, ==, 9999);
    for (unsigned i = 1; i < progress.count; i++) {
        g_assert_cmpuint(progress.points[i].at_ns, >=, progress.points[i - 1].at_ns);
        g_assert_cmpuint(progress.points[i].here, >, progress.points[i - 1].here);
    }
    /* A copy that rests: soon it is told so. */
    for (unsigned i = 0; i < FUT_PROGRESS_LOOKS; i++) {
        look.at_ns += 100 * FUT_NS_PER_MS;
        fut_progress_note(&progress, &look, 9999, false);
    }
    g_assert_cmpfloat(fut_progress_rates(&progress, &look).copy, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy/names", test_names);
    g_test_add_func("/copy/sequential", test_sequential);
    g_test_add_func("/copy/hot-first", test_hot_first);
    g_test_add_func("/copy/pace-fills-the-link", test_pace_fills_the_link);
    g_test_add_func("/copy/pace-makes-way", test_pace_makes_way);
    g_test_add_func("/copy/pace-slow-machine", test_pace_slow_machine);
    g_test_add_func("/copy/pace-slower-link", test_pace_slower_link);
    g_test_add_func("/copy/pace-fixed-rate", test_pace_fixed_rate);
    g_test_add_func("/copy/progress", test_progress);
    return g_test_run();
}
