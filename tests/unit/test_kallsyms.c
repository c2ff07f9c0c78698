/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's symbol table: both orders of its parts, and images that lie. */
#include <glib.h>
#include <string.h>

#include "fut_error.h"
#include "kallsyms.h"
#include "kernel_fixture.h"

static void check_symbol(const FutKallsyms *symbols, const char *name, char type, uint64_t address)
{
    FutSymbol found;

    g_assert_true(fut_kallsyms_find(symbols, name, &found));
    g_assert_cmpstr(found.name, ==, name);
    g_assert_cmpint(found.type, ==, type);
    g_assert_cmphex(found.address, ==, address);
}

static void test_decode(gconstpointer since_6_4)
{
    g_autoptr(GByteArray) image = kernel_image(GPOINTER_TO_INT(since_6_4), 0);
    g_autoptr(GError) error = NULL;
    g_autoptr(FutKallsyms) symbols = fut_kallsyms_decode(image->data, image->len, &error);
    FutSymbol found;

    g_assert_no_error(error);
    g_assert_cmpuint(fut_kallsyms_count(symbols), ==, KERNEL_SYMBOLS);
    check_symbol(symbols, "_text", 'T', KERNEL_BASE);
    check_symbol(symbols, "current_task", 'A', KERNEL_CURRENT);
    check_symbol(symbols, "some_data", 'D', KERNEL_BASE + 32);
    check_symbol(symbols, "function_1499", 't', KERNEL_BASE + 1499 * 16);
    g_assert_false(fut_kallsyms_find(symbols, "function_1500", &found));

    g_autofree char *alike = fut_kallsyms_like(symbols, "ction_149");
    g_assert_cmpstr(alike, ==, "function_149, function_1490, function_1491");
    g_autofree char *none = fut_kallsyms_like(symbols, "some_dat");
    g_assert_cmpstr(none, ==, "");
}

static void try_decode(GByteArray *image)
{
    g_autoptr(GError) error = NULL;
    /* A copy of exactly that size: reading past it shows where memory is checked. */
    g_autofree uint8_t *exact = g_memdup2(image->data, image->len);
    g_autoptr(FutKallsyms) symbols = fut_kallsyms_decode(exact, image->len, &error);

    if (!symbols) {
        g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
        return;
    }
    FutSymbol found;
    g_free(fut_kallsyms_like(symbols, "function"));
    fut_kallsyms_find(symbols, "none", &found);
}

static void test_hostile(gconstpointer since_6_4)
{
    g_autoptr(GByteArray) image = kernel_image(GPOINTER_TO_INT(since_6_4), 0);
    g_autoptr(GRand) random = g_rand_new_with_seed(11);

    for (unsigned round = 0; round < 2000; round++) {
        g_autoptr(GByteArray) bad = g_byte_array_new();
        unsigned length =
            round % 4 == 0 ? (unsigned)g_rand_int_range(random, 0, image->len) : image->len;
        g_byte_array_append(bad, image->data, length);
        for (unsigned i = 0; i < round % 32 && bad->len > 0; i++) {
            bad->data[g_rand_int_range(random, 0, bad->len)] = (uint8_t)g_rand_int(random);
        }
        try_decode(bad);
    }
}

/* A whole image of counts and short names: the search ends. */
static void test_endless(void)
{
    g_autoptr(GByteArray) image = g_byte_array_new();

    g_byte_array_set_size(image, 24u << 20);
    memset(image->data, 1, image->len);
    for (size_t at = 0; at < image->len; at += 4096) {
        fut_put_le64(image->data + at, 400000);
    }
    add_tokens(image);
    try_decode(image);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/kallsyms/6.1", GINT_TO_POINTER(false), test_decode);
    g_test_add_data_func("/kallsyms/since-6.4", GINT_TO_POINTER(true), test_decode);
    g_test_add_data_func("/kallsyms/hostile/6.1", GINT_TO_POINTER(false), test_hostile);
    g_test_add_data_func("/kallsyms/hostile/since-6.4", GINT_TO_POINTER(true), test_hostile);
    g_test_add_func("/kallsyms/hostile/endless", test_endless);
    return g_test_run();
}
