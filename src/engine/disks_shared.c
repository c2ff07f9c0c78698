/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared disks of a primary: the guest's writes on their way to the image. */
#include "disks_shared.h"

#include "engine_internal.h"
#include "fut_clock.h"

/* Written, and made durable, in one go. */
#define BATCH_BYTES (4u << 20)
#define RETRY_NS FUT_NS_PER_S

void fut_shared_open(FutEngine *engine)
{
    const FutDisks *disks = &engine->disks;
    for (unsigned i = 0; i < disks->count; i++) {
        engine->shared.count += disks->info[i].shared;
    }
    engine->shared.granted = UINT64_MAX;
}

void fut_shared_poke(FutEngine *engine)
{
    if (engine->shared.count > 0 && engine->host->disk) {
        engine->host->disk(engine->opaque);
    }
}

bool fut_shared_mark(FutEngine *engine, uint64_t token, GError **error)
{
    const FutDisks *disks = &engine->disks;
    for (unsigned i = 0; i < disks->count; i++) {
        if (disks->info[i].shared && !engine->vmm->ops->disk_mark(engine->vmm, i, token, error)) {
            return false;
        }
    }
    return true;
}

/* -- when outputs may go -- */

static uint64_t output_epoch(const FutEngine *engine)
{
    return fut_pair_output_epoch(engine->pair);
}

/* The pair machine may have gone on, and what it decided not have been carried out yet: never more than it allows. */
static uint64_t allowed(const FutEngine *engine)
{
    const FutShared *shared = &engine->shared;
    uint64_t running = output_epoch(engine), epoch;
    if (running == UINT64_MAX) {
        return 0;
    }
    uint64_t granted = running > 0 ? MIN(shared->granted, running - 1) : shared->granted;
    if (shared->flushes == 0 || !fut_disk_queue_first_flush(&shared->writes, &epoch)) {
        return granted;
    }
    return MIN(granted, epoch > 0 ? epoch - 1 : 0);
}

uint64_t fut_shared_commit(FutEngine *engine, uint64_t epoch)
{
    engine->shared.granted = epoch;
    fut_disk_queue_commit(&engine->shared.writes, epoch);
    return allowed(engine);
}

uint64_t fut_shared_commit_all(FutEngine *engine)
{
    engine->shared.granted = UINT64_MAX;
    engine->shared.settling = false;
    fut_disk_queue_commit_all(&engine->shared.writes);
    return allowed(engine);
}

uint64_t fut_shared_let_go(FutEngine *engine)
{
    engine->shared.let_go = false;
    return allowed(engine);
}

bool fut_shared_may_cut(const FutEngine *engine)
{
    const FutShared *shared = &engine->shared;
    return shared->count == 0 || (shared->granted != UINT64_MAX && !shared->settling);
}

bool fut_shared_gates(const FutEngine *engine)
{
    return engine->shared.flushes > 0;
}

/* -- the guest's requests -- */

/* Lock held. */
static FutSharedVerdict verdict_of(const FutEngine *engine, bool hurry)
{
    const FutShared *shared = &engine->shared;
    uint64_t epoch = output_epoch(engine);
    if (epoch == UINT64_MAX || shared->yielded) {
        return FUT_SHARED_DROP;
    }
    if (epoch == 0 && fut_disk_queue_empty(&shared->writes)) {
        return FUT_SHARED_PASS;
    }
    /* No twin: the queue has to become empty, for the guest's flush and for the next backup. */
    bool emptying = epoch == 0 && !shared->failing;
    bool full = fut_disk_queue_bytes(&shared->writes) > engine->config.disk_unacked_max_bytes;
    return (full || emptying) && !hurry ? FUT_SHARED_WAIT : FUT_SHARED_HOLD;
}

FutSharedVerdict fut_engine_shared_write(FutEngine *engine, bool hurry)
{
    bool request = false;
    g_mutex_lock(&engine->lock);
    FutSharedVerdict verdict = verdict_of(engine, hurry);
    engine->shared.direct += verdict == FUT_SHARED_PASS;
    if (verdict == FUT_SHARED_WAIT && engine->shared.writes.pending.first) {
        request = fut_primary_may_cut(engine) && !engine->cut_pending;
        engine->cut_pending |= request;
    }
    g_mutex_unlock(&engine->lock);
    if (request) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
    return verdict;
}

void fut_engine_shared_passed(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool poke = --engine->shared.direct == 0 && engine->shared.settling;
    g_mutex_unlock(&engine->lock);
    if (poke) {
        fut_shared_poke(engine);
    }
}

FutSharedVerdict fut_engine_shared_flush(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    FutSharedVerdict verdict = verdict_of(engine, true);
    /* Nobody holds outputs back any more: the flush itself has to wait for what was held. */
    if (verdict == FUT_SHARED_HOLD && output_epoch(engine) == 0) {
        verdict = engine->shared.failing ? FUT_SHARED_FAIL : FUT_SHARED_WAIT;
    }
    /* A guest that flushes again and again, while the image hangs, must not fill the memory. */
    if (verdict == FUT_SHARED_HOLD && engine->shared.flushed == output_epoch(engine)) {
        verdict = FUT_SHARED_DROP;
    }
    g_mutex_unlock(&engine->lock);
    return verdict;
}

/* Lock held. False: the epoch is not the one in which the twin was told. */
static bool hold(FutEngine *engine, FutDiskRecord *record, uint64_t told)
{
    uint64_t epoch = output_epoch(engine);
    if (epoch == UINT64_MAX) {
        g_free(record);
        return true;
    }
    if (epoch != 0 && epoch != told) {
        return false;
    }
    if (epoch == 0 && engine->shared.writes.pending.first) {
        /* the order is that of the guest, also if the end of the protection was decided and not carried out yet */
        fut_disk_queue_commit_all(&engine->shared.writes);
    }
    record->head.epoch = epoch;
    bool flush = record->head.kind == FUT_DISK_FLUSH;
    engine->shared.flushes += flush;
    engine->shared.flushed = flush ? epoch : 0;
    fut_disk_queue_put(&engine->shared.writes, record);
    return true;
}

/* The caller holds the big lock: no cut comes in between. */
void fut_engine_shared_hold(FutEngine *engine, FutDiskRecord *take_record)
{
    FutDiskRecord *record = take_record;
    bool held = false, ready = false;
    while (!held) {
        g_mutex_lock(&engine->lock);
        FutDiskHead head = record->head;
        head.epoch = output_epoch(engine);
        bool live = head.epoch != 0 && head.epoch != UINT64_MAX && fut_disks_live(engine);
        g_mutex_unlock(&engine->lock);
        if (live) {
            fut_disks_send(engine, &head, head.kind == FUT_DISK_WRITE ? record->data : NULL);
        }
        g_mutex_lock(&engine->lock);
        held = hold(engine, record, head.epoch);
        ready = engine->shared.writes.ready.first != NULL;
        g_mutex_unlock(&engine->lock);
    }
    if (ready) {
        fut_shared_poke(engine);
    }
}

FutDiskRecord *fut_engine_shared_read(FutEngine *engine, unsigned disk, uint64_t offset,
                                      uint64_t length)
{
    g_mutex_lock(&engine->lock);
    FutDiskRecord *held = fut_disk_queue_overlay(&engine->shared.writes, disk, offset, length);
    g_mutex_unlock(&engine->lock);
    return held;
}

/* -- the disk thread -- */

/* Lock held: outputs that still wait for the image, of no epoch or of an earlier backup's, are in front of those to come. */
static void gate_by_first_commit(FutEngine *engine)
{
    for (FutPacket *packet = engine->held.first; packet; packet = packet->next) {
        packet->epoch = 1;
    }
}

bool fut_shared_hold(FutEngine *engine)
{
    FutShared *shared = &engine->shared;
    if (shared->count == 0) {
        return true;
    }
    g_mutex_lock(&engine->lock);
    shared->granted = 0;
    shared->settling = true;
    shared->flushed = 0;
    shared->settles = false; /* what is being stored now began before */
    gate_by_first_commit(engine);
    g_mutex_unlock(&engine->lock);
    fut_shared_poke(engine);
    return false;
}

FutDiskRecord *fut_shared_flush_behind(const FutEngine *engine, FutDiskRecord *take_records)
{
    FutDiskRecord *records = take_records, **end = &records;
    while (*end) {
        end = &(*end)->next;
    }
    for (unsigned i = 0; i < engine->disks.count; i++) {
        if (engine->disks.info[i].shared) {
            *end = fut_disk_record_new(&(FutDiskHead){ .disk = i, .kind = FUT_DISK_FLUSH }, NULL);
            end = &(*end)->next;
        }
    }
    return records;
}

/* Lock held: what is to be written now, and a flush of each shared disk behind it. NULL: nothing. */
static FutDiskRecord *take_batch(FutEngine *engine, unsigned *ret_count)
{
    FutShared *shared = &engine->shared;
    FutPairStatus status;
    fut_pair_status(engine->pair, &status);
    if (status.role != FUT_ROLE_PRIMARY || shared->yielded) {
        return NULL;
    }
    FutDiskRecord *batch = fut_disk_queue_copy(&shared->writes, BATCH_BYTES, ret_count);
    shared->settles = shared->settling && shared->direct == 0;
    if (!batch && !shared->settles) {
        return NULL;
    }
    shared->storing = true;
    return fut_shared_flush_behind(engine, batch);
}

/* Lock held: epoch that is now on the image as a whole; 0: none is. */
static uint64_t drop_batch(FutShared *shared, unsigned count)
{
    const FutDiskRecord *record = shared->writes.ready.first;
    for (unsigned i = 1; i < count; i++) {
        record = record->next;
    }
    uint64_t last = count > 0 ? record->head.epoch : 0;
    unsigned flushes = fut_disk_queue_drop(&shared->writes, count);
    shared->flushes -= flushes;
    shared->let_go |= flushes > 0;
    const FutDiskRecord *next = shared->writes.ready.first;
    return next && next->head.epoch == last && last > 0 ? last - 1 : last;
}

static void stored(FutEngine *engine, unsigned count)
{
    FutShared *shared = &engine->shared;
    g_mutex_lock(&engine->lock);
    FutDiskHead head = { .kind = FUT_DISK_STORED, .epoch = drop_batch(shared, count) };
    bool tell = head.epoch > 0 && fut_disks_live(engine);
    bool cut = shared->settles && !shared->writes.ready.first;
    shared->settling &= !cut;
    shared->storing = shared->failing = false;
    engine->cut_pending |= cut;
    engine->act_wanted |= shared->let_go;
    bool wake = shared->let_go;
    bool copy = engine->disks.copy_waits && fut_disk_queue_empty(&shared->writes);
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
    if (tell) {
        fut_disks_send(engine, &head, NULL);
    }
    if (cut) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
    if (wake) {
        engine->host->wake(engine->opaque);
    }
    if (copy) {
        engine->host->copy(engine->opaque, true);
    }
}

/* Nothing is lost: both hosts have what could not be written. The guest was told that it is, so it cannot be told otherwise. */
static void not_stored(FutEngine *engine, const GError *error)
{
    FutShared *shared = &engine->shared;
    uint64_t end_ns = fut_engine_now(engine) + RETRY_NS;
    g_mutex_lock(&engine->lock);
    bool tell = !shared->failing && !engine->exiting;
    shared->storing = false;
    shared->failing = true;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
    if (tell) {
        g_autofree char *text = g_strdup_printf(
            "%s: tried again every second; until then what the guest flushes is not told outside",
            error->message);
        engine->host->report(engine->opaque, "FUT-195", text);
    }
    g_mutex_lock(&engine->lock);
    while (!engine->exiting && fut_engine_now(engine) < end_ns && fut_engine_host_wait(engine)) {
    }
    g_mutex_unlock(&engine->lock);
}

bool fut_shared_step(FutEngine *engine)
{
    g_autoptr(GError) error = NULL;
    unsigned count = 0;
    if (engine->shared.count == 0) {
        return false;
    }
    g_mutex_lock(&engine->lock);
    FutDiskRecord *batch = take_batch(engine, &count);
    g_mutex_unlock(&engine->lock);
    if (!batch) {
        return false;
    }
    if (engine->vmm->ops->disk_write(engine->vmm, batch, &error)) {
        stored(engine, count);
    } else {
        not_stored(engine, error);
    }
    return true;
}

/* -- leaving the image, and coming back -- */

void fut_shared_yield(FutEngine *engine)
{
    FutShared *shared = &engine->shared;
    if (shared->count == 0) {
        return;
    }
    g_mutex_lock(&engine->lock);
    bool yield = !shared->yielded;
    shared->yielded = true;
    while (shared->storing && fut_engine_host_wait(engine)) {
    }
    g_mutex_unlock(&engine->lock);
    if (yield) {
        engine->vmm->ops->disks_yield(engine->vmm);
    }
}

void fut_shared_fence(FutEngine *engine)
{
    fut_shared_yield(engine);
    g_mutex_lock(&engine->lock);
    fut_disk_queue_clear(&engine->shared.writes);
    engine->shared.flushes = 0;
    g_mutex_unlock(&engine->lock);
}

void fut_shared_take_back(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool back = engine->shared.yielded;
    g_mutex_unlock(&engine->lock);
    if (!back || !fut_shared_claim(engine)) {
        return;
    }
    g_mutex_lock(&engine->lock);
    engine->shared.yielded = false;
    g_mutex_unlock(&engine->lock);
}
