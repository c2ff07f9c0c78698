/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The relocating disk with many at it at once, and at its limits. */
#include "expect.h"
#include "reloc_sim.h"

#define BLOCK FUT_BLOCK_SIZE
#define BLOCKS 256
#define SIZE (BLOCKS * BLOCK)

typedef struct {
    SimIo io;
    SimSource source;
    uint8_t there[SIZE], content[SIZE]; /* at the source; what has to be read */
    FutReloc *disk;
} World;

static World *world_new(void)
{
    World *w = g_new0(World, 1);
    FutRelocSetup setup;

    sim_init(&w->io, SIZE);
    for (uint32_t i = 0; i < SIZE; i++) {
        w->content[i] = (uint8_t)(1 + i / 512 % 251);
    }
    memcpy(w->there, w->content, SIZE);
    w->source = (SimSource){ { &sim_source_ops }, w->there, SIZE, NULL, 0, 0, 0, false };
    setup = sim_setup(&w->io, &w->source, true);
    w->disk = fut_reloc_new(&setup, NULL);
    g_assert_nonnull(w->disk);
    return w;
}

static void world_free(World *w)
{
    fut_reloc_free(w->disk);
    sim_done(&w->io);
    g_free(w);
}

/* A new process on the same files. */
static void reopen(World *w, uint8_t boot)
{
    FutRelocSetup setup = sim_setup(&w->io, &w->source, false);
    GError *error = NULL;

    fut_reloc_free(w->disk);
    setup.boot_id[0] = boot;
    w->disk = fut_reloc_new(&setup, &error);
    g_assert_no_error(error);
}

static void check_read(World *w, uint64_t offset, uint32_t length)
{
    g_autofree uint8_t *data = g_malloc(length);

    g_assert_cmpint(fut_reloc_read(w->disk, data, length, offset), ==, 0);
    g_assert_cmpmem(data, length, w->content + offset, length);
}

/* -- one fetch -- */

static void *read_one_block(void *opaque)
{
    check_read(opaque, 5 * BLOCK, BLOCK);
    return NULL;
}

static void test_one_fetch(void)
{
    World *w = world_new();
    GThread *threads[16];

    w->source.sleep_us = 100000;
    for (int i = 0; i < 16; i++) {
        threads[i] = g_thread_new("reader", read_one_block, w);
    }
    for (int i = 0; i < 16; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpuint(w->source.reads, ==, 1);
    check_read(w, 5 * BLOCK, BLOCK);
    g_assert_cmpuint(w->source.reads, ==, 1);
    world_free(w);
}

/* What is valid between two missing blocks comes along: one way, not two. */
static void test_one_way(void)
{
    World *w = world_new();

    g_assert_cmpint(fut_reloc_write(w->disk, w->content + 2 * BLOCK, BLOCK, 2 * BLOCK), ==, 0);
    check_read(w, BLOCK, 3 * BLOCK);
    g_assert_cmpuint(w->source.reads, ==, 1);
    world_free(w);
}

/* Nothing that is written asks the source, but a piece of a sector. */
static void test_writes_ask_nobody(void)
{
    World *w = world_new();
    uint8_t bytes[3 * BLOCK];

    w->source.rand = g_rand_new_with_seed(1);
    w->source.fails_one_in = 1;
    memset(bytes, 0xab, sizeof(bytes));
    memcpy(w->content + 10 * BLOCK + 512, bytes, 2 * BLOCK);
    g_assert_cmpint(fut_reloc_write(w->disk, bytes, 2 * BLOCK, 10 * BLOCK + 512), ==, 0);
    memset(w->content + 20 * BLOCK + 1024, 0, 512);
    g_assert_cmpint(fut_reloc_zero(w->disk, 512, 20 * BLOCK + 1024, false), ==, 0);
    check_read(w, 10 * BLOCK + 512, 2 * BLOCK);
    check_read(w, 20 * BLOCK + 1024, 512);
    g_assert_cmpuint(w->source.reads, ==, 0);
    g_assert_cmpint(fut_reloc_write(w->disk, bytes, 100, 30 * BLOCK), ==, EIO);
    g_assert_cmpint(fut_reloc_read(w->disk, bytes, BLOCK, 10 * BLOCK), ==, EIO);
    w->source.fails_one_in = 0;
    check_read(w, 0, SIZE);
    g_rand_free(w->source.rand);
    world_free(w);
}

/* -- many threads -- */

#define THREADS 6
#define STEPS 3000

typedef struct {
    World *w;
    unsigned number;
} Worker;

/* Each thread has sectors of its own, but not blocks: sector s belongs to thread s % THREADS. */
static void *work(void *opaque)
{
    Worker *worker = opaque;
    World *w = worker->w;
    g_autoptr(GRand) rand = g_rand_new_with_seed(worker->number);
    uint8_t data[512];

    for (int step = 0; step < STEPS; step++) {
        uint32_t sector =
            (uint32_t)g_rand_int_range(rand, 0, SIZE / 512 / THREADS) * THREADS + worker->number;
        uint64_t offset = sector * 512ull;
        switch (g_rand_int_range(rand, 0, 4)) {
        case 0:
            check_read(w, offset, 512);
            break;
        case 1:
            g_assert_cmpint(fut_reloc_flush(w->disk), ==, 0);
            break;
        default:
            memset(data, g_rand_int_range(rand, 0, 256), 512);
            g_assert_cmpint(fut_reloc_write(w->disk, data, 512, offset), ==, 0);
            memcpy(w->content + offset, data, 512);
        }
    }
    return NULL;
}

static void *copy(void *opaque)
{
    World *w = opaque;
    FutCopyPiece piece;
    uint64_t wait_ns, now_ns = 1;

    while (!fut_reloc_all_valid(w->disk)) {
        if (!fut_reloc_copy_next(w->disk, ++now_ns, &piece, &wait_ns)) {
            g_usleep(100);
            continue;
        }
        g_usleep(200);
        if (piece.first % 7 == 3) {
            fut_reloc_copy_drop(w->disk, &piece, ++now_ns);
        } else {
            g_assert_cmpint(fut_reloc_copy_store(w->disk, &piece, w->there + piece.offset, 1000,
                                                 ++now_ns),
                            ==, 0);
        }
        if (piece.first % 7 == 3) {
            check_read(w, piece.offset, 1);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    World *w = world_new();
    Worker workers[THREADS];
    GThread *threads[THREADS];

    w->source.sleep_us = 50;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (Worker){ w, i };
        threads[i] = g_thread_new("worker", work, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    check_read(w, 0, SIZE);
    g_assert_cmpint(fut_reloc_complete(w->disk), ==, 0);
    world_free(w);

    w = world_new();
    GThread *copier = g_thread_new("copier", copy, w);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (Worker){ w, i };
        threads[i] = g_thread_new("worker", work, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_thread_join(copier);
    g_assert_cmpint(fut_reloc_complete(w->disk), ==, 0);
    reopen(w, 9); /* after a power cut that came too late */
    g_assert_true(fut_reloc_is_complete(w->disk));
    check_read(w, 0, SIZE);
    world_free(w);
}

/* -- flush -- */

static void fill_block_while_flushing(void *opaque)
{
    World *w = opaque;

    w->io.before_sync = NULL;
    memset(w->content, 0x44, BLOCK);
    g_assert_cmpint(fut_reloc_write(w->disk, w->content, BLOCK, 0), ==, 0);
}

/* A block became whole while a flush was under way: what the file says of its part must stay until it says that the block is whole. */
static void test_slot_outlives_its_flush(void)
{
    World *w = world_new();
    uint8_t sector[512];

    memset(sector, 0x33, 512);
    g_assert_cmpint(fut_reloc_write(w->disk, sector, 512, 512), ==, 0);
    g_assert_cmpint(fut_reloc_flush(w->disk), ==, 0);
    g_assert_cmpint(fut_reloc_write(w->disk, w->content + 9 * BLOCK, BLOCK, 9 * BLOCK), ==, 0);
    w->io.before_sync = fill_block_while_flushing;
    w->io.opaque = w;
    g_assert_cmpint(fut_reloc_flush(w->disk), ==, 0);

    /* Another flush, and a power cut in it: its page of slots is on the disk, its page of bits is not. */
    g_autofree uint8_t *bits =
        g_memdup2(w->io.durable[FUT_RELOC_BITMAP], w->io.size[FUT_RELOC_BITMAP]);
    uint64_t pages_at = w->io.size[FUT_RELOC_BITMAP] - 17 * 2 * 4096;
    g_assert_cmpint(fut_reloc_flush(w->disk), ==, 0);
    memcpy(w->io.now[FUT_RELOC_BITMAP] + pages_at, bits + pages_at, 2 * 4096);
    reopen(w, 2);
    uint8_t found[512];
    g_assert_cmpint(fut_reloc_read(w->disk, found, 512, 512), ==, 0);
    g_assert_true(found[0] == 0x33 || found[0] == 0x44);
    world_free(w);
}

/* When the cache's sync has failed, no flush is believed again, nor the live image. */
static void test_failed_sync(void)
{
    World *w = world_new();
    GError *error = NULL;
    FutRelocStats stats;

    g_assert_cmpint(fut_reloc_write(w->disk, w->content, BLOCK, 0), ==, 0);
    w->io.sync_fails = true;
    g_assert_cmpint(fut_reloc_flush(w->disk), ==, EIO);
    w->io.sync_fails = false;
    g_assert_cmpint(fut_reloc_flush(w->disk), ==, EIO);
    fut_reloc_stats(w->disk, &stats);
    g_assert_true(stats.failed);
    reopen(w, 1);
    fut_reloc_stats(w->disk, &stats);
    g_assert_cmpuint(stats.valid_blocks, ==, 0);

    fut_reloc_write(w->disk, w->content, BLOCK, 0);
    fut_reloc_free(w->disk);
    w->io.sync_fails = true;
    FutRelocSetup setup = sim_setup(&w->io, &w->source, false);
    w->disk = fut_reloc_new(&setup, &error);
    g_assert_null(w->disk);
    expect_error(error, FUT_ERR_IO, "cannot make durable what is here already: Input/output error");
    world_free(w);
}

/* -- limits -- */

/* More blocks partly here than can be remembered: the rest is fetched, nothing is lost. */
static void test_out_of_slots(void)
{
    uint64_t blocks = FUT_PARTIAL_SLOTS + 50, size = blocks * BLOCK;
    g_autofree uint8_t *content = g_malloc0(size);
    uint8_t sector[512], found[BLOCK];
    FutRelocStats stats;
    SimIo io;

    sim_init(&io, size);
    memset(content, 7, size);
    SimSource source = { { &sim_source_ops }, content, size, NULL, 0, 0, 0, false };
    FutRelocSetup setup = sim_setup(&io, &source, true);
    g_autoptr(FutReloc) disk = fut_reloc_new(&setup, NULL);
    memset(sector, 9, 512);
    for (uint64_t block = 0; block < blocks; block++) {
        g_assert_cmpint(fut_reloc_write(disk, sector, 512, block * BLOCK + 1024), ==, 0);
    }
    g_assert_cmpuint(source.reads, ==, 50);
    fut_reloc_stats(disk, &stats);
    g_assert_cmpuint(stats.partial_blocks, ==, FUT_PARTIAL_SLOTS);
    for (uint64_t block = 0; block < blocks; block += 97) {
        g_assert_cmpint(fut_reloc_read(disk, found, BLOCK, block * BLOCK), ==, 0);
        g_assert_true(found[0] == 7 && found[1024] == 9 && found[1536] == 7);
    }
    /* A new process finds those that are still partly here. */
    unsigned reads = source.reads;
    g_clear_pointer(&disk, fut_reloc_free);
    setup = sim_setup(&io, &source, false);
    disk = fut_reloc_new(&setup, NULL);
    fut_reloc_stats(disk, &stats);
    g_assert_cmpuint(stats.partial_blocks, ==, FUT_PARTIAL_SLOTS - (FUT_PARTIAL_SLOTS + 96) / 97);
    g_assert_cmpuint(source.reads, ==, reads);
    g_clear_pointer(&disk, fut_reloc_free);
    sim_done(&io);
}

static void test_identity(void)
{
    World *w = world_new();
    GError *error = NULL;
    FutRelocSetup setup = sim_setup(&w->io, &w->source, false);

    g_strlcpy(setup.identity.source, "nbd://elsewhere", FUT_BITMAP_URI_MAX);
    g_assert_null(fut_reloc_new(&setup, &error));
    expect_error(error, FUT_ERR_MISMATCH,
                 "the bitmap is of source nbd://there/disk: if this is the same disk at another "
                 "address, say adopt=true");
    setup.identity.cache_id[1]++;
    g_assert_null(fut_reloc_new(&setup, &error));
    expect_error(
        error, FUT_ERR_MISMATCH,
        "the bitmap is of another cache: if the files were moved together, say adopt=true");
    setup.identity.size = SIZE - 1;
    g_assert_null(fut_reloc_new(&setup, &error));
    expect_error(error, FUT_ERR_MISMATCH,
                 "the bitmap is of a disk of 1048576 bytes, this one has 1048575");
    setup.identity.size = SIZE;
    setup.adopt = true;
    FutReloc *disk = fut_reloc_new(&setup, &error);
    g_assert_no_error(error);
    fut_reloc_free(disk);
    setup.source = NULL;
    g_assert_null(fut_reloc_new(&setup, &error));
    expect_error(error, FUT_ERR_ARG,
                 "1.0 MiB of the disk are not here: say where they are (source=URI)");
    world_free(w);
}

/* The source's owner still writes: what is read is as the source is at that moment, until the first change here. */
static void test_asleep(void)
{
    World *w = world_new();
    FutRelocSetup setup = sim_setup(&w->io, &w->source, true);
    FutRelocStats stats;

    fut_reloc_free(w->disk);
    setup.asleep = true;
    w->disk = fut_reloc_new(&setup, NULL);
    check_read(w, 100, 3 * BLOCK);
    memset(w->there, 0x77, SIZE / 2);
    memset(w->content, 0x77, SIZE / 2);
    check_read(w, 100, 3 * BLOCK);
    g_assert_cmpint(fut_reloc_fetch(w->disk, SIZE, 0), ==, 0);
    fut_reloc_stats(w->disk, &stats);
    g_assert_cmpuint(stats.valid_blocks, ==, 0);
    g_assert_true(fut_reloc_asleep(w->disk));
    memset(w->content + BLOCK, 0x11, BLOCK);
    g_assert_cmpint(fut_reloc_write(w->disk, w->content + BLOCK, BLOCK, BLOCK), ==, 0);
    g_assert_false(fut_reloc_asleep(w->disk));
    check_read(w, 0, 4 * BLOCK);
    fut_reloc_stats(w->disk, &stats);
    g_assert_cmpuint(stats.valid_blocks, ==, 4);

    /* what has begun to move does not fall asleep again */
    fut_reloc_free(w->disk);
    setup.fresh = false;
    w->disk = fut_reloc_new(&setup, NULL);
    g_assert_false(fut_reloc_asleep(w->disk));
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reloc/one-fetch", test_one_fetch);
    g_test_add_func("/reloc/one-way", test_one_way);
    g_test_add_func("/reloc/writes-ask-nobody", test_writes_ask_nobody);
    g_test_add_func("/reloc/threads", test_threads);
    g_test_add_func("/reloc/slot-outlives-its-flush", test_slot_outlives_its_flush);
    g_test_add_func("/reloc/failed-sync", test_failed_sync);
    g_test_add_func("/reloc/out-of-slots", test_out_of_slots);
    g_test_add_func("/reloc/identity", test_identity);
    g_test_add_func("/reloc/asleep", test_asleep);
    return g_test_run();
}
