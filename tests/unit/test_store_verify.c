/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What damage to a store's files costs, and that it is told. */
#include "memhash.h"
#include "store_fixture.h"

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

static void take_three(World *w)
{
    for (unsigned n = 0; n < 3; n++) {
        store_world_next(w, n, n + 1);
    }
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
    FutVerifyReport report = store_world_verify(w, false);
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
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    for (guint p = 0; p < packs->len; p++) {
        Content is = fixture_load(w->folder, packs->pdata[p]);
        for (unsigned i = 0; i < 60; i++) {
            gsize at = i < 20 ? i : i < 40 ? is.length - i + 19 : is.length / 60 * i;
            is.bytes[at] ^= 1 << i % 8;
            fixture_save(w->folder, packs->pdata[p], is.bytes, is.length);
            expect_damage(w, packs->pdata[p]);
            is.bytes[at] ^= 1 << i % 8;
        }
        fixture_save(w->folder, packs->pdata[p], is.bytes, is.length);
        g_free(is.bytes);
    }
    store_world_expect_whole(w);
}

static void test_truncated(World *w, gconstpointer data)
{
    take_three(w);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    Content is = fixture_load(w->folder, packs->pdata[1]);
    for (gsize length = 0; length < is.length; length += is.length / 37) {
        fixture_save(w->folder, packs->pdata[1], is.bytes, length);
        expect_damage(w, packs->pdata[1]);
    }
    g_free(is.bytes);
    fixture_remove(w->folder, packs->pdata[1]);
    expect_damage(w, "00000002"); /* the number of the pack that is missing */
}

/* A whole file in the place of another. */
static void test_swapped(World *w, gconstpointer data)
{
    take_three(w);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    Content one = fixture_load(w->folder, packs->pdata[1]),
            other = fixture_load(w->folder, packs->pdata[2]);
    fixture_save(w->folder, packs->pdata[1], other.bytes, other.length);
    expect_damage(w, packs->pdata[1]);
    fixture_save(w->folder, packs->pdata[1], one.bytes, one.length);
    store_world_expect_whole(w);
    g_free(one.bytes);
    g_free(other.bytes);
    /* Frames of one file change places. */
    Content is = fixture_load(w->folder, packs->pdata[0]);
    g_autofree char *copy = g_memdup2(is.bytes, is.length);
    guint32 stored;
    memcpy(&stored, is.bytes + 48 + 16, 4);
    gsize frame = 32 + GUINT32_FROM_LE(stored);
    memmove(is.bytes + 48, is.bytes + 48 + frame, frame);
    memcpy(is.bytes + 48 + frame, copy + 48, frame);
    fixture_save(w->folder, packs->pdata[0], is.bytes, is.length);
    expect_damage(w, packs->pdata[0]);
    g_free(is.bytes);
}

static void test_manifest(World *w, gconstpointer data)
{
    g_autoptr(GPtrArray) damaged = NULL;
    GError *error = NULL;
    FutPruneReport report;

    take_three(w);
    Content is = fixture_load(w->folder, "0000000002.snap");
    for (unsigned i = 0; i < 50; i++) {
        gsize at = is.length / 50 * i;
        is.bytes[at] ^= 4;
        fixture_save(w->folder, "0000000002.snap", is.bytes, is.length);
        is.bytes[at] ^= 4;
        g_clear_pointer(&damaged, g_ptr_array_unref);
        g_autoptr(GPtrArray) all = fut_store_list(w->store, &damaged, NULL);
        g_assert_cmpuint(all->len, ==, 2);
        g_assert_nonnull(
            strstr(((FutDamagedSnapshot *)damaged->pdata[0])->what, "0000000002.snap"));
        g_assert_cmpuint(unreadable(w, "0000000002.snap"), ==, 1);
    }
    fixture_save(w->folder, "0000000003.snap", is.bytes, is.length); /* of another snapshot */
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
    report = store_world_prune(w, policy);
    fut_prune_report_done(&report);
    g_free(is.bytes);
}

static void expect_find(World *w, const char *which, uint64_t id, const char *wanted)
{
    GError *error = NULL;
    g_autoptr(FutSnapshotInfo) info = fut_store_find(w->store, which, NULL, &error);

    if (id) {
        g_assert_no_error(error);
        g_assert_cmpuint(info->id, ==, id);
    } else {
        g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
        g_assert_nonnull(strstr(error->message, wanted));
        g_clear_error(&error);
    }
}

/* Nobody gets an older snapshot without being told because the one he means is damaged. */
static void test_find_damaged(World *w, gconstpointer data)
{
    take_three(w);
    fixture_flip(w->folder, "0000000002.snap", 60, 1);
    expect_find(w, "", 3, NULL);
    expect_find(w, "1", 1, NULL);
    expect_find(w, "2", 0, "0000000002.snap is damaged: its fields do not hold");
    fixture_flip(w->folder, "0000000003.snap", 20, 1);
    expect_find(w, "", 0, "does not hold; it may be the one that is meant: name another by its ID");
    expect_find(w, "-1s", 0, "0000000003.snap is damaged");
    expect_find(w, "1", 1, NULL);
}

/* A manifest that cannot be read costs its snapshot; and what else it needs nobody knows. */
static void test_unread(World *w, gconstpointer data)
{
    take_three(w);
    fixture_flip(w->folder, "0000000003.snap", 60, 1);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    fixture_flip(w->folder, packs->pdata[2], 50, 1); /* a frame of the third alone */
    FutVerifyReport report = store_world_verify(w, false);
    g_assert_cmpuint(report.snapshots, ==, 3);
    g_assert_cmpuint(report.unread, ==, 1);
    g_assert_cmpuint(report.damages->len, ==, 2);
    const FutDamage *manifest = report.damages->pdata[0], *pack = report.damages->pdata[1];
    g_assert_nonnull(strstr(manifest->what, "0000000003.snap"));
    g_assert_cmpuint(manifest->snapshots->len, ==, 1);
    g_assert_cmpuint(g_array_index(manifest->snapshots, uint64_t, 0), ==, 3);
    g_assert_nonnull(strstr(pack->what, packs->pdata[2]));
    g_assert_cmpuint(pack->snapshots->len, ==, 0);
    fut_verify_report_done(&report);
}

/* One in full stores anew what is damaged, instead of referring to it; also by a process that knows only the hashes. */
static void test_full_repairs(World *w, gconstpointer data)
{
    take_three(w);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    fixture_flip(w->folder, packs->pdata[0], 5000, 3);
    store_world_take(w, 0, 4);
    image_expect(w->store, 4, w->image);
    fixture_flip(w->folder, packs->pdata[1], 5000, 3);
    store_world_reopen(w);
    store_world_take(w, 0, 5);
    image_expect(w->store, 5, w->image);
    FutVerifyReport report = store_world_verify(w, false);
    for (guint i = 0; i < report.damages->len; i++) {
        const FutDamage *damage = report.damages->pdata[i];
        for (guint s = 0; s < damage->snapshots->len; s++) {
            g_assert_cmpuint(g_array_index(damage->snapshots, uint64_t, s), <, 5);
        }
    }
    g_assert_cmpuint(report.damages->len, ==, 2);
    fut_verify_report_done(&report);
}

/* A difference to what cannot be read is refused, and it is said whose fault it is. */
static void test_damaged_parent(World *w, gconstpointer data)
{
    GError *error = NULL;
    g_autoptr(FutSnapshotInfo) info = image_info(3, 9);

    take_three(w);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, &error);
    g_assert_true(fut_snapshot_put(writer, RAM, 0, w->image->ram, FUT_UNIT_SIZE, &error));
    g_assert_false(fut_snapshot_parent_damaged(writer));
    fut_snapshot_abort(writer);
    for (guint i = 0; i < packs->len; i++) {
        fixture_flip(w->folder, packs->pdata[i], 20, 1);
    }
    writer = fut_store_begin(w->store, info, 0, 0, &error);
    g_assert_no_error(error);
    g_assert_false(fut_snapshot_put(writer, RAM, 0, w->image->ram, FUT_UNIT_SIZE, &error));
    g_assert_true(fut_snapshot_parent_damaged(writer));
    g_assert_nonnull(strstr(error->message, packs->pdata[2]));
    g_clear_error(&error);
    fut_snapshot_abort(writer);
    store_world_take(w, 0, 4);
    image_expect(w->store, w->last, w->image);
}

typedef struct {
    uint64_t done, all, calls, stop_at;
} Heard;

static bool hear(void *opaque, uint64_t done, uint64_t all)
{
    Heard *heard = opaque;

    g_assert_cmpuint(done, >=, heard->done);
    g_assert_cmpuint(done, <=, all);
    *heard = (Heard){ done, all, heard->calls + 1, heard->stop_at };
    return heard->calls != heard->stop_at;
}

/* Hashing is told of as reading is, counts as what it costs, and can be stopped. */
static void check_progress(World *w)
{
    Heard heard = { 0 };
    FutVerifyReport report;
    GError *error = NULL;

    g_assert_true(fut_store_verify(w->store, true, hear, &heard, &report, &error));
    fut_verify_report_done(&report);
    g_assert_cmpuint(heard.all, >, 2 * area_bytes[RAM]);
    g_assert_cmpuint(heard.done, >, heard.all / 2); /* the second memory is under way */
    Heard stopped = { .stop_at = heard.calls };
    g_assert_false(fut_store_verify(w->store, true, hear, &stopped, &report, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_assert_nonnull(strstr(error->message, "stopped before all was read"));
    g_clear_error(&error);
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
    g_assert_true(fut_snapshot_memory_hash(snapshot, NULL, NULL, &hash, &error));
    g_assert_cmpuint(hash, ==, fut_memory_hash(&memory));
    FutVerifyReport report = store_world_verify(w, true);
    g_assert_cmpuint(report.damages->len, ==, 1);
    const FutDamage *damage = report.damages->pdata[0];
    g_assert_nonnull(
        strstr(damage->what, "0000000002.snap: its memory is not what it was at the cut"));
    g_assert_cmpuint(g_array_index(damage->snapshots, uint64_t, 0), ==, 2);
    fut_verify_report_done(&report);
    check_progress(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/store-verify/flipped", World, NULL, set_up, test_flipped, tear_down);
    g_test_add("/store-verify/truncated", World, NULL, set_up, test_truncated, tear_down);
    g_test_add("/store-verify/swapped", World, NULL, set_up, test_swapped, tear_down);
    g_test_add("/store-verify/manifest", World, NULL, set_up, test_manifest, tear_down);
    g_test_add("/store-verify/find", World, NULL, set_up, test_find_damaged, tear_down);
    g_test_add("/store-verify/unread", World, NULL, set_up, test_unread, tear_down);
    g_test_add("/store-verify/full-repairs", World, NULL, set_up, test_full_repairs, tear_down);
    g_test_add("/store-verify/damaged-parent", World, NULL, set_up, test_damaged_parent, tear_down);
    g_test_add("/store-verify/memory-hash", World, NULL, set_up, test_memory_hash, tear_down);
    return g_test_run();
}
