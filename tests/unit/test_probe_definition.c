/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions of probes, and the bytes in which they travel. */
#include <glib.h>
#include <string.h>

#include "fut_error.h"
#include "probe_definition.h"

static const uint8_t golden[] = {
    0x40, 0x00, 0x00, 0x81, 0xff, 0xff, 0xff, 0xff, 0x00, 0x30, 0xa0, 0x02, 0,
    0,    0,    0, /* where */
    1,    0,    0,    0,    1,    0,    0,    0,    0,    0,    0,    0,    0,
    0,    0,    0,       /* levels, count */
    3,    0,    0,    0, /* wait, disabled */
    1,    0,    'n',  8,    0,    'k',  'p',  'r',  'o',  'b',  'e',  ':',  'f', /* name, text */
    6,    0,    'a',  ' ',  '=',  '=',  ' ',  '1',  2,    0,    '/',  's', /* filter, symbols */
};

static FutProbeSet *some_set(void)
{
    FutProbeDefinition from = { .name = (char *)"n",
                                .text = (char *)"kprobe:f",
                                .filter = (char *)"a == 1",
                                .symbols = (char *)"/s",
                                .wait = true,
                                .disabled = true };
    FutProbeSet *set = fut_probe_set_new();

    set->syscall_entry = UINT64_C(0xffffffff81000040);
    set->table = 0x2a03000;
    set->five_levels = true;
    g_ptr_array_add(set->definitions, fut_probe_definition_new(&from, NULL));
    return set;
}

static void test_golden(void)
{
    g_autoptr(FutProbeSet) set = some_set();
    g_autoptr(GError) error = NULL;
    FutBuf out = { 0 };

    fut_probe_set_encode(&out, set);
    g_assert_cmpmem(out.data, out.len, golden, sizeof(golden));
    g_autoptr(FutProbeSet) back = fut_probe_set_decode(out.data, out.len, &error);
    g_assert_no_error(error);
    g_assert_cmphex(back->syscall_entry, ==, set->syscall_entry);
    g_assert_cmphex(back->table, ==, set->table);
    g_assert_true(back->five_levels);
    const FutProbeDefinition *one = g_ptr_array_index(back->definitions, 0);
    g_assert_cmpstr(one->function, ==, "f");
    g_assert_cmpstr(one->filter, ==, "a == 1");
    g_assert_cmpstr(one->symbols, ==, "/s");
    g_assert_true(one->wait && one->disabled);
    fut_buf_done(&out);
}

/* Each cut, and each byte that is another one: refused or read, and what is read encodes to the same. */
static void test_hostile(void)
{
    unsigned good = 0;

    for (size_t length = 0; length < sizeof(golden); length++) {
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *exact = g_memdup2(golden, length);
        g_assert_null(fut_probe_set_decode(exact, length, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
    }
    for (unsigned i = 0; i < sizeof(golden) * 256; i++) {
        g_autofree uint8_t *bad = g_memdup2(golden, sizeof(golden));
        g_autoptr(GError) error = NULL;
        bad[i / 256] = (uint8_t)i;
        g_autoptr(FutProbeSet) set = fut_probe_set_decode(bad, sizeof(golden), &error);
        g_assert_true((set == NULL) == (error != NULL));
        if (set) {
            FutBuf out = { 0 };
            fut_probe_set_encode(&out, set);
            g_assert_cmpmem(out.data, out.len, bad, sizeof(golden));
            fut_buf_done(&out);
            good++;
        }
    }
    g_assert_cmpuint(good, >, 1000);
}

static void test_twice(void)
{
    g_autoptr(FutProbeSet) set = some_set();
    g_autoptr(FutProbeSet) other = some_set();
    g_autoptr(GError) error = NULL;
    FutBuf out = { 0 };

    g_ptr_array_add(set->definitions, g_ptr_array_steal_index(other->definitions, 0));
    fut_probe_set_encode(&out, set);
    g_assert_null(fut_probe_set_decode(out.data, out.len, &error));
    g_assert_nonnull(strstr(error->message, "twice"));
    fut_buf_done(&out);
}

static void test_wrong(void)
{
    static const struct {
        FutProbeDefinition from;
        const char *says;
    } cases[] = {
        { { .text = (char *)"kprobe" }, "at character 1" },
        { { .text = (char *)"kprobe:f", .filter = (char *)"a =" }, "filter: " },
        { { .text = (char *)"kprobe:f", .name = (char *)"../x" }, "name '../x'" },
        { { .text = (char *)"kprobe:f", .name = (char *)"a b" }, "name 'a b'" },
        { { .text = (char *)"kprobe:f", .symbols = (char *)"System.map" }, "whole path" },
        { { .text =
                (char
                     *)"kprobe:a1234567890123456789012345678901234567890123456789012345678901234" },
          "--name" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fut_probe_definition_new(&cases[i].from, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        if (!strstr(error->message, cases[i].says)) {
            g_error("%s", error->message);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/probe-definition/golden", test_golden);
    g_test_add_func("/probe-definition/hostile", test_hostile);
    g_test_add_func("/probe-definition/twice", test_twice);
    g_test_add_func("/probe-definition/wrong", test_wrong);
    return g_test_run();
}
