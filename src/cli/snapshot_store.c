/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago snapshot: the words about a store, what is in it and keeping it in order. */
#include <stdio.h>
#include <string.h>

#include "cli_snapshot.h"
#include "fut_error.h"

/* -- list, show, delete -- */

static GPtrArray *of_vm(GPtrArray *all, const char *vm)
{
    for (guint i = all->len; vm && i-- > 0;) {
        if (strcmp(((FutSnapshotInfo *)all->pdata[i])->vm, vm) != 0) {
            g_ptr_array_remove_index(all, i);
        }
    }
    return all;
}

static bool list(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    g_autoptr(FutStore) store = fut_store_open(argv[0], FUT_STORE_READ, error);
    g_autoptr(GPtrArray) damaged = NULL;
    g_autoptr(GPtrArray) all = store ? fut_store_list(store, &damaged, error) : NULL;

    if (!all) {
        return false;
    }
    of_vm(all, options->vm);
    if (options->json) {
        json_t *list_json = json_array();
        for (guint i = 0; i < all->len; i++) {
            json_array_append_new(list_json, fut_snapshot_json(all->pdata[i], false));
        }
        fut_snapshot_print_json(list_json);
    } else if (all->len > 0) {
        g_autofree char *table = fut_snapshot_table(all);
        printf("%s", table);
    } else {
        printf("no snapshot in %s\n", argv[0]);
    }
    for (guint i = 0; i < damaged->len; i++) {
        fprintf(stderr, "futago: %s\n", ((FutDamagedSnapshot *)damaged->pdata[i])->what);
    }
    return true;
}

/* The store, open, and the snapshot that "STORE[@WHICH]" names. */
static FutStore *open_one(const char *word, FutStoreMode mode, const FutSnapshotOptions *options,
                          FutSnapshotInfo **ret_info, GError **error)
{
    g_autofree char *path = NULL, *which = NULL;

    fut_snapshot_split(word, &path, &which);
    g_autoptr(FutStore) store = fut_store_open(path, mode, error);
    *ret_info = store ? fut_store_find(store, which, options->vm, error) : NULL;
    return *ret_info ? g_steal_pointer(&store) : NULL;
}

static bool show(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    g_autoptr(FutSnapshotInfo) info = NULL;
    g_autoptr(FutStore) store = open_one(argv[0], FUT_STORE_READ, options, &info, error);

    if (store && options->json) {
        fut_snapshot_print_json(fut_snapshot_json(info, true));
    } else if (store) {
        g_autofree char *block = fut_snapshot_block(info);
        printf("%s", block);
    }
    return store != NULL;
}

/* By number without reading it: also one that is damaged. */
static bool delete_one(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    g_autoptr(FutStore) store = fut_store_open(argv[0], FUT_STORE_WRITE, error);

    for (int i = 1; store && i < argc; i++) {
        guint64 id;
        if (!g_ascii_string_to_unsigned(argv[i], 10, 1, G_MAXINT64, &id, NULL)) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "snapshot delete: '%s' is no ID (futago snapshot list shows them)",
                        argv[i]);
            return false;
        }
        if (!fut_store_delete(store, id, error)) {
            return false;
        }
    }
    return store != NULL;
}

/* -- finding the verb -- */

static const struct {
    const char *name;
    FutSnapshotVerb run;
    int min, max; /* words after it */
    const char *words;
} verbs[] = {
    { "list", list, 1, 1, "STORE" },
    { "show", show, 1, 1, "STORE[@WHICH]" },
    { "verify", fut_snapshot_verify, 1, 1, "STORE" },
    { "delete", delete_one, 2, 10000, "STORE ID..." },
    { "prune", fut_snapshot_prune, 1, 1, "STORE" },
    { "export", fut_snapshot_export, 2, 2, "STORE[@WHICH] FOLDER" },
    { "diff", fut_snapshot_diff, 3, 3, "STORE A B" },
};

static bool dispatch(int argc, char **argv, const FutSnapshotOptions *options, GError **error)
{
    size_t at = 0;

    while (strcmp(verbs[at].name, argv[0]) != 0) {
        at++;
        g_assert(at < G_N_ELEMENTS(verbs));
    }
    if (argc - 1 < verbs[at].min || argc - 1 > verbs[at].max) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "snapshot %s: give %s", argv[0],
                    verbs[at].words);
        return false;
    }
    return verbs[at].run(argc - 1, argv + 1, options, error);
}

static void options_done(FutSnapshotOptions *options)
{
    g_free(options->vm);
    g_free(options->keep);
    g_free(options->hourly);
    g_free(options->daily);
    g_free(options->max_bytes);
    g_free(options->min_free);
}

bool fut_snapshot_store_word(int argc, char **argv, GError **error)
{
    FutSnapshotOptions o = { 0 };
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &o.json, "As JSON", NULL },
        { "vm", 0, 0, G_OPTION_ARG_FILENAME, &o.vm, "Snapshots of this VM only", "VM" },
        { "contents", 0, 0, G_OPTION_ARG_NONE, &o.contents,
          "verify: also hash each snapshot's memory, where a hash was taken", NULL },
        { "keep", 0, 0, G_OPTION_ARG_FILENAME, &o.keep, "prune: keep the newest N of each VM",
          "N" },
        { "hourly", 0, 0, G_OPTION_ARG_FILENAME, &o.hourly, "prune: and the last of N hours", "N" },
        { "daily", 0, 0, G_OPTION_ARG_FILENAME, &o.daily, "prune: and the last of N days", "N" },
        { "max-bytes", 0, 0, G_OPTION_ARG_FILENAME, &o.max_bytes,
          "prune: no more than that in the store, oldest first", "SIZE" },
        { "min-free", 0, 0, G_OPTION_ARG_FILENAME, &o.min_free,
          "prune: until so much is free in the file system, oldest first", "SIZE" },
        { "dry-run", 0, 0, G_OPTION_ARG_NONE, &o.dry_run, "prune: only say what would go", NULL },
        { 0 },
    };

    bool good = fut_cli_parse(&fut_cmd_snapshot, entries, &argc, argv, error) &&
                dispatch(argc, argv, &o, error);
    options_done(&o);
    return good;
}
