/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago snapshot: back to an earlier instant of a VM. One word more says what; each word has options of its own. */
#include <stdio.h>
#include <string.h>

#include "cli_snapshot.h"
#include "fut_error.h"
#include "snapshot_live.h"

static const struct {
    const char *name, *summary;
    bool (*run)(int argc, char **argv, GError **error);
} words[] = {
    { "create", "Take one of a running VM", fut_snapshot_live_create },
    { "auto", "Take them by a schedule", fut_snapshot_live_auto },
    { "status", "What is under way, the last one, the schedule", fut_snapshot_live_status },
    { "list", "What is in a store", fut_snapshot_store_word },
    { "show", "All there is to say of one", fut_snapshot_store_word },
    { "verify", "Read a store: what is damaged, and what that costs", fut_snapshot_store_word },
    { "delete", "Remove some", fut_snapshot_store_word },
    { "prune", "Keep a store within bounds", fut_snapshot_store_word },
    { "export", "Copy one into a store of its own", fut_snapshot_store_word },
    { "diff", "What differs between two", fut_snapshot_store_word },
};

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static bool run(int argc, char **argv, GError **error)
{
    const char *names[G_N_ELEMENTS(words)];

    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(words); i++) {
        names[i] = words[i].name;
        if (strcmp(argv[1], words[i].name) == 0) {
            return words[i].run(argc - 1, argv + 1, error);
        }
    }
    if (argc > 1 && is_help(argv[1])) {
        printf("usage: futago snapshot WORD [OPTION...]\n\n");
        for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
            printf("  %-8s %s (futago snapshot %s --help)\n", words[i].name, words[i].summary,
                   words[i].name);
        }
        return true;
    }
    const char *nearest = argc > 1 ? fut_cli_nearest(argv[1], names, G_N_ELEMENTS(names)) : NULL;
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "snapshot%s%s: %s%s%s", argc > 1 ? " " : "",
                argc > 1 ? argv[1] : "", nearest ? "did you mean '" : "see futago snapshot --help",
                nearest ? nearest : "", nearest ? "'?" : "");
    return false;
}

const FutCommand fut_cmd_snapshot = {
    .name = "snapshot",
    .usage = "WORD ...",
    .summary = "Take and manage snapshots of a VM",
    .run = run,
};
