/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The nearest names. */
#include <glib.h>
#include <string.h>

#include "alike.h"

static void check(const char *word, const char *expected)
{
    static const char *const names[] = {
        "__send_signal_locked", "send_signal_locked", "do_send_sig",
        "out_of_memory",        "oom_kill_process",   "panic",
        "panic_print",          "nmi_panic",          "a"
    };
    FutAlike alike;

    fut_alike_init(&alike, word);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        fut_alike_add(&alike, names[i]);
        fut_alike_add(&alike, names[i]);
    }
    g_autofree char *text = fut_alike_join(&alike);
    g_assert_cmpstr(text, ==, expected);
}

static void test_words(void)
{
    check("send_singal_locked", "send_signal_locked, __send_signal_locked");
    check("panik", "panic");
    check("panic", "panic, nmi_panic, panic_print");
    check("out_of_memory_now", "out_of_memory");
    check("oom_kill_proces", "oom_kill_process");
    check("zzzz", "");
    check("", "a");
}

/* Longer than any function's name: no work, no overrun. */
static void test_long(void)
{
    g_autofree char *word = g_strnfill(5000, 'x'), *name = g_strnfill(4999, 'x');
    FutAlike alike;

    name[0] = 'y';
    fut_alike_init(&alike, word);
    fut_alike_add(&alike, name);
    g_assert_cmpuint(alike.count, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/alike/words", test_words);
    g_test_add_func("/alike/long", test_long);
    return g_test_run();
}
