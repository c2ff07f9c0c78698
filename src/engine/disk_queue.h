/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backup has to do to its disks: records in the order in which they came. A record of an epoch not yet committed is pending;
 * a commit makes it ready. Not locked: the engine's lock covers it. */
#ifndef FUT_DISK_QUEUE_H
#define FUT_DISK_QUEUE_H

#include "vmm.h"

typedef struct {
    FutDiskRecord *first, **tail; /* owned; tail is NULL in a zeroed list */
    uint64_t bytes;               /* memory of its records */
} FutDiskList;

typedef struct {
    FutDiskList pending, ready;
} FutDiskQueue;

/* data: length bytes with FUT_DISK_WRITE, else NULL. Epoch 0 is ready at once. Epochs never go back. */
void fut_disk_queue_add(FutDiskQueue *queue, const FutDiskHead *head, const uint8_t *data);
void fut_disk_queue_commit(FutDiskQueue *queue, uint64_t epoch);
/* Would committing this epoch make a flush ready? */
bool fut_disk_queue_flushes(const FutDiskQueue *queue, uint64_t epoch);
/* Forgets what was not committed. */
void fut_disk_queue_discard(FutDiskQueue *queue);
/* Cuts off the head of what is ready: about max_bytes, one record at least; NULL: nothing is ready. The caller owns it. */
FutDiskRecord *fut_disk_queue_take(FutDiskQueue *queue, uint64_t max_bytes);
void fut_disk_queue_clear(FutDiskQueue *queue);
void fut_disk_records_free(FutDiskRecord *take_first);

#endif
