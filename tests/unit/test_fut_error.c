/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Error codes: names there and back, exit statuses. */
#include "fut_error.h"

static void test_names(void)
{
    g_assert_cmpstr(fut_err_name(FUT_ERR_ARG), ==, "arg");
    g_assert_cmpstr(fut_err_name(FUT_ERR_TIMEOUT), ==, "timeout");
    for (unsigned i = 0; i < FUT_ERR_COUNT; i++) {
        g_assert_cmpint(fut_err_from_name(fut_err_name(i)), ==, i);
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpstr(fut_err_name(i), !=, fut_err_name(j));
        }
    }
}

static void test_unknown_names(void)
{
    g_assert_cmpint(fut_err_from_name("ARG"), ==, FUT_ERR_COUNT);
    g_assert_cmpint(fut_err_from_name(""), ==, FUT_ERR_COUNT);
    g_assert_cmpint(fut_err_from_name(NULL), ==, FUT_ERR_COUNT);
}

static void test_exit_status(void)
{
    g_assert_cmpint(fut_err_exit_status(FUT_ERR_ARG), ==, 2);
    for (unsigned i = FUT_ERR_ARG + 1; i < FUT_ERR_COUNT; i++) {
        g_assert_cmpint(fut_err_exit_status(i), ==, 1);
    }
}

static void test_domain(void)
{
    g_autoptr(GError) error = g_error_new(FUT_ERROR, FUT_ERR_BUSY, "text");
    g_assert_true(g_error_matches(error, FUT_ERROR, FUT_ERR_BUSY));
    g_assert_cmpstr(g_quark_to_string(FUT_ERROR), ==, "futago-error");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/names", test_names);
    g_test_add_func("/error/unknown-names", test_unknown_names);
    g_test_add_func("/error/exit-status", test_exit_status);
    g_test_add_func("/error/domain", test_domain);
    return g_test_run();
}
