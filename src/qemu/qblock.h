/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's writable disks. A block filter of our own stands between each disk and its image: there the guest's writes
 * pass on their way down (qblock_filter.c), and the engine reads and writes below it (qblock_io.c).
 *
 * Everything here runs in QEMU's main block context, with the BQL: disks in iothreads are refused.
 */
#ifndef FUT_QBLOCK_H
#define FUT_QBLOCK_H

#include "qvmm.h"

/* What the filter's node has as its own. */
typedef struct {
    FutQvmm *qvmm;
    unsigned disk;
    bool shared;
} FutQblockNode;

/* Puts a filter above `image`. The node, which lives as long as its disk does; NULL: QEMU does not want it. BQL held. */
BlockDriverState *fut_qblock_insert(FutQvmm *qvmm, unsigned disk, BlockDriverState *image,
                                    GError **error);
bool fut_qblock_is_ours(const BlockDriverState *node);
/* The filter's node of a disk. */
BlockDriverState *fut_qblock_node(const FutQvmm *qvmm, unsigned disk);

/* -- qblock_shared.c: what the filter of a shared disk does -- */
int coroutine_fn fut_qblock_shared_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          QEMUIOVector *qiov, size_t qiov_offset,
                                          BdrvRequestFlags flags);
int coroutine_fn fut_qblock_shared_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                           QEMUIOVector *qiov, size_t qiov_offset,
                                           BdrvRequestFlags flags);
int coroutine_fn fut_qblock_shared_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                          BdrvRequestFlags flags);
int coroutine_fn fut_qblock_shared_flush(BlockDriverState *bs);

/* -- qblock_images.c: which disks are shared, and whose their images are. BQL held -- */
bool fut_qblock_is_shared(BlockBackend *blk, char *const *names);
/* Every name is one of these disks'. */
bool fut_qblock_check_names(const GPtrArray *disks, char *const *names, GError **error);
/* False and FUT_ERR_UNSUPPORTED for a disk that QEMU does not lock, or that lies where locks do not reach the other host. */
bool fut_qblock_check_shared(BlockBackend *blk, GError **error);
/* Takes hold of the images of all other disks, if the machine was made without. */
bool fut_qblock_activate_own(FutQvmm *qvmm, GError **error);

#endif
