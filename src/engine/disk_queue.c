/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backup has to do to its disks. */
#include "disk_queue.h"

static uint64_t record_bytes(const FutDiskRecord *record)
{
    return sizeof(*record) + (record->head.kind == FUT_DISK_WRITE ? record->head.length : 0);
}

static void append(FutDiskList *list, FutDiskRecord *take_record)
{
    *(list->first ? list->tail : &list->first) = take_record;
    list->tail = &take_record->next;
    list->bytes += record_bytes(take_record);
    take_record->next = NULL;
}

static FutDiskRecord *take_first(FutDiskList *list)
{
    FutDiskRecord *record = list->first;
    list->first = record->next;
    list->bytes -= record_bytes(record);
    return record;
}

void fut_disk_queue_add(FutDiskQueue *queue, const FutDiskHead *head, const uint8_t *data)
{
    size_t size = head->kind == FUT_DISK_WRITE ? head->length : 0;
    FutDiskRecord *record = g_malloc(sizeof(*record) + size);
    record->head = *head;
    if (size > 0) {
        memcpy(record->data, data, size);
    }
    append(head->epoch == 0 ? &queue->ready : &queue->pending, record);
}

void fut_disk_queue_commit(FutDiskQueue *queue, uint64_t epoch)
{
    while (queue->pending.first && queue->pending.first->head.epoch <= epoch) {
        append(&queue->ready, take_first(&queue->pending));
    }
}

bool fut_disk_queue_flushes(const FutDiskQueue *queue, uint64_t epoch)
{
    for (const FutDiskRecord *r = queue->pending.first; r && r->head.epoch <= epoch; r = r->next) {
        if (r->head.kind == FUT_DISK_FLUSH) {
            return true;
        }
    }
    return false;
}

void fut_disk_queue_discard(FutDiskQueue *queue)
{
    fut_disk_records_free(queue->pending.first);
    queue->pending = (FutDiskList){ 0 };
}

FutDiskRecord *fut_disk_queue_take(FutDiskQueue *queue, uint64_t max_bytes)
{
    FutDiskList taken = { 0 };
    while (queue->ready.first && taken.bytes < max_bytes) {
        append(&taken, take_first(&queue->ready));
    }
    return taken.first;
}

void fut_disk_queue_clear(FutDiskQueue *queue)
{
    fut_disk_queue_discard(queue);
    fut_disk_records_free(queue->ready.first);
    queue->ready = (FutDiskList){ 0 };
}

void fut_disk_records_free(FutDiskRecord *take_first)
{
    while (take_first) {
        FutDiskRecord *record = take_first;
        take_first = record->next;
        g_free(record);
    }
}
