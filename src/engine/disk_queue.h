/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is still to be done to disks: records in the order in which they came. A record of an epoch not yet committed is pending;
 * a commit makes it ready. A backup has one of them for its own disks, and both hosts have one for shared disks, which reads look
 * into. Not locked: the engine's lock covers it. */
#ifndef FUT_DISK_QUEUE_H
#define FUT_DISK_QUEUE_H

#include "vmm.h"

typedef struct {
    FutDiskRecord *first, **tail; /* owned; tail is NULL in a zeroed list */
    uint64_t bytes;               /* memory of its records */
} FutDiskList;

typedef struct {
    FutDiskList pending, ready;
    uint64_t readied, taken; /* records that ever became ready; that left it */
    uint64_t line;           /* take() gives no records from both sides of this count */
} FutDiskQueue;

/* data: length bytes with FUT_DISK_WRITE, else NULL. The caller owns the record. */
FutDiskRecord *fut_disk_record_new(const FutDiskHead *head, const uint8_t *data);

/* Epoch 0 is ready at once. Epochs never go back. */
void fut_disk_queue_put(FutDiskQueue *queue, FutDiskRecord *take_record);
/* The same with a copy of what is given. */
void fut_disk_queue_add(FutDiskQueue *queue, const FutDiskHead *head, const uint8_t *data);
void fut_disk_queue_commit(FutDiskQueue *queue, uint64_t epoch);
/* Everything is ready, and of no epoch any more. */
void fut_disk_queue_commit_all(FutDiskQueue *queue);
/* Would committing this epoch make a flush ready? */
bool fut_disk_queue_flushes(const FutDiskQueue *queue, uint64_t epoch);
/* Forgets what was not committed. */
void fut_disk_queue_discard(FutDiskQueue *queue);
/* Cuts off the head of what is ready: about max_bytes, one record at least, and a mark alone; NULL: nothing is ready. The caller owns it.
 */
FutDiskRecord *fut_disk_queue_take(FutDiskQueue *queue, uint64_t max_bytes);
void fut_disk_queue_clear(FutDiskQueue *queue);
void fut_disk_records_free(FutDiskRecord *take_first);

/* -- looking into it -- */
static inline bool fut_disk_queue_empty(const FutDiskQueue *queue)
{
    return !queue->ready.first && !queue->pending.first;
}
static inline uint64_t fut_disk_queue_bytes(const FutDiskQueue *queue)
{
    return queue->ready.bytes + queue->pending.bytes;
}
/* As take(), but copies: they stay in the queue until drop(). */
FutDiskRecord *fut_disk_queue_copy(const FutDiskQueue *queue, uint64_t max_bytes,
                                   unsigned *ret_count);
/* Forgets the first `count` of what is ready; returns how many flushes were among them. */
unsigned fut_disk_queue_drop(FutDiskQueue *queue, unsigned count);
/* Forgets what is ready of epochs <= epoch. */
void fut_disk_queue_drop_epochs(FutDiskQueue *queue, uint64_t epoch);
/* Epoch of the oldest flush; false: there is none. */
bool fut_disk_queue_first_flush(const FutDiskQueue *queue, uint64_t *ret_epoch);
/* What the queue has of a range, in order: copies, cut to the range. NULL: nothing. The caller owns it. */
FutDiskRecord *fut_disk_queue_overlay(const FutDiskQueue *queue, uint32_t disk, uint64_t offset,
                                      uint64_t length);

#endif
