/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of events in words, both ways. */
#include <glib.h>
#include <string.h>

#include "event_set.h"
#include "fut_error.h"

static void test_both_ways(void)
{
    for (FutEventSet set = 0; set <= FUT_EVENTS_ALL; set++) {
        g_autofree char *text = fut_event_set_text(set);
        FutEventSet back = ~0u;
        g_assert_true(fut_event_set_parse(text, &back, NULL));
        g_assert_cmpuint(back, ==, set);
    }
}

static void test_words(void)
{
    static const struct {
        const char *text;
        FutEventSet set;
    } cases[] = {
        { "all", FUT_EVENTS_ALL },
        { "none", 0 },
        { "net-tx", FUT_EVENTS_DEFAULT },
        { "timer,net-tx,timer", FUT_EVENT_SET(FUT_EVENT_TIMER) | FUT_EVENT_SET(FUT_EVENT_NET_TX) },
        { "disk-write,disk-read,console,net-rx,net-tx,timer", FUT_EVENTS_ALL },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        FutEventSet set = ~0u;
        g_assert_true(fut_event_set_parse(cases[i].text, &set, NULL));
        g_assert_cmpuint(set, ==, cases[i].set);
    }
}

static void test_refused(void)
{
    static const char *const texts[] = {
        "",           ",",
        "net-tx,",    ",timer",
        "net",        "NET-TX",
        "all,net-tx", "timer net-tx",
        "none,timer", "net-tx,net-tx,net-tx,net-tx,net-tx,net-tx,net-tx,disk"
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        FutEventSet set = 5;
        g_assert_false(fut_event_set_parse(texts[i], &set, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        g_assert_nonnull(
            strstr(error->message, "net-tx,net-rx,disk-write,disk-read,console,timer"));
        g_assert_cmpuint(set, ==, 5);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/event-set/both-ways", test_both_ways);
    g_test_add_func("/event-set/words", test_words);
    g_test_add_func("/event-set/refused", test_refused);
    return g_test_run();
}
