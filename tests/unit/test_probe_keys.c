/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions: keys, alternatives, and what a record then says. */
#include <glib.h>
#include <string.h>

#include "fut_error.h"
#include "probe_says.h"

static FutProbeKeys *parse(const char *text)
{
    GError *error = NULL;
    FutProbeKeys *keys = fut_probe_keys_parse(text, &error);

    g_assert_no_error(error);
    return keys;
}

static void test_plain(void)
{
    g_autoptr(FutProbeKeys) keys = parse(" kprobe:panic { fmt }");

    g_assert_cmpint(keys->severity, ==, FUT_SEVERITY_INFO);
    g_assert_false(keys->has_consequences);
    g_assert_cmpuint(keys->action_count, ==, 1);
    g_assert_cmpint(keys->actions[0].deed, ==, FUT_DO_REPORT);
    g_assert_cmpuint(keys->limit_s, ==, FUT_PROBE_LIMIT_S);
    g_assert_cmpuint(keys->probe_count, ==, 1);
    g_assert_cmpstr(g_strchug(keys->probes[0]), ==, "kprobe:panic { fmt }");
}

static void test_keys(void)
{
    g_autoptr(FutProbeKeys) keys =
        parse("# else severity=info\nseverity=critical scope=host says=\"it else # ends\"\n"
              "on=command:/bin/a,ask:/b,failover-anyway limit=7 holds=60 severity=info\n"
              "means=\"call\" about=disk kprobe:panic");

    g_assert_cmpint(keys->severity, ==, FUT_SEVERITY_CRITICAL); /* the first counts */
    g_assert_cmpint(keys->scope, ==, FUT_SCOPE_HOST);
    g_assert_true(keys->has_consequences);
    g_assert_cmpstr(keys->says, ==, "it else # ends");
    g_assert_cmpstr(keys->means, ==, "call");
    g_assert_cmpstr(keys->about, ==, "disk");
    g_assert_cmpuint(keys->action_count, ==, 3);
    g_assert_cmpint(keys->actions[0].deed, ==, FUT_DO_COMMAND);
    g_assert_cmpstr(keys->actions[0].path, ==, "/bin/a");
    g_assert_cmpint(keys->actions[1].deed, ==, FUT_DO_ASK);
    g_assert_cmpint(keys->actions[2].deed, ==, FUT_DO_FAILOVER_ANYWAY);
    g_assert_null(keys->actions[2].path);
    g_assert_cmpuint(keys->limit_s, ==, 7);
    g_assert_cmpuint(keys->holds_s, ==, 60);
}

/* Each alternative stands where it stood, so that positions in it are the definition's. */
static void test_alternatives(void)
{
    const char *text =
        "scope=system\nkprobe:a /x == \" else \"/ # else\n{ y }\nelse kprobe:b else\nkprobe:c";
    g_autoptr(FutProbeKeys) keys = parse(text);

    g_assert_cmpuint(keys->probe_count, ==, 3);
    for (unsigned i = 0; i < 3; i++) {
        const char *name = strchr(keys->probes[i], 'k');
        g_assert_true(g_str_has_prefix(text + (name - keys->probes[i]), name));
        g_assert_cmpint(name[7], ==, 'a' + (int)i);
    }
    g_assert_nonnull(strstr(keys->probes[0], "{ y }"));
    g_assert_null(strstr(keys->probes[0], "kprobe:b"));
}

static void test_wrong(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "severity=bad kprobe:a", "at character 1: expected severity=info" },
        { "scope=host sverity=info kprobe:a", "at character 12: expected severity=" },
        { "on=command kprobe:a", "expected on=report" },
        { "on=command:sh kprobe:a", "expected on=report" },
        { "on=failover:/bin/sh kprobe:a", "expected on=report" },
        { "on=snapshot:here kprobe:a", "expected on=report" },
        { "on=report, kprobe:a", "expected on=report" },
        { "on= kprobe:a", "expected on=report" },
        { "on=report,report,report,report,report,report,report,report,report kprobe:a",
          "at most 8" },
        { "limit=0 kprobe:a", "1 to 300" },
        { "holds=1h kprobe:a", "holds=SECONDS" },
        { "says=\"no end\nkprobe:a", "at character 6: expected a closing" },
        { "kprobe:a else kprobe:b else kprobe:c else kprobe:d else kprobe:e", "at most 4" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fut_probe_keys_parse(cases[i].text, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
        if (!strstr(error->message, cases[i].message)) {
            g_error("'%s': %s", cases[i].text, error->message);
        }
    }
    g_autofree char *longer = g_strnfill(FUT_PROBE_TEXT_MAX + 1, ' ');
    g_assert_null(fut_probe_keys_parse(longer, NULL));
}

/* -- what a record says -- */

static void check_says(const char *says, const char *expected)
{
    g_autofree char *text = g_strdup_printf("says=\"%s\" kprobe:f", says);
    g_autoptr(FutProbeKeys) keys = parse(text);
    FutProbe probe = { .keys = keys,
                       .point = (char *)"f",
                       .field_count = 5,
                       .labels = { (char *)"sig", (char *)"code", (char *)"sender_comm",
                                   (char *)"error", (char *)"gone" } };
    FutProbeValue values[] = { { FUT_VALUE_SIGNED, 128 + 11, "" },
                               { FUT_VALUE_SIGNED, (uint64_t)-6, "" },
                               { FUT_VALUE_TEXT, 0, "in\tit" },
                               { FUT_VALUE_SIGNED, (uint64_t)-28, "" },
                               { FUT_VALUE_NONE, 0, "" } };
    g_autofree char *line = fut_probe_says(&probe, values);

    g_assert_cmpstr(line, ==, expected);
}

static void test_says(void)
{
    check_says("{sig:signal}!", "SIGSEGV!");
    check_says("{error:error} {error}", "ENOSPC (28) -28");
    check_says("by {code:sender}", "by in it/?");
    check_says("by {sig:sender}", "by the kernel");
    check_says("{sig:hex} {sender_comm:hex}", "0x8b {sender_comm:hex}");
    check_says("{gone:signal}{gone}", "??");
    check_says("{other} {sig:other} {sig", "{other} {sig:other} {sig");
    check_says("", "f() sig=139 code=-6 sender_comm=in it error=-28 gone=?");
}

/* Nothing that the guest wrote makes a line longer, or anything but text. */
static void test_hostile(void)
{
    g_autoptr(FutProbeKeys) keys = parse("says=\"{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}\" kprobe:f");
    FutProbe probe = {
        .keys = keys, .point = (char *)"f", .field_count = 1, .labels = { (char *)"a" }
    };
    FutProbeValue value = { FUT_VALUE_TEXT, 0, "" };

    memset(value.text, 0xc3, sizeof(value.text) - 1);
    g_autofree char *line = fut_probe_says(&probe, &value);
    g_assert_cmpuint(strlen(line), <=, FUT_PROBE_CAUSE_MAX);
    g_assert_true(g_utf8_validate(line, -1, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/probe-keys/plain", test_plain);
    g_test_add_func("/probe-keys/keys", test_keys);
    g_test_add_func("/probe-keys/alternatives", test_alternatives);
    g_test_add_func("/probe-keys/wrong", test_wrong);
    g_test_add_func("/probe-keys/says", test_says);
    g_test_add_func("/probe-keys/hostile", test_hostile);
    return g_test_run();
}
