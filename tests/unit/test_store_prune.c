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

/* -- damage -- */

#define SERIES 12u /* snapshots */

/* Every file as it is. */
typedef struct {
    GPtrArray *names;
    Content *is;
} Backup;

static Backup backup_take(World *w)
{
    Backup backup = { .names = fixture_files(w->folder, "") };

    backup.is = g_new0(Content, backup.names->len);
    for (guint i = 0; i < backup.names->len; i++) {
        backup.is[i] = fixture_load(w->folder, backup.names->pdata[i]);
    }
    return backup;
}

static void backup_restore(World *w, const Backup *backup)
{
    g_autoptr(GPtrArray) now = fixture_files(w->folder, "");

    for (guint i = 0; i < now->len; i++) {
        fixture_remove(w->folder, now->pdata[i]);
    }
    for (guint i = 0; i < backup->names->len; i++) {
        fixture_save(w->folder, backup->names->pdata[i], backup->is[i].bytes, backup->is[i].length);
    }
    store_world_reopen(w);
}

static void backup_done(Backup *backup)
{
    for (guint i = 0; i < backup->names->len; i++) {
        g_free(backup->is[i].bytes);
    }
    g_free(backup->is);
    g_ptr_array_unref(backup->names);
}

/* Which of the snapshots can be read; what can be has its content. */
static unsigned read_series(World *w, Image *const *images)
{
    g_autoptr(GPtrArray) all = fut_store_list(w->store, NULL, NULL);
    g_autofree Image *is = g_new(Image, 1);
    unsigned good = 0;

    for (guint i = 0; i < all->len; i++) {
        const FutSnapshotInfo *info = all->pdata[i];
        if (image_read(w->store, info->id, is, NULL)) {
            g_assert_cmpint(memcmp(is, images[info->id], sizeof(*is)), ==, 0);
            good |= 1u << info->id;
        }
    }
    return good;
}

static unsigned ids_of(World *w)
{
    g_autoptr(GPtrArray) all = fut_store_list(w->store, NULL, NULL);
    unsigned ids = 0;

    for (guint i = 0; i < all->len; i++) {
        ids |= 1u << ((const FutSnapshotInfo *)all->pdata[i])->id;
    }
    return ids;
}

/* Prunes what has one damage, `content` in the place of a file (NULL: it is gone). What could be read of what stays can be read after, and
 * once the file is as it was all of it can. How much was told. */
static guint prune_damaged(World *w, Image *const *images, const Backup *backup, guint file,
                           const Content *content)
{
    const char *name = backup->names->pdata[file];
    FutPrunePolicy policy = { .keep = 4 };

    if (content) {
        fixture_save(w->folder, name, content->bytes, content->length);
    } else {
        fixture_remove(w->folder, name);
    }
    store_world_reopen(w);
    unsigned readable = read_series(w, images);
    FutPruneReport report = store_world_prune(w, policy);
    unsigned stays = ids_of(w);
    g_assert_cmpuint(readable & stays, ==, read_series(w, images));
    for (guint i = 0; i < report.damages->len; i++) {
        const char *pack = content ? name : "the file of pack 0000";
        g_assert_nonnull(strstr(report.damages->pdata[i], pack));
    }
    g_assert_cmpuint(report.removed->len, >=, SERIES - 5);
    guint told = report.damages->len;
    fut_prune_report_done(&report);
    g_autoptr(GPtrArray) now = fixture_files(w->folder, ".pack");
    if (!content || g_ptr_array_find_with_equal_func(now, name, g_str_equal, NULL)) {
        Content was = fixture_load(w->folder, content ? name : "store");
        if (!content ||
            (was.length == content->length && memcmp(was.bytes, content->bytes, was.length) == 0)) {
            fixture_save(w->folder, name, backup->is[file].bytes, backup->is[file].length);
        }
        g_free(was.bytes);
    }
    store_world_reopen(w);
    g_assert_cmpuint(read_series(w, images), ==, stays);
    store_world_expect_whole(w);
    return told;
}

static Image **take_series(World *w)
{
    Image **images = g_new0(Image *, SERIES + 1);

    for (unsigned n = 0; n < SERIES; n++) {
        store_world_next(w, n, (n + 1) * HOUR_US);
        images[w->last] = g_memdup2(w->image, sizeof(Image));
        if (n == SERIES * 3 / 4) {
            FutPruneReport report = store_world_prune(w, (FutPrunePolicy){ 0 });
            g_assert_cmpuint(report.files_after, <, report.files_before);
            fut_prune_report_done(&report);
        }
    }
    return images;
}

static void free_series(Image **images)
{
    for (unsigned i = 0; i <= SERIES; i++) {
        g_free(images[i]);
    }
    g_free(images);
}

/* A flipped bit in the header, in frames of units and of nodes, in the index, the hashes and the end of files old, young and joined; a file cut short; one gone. */
static void test_damage(World *w, gconstpointer data)
{
    Image **images = take_series(w);
    Backup backup = backup_take(w);
    guint told = 0;

    for (guint file = 0; file < backup.names->len; file++) {
        if (!g_str_has_suffix(backup.names->pdata[file], ".pack")) {
            continue;
        }
        Content is = { g_memdup2(backup.is[file].bytes, backup.is[file].length),
                       backup.is[file].length };
        for (unsigned i = 0; i < 14; i++) {
            gsize at = i >= 12 ? is.length - 20 - 50 * (i - 12) : is.length / 12 * i + 5;
            is.bytes[at] ^= 1 << i % 8;
            told += prune_damaged(w, images, &backup, file, &is);
            is.bytes[at] ^= 1 << i % 8;
            backup_restore(w, &backup);
        }
        is.length /= 2;
        prune_damaged(w, images, &backup, file, &is);
        backup_restore(w, &backup);
        prune_damaged(w, images, &backup, file, NULL);
        backup_restore(w, &backup);
        g_free(is.bytes);
    }
    g_assert_cmpuint(told, >, 10);
    backup_done(&backup);
    free_series(images);
}

/* The newest is damaged: the newest whole one stays beside it, however few are to be kept. */
static void test_whole_stays(World *w, gconstpointer data)
{
    Image **images = take_series(w);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");

    fixture_flip(w->folder, packs->pdata[packs->len - 1], 20, 1);
    FutPruneReport report = store_world_prune(w, (FutPrunePolicy){ .keep = 1, .max_bytes = 1 });
    g_assert_cmpuint(report.damages->len, ==, 1);
    g_assert_nonnull(strstr(report.damages->pdata[0], packs->pdata[packs->len - 1]));
    g_assert_true(report.short_of_room);
    fut_prune_report_done(&report);
    g_assert_cmphex(ids_of(w), ==, 3u << (SERIES - 1));
    g_assert_cmphex(read_series(w, images), ==, 1u << (SERIES - 1));
    /* Nobody who looks only is told something else. */
    report = (FutPruneReport){ 0 };
    FutPrunePolicy policy = { .keep = 1 };
    g_assert_true(fut_store_prune(w->store, &policy, true, 0, NULL, NULL, &report, NULL));
    g_assert_cmpuint(report.damages->len, ==, 1);
    g_assert_cmpuint(report.removed->len, ==, 0);
    fut_prune_report_done(&report);
    /* Once the damaged one is deleted nothing is left of it. */
    g_assert_true(fut_store_delete(w->store, SERIES, NULL));
    report = store_world_prune(w, policy);
    g_assert_cmpuint(report.damages->len, ==, 0);
    fut_prune_report_done(&report);
    store_world_expect_whole(w);
    free_series(images);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-prune/policy", test_policy);
    g_test_add("/store-prune/series", World, NULL, set_up, test_series, tear_down);
    g_test_add("/store-prune/max-bytes", World, NULL, set_up, test_max_bytes, tear_down);
    g_test_add("/store-prune/diff", World, NULL, set_up, test_diff, tear_down);
    g_test_add("/store-prune/export", World, NULL, set_up, test_export, tear_down);
    g_test_add("/store-prune/damage", World, NULL, set_up, test_damage, tear_down);
    g_test_add("/store-prune/whole-stays", World, NULL, set_up, test_whole_stays, tear_down);
    g_test_add("/store-prune/page-like-a-node", World, NULL, set_up, test_page_like_a_node,
               tear_down);
    return g_test_run();
}
