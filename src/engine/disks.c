/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A primary's disks: the copy, and the guest's writes on their way to the twin. */
#include "disks.h"

#include <sys/uio.h>

#include "byteorder.h"
#include "engine_internal.h"
#include "fut_clock.h"

/* Looked at in one go: a hole of that length costs one message. */
#define CLAIM_CHUNKS 1024
/* What a message costs beside its data, for the cap. */
#define RECORD_BYTES 64

void fut_disks_open(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    const FutVmmOps *ops = engine->vmm->ops;
    disks->info = ops->disks ? ops->disks(engine->vmm, &disks->count) : NULL;
    disks->map = g_new0(FutDiskMap, disks->count);
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_init(&disks->map[i], disks->info[i].length, engine->config.disk_chunk_shift);
    }
    if (!engine->config.waiting) {
        fut_disks_note_open(engine);
    }
}

void fut_disks_close(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_done(&disks->map[i]);
    }
    fut_disk_queue_clear(&disks->queue);
    g_free(disks->map);
    g_free(disks->note);
    g_free(disks->buffer);
    g_free(disks->failed);
}

bool fut_disks_flush(FutEngine *engine, GError **error)
{
    for (unsigned i = 0; i < engine->disks.count; i++) {
        if (engine->disks.info[i].shared) {
            continue;
        }
        FutDiskRecord *flush = g_new0(FutDiskRecord, 1);
        flush->head = (FutDiskHead){ .disk = i, .kind = FUT_DISK_FLUSH };
        if (!engine->vmm->ops->disk_write(engine->vmm, flush, error)) {
            return false;
        }
    }
    return true;
}

static bool send_disk(FutEngine *engine, const FutDiskHead *head, const uint8_t *data)
{
    uint8_t at[FUT_DISK_HEAD_SIZE];
    fut_disk_head_encode(at, head);
    struct iovec iov[2] = { { at, sizeof(at) }, { (void *)data, head->length } };
    return engine->host->send(engine->opaque, FUT_MSG_DISK, 0, iov, data ? 2 : 1);
}

static void send_range(FutEngine *engine, FutDiskHead head, const uint8_t *data)
{
    uint64_t left = head.length;
    if (left == 0) {
        send_disk(engine, &head, NULL);
    }
    while (left > 0) {
        head.length = data ? MIN(left, FUT_WIRE_DISK_MAX) : left;
        send_disk(engine, &head, data);
        head.offset += head.length;
        left -= head.length;
        data = data ? data + head.length : NULL;
    }
}

void fut_disks_send(FutEngine *engine, const FutDiskHead *head, const uint8_t *data)
{
    send_range(engine, *head, data);
}

/* -- the twin comes and goes -- */

void fut_disks_start(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    bool nothing = disks->count == 0 || fut_pair_moving(engine->pair);
    disks->agreed = disks->sending = false;
    g_mutex_unlock(&engine->lock);
    if (nothing) {
        return;
    }
    g_mutex_lock(&engine->lock);
    disks->next = engine->nonce ? engine->nonce : 1;
    disks->sent_bytes = disks->acked_bytes = disks->copied_bytes = 0;
    FutDiskBase base = { disks->image, disks->next, disks->mark };
    g_mutex_unlock(&engine->lock);
    GError *error = NULL;
    if (!fut_shared_mark(engine, base.next, &error)) {
        fut_primary_broken(engine, error);
        return;
    }
    uint8_t at[FUT_DISK_BASE_SIZE];
    fut_disk_base_encode(at, &base);
    struct iovec iov = { at, sizeof(at) };
    engine->host->send(engine->opaque, FUT_MSG_DISK_BASE, 0, &iov, 1);
}

/* With the lock held. */
static void agree_on_image(FutEngine *engine, const FutDiskKept *kept)
{
    FutDisks *disks = &engine->disks;
    bool same = disks->image != 0 && kept->base == disks->image &&
                (kept->mark == disks->mark || kept->mark == disks->mark + 1);
    for (unsigned i = 0; i < disks->count; i++) {
        if (!same) {
            fut_disk_map_forget(&disks->map[i]);
        } else if (kept->life != disks->twin_life) {
            fut_disk_map_unsafe(&disks->map[i]);
        }
    }
    if (!same) {
        disks->image = disks->next;
        disks->mark = disks->mark_sent = 0;
        disks->reset_due = disks->has_notes;
        disks->safe_due = false;
    } else if (kept->mark != disks->mark) {
        disks->mark_sent = kept->mark; /* its answer got lost */
        fut_disks_mark_safe(engine);
    }
    disks->twin_life = kept->life;
    disks->agreed = disks->sending = true;
    disks->unmarked_bytes = 1; /* a first mark, even if nothing has to be copied */
}

void fut_disks_kept(FutEngine *engine, const FutFrame *frame)
{
    FutDisks *disks = &engine->disks;
    FutDiskKept kept;
    g_assert(fut_disk_kept_decode(frame->body, frame->length, &kept, NULL)); /* it was checked */
    g_mutex_lock(&engine->lock);
    FutPairStatus status;
    fut_pair_status(engine->pair, &status);
    bool wanted = status.state == FUT_STATE_COPYING && disks->count > 0 && !disks->agreed &&
                  !fut_pair_moving(engine->pair);
    if (wanted) {
        agree_on_image(engine, &kept);
    }
    bool due = disks->reset_due || disks->safe_due;
    g_mutex_unlock(&engine->lock);
    if (wanted) {
        engine->host->copy(engine->opaque, true);
    }
    if (due) {
        engine->host->disk(engine->opaque);
    }
}

void fut_disks_stop(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_lost(&disks->map[i]);
    }
    disks->agreed = disks->sending = disks->copy_waits = false;
    disks->mark_out = disks->safe_due;
    g_mutex_unlock(&engine->lock);
}

void fut_disks_confirm(FutEngine *engine, uint64_t epoch)
{
    FutDisks *disks = &engine->disks;
    const FutFlight *flight = &engine->flights[epoch % FUT_FLIGHTS_MAX];
    for (unsigned i = 0; i < disks->count; i++) {
        fut_disk_map_confirm(&disks->map[i], epoch);
    }
    if (flight->epoch == epoch) {
        disks->acked_bytes = flight->disk_bytes;
    }
}

void fut_disks_share(const FutEngine *engine, uint64_t *ret_total, uint64_t *ret_synced)
{
    *ret_total = *ret_synced = 0;
    for (unsigned i = 0; i < engine->disks.count && !fut_pair_moving(engine->pair); i++) {
        const FutDiskMap *map = &engine->disks.map[i];
        if (engine->disks.info[i].shared) {
            continue;
        }
        *ret_total += map->length;
        *ret_synced += MIN(map->synced << map->shift, map->length);
    }
}

/* -- the copy -- */

typedef enum {
    CLAIM_NONE,
    CLAIM_WAIT,
    CLAIM_READY
} Claim;

/* Lock held. */
static Claim claim_of(FutDiskMap *map, uint64_t *ret_offset, uint64_t *ret_length)
{
    if (!fut_disk_map_claimed(map) &&
        !fut_disk_map_claim(map, CLAIM_CHUNKS, ret_offset, ret_length)) {
        return CLAIM_NONE;
    }
    *ret_offset = map->claim_first << map->shift;
    *ret_length = MIN(map->claim_count << map->shift, map->length - *ret_offset);
    return fut_disk_map_quiet(map) ? CLAIM_READY : CLAIM_WAIT;
}

static Claim next_claim(FutEngine *engine, unsigned *ret_disk, uint64_t *ret_offset,
                        uint64_t *ret_length)
{
    FutDisks *disks = &engine->disks;
    Claim claim = CLAIM_NONE;
    g_mutex_lock(&engine->lock);
    if (!disks->sending) {
        bool agreeing = disks->count > 0 && !fut_pair_moving(engine->pair);
        claim = agreeing ? CLAIM_WAIT : CLAIM_NONE;
    } else {
        for (unsigned i = 0; i < disks->count && claim == CLAIM_NONE; i++) {
            *ret_disk = i;
            claim = disks->info[i].shared ? CLAIM_NONE
                                          : claim_of(&disks->map[i], ret_offset, ret_length);
        }
        if (claim == CLAIM_NONE && !fut_disk_queue_empty(&engine->shared.writes)) {
            claim = CLAIM_WAIT; /* what an earlier twin knew of: the next one would not */
        }
        disks->copy_waits = claim == CLAIM_WAIT;
    }
    g_mutex_unlock(&engine->lock);
    return claim;
}

/* The copy has come so far that it is worth to know what of it is safe. Copy thread. */
static void mark_copy(FutEngine *engine, bool done)
{
    FutDisks *disks = &engine->disks;
    FutDiskHead mark;
    g_mutex_lock(&engine->lock);
    FutPairStatus status;
    fut_pair_status(engine->pair, &status);
    bool due = status.state == FUT_STATE_COPYING &&
               (done || disks->unmarked_bytes >= engine->config.disk_mark_bytes) &&
               fut_disks_mark(engine, 0, &mark);
    g_mutex_unlock(&engine->lock);
    if (due) {
        send_disk(engine, &mark, NULL);
    }
}

void fut_disks_cut(FutEngine *engine, uint64_t epoch, uint64_t now_ns)
{
    FutDisks *disks = &engine->disks;
    FutDiskHead mark;
    g_mutex_lock(&engine->lock);
    bool due = now_ns - disks->mark_ns >= engine->config.disk_mark_ms * FUT_NS_PER_MS &&
               fut_disks_mark(engine, epoch, &mark);
    disks->mark_ns = due ? now_ns : disks->mark_ns;
    g_mutex_unlock(&engine->lock);
    if (due) {
        send_disk(engine, &mark, NULL);
    }
}

size_t fut_disks_copy_step(FutEngine *engine, bool *ret_done)
{
    FutDisks *disks = &engine->disks;
    FutDiskHead head = { 0 };
    Claim claim = next_claim(engine, &head.disk, &head.offset, &head.length);
    *ret_done = claim == CLAIM_NONE;
    if (disks->count > 0) {
        mark_copy(engine, *ret_done);
    }
    if (claim != CLAIM_READY) {
        return 0;
    }
    if (!disks->buffer) {
        disks->buffer = g_malloc((size_t)1 << engine->config.disk_chunk_shift);
    }
    GError *error = NULL;
    bool zero = false;
    bool read = engine->vmm->ops->disk_read(engine->vmm, head.disk, head.offset, &head.length,
                                            disks->buffer, &zero, &error);
    if (read) {
        head.kind = zero ? FUT_DISK_ZEROES : FUT_DISK_WRITE;
        send_disk(engine, &head, zero ? NULL : disks->buffer);
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    FutDiskMap *map = &disks->map[head.disk];
    if (read) {
        fut_disk_map_sent(map, 0, head.offset, head.length);
        disks->copied_bytes += zero ? 0 : head.length;
        disks->unmarked_bytes += RECORD_BYTES + (zero ? 0 : head.length);
    }
    fut_disk_map_copied(map, read ? head.length : 0);
    fut_pair_sent(engine->pair, now_ns);
    g_mutex_unlock(&engine->lock);
    if (!read) {
        fut_primary_broken(engine, error);
        return 0;
    }
    return FUT_DISK_HEAD_SIZE + (zero ? 0 : head.length);
}

/* -- the guest's writes -- */

bool fut_disks_live(const FutEngine *engine)
{
    FutPairStatus status;
    fut_pair_status(engine->pair, &status);
    switch (status.state) {
    case FUT_STATE_COPYING:
    case FUT_STATE_SETTLING:
    case FUT_STATE_PROTECTING:
    case FUT_STATE_PROTECTED:
    case FUT_STATE_HANDING:
        return engine->disks.sending;
    default:
        return false;
    }
}

/* The guest writes faster than the twin takes it. Asks for a cut where that helps. */
static bool too_fast(FutEngine *engine)
{
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    bool live = fut_disks_live(engine), request = false;
    uint64_t epoch = fut_pair_output_epoch(engine->pair);
    bool slow = live && epoch != 0 &&
                disks->sent_bytes - disks->acked_bytes > engine->config.disk_unacked_max_bytes;
    bool none = fut_pair_under_way(engine->pair) == 0; /* else an acknowledgement makes room soon */
    if (slow && none && !engine->cut_pending && fut_primary_may_cut(engine)) {
        engine->cut_pending = request = true;
    }
    g_mutex_unlock(&engine->lock);
    if (request) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
    if (live && epoch == 0 && engine->host->pending) {
        slow = engine->host->pending(engine->opaque) > engine->config.disk_unacked_max_bytes;
    }
    return slow;
}

bool fut_engine_disk_begin(FutEngine *engine, unsigned disk, FutDiskWrite *write, bool hurry)
{
    if (!hurry && too_fast(engine)) {
        return false;
    }
    FutDisks *disks = &engine->disks;
    g_mutex_lock(&engine->lock);
    bool noted =
        !disks->noting || fut_disk_map_noted(&disks->map[disk], write->offset, write->length);
    bool begun = noted && fut_disk_map_begin(&disks->map[disk], write);
    g_mutex_unlock(&engine->lock);
    if (!noted) {
        engine->host->disk(engine->opaque);
    }
    return begun;
}

/* Sends the next piece that the twin has to have. The caller holds the big lock: no cut comes between the epoch and the sending. */
static bool send_piece(FutEngine *engine, FutDiskMap *map, const FutDiskWrite *write,
                       FutDiskHead head, uint64_t *at, const uint8_t *data)
{
    g_mutex_lock(&engine->lock);
    bool live = fut_disks_live(engine);
    bool piece = live && fut_disk_map_piece(map, write, at, &head.offset, &head.length);
    if (piece) {
        head.epoch = fut_pair_output_epoch(engine->pair);
        fut_disk_map_sent(map, head.epoch, head.offset, head.length);
        engine->disks.sent_bytes += RECORD_BYTES + (data ? head.length : 0);
        engine->disks.unmarked_bytes += RECORD_BYTES;
        engine->disks.on_the_way++;
    } else if (!live) {
        fut_disk_map_missed(map, *at, write->offset + write->length - *at);
    }
    g_mutex_unlock(&engine->lock);
    if (piece) {
        send_range(engine, head, data ? data + (head.offset - write->offset) : NULL);
        g_mutex_lock(&engine->lock);
        engine->disks.on_the_way--;
        g_mutex_unlock(&engine->lock);
    }
    return piece && *at < write->offset + write->length;
}

void fut_engine_disk_end(FutEngine *engine, unsigned disk, FutDiskWrite *write, FutDiskKind kind,
                         const uint8_t *data, bool ok)
{
    FutDisks *disks = &engine->disks;
    FutDiskMap *map = &disks->map[disk];
    if (ok && write->sending) {
        FutDiskHead head = { .disk = disk, .kind = kind };
        uint64_t at = write->offset;
        while (send_piece(engine, map, write, head, &at, data)) {
        }
    }
    g_mutex_lock(&engine->lock);
    if (!ok && write->sending && !fut_disks_live(engine)) {
        fut_disk_map_missed(map, write->offset, write->length); /* may be half written */
    }
    fut_disk_map_end(map, write);
    bool poke = disks->copy_waits;
    g_mutex_unlock(&engine->lock);
    if (poke) {
        engine->host->copy(engine->opaque, true);
    }
}

void fut_engine_disk_flushed(FutEngine *engine, unsigned disk)
{
    g_mutex_lock(&engine->lock);
    FutDiskHead head = { .epoch = fut_pair_output_epoch(engine->pair),
                         .disk = disk,
                         .kind = FUT_DISK_FLUSH };
    bool live = fut_disks_live(engine) && head.epoch != 0; /* a copy is not worth the waiting */
    engine->disks.sent_bytes += live ? RECORD_BYTES : 0;
    g_mutex_unlock(&engine->lock);
    if (live) {
        send_disk(engine, &head, NULL);
    }
}
