/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function of this program is replaced by another; what cannot be is refused and left as it was. */
#include "qdetour.h"

#include <glib.h>
#include <string.h>

#include "fut_error.h"

#define EXPORTED __attribute__((visibility("default"), noinline, noclone, used))

EXPORTED int long_function(int number);
EXPORTED int short_function(void);

int long_function(int number)
{
    volatile int sum = 0;

    for (int i = 0; i < number; i++) {
        sum += i;
    }
    return sum;
}

/* Two instructions at most. */
__attribute__((naked)) int short_function(void)
{
    __asm__("xor %eax, %eax\n\tret");
}

static int calls;

static int instead(int number)
{
    calls++;
    return number * 10;
}

static void refused(void *function)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(fut_qdetour(function, (void *)instead, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
}

static void test_refused(void)
{
    static const char data[32];
    int (*volatile function)(int) = long_function;

    refused((void *)short_function);
    refused((char *)long_function + 1);
    refused((void *)data);
    g_assert_cmpint(short_function(), ==, 0);
    g_assert_cmpint(function(4), ==, 6);
    g_assert_cmpint(calls, ==, 0);
}

static void test_replaced(void)
{
    g_autoptr(GError) error = NULL;
    int (*volatile function)(int) = long_function;

    g_assert_true(fut_qdetour((void *)long_function, (void *)instead, &error));
    g_assert_no_error(error);
    g_assert_cmpint(function(4), ==, 40);
    g_assert_cmpint(long_function(5), ==, 50);
    g_assert_cmpint(calls, ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qdetour/refused", test_refused);
    g_test_add_func("/qdetour/replaced", test_replaced);
    return g_test_run();
}
