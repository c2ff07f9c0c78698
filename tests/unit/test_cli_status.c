/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A status in words: numbers with units, the table, the block, and what a VM does not tell. */
#include <string.h>

#include "cli_status.h"

static json_t *status_of(const char *text)
{
    json_t *status = json_loads(text, 0, NULL);

    g_assert_nonnull(status);
    return status;
}

static void check_us(double us, const char *expected)
{
    g_autofree char *text = fut_text_of_us(us);
    g_assert_cmpstr(text, ==, expected);
}

static void check_bytes(double bytes, const char *expected)
{
    g_autofree char *text = fut_text_of_bytes(bytes);
    g_assert_cmpstr(text, ==, expected);
}

static void test_numbers(void)
{
    check_us(0, "0 us");
    check_us(92.4, "92 us");
    check_us(1250, "1.25 ms");
    check_us(25000, "25.0 ms");
    check_us(250000, "250 ms");
    check_us(7.2e9, "7200 s");
    check_bytes(512, "512 B");
    check_bytes(1536, "1.54 KB");
    check_bytes(2.5e6, "2.50 MB");
    check_bytes(9e18, "9000000 TB");
}

static const char full[] =
    "{\"vm\":\"web\",\"node\":\"hostA\",\"role\":\"primary\",\"state\":\"protected\","
    "\"mode\":\"pipeline\",\"linked\":true,\"running\":true,\"generation\":3,\"epoch\":1201,"
    "\"committed\":1200,\"peer\":\"hostB\",\"peer_address\":\"tcp:10.0.0.2:7100\",\"reason\":\"\","
    "\"checkpoints\":1200,\"checkpoints_per_s\":39.6,\"bytes_per_s\":2500000,"
    "\"pause_us\":{\"p50\":92,\"p99\":250},\"commit_us\":{\"p50\":200,\"p99\":1250},"
    "\"pages_per_checkpoint\":31.4,\"bytes_per_checkpoint\":63000,\"outputs_held\":2,"
    "\"outputs_released\":5000,\"outputs_dropped\":0,\"lag_us\":300,\"copy_share\":1,"
    "\"tracker\":\"queue\",\"collect_us\":{\"p50\":3,\"p99\":9},\"arbiter\":\"file:/a\"}";

static void check_contains(const char *text, const char *words)
{
    if (!strstr(text, words)) {
        g_error("no '%s' in:\n%s", words, text);
    }
}

static void test_block(void)
{
    static const char *const expected[] = {
        "vm                   web\n",
        "role                 primary on hostA, guest runs\n",
        "state                protected\n",
        "protects             yes: ",
        "peer                 hostB at tcp:10.0.0.2:7100\n",
        "mode                 pipeline\n",
        "generation           3\n",
        "epoch                1201\n",
        "committed            1200\n",
        "checkpoints          40/s, 1200 in all\n",
        "pause p50 / p99      92 us / 250 us\n",
        "written pages        by queue, 3 us / 9 us\n",
        "commit p50 / p99     200 us / 1.25 ms\n",
        "per checkpoint       31 pages, 63.0 KB\n",
        "bytes/s              2.50 MB\n",
        "lag                  300 us\n",
        "outputs held         2 (5000 released, 0 dropped)\n",
    };
    json_t *status = status_of(full);
    g_autofree char *block = fut_status_block(status);

    for (size_t i = 0; i < G_N_ELEMENTS(expected); i++) {
        check_contains(block, expected[i]);
    }
    g_assert_null(strstr(block, "reason"));
    json_decref(status);
}

static void test_block_of_backup(void)
{
    json_t *status = status_of("{\"vm\":\"web\",\"role\":\"backup\",\"state\":\"receiving\","
                               "\"reason\":\"why\",\"applied\":7,\"takeover_us\":1500,"
                               "\"verified\":4,\"verify_failed\":1}");
    g_autofree char *block = fut_status_block(status);

    check_contains(block, "protects             no: memory is still coming in\n");
    check_contains(block, "reason               why\n");
    check_contains(block, "applied              7\n");
    check_contains(block, "took over in         1.50 ms\n");
    check_contains(block, "memory compared      4 equal, 1 different\n");
    json_decref(status);
}

static void test_cover(void)
{
    json_t *status = status_of("{\"state\":\"protected\",\"protects_against\":[\"this\",\"that\"],"
                               "\"not_against\":[{\"what\":\"rain\",\"remedy\":\"a hat\"},"
                               "{\"what\":\"snow\",\"remedy\":\"\"}]}");
    g_autofree char *block = fut_status_block(status);

    check_contains(block, "  against            this, that\n"
                          "  not against        rain (a hat)\n"
                          "                     snow\n");
    json_decref(status);
}

static void test_link(void)
{
    static const struct {
        const char *status, *line;
    } cases[] = {
        { "{\"tls\":\"none\",\"tls_peer\":\"\"}", "link                 not encrypted\n" },
        { "{\"tls\":\"psk\",\"tls_peer\":\"\"}", "link                 encrypted (psk)\n" },
        { "{\"tls\":\"x509\",\"tls_peer\":\"hostb\"}",
          "link                 encrypted (x509), with hostb\n" },
        { "{\"tls\":\"none\",\"turned_away\":\"somebody\"}", "turned away          somebody\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *status = status_of(cases[i].status);
        g_autofree char *block = fut_status_block(status);
        check_contains(block, cases[i].line);
        json_decref(status);
    }
}

/* A module of another version, or one that talks nonsense. */
static void test_missing(void)
{
    static const char *const odd[] = {
        "{}",
        "{\"state\":\"dancing\"}",
        "{\"vm\":5,\"role\":[],\"state\":null,\"generation\":\"x\",\"pause_us\":7,\"lag_us\":{},"
        "\"commit_us\":{\"p50\":\"x\"},\"running\":1,\"copy_share\":\"x\",\"protects_against\":[1],"
        "\"not_against\":{}}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
        json_t *status = status_of(odd[i]);
        g_autofree char *block = fut_status_block(status);
        check_contains(block, "protects             no: ");
        check_contains(block, "generation           -\n");
        FutTable *table = fut_table_new();
        fut_table_add(table, status);
        g_autofree char *text = fut_table_end(table);
        check_contains(text, " - ");
        json_decref(status);
    }
}

/* Every column begins at the same place in every row. */
static void test_table(void)
{
    json_t *status = status_of(full);
    FutTable *table = fut_table_new();

    fut_table_add(table, status);
    fut_table_add_silent(table, "a-much-longer-name-than-web", "no answer");
    g_autofree char *text = fut_table_end(table);
    g_auto(GStrv) rows = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(rows), ==, 4);
    g_assert_cmpstr(rows[3], ==, "");
    size_t state = strstr(rows[0], "STATE") - rows[0];
    size_t peer = strstr(rows[0], "PEER") - rows[0];
    g_assert_true(g_str_has_prefix(rows[1] + state, "protected "));
    g_assert_true(g_str_has_prefix(rows[2] + state, "no answer "));
    g_assert_cmpstr(rows[1] + peer, ==, "hostB");
    g_assert_cmpstr(rows[2] + peer, ==, "-");
    json_decref(status);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/status/numbers", test_numbers);
    g_test_add_func("/cli/status/block", test_block);
    g_test_add_func("/cli/status/block-of-backup", test_block_of_backup);
    g_test_add_func("/cli/status/cover", test_cover);
    g_test_add_func("/cli/status/link", test_link);
    g_test_add_func("/cli/status/missing", test_missing);
    g_test_add_func("/cli/status/table", test_table);
    return g_test_run();
}
