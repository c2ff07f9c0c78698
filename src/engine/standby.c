/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup's half of the engine: takes in the copy and the checkpoints, and brings the twin to life. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "byteorder.h"
#include "delta.h"
#include "engine_internal.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "memhash.h"

/* Before each stream kept in `parts`. */
#define KEPT_HEAD 8
#define PART_HEAD 8

bool fut_standby_open(FutEngine *engine, GError **error)
{
    FutStandby *standby = &engine->standby;
    standby->guest = *engine->vmm->ops->memory(engine->vmm);
    standby->memory = standby->guest;
    void *image = mmap(NULL, FUT_WIRE_STATE_MAX, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (image == MAP_FAILED) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "no memory for the device state image: %s",
                    g_strerror(errno));
        return false;
    }
    standby->memory.block[standby->memory.count].base = image;
    standby->memory.block[standby->memory.count].length = FUT_WIRE_STATE_MAX;
    standby->memory.count++;
    fut_resident_init(&standby->resident, &standby->guest);
    standby->log.max_bytes = engine->config.log_max_bytes;
    engine->standby_open = true;
    return true;
}

static uint8_t *state_image(FutStandby *standby)
{
    return standby->memory.block[standby->memory.count - 1].base;
}

void fut_standby_close(FutEngine *engine)
{
    if (engine->standby_open) {
        munmap(state_image(&engine->standby), FUT_WIRE_STATE_MAX);
        fut_resident_done(&engine->standby.resident);
        fut_buf_done(&engine->standby.parts);
        fut_kept_done(&engine->standby.kept);
        fut_packets_clear(&engine->standby.log);
        engine->standby_open = false;
    }
}

/* -- frames, before the pair machine -- */

/* An epoch can hold each page once; more than that is a peer gone wrong. */
static bool parts_fit(const FutStandby *standby, size_t more, GError **error)
{
    uint64_t limit = 0;
    for (unsigned i = 0; i < standby->memory.count; i++) {
        limit += standby->memory.block[i].length;
    }
    limit += limit / 32 + FUT_WIRE_PART_MAX;
    if (standby->parts.len + more > limit) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "epoch larger than the VM's memory");
        return false;
    }
    return true;
}

static bool check_part(FutEngine *engine, const FutFrame *frame, GError **error)
{
    FutStandby *standby = &engine->standby;
    if (frame->length < PART_HEAD) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "part of an epoch without a head");
        return false;
    }
    return parts_fit(standby, frame->length, error) &&
           fut_delta_check(frame->body + PART_HEAD, frame->length - PART_HEAD, &standby->memory,
                           NULL, error);
}

static bool check_checkpoint(FutEngine *engine, const FutFrame *frame, GError **error)
{
    FutStandby *standby = &engine->standby;
    FutCheckpoint head;
    if (!fut_checkpoint_decode(frame->body, frame->length, &head, error)) {
        return false;
    }
    const uint8_t *stream = frame->body + FUT_CHECKPOINT_SIZE;
    size_t length = frame->length - FUT_CHECKPOINT_SIZE - head.outputs_length;
    if (head.state_length == 0 || head.state_length > FUT_WIRE_STATE_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "checkpoint with a device state of %u bytes",
                    head.state_length);
        return false;
    }
    if (head.stream_length < length) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "checkpoint longer than it says");
        return false;
    }
    if (!fut_delta_check(stream, length, &standby->memory, NULL, error) ||
        !fut_resend_check(stream + length, head.outputs_length, error)) {
        return false;
    }
    standby->next = head;
    standby->last = stream;
    standby->last_length = length;
    return true;
}

bool fut_standby_check(FutEngine *engine, const FutFrame *frame, GError **error)
{
    FutInbound inbound;
    switch (frame->type) {
    case FUT_MSG_PAGES:
        return fut_delta_check(frame->body, frame->length, &engine->standby.guest, NULL, error);
    case FUT_MSG_EPOCH_PART:
        return check_part(engine, frame, error);
    case FUT_MSG_CHECKPOINT:
        return check_checkpoint(engine, frame, error);
    case FUT_MSG_DISK:
        return fut_disks_check(engine, frame, error);
    case FUT_MSG_PROBES:
        return fut_probes_check(frame, error);
    case FUT_MSG_FLOWS:
        return fut_flows_check(frame, error);
    case FUT_MSG_INBOUND:
        return fut_inbound_decode(frame->body, frame->length, &inbound, error);
    default:
        return true;
    }
}

bool fut_standby_make_room(FutEngine *engine, const FutFrame *frame, GError **error)
{
    FutBuf *parts = &engine->standby.parts;

    if (frame->type != FUT_MSG_EPOCH_PART ||
        fut_buf_try_reserve(parts, KEPT_HEAD + frame->length)) {
        return true;
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                "the backup is out of memory: it has no room for an epoch of more than %zu MB",
                parts->len >> 20);
    return false;
}

/* -- frames, after it -- */

static void keep_pages(FutEngine *engine, const FutFrame *frame)
{
    struct iovec stream = { (void *)frame->body, frame->length };

    fut_series_image_enter(engine, &stream, 1);
    fut_delta_apply(frame->body, frame->length, &engine->standby.guest, &engine->standby.resident);
    fut_series_image_leave(engine);
}

static void keep_part(FutStandby *standby, const FutFrame *frame)
{
    uint8_t head[KEPT_HEAD];
    size_t length = frame->length - PART_HEAD;
    fut_put_le64(head, length);
    fut_buf_append(&standby->parts, head, sizeof(head));
    fut_buf_append(&standby->parts, frame->body + PART_HEAD, length);
}

static void keep_inbound(FutEngine *engine, const FutFrame *frame)
{
    FutInbound inbound;
    g_assert(fut_inbound_decode(frame->body, frame->length, &inbound, NULL));
    struct iovec iov = { (void *)(frame->body + FUT_INBOUND_SIZE),
                         frame->length - FUT_INBOUND_SIZE };
    FutPacket *packet = fut_packet_new(inbound.epoch, inbound.nic, inbound.flags, &iov, 1);
    FutPacketList *log = &engine->standby.log;
    fut_flows_learn(engine, inbound.nic, false, packet->data, packet->length);
    g_mutex_lock(&engine->lock);
    while (log->first && log->bytes + packet->length > log->max_bytes) {
        FutPacket *oldest = log->first;
        log->first = oldest->next;
        log->last = log->first ? log->last : NULL;
        log->count--;
        log->bytes -= oldest->length;
        g_free(oldest);
    }
    bool kept = fut_packets_append(log, packet);
    g_mutex_unlock(&engine->lock);
    if (!kept) {
        g_free(packet);
    }
}

void fut_standby_keep(FutEngine *engine, const FutFrame *frame)
{
    switch (frame->type) {
    case FUT_MSG_PAGES:
        keep_pages(engine, frame);
        break;
    case FUT_MSG_EPOCH_PART:
        keep_part(&engine->standby, frame);
        break;
    case FUT_MSG_INBOUND:
        keep_inbound(engine, frame);
        break;
    case FUT_MSG_PROBES:
        fut_probes_keep(engine, frame);
        break;
    case FUT_MSG_FLOWS:
        fut_flows_keep(engine, frame);
        break;
    case FUT_MSG_DISK:
        fut_disks_keep(engine, frame);
        break;
    case FUT_MSG_DISK_BASE:
        fut_disks_keep_base(engine, frame);
        break;
    default:
        break;
    }
}

/* -- commit -- */

/* Applying a large epoch takes a while: the primary must not take that for death. */
void fut_standby_sign_of_life(FutEngine *engine, uint64_t *last_ns)
{
    uint64_t now_ns = fut_engine_now(engine);
    if (now_ns - *last_ns < engine->config.heartbeat_ms * FUT_NS_PER_MS) {
        return;
    }
    *last_ns = now_ns;
    engine->host->send(engine->opaque, FUT_MSG_HEARTBEAT, 0, NULL, 0);
    g_mutex_lock(&engine->lock);
    fut_pair_sent(engine->pair, now_ns);
    g_mutex_unlock(&engine->lock);
}

static void compare_hash(FutEngine *engine)
{
    uint64_t hash = fut_memory_hash(&engine->standby.guest);
    g_mutex_lock(&engine->lock);
    engine->verified++;
    bool differs = hash != engine->standby.head.memory_hash;
    engine->verify_failed += differs;
    g_mutex_unlock(&engine->lock);
    if (differs) {
        engine->host->report(
            engine->opaque, "FUT-190",
            "memory differs from the primary's after a checkpoint: do not rely on this twin; please report this as a bug");
    }
}

/* All streams of the epoch; struct iovec. */
static GArray *streams_of(const FutStandby *standby)
{
    GArray *streams = g_array_new(FALSE, FALSE, sizeof(struct iovec));
    uint64_t length;

    for (size_t at = 0; at < standby->parts.len; at += KEPT_HEAD + length) {
        length = fut_get_le64(standby->parts.data + at);
        struct iovec part = { standby->parts.data + at + KEPT_HEAD, length };
        g_array_append_val(streams, part);
    }
    struct iovec last = { (void *)standby->last, standby->last_length };
    g_array_append_val(streams, last);
    return streams;
}

static void apply_streams(FutEngine *engine, const GArray *streams)
{
    uint64_t last_ns = fut_engine_now(engine);

    for (guint i = 0; i < streams->len; i++) {
        const struct iovec *stream = &g_array_index(streams, struct iovec, i);
        fut_delta_apply(stream->iov_base, stream->iov_len, &engine->standby.memory, NULL);
        if (i + 1 < streams->len) {
            fut_standby_sign_of_life(engine, &last_ns);
        }
    }
}

/* Of the epoch that is now the committed one. */
static void keep_outputs(FutEngine *engine, const uint8_t *records)
{
    FutStandby *standby = &engine->standby;
    const FutCheckpoint *head = &standby->head;
    bool last_only = engine->fault == FUT_FAULT_KEEP_LAST;

    fut_kept_drop(&standby->kept, last_only ? head->epoch : head->released);
    fut_kept_add(&standby->kept, head->epoch, records, head->outputs_length);
    fut_flows_learn_outputs(engine, records, head->outputs_length);
}

void fut_standby_apply(FutEngine *engine, uint64_t epoch)
{
    FutStandby *standby = &engine->standby;
    g_autoptr(GArray) streams = streams_of(standby);
    g_assert(standby->next.epoch == epoch);
    fut_series_image_enter(engine, (const struct iovec *)streams->data, streams->len);
    standby->head = standby->next;
    apply_streams(engine, streams);
    keep_outputs(engine, standby->last + standby->last_length);
    standby->last = NULL;
    fut_disks_commit(engine, epoch);
    fut_series_image_leave(engine);
    fut_buf_clear(&standby->parts);
    fut_buf_trim(&standby->parts, FUT_WIRE_PART_MAX);

    g_mutex_lock(&engine->lock);
    engine->applied++;
    FutPacket *seen = fut_packets_take(&standby->log, epoch);
    g_mutex_unlock(&engine->lock);
    fut_packets_free(seen);
    if (standby->head.flags & FUT_CHECKPOINT_HASHED) {
        compare_hash(engine);
    }
}

void fut_standby_discard(FutEngine *engine)
{
    FutStandby *standby = &engine->standby;
    fut_disks_discard(engine);
    fut_probes_discard(engine);
    fut_buf_clear(&standby->parts);
    fut_kept_clear(&standby->kept);
    standby->last = NULL;
    fut_series_image_enter(engine, NULL, 0);
    standby->head = (FutCheckpoint){ 0 };
    /* the next session's deltas start from an all-zero device state image */
    madvise(state_image(standby), FUT_WIRE_STATE_MAX, MADV_DONTNEED);
    fut_series_image_leave(engine);
    g_mutex_lock(&engine->lock);
    fut_packets_clear(&standby->log);
    g_mutex_unlock(&engine->lock);
}

/* -- takeover -- */

/* The primary may have died with outputs of committed epochs in its hands. */
static void resend(FutEngine *engine)
{
    FutKept *kept = &engine->standby.kept;
    FutPacket *packets = fut_resend_packets(kept->records.data, kept->records.len);
    uint64_t count = 0;

    if (packets) {
        engine->vmm->ops->packets_out(engine->vmm, packets);
    }
    for (const FutPacket *p = packets; p; p = p->next) {
        count++;
    }
    fut_packets_free(packets);
    fut_kept_clear(kept);
    g_mutex_lock(&engine->lock);
    engine->resent = count;
    g_mutex_unlock(&engine->lock);
}

static void reinject(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    FutPacket *packets = fut_packets_take(&engine->standby.log, UINT64_MAX);
    g_mutex_unlock(&engine->lock);
    uint64_t count = 0;
    for (FutPacket *p = packets; p; p = p->next) {
        engine->vmm->ops->packet_in(engine->vmm, p);
        count++;
    }
    fut_packets_free(packets);
    g_mutex_lock(&engine->lock);
    engine->reinjected = count;
    g_mutex_unlock(&engine->lock);
}

static void note_taken_image(FutEngine *engine)
{
    if (engine->config.verify_every == 0) {
        return;
    }
    uint64_t hash = fut_memory_hash(&engine->standby.guest);
    const FutCheckpoint *head = &engine->standby.head;
    g_mutex_lock(&engine->lock);
    engine->taken_hash = hash;
    engine->taken_committed_hash = head->flags & FUT_CHECKPOINT_HASHED ? head->memory_hash : 0;
    g_mutex_unlock(&engine->lock);
}

void fut_standby_take_over(FutEngine *engine)
{
    FutVmm *vmm = engine->vmm;
    FutStandby *standby = &engine->standby;
    g_autoptr(GError) error = NULL;
    FutTakeover times = { .granted_ns = fut_engine_now(engine) };
    fut_series_image_over(engine,
                          "the VM was taken over here, and its guest runs in that image now");
    note_taken_image(engine);
    bool handed = standby->head.flags & FUT_CHECKPOINT_FINAL;
    bool ok = fut_disks_settle(engine, &error) && fut_shared_take(engine, handed, &error) &&
              vmm->ops->state_load(vmm, state_image(standby), standby->head.state_length, &error);
    times.loaded_ns = fut_engine_now(engine);
    ok = ok && vmm->ops->run(vmm, &error);
    times.running_ns = fut_engine_now(engine);
    if (ok) {
        vmm->ops->announce(vmm);
        resend(engine);
        reinject(engine);
    } else {
        fut_shared_give_back(engine);
    }
    g_mutex_lock(&engine->lock);
    times.lost_ns = engine->takeover.lost_ns;
    times.done_ns = fut_engine_now(engine);
    engine->takeover = times;
    fut_pair_taken(engine->pair, ok, ok ? "" : error->message, times.running_ns);
    g_mutex_unlock(&engine->lock);
}
