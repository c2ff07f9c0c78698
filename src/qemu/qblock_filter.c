/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block filter: what the guest writes goes to the image below at once; when the image has it, the engine hears of it, and
 * then the guest.
 */
#include "qblock.h"

#include "fut_error.h"

/* A write that has to wait (see fut_engine_disk_begin) asks again after this. */
#define ASK_AGAIN_NS SCALE_MS

/* -- the node -- */

static int filter_open(BlockDriverState *bs, QDict *options, int flags, Error **errp)
{
    int result = bdrv_open_file_child(NULL, options, "file", bs, errp);

    if (result < 0) {
        return result;
    }
    FUT_QEMU_GRAPH_RDLOCK_GUARD();
    bs->supported_write_flags =
        BDRV_REQ_WRITE_UNCHANGED | (BDRV_REQ_FUA & bs->file->bs->supported_write_flags);
    bs->supported_zero_flags =
        BDRV_REQ_WRITE_UNCHANGED | ((BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) &
                                    bs->file->bs->supported_zero_flags);
    return 0;
}

static int64_t filter_getlength(BlockDriverState *bs)
{
    return fut_qemu_getlength(bs->file->bs);
}

static int coroutine_fn filter_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                        PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    error_setg(errp, "futago: a protected VM's disk keeps its size");
    return -ENOTSUP;
}

/* Nobody is there to hold anything back before the engine is. */
static bool is_shared(const BlockDriverState *bs)
{
    const FutQblockNode *node = bs->opaque;

    return node->shared && node->qvmm->vmm.engine;
}

/* -- reading -- */

static int coroutine_fn filter_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      QEMUIOVector *qiov, size_t qiov_offset,
                                      BdrvRequestFlags flags)
{
    const FutQblockNode *node = bs->opaque;

    fut_qevent(node->qvmm, FUT_EVENT_DISK_READ);
    if (is_shared(bs)) {
        return fut_qblock_shared_preadv(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

/* -- writing -- */

/* A snapshot wants to have what this write is about to change. */
static void coroutine_fn save_range(BlockDriverState *bs, uint64_t offset, uint64_t length)
{
    const FutQblockNode *node = bs->opaque;
    void *data = qemu_try_blockalign(bs->file->bs, length);
    QEMUIOVector qiov;
    bool read = false;

    if (data) {
        qemu_iovec_init_buf(&qiov, data, length);
        read = bdrv_co_preadv(bs->file, (int64_t)offset, (int64_t)length, &qiov, 0) >= 0;
    }
    fut_engine_series_saved(node->qvmm->vmm.engine, node->disk, offset, length, read ? data : NULL);
    qemu_vfree(data);
}

static void coroutine_fn save_before(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                     BdrvRequestFlags flags)
{
    const FutQblockNode *node = bs->opaque;
    FutEngine *engine = node->qvmm ? node->qvmm->vmm.engine : NULL;
    FutSeriesVerdict verdict;
    uint64_t from, length;

    if (!engine || node->shared || (flags & BDRV_REQ_WRITE_UNCHANGED)) {
        return;
    }
    while ((verdict = fut_engine_series_before(engine, node->disk, (uint64_t)offset,
                                               (uint64_t)bytes, bs->quiesce_counter > 0, &from,
                                               &length)) != FUT_SERIES_PASS) {
        if (verdict == FUT_SERIES_SAVE) {
            save_range(bs, from, length);
        } else {
            qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ASK_AGAIN_NS);
        }
    }
}

static FutQnote *note_of(BlockDriverState *bs)
{
    static FutQnote none;
    const FutQblockNode *node = bs->opaque;
    return node->qvmm ? &node->qvmm->block.notes[node->disk] : &none;
}

static void tell_write(const BlockDriverState *bs)
{
    const FutQblockNode *node = bs->opaque;

    fut_qevent(node->qvmm, FUT_EVENT_DISK_WRITE);
}

/* False: the write changes nothing for the twin, or nobody is there yet to hear of it. */
static bool coroutine_fn begin(BlockDriverState *bs, FutDiskWrite *write, BdrvRequestFlags flags)
{
    const FutQblockNode *node = bs->opaque;
    FutEngine *engine = node->qvmm ? node->qvmm->vmm.engine : NULL;

    if (!engine || write->length == 0 || (flags & BDRV_REQ_WRITE_UNCHANGED)) {
        return false;
    }
    /* Who drains this disk waits for this write, and perhaps the twin for him: do not make both wait. */
    while (!fut_engine_disk_begin(engine, node->disk, write, bs->quiesce_counter > 0)) {
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ASK_AGAIN_NS);
    }
    return true;
}

static void coroutine_fn end(BlockDriverState *bs, FutDiskWrite *write, FutDiskKind kind,
                             const void *data, BdrvRequestFlags flags, bool ok)
{
    const FutQblockNode *node = bs->opaque;
    FutEngine *engine = node->qvmm->vmm.engine;

    fut_engine_disk_end(engine, node->disk, write, kind, data, ok);
    if (ok && (flags & BDRV_REQ_FUA)) {
        fut_engine_disk_flushed(engine, node->disk);
    }
}

/* The guest may change its buffer while it is being written: both disks get one copy of it. */
static int coroutine_fn write_copy(BlockDriverState *bs, const FutDiskWrite *write, void *copy,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    QEMUIOVector one;

    qemu_iovec_to_buf(qiov, qiov_offset, copy, write->length);
    qemu_iovec_init_buf(&one, copy, write->length);
    return bdrv_co_pwritev_part(bs->file, write->offset, write->length, &one, 0,
                                flags & ~BDRV_REQ_REGISTERED_BUF);
}

static int coroutine_fn do_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                   QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    FutDiskWrite write = { .offset = offset, .length = bytes };
    void *copy = NULL;
    int result;

    tell_write(bs);
    if (is_shared(bs)) {
        return fut_qblock_shared_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
    }
    if (!begin(bs, &write, flags)) {
        return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    }
    if (!write.sending) {
        result = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
    } else if ((copy = qemu_try_blockalign(bs->file->bs, bytes))) {
        result = write_copy(bs, &write, copy, qiov, qiov_offset, flags);
    } else {
        result = -ENOMEM;
    }
    end(bs, &write, FUT_DISK_WRITE, copy, flags, result >= 0);
    qemu_vfree(copy);
    return result;
}

static int coroutine_fn filter_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags)
{
    save_before(bs, offset, bytes, flags);
    fut_qnote_begin(note_of(bs));
    int result = do_pwritev(bs, offset, bytes, qiov, qiov_offset, flags);
    fut_qnote_end(note_of(bs));
    return result;
}

static int coroutine_fn filter_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             BdrvRequestFlags flags)
{
    FutDiskWrite write = { .offset = offset, .length = bytes };

    tell_write(bs);
    if (is_shared(bs)) {
        return fut_qblock_shared_zeroes(bs, offset, bytes, flags);
    }
    save_before(bs, offset, bytes, flags);
    bool listed = begin(bs, &write, flags);
    fut_qnote_begin(note_of(bs));
    int result = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    fut_qnote_end(note_of(bs));

    if (listed) {
        end(bs, &write, flags & BDRV_REQ_MAY_UNMAP ? FUT_DISK_DISCARD : FUT_DISK_ZEROES, NULL,
            flags, result >= 0);
    }
    return result;
}

/*
 * What a discarded range reads as is for each image to choose, and the twin's would choose otherwise. So it is zeroed, in a way
 * that gives the space back; where the image cannot do that cheaply, a discard does nothing, which it may.
 */
static int coroutine_fn filter_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    const BlockDriverState *image = bs->file->bs;
    int64_t unit = MAX(MAX(image->bl.pwrite_zeroes_alignment, image->bl.pdiscard_alignment),
                       MAX(image->bl.request_alignment, 1));
    int64_t first = QEMU_ALIGN_UP(offset, unit), last = QEMU_ALIGN_DOWN(offset + bytes, unit);

    if (first >= last || !(image->supported_zero_flags & BDRV_REQ_MAY_UNMAP)) {
        return 0;
    }
    BdrvRequestFlags cheap = BDRV_REQ_NO_FALLBACK & image->supported_zero_flags;
    int result = filter_pwrite_zeroes(bs, first, last - first, BDRV_REQ_MAY_UNMAP | cheap);
    return result == -ENOTSUP ? 0 : result;
}

static int coroutine_fn filter_flush(BlockDriverState *bs)
{
    const FutQblockNode *node = bs->opaque;

    if (is_shared(bs)) {
        return fut_qblock_shared_flush(bs);
    }
    fut_qnote_begin(note_of(bs)); /* the image may write what it kept in memory of its own tables */
    int result = bdrv_co_flush(bs->file->bs);
    fut_qnote_end(note_of(bs));

    if (result >= 0 && node->qvmm && node->qvmm->vmm.engine) {
        fut_engine_disk_flushed(node->qvmm->vmm.engine, node->disk);
    }
    return result;
}

static BlockDriver filter = {
    .format_name = "futago-disk",
    .instance_size = sizeof(FutQblockNode),
    .is_filter = true,
    .bdrv_open = filter_open,
    .bdrv_child_perm = bdrv_default_perms,
    FUT_QEMU_BDRV_GETLENGTH = filter_getlength,
    FUT_QEMU_BDRV_VARIABLE_LENGTH.bdrv_co_truncate = filter_truncate,
    .bdrv_co_preadv_part = filter_preadv,
    .bdrv_co_pwritev_part = filter_pwritev,
    .bdrv_co_pwrite_zeroes = filter_pwrite_zeroes,
    .bdrv_co_pdiscard = filter_pdiscard,
    .bdrv_co_flush = filter_flush,
};

void fut_qblock_register(void)
{
    bdrv_register(&filter);
}

bool fut_qblock_is_ours(const BlockDriverState *node)
{
    return node->drv == &filter;
}

BlockDriverState *fut_qblock_insert(FutQvmm *qvmm, unsigned disk, BlockDriverState *image,
                                    GError **error)
{
    g_autofree char *name = g_strdup_printf("futago-disk%u", disk);
    int flags =
        BDRV_O_RDWR | (image->open_flags & (BDRV_O_UNMAP | BDRV_O_NO_FLUSH | BDRV_O_INACTIVE));
    AioContext *context = bdrv_get_aio_context(image);
    QDict *options = qdict_new();
    Error *failure = NULL;

    qdict_put_str(options, "driver", filter.format_name);
    qdict_put_str(options, "node-name", name);
    qdict_put_str(options, "file", bdrv_get_node_name(image));
    fut_qemu_aio_acquire(context);
    BlockDriverState *node = bdrv_insert_node(image, options, flags, &failure);
    fut_qemu_aio_release(context);
    if (!node) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "disk \"%s\" cannot be watched: %s",
                    bdrv_get_node_name(image), error_get_pretty(failure));
        error_free(failure);
        return NULL;
    }
    *(FutQblockNode *)node->opaque = (FutQblockNode){ qvmm, disk, qvmm->block.disks[disk].shared };
    /* The disk's device has a reference of its own now. */
    bdrv_unref(node);
    return node;
}
