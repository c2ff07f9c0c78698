/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store whose writer is refused, is killed, or loses power at any operation: what is there afterwards are whole snapshots, among them all that
 * were said to be durable. */
#include "expect.h"
#include "store_prune.h"
#include "store_sim.h"
#include "store_verify.h"

#define SEEDS 60
#define LIVES 6
#define UNITS 1100u
#define IDS_MAX 512

typedef enum {
    GONE,    /* not there, or removed */
    THERE,   /* said to be durable */
    IN_DOUBT /* its commit, or its removal, was refused or cut short */
} Standing;

typedef struct {
    Standing standing;
    uint32_t tags[UNITS];
} Model;

typedef struct {
    SimFs fs;
    GRand *rand;
    FutStore *store;
    uint32_t tags[UNITS]; /* what the VM's memory has */
    uint64_t parent;      /* snapshot after which `changed` counts; 0: none */
    bool changed[UNITS];
    Model *models; /* by ID */
    uint32_t last_tag;
} World;

static void fill(uint8_t *unit, uint32_t tag)
{
    memset(unit, 0, FUT_UNIT_SIZE);
    for (unsigned i = 0; tag && i < FUT_UNIT_SIZE / 4; i++) {
        uint32_t word = i % 4 ? tag : tag * 2654435761u;
        memcpy(unit + i * 4, &word, 4);
    }
}

static bool alive(const World *w)
{
    return w->fs.die_after != 0;
}

static void write_memory(World *w)
{
    unsigned count = (unsigned)g_rand_int_range(w->rand, 1, 40);
    unsigned at = (unsigned)g_rand_int_range(w->rand, 0, UNITS);

    for (unsigned i = 0; i < count; i++) {
        unsigned unit = g_rand_boolean(w->rand) ? (at + i) % UNITS
                                                : (unsigned)g_rand_int_range(w->rand, 0, UNITS);
        int what = g_rand_int_range(w->rand, 0, 5);
        w->tags[unit] = what == 0 ? 0 : what == 1 ? w->tags[at] : ++w->last_tag;
        w->changed[unit] = true;
    }
}

static bool put_all(World *w, FutSnapshotWriter *writer)
{
    uint8_t unit[FUT_UNIT_SIZE];

    for (unsigned i = 0; i < UNITS; i++) {
        if (w->parent ? w->changed[i] : w->tags[i] != 0) {
            fill(unit, w->tags[i]);
            if (!fut_snapshot_put(writer, 0, (uint64_t)i * FUT_UNIT_SIZE, unit, FUT_UNIT_SIZE,
                                  NULL)) {
                return false;
            }
        }
    }
    return fut_snapshot_put_state(writer, (const uint8_t *)w->tags, sizeof(w->tags), NULL);
}

static void take(World *w)
{
    g_autoptr(FutSnapshotInfo) info = fut_snapshot_info_new();

    info->parent = w->parent;
    info->time_us = w->last_tag * 60000000ull;
    fut_snapshot_info_add(info, FUT_AREA_MEMORY, "ram", UNITS * FUT_UNIT_SIZE);
    FutSnapshotWriter *writer = fut_store_begin(w->store, info, 0, 0, NULL);
    if (!writer) {
        w->parent = 0;
        return;
    }
    uint64_t id = fut_snapshot_writer_id(writer);
    g_assert_cmpuint(id, <, IDS_MAX);
    Model *model = &w->models[id];
    g_assert_cmpint(model->standing, ==, GONE);
    memcpy(model->tags, w->tags, sizeof(w->tags));
    if (!put_all(w, writer)) {
        fut_snapshot_abort(writer);
        w->parent = 0;
    } else if (fut_snapshot_commit(writer, NULL, NULL)) {
        model->standing = THERE;
        w->parent = id;
    } else {
        model->standing = IN_DOUBT;
        w->parent = 0;
    }
    memset(w->changed, 0, sizeof(w->changed));
}

static void prune(World *w)
{
    FutPrunePolicy policy = { .keep = (unsigned)g_rand_int_range(w->rand, 1, 6),
                              .hourly = (unsigned)g_rand_int_range(w->rand, 0, 3) };
    FutPruneReport report;
    g_autoptr(GError) error = NULL;

    if (g_rand_int_range(w->rand, 0, 4) == 0) {
        policy.max_bytes = (uint64_t)g_rand_int_range(w->rand, 1, 200000);
    }
    if (fut_store_prune(w->store, &policy, false, 0, NULL, NULL, &report, &error)) {
        for (guint i = 0; i < report.removed->len; i++) {
            w->models[g_array_index(report.removed, uint64_t, i)].standing = GONE;
        }
        fut_prune_report_done(&report);
        return;
    }
    g_assert_true(!alive(w) || w->fs.fails_one_in);
    for (unsigned i = 0; i < IDS_MAX; i++) { /* each may have been removed */
        w->models[i].standing = w->models[i].standing == THERE ? IN_DOUBT : w->models[i].standing;
    }
}

static void delete_one(World *w)
{
    uint64_t id = (uint64_t)g_rand_int_range(w->rand, 1, 12);

    if (w->models[id].standing == GONE) {
        return;
    }
    w->models[id].standing = fut_store_delete(w->store, id, NULL) ? GONE : IN_DOUBT;
}

static void live(World *w)
{
    for (int step = 0; step < 14 && alive(w); step++) {
        w->fs.fails_one_in = g_rand_int_range(w->rand, 0, 4) == 0 ? 40 : 0;
        switch (g_rand_int_range(w->rand, 0, 8)) {
        case 0:
            prune(w);
            break;
        case 1:
            delete_one(w);
            break;
        default:
            write_memory(w);
            take(w);
        }
    }
    w->fs.fails_one_in = 0;
}

typedef struct {
    const Model *model;
    unsigned seen;
} Compare;

static bool compare_unit(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    Compare *compare = opaque;
    uint8_t wanted[FUT_UNIT_SIZE];

    fill(wanted, compare->model->tags[unit]);
    g_assert_cmpmem(data, FUT_UNIT_SIZE, wanted, FUT_UNIT_SIZE);
    compare->seen++;
    return true;
}

static void check_snapshot(World *w, const FutSnapshotInfo *info)
{
    Model *model = &w->models[info->id];
    GError *error = NULL;
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(w->store, info->id, &error);
    Compare compare = { model, 0 };
    unsigned wanted = 0;
    size_t length = 0;

    g_assert_no_error(error);
    g_assert_cmpint(model->standing, !=, GONE);
    fut_snapshot_each(snapshot, 0, 0, UNITS, compare_unit, &compare, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < UNITS; i++) {
        wanted += model->tags[i] != 0;
    }
    g_assert_cmpuint(compare.seen, ==, wanted);
    g_autofree uint8_t *state = fut_snapshot_state(snapshot, &length, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(state, length, model->tags, sizeof(model->tags));
}

/* After the end of a life: what is there is whole, and nothing that has to be is missing. */
static void check(World *w)
{
    FutVerifyReport report;
    GPtrArray *damaged = NULL;
    GError *error = NULL;
    bool found[IDS_MAX] = { false };

    g_autoptr(GPtrArray) all = fut_store_list(w->store, &damaged, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(damaged->len, ==, 0);
    g_ptr_array_unref(damaged);
    for (guint i = 0; i < all->len; i++) {
        const FutSnapshotInfo *info = all->pdata[i];
        check_snapshot(w, info);
        found[info->id] = true;
    }
    for (unsigned i = 0; i < IDS_MAX; i++) {
        g_assert_true(found[i] || w->models[i].standing != THERE);
        w->models[i].standing = found[i] ? THERE : GONE;
    }
    g_assert_true(fut_store_verify(w->store, false, NULL, NULL, &report, &error));
    if (report.damages->len > 0) {
        g_error("%s", ((FutDamage *)report.damages->pdata[0])->what);
    }
    fut_verify_report_done(&report);
}

/* -- damage -- */

static bool can_be_read(World *w, const FutSnapshotInfo *info)
{
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(w->store, info->id, NULL);
    Compare compare = { &w->models[info->id], 0 };
    size_t length = 0;

    if (!snapshot || !fut_snapshot_each(snapshot, 0, 0, UNITS, compare_unit, &compare, NULL)) {
        return false;
    }
    g_autofree uint8_t *state = fut_snapshot_state(snapshot, &length, NULL);
    return state != NULL;
}

static void find_readable(World *w, bool *ret)
{
    g_autoptr(GPtrArray) all = fut_store_list(w->store, NULL, NULL);

    memset(ret, 0, IDS_MAX * sizeof(bool));
    for (guint i = 0; i < all->len; i++) {
        const FutSnapshotInfo *info = all->pdata[i];
        ret[info->id] = can_be_read(w, info);
    }
}

/* Any pack that is there; NULL: none is. */
static SimFile *any_pack(World *w)
{
    GHashTableIter iter;
    gpointer name, file;
    SimFile *found = NULL;
    int seen = 0;

    g_hash_table_iter_init(&iter, w->fs.now);
    while (g_hash_table_iter_next(&iter, &name, &file)) {
        if (g_str_has_suffix(name, ".pack") && g_rand_int_range(w->rand, 0, ++seen) == 0) {
            found = w->fs.files->pdata[GPOINTER_TO_INT(file) - 1];
        }
    }
    return found;
}

/* A bit flips in some file, and only then it is pruned: what could be read and stays can be read; when it is mended nothing is missing. */
static void flip_and_prune(World *w)
{
    SimFile *pack = any_pack(w);
    bool before[IDS_MAX], after[IDS_MAX];

    if (!pack) {
        return;
    }
    guint at = (guint)g_rand_int_range(w->rand, 0, (gint32)pack->now->len);
    guint8 bit = (guint8)(1 << g_rand_int_range(w->rand, 0, 8));
    pack->now->data[at] ^= bit;
    pack->durable->data[at] ^= bit;
    find_readable(w, before);
    prune(w);
    find_readable(w, after);
    for (unsigned i = 0; i < IDS_MAX; i++) {
        g_assert_cmpint(after[i], ==, before[i] && w->models[i].standing == THERE);
    }
    pack->now->data[at] ^= bit;
    pack->durable->data[at] ^= bit;
}

static void open_store(World *w)
{
    w->store = fut_store_open_fs(&w->fs.fs, FUT_STORE_CREATE, NULL);
    w->parent = 0;
    if (w->store && alive(w)) {
        prune(w); /* the first thing a new process does may be to tidy */
    }
}

static void one_life(World *w)
{
    bool power_cut = g_rand_boolean(w->rand);

    w->fs.die_after = g_rand_int_range(w->rand, 1, 600);
    open_store(w);
    if (w->store) {
        live(w);
    }
    g_clear_pointer(&w->store, fut_store_close);
    w->fs.locked = false;
    w->fs.die_after = -1;
    if (power_cut) {
        sim_fs_power_cut(&w->fs);
    } else {
        sim_fs_write_back(&w->fs);
    }
    w->store = fut_store_open_fs(&w->fs.fs, FUT_STORE_CREATE, NULL);
    g_assert_nonnull(w->store);
    check(w);
    flip_and_prune(w);
    check(w);
    g_clear_pointer(&w->store, fut_store_close);
}

static void test_lives(void)
{
    for (guint32 seed = 0; seed < SEEDS; seed++) {
        World *w = g_new0(World, 1);
        w->rand = g_rand_new_with_seed(seed);
        w->models = g_new0(Model, IDS_MAX);
        sim_fs_init(&w->fs, w->rand);
        for (int life = 0; life < LIVES; life++) {
            g_test_message("seed %u life %d", seed, life);
            one_life(w);
        }
        sim_fs_done(&w->fs);
        g_rand_free(w->rand);
        g_free(w->models);
        g_free(w);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-crash/lives", test_lives);
    return g_test_run();
}
