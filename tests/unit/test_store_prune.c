/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bounds of a store, joining, differences, export; and what damage costs. */
#include <glib/gstdio.h>

#include "memhash.h"
#include "store_diff.h"
#include "store_fixture.h"
#include "store_verify.h"

#define HOUR_US (3600ull * 1000000)

typedef struct {
    char *folder;
    FutStore *store;
    Image *image;
    uint64_t last;
} World;

static void set_up(World *w, gconstpointer data)
{
    GError *error = NULL;

    w->folder = fut_test_tmp();
    w->store = fut_store_open(w->folder, FUT_STORE_CREATE, &error);
    g_assert_no_error(error);
    w->image = g_new0(Image, 1);
    for (unsigned i = 0; i < RAM_UNITS; i += 3) {
        image_set(w->image, RAM, i, i + 1);
    }
}

static void tear_down(World *w, gconstpointer data)
{
    fut_store_close(w->store);
    fut_test_tmp_remove(w->folder);
    g_free(w->folder);
    g_free(w->image);
}

/* Snapshot `n`: some units are as only this one has them. */
static void take(World *w, unsigned n, uint64_t time_us)
{
    g_autofree Image *was = g_memdup2(w->image, sizeof(Image));
    GError *error = NULL;

    for (unsigned i = 0; i < 30; i++) {
        image_set(w->image, RAM, (n * 41 + i * 7) % RAM_UNITS, 100000 + n * 100 + i);
        image_set(w->image, DISK, (n * 3 + i) % 60, 500000 + n * 100 + i);
    }
    w->last = image_take(w->store, w->image, w->last ? was : NULL, w->last, time_us, &error);
    g_assert_no_error(error);
}

static char *path_of(const World *w, const char *name)
{
    return g_build_filename(w->folder, name, NULL);
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names with that ending, sorted. */
static GPtrArray *files(const World *w, const char *ending)
{
    g_autoptr(GDir) dir = g_dir_open(w->folder, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        if (g_str_has_suffix(name, ending)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_sort(names, by_text);
    return names;
}

static FutPruneReport prune(World *w, FutPrunePolicy policy)
{
    FutPruneReport report;
    GError *error = NULL;

    g_assert_true(fut_store_prune(w->store, &policy, false, 0, NULL, NULL, &report, &error));
    g_assert_no_error(error);
    return report;
}

static FutVerifyReport verify(World *w, bool contents)
{
    FutVerifyReport report;
    GError *error = NULL;

    g_assert_true(fut_store_verify(w->store, contents, NULL, NULL, &report, &error));
    g_assert_no_error(error);
    return report;
}

static void expect_whole(World *w)
{
    FutVerifyReport report = verify(w, true);

    g_assert_cmpuint(report.damages->len, ==, 0);
    fut_verify_report_done(&report);
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
        take(w, n, (n + 1) * HOUR_US);
        FutPruneReport report = prune(w, (FutPrunePolicy){ .keep = 5 });
        g_assert_cmpuint(report.files_after, <=, 20);
        g_assert_cmpuint(report.removed->len, ==, n >= 5);
        fut_prune_report_done(&report);
    }
    g_autoptr(GPtrArray) all = fut_store_list(w->store, NULL, NULL);
    g_assert_cmpuint(all->len, ==, 5);
    image_expect(w->store, w->last, w->image);
    expect_whole(w);
    /* All of it goes, and no number comes again. */
    g_autoptr(GPtrArray) before = files(w, ".pack");
    for (guint i = 0; i < all->len; i++) {
        g_assert_true(fut_store_delete(w->store, ((FutSnapshotInfo *)all->pdata[i])->id, NULL));
    }
    FutPruneReport report = prune(w, (FutPrunePolicy){ 0 });
    g_assert_cmpuint(report.bytes_after, ==, 0);
    fut_prune_report_done(&report);
    fut_store_close(w->store);
    w->store = fut_store_open(w->folder, FUT_STORE_WRITE, NULL);
    w->last = 0;
    take(w, 1, 1);
    g_assert_cmpuint(w->last, ==, 41);
    g_autoptr(GPtrArray) after = files(w, ".pack");
    g_assert_cmpint(strcmp(after->pdata[0], before->pdata[before->len - 1]), >, 0);
}

static void test_max_bytes(World *w, gconstpointer data)
{
    for (unsigned n = 0; n < 20; n++) {
        take(w, n, (n + 1) * HOUR_US);
    }
    FutPruneReport full = prune(w, (FutPrunePolicy){ 0 });
    uint64_t bound = full.bytes_after * 3 / 4;
    g_assert_cmpuint(full.removed->len, ==, 0);
    fut_prune_report_done(&full);
    FutPruneReport report = prune(w, (FutPrunePolicy){ .max_bytes = bound });
    g_assert_cmpuint(report.removed->len, >, 2);
    g_assert_cmpuint(report.removed->len, <, 20);
    g_assert_cmpuint(g_array_index(report.removed, uint64_t, 0), ==, 1);
    g_assert_false(report.short_of_room);
    g_assert_cmpuint(report.bytes_after, <, bound + bound / 8);
    fut_prune_report_done(&report);
    report = prune(w, (FutPrunePolicy){ .max_bytes = 1 });
    g_assert_true(report.short_of_room); /* the newest stays whatever is said */
    fut_prune_report_done(&report);
    report = prune(w, (FutPrunePolicy){ .min_free = 1ull << 60 });
    g_assert_true(report.short_of_room);
    fut_prune_report_done(&report);
    /* What may not go stays, and is whole. */
    take(w, 20, 21 * HOUR_US);
    report = prune(w, (FutPrunePolicy){ .max_bytes = 1, .reason = "another" });
    g_assert_true(report.short_of_room);
    g_assert_cmpuint(report.removed->len, ==, 0);
    fut_prune_report_done(&report);
    image_expect(w->store, w->last, w->image);
    expect_whole(w);
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

    take(w, 0, 1);
    g_autofree Image *was = g_memdup2(w->image, sizeof(Image));
    image_set(w->image, RAM, 511, 1);
    image_set(w->image, RAM, 512, 2);
    image_set(w->image, RAM, 600, 600 % 3 ? 0 : 9);
    image_set(w->image, DISK, 700, 3);
    image_take(w->store, w->image, was, 1, 2, &error);
    g_assert_no_error(error);
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
    g_autofree char *to = path_of(w, "copy");

    for (unsigned n = 0; n < 3; n++) {
        take(w, n, n + 1);
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

/* -- damage -- */

static void take_three(World *w)
{
    for (unsigned n = 0; n < 3; n++) {
        take(w, n, n + 1);
    }
}

typedef struct {
    char *bytes;
    gsize length;
} Content;

static Content read_file(World *w, const char *name)
{
    g_autofree char *path = path_of(w, name);
    Content is;

    g_assert_true(g_file_get_contents(path, &is.bytes, &is.length, NULL));
    return is;
}

static void write_file(World *w, const char *name, const char *bytes, gsize length)
{
    g_autofree char *path = path_of(w, name);
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(bytes, 1, length, file), ==, length);
    g_assert_cmpint(fclose(file), ==, 0);
}

/* How many snapshots cannot be read, by reading them; each says which file. */
static unsigned unreadable(World *w, const char *name)
{
    g_autofree Image *is = g_new(Image, 1);
    unsigned count = 0;

    for (uint64_t id = 1; id <= 3; id++) {
        g_autoptr(GError) error = NULL;
        if (!image_read(w->store, id, is, &error)) {
            g_assert_nonnull(strstr(error->message, name));
            count++;
        }
    }
    return count;
}

/* verify finds it, names the file, and says the same of the snapshots as reading them does. */
static void expect_damage(World *w, const char *name)
{
    FutVerifyReport report = verify(w, false);
    bool cost[4] = { false };
    unsigned count = 0;

    g_assert_cmpuint(report.damages->len, >, 0);
    for (guint i = 0; i < report.damages->len; i++) {
        const FutDamage *damage = report.damages->pdata[i];
        g_assert_nonnull(strstr(damage->what, name));
        for (guint s = 0; s < damage->snapshots->len; s++) {
            cost[g_array_index(damage->snapshots, uint64_t, s)] = true;
        }
    }
    for (unsigned id = 1; id <= 3; id++) {
        count += cost[id];
    }
    g_assert_cmpuint(count, ==, unreadable(w, name));
    fut_verify_report_done(&report);
}

/* Each bit of a pack is covered by something: in the header, the end and between. */
static void test_flipped(World *w, gconstpointer data)
{
    take_three(w);
    g_autoptr(GPtrArray) packs = files(w, ".pack");
    for (guint p = 0; p < packs->len; p++) {
        Content is = read_file(w, packs->pdata[p]);
        for (unsigned i = 0; i < 60; i++) {
            gsize at = i < 20 ? i : i < 40 ? is.length - i + 19 : is.length / 60 * i;
            is.bytes[at] ^= 1 << i % 8;
            write_file(w, packs->pdata[p], is.bytes, is.length);
            expect_damage(w, packs->pdata[p]);
            is.bytes[at] ^= 1 << i % 8;
        }
        write_file(w, packs->pdata[p], is.bytes, is.length);
        g_free(is.bytes);
    }
    expect_whole(w);
}

static void test_truncated(World *w, gconstpointer data)
{
    take_three(w);
    g_autoptr(GPtrArray) packs = files(w, ".pack");
    Content is = read_file(w, packs->pdata[1]);
    for (gsize length = 0; length < is.length; length += is.length / 37) {
        write_file(w, packs->pdata[1], is.bytes, length);
        expect_damage(w, packs->pdata[1]);
    }
    g_free(is.bytes);
    g_autofree char *path = path_of(w, packs->pdata[1]);
    g_assert_cmpint(g_unlink(path), ==, 0);
    expect_damage(w, "00000002"); /* the number of the pack that is missing */
}

/* A whole file in the place of another. */
static void test_swapped(World *w, gconstpointer data)
{
    take_three(w);
    g_autoptr(GPtrArray) packs = files(w, ".pack");
    Content one = read_file(w, packs->pdata[1]), other = read_file(w, packs->pdata[2]);
    write_file(w, packs->pdata[1], other.bytes, other.length);
    expect_damage(w, packs->pdata[1]);
    write_file(w, packs->pdata[1], one.bytes, one.length);
    expect_whole(w);
    g_free(one.bytes);
    g_free(other.bytes);
    /* Frames of one file change places. */
    Content is = read_file(w, packs->pdata[0]);
    g_autofree char *copy = g_memdup2(is.bytes, is.length);
    guint32 stored;
    memcpy(&stored, is.bytes + 48 + 16, 4);
    gsize frame = 32 + GUINT32_FROM_LE(stored);
    memmove(is.bytes + 48, is.bytes + 48 + frame, frame);
    memcpy(is.bytes + 48 + frame, copy + 48, frame);
    write_file(w, packs->pdata[0], is.bytes, is.length);
    expect_damage(w, packs->pdata[0]);
    g_free(is.bytes);
}

static void test_manifest(World *w, gconstpointer data)
{
    g_autoptr(GPtrArray) damaged = NULL;
    GError *error = NULL;
    FutPruneReport report;

    take_three(w);
    Content is = read_file(w, "0000000002.snap");
    for (unsigned i = 0; i < 50; i++) {
        gsize at = is.length / 50 * i;
        is.bytes[at] ^= 4;
        write_file(w, "0000000002.snap", is.bytes, is.length);
        is.bytes[at] ^= 4;
        g_clear_pointer(&damaged, g_ptr_array_unref);
        g_autoptr(GPtrArray) all = fut_store_list(w->store, &damaged, NULL);
        g_assert_cmpuint(all->len, ==, 2);
        g_assert_nonnull(strstr(damaged->pdata[0], "0000000002.snap"));
        g_assert_cmpuint(unreadable(w, "0000000002.snap"), ==, 1);
    }
    write_file(w, "0000000003.snap", is.bytes, is.length); /* of another snapshot */
    g_clear_pointer(&damaged, g_ptr_array_unref);
    g_autoptr(GPtrArray) all = fut_store_list(w->store, &damaged, NULL);
    g_assert_cmpuint(damaged->len, ==, 2);
    /* While it is not known what it needs nothing is removed. */
    FutPrunePolicy policy = { .keep = 1 };
    g_assert_false(fut_store_prune(w->store, &policy, false, 0, NULL, NULL, &report, &error));
    g_assert_nonnull(strstr(error->message, ".snap"));
    g_assert_nonnull(strstr(error->message, "delete that snapshot first"));
    g_clear_error(&error);
    g_assert_true(fut_store_delete(w->store, 2, NULL));
    g_assert_true(fut_store_delete(w->store, 3, NULL));
    report = prune(w, policy);
    fut_prune_report_done(&report);
    g_free(is.bytes);
}

/* The hash that was taken at the cut is found again, and a wrong one is noticed. */
static void test_memory_hash(World *w, gconstpointer data)
{
    FutMemory memory = { .count = 2 };
    GError *error = NULL;
    uint64_t hash;

    memory.block[0].base = w->image->ram;
    memory.block[0].length = area_bytes[RAM];
    memory.block[1].base = w->image->rom;
    memory.block[1].length = area_bytes[ROM];
    for (uint64_t wrong = 0; wrong < 2; wrong++) {
        g_autoptr(FutSnapshotInfo) info = image_info(0, 5);
        FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, &error);
        g_assert_true(image_put(writer, w->image, NULL, &error));
        fut_snapshot_note_times(writer, 5, 6, 7, fut_memory_hash(&memory) ^ wrong);
        g_assert_true(fut_snapshot_commit(writer, NULL, &error));
    }
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(w->store, 1, &error);
    g_assert_true(fut_snapshot_memory_hash(snapshot, &hash, &error));
    g_assert_cmpuint(hash, ==, fut_memory_hash(&memory));
    FutVerifyReport report = verify(w, true);
    g_assert_cmpuint(report.damages->len, ==, 1);
    const FutDamage *damage = report.damages->pdata[0];
    g_assert_nonnull(
        strstr(damage->what, "0000000002.snap: its memory is not what it was at the cut"));
    g_assert_cmpuint(g_array_index(damage->snapshots, uint64_t, 0), ==, 2);
    fut_verify_report_done(&report);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-prune/policy", test_policy);
    g_test_add("/store-prune/series", World, NULL, set_up, test_series, tear_down);
    g_test_add("/store-prune/max-bytes", World, NULL, set_up, test_max_bytes, tear_down);
    g_test_add("/store-prune/diff", World, NULL, set_up, test_diff, tear_down);
    g_test_add("/store-prune/export", World, NULL, set_up, test_export, tear_down);
    g_test_add("/store-prune/flipped", World, NULL, set_up, test_flipped, tear_down);
    g_test_add("/store-prune/truncated", World, NULL, set_up, test_truncated, tear_down);
    g_test_add("/store-prune/swapped", World, NULL, set_up, test_swapped, tear_down);
    g_test_add("/store-prune/manifest", World, NULL, set_up, test_manifest, tear_down);
    g_test_add("/store-prune/memory-hash", World, NULL, set_up, test_memory_hash, tear_down);
    return g_test_run();
}
