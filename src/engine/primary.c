/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary's half of the engine: initial copy, checkpoints, held outputs. */
#include <sys/uio.h>

#include "engine_internal.h"
#include "fut_clock.h"
#include "fut_error.h"

/* A guest that keeps writing does not hold protection up for ever: its writes go into the first, larger, checkpoint. */
#define COPY_PASSES_MAX 20
/* With more than this under way there is no further checkpoint. */
#define UNDER_WAY_MAX (2u << 20)

/* -- initial copy -- */

static uint64_t memory_pages(const FutMemory *memory)
{
    uint64_t pages = 0;
    for (unsigned i = 0; i < memory->count; i++) {
        pages += memory->block[i].length >> FUT_PAGE_SHIFT;
    }
    return pages;
}

void fut_primary_broken(FutEngine *engine, GError *take_error)
{
    g_mutex_lock(&engine->lock);
    if (!engine->broken) {
        engine->broken = g_strdup(take_error->message);
    }
    g_mutex_unlock(&engine->lock);
    g_error_free(take_error);
    engine->host->wake(engine->opaque);
}

void fut_primary_start_copy(FutEngine *engine)
{
    GError *error = NULL;
    fut_probes_open(engine);
    if (!fut_capture_open(&engine->capture, &error) ||
        !engine->vmm->ops->dirty_start(engine->vmm, FUT_FOR_PAIR, &error)) {
        fut_capture_close(&engine->capture);
        fut_primary_broken(engine, error);
        return;
    }
    fut_series_pair_follows(engine, true);
    const FutMemory *guest = engine->vmm->ops->memory(engine->vmm);
    g_mutex_lock(&engine->lock);
    FutCopy *copy = &engine->copy;
    copy->active = true;
    copy->collect_wanted = copy->collected = false;
    copy->pass = 0;
    copy->total_pages = memory_pages(guest);
    copy->done_pages = 0;
    copy->block = 0;
    copy->page = 0;
    fut_pageset_clear(&copy->set);
    fut_pageset_clear(&copy->next);
    g_mutex_unlock(&engine->lock);
    fut_disks_start(engine);
    engine->host->copy(engine->opaque, true);
}

void fut_primary_stop_copy(FutEngine *engine)
{
    fut_probes_close(engine);
    g_mutex_lock(&engine->lock);
    engine->copy.active = false;
    g_mutex_unlock(&engine->lock);
    engine->host->copy(engine->opaque, false);

    g_mutex_lock(&engine->lock);
    while (engine->cutting || engine->aside == FUT_ASIDE_SENDING) {
        fut_engine_wait(engine);
    }
    engine->aside = FUT_ASIDE_NONE; /* its link is gone */
    g_mutex_unlock(&engine->lock);
    fut_disks_stop(engine);
    if (engine->capture.shadow.count > 0) {
        fut_series_pair_follows(engine, false);
        engine->vmm->ops->dirty_stop(engine->vmm, FUT_FOR_PAIR);
        fut_capture_close(&engine->capture);
    }
}

/* Next keys of pass 0, by the cursor. */
static size_t cursor_keys(FutCopy *copy, const FutMemory *guest, uint64_t *keys)
{
    size_t count = 0;
    while (count < FUT_CAPTURE_PAGES_MAX && copy->block < guest->count) {
        if (copy->page == guest->block[copy->block].length >> FUT_PAGE_SHIFT) {
            copy->block++;
            copy->page = 0;
            continue;
        }
        keys[count++] = fut_key(copy->block, copy->page++);
    }
    return count;
}

static size_t copy_keys(FutEngine *engine, uint64_t *keys)
{
    FutCopy *copy = &engine->copy;
    if (copy->pass == 0) {
        return cursor_keys(copy, engine->vmm->ops->memory(engine->vmm), keys);
    }
    size_t left = copy->set.count - copy->done_pages;
    size_t count = MIN(left, FUT_CAPTURE_PAGES_MAX);
    if (count > 0) {
        memcpy(keys, copy->set.keys + copy->done_pages, count * sizeof(*keys));
    }
    return count;
}

static bool send_pages(FutEngine *engine, const uint64_t *keys, size_t count, uint64_t now_ns)
{
    fut_capture_pages(&engine->capture, keys, count);
    struct iovec iov = { engine->capture.stream.data, engine->capture.stream.len };
    bool sent = engine->host->send(engine->opaque, FUT_MSG_PAGES, 0, &iov, 1);
    g_mutex_lock(&engine->lock);
    engine->copy.done_pages += count;
    fut_pair_sent(engine->pair, now_ns);
    g_mutex_unlock(&engine->lock);
    return sent;
}

/* A pass is through. Returns true when copying is over; otherwise the next pass begins once a cut has collected its pages.
 * The copy thread carries out no actions: one of them waits for the copy thread. */
static bool finish_pass(FutEngine *engine, uint64_t now_ns)
{
    FutCopy *copy = &engine->copy;
    bool over = false, request = false;
    g_mutex_lock(&engine->lock);
    if (copy->active && copy->collected) {
        copy->collected = false;
        copy->pass++;
        over = copy->next.count <= engine->config.rest_pages_max || copy->pass >= COPY_PASSES_MAX;
        FutPageSet spare = over ? engine->capture.dirty : copy->set;
        if (over) {
            engine->capture.dirty = copy->next;
            copy->active = false;
            fut_pair_copied(engine->pair, now_ns);
            engine->act_wanted = true;
        } else {
            copy->set = copy->next;
            copy->total_pages = copy->set.count;
            copy->done_pages = 0;
        }
        copy->next = spare;
        fut_pageset_clear(&copy->next);
    } else if (copy->active && !copy->collect_wanted) {
        copy->collect_wanted = request = true;
    }
    g_mutex_unlock(&engine->lock);
    if (request) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
    if (over) {
        engine->host->wake(engine->opaque);
    }
    return over;
}

size_t fut_engine_copy_step(FutEngine *engine, uint64_t now_ns)
{
    uint64_t keys[FUT_CAPTURE_PAGES_MAX];
    fut_primary_send_aside(engine);
    g_mutex_lock(&engine->lock);
    bool active = engine->copy.active;
    g_mutex_unlock(&engine->lock);
    if (!active) {
        return 0;
    }
    bool disks_done;
    size_t sent = fut_disks_copy_step(engine, &disks_done);
    if (!disks_done) {
        return sent;
    }
    if (engine->copy.pass == 0 && engine->copy.done_pages == 0 && engine->vmm->ops->state_prepare) {
        engine->vmm->ops->state_prepare(engine->vmm);
    }
    size_t count = copy_keys(engine, keys);
    if (count == 0) {
        if (finish_pass(engine, now_ns)) {
            return 0;
        }
        count = engine->copy.pass > 0 ? copy_keys(engine, keys) : 0;
        if (count == 0) {
            return 0;
        }
    }
    return send_pages(engine, keys, count, now_ns) ? engine->capture.stream.len : 0;
}

/* Guest stopped: gives the copy its next pass. */
static void collect_for_copy(FutEngine *engine)
{
    fut_series_collect_for_pair(engine, &engine->copy.next);
    g_mutex_lock(&engine->lock);
    engine->copy.collect_wanted = false;
    engine->copy.collected = true;
    engine->cutting = false;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
    engine->host->copy(engine->opaque, true);
}

/* -- checkpoints -- */

/* May one more be under way? What is not acknowledged is also what a slow link has to carry before the next. */
static bool may_overtake(const FutEngine *engine)
{
    return engine->config.mode == FUT_MODE_PIPELINE && engine->shared.count == 0 &&
           engine->captured_bytes - engine->acked_bytes <= UNDER_WAY_MAX;
}

bool fut_primary_may_cut(const FutEngine *engine)
{
    uint64_t under_way = fut_pair_under_way(engine->pair);
    return engine->aside == FUT_ASIDE_NONE && fut_pair_may_cut(engine->pair) &&
           (under_way == 0 ||
            (may_overtake(engine) && fut_pace_may_cut(&engine->pace, under_way))) &&
           fut_shared_may_cut(engine);
}

uint64_t fut_primary_deadline(const FutEngine *engine)
{
    return fut_pace_deadline(&engine->pace, fut_pair_under_way(engine->pair));
}

bool fut_primary_want_cut(FutEngine *engine, bool idle, uint64_t now_ns)
{
    if (engine->cut_pending || !fut_primary_may_cut(engine)) {
        return false;
    }
    if (!engine->final_wanted &&
        !fut_pace_due(&engine->pace, fut_pair_under_way(engine->pair), idle, now_ns)) {
        return false;
    }
    engine->cut_pending = true;
    return true;
}

/* Engine lock held. No checkpoint comes of this cut after all. */
static void forget_cut(FutEngine *engine)
{
    engine->cutting = false;
    fut_engine_changed(engine);
}

/* Guest stopped: the epoch's outputs go along, as many as there is room for. */
static void add_outputs(FutEngine *engine, uint64_t epoch)
{
    g_mutex_lock(&engine->lock);
    const FutPacket *packet = engine->held.first;
    while (packet && (packet->epoch < epoch || fut_capture_output(&engine->capture, packet))) {
        packet = packet->next;
    }
    engine->capture.head.released =
        engine->fault == FUT_FAULT_SAY_EARLY ? epoch - 1 : engine->let_go;
    engine->captured_bytes += engine->capture.stream.len;
    engine->flights[epoch % FUT_FLIGHTS_MAX].bytes = engine->captured_bytes;
    g_mutex_unlock(&engine->lock);
}

static void part_over(FutEngine *engine, FutPausePart part)
{
    engine->cut_part_ns[part] = fut_engine_now(engine);
}

/* Engine lock held. */
static void count_parts(FutEngine *engine)
{
    uint64_t from_ns = engine->cut_begin_ns;
    for (unsigned i = 0; i < FUT_PAUSE_PARTS; i++) {
        fut_histogram_add(&engine->stats.part_ns[i], engine->cut_part_ns[i] - from_ns);
        from_ns = engine->cut_part_ns[i];
    }
}

/* The epoch ends here: what the guest emits from now on belongs to the next. */
static FutCutVerdict capture_checkpoint(FutEngine *engine, uint64_t begin_ns)
{
    uint32_t flags = 0;
    g_mutex_lock(&engine->lock);
    if (!fut_pair_may_cut(engine->pair)) { /* the backup was lost while the state was saved */
        forget_cut(engine);
        g_mutex_unlock(&engine->lock);
        return FUT_CUT_RESUME;
    }
    uint64_t epoch = fut_pair_cut(engine->pair, &flags, begin_ns);
    engine->inputs.covered = engine->inputs.log.end;
    fut_pace_cut(&engine->pace, begin_ns);
    engine->flights[epoch % FUT_FLIGHTS_MAX] =
        (FutFlight){ .epoch = epoch, .begin_ns = begin_ns, .disk_bytes = engine->disks.sent_bytes };
    engine->cut_begin_ns = begin_ns;
    engine->cut_epoch = epoch;
    bool final = flags & FUT_CHECKPOINT_FINAL;
    if (final) {
        engine->final_wanted = false;
    }
    FutCutVerdict verdict =
        final || engine->config.mode == FUT_MODE_STOP ? FUT_CUT_STAY : FUT_CUT_RESUME;
    engine->staying = verdict == FUT_CUT_STAY;
    engine->staying_final = final;
    g_mutex_unlock(&engine->lock);

    if (engine->disks.count > 0 && !final) {
        fut_disks_cut(engine, epoch, begin_ns);
    }
    part_over(engine, FUT_PAUSE_SAVE);
    fut_series_collect_for_pair(engine, &engine->capture.dirty);
    part_over(engine, FUT_PAUSE_COLLECT);
    uint32_t every = engine->config.verify_every;
    if (every > 0 && (epoch % every == 0 || final)) {
        flags |= FUT_CHECKPOINT_HASHED;
    }
    fut_capture_epoch(&engine->capture, epoch, flags);
    add_outputs(engine, epoch);
    fut_capture_finish(&engine->capture);
    part_over(engine, FUT_PAUSE_COPY);
    return verdict;
}

FutCutVerdict fut_engine_cut(FutEngine *engine, uint64_t stop_begin_ns)
{
    fut_series_cut(engine, stop_begin_ns);
    g_mutex_lock(&engine->lock);
    engine->cut_pending = false;
    bool collect = engine->copy.active && engine->copy.collect_wanted;
    bool checkpoint = !collect && engine->capture.shadow.count > 0 && fut_primary_may_cut(engine);
    engine->cutting = collect || checkpoint;
    g_mutex_unlock(&engine->lock);

    if (collect) {
        collect_for_copy(engine);
        return FUT_CUT_RESUME;
    }
    if (!checkpoint) {
        return FUT_CUT_RESUME;
    }
    part_over(engine, FUT_PAUSE_STOP);
    GError *error = NULL;
    if (!fut_capture_state(&engine->capture, engine->vmm, &error)) {
        fut_primary_broken(engine, error);
        g_mutex_lock(&engine->lock);
        forget_cut(engine);
        g_mutex_unlock(&engine->lock);
        return FUT_CUT_RESUME;
    }
    return capture_checkpoint(engine, stop_begin_ns);
}

/* What was captured goes to the link. The cut's thread, or the copy thread for it. */
static void send_epoch(FutEngine *engine)
{
    uint64_t bytes = 0, begin_ns = fut_engine_now(engine);
    for (guint i = 0; i < engine->capture.parts->len; i++) {
        const FutCapturePart *part = &g_array_index(engine->capture.parts, FutCapturePart, i);
        struct iovec iov = { engine->capture.stream.data + part->offset, part->length };
        bytes += part->length + FUT_FRAME_HEADER_SIZE;
        if (!engine->host->send(engine->opaque, part->type, 0, &iov, 1)) {
            break;
        }
    }
    g_mutex_lock(&engine->lock);
    fut_pair_sent(engine->pair, begin_ns);
    engine->stats.bytes += bytes;
    g_mutex_unlock(&engine->lock);
}

void fut_primary_send_aside(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool waits = engine->aside == FUT_ASIDE_WAITING;
    if (waits) {
        engine->aside = FUT_ASIDE_SENDING;
    }
    g_mutex_unlock(&engine->lock);
    if (!waits) {
        return;
    }
    send_epoch(engine);
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    engine->aside = FUT_ASIDE_NONE;
    fut_engine_changed(engine);
    /* the acknowledgement may have been quicker, and nobody cut for what came since */
    bool want = fut_primary_want_cut(engine, false, now_ns);
    bool later = !want && fut_primary_may_cut(engine);
    g_mutex_unlock(&engine->lock);
    if (want) {
        engine->vmm->ops->cut_request(engine->vmm);
    } else if (later) {
        engine->host->wake(engine->opaque); /* it has a deadline now */
    }
}

void fut_engine_cut_done(FutEngine *engine)
{
    fut_series_cut_done(engine);
    if (!engine->cutting) {
        return; /* only this thread sets it, in fut_engine_cut() */
    }
    part_over(engine, FUT_PAUSE_GO_ON);
    uint64_t let_go_ns = engine->cut_part_ns[FUT_PAUSE_GO_ON];
    bool aside = engine->capture.stream.len >= engine->config.aside_min_bytes;
    if (aside) {
        fut_inputs_send(engine); /* this one takes its time to arrive */
    } else {
        send_epoch(engine);
    }
    part_over(engine, FUT_PAUSE_SEND);
    g_mutex_lock(&engine->lock);
    FutEngineStats *stats = &engine->stats;
    fut_histogram_add(&stats->pause_ns, let_go_ns - engine->cut_begin_ns);
    count_parts(engine);
    stats->checkpoints++;
    stats->pages += engine->capture.stats.pages - engine->capture.stats.unchanged;
    fut_input_log_drop(&engine->inputs.log, engine->inputs.covered);
    engine->cutting = false;
    engine->aside = aside ? FUT_ASIDE_WAITING : FUT_ASIDE_NONE;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
    if (aside) {
        engine->host->copy(engine->opaque, true);
    }
}

void fut_primary_hold(FutEngine *engine)
{
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    fut_pace_start(&engine->pace, now_ns);
    engine->let_go = 0;
    engine->acked_bytes = engine->captured_bytes;
    engine->disks.acked_bytes = engine->disks.sent_bytes; /* what counts from here on is epochs */
    engine->cut_pending = engine->shared.count == 0;
    g_mutex_unlock(&engine->lock);
    fut_engine_status_reset(engine);
    fut_inputs_start(engine);
    fut_flows_share(engine);
    if (fut_shared_hold(engine)) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
}

void fut_primary_final_cut(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    engine->final_wanted = true;
    bool want = fut_primary_want_cut(engine, false, 0);
    g_mutex_unlock(&engine->lock);
    if (want) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
}

/* -- outputs -- */

/* Engine lock held: a checkpoint is to be cut for something. What the caller has to do about it without the lock. */
typedef enum {
    NOTHING,
    REQUEST, /* ask the VMM for the cut */
    WAKE     /* the link thread has a new deadline */
} CutWish;

static void look_waiting(FutEngine *engine)
{
    g_atomic_pointer_set(&engine->outputs_waiting, engine->held.count + engine->pace.outputs);
}

static CutWish note_event(FutEngine *engine, FutEventKind event, uint64_t now_ns)
{
    if (!(engine->config.events & FUT_EVENT_SET(event))) {
        return NOTHING;
    }
    engine->stats.events[event]++;
    fut_pace_output(&engine->pace, now_ns);
    if (fut_primary_want_cut(engine, false, now_ns)) {
        return REQUEST;
    }
    bool first = engine->pace.outputs == 1 && !engine->cut_pending;
    return first && fut_primary_may_cut(engine) ? WAKE : NOTHING;
}

static void fulfil(FutEngine *engine, CutWish wish)
{
    if (wish == REQUEST) {
        engine->vmm->ops->cut_request(engine->vmm);
    } else if (wish == WAKE) {
        engine->host->wake(engine->opaque);
    }
}

FutEventSet fut_engine_events(const FutEngine *engine)
{
    return engine->config.events;
}

void fut_engine_event(FutEngine *engine, FutEventKind event)
{
    uint64_t now_ns = fut_engine_now(engine);
    CutWish wish = NOTHING;
    g_mutex_lock(&engine->lock);
    uint64_t epoch = fut_pair_output_epoch(engine->pair);
    if (epoch != 0 && epoch != UINT64_MAX) {
        wish = note_event(engine, event, now_ns);
        look_waiting(engine);
    }
    g_mutex_unlock(&engine->lock);
    fulfil(engine, wish);
}

bool fut_engine_send_at_kick(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool lone = fut_pair_output_epoch(engine->pair) != 0 && !fut_pace_busy(&engine->pace);
    g_mutex_unlock(&engine->lock);
    return lone || engine->config.send_at_kick;
}

FutOutput fut_engine_output(FutEngine *engine, uint32_t nic, uint32_t flags,
                            const struct iovec *iov, int count)
{
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    uint64_t epoch = fut_pair_output_epoch(engine->pair);
    if ((epoch == 0 && !fut_shared_gates(engine)) || epoch == UINT64_MAX) {
        engine->dropped += epoch != 0;
        g_mutex_unlock(&engine->lock);
        return epoch == 0 ? FUT_OUTPUT_PASS : FUT_OUTPUT_DROP;
    }
    epoch = epoch ? epoch : UINT64_MAX; /* it goes when all have gone */
    FutPacket *packet = fut_packet_new(epoch, nic, flags, iov, count);
    CutWish wish = NOTHING;
    if (fut_packets_append(&engine->held, packet)) {
        packet = NULL;
        wish = note_event(engine, FUT_EVENT_NET_TX, now_ns);
    } else {
        engine->dropped++;
    }
    look_waiting(engine);
    g_mutex_unlock(&engine->lock);
    fulfil(engine, wish);
    if (packet) {
        g_free(packet);
        return FUT_OUTPUT_DROP;
    }
    return FUT_OUTPUT_HELD;
}

void fut_engine_idle(FutEngine *engine)
{
    if (!g_atomic_pointer_get(&engine->outputs_waiting)) {
        return;
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    bool want = fut_primary_want_cut(engine, true, now_ns);
    g_mutex_unlock(&engine->lock);
    if (want) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
}

static FutPacket *take_held(FutEngine *engine, uint64_t upto)
{
    FutPacket *packets = fut_packets_take(&engine->held, upto);
    for (FutPacket *p = packets; p; p = p->next) {
        engine->released++;
    }
    look_waiting(engine);
    return packets;
}

static void let_packets_go(FutEngine *engine, FutPacket *take_packets)
{
    if (take_packets) {
        engine->vmm->ops->packets_out(engine->vmm, take_packets);
        fut_packets_free(take_packets);
    }
}

static void resume_if_staying(FutEngine *engine)
{
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    bool resume = engine->staying;
    engine->staying = false;
    if (resume) {
        fut_pace_resume(&engine->pace, now_ns);
    }
    g_mutex_unlock(&engine->lock);
    if (resume) {
        engine->vmm->ops->cut_resume(engine->vmm);
    }
}

/* Engine lock held. Outputs up to an epoch have been let go. */
static void note_commit(FutEngine *engine, uint64_t epoch, uint64_t let_go, uint64_t now_ns)
{
    FutFlight *flight = &engine->flights[epoch % FUT_FLIGHTS_MAX];
    if (--engine->letting_go == 0) {
        engine->let_go = let_go;
    }
    if (flight->epoch == epoch) {
        engine->acked_bytes = flight->bytes;
        fut_histogram_add(&engine->stats.commit_ns, now_ns - flight->begin_ns);
        fut_pace_commit(&engine->pace, now_ns - flight->begin_ns);
    }
}

void fut_primary_release(FutEngine *engine, uint64_t upto)
{
    g_mutex_lock(&engine->lock);
    uint64_t let_go = fut_shared_commit(engine, upto);
    FutPacket *packets = take_held(engine, let_go);
    engine->letting_go++;
    bool resume = engine->staying && !engine->staying_final;
    bool handed = engine->staying && engine->staying_final;
    g_mutex_unlock(&engine->lock);
    let_packets_go(engine, packets);
    if (handed) {
        fut_shared_yield(engine);
    } else {
        fut_shared_poke(engine);
    }
    if (resume) {
        resume_if_staying(engine);
    }

    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    note_commit(engine, upto, let_go, now_ns);
    bool want = fut_primary_want_cut(engine, false, now_ns);
    g_mutex_unlock(&engine->lock);
    if (want) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
}

void fut_primary_release_all(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    FutPacket *packets = take_held(engine, fut_shared_commit_all(engine));
    engine->cut_pending = engine->final_wanted = false;
    g_mutex_unlock(&engine->lock);
    fut_shared_take_back(engine);
    fut_shared_poke(engine);
    let_packets_go(engine, packets);
    resume_if_staying(engine);
}

void fut_primary_let_go(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    if (!engine->shared.let_go) {
        g_mutex_unlock(&engine->lock);
        return;
    }
    FutPacket *packets = take_held(engine, fut_shared_let_go(engine));
    engine->letting_go++;
    g_mutex_unlock(&engine->lock);
    let_packets_go(engine, packets);
    g_mutex_lock(&engine->lock);
    engine->letting_go--;
    g_mutex_unlock(&engine->lock);
}

void fut_primary_drop_all(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    engine->dropped += engine->held.count;
    fut_packets_clear(&engine->held);
    g_atomic_pointer_set(&engine->outputs_waiting, (uint64_t)0);
    engine->staying = engine->final_wanted = false;
    g_mutex_unlock(&engine->lock);
}

void fut_primary_resume(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    engine->final_wanted = false;
    g_mutex_unlock(&engine->lock);
    resume_if_staying(engine);
}
