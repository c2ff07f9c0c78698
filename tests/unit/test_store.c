/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots that go into a store come out of it again. */
#include "store_fixture.h"
#include "store_prune.h"

typedef StoreWorld World;

static void set_up(World *w, gconstpointer data)
{
    store_world_init(w);
    for (unsigned i = 0; i < RAM_UNITS; i += 2) {
        image_set(w->image, RAM, i, i);
    }
    image_set(w->image, ROM, 0, 77);
    for (unsigned i = 0; i < DISK_UNITS; i++) {
        image_set(w->image, DISK, i, i);
    }
    memset(w->image->state, 0x5a, sizeof(w->image->state));
}

static void tear_down(World *w, gconstpointer data)
{
    store_world_done(w);
}

static uint64_t take(World *w, uint64_t parent)
{
    return store_world_take(w, parent, 1000000 * (parent + 1));
}

static uint64_t size_of_store(const World *w)
{
    return fixture_bytes(w->folder);
}

static void test_full(World *w, gconstpointer data)
{
    uint64_t id = take(w, 0);

    g_assert_cmpuint(id, ==, 1);
    image_expect(w->store, id, w->image);
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(w->store, id, NULL);
    const FutSnapshotInfo *info = fut_snapshot_info(snapshot);
    g_assert_cmpstr(info->vm, ==, "web");
    g_assert_cmpstr(info->command[1], ==, "-m");
    g_assert_cmpstr(info->fingerprint[1], ==, "machine=microvm");
    g_assert_null(info->fingerprint[2]);
    g_assert_cmpuint(info->areas->len, ==, AREAS + 1);
    g_assert_cmpuint(info->time_us, ==, 1000000);
    g_assert_cmpuint(fut_snapshot_info_nth(info, RAM)->put_units, ==, RAM_UNITS / 2 - 1);
}

/* A series, each with a few changes; all of them stay readable, and cost what changed. */
static void test_series(World *w, gconstpointer data)
{
    Image *images[6];
    uint64_t id = 0, before = 0;

    for (unsigned n = 0; n < G_N_ELEMENTS(images); n++) {
        for (unsigned i = 0; n > 0 && i < 20; i++) {
            image_set(w->image, RAM, (n * 613 + i * 67) % RAM_UNITS, i % 5 ? 5000 + n * 20 + i : 0);
            image_set(w->image, DISK, (n * 311 + i) % DISK_UNITS, i % 3 ? 9000 + n * 20 + i : 0);
        }
        w->image->state[n] = (uint8_t)n;
        id = take(w, id);
        g_assert_cmpuint(id, ==, n + 1);
        images[n] = g_memdup2(w->image, sizeof(Image));
        g_assert_cmpuint(size_of_store(w) - before, <, n ? 80000 : 4000000);
        before = size_of_store(w);
    }
    for (unsigned n = 0; n < G_N_ELEMENTS(images); n++) {
        image_expect(w->store, n + 1, images[n]);
    }
    /* Without their parents, too, and by another process. */
    store_world_reopen(w);
    g_assert_true(fut_store_delete(w->store, 1, NULL));
    g_assert_true(fut_store_delete(w->store, 6, NULL));
    for (unsigned n = 1; n < 5; n++) {
        image_expect(w->store, n + 1, images[n]);
    }
    g_assert_cmpuint(take(w, 0), ==, 7); /* an ID comes once */
    for (unsigned n = 0; n < G_N_ELEMENTS(images); n++) {
        g_free(images[n]);
    }
}

/* Equal units are stored once: a second full snapshot of the same, by a process that knows nothing, costs its manifest. */
static void test_once(World *w, gconstpointer data)
{
    take(w, 0);
    uint64_t before = size_of_store(w);
    store_world_reopen(w);
    take(w, 0);
    g_assert_cmpuint(size_of_store(w) - before, <, 1000);
    image_expect(w->store, 2, w->image);
}

static void test_zeroes(World *w, gconstpointer data)
{
    GError *error = NULL;
    take(w, 0);
    g_autoptr(FutSnapshotInfo) info = image_info(1, 5);
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, &error);

    g_assert_no_error(error);
    g_assert_true(
        fut_snapshot_put_zeroes(writer, RAM, 3 * FUT_UNIT_SIZE, 1200 * FUT_UNIT_SIZE, NULL));
    g_assert_true(fut_snapshot_put_zeroes(writer, DISK, 600 * FUT_UNIT_SIZE,
                                          DISK_BYTES - 600 * FUT_UNIT_SIZE, NULL));
    g_assert_true(fut_snapshot_put_zeroes(writer, ROM, 0, FUT_UNIT_SIZE, NULL));
    g_assert_true(fut_snapshot_put_state(writer, w->image->state, sizeof(w->image->state), NULL));
    g_assert_true(fut_snapshot_commit(writer, NULL, NULL));
    memset(w->image->ram + 3 * FUT_UNIT_SIZE, 0, 1200 * FUT_UNIT_SIZE);
    memset(w->image->disk + 600 * FUT_UNIT_SIZE, 0, DISK_BYTES - 600 * FUT_UNIT_SIZE);
    memset(w->image->rom, 0, sizeof(w->image->rom));
    image_expect(w->store, 2, w->image);
}

static void test_abort(World *w, gconstpointer data)
{
    g_autoptr(FutSnapshotInfo) info = image_info(0, 5);
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, NULL);

    g_assert_true(image_put(writer, w->image, NULL, NULL));
    fut_snapshot_abort(writer);
    g_autoptr(GPtrArray) all = fut_store_list(w->store, NULL, NULL);
    g_assert_cmpuint(all->len, ==, 0);
    g_assert_cmpuint(size_of_store(w), <, 100); /* nothing is left of it */
    uint64_t id = take(w, 0);
    image_expect(w->store, id, w->image);
}

static void test_refusals(World *w, gconstpointer data)
{
    GError *error = NULL;
    g_autofree char *text = NULL;

    g_assert_null(fut_store_open("/nowhere/at/all", FUT_STORE_READ, &error));
    expect_error(error, FUT_ERR_ARG, "store /nowhere/at/all: No such file or directory");
    g_assert_cmpuint(image_take(w->store, w->image, NULL, 9, 1, &error), ==, 0);
    text = g_strdup_printf("there is no snapshot 9 in %s", w->folder);
    expect_error(error, FUT_ERR_STATE, text);
    take(w, 0);
    g_autoptr(FutSnapshotInfo) info = image_info(1, 5);
    ((FutArea *)info->areas->pdata[DISK])->length = 4096;
    g_assert_null(fut_store_begin(w->store, info, 0, 0, &error));
    expect_error(error, FUT_ERR_MISMATCH,
                 "snapshot 1 has no area 'virtio0' of 4096 bytes: take a full one");
    info->parent = 0;
    g_assert_null(fut_store_begin(w->store, info, 1ull << 60, 0, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_assert_nonnull(strstr(error->message, "MiB have to stay: prune the store, or make room"));
    g_clear_error(&error);
}

/* One writes at a time, also from one process with the store open twice. */
static void test_lock(World *w, gconstpointer data)
{
    GError *error = NULL;
    g_autoptr(FutStore) other = fut_store_open(w->folder, FUT_STORE_WRITE, NULL);
    g_autoptr(FutSnapshotInfo) info = image_info(0, 5);
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, NULL);
    g_autofree char *text =
        g_strdup_printf("another process writes to %s: try again when it is done", w->folder);

    g_assert_null(fut_store_begin(other, info, 0, 20, &error));
    expect_error(error, FUT_ERR_BUSY, text);
    fut_snapshot_abort(writer);
    writer = fut_store_begin(other, info, 0, 0, NULL);
    g_assert_nonnull(writer);
    fut_snapshot_abort(writer);
}

/* Two VMs keep one store open. What one of them gives up, and what joining does, costs the other nothing. */
static void test_two_writers(World *w, gconstpointer data)
{
    g_autoptr(FutStore) other = fut_store_open(w->folder, FUT_STORE_WRITE, NULL);
    g_autoptr(FutSnapshotInfo) info = image_info(0, 5);
    g_autofree Image *theirs = g_memdup2(w->image, sizeof(Image));
    FutPruneReport report;
    uint64_t mine, id = 0;

    take(w, 0);
    for (unsigned n = 0; n < 8; n++) {
        image_set(theirs, RAM, n, 7000 + n);
        id = image_take(other, theirs, NULL, 0, 10 + n, NULL);
        g_assert_cmpuint(id, >, 0);
    }
    image_set(w->image, RAM, 9, 8000);
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, NULL);
    g_assert_true(image_put(writer, w->image, NULL, NULL));
    fut_snapshot_abort(writer);
    image_expect(other, id, theirs);

    g_assert_true(
        fut_store_prune(other, &(FutPrunePolicy){ 0 }, false, 0, NULL, NULL, &report, NULL));
    g_assert_cmpuint(report.files_after, <, report.files_before);
    fut_prune_report_done(&report);
    mine = take(w, 0);
    image_expect(w->store, mine, w->image);
    image_expect(other, id, theirs);
}

static unsigned open_files(void)
{
    g_autoptr(GPtrArray) names = fixture_files("/proc/self/fd", "");

    return names->len;
}

#define MANY 200u

/* So many, each the difference to the one before and in a file of its own. Two in turn have the same in twenty pages. */
static void take_many(World *w)
{
    uint64_t id = 0;

    for (unsigned n = 0; n < MANY; n++) {
        for (unsigned i = 0; i < 20; i++) {
            image_set(w->image, RAM, i, 7000 + i + n % 2 * 100);
        }
        image_set(w->image, RAM, 600, 10000 + n);
        uint64_t before = size_of_store(w);
        id = take(w, id);
        /* A page, the nodes over it, and what there is to say of the snapshot: the twenty pages are there. */
        g_assert_true(n < 2 || size_of_store(w) - before < 4096);
    }
}

static FutPruneReport prune_all(FutStore *store)
{
    FutPruneReport report;

    g_assert_true(
        fut_store_prune(store, &(FutPrunePolicy){ 0 }, false, 0, NULL, NULL, &report, NULL));
    return report;
}

/* The last of many is read like the first, with a bounded number of open files; and what it needs stays while it is read. */
static void test_many(World *w, gconstpointer data)
{
    unsigned before = open_files();
    uint8_t unit[FUT_UNIT_SIZE];
    GError *error = NULL;

    take_many(w);
    g_autofree Image *last = g_memdup2(w->image, sizeof(Image));
    image_expect(w->store, MANY, last);
    g_assert_cmpuint(open_files(), ==, before);
    g_autoptr(GPtrArray) packs = fixture_files(w->folder, ".pack");
    g_assert_cmpuint(packs->len, ==, MANY);

    g_autoptr(FutStore) other = fut_store_open(w->folder, FUT_STORE_READ, NULL);
    gint64 begin_us = g_get_monotonic_time();
    FutSnapshot *snapshot = fut_snapshot_open(other, MANY, &error);
    g_assert_no_error(error);
    g_test_message("opened in %u us", (unsigned)(g_get_monotonic_time() - begin_us));
    g_assert_cmpuint(open_files(), <=, before + 1 + FUT_STORE_FILES_MAX);

    /* All are deleted, also this one; its files are not. */
    for (uint64_t id = 1; id <= MANY; id++) {
        g_assert_true(fut_store_delete(w->store, id, &error));
    }
    FutPruneReport report = prune_all(w->store);
    g_assert_true(report.readers);
    g_assert_cmpuint(report.files_after, ==, MANY);
    fut_prune_report_done(&report);
    for (unsigned i = 0; i < RAM_UNITS; i++) {
        g_assert_true(fut_snapshot_read(snapshot, RAM, i, unit, NULL, &error));
        g_assert_cmpmem(unit, FUT_UNIT_SIZE, last->ram + i * FUT_UNIT_SIZE, FUT_UNIT_SIZE);
    }
    g_assert_cmpuint(open_files(), <=, before + 1 + FUT_STORE_FILES_MAX);
    fut_snapshot_close(snapshot);
    g_assert_cmpuint(open_files(), ==, before + 1);
    report = prune_all(w->store);
    g_assert_false(report.readers);
    g_assert_cmpuint(report.bytes_after, ==, 0);
    fut_prune_report_done(&report);
}

enum {
    THREADS = 4,
    READERS = 30 /* a thread */
};

static void *read_often(void *opaque)
{
    FutSnapshot **snapshots = opaque;
    uint8_t unit[FUT_UNIT_SIZE];

    for (unsigned i = 0; i < 3 * READERS; i++) {
        GError *error = NULL;
        g_assert_true(fut_snapshot_read(snapshots[i % READERS], RAM, 0, unit, NULL, &error));
        g_assert_true(fut_snapshot_read(snapshots[i % READERS], RAM, 600, unit, NULL, &error));
        g_assert_no_error(error);
        uint64_t id = fut_snapshot_info(snapshots[i % READERS])->id;
        g_autofree Image *wanted = g_new0(Image, 1);
        image_set(wanted, RAM, 600, 10000 + id - 1);
        g_assert_cmpmem(unit, FUT_UNIT_SIZE, wanted->ram + 600 * FUT_UNIT_SIZE, FUT_UNIT_SIZE);
    }
    return NULL;
}

/* Readers of one store are threads; the files that one of them needs another's reading closes. */
static void test_many_threads(World *w, gconstpointer data)
{
    FutSnapshot *snapshots[THREADS * READERS];
    GThread *threads[THREADS];
    unsigned before = open_files();

    take_many(w);
    for (unsigned i = 0; i < THREADS * READERS; i++) {
        snapshots[i] = fut_snapshot_open(w->store, MANY - i, NULL);
        g_assert_nonnull(snapshots[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = g_thread_new("reader", read_often, snapshots + (size_t)i * READERS);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpuint(open_files(), <=, before + FUT_STORE_FILES_MAX);
    for (unsigned i = 0; i < THREADS * READERS; i++) {
        fut_snapshot_close(snapshots[i]);
    }
    g_assert_cmpuint(open_files(), ==, before);
}

/* Joined, they are few files: and each is what it was. */
static void test_many_joined(World *w, gconstpointer data)
{
    take_many(w);
    FutPruneReport report = prune_all(w->store);
    g_assert_cmpuint(report.removed->len, ==, 0);
    g_assert_cmpuint(report.files_before, ==, MANY);
    g_assert_cmpuint(report.files_after, <=, 20);
    fut_prune_report_done(&report);
    image_expect(w->store, MANY, w->image);
    image_set(w->image, RAM, 600, 10000);
    for (unsigned i = 0; i < 20; i++) {
        image_set(w->image, RAM, i, 7000 + i);
    }
    image_expect(w->store, 1, w->image);
}

static void expect_found(World *w, const char *which, uint64_t id)
{
    GError *error = NULL;
    g_autoptr(FutSnapshotInfo) info = fut_store_find(w->store, which, NULL, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(info->id, ==, id);
}

static void test_find(World *w, gconstpointer data)
{
    GError *error = NULL;
    uint64_t now_us = (uint64_t)g_get_real_time();
    const uint64_t hour_us = 3600 * (uint64_t)G_USEC_PER_SEC;

    for (uint64_t i = 0; i < 3; i++) {
        image_take(w->store, w->image, NULL, 0, now_us - (3 - i) * hour_us, &error);
        g_assert_no_error(error);
    }
    expect_found(w, "", 3);
    expect_found(w, NULL, 3);
    expect_found(w, "2", 2);
    expect_found(w, "-61m", 2);
    expect_found(w, "-7201s", 1);
    g_autoptr(GDateTime) time =
        g_date_time_new_from_unix_local((gint64)((now_us - 2 * hour_us) / 1000000));
    g_autofree char *text = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S");
    expect_found(w, text, 2);
    g_assert_null(fut_store_find(w->store, "-1d", NULL, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    g_assert_null(fut_store_find(w->store, "soon", NULL, &error));
    expect_error(
        error, FUT_ERR_ARG,
        "snapshot 'soon': give its ID, a time such as 14:05 or 2026-11-30T14:05, or an age such as -10m");
    g_assert_null(fut_store_find(w->store, "", "other", &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/store/full", World, NULL, set_up, test_full, tear_down);
    g_test_add("/store/series", World, NULL, set_up, test_series, tear_down);
    g_test_add("/store/once", World, NULL, set_up, test_once, tear_down);
    g_test_add("/store/zeroes", World, NULL, set_up, test_zeroes, tear_down);
    g_test_add("/store/abort", World, NULL, set_up, test_abort, tear_down);
    g_test_add("/store/refusals", World, NULL, set_up, test_refusals, tear_down);
    g_test_add("/store/lock", World, NULL, set_up, test_lock, tear_down);
    g_test_add("/store/two-writers", World, NULL, set_up, test_two_writers, tear_down);
    g_test_add("/store/many", World, NULL, set_up, test_many, tear_down);
    g_test_add("/store/many-threads", World, NULL, set_up, test_many_threads, tear_down);
    g_test_add("/store/many-joined", World, NULL, set_up, test_many_joined, tear_down);
    g_test_add("/store/find", World, NULL, set_up, test_find, tear_down);
    return g_test_run();
}
