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
} FutQblockNode;

/* Puts a filter above `image`. The node, which lives as long as its disk does; NULL: QEMU does not want it. BQL held. */
BlockDriverState *fut_qblock_insert(FutQvmm *qvmm, unsigned disk, BlockDriverState *image,
                                    GError **error);
bool fut_qblock_is_ours(const BlockDriverState *node);
/* The filter's node of a disk. */
BlockDriverState *fut_qblock_node(const FutQvmm *qvmm, unsigned disk);

#endif
