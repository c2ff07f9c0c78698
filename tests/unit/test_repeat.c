/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fut_repeat.h"

/* Tried every second for a day. */
static void test_grows(void)
{
    FutRepeat repeat = { 0 };
    const uint64_t when[] = { 5, 9, 17, 33, 65, 129, 257, 513, 1025, 2049, 4097, 7697, 11297 };
    size_t said = 0;

    for (uint64_t now = 5; now < 12000; now++) {
        if (fut_repeat_due(&repeat, now, 4, 3600)) {
            g_assert_cmpuint(said, <, G_N_ELEMENTS(when));
            g_assert_cmpuint(now, ==, when[said++]);
        }
    }
    g_assert_cmpuint(said, ==, G_N_ELEMENTS(when));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repeat/grows", test_grows);
    return g_test_run();
}
