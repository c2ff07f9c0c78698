/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The probe language: what is read, and where it is said to be wrong. */
#include <glib.h>
#include <string.h>

#include "fut_error.h"
#include "probe_text.h"

static FutProbeText *parsed(const char *text)
{
    g_autoptr(GError) error = NULL;
    FutProbeText *probe = fut_probe_text_parse(text, &error);

    g_assert_no_error(error);
    return probe;
}

static void test_whole(void)
{
    g_autoptr(FutProbeText) probe =
        parsed("# who dies\nkprobe:__send_signal_locked\n"
               "/sig==SIGSEGV && t->comm != \"a b\" || info . code & 0x80/ # and why\n"
               "{ number=sig, t->mm.pgd , comm }");

    g_assert_cmpstr(probe->function, ==, "__send_signal_locked");
    g_assert_cmpuint(probe->condition_count, ==, 3);
    g_assert_cmpint(probe->conditions[0].op, ==, FUT_OP_EQUAL);
    g_assert_cmpint(probe->conditions[0].number, ==, 11);
    g_assert_false(probe->conditions[0].or_before);
    g_assert_cmpstr(probe->conditions[1].text, ==, "a b");
    g_assert_cmpint(probe->conditions[1].op, ==, FUT_OP_UNEQUAL);
    g_assert_false(probe->conditions[1].or_before);
    g_assert_cmpint(probe->conditions[2].op, ==, FUT_OP_BITS);
    g_assert_cmpint(probe->conditions[2].number, ==, 128);
    g_assert_true(probe->conditions[2].or_before);
    g_assert_cmpuint(probe->field_count, ==, 3);
    g_assert_cmpstr(probe->fields[0].label, ==, "number");
    g_assert_cmpstr(probe->fields[0].names[0], ==, "sig");
    g_assert_cmpstr(probe->fields[1].label, ==, "t->mm->pgd");
    g_assert_cmpuint(probe->fields[1].count, ==, 3);
    g_assert_cmpstr(probe->fields[2].label, ==, "comm");
}

static void test_short(void)
{
    g_autoptr(FutProbeText) probe = parsed(" kprobe:panic ");
    g_autoptr(FutProbeText) numbers = parsed("kprobe:f /a < -5 && b >= 18446744073709551615/");

    g_autoptr(FutProbeText) leaving = parsed("kretprobe:f { retval }");
    g_assert_cmpstr(probe->function, ==, "panic");
    g_assert_true(leaving->is_return && !probe->is_return);
    g_assert_cmpuint(probe->condition_count + probe->field_count, ==, 0);
    g_assert_cmpint(numbers->conditions[0].number, ==, -5);
    g_assert_cmphex((guint64)numbers->conditions[1].number, ==, UINT64_MAX);
    g_assert_cmpuint(numbers->conditions[1].other.count, ==, 0);
}

static void test_points(void)
{
    static const struct {
        const char *text, *module, *point;
        unsigned offset;
    } cases[] = {
        { "kprobe:f", NULL, "f", 0 },
        { "kprobe:f+0", NULL, "f", 0 },
        { "kprobe:f+18/a == 1/", NULL, "f+0x12", 18 },
        { "kprobe: m : f + 0xFFFF { a }", "m", "m:f+0xffff", 65535 },
        { "kretprobe:m:f", "m", "m:f", 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(FutProbeText) probe = parsed(cases[i].text);
        g_autofree char *point = fut_probe_text_point(probe);
        g_assert_cmpstr(probe->module, ==, cases[i].module);
        g_assert_cmpstr(probe->function, ==, "f");
        g_assert_cmpuint(probe->offset, ==, cases[i].offset);
        g_assert_cmpstr(point, ==, cases[i].point);
    }
}

static void test_two_values(void)
{
    g_autoptr(FutProbeText) probe = parsed("kprobe:f /a->b > c.d && e != 1/");

    g_assert_cmpuint(probe->condition_count, ==, 2);
    g_assert_cmpstr(probe->conditions[0].value.label, ==, "a->b");
    g_assert_cmpstr(probe->conditions[0].other.label, ==, "c->d");
    g_assert_cmpuint(probe->conditions[0].other.count, ==, 2);
    g_assert_cmpuint(probe->conditions[1].other.count, ==, 0);
}

static void test_wrong(void)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "at character 1: expected kprobe:FUNCTION or kretprobe:FUNCTION, not the end" },
        { "uprobe:f", "or kretprobe:FUNCTION, not 'uprobe:f'" },
        { "kretprobe:", "at character 11: expected a function's name" },
        { "kprobe:", "at character 8: expected a function's name" },
        { "kprobe:5", "at character 8: expected a function's name" },
        { "kprobe:m:", "at character 10: expected a function's name" },
        { "kprobe:m:n:f", "expected /FILTER/" },
        { "kprobe:f+", "at character 10: expected how many bytes" },
        { "kprobe:f+-1", "at character 10: expected how many bytes" },
        { "kprobe:f+65536", "at character 10: expected how many bytes" },
        { "kretprobe:f+5", "at character 13: expected no offset" },
        { "kprobe:f g", "at character 10: expected /FILTER/" },
        { "kprobe:f /", "at character 11: expected a parameter's name" },
        { "kprobe:f /a/", "at character 12: expected one of ==" },
        { "kprobe:f /a == /", "at character 16: expected a number" },
        { "kprobe:f /a == SIGNONE/", "at character 16: expected a number" },
        { "kprobe:f /a == 99999999999999999999/", "at character 16: expected a number" },
        { "kprobe:f /a == \"b/", "closing \"" },
        { "kprobe:f /a < \"b\"/", "== and != only" },
        { "kprobe:f /a == b->/", "expected a member's name" },
        { "kprobe:f /a == b == c/", "expected &&" },
        { "kprobe:f /a == 1", "expected &&, || or the filter's closing /, not the end" },
        { "kprobe:f /a == 1 &&/", "expected a parameter's name" },
        { "kprobe:f {", "expected a parameter's name" },
        { "kprobe:f { a->}", "expected a member's name, not '}'" },
        { "kprobe:f { a b }", "expected ',' or '}', not 'b'" },
        { "kprobe:f { a } x", "expected /FILTER/, { FIELDS } or the end, not 'x'" },
        { "kprobe:f { a, b, a }", "two fields are called 'a'" },
        { "kprobe:f { a->b->c->d->e->f->g->h->i->j }", "no more members" },
        { "kprobe:f { a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q }", "at most 16 fields" },
        { "kprobe:f /a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1&&a==1/",
          "at most 16 conditions" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fut_probe_text_parse(cases[i].text, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        if (!strstr(error->message, cases[i].says)) {
            g_error("%s: %s", cases[i].text, error->message);
        }
    }
}

static void test_narrow(void)
{
    g_autoptr(FutProbeText) probe = parsed("kprobe:f /a == 1/ { b }");
    g_autoptr(FutProbeText) any = parsed("kprobe:f");
    g_autoptr(FutProbeText) either = parsed("kprobe:f /a == 1 || b == 1/");
    g_autoptr(GError) error = NULL;

    g_assert_true(fut_probe_text_narrow(probe, "c == 2 && d == \"x\"", &error));
    g_assert_cmpuint(probe->condition_count, ==, 3);
    g_assert_true(fut_probe_text_narrow(any, "c == 2 || d == 3", &error));
    g_assert_no_error(error);
    g_assert_false(fut_probe_text_narrow(probe, "c == 2 || d == 3", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_false(fut_probe_text_narrow(either, "c == 2", &error));
    g_clear_error(&error);
    g_assert_false(fut_probe_text_narrow(any, "c == 2 /", &error));
    g_assert_nonnull(strstr(error->message, "at character 8"));
}

/* Whatever a client sends: an answer or an error, never more. */
static void test_anything(void)
{
    static const char *const pieces[] = { "kprobe:", "f",  " /",   "/",       "{", "}",  "a",
                                          "->",      ".",  "==",   "<",       "&", "&&", "||",
                                          "\"",      "11", "0x",   "SIGSEGV", ",", "=",  "#",
                                          "\n",      "-",  "\xff", "pid" };
    g_autoptr(GRand) random = g_rand_new_with_seed(3);

    for (unsigned round = 0; round < 50000; round++) {
        g_autoptr(GString) text = g_string_new(round % 2 ? "kprobe:f " : "");
        g_autoptr(GError) error = NULL;
        for (int i = g_rand_int_range(random, 0, 40); i > 0; i--) {
            g_string_append(text, pieces[g_rand_int_range(random, 0, G_N_ELEMENTS(pieces))]);
        }
        g_autoptr(FutProbeText) probe = fut_probe_text_parse(text->str, &error);
        g_assert_true((probe == NULL) == (error != NULL));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/probe-text/whole", test_whole);
    g_test_add_func("/probe-text/short", test_short);
    g_test_add_func("/probe-text/points", test_points);
    g_test_add_func("/probe-text/two-values", test_two_values);
    g_test_add_func("/probe-text/wrong", test_wrong);
    g_test_add_func("/probe-text/narrow", test_narrow);
    g_test_add_func("/probe-text/anything", test_anything);
    return g_test_run();
}
