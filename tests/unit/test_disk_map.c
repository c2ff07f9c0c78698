/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The map of what a twin's disk lacks: a copy is exact whatever the guest writes meanwhile. */
#include "disk_map.h"

#define MB FUT_CHUNK_SIZE

static FutDiskWrite write_at(uint64_t offset, uint64_t length)
{
    return (FutDiskWrite){ .offset = offset, .length = length };
}

static bool begin_end(FutDiskMap *map, uint64_t offset, uint64_t length)
{
    FutDiskWrite write = write_at(offset, length);
    bool begun = fut_disk_map_begin(map, &write);
    if (begun) {
        fut_disk_map_end(map, &write);
    }
    return begun;
}

static void copy_all(FutDiskMap *map)
{
    uint64_t offset, length;
    while (fut_disk_map_claim(map, 3, &offset, &length)) {
        g_assert_true(fut_disk_map_quiet(map));
        fut_disk_map_sent(map, 0, offset, length);
        fut_disk_map_copied(map, length);
    }
}

static void test_copy(void)
{
    FutDiskMap map;
    uint64_t offset, length;
    fut_disk_map_init(&map, 5 * MB + 512, FUT_CHUNK_SHIFT);
    g_assert_cmpuint(map.chunks, ==, 6);

    g_assert_true(fut_disk_map_claim(&map, 4, &offset, &length));
    g_assert_cmpuint(offset, ==, 0);
    g_assert_cmpuint(length, ==, 4 * MB);
    fut_disk_map_copied(&map, 2 * MB); /* the rest of the claim goes back */
    g_assert_cmpuint(map.synced, ==, 2);
    g_assert_true(fut_disk_map_claim(&map, 100, &offset, &length));
    g_assert_cmpuint(offset, ==, 2 * MB);
    g_assert_cmpuint(length, ==, 3 * MB + 512);
    fut_disk_map_copied(&map, 3 * MB + 512);
    g_assert_cmpuint(map.synced, ==, 6);
    g_assert_false(fut_disk_map_claim(&map, 100, &offset, &length));

    fut_disk_map_forget(&map);
    g_assert_cmpuint(map.synced, ==, 0);
    fut_disk_map_done(&map);
}

static void test_claim_and_writes(void)
{
    FutDiskMap map;
    uint64_t offset, length;
    fut_disk_map_init(&map, 4 * MB, FUT_CHUNK_SHIFT);
    FutDiskWrite before = write_at(MB - 512, 1024), after = write_at(0, 512);

    g_assert_true(fut_disk_map_begin(&map, &before));
    g_assert_false(before.sending);
    g_assert_true(fut_disk_map_claim(&map, 2, &offset, &length));
    g_assert_false(fut_disk_map_quiet(&map));         /* the copy waits for it */
    g_assert_false(fut_disk_map_begin(&map, &after)); /* it waits for the copy */
    g_assert_true(begin_end(&map, 2 * MB, 2 * MB));
    fut_disk_map_end(&map, &before);
    g_assert_true(fut_disk_map_quiet(&map));
    fut_disk_map_copied(&map, 2 * MB);
    g_assert_true(fut_disk_map_begin(&map, &after));
    g_assert_true(after.sending);
    fut_disk_map_end(&map, &after);
    fut_disk_map_done(&map);
}

/* Two writes to one place reach both disks in one order. */
static void test_overlap(void)
{
    FutDiskMap map;
    fut_disk_map_init(&map, 4 * MB, FUT_CHUNK_SHIFT);
    FutDiskWrite first = write_at(4096, 4096), second = write_at(16384, 512),
                 third = write_at(MB, 512);

    g_assert_true(fut_disk_map_begin(&map, &first));
    g_assert_false(begin_end(&map, 8191, 1));
    g_assert_false(begin_end(&map, 0, MB));
    g_assert_true(begin_end(&map, 8192, 512));
    g_assert_true(begin_end(&map, 0, 4096));
    g_assert_true(fut_disk_map_begin(&map, &second));
    g_assert_true(fut_disk_map_begin(&map, &third));
    fut_disk_map_end(&map, &second);
    g_assert_true(begin_end(&map, 16384, 512));
    g_assert_false(begin_end(&map, MB, 1));
    fut_disk_map_end(&map, &first);
    fut_disk_map_end(&map, &third);
    g_assert_true(begin_end(&map, 0, 4 * MB));
    fut_disk_map_done(&map);
}

/* A write over synced, needed, synced chunks goes out in two pieces. */
static void test_pieces(void)
{
    FutDiskMap map;
    uint64_t offset, length;
    fut_disk_map_init(&map, 4 * MB, FUT_CHUNK_SHIFT);
    copy_all(&map);
    fut_disk_map_missed(&map, 2 * MB + 100, 1);
    g_assert_cmpuint(map.synced, ==, 3);
    FutDiskWrite write = write_at(MB + 512, 2 * MB);
    uint64_t at = write.offset;

    g_assert_true(fut_disk_map_begin(&map, &write));
    g_assert_true(write.sending);
    g_assert_true(fut_disk_map_piece(&map, &write, &at, &offset, &length));
    g_assert_cmpuint(offset, ==, MB + 512);
    g_assert_cmpuint(length, ==, MB - 512);
    g_assert_true(fut_disk_map_piece(&map, &write, &at, &offset, &length));
    g_assert_cmpuint(offset, ==, 3 * MB);
    g_assert_cmpuint(length, ==, 512);
    g_assert_false(fut_disk_map_piece(&map, &write, &at, &offset, &length));
    fut_disk_map_end(&map, &write);
    fut_disk_map_done(&map);
}

static void test_lost(void)
{
    FutDiskMap map;
    uint64_t offset, length;
    fut_disk_map_init(&map, 8 * MB, FUT_CHUNK_SHIFT);
    copy_all(&map);
    fut_disk_map_confirm(&map, 0);
    fut_disk_map_sent(&map, 1, 0, 512);
    fut_disk_map_sent(&map, 1, MB, 512);
    fut_disk_map_sent(&map, 2, 5 * MB, 512);
    fut_disk_map_sent(&map, 2, 0, 512);
    fut_disk_map_confirm(&map, 1);
    fut_disk_map_lost(&map);
    g_assert_cmpuint(map.synced, ==, 6); /* what epoch 2 wrote is in doubt */
    fut_disk_map_missed(&map, 7 * MB, 1);

    g_assert_true(fut_disk_map_claim(&map, 9, &offset, &length));
    g_assert_cmpuint(offset, ==, 0);
    g_assert_cmpuint(length, ==, MB);
    fut_disk_map_sent(&map, 0, offset, length);
    fut_disk_map_copied(&map, length);
    g_assert_true(fut_disk_map_claim(&map, 9, &offset, &length));
    g_assert_cmpuint(offset, ==, 5 * MB);
    fut_disk_map_lost(&map); /* again, in the middle: nothing of that copy was confirmed */
    g_assert_false(fut_disk_map_claimed(&map));
    g_assert_cmpuint(map.synced, ==, 5);
    fut_disk_map_done(&map);
}

/* -- the real thing: a disk, a guest that writes, links that break; then the twin must be equal -- */

#define CHUNKS 6
#define WRITERS 3

typedef struct {
    FutDiskMap map;
    uint8_t here[CHUNKS], there[CHUNKS]; /* a chunk's content, one number a chunk */
    FutDiskWrite write[WRITERS];
    uint8_t value[WRITERS];
    bool busy[WRITERS], landed[WRITERS];
    bool claimed;
    uint64_t offset, length;
} Model;

static void model_write_steps(Model *m, GRand *rand, unsigned i)
{
    if (!m->busy[i]) {
        uint64_t first = (uint64_t)g_rand_int_range(rand, 0, CHUNKS);
        uint64_t count = (uint64_t)g_rand_int_range(rand, 1, (gint32)(CHUNKS - first + 1));
        m->write[i] = write_at(first * MB, count * MB);
        m->value[i] = (uint8_t)g_rand_int_range(rand, 1, 255);
        m->busy[i] = fut_disk_map_begin(&m->map, &m->write[i]);
        m->landed[i] = false;
        return;
    }
    uint64_t first = m->write[i].offset / MB, end = first + m->write[i].length / MB;
    if (!m->landed[i]) {
        for (uint64_t c = first; c < end; c++) {
            m->here[c] = m->value[i];
        }
        m->landed[i] = true;
        return;
    }
    uint64_t at = m->write[i].offset, offset, length;
    while (m->write[i].sending &&
           fut_disk_map_piece(&m->map, &m->write[i], &at, &offset, &length)) {
        fut_disk_map_sent(&m->map, 0, offset, length);
        for (uint64_t c = offset / MB; c < (offset + length) / MB; c++) {
            m->there[c] = m->value[i];
        }
    }
    fut_disk_map_end(&m->map, &m->write[i]);
    m->busy[i] = false;
}

/* False: nothing left to copy. */
static bool model_copy_step(Model *m, GRand *rand)
{
    if (!m->claimed) {
        m->claimed = fut_disk_map_claim(&m->map, (uint64_t)g_rand_int_range(rand, 1, 4), &m->offset,
                                        &m->length);
        return m->claimed;
    }
    if (fut_disk_map_quiet(&m->map)) {
        uint64_t part = (uint64_t)g_rand_int_range(rand, 0, (gint32)(m->length / MB) + 1) * MB;
        for (uint64_t c = m->offset / MB; c < (m->offset + part) / MB; c++) {
            m->there[c] = m->here[c];
        }
        if (part > 0) {
            fut_disk_map_sent(&m->map, 0, m->offset, part);
        }
        fut_disk_map_copied(&m->map, part);
        m->claimed = false;
    }
    return true;
}

/* The twin loses some of what was sent and never confirmed. */
static void model_break(Model *m, GRand *rand)
{
    uint8_t before[CHUNKS];
    memcpy(before, m->map.state, CHUNKS);
    fut_disk_map_lost(&m->map);
    m->claimed = false;
    for (unsigned c = 0; c < CHUNKS; c++) {
        if (before[c] == FUT_CHUNK_SYNCED && m->map.state[c] == FUT_CHUNK_NEEDED &&
            g_rand_boolean(rand)) {
            m->there[c] = 255;
        }
    }
}

static void run_model(guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    Model m = { 0 };
    fut_disk_map_init(&m.map, CHUNKS * MB, FUT_CHUNK_SHIFT);
    bool left = true;
    for (int step = 0; step < 400 || left; step++) {
        g_assert_cmpint(step, <, 100000);
        if (step < 300) {
            model_write_steps(&m, rand, (unsigned)g_rand_int_range(rand, 0, WRITERS));
        }
        for (unsigned i = 0; i < WRITERS && step >= 300; i++) {
            if (m.busy[i]) {
                model_write_steps(&m, rand, i);
            }
        }
        if (step < 300 && g_rand_int_range(rand, 0, 50) == 0) {
            fut_disk_map_confirm(&m.map, 0);
        }
        if (step < 300 && g_rand_int_range(rand, 0, 60) == 0) {
            model_break(&m, rand);
        }
        left = model_copy_step(&m, rand);
    }
    g_assert_cmpmem(m.here, CHUNKS, m.there, CHUNKS);
    fut_disk_map_done(&m.map);
}

static void test_random(void)
{
    for (guint32 seed = 0; seed < 2000; seed++) {
        run_model(seed);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk-map/copy", test_copy);
    g_test_add_func("/disk-map/claim-and-writes", test_claim_and_writes);
    g_test_add_func("/disk-map/overlap", test_overlap);
    g_test_add_func("/disk-map/pieces", test_pieces);
    g_test_add_func("/disk-map/lost", test_lost);
    g_test_add_func("/disk-map/random", test_random);
    return g_test_run();
}
