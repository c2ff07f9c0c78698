/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A backup's disks: what came over the link is kept until its epoch is committed, and then written by the disk thread, in order. */
#include <sys/uio.h>

#include "byteorder.h"
#include "disks.h"
#include "engine_internal.h"
#include "fut_error.h"

/* What a primary may send without a commit: its own cap, and what its guest's queues hold beyond it. More is a peer gone wrong. */
#define PENDING_MAX_BYTES (1ull << 30)

/* -- frames, before the pair machine -- */

bool fut_disks_check(FutEngine *engine, const FutFrame *frame, GError **error)
{
    const FutDisks *disks = &engine->disks;
    FutDiskHead head;
    if (!fut_disk_head_decode(frame->body, frame->length, &head, error)) {
        return false;
    }
    if (head.disk >= disks->count) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "a write to disk %u, there are %u", head.disk,
                    disks->count);
        return false;
    }
    if (disks->info[head.disk].shared && (head.epoch == 0 || head.kind == FUT_DISK_MARK)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "a copy of disk %s, which is shared",
                    disks->info[head.disk].name);
        return false;
    }
    uint64_t length = disks->info[head.disk].length;
    bool ranged = head.kind != FUT_DISK_MARK;
    if (ranged && (head.length > length || head.offset > length - head.length)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "a write beyond the end of disk %s",
                    disks->info[head.disk].name);
        return false;
    }
    if (disks->queue.pending.bytes > PENDING_MAX_BYTES ||
        fut_disk_queue_bytes(&engine->shared.writes) > PENDING_MAX_BYTES) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "more disk writes in an epoch than allowed");
        return false;
    }
    return true;
}

/* -- frames, after it -- */

/* The disk cannot follow: the link has to wait, and with it the primary. Its guest's writes wait in turn. */
static void wait_for_room(FutEngine *engine, uint64_t max_bytes)
{
    FutDisks *disks = &engine->disks;
    uint64_t last_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    while (!disks->failed &&
           (disks->queue.ready.bytes > max_bytes || disks->void_due ||
            (max_bytes == 0 && disks->writing)) &&
           fut_engine_host_wait(engine)) {
        g_mutex_unlock(&engine->lock);
        fut_standby_sign_of_life(engine, &last_ns);
        g_mutex_lock(&engine->lock);
    }
    g_mutex_unlock(&engine->lock);
}

static void poke_writer(FutEngine *engine)
{
    if (engine->host->disk) {
        engine->host->disk(engine->opaque);
    }
}

void fut_disks_keep(FutEngine *engine, const FutFrame *frame)
{
    FutDisks *disks = &engine->disks;
    FutDiskHead head;
    g_assert(fut_disk_head_decode(frame->body, frame->length, &head, NULL));
    if (head.kind == FUT_DISK_STORED || disks->info[head.disk].shared) {
        fut_shared_keep(engine, &head, frame->body + FUT_DISK_HEAD_SIZE);
        return;
    }
    bool ready = head.epoch == 0;
    if (ready) {
        fut_series_image_enter(engine, NULL, 0);
    }
    g_mutex_lock(&engine->lock);
    if (!disks->failed) {
        fut_disk_queue_add(&disks->queue, &head, frame->body + FUT_DISK_HEAD_SIZE);
    }
    if (ready) {
        fut_series_image_record(engine, &head);
    }
    if (engine->fault == FUT_FAULT_DISK_EARLY) {
        fut_disk_queue_commit(&disks->queue, head.epoch);
        ready = true;
    }
    bool full = disks->queue.ready.bytes > engine->config.disk_queue_max_bytes;
    g_mutex_unlock(&engine->lock);
    if (head.epoch == 0) {
        fut_series_image_leave(engine);
    }
    if (ready) {
        poke_writer(engine);
    }
    if (full) {
        wait_for_room(engine, engine->config.disk_queue_max_bytes);
    }
}

void fut_disks_keep_base(FutEngine *engine, const FutFrame *frame)
{
    FutDisks *disks = &engine->disks;
    FutDiskBase base;
    g_autoptr(GError) error = NULL;
    g_assert(fut_disk_base_decode(frame->body, frame->length, &base, NULL));
    if (!fut_shared_marked(engine, base.next, &error)) {
        fut_engine_bad_peer(engine, error->message, fut_engine_now(engine));
        return;
    }
    wait_for_room(engine, 0); /* what an earlier primary left: its epochs are not this one's */
    g_mutex_lock(&engine->lock);
    bool kept = base.base != 0 && base.base == disks->image && !disks->failed &&
                (disks->mark == base.mark || disks->mark == base.mark + 1);
    g_clear_pointer(&disks->failed, g_free);
    disks->life = disks->life ? disks->life : engine->nonce | 1;
    if (!kept) {
        disks->image = base.next;
        disks->mark = 0;
        disks->void_due = disks->has_notes; /* named again by the first mark */
    }
    FutDiskKept answer = { kept ? base.base : 0, disks->mark, disks->life };
    g_mutex_unlock(&engine->lock);
    if (!kept) {
        poke_writer(engine);
        wait_for_room(engine, 0);
    }
    uint8_t at[FUT_DISK_KEPT_SIZE];
    fut_disk_kept_encode(at, &answer);
    struct iovec iov = { at, sizeof(at) };
    engine->host->send(engine->opaque, FUT_MSG_DISK_KEPT, 0, &iov, 1);
}

void fut_disks_before_commit(FutEngine *engine, uint64_t epoch)
{
    if (engine->config.flush_both && fut_disk_queue_flushes(&engine->disks.queue, epoch)) {
        fut_pair_ack_late(engine->pair);
    }
}

void fut_disks_commit(FutEngine *engine, uint64_t epoch)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    bool any = disks->queue.pending.first != NULL;
    for (FutDiskRecord *r = disks->queue.pending.first; r && r->head.epoch <= epoch; r = r->next) {
        fut_series_image_record(engine, &r->head);
    }
    fut_disk_queue_commit(&disks->queue, epoch);
    fut_disk_queue_commit(&engine->shared.writes, epoch);
    g_mutex_unlock(&engine->lock);
    if (any) {
        poke_writer(engine);
    }
}

/* What was committed is still written: with it the image is the one that the primary remembers. A shared one is the primary's. */
void fut_disks_discard(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    fut_disk_queue_discard(&engine->disks.queue);
    fut_disk_queue_clear(&engine->shared.writes);
    g_mutex_unlock(&engine->lock);
}

/* -- the disk thread -- */

/* All before it is written. When it is safe, too, the image has its name and that mark. */
static bool make_safe(FutEngine *engine, uint64_t mark, GError **error)
{
    FutDisks *disks = &engine->disks;
    if (!fut_disks_flush(engine, error)) {
        return false;
    }
    fut_disks_note_all(engine, FUT_ROLE_BACKUP, disks->image, mark);
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    disks->mark = mark;
    fut_pair_disk_safe(engine->pair, mark, now_ns);
    engine->act_wanted = true;
    g_mutex_unlock(&engine->lock);
    engine->host->wake(engine->opaque);
    return true;
}

/* Records, or one mark. */
static bool carry_out(FutEngine *engine, FutDiskRecord *take_records, GError **error)
{
    if (take_records->head.kind != FUT_DISK_MARK) {
        return engine->vmm->ops->disk_write(engine->vmm, take_records, error);
    }
    uint64_t mark = take_records->head.offset;
    fut_disk_records_free(take_records);
    return make_safe(engine, mark, error);
}

/* The flag first: who waits for the writing must not wait for the actions below, nor they for him. */
static void image_failed(FutEngine *engine, GError *take_error)
{
    FutDisks *disks = &engine->disks;
    g_autoptr(GError) error = take_error;
    g_mutex_lock(&engine->lock);
    disks->failed = g_strdup(error->message);
    disks->image = disks->mark = 0;
    disks->writing = false;
    fut_disk_queue_clear(&disks->queue);
    fut_engine_changed(engine);
    bool exiting = engine->exiting;
    g_mutex_unlock(&engine->lock);
    fut_disks_note_all(engine, FUT_ROLE_BACKUP, 0, 0);
    fut_series_image_over(engine, error->message);
    if (exiting) {
        return;
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    fut_pair_image_bad(engine->pair, error->message, now_ns);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
}

/* All of the epochs up to the last record's are done, unless more of that one follows. */
static uint64_t written_epoch(const FutDiskQueue *queue, uint64_t last)
{
    return queue->ready.first && queue->ready.first->head.epoch == last && last > 0 ? last - 1
                                                                                    : last;
}

/* The link thread carries out what follows: it may be the one that waits for us (fut_disks_settle). */
static void note_written(FutEngine *engine, uint64_t last)
{
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    fut_pair_written(engine->pair, written_epoch(&engine->disks.queue, last), now_ns);
    engine->act_wanted = true;
    g_mutex_unlock(&engine->lock);
    engine->host->wake(engine->opaque);
}

static uint64_t last_epoch(const FutDiskRecord *records)
{
    while (records->next) {
        records = records->next;
    }
    return records->head.epoch;
}

bool fut_engine_disk_step(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    uint64_t first = disks->queue.taken;
    FutDiskRecord *records = fut_disk_queue_take(&disks->queue, engine->config.disk_batch_bytes);
    disks->writing = records != NULL;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
    if (!records) {
        return fut_shared_step(engine) || fut_disks_note_step(engine);
    }
    GError *error = NULL;
    uint64_t last = last_epoch(records);
    fut_series_disks_overwrite(engine, records, first);
    bool written = carry_out(engine, records, &error);
    if (!written) {
        image_failed(engine, error);
    } else if (engine->config.flush_both) {
        note_written(engine, last);
    }
    return true;
}

bool fut_disks_at_line(FutEngine *engine)
{
    const FutDiskQueue *queue = &engine->disks.queue;

    g_mutex_lock(&engine->lock);
    bool there = !engine->disks.failed && (queue->taken > queue->line ||
                                           (queue->taken == queue->line && !engine->disks.writing));
    g_mutex_unlock(&engine->lock);
    return there;
}

bool fut_disks_settle(FutEngine *engine, GError **error)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    fut_disk_queue_discard(&disks->queue);
    bool ok = true, late = engine->fault == FUT_FAULT_DISK_LATE;
    while (ok && !late && !disks->failed && (disks->queue.ready.first || disks->writing)) {
        ok = fut_engine_host_wait(engine);
    }
    disks->image = disks->mark = 0; /* the guest writes to it from now on */
    ok = ok && !disks->failed;
    if (!ok) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO,
                            disks->failed ? disks->failed : "this process ends");
    }
    g_mutex_unlock(&engine->lock);
    if (ok) {
        fut_disks_note_all(engine, FUT_ROLE_PRIMARY, 0, 0);
    }
    return ok;
}
