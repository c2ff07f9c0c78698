/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <sys/resource.h>

#include "background.h"

static int own_nice(void)
{
    return getpriority(PRIO_PROCESS, 0);
}

/* Often, without having worked, is not more than once; and while nothing can wait it is nothing. */
static void check_giving_way(FutBackground *background)
{
    fut_background_give_way(background);
    uint64_t since_ns = background->since_ns;
    fut_background_give_way(background);
    g_assert_cmpuint(background->since_ns, ==, since_ns);
    while (background->possible && background->since_ns == since_ns) {
        fut_background_give_way(background);
    }
    g_assert_cmpint(background->on, ==, background->possible);
}

static void *work(void *opaque)
{
    FutBackground background;
    int before = own_nice();

    fut_background_init(&background);
    g_assert_cmpint(own_nice(), ==, before);
    for (int i = 0; i < 3; i++) {
        fut_background_set(&background, true);
        fut_background_set(&background, true);
        g_assert_cmpint(own_nice() > before, ==, background.possible && before < 19);
        check_giving_way(&background);
        fut_background_set(&background, false);
        g_assert_cmpint(own_nice(), ==, before);
    }
    return NULL;
}

/* Whoever else is in this process is not touched. */
static void test_on_and_off(void)
{
    int before = own_nice();

    g_thread_join(g_thread_new("background", work, NULL));
    g_assert_cmpint(own_nice(), ==, before);
}

/* Who could not come back does not go. */
static void test_without_the_right(void)
{
    FutBackground background = { .nice = own_nice(), .possible = false };

    fut_background_set(&background, true);
    g_assert_false(background.on);
    g_assert_cmpint(own_nice(), ==, background.nice);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/background/on-and-off", test_on_and_off);
    g_test_add_func("/background/without-the-right", test_without_the_right);
    return g_test_run();
}
