/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's status as people read it. */
#include <string.h>

#include "cli_disk.h"
#include "disk_plot.h"

static json_t *a_status(double share, const char *state)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:s, s:b, s:i, s:i, s:f, s:f, s:i, s:f}",
                     "disk", "web", "state", state, "reason", "", "size", 1 << 30, "here",
                     share * (1 << 30), "share", share, "policy", "hot-first", "adaptive", 1,
                     "rate_limit", 0, "rate", 64 << 20, "left_s", (1 - share) * 16, "hit_ratio",
                     0.75, "reads", 200, "fetch_ms", 20.3);
}

static void test_line(void)
{
    const double shares[] = { 0, 0.25, 0.5 };
    json_t *status = a_status(0.5, "copying");
    g_autofree char *line = fut_disk_line(status, shares, 3);
    g_assert_cmpstr(line, ==,
                    "web [############............] 50.0 % copying, 67.1 MB/s, 8 s left  ▁▃▅");
    json_decref(status);

    status = a_status(0.99999, "paused");
    g_autofree char *almost = fut_disk_line(status, NULL, 0);
    g_assert_nonnull(strstr(almost, "] 99.9 % paused"));
    json_decref(status);

    status = a_status(1, "complete");
    g_autofree char *done = fut_disk_line(status, NULL, 0);
    g_assert_cmpstr(done, ==, "web [########################] 100.0 % complete");
    json_decref(status);
}

static void test_block(void)
{
    json_t *status = a_status(0.25, "copying");
    g_autofree char *block = fut_disk_block(status);
    g_assert_nonnull(strstr(block, "of 1.07 GB, 25.0 %\n"));
    g_assert_nonnull(strstr(block, "(no limit, adaptive)\n"));
    g_assert_nonnull(strstr(block, "time left   12 s\n"));
    g_assert_nonnull(strstr(block, "reads       200, 75.0 % of them local\n"));
    json_decref(status);
    status = json_object(); /* a disk that tells nothing */
    g_autofree char *nothing = fut_disk_block(status);
    g_assert_nonnull(nothing);
    json_decref(status);
}

static char *plot(const char *points, GError **error)
{
    json_t *curve = json_pack("{s:s, s:o}", "disk", "<web>", "points", json_loads(points, 0, NULL));
    char *svg = fut_disk_plot(curve, error);

    json_decref(curve);
    return svg;
}

static void test_plot(void)
{
    static const char *const wrong[] = { "[]",    "[[0, 0], [1, 1.5]]", "[[1, 0], [0, 1]]",
                                         "[[0]]", "[[0, 0], 7]",        "[[0, -1]]" };
    g_autofree char *svg = plot("[[0, 0], [10, 0.5], [20.0, 1]]", NULL);
    g_autofree char *one = plot("[[0, 1]]", NULL);

    g_assert_nonnull(strstr(svg, "&lt;web&gt;: share of the disk"));
    g_assert_nonnull(strstr(svg, "points=\"60.00,332.00 378.00,188.00 696.00,44.00 \""));
    g_assert_nonnull(strstr(svg, ">15</text>"));
    g_assert_null(strstr(svg, ">25</text>"));
    g_assert_nonnull(strstr(one, "points=\"60.00,44.00 \""));
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(plot(wrong[i], &error));
        g_assert_nonnull(strstr(error->message, "'<web>' tells no curve"));
    }
}

static void test_sizes(void)
{
    uint64_t size = 0;

    g_assert_true(fut_disk_parse_size("50M", &size));
    g_assert_cmpuint(size, ==, 50 << 20);
    g_assert_true(fut_disk_parse_size("7", &size));
    g_assert_cmpuint(size, ==, 7);
    g_assert_true(fut_disk_parse_size("1t", &size));
    g_assert_cmpuint(size, ==, 1ull << 40);
    const char *const wrong[] = { "", "M", "-1", "0", "1.5M", "9999999T", "5X", "5 M" };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_assert_false(fut_disk_parse_size(wrong[i], &size));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli-disk/line", test_line);
    g_test_add_func("/cli-disk/block", test_block);
    g_test_add_func("/cli-disk/plot", test_plot);
    g_test_add_func("/cli-disk/sizes", test_sizes);
    return g_test_run();
}
