/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "restore_fill.h"

#include <string.h>
#include <sys/mman.h>

#include "resident.h"

/* What a thread takes at a time: what lies under one node of the store's tree, and a large page of the host. */
#define PIECE_PAGES 512u
#define THREADS_MAX 8u

typedef struct {
    const FutMemory *memory;
    unsigned area[FUT_BLOCKS_MAX]; /* number in the snapshot, by block */
    GMutex lock;                   /* guards what follows */
    unsigned block;                /* of the next piece */
    uint64_t page;
    uint64_t pages; /* that were filled */
    GError *error;  /* the first */
} Fill;

typedef struct {
    Fill *fill;
    FutSnapshot *snapshot; /* this thread's reader */
    GThread *thread;       /* NULL: the caller's */
    uint8_t *base;         /* of the block */
    uint64_t pages;
} Worker;

/* -- zeroes -- */

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, FUT_PAGE_SIZE - 1) == 0;
}

/* What the machine's start has left there goes. To look at memory that nobody has touched would cost a fault a page, and keep the page. */
static void make_empty(const FutMemory *memory, unsigned block, const FutResident *resident)
{
    uint8_t *base = memory->block[block].base;
    uint64_t pages = memory->block[block].length >> FUT_PAGE_SHIFT;

    if (pages == 0 || madvise(base, pages << FUT_PAGE_SHIFT, MADV_REMOVE) == 0) {
        return; /* shared: it is gone from the file, too */
    }
    g_autofree uint64_t *touched = g_new0(uint64_t, (pages + 63) / 64);
    fut_resident_look(resident, memory, fut_key(block, 0), pages, touched);
    for (uint64_t page = 0; page < pages; page++) {
        uint8_t *at = base + (page << FUT_PAGE_SHIFT);
        if (touched[page / 64] >> (page % 64) & 1 && !is_zero(at)) {
            memset(at, 0, FUT_PAGE_SIZE);
        }
    }
}

/* -- pages -- */

static bool put_page(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    Worker *worker = opaque;

    G_STATIC_ASSERT(FUT_UNIT_SIZE == FUT_PAGE_SIZE);
    memcpy(worker->base + (unit << FUT_PAGE_SHIFT), data, FUT_PAGE_SIZE);
    worker->pages++;
    return true;
}

/* The next piece; false: there is none, or there is no use. */
static bool next(Fill *fill, unsigned *ret_block, uint64_t *ret_page)
{
    bool some = false;

    g_mutex_lock(&fill->lock);
    while (fill->block < fill->memory->count && !fill->error && !some) {
        some = fill->page < fill->memory->block[fill->block].length >> FUT_PAGE_SHIFT;
        *ret_block = fill->block;
        *ret_page = fill->page;
        fill->block += !some;
        fill->page = some ? fill->page + PIECE_PAGES : 0;
    }
    g_mutex_unlock(&fill->lock);
    return some;
}

static void end(Worker *worker, GError *take_error)
{
    Fill *fill = worker->fill;

    g_mutex_lock(&fill->lock);
    fill->pages += worker->pages;
    if (take_error && !fill->error) {
        fill->error = g_steal_pointer(&take_error);
    }
    g_mutex_unlock(&fill->lock);
    g_clear_error(&take_error);
}

static void *work(void *opaque)
{
    Worker *worker = opaque;
    Fill *fill = worker->fill;
    GError *error = NULL;
    unsigned block;
    uint64_t page;

    while (!error && next(fill, &block, &page)) {
        uint64_t pages = fill->memory->block[block].length >> FUT_PAGE_SHIFT;
        worker->base = fill->memory->block[block].base;
        fut_snapshot_each(worker->snapshot, fill->area[block], page, MIN(PIECE_PAGES, pages - page),
                          put_page, worker, &error);
    }
    end(worker, error);
    return NULL;
}

/* -- all -- */

static unsigned threads_for(const FutMemory *memory)
{
    uint64_t pieces = 0;

    for (unsigned i = 0; i < memory->count; i++) {
        pieces += (memory->block[i].length >> FUT_PAGE_SHIFT) / PIECE_PAGES;
    }
    return (unsigned)CLAMP(MIN(g_get_num_processors(), pieces), 1, THREADS_MAX);
}

static void prepare(Fill *fill, const FutSnapshotInfo *info)
{
    const FutMemory *memory = fill->memory;
    FutResident resident;
    unsigned block = 0;

    for (unsigned i = 0; i < info->areas->len; i++) {
        if (fut_snapshot_info_nth(info, i)->kind == FUT_AREA_MEMORY) {
            g_assert(block < memory->count);
            fill->area[block++] = i;
        }
    }
    g_assert(block == memory->count);
    fut_resident_init(&resident, memory);
    for (block = 0; block < memory->count; block++) {
        make_empty(memory, block, &resident);
    }
    fut_resident_done(&resident);
}

bool fut_restore_fill(FutSnapshot *snapshot, const FutMemory *memory, uint64_t *ret_pages,
                      GError **error)
{
    Fill fill = { .memory = memory };
    Worker workers[THREADS_MAX] = { { .fill = &fill, .snapshot = snapshot } };
    unsigned count = threads_for(memory);

    g_mutex_init(&fill.lock);
    prepare(&fill, fut_snapshot_info(snapshot));
    for (unsigned i = 1; i < count; i++) {
        workers[i] = (Worker){ .fill = &fill, .snapshot = fut_snapshot_copy(snapshot) };
        workers[i].thread = g_thread_new("futago-fill", work, &workers[i]);
    }
    work(&workers[0]);
    for (unsigned i = 1; i < count; i++) {
        g_thread_join(workers[i].thread);
        fut_snapshot_close(workers[i].snapshot);
    }
    g_mutex_clear(&fill.lock);
    if (fill.error) {
        g_propagate_error(error, fill.error);
        return false;
    }
    *ret_pages = fill.pages;
    return true;
}
