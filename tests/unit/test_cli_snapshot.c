/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots as people read them, and which one is meant. */
#include "cli_snapshot.h"
#include "expect.h"
#include "test_tmp.h"

static void expect_text(char *take_text, const char *wanted)
{
    g_assert_cmpstr(take_text, ==, wanted);
    g_free(take_text);
}

static void test_sizes(void)
{
    expect_text(fut_snapshot_size(0), "0");
    expect_text(fut_snapshot_size(1023), "1023");
    expect_text(fut_snapshot_size(1024), "1.0K");
    expect_text(fut_snapshot_size(10 * 1024), "10K");
    expect_text(fut_snapshot_size(1023 * 1024 + 900), "1.0M");
    expect_text(fut_snapshot_size(3565158), "3.4M");
    expect_text(fut_snapshot_size(5ull << 40), "5.0T");
    expect_text(fut_snapshot_size(UINT64_MAX), "16E");
    expect_text(fut_snapshot_duration(0), "0.00 ms");
    expect_text(fut_snapshot_duration(1234567), "1.23 ms");
    expect_text(fut_snapshot_duration(45600000), "46 ms");
    expect_text(fut_snapshot_duration(2340000000), "2.3 s");
}

static void expect_split(const char *word, const char *store, const char *which)
{
    char *is_store, *is_which;

    fut_snapshot_split(word, &is_store, &is_which);
    g_assert_cmpstr(is_store, ==, store);
    g_assert_cmpstr(is_which, ==, which);
    g_free(is_store);
    g_free(is_which);
}

static void test_split(void)
{
    g_autofree char *folder = fut_test_tmp();
    g_autofree char *odd = g_build_filename(folder, "a@b", NULL);
    g_autofree char *with = g_strconcat(odd, "@7", NULL);

    expect_split("/s", "/s", NULL);
    expect_split("/s@7", "/s", "7");
    expect_split("/s@-10m", "/s", "-10m");
    g_assert_cmpint(mkdir(odd, 0700), ==, 0);
    expect_split(odd, odd, NULL); /* a folder whose name has one */
    expect_split(with, odd, "7");
    fut_test_tmp_remove(folder);
}

static FutSnapshotInfo *make(void)
{
    FutSnapshotInfo *info = fut_snapshot_info_new();
    const char *command[] = { "qemu-system-x86_64", "-name", "it's", NULL };

    info->id = 12;
    info->parent = 11;
    info->stop_ns = 800000;
    info->stored = 5 << 20;
    g_free(info->vm);
    info->vm = g_strdup("web");
    g_strfreev(info->command);
    info->command = g_strdupv((char **)command);
    unsigned ram = fut_snapshot_info_add(info, FUT_AREA_MEMORY, "pc.ram", 256 << 20);
    ((FutArea *)info->areas->pdata[ram])->put_units = 2560;
    return info;
}

static void test_texts(void)
{
    g_setenv("TZ", "UTC", TRUE);
    g_autoptr(GPtrArray) all =
        g_ptr_array_new_with_free_func((GDestroyNotify)fut_snapshot_info_free);
    g_ptr_array_add(all, make());
    expect_text(
        fut_snapshot_table(all),
        "    ID  TIME                 VM            SINCE  MEMORY   DISKS  STORED  STOPPED  REASON\n"
        "    12  1970-01-01 00:00:00  web              11     10M       0    5.0M  0.80 ms  \n");
    expect_text(
        fut_snapshot_block(all->pdata[0]),
        "snapshot     12\nvm           web\ntime         1970-01-01 00:00:00\nsince        11\n"
        "stopped      0.80 ms\ntook         0.00 ms\nstored       5.0M\n"
        "memory       pc.ram: 256M, of it written here 10M\n"
        "command      qemu-system-x86_64 -name 'it'\\''s'\n");
    json_t *json = fut_snapshot_json(all->pdata[0], true);
    g_assert_cmpint(json_integer_value(json_object_get(json, "memory_written")), ==, 10 << 20);
    g_assert_cmpint(json_array_size(json_object_get(json, "command")), ==, 3);
    json_decref(json);
}

/* Who wrote the store cannot hide words of the command line, or write to the terminal what it carries out. */
static void test_shown(void)
{
    g_autoptr(FutSnapshotInfo) info = make();

    expect_text(fut_snapshot_shown("-name 'gr\303\274n'"), "-name 'gr\303\274n'");
    expect_text(fut_snapshot_shown("a\r\033[2Kb\n"), "a\\u000d\\u001b[2Kb\\u000a");
    expect_text(fut_snapshot_shown("\302\233 \342\200\256 \377"), "\\u009b \\u202e \\xff");
    g_free(info->vm);
    info->vm = g_strdup("w\033[2J");
    g_free(info->command[2]);
    info->command[2] = g_strdup("\033[1A");
    g_autofree char *block = fut_snapshot_block(info);
    g_assert_null(strchr(block, 033));
    g_assert_nonnull(strstr(block, "vm           w\\u001b[2J\n"));
}

static void run_refused(const char *words, const char *wanted)
{
    g_auto(GStrv) words_of = g_strsplit(words, " ", -1);
    unsigned argc = g_strv_length(words_of);
    g_autofree char **argv =
        g_memdup2(words_of, (argc + 1) * sizeof *argv); /* options go from it */
    GError *error = NULL;

    g_assert_false(fut_cmd_snapshot.run((int)argc, argv, &error));
    expect_error(error, FUT_ERR_ARG, wanted);
}

static void test_words(void)
{
    run_refused("snapshot", "snapshot: see futago snapshot --help");
    run_refused("snapshot lists", "snapshot lists: did you mean 'list'?");
    run_refused("snapshot list", "snapshot list: give STORE");
    run_refused("snapshot diff /s 1", "snapshot diff: give STORE A B");
    run_refused("snapshot prune /s --keep 0", "--keep 0: give a number from 1 to 1000000");
    run_refused("snapshot prune /s --max-bytes much",
                "--max-bytes much: give bytes such as 500M or 20G");
    run_refused("snapshot list /nowhere/at/all",
                "store /nowhere/at/all: No such file or directory");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli-snapshot/sizes", test_sizes);
    g_test_add_func("/cli-snapshot/split", test_split);
    g_test_add_func("/cli-snapshot/texts", test_texts);
    g_test_add_func("/cli-snapshot/shown", test_shown);
    g_test_add_func("/cli-snapshot/words", test_words);
    return g_test_run();
}
