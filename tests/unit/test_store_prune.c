/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bounds of a store, joining, differences, export. */
#include "store_diff.h"
#include "store_fixture.h"
#include "store_internal.h"

#define HOUR_US (3600ull * 1000000)

typedef StoreWorld World;

static void set_up(World *w, gconstpointer data)
{
    store_world_init(w);
    for (unsigned i = 0; i < RAM_UNITS; i += 3) {
        image_set(w->image, RAM, i, i + 1);
    }
}

static void tear_down(World *w, gconstpointer data)
{
    store_world_done(w);
}

/* -- the policy -- */

static void expect_stays(FutPrunePolicy policy, const char *wanted)
{
    /* "web" every 20 minutes from 00:00, each second one by schedule; "b" once at 00:40. */
    g_autoptr(GPtrArray) all =
        g_ptr_array_new_with_free_func((GDestroyNotify)fut_snapshot_info_free);
    bool stays[10];

    for (uint64_t i = 0; i < 10; i++) {
        FutSnapshotInfo *info = image_info(0, (24 * 100 * HOUR_US) + i * HOUR_US / 3);
        info->id = i + 1;
        g_free(info->reason);
        info->reason = g_strdup(i % 2 ? "by schedule" : "by hand");
        if (i == 2) {
            g_free(info->vm);
            info->vm = g_strdup("b");
        }
        g_ptr_array_add(all, info);
    }
    fut_prune_thin(all, &policy, stays);
    for (unsigned i = 0; i < 10; i++) {
        g_assert_cmpint(stays[i], ==, wanted[i] == 'x');
    }
}

static void test_policy(void)
{
    expect_stays((FutPrunePolicy){ 0 }, "xxxxxxxxxx");
    expect_stays((FutPrunePolicy){ .keep = 1 }, "..x......x");
    expect_stays((FutPrunePolicy){ .keep = 3 }, "..x....xxx");
    expect_stays((FutPrunePolicy){ .hourly = 2 }, "..x.....xx");
    expect_stays((FutPrunePolicy){ .hourly = 9 }, ".xx..x..xx");
    expect_stays((FutPrunePolicy){ .daily = 3 }, "..x......x");
    expect_stays((FutPrunePolicy){ .keep = 2, .hourly = 3 }, "..x..x..xx");
    expect_stays((FutPrunePolicy){ .keep = 2, .vm = "b" }, "xxxxxxxxxx");
    expect_stays((FutPrunePolicy){ .keep = 2, .vm = "web" }, "..x.....xx");
    expect_stays((FutPrunePolicy){ .keep = 2, .vm = "web", .reason = "by schedule" }, "x.x.x.xxxx");
    expect_stays((FutPrunePolicy){ .keep = 1, .reason = "by hand" }, ".xxx.x.xxx");
    expect_stays((FutPrunePolicy){ .hourly = 1, .reason = "another" }, "xxxxxxxxxx");
}

/* -- pruning -- */

/* However many there were, the files stay few, and what is left is whole. */
static void test_series(World *w, gconstpointer data)
{
    for (unsigned n = 0; n < 40; n++) {
        store_world_next(w, n, (n + 1) * HOUR_US);
        FutPruneReport report = store_world_prune(w, (FutPrunePolicy){ .keep = 5 });
        g_assert_cmpuint(report.files_after, <=, 20);
        g_assert_cmpuint(report.removed->len, ==, n >= 5);
        fut_prune_report_done(&report);
    }
    g_autoptr(GPtrArray) all = fut_store_list(w->store, NULL, NULL);
    g_assert_cmpuint(all->len, ==, 5);
    image_expect(w->store, w->last, w->image);
    store_world_expect_whole(w);
    /* All of it goes, and no number comes again. */
    g_autoptr(GPtrArray) before = fixture_files(w->folder, ".pack");
    for (guint i = 0; i < all->len; i++) {
        g_assert_true(fut_store_delete(w->store, ((FutSnapshotInfo *)all->pdata[i])->id, NULL));
    }
    FutPruneReport report = store_world_prune(w, (FutPrunePolicy){ 0 });
    g_assert_cmpuint(report.bytes_after, ==, 0);
    fut_prune_report_done(&report);
    store_world_reopen(w);
    w->last = 0;
    store_world_next(w, 1, 1);
    g_assert_cmpuint(w->last, ==, 41);
    g_autoptr(GPtrArray) after = fixture_files(w->folder, ".pack");
    g_assert_cmpint(strcmp(after->pdata[0], before->pdata[before->len - 1]), >, 0);
}

static void test_max_bytes(World *w, gconstpointer data)
{
    for (unsigned n = 0; n < 20; n++) {
        store_world_next(w, n, (n + 1) * HOUR_US);
    }
    FutPruneReport full = store_world_prune(w, (FutPrunePolicy){ 0 });
    uint64_t bound = full.bytes_after * 3 / 4;
    g_assert_cmpuint(full.removed->len, ==, 0);
    fut_prune_report_done(&full);
    FutPruneReport report = store_world_prune(w, (FutPrunePolicy){ .max_bytes = bound });
    g_assert_cmpuint(report.removed->len, >, 2);
    g_assert_cmpuint(report.removed->len, <, 20);
    g_assert_cmpuint(g_array_index(report.removed, uint64_t, 0), ==, 1);
    g_assert_false(report.short_of_room);
    g_assert_cmpuint(report.bytes_after, <, bound + bound / 8);
    fut_prune_report_done(&report);
    report = store_world_prune(w, (FutPrunePolicy){ .max_bytes = 1 });
    g_assert_true(report.short_of_room); /* the newest stays whatever is said */
    fut_prune_report_done(&report);
    report = store_world_prune(w, (FutPrunePolicy){ .min_free = 1ull << 60 });
    g_assert_true(report.short_of_room);
    fut_prune_report_done(&report);
    /* What may not go stays, and is whole. */
    store_world_next(w, 20, 21 * HOUR_US);
    report = store_world_prune(w, (FutPrunePolicy){ .max_bytes = 1, .reason = "another" });
    g_assert_true(report.short_of_room);
    g_assert_cmpuint(report.removed->len, ==, 0);
    fut_prune_report_done(&report);
    image_expect(w->store, w->last, w->image);
    store_world_expect_whole(w);
}

/* -- differences, export -- */

static void note_diff(void *opaque, unsigned area, uint64_t first, uint64_t count)
{
    g_string_append_printf(opaque, "%u:%u+%u ", area, (unsigned)first, (unsigned)count);
}

static void test_diff(World *w, gconstpointer data)
{
    GError *error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    store_world_next(w, 0, 1);
    image_set(w->image, RAM, 511, 1);
    image_set(w->image, RAM, 512, 2);
    image_set(w->image, RAM, 600, 600 % 3 ? 0 : 9);
    image_set(w->image, DISK, 700, 3);
    store_world_take(w, 1, 2);
    g_assert_true(fut_store_diff(w->store, 1, 2, note_diff, text, &error));
    g_assert_cmpstr(text->str, ==, "0:511+2 0:600+1 2:700+1 ");
    g_string_truncate(text, 0);
    g_assert_true(fut_store_diff(w->store, 2, 1, note_diff, text, &error));
    g_assert_cmpstr(text->str, ==, "0:511+2 0:600+1 2:700+1 ");
    g_string_truncate(text, 0);
    g_assert_true(fut_store_diff(w->store, 2, 2, note_diff, text, &error));
    g_assert_cmpstr(text->str, ==, "");
    g_assert_false(fut_store_diff(w->store, 2, 7, note_diff, text, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_clear_error(&error);
}

static void test_export(World *w, gconstpointer data)
{
    GError *error = NULL;
    g_autofree char *to = g_build_filename(w->folder, "copy", NULL);

    for (unsigned n = 0; n < 3; n++) {
        store_world_next(w, n, n + 1);
    }
    g_assert_true(fut_store_export(w->store, 3, to, NULL, NULL, &error));
    g_assert_no_error(error);
    g_autoptr(FutStore) copy = fut_store_open(to, FUT_STORE_READ, NULL);
    image_expect(copy, 3, w->image);
    g_assert_false(fut_store_export(w->store, 2, to, NULL, NULL, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_false(fut_store_export(w->store, 2, w->folder, NULL, NULL, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
}

/* A guest whose page has the bytes of a node that is needed: the node's content stays all the same. */
static void test_page_like_a_node(World *w, gconstpointer data)
{
    GError *error = NULL;
    FutPackSet set;

    for (unsigned i = 0; i < DISK_UNITS; i++) {
        image_set(w->image, DISK, i, 300000 + i);
    }
    store_world_take(w, 0, 1);
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(w->store, 1, &error);
    uint64_t root = fut_snapshot_info_nth(fut_snapshot_info(snapshot), DISK)->root;
    g_assert_true(fut_store_packs(w->store, &set, &error));
    FutRecordReader *reader = fut_record_reader_new(&set);
    const uint8_t *node = fut_record_read(reader, root, &error);
    g_assert_nonnull(node);
    memcpy(w->image->ram, node, FUT_UNIT_SIZE); /* it is looked at before the disk is */
    fut_record_reader_free(reader);
    fut_pack_set_done(&set);
    store_world_take(w, 1, 2);
    /* Enough of the first goes for its pack to be written anew. */
    for (unsigned i = 0; i < RAM_UNITS; i += 3) {
        image_set(w->image, RAM, i + 3 < RAM_UNITS ? i + 3 : 3, 0);
    }
    store_world_take(w, 2, 3);
    FutPruneReport report = store_world_prune(w, (FutPrunePolicy){ .keep = 1, .max_bytes = 1 });
    g_assert_cmpuint(report.removed->len, ==, 2);
    fut_prune_report_done(&report);
    image_expect(w->store, 3, w->image);
    store_world_expect_whole(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-prune/policy", test_policy);
    g_test_add("/store-prune/series", World, NULL, set_up, test_series, tear_down);
    g_test_add("/store-prune/max-bytes", World, NULL, set_up, test_max_bytes, tear_down);
    g_test_add("/store-prune/diff", World, NULL, set_up, test_diff, tear_down);
    g_test_add("/store-prune/export", World, NULL, set_up, test_export, tear_down);
    g_test_add("/store-prune/page-like-a-node", World, NULL, set_up, test_page_like_a_node,
               tear_down);
    return g_test_run();
}
