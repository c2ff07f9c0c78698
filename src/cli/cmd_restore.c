/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago restore: starts QEMU with the module, the guest as a snapshot has it. */
#include <stdio.h>
#include <string.h>

#include "cli_snapshot.h"
#include "cli_start.h"
#include "fut_error.h"

/* Disks that have to be filled: the time they take is the user's to judge. */
#define GO_WAIT_S (24 * 3600)

typedef struct {
    FutStart start;
    gboolean trust, force, lazy, check_hash, keep_connections, keep_clock, ready, go;
    char *vm, *hook;
    char **identities;
} Options;

/* QEMU's command line as it was when the snapshot was taken, without what we had put in. Borrows the words. */
static GPtrArray *recorded_command(const FutSnapshotInfo *info)
{
    GPtrArray *words = g_ptr_array_new();

    for (char **word = info->command; *word; word++) {
        bool takes_next = strcmp(*word, "-plugin") == 0 || strcmp(*word, "-incoming") == 0;
        bool ours = strcmp(*word, "-incoming") == 0 ||
                    (takes_next && word[1] && strstr(word[1], "role=") && strstr(word[1], "name="));
        if (ours && word[1]) {
            word++;
        } else if (strcmp(*word, "-S") != 0) {
            g_ptr_array_add(words, *word);
        }
    }
    g_ptr_array_add(words, NULL);
    return words;
}

/* Whoever wrote the store chose these words: a person has to have seen them. */
static bool check_trust(const Options *options, const FutSnapshotInfo *info, GPtrArray *command,
                        GError **error)
{
    if (command->len < 2) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "snapshot %" G_GUINT64_FORMAT " has no command line: give QEMU's after --",
                    info->id);
        return false;
    }
    if (options->trust) {
        return true;
    }
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i + 1 < command->len; i++) {
        g_autofree char *quoted = g_shell_quote(command->pdata[i]);
        g_string_append_printf(text, " %s", quoted);
    }
    g_autofree char *shown = fut_snapshot_shown(text->str);
    fprintf(stderr, "recorded:%s\n", shown);
    g_set_error(
        error, FUT_ERROR, FUT_ERR_REFUSED,
        "snapshot %" G_GUINT64_FORMAT
        ": its recorded command line (above) is run only with --trust: look at it first, or "
        "give QEMU's command line after --",
        info->id);
    return false;
}

/* "0=auto" gets an address that nobody else has: locally administered, as QEMU's are. */
static char *with_address(const char *identity)
{
    const char *at = strstr(identity, "=auto");

    if (!at || (at[5] && at[5] != ',')) {
        return g_strdup(identity);
    }
    guint32 random = g_random_int();
    return g_strdup_printf("%.*s=52:54:%02x:%02x:%02x:%02x%s", (int)(at - identity), identity,
                           random >> 24, random >> 16 & 255, random >> 8 & 255, random & 255,
                           at + 5);
}

static void set_clone(const Options *options, FutStart *start)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();

    for (char **identity = options->identities; identity && *identity; identity++) {
        g_ptr_array_add(words, with_address(*identity));
    }
    g_ptr_array_add(words, NULL);
    start->restore_identities = (char **)g_ptr_array_free(g_steal_pointer(&words), FALSE);
    start->restore_hook = options->hook ? g_canonicalize_filename(options->hook, NULL) : NULL;
}

static bool restore(Options *options, const char *word, GError **error)
{
    g_autofree char *path = NULL, *which = NULL;
    FutStart *start = &options->start;

    fut_snapshot_split(word, &path, &which);
    g_autoptr(FutStore) store = fut_store_open(path, FUT_STORE_READ, error);
    g_autoptr(FutSnapshotInfo) info =
        store ? fut_store_find(store, which, options->vm, error) : NULL;
    if (!info) {
        return false;
    }
    g_autoptr(GPtrArray) command = start->qemu ? NULL : recorded_command(info);
    if (command && !check_trust(options, info, command, error)) {
        return false;
    }
    g_autofree char *module = fut_start_module(error);
    g_autofree char *whole = g_canonicalize_filename(path, NULL);
    start->qemu = command ? (char **)command->pdata : start->qemu;
    start->name = start->name ? start->name : g_strdup(info->vm);
    start->restore = g_strdup_printf("%s@%" G_GUINT64_FORMAT, whole, info->id);
    start->restore_force = options->force;
    start->restore_lazy = options->lazy;
    start->restore_ready = options->ready;
    start->restore_check = options->check_hash;
    start->restore_keep_clock = options->keep_clock;
    set_clone(options, start);
    start->restore_connections = options->keep_connections ? "keep" : NULL;
    if (!module || !fut_control_name_check(start->name, error)) {
        return false;
    }
    return fut_start_execute(start, module, error);
}

/* -- one that was kept ready -- */

static FutWait judge_going(const json_t *status, char **ret_progress)
{
    if (json_is_true(json_object_get(status, "running"))) {
        return FUT_WAIT_DONE;
    }
    *ret_progress = g_strdup("its disks are being filled");
    return strcmp(fut_cli_text(status, "state"), "going") == 0 ? FUT_WAIT_ON : FUT_WAIT_FAILED;
}

static json_t *word_to_go(const char *which, bool force, GError **error)
{
    guint64 id = 0;

    if (which && !g_ascii_string_to_unsigned(which, 10, 1, G_MAXINT64, &id, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "restore: --go %s: what comes after @ must be a snapshot's ID", which);
        return NULL;
    }
    return json_pack("{s:I, s:b}", "id", (json_int_t)id, "force_generation", force);
}

static bool let_go(const char *word, bool force, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(word, "@", 2);
    json_t *args = word_to_go(parts[0] ? parts[1] : NULL, force, error);
    g_autoptr(FutControlClient) client = args ? fut_control_connect(parts[0], error) : NULL;

    if (!client) {
        json_decref(args);
        return false;
    }
    json_t *result = fut_control_call(client, "restore-go", args, FUT_CLI_ANSWER_MS, error);
    bool good = result != NULL;
    if (good && json_is_true(json_object_get(result, "going"))) {
        good = fut_cli_wait(client, parts[0], "running", GO_WAIT_S, judge_going, error);
    }
    json_decref(result);
    return good;
}

/* What else is said was said when it was made ready. */
static bool check_go(int argc, const Options *o, GError **error)
{
    const FutStart *start = &o->start;

    if (argc != 2) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "restore: --go: which VM? Give its name, or NAME@ID");
        return false;
    }
    if (o->ready || o->trust || o->force || o->lazy || o->check_hash || o->keep_connections ||
        o->keep_clock || o->identities || o->hook || o->vm || start->qemu || start->name ||
        start->node || start->arbiter || start->print) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "restore: with --go only --force-generation can be given: all else "
                            "is as it was when the VM was made ready");
        return false;
    }
    return true;
}

static bool check_words(int argc, char **argv, const Options *options, GError **error)
{
    if (options->go) {
        return check_go(argc, options, error);
    }
    if (argc != 2) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    argc < 2
                        ? "restore: which snapshot? Give STORE or STORE@ID"
                        : "restore: one snapshot at a time; QEMU's command line comes after --");
        return false;
    }
    if (options->identities && options->keep_connections) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "restore: --identity and --keep-connections exclude each other: with "
                            "other addresses no connection can go on");
        return false;
    }
    if (options->start.qemu && !options->start.qemu[0]) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "restore: no QEMU program after --");
        return false;
    }
    return true;
}

static bool run(int argc, char **argv, GError **error)
{
    Options o = { 0 };
    int own = fut_start_separator(argc, argv);
    g_autofree char **words = g_memdup2(argv, (size_t)(own + 1) * sizeof(*argv));
    const GOptionEntry entries[] = {
        { "name", 0, 0, G_OPTION_ARG_FILENAME, &o.start.name, "Name of the VM (default: as it was)",
          "VM" },
        { "vm", 0, 0, G_OPTION_ARG_FILENAME, &o.vm, "Snapshots of this VM only", "VM" },
        { "trust", 0, 0, G_OPTION_ARG_NONE, &o.trust, "Run the recorded command line", NULL },
        { "force", 0, 0, G_OPTION_ARG_NONE, &o.force, "Overwrite what its disks' images have",
          NULL },
        { "lazy", 0, 0, G_OPTION_ARG_NONE, &o.lazy,
          "Run the guest at once, its memory comes while it runs", NULL },
        { "ready", 0, 0, G_OPTION_ARG_NONE, &o.ready,
          "Make all ready, and let the guest wait for restore --go", NULL },
        { "go", 0, 0, G_OPTION_ARG_NONE, &o.go, "Let a VM run that was kept ready", NULL },
        { "keep-connections", 0, 0, G_OPTION_ARG_NONE, &o.keep_connections,
          "Leave its TCP connections as they are, also those that cannot go on", NULL },
        { "keep-clock", 0, 0, G_OPTION_ARG_NONE, &o.keep_clock,
          "Leave its wall clock as it is, behind by the snapshot's age", NULL },
        { "identity", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.identities,
          "A clone: the addresses by which the network knows a NIC", "NIC=MAC|auto[,OLD=NEW…]" },
        { "identity-hook", 0, 0, G_OPTION_ARG_FILENAME, &o.hook,
          "Run this program when the clone runs", "PROGRAM" },
        { "check-hash", 0, 0, G_OPTION_ARG_NONE, &o.check_hash,
          "Compare all memory with the hash taken at the cut before the guest runs", NULL },
        { "arbiter", 0, 0, G_OPTION_ARG_FILENAME, &o.start.arbiter,
          "Who decides which host may go on alone", "KIND:WHERE" },
        { "node", 0, 0, G_OPTION_ARG_FILENAME, &o.start.node,
          "Name of this host (default: its host name)", "NODE" },
        { "force-generation", 0, 0, G_OPTION_ARG_NONE, &o.start.force_generation,
          "Start although another host is on record as running this VM", NULL },
        { "print", 0, 0, G_OPTION_ARG_NONE, &o.start.print,
          "Print QEMU's arguments instead of starting it", NULL },
        { 0 },
    };

    words[own] = NULL;
    o.start.qemu = own < argc ? argv + own + 1 : NULL;
    bool good =
        fut_cli_parse(&fut_cmd_restore, entries, &own, words, error) &&
        check_words(own, words, &o, error) &&
        (o.go ? let_go(words[1], o.start.force_generation, error) : restore(&o, words[1], error));
    fut_start_done(&o.start);
    g_free(o.vm);
    g_free(o.hook);
    g_strfreev(o.identities);
    return good;
}

const FutCommand fut_cmd_restore = {
    .name = "restore",
    .usage = "STORE[@WHICH] [-- QEMU-PROGRAM [QEMU-OPTION…]] | --go VM[@ID]",
    .summary = "Start a VM as a snapshot has it",
    .run = run,
};
