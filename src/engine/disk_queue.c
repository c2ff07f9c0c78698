/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is still to be done to disks. */
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

static void make_ready(FutDiskQueue *queue, FutDiskRecord *take_record)
{
    append(&queue->ready, take_record);
    queue->readied++;
}

static FutDiskRecord *take_ready(FutDiskQueue *queue)
{
    queue->taken++;
    return take_first(&queue->ready);
}

FutDiskRecord *fut_disk_record_new(const FutDiskHead *head, const uint8_t *data)
{
    size_t size = head->kind == FUT_DISK_WRITE ? head->length : 0;
    FutDiskRecord *record = g_malloc(sizeof(*record) + size);
    record->next = NULL;
    record->head = *head;
    if (size > 0) {
        memcpy(record->data, data, size);
    }
    return record;
}

void fut_disk_queue_put(FutDiskQueue *queue, FutDiskRecord *take_record)
{
    if (take_record->head.epoch == 0) {
        make_ready(queue, take_record);
    } else {
        append(&queue->pending, take_record);
    }
}

void fut_disk_queue_add(FutDiskQueue *queue, const FutDiskHead *head, const uint8_t *data)
{
    fut_disk_queue_put(queue, fut_disk_record_new(head, data));
}

void fut_disk_queue_commit(FutDiskQueue *queue, uint64_t epoch)
{
    while (queue->pending.first && queue->pending.first->head.epoch <= epoch) {
        make_ready(queue, take_first(&queue->pending));
    }
}

void fut_disk_queue_commit_all(FutDiskQueue *queue)
{
    fut_disk_queue_commit(queue, UINT64_MAX);
    for (FutDiskRecord *r = queue->ready.first; r; r = r->next) {
        r->head.epoch = 0;
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
    bool mark = queue->ready.first && queue->ready.first->head.kind == FUT_DISK_MARK;
    while (queue->ready.first && taken.bytes < (mark ? 1 : max_bytes) &&
           (mark || queue->ready.first->head.kind != FUT_DISK_MARK) &&
           (!taken.first || queue->taken != queue->line)) {
        append(&taken, take_ready(queue));
    }
    return taken.first;
}

void fut_disk_queue_clear(FutDiskQueue *queue)
{
    fut_disk_queue_discard(queue);
    fut_disk_records_free(queue->ready.first);
    queue->ready = (FutDiskList){ 0 };
    queue->taken = queue->readied;
}

void fut_disk_records_free(FutDiskRecord *take_first)
{
    while (take_first) {
        FutDiskRecord *record = take_first;
        take_first = record->next;
        g_free(record);
    }
}

/* -- looking into it -- */

FutDiskRecord *fut_disk_queue_copy(const FutDiskQueue *queue, uint64_t max_bytes,
                                   unsigned *ret_count)
{
    FutDiskList copies = { 0 };
    *ret_count = 0;
    for (const FutDiskRecord *r = queue->ready.first; r && copies.bytes < max_bytes; r = r->next) {
        append(&copies, fut_disk_record_new(&r->head, r->data));
        (*ret_count)++;
    }
    return copies.first;
}

unsigned fut_disk_queue_drop(FutDiskQueue *queue, unsigned count)
{
    unsigned flushes = 0;
    while (count-- > 0) {
        FutDiskRecord *record = take_ready(queue);
        flushes += record->head.kind == FUT_DISK_FLUSH;
        g_free(record);
    }
    return flushes;
}

void fut_disk_queue_drop_epochs(FutDiskQueue *queue, uint64_t epoch)
{
    while (queue->ready.first && queue->ready.first->head.epoch <= epoch) {
        g_free(take_ready(queue));
    }
}

bool fut_disk_queue_first_flush(const FutDiskQueue *queue, uint64_t *ret_epoch)
{
    const FutDiskRecord *lists[] = { queue->ready.first, queue->pending.first };
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const FutDiskRecord *r = lists[i]; r; r = r->next) {
            if (r->head.kind == FUT_DISK_FLUSH) {
                *ret_epoch = r->head.epoch;
                return true;
            }
        }
    }
    return false;
}

FutDiskRecord *fut_disk_queue_overlay(const FutDiskQueue *queue, uint32_t disk, uint64_t offset,
                                      uint64_t length)
{
    const FutDiskRecord *lists[] = { queue->ready.first, queue->pending.first };
    FutDiskList overlay = { 0 };
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const FutDiskRecord *r = lists[i]; r; r = r->next) {
            uint64_t first = MAX(offset, r->head.offset);
            uint64_t end = MIN(offset + length, r->head.offset + r->head.length);
            if (r->head.disk != disk || first >= end) {
                continue;
            }
            FutDiskHead head = r->head;
            head.offset = first;
            head.length = end - first;
            append(&overlay, fut_disk_record_new(&head, r->data + (first - r->head.offset)));
        }
    }
    return overlay.first;
}
