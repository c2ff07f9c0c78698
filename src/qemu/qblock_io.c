/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's own reading and writing of the images, below the filter: for the copy on a primary, for what was committed on a
 * backup. The engine's threads wait here; the work is done by coroutines in QEMU's main loop.
 */
#include "qblock.h"

#include "disk_queue.h"
#include "fut_error.h"

/* At the end of QEMU nobody may do the work any more: look every now and then. */
#define ENDING_POLL_MS 50

/* Owned by who waits and by the work together: the second to leave frees it. */
typedef struct FutQblockJob FutQblockJob;
struct FutQblockJob {
    FutQvmm *qvmm;
    unsigned disk; /* at the end: the one that failed */
    int coroutine_fn (*work)(FutQblockJob *job);
    /* read */
    int64_t offset, length;
    uint8_t *buffer; /* owned */
    bool zero;
    /* write */
    FutDiskRecord *records; /* owned */

    GMutex lock;
    GCond changed;
    bool done;
    int result;
    gint users;
};

static FutQblockJob *job_new(FutVmm *vmm, unsigned disk,
                             int coroutine_fn (*work)(FutQblockJob *job))
{
    FutQblockJob *job = g_new0(FutQblockJob, 1);

    job->qvmm = (FutQvmm *)vmm;
    job->disk = disk;
    job->work = work;
    job->users = 2;
    g_mutex_init(&job->lock);
    g_cond_init(&job->changed);
    return job;
}

static void job_unref(FutQblockJob *job)
{
    if (g_atomic_int_dec_and_test(&job->users)) {
        g_mutex_clear(&job->lock);
        g_cond_clear(&job->changed);
        qemu_vfree(job->buffer);
        fut_disk_records_free(job->records);
        g_free(job);
    }
}

/*
 * What counts as busy meanwhile. A checkpoint waits for the filter to be quiet, but not for what was committed to reach a shared
 * image.
 */
static BlockDriverState *busy_node(const FutQvmm *qvmm, unsigned disk)
{
    BlockDriverState *node = fut_qblock_node(qvmm, disk);

    return qvmm->block.disks[disk].shared ? node->file->bs : node;
}

/* -- in the main loop -- */

static void coroutine_fn job_entry(void *opaque)
{
    FutQblockJob *job = opaque;
    BlockDriverState *node = busy_node(job->qvmm, job->disk);
    int result = job->work(job);

    g_mutex_lock(&job->lock);
    job->result = result;
    job->done = true;
    g_cond_signal(&job->changed);
    g_mutex_unlock(&job->lock);
    bdrv_dec_in_flight(node);
    job_unref(job);
}

static void job_begin(void *opaque)
{
    FutQblockJob *job = opaque;
    BlockDriverState *node = busy_node(job->qvmm, job->disk);
    AioContext *context = bdrv_get_aio_context(node);

    fut_qemu_aio_acquire(context);
    bdrv_inc_in_flight(node);
    aio_co_enter(context, qemu_coroutine_create(job_entry, job));
    fut_qemu_aio_release(context);
}

/* -- in the engine's thread -- */

static bool job_run(FutQblockJob *job, const char *verb, GError **error)
{
    FutQvmm *qvmm = job->qvmm;

    aio_bh_schedule_oneshot(qemu_get_aio_context(), job_begin, job);
    g_mutex_lock(&job->lock);
    while (!job->done && !qatomic_read(&qvmm->cut.ending)) {
        g_cond_wait_until(&job->changed, &job->lock,
                          g_get_monotonic_time() + ENDING_POLL_MS * 1000);
    }
    bool done = job->done;
    int result = job->result;
    g_mutex_unlock(&job->lock);
    if (!done || result < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "disk %s cannot be %s: %s",
                    qvmm->block.disks[job->disk].name, verb,
                    done ? strerror(-result) : "QEMU is ending");
    }
    return done && result >= 0;
}

/* -- reading -- */

/* Bytes of whole chunks, or all up to the end of what was asked for. */
static int64_t whole_chunks(int64_t bytes, int64_t asked)
{
    return bytes >= asked ? asked : QEMU_ALIGN_DOWN(bytes, (int64_t)FUT_CHUNK_SIZE);
}

static int coroutine_fn read_chunks(FutQblockJob *job)
{
    BlockDriverState *node = fut_qblock_node(job->qvmm, job->disk);
    int64_t zeroes = 0;
    QEMUIOVector qiov;

    FUT_QEMU_GRAPH_CO_RDLOCK_GUARD();
    int status = bdrv_block_status_above(node->file->bs, NULL, job->offset, job->length, &zeroes,
                                         NULL, NULL);
    zeroes = status >= 0 && (status & BDRV_BLOCK_ZERO) ? whole_chunks(zeroes, job->length) : 0;
    if (zeroes > 0) {
        job->zero = true;
        job->length = zeroes;
        return 0;
    }
    job->length = MIN(job->length, (int64_t)FUT_CHUNK_SIZE);
    job->buffer = qemu_try_blockalign(node->file->bs, job->length);
    if (!job->buffer) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, job->buffer, job->length);
    int result = bdrv_co_preadv(node->file, job->offset, job->length, &qiov, 0);
    job->zero = result >= 0 && buffer_is_zero(job->buffer, job->length);
    return result;
}

bool fut_qblock_read(FutVmm *vmm, unsigned disk, uint64_t offset, uint64_t *length, uint8_t *buffer,
                     bool *ret_zero, GError **error)
{
    FutQblockJob *job = job_new(vmm, disk, read_chunks);

    job->offset = (int64_t)offset;
    job->length = (int64_t)*length;
    bool ok = job_run(job, "read", error);
    if (ok) {
        *length = (uint64_t)job->length;
        *ret_zero = job->zero;
        if (!job->zero) {
            memcpy(buffer, job->buffer, job->length);
        }
    }
    job_unref(job);
    return ok;
}

/* -- writing -- */

static int coroutine_fn zero_range(BlockDriverState *node, const FutDiskHead *head)
{
    BdrvRequestFlags flags =
        head->kind == FUT_DISK_DISCARD || head->epoch == 0 ? BDRV_REQ_MAY_UNMAP : 0;

    if (bdrv_co_is_zero_fast(node->file->bs, (int64_t)head->offset, (int64_t)head->length) > 0) {
        return 0;
    }
    return bdrv_co_pwrite_zeroes(node->file, (int64_t)head->offset, (int64_t)head->length, flags);
}

static int coroutine_fn write_record(BlockDriverState *node, FutDiskRecord *record)
{
    const FutDiskHead *head = &record->head;
    QEMUIOVector qiov;

    switch (head->kind) {
    case FUT_DISK_WRITE:
        qemu_iovec_init_buf(&qiov, record->data, head->length);
        return bdrv_co_pwritev(node->file, (int64_t)head->offset, (int64_t)head->length, &qiov, 0);
    case FUT_DISK_ZEROES:
    case FUT_DISK_DISCARD:
        return zero_range(node, head);
    case FUT_DISK_FLUSH:
        return bdrv_co_flush(node->file->bs);
    case FUT_DISK_STORED:
    case FUT_DISK_MARK:
        break; /* not something to be done */
    }
    g_assert_not_reached();
}

static int coroutine_fn write_records(FutQblockJob *job)
{
    FUT_QEMU_GRAPH_CO_RDLOCK_GUARD();
    for (FutDiskRecord *record = job->records; record; record = record->next) {
        BlockDriverState *node = fut_qblock_node(job->qvmm, record->head.disk);
        BlockDriverState *busy = busy_node(job->qvmm, record->head.disk);
        FutQnote *note = &job->qvmm->block.notes[record->head.disk];
        bdrv_inc_in_flight(busy);
        fut_qnote_begin(note);
        int result = write_record(node, record);
        fut_qnote_end(note);
        bdrv_dec_in_flight(busy);
        if (result < 0) {
            job->disk = record->head.disk;
            return result;
        }
    }
    return 0;
}

bool fut_qblock_write(FutVmm *vmm, FutDiskRecord *take_list, GError **error)
{
    FutQblockJob *job = job_new(vmm, take_list->head.disk, write_records);

    job->records = take_list;
    bool ok = job_run(job, "written", error);
    job_unref(job);
    return ok;
}
