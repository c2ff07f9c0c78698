/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filter of a shared disk. While the VM is protected, writes go to the engine and not to the image; the guest is told that
 * they are done, and reads see them. They are never under way when a checkpoint is taken.
 */
#include "qblock.h"

#include "disk_queue.h"

/* A request that has to wait asks again after this. */
#define ASK_AGAIN_NS SCALE_MS

static FutEngine *engine_of(const BlockDriverState *bs)
{
    const FutQblockNode *node = bs->opaque;

    return node->qvmm->vmm.engine;
}

static uint32_t disk_of(const BlockDriverState *bs)
{
    const FutQblockNode *node = bs->opaque;

    return node->disk;
}

/* -- reading -- */

static void lay_over(const FutDiskRecord *held, QEMUIOVector *qiov, size_t qiov_offset,
                     int64_t offset)
{
    for (; held; held = held->next) {
        const FutDiskHead *head = &held->head;
        size_t at = qiov_offset + (head->offset - (uint64_t)offset);
        if (head->kind == FUT_DISK_WRITE) {
            qemu_iovec_from_buf(qiov, at, held->data, head->length);
        } else {
            qemu_iovec_memset(qiov, at, 0, head->length);
        }
    }
}

/* What is held is looked up first: while the image is read, it may be written there and be forgotten. */
int coroutine_fn fut_qblock_shared_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          QEMUIOVector *qiov, size_t qiov_offset,
                                          BdrvRequestFlags flags)
{
    FutDiskRecord *held =
        fut_engine_shared_read(engine_of(bs), disk_of(bs), (uint64_t)offset, (uint64_t)bytes);
    int result = bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);

    if (result >= 0 && qiov) {
        lay_over(held, qiov, qiov_offset, offset);
    }
    fut_disk_records_free(held);
    return result;
}

/* -- writing -- */

/* PASS, HOLD, or what the request comes to. */
static FutSharedVerdict coroutine_fn may_write(BlockDriverState *bs)
{
    FutSharedVerdict verdict;

    /* Who drains this disk waits for this write, and perhaps the twin for him: do not make both wait. */
    while ((verdict = fut_engine_shared_write(engine_of(bs), bs->quiesce_counter > 0)) ==
           FUT_SHARED_WAIT) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ASK_AGAIN_NS);
    }
    return verdict;
}

static void hold_flush(BlockDriverState *bs)
{
    FutDiskHead head = { .disk = disk_of(bs), .kind = FUT_DISK_FLUSH };

    fut_engine_shared_hold(engine_of(bs), fut_disk_record_new(&head, NULL));
}

static int coroutine_fn hold(BlockDriverState *bs, FutDiskRecord *take_record,
                             BdrvRequestFlags flags)
{
    fut_engine_shared_hold(engine_of(bs), take_record);
    if (flags & BDRV_REQ_FUA) {
        hold_flush(bs);
    }
    return 0;
}

static int coroutine_fn pass_write(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int result = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);

    fut_engine_shared_passed(engine_of(bs));
    return result;
}

int coroutine_fn fut_qblock_shared_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset,
                                           BdrvRequestFlags flags)
{
    FutSharedVerdict verdict = may_write(bs);

    if (verdict == FUT_SHARED_PASS) {
        return pass_write(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    if (verdict != FUT_SHARED_HOLD || bytes == 0) {
        return 0;
    }
    FutDiskRecord *record = g_try_malloc(sizeof(*record) + (size_t)bytes);
    if (!record) {
        return -ENOMEM;
    }
    record->head = (FutDiskHead){ .offset = (uint64_t)offset,
                                  .length = (uint64_t)bytes,
                                  .disk = disk_of(bs),
                                  .kind = FUT_DISK_WRITE };
    qemu_iovec_to_buf(qiov, qiov_offset, record->data, (size_t)bytes);
    return hold(bs, record, flags);
}

int coroutine_fn fut_qblock_shared_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          BdrvRequestFlags flags)
{
    FutDiskHead head = { .offset = (uint64_t)offset,
                         .length = (uint64_t)bytes,
                         .disk = disk_of(bs),
                         .kind = flags & BDRV_REQ_MAY_UNMAP ? FUT_DISK_DISCARD : FUT_DISK_ZEROES };
    FutSharedVerdict verdict = may_write(bs);

    if (verdict == FUT_SHARED_PASS) {
        int result = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
        fut_engine_shared_passed(engine_of(bs));
        return result;
    }
    if (verdict != FUT_SHARED_HOLD || bytes == 0) {
        return 0;
    }
    return hold(bs, fut_disk_record_new(&head, NULL), flags);
}

/* -- flushing -- */

int coroutine_fn fut_qblock_shared_flush(BlockDriverState *bs)
{
    FutSharedVerdict verdict;

    while ((verdict = fut_engine_shared_flush(engine_of(bs))) == FUT_SHARED_WAIT) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ASK_AGAIN_NS);
    }
    switch (verdict) {
    case FUT_SHARED_PASS:
        return bdrv_co_flush(bs->file->bs);
    case FUT_SHARED_HOLD:
        hold_flush(bs);
        return 0;
    case FUT_SHARED_FAIL:
        return -EIO;
    default:
        return 0;
    }
}
