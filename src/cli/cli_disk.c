/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli_disk.h"

#include <string.h>

#include "cli.h"
#include "cli_status.h"

#define BAR_CELLS 24
#define CURVE_CELLS 24

/* At the present rate; -1: cannot be told. */
static double seconds_left(const json_t *status)
{
    const json_t *left = json_object_get(status, "left_s");

    return json_is_number(left) ? json_number_value(left) : -1;
}

static void add_curve(GString *line, const double *shares, size_t count)
{
    static const char *const levels[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    size_t cells = MIN(count, CURVE_CELLS);

    for (size_t i = 0; i < cells; i++) {
        double share = shares[cells < 2 ? 0 : i * (count - 1) / (cells - 1)];
        g_string_append(line, levels[CLAMP((int)(share * 8), 0, 7)]);
    }
}

char *fut_disk_line(const json_t *status, const double *shares, size_t count)
{
    GString *line = g_string_new(NULL);
    double share = fut_cli_value(status, "share"), left_s = seconds_left(status);
    g_autofree char *rate = fut_text_of_bytes(fut_cli_value(status, "rate"));

    g_string_printf(line, "%s [", fut_cli_text(status, "disk"));
    for (int i = 0; i < BAR_CELLS; i++) {
        g_string_append_c(line, i < (int)(share * BAR_CELLS) ? '#' : '.');
    }
    /* 100 % is said of nothing but all of it. */
    g_string_append_printf(line, "] %.1f %% %s", share < 1 ? MIN(100 * share, 99.9) : 100.0,
                           fut_cli_text(status, "state"));
    if (strcmp(fut_cli_text(status, "state"), "complete") != 0) {
        g_string_append_printf(line, ", %s/s", rate);
        if (left_s >= 0) {
            g_string_append_printf(line, ", %.0f s left", left_s);
        }
    }
    if (count > 1) {
        g_string_append(line, "  ");
        add_curve(line, shares, count);
    }
    return g_string_free(line, FALSE);
}

char *fut_disk_block(const json_t *status)
{
    GString *text = g_string_new(NULL);
    double left_s = seconds_left(status), limit = fut_cli_value(status, "rate_limit");
    const char *reason = fut_cli_text(status, "reason");
    g_autofree char *here = fut_text_of_bytes(fut_cli_value(status, "here"));
    g_autofree char *size = fut_text_of_bytes(fut_cli_value(status, "size"));
    g_autofree char *rate = fut_text_of_bytes(fut_cli_value(status, "rate"));
    g_autofree char *most = limit > 0 ? fut_text_of_bytes(limit) : g_strdup("no limit");
    double share = fut_cli_value(status, "share");
    bool adaptive = json_is_true(json_object_get(status, "adaptive"));

    g_string_append_printf(text, "disk        %s\n", fut_cli_text(status, "disk"));
    g_string_append_printf(text, "state       %s%s%s\n", fut_cli_text(status, "state"),
                           *reason ? ": " : "", reason);
    g_string_append_printf(text, "here        %s of %s, %.1f %%\n", here, size,
                           share < 1 ? MIN(100 * share, 99.9) : 100.0);
    if (*fut_cli_text(status, "source")) {
        g_string_append_printf(text, "source      %s\n", fut_cli_text(status, "source"));
    }
    g_string_append_printf(text, "rate        %s/s (%s%s%s)\n", rate, most, limit > 0 ? "/s" : "",
                           adaptive ? ", adaptive" : "");
    if (left_s >= 0) {
        g_string_append_printf(text, "time left   %.0f s\n", left_s);
    }
    g_string_append_printf(text, "policy      %s\n", fut_cli_text(status, "policy"));
    g_string_append_printf(text, "reads       %.0f, %.1f %% of them local\n",
                           fut_cli_value(status, "reads"),
                           100 * fut_cli_value(status, "hit_ratio"));
    g_string_append_printf(text, "fetches     %.1f ms each\n", fut_cli_value(status, "fetch_ms"));
    return g_string_free(text, FALSE);
}

bool fut_disk_parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    g_autofree char *digits = g_strdup(text);
    size_t length = strlen(text);
    const char *unit = length > 1 ? strchr(units, g_ascii_toupper(text[length - 1])) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    guint64 number = 0;

    if (unit) {
        digits[length - 1] = '\0';
    }
    if (!g_ascii_string_to_unsigned(digits, 10, 1, (guint64)INT64_MAX >> shift, &number, NULL)) {
        return false;
    }
    *ret = number << shift;
    return true;
}
