/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Choice of compression: found for each speed, and kept. */
#include "pack_choice.h"

#include <glib.h>

#include "fut_clock.h"

#define STEP_NS (25 * FUT_NS_PER_MS)

typedef struct {
    FutPackChoice choice;
    uint64_t now_ns, taken;
} Sender;

static FutPackKind step(Sender *sender, double bytes_per_s, size_t pending)
{
    sender->now_ns += STEP_NS;
    sender->taken += (uint64_t)(bytes_per_s * STEP_NS / FUT_NS_PER_S);
    return fut_pack_choice_next(&sender->choice, sender->taken, pending, sender->now_ns);
}

/* `steps` messages over a link that always has something waiting. */
static FutPackKind busy(Sender *sender, double bytes_per_s, unsigned steps)
{
    while (steps-- > 0) {
        step(sender, bytes_per_s, 1000);
    }
    return sender->choice.kind;
}

static void test_each_speed(void)
{
    static const struct {
        double bytes_per_s;
        FutPackKind kind;
    } cases[] = { { 1e5, FUT_PACK_ZSTD },   { 25e6, FUT_PACK_ZSTD },  { 49e6, FUT_PACK_ZSTD },
                  { 51e6, FUT_PACK_LZ4 },   { 125e6, FUT_PACK_LZ4 },  { 249e6, FUT_PACK_LZ4 },
                  { 251e6, FUT_PACK_NONE }, { 1250e6, FUT_PACK_NONE } };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Sender sender = { .now_ns = FUT_NS_PER_S };
        fut_pack_choice_start(&sender.choice);
        g_assert_cmpint(busy(&sender, cases[i].bytes_per_s, 1000), ==, cases[i].kind);
        g_assert_cmpuint(sender.choice.changes, <=, 1);
    }
}

/* One slow moment changes nothing. */
static void test_one_measure_is_not_enough(void)
{
    Sender sender = { .now_ns = FUT_NS_PER_S };

    busy(&sender, 1000e6, 5);
    for (unsigned i = 0; i < 50; i++) {
        g_assert_cmpint(busy(&sender, 41e6, 1), ==, FUT_PACK_NONE);
        g_assert_cmpint(busy(&sender, 1000e6, 3), ==, FUT_PACK_NONE);
    }
    g_assert_cmpuint(sender.choice.changes, ==, 0);
}

/* While nothing waits nothing is known, and what was chosen stays. */
static void test_kept_while_the_link_keeps_up(void)
{
    Sender sender = { .now_ns = FUT_NS_PER_S };

    g_assert_cmpint(busy(&sender, 100e6, 5), ==, FUT_PACK_LZ4);
    for (unsigned i = 0; i < 1000; i++) {
        g_assert_cmpint(step(&sender, 30e6, 0), ==, FUT_PACK_LZ4);
    }
    sender.now_ns += 1000 * FUT_NS_PER_S; /* and long silence is no slow link */
    g_assert_cmpint(step(&sender, 0, 1), ==, FUT_PACK_LZ4);
    sender.now_ns += 1000 * FUT_NS_PER_S;
    g_assert_cmpint(step(&sender, 0, 1), ==, FUT_PACK_LZ4);
    g_assert_cmpuint(sender.choice.changes, ==, 1);
}

/* Around each limit, however the measures scatter by a sixth. */
static void test_does_not_oscillate(void)
{
    static const double limits[] = { FUT_LINK_SLOW, FUT_LINK_FAST };

    for (uint32_t seed = 0; seed < 200; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        double speed = limits[seed % 2] * g_rand_double_range(rand, 0.7, 1.7);
        Sender sender = { .now_ns = FUT_NS_PER_S };
        for (unsigned i = 0; i < 2000; i++) {
            step(&sender, speed * g_rand_double_range(rand, 0.84, 1.16), 1);
        }
        g_assert_cmpuint(sender.choice.changes, <=, 2);
    }
}

/* A link that really changes is followed, both ways. */
static void test_follows(void)
{
    Sender sender = { .now_ns = FUT_NS_PER_S };

    g_assert_cmpint(busy(&sender, 40e6, 10), ==, FUT_PACK_ZSTD);
    g_assert_cmpint(busy(&sender, 70e6, 50), ==, FUT_PACK_ZSTD); /* within the margin */
    g_assert_cmpint(busy(&sender, 80e6, 5), ==, FUT_PACK_LZ4);
    g_assert_cmpint(busy(&sender, 370e6, 50), ==, FUT_PACK_LZ4);
    g_assert_cmpint(busy(&sender, 400e6, 5), ==, FUT_PACK_NONE);
    g_assert_cmpint(busy(&sender, 20e6, 10), ==, FUT_PACK_ZSTD);
    fut_pack_choice_start(&sender.choice);
    g_assert_cmpint(step(&sender, 1e6, 1), ==, FUT_PACK_NONE);
}

/* What does not get smaller is tried ever more rarely, and as before once it does. */
static void test_in_vain(void)
{
    Sender sender = { .now_ns = FUT_NS_PER_S };
    unsigned tried = 0;

    busy(&sender, 20e6, 10);
    for (unsigned i = 0; i < 64 * 20; i++) {
        if (step(&sender, 20e6, 1) != FUT_PACK_NONE) {
            fut_pack_choice_result(&sender.choice, true);
            tried++;
        }
    }
    g_assert_cmpuint(tried, >=, 20);
    g_assert_cmpuint(tried, <=, 30);
    while (step(&sender, 20e6, 1) == FUT_PACK_NONE) {
    }
    fut_pack_choice_result(&sender.choice, false);
    for (unsigned i = 0; i < 100; i++) {
        g_assert_cmpint(step(&sender, 20e6, 1), ==, FUT_PACK_ZSTD);
        fut_pack_choice_result(&sender.choice, false);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pack-choice/each-speed", test_each_speed);
    g_test_add_func("/pack-choice/one-measure-is-not-enough", test_one_measure_is_not_enough);
    g_test_add_func("/pack-choice/kept-while-the-link-keeps-up", test_kept_while_the_link_keeps_up);
    g_test_add_func("/pack-choice/does-not-oscillate", test_does_not_oscillate);
    g_test_add_func("/pack-choice/follows", test_follows);
    g_test_add_func("/pack-choice/in-vain", test_in_vain);
    return g_test_run();
}
