/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_show.h"

#include <string.h>

#include "cli.h"

#define BAR 24

static char *bar_of(double share)
{
    char bar[BAR + 1];
    int full = (int)(CLAMP(share, 0, 1) * BAR);

    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)full);
    bar[BAR] = '\0';
    return g_strdup_printf("[%s] %3.0f %%", bar, 100 * CLAMP(share, 0, 1));
}

static bool has_bar(const char *phase)
{
    return strcmp(phase, "memory") == 0 || strcmp(phase, "disks") == 0;
}

char *fut_relocate_line(const json_t *told, int width)
{
    const char *vm = fut_cli_text(told, "vm"), *phase = fut_cli_text(told, "phase");
    const char *text = fut_cli_text(told, "text"), *outcome = fut_cli_text(told, "outcome");

    if (*outcome) {
        return g_strdup_printf("%-*s  %s: %s", width, vm, outcome, text);
    }
    if (strcmp(phase, "held") == 0) {
        return g_strdup_printf("%-*s  %-9s  ready: press Enter to switch over", width, vm, phase);
    }
    if (!has_bar(phase)) {
        return g_strdup_printf("%-*s  %-9s  %s", width, vm, phase, text);
    }
    double rate = fut_cli_value(told, "rate");
    g_autofree char *bar = bar_of(fut_cli_value(told, "share"));
    g_autofree char *speed = rate > 0 ? g_strdup_printf("  %.1f MB/s", rate / 1e6) : g_strdup("");
    return g_strdup_printf("%-*s  %-9s  %s%s  %s", width, vm, phase, bar, speed, text);
}
