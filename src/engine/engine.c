/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's core: takes events to the pair machine and carries out what it decides. */
#include "engine.h"

#include <sys/uio.h>

#include "byteorder.h"
#include "engine_internal.h"
#include "fut_clock.h"
#include "fut_error.h"

/* A cut that does not come (the guest is paused by a person) is asked for again this often. */
#define ASK_AGAIN_NS (100 * FUT_NS_PER_MS)

void fut_engine_config_defaults(FutEngineConfig *config)
{
    *config = (FutEngineConfig){
        .role = FUT_ROLE_PRIMARY,
        .mode = FUT_MODE_PIPELINE,
        .epoch_max_us = 25000,
        .window = 16,
        .gap_us = 250,
        .aside_min_bytes = 32u << 10,
        .batch_max_us = 1000,
        .heartbeat_ms = 50,
        .timeout_ms = 500,
        .retry_ms = 1000,
        .commit_ms = 10000,
        .rest_pages_max = 1024,
        .state_check_every = 1000,
        .events = FUT_EVENTS_DEFAULT,
        .tracker = FUT_TRACKER_QUEUE,
        .tracker_check_every = 1000,
        .hold_max_bytes = 64u << 20,
        .log_max_bytes = 16u << 20,
        .log_wait_us = 2000,
        .disk_unacked_max_bytes = 32u << 20,
        .disk_queue_max_bytes = 64u << 20,
        .disk_batch_bytes = 4u << 20,
        .disk_chunk_shift = FUT_CHUNK_SHIFT,
        .disk_mark_bytes = 64u << 20,
        .disk_mark_ms = 5000,
        .series_chunk_shift = FUT_SERIES_CHUNK_SHIFT,
        .series_side_max_bytes = 64u << 20,
        .series_copy_max_pages = FUT_SERIES_COPY_MAX,
        .series_early_max_pages = FUT_SERIES_EARLY_MAX,
    };
}

static FutPair *new_pair(const FutEngineConfig *config, char *const *machine, uint64_t now_ns)
{
    FutPairConfig pair = {
        .role = config->role,
        .vm = config->vm,
        .node = config->node,
        .machine = machine,
        .generation = config->generation,
        .heartbeat_ms = config->heartbeat_ms,
        .timeout_ms = config->timeout_ms,
        .retry_ms = config->retry_ms,
        .commit_ms = config->commit_ms,
        .window = config->window,
        .moving = config->moving,
    };
    return fut_pair_new(&pair, now_ns);
}

FutEngine *fut_engine_new(FutVmm *vmm, const FutEngineConfig *config, char *const *machine,
                          const FutEngineHost *host, void *opaque)
{
    FutEngine *engine = g_new0(FutEngine, 1);
    engine->vmm = vmm;
    engine->config = *config;
    engine->host = host;
    engine->opaque = opaque;
    g_mutex_init(&engine->lock);
    g_cond_init(&engine->changed);
    engine->pair = new_pair(config, machine, fut_engine_now(engine));
    engine->held.max_bytes = config->hold_max_bytes;
    engine->pace.epoch_max_ns = config->epoch_max_us * FUT_NS_PER_US;
    engine->pace.batch_max_ns = config->batch_max_us * FUT_NS_PER_US;
    engine->pace.gap_ns = config->gap_us * FUT_NS_PER_US;
    fut_capture_init(&engine->capture, vmm->ops->memory(vmm), config->part_pages_max);
    if (config->role == FUT_ROLE_BACKUP && !fut_standby_open(engine, NULL)) {
        g_error("futago: no address space for a standby");
    }
    fut_probes_init(engine);
    fut_disks_open(engine);
    fut_shared_open(engine);
    fut_series_init(engine);
    fut_flows_init(&engine->flows);
    fut_input_log_init(&engine->inputs.log);
    vmm->engine = engine;
    return engine;
}

void fut_engine_granted(FutEngine *engine, uint64_t generation)
{
    g_assert(engine->config.waiting);
    fut_disks_note_open(engine);
    g_mutex_lock(&engine->lock);
    engine->config.waiting = false;
    fut_pair_begin(engine->pair, generation);
    g_mutex_unlock(&engine->lock);
}

void fut_engine_free(FutEngine *engine)
{
    if (!engine) {
        return;
    }
    fut_packets_clear(&engine->held);
    fut_probes_done(engine);
    fut_disks_close(engine);
    fut_disk_queue_clear(&engine->shared.writes);
    fut_standby_close(engine);
    fut_series_done(engine);
    fut_flows_done(&engine->flows);
    fut_input_log_done(&engine->inputs.log);
    fut_capture_done(&engine->capture);
    fut_pageset_done(&engine->copy.set);
    fut_pageset_done(&engine->copy.next);
    fut_buf_done(&engine->act_body);
    fut_pair_free(engine->pair);
    g_free(engine->broken);
    g_mutex_clear(&engine->lock);
    g_cond_clear(&engine->changed);
    g_free(engine);
}

/* -- waiting for each other -- */

/* A broadcast is a system call, waited for or not, and this is on the way of each checkpoint. */
void fut_engine_changed(FutEngine *engine)
{
    if (engine->waiting > 0) {
        g_cond_broadcast(&engine->changed);
    }
}

void fut_engine_wait(FutEngine *engine)
{
    engine->waiting++;
    g_cond_wait(&engine->changed, &engine->lock);
    engine->waiting--;
}

bool fut_engine_host_wait(FutEngine *engine)
{
    engine->waiting++;
    bool on = engine->host->wait(engine->opaque, &engine->changed, &engine->lock);
    engine->waiting--;
    return on;
}

/* -- carrying out actions -- */

static void act_send(FutEngine *engine, const FutAction *action)
{
    struct iovec iov = { engine->act_body.data, engine->act_body.len };
    engine->host->send(engine->opaque, action->type, action->flags, &iov, iov.iov_len > 0);
}

static void act_primary(FutEngine *engine, const FutAction *action)
{
    switch (action->kind) {
    case FUT_ACT_START_COPY:
        fut_primary_start_copy(engine);
        break;
    case FUT_ACT_STOP_COPY:
        fut_primary_stop_copy(engine);
        break;
    case FUT_ACT_HOLD:
        fut_primary_hold(engine);
        break;
    case FUT_ACT_RELEASE:
        fut_primary_release(engine, action->number);
        break;
    case FUT_ACT_RELEASE_ALL:
        fut_primary_release_all(engine);
        break;
    case FUT_ACT_DROP_ALL:
        fut_primary_drop_all(engine);
        break;
    case FUT_ACT_CUT:
        fut_primary_final_cut(engine);
        break;
    case FUT_ACT_HALT:
        engine->vmm->ops->halt(engine->vmm);
        fut_shared_fence(engine);
        break;
    case FUT_ACT_RESUME:
        fut_primary_resume(engine);
        break;
    default:
        g_assert_not_reached();
    }
}

static void act(FutEngine *engine, const FutAction *action)
{
    switch (action->kind) {
    case FUT_ACT_SEND:
        act_send(engine, action);
        break;
    case FUT_ACT_SESSION:
        engine->host->session(engine->opaque, (uint32_t)action->number);
        break;
    case FUT_ACT_CONNECT:
        engine->host->connect(engine->opaque);
        break;
    case FUT_ACT_CLOSE:
        engine->host->close(engine->opaque, action->text);
        break;
    case FUT_ACT_ASK:
        engine->takeover.lost_ns = fut_engine_now(engine);
        engine->host->ask(engine->opaque, action->number);
        break;
    case FUT_ACT_REPORT:
        engine->host->report(engine->opaque, action->id, action->text);
        break;
    case FUT_ACT_APPLY:
        fut_standby_apply(engine, action->number);
        break;
    case FUT_ACT_BARRIER_IN:
        break;
    case FUT_ACT_DISCARD:
        fut_standby_discard(engine);
        break;
    case FUT_ACT_TAKE_OVER:
        fut_standby_take_over(engine);
        break;
    default:
        act_primary(engine, action);
        break;
    }
}

/* With the lock held: next action, its borrowed parts copied so that the lock may be dropped. */
static bool next_action(FutEngine *engine, FutAction *ret, char **ret_text)
{
    if (!fut_pair_next_action(engine->pair, ret)) {
        return false;
    }
    fut_buf_clear(&engine->act_body);
    fut_buf_append(&engine->act_body, ret->body, ret->length);
    *ret_text = g_strdup(ret->text);
    ret->text = *ret_text;
    return true;
}

void fut_engine_act(FutEngine *engine)
{
    FutAction action;
    char *text = NULL;
    g_mutex_lock(&engine->lock);
    if (engine->actor == g_thread_self()) {
        g_mutex_unlock(&engine->lock); /* called from within an action: the loop below us goes on */
        return;
    }
    while (engine->actor) {
        fut_engine_wait(engine);
    }
    engine->actor = g_thread_self();
    while (next_action(engine, &action, &text)) {
        g_mutex_unlock(&engine->lock);
        act(engine, &action);
        g_free(text);
        g_mutex_lock(&engine->lock);
    }
    engine->actor = NULL;
    fut_engine_changed(engine);
    g_mutex_unlock(&engine->lock);
}

bool fut_engine_act_wait(FutEngine *engine)
{
    g_assert(engine->actor == g_thread_self());
    engine->actor = NULL;
    fut_engine_changed(engine);
    bool on = fut_engine_host_wait(engine);
    while (engine->actor) {
        fut_engine_wait(engine);
    }
    engine->actor = g_thread_self();
    return on;
}

/* -- events -- */

void fut_engine_link_up(FutEngine *engine, uint64_t nonce, uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    engine->nonce = nonce;
    fut_pair_link_up(engine->pair, nonce, now_ns);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
}

void fut_engine_link_down(FutEngine *engine, const char *why, uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    fut_pair_link_down(engine->pair, why, now_ns);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
}

void fut_engine_bad_peer(FutEngine *engine, const char *why, uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    fut_pair_bad_peer(engine->pair, why, now_ns);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
}

static bool standby_frame(FutEngine *engine, const FutFrame *frame, uint64_t now_ns)
{
    g_autoptr(GError) error = NULL;
    if (!fut_standby_check(engine, frame, &error)) {
        fut_engine_bad_peer(engine, error->message, now_ns);
        return false;
    }
    if (!fut_standby_make_room(engine, frame, &error)) {
        g_mutex_lock(&engine->lock);
        fut_pair_image_bad(engine->pair, error->message, now_ns);
        g_mutex_unlock(&engine->lock);
        fut_engine_act(engine);
        return false;
    }
    return true;
}

void fut_engine_frame(FutEngine *engine, const FutFrame *frame, uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    FutPairStatus before, after;
    fut_pair_status(engine->pair, &before);
    g_mutex_unlock(&engine->lock);
    bool backup = before.role == FUT_ROLE_BACKUP;
    if (backup && !standby_frame(engine, frame, now_ns)) {
        return;
    }
    g_mutex_lock(&engine->lock);
    if (backup && frame->type == FUT_MSG_CHECKPOINT) {
        fut_disks_before_commit(engine, fut_get_le64(frame->body)); /* it was checked */
    }
    fut_pair_frame(engine->pair, frame, now_ns);
    fut_pair_status(engine->pair, &after);
    if (!backup && frame->type == FUT_MSG_ACK) {
        /* before the actions: one of them may wait for a thread that waits for this */
        fut_disks_confirm(engine, after.committed);
    }
    g_mutex_unlock(&engine->lock);
    if (backup && after.linked) {
        fut_standby_keep(engine, frame);
    }
    if (!backup && after.linked && frame->type == FUT_MSG_DISK_KEPT) {
        fut_disks_kept(engine, frame);
    }
    if (!backup && after.linked && frame->type == FUT_MSG_DISK_SAFE) {
        fut_disks_safe(engine, frame);
    }
    fut_engine_act(engine);
    if (backup) {
        fut_engine_alive(
            engine, fut_engine_now(
                        engine)); /* what took time was us, applying: not the primary's silence */
    }
}

void fut_engine_alive(FutEngine *engine, uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    fut_pair_alive(engine->pair, now_ns);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
}

void fut_engine_answer(FutEngine *engine, FutAnswer answer, uint64_t generation, const char *text,
                       uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    fut_pair_answer(engine->pair, answer, generation, text, now_ns);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
    engine->host->wake(engine->opaque); /* when to ask again, for instance */
}

/* -- time -- */

/* With the lock held: a cut is due, or was asked for and did not come. */
static bool cut_overdue(FutEngine *engine, uint64_t now_ns)
{
    if (fut_primary_want_cut(engine, false, now_ns)) {
        engine->asked_ns = now_ns;
        return true;
    }
    bool waiting = engine->cut_pending || (engine->copy.active && engine->copy.collect_wanted);
    if (waiting && now_ns - engine->asked_ns >= ASK_AGAIN_NS) {
        engine->asked_ns = now_ns;
        return true;
    }
    return false;
}

static void end_broken(FutEngine *engine, char *take_why, uint64_t now_ns)
{
    g_autofree char *why = take_why;
    g_autofree char *text = g_strdup_printf("protection ends: %s", why);
    engine->host->report(engine->opaque, "FUT-191", text);
    g_mutex_lock(&engine->lock);
    fut_pair_unprotect(engine->pair, now_ns, NULL);
    g_mutex_unlock(&engine->lock);
}

void fut_engine_tick(FutEngine *engine, uint64_t now_ns)
{
    g_mutex_lock(&engine->lock);
    fut_pair_tick(engine->pair, now_ns);
    fut_stats_tick(&engine->stats, now_ns);
    bool want = cut_overdue(engine, now_ns);
    char *broken = g_steal_pointer(&engine->broken);
    engine->act_wanted = false;
    g_mutex_unlock(&engine->lock);
    if (broken) {
        end_broken(engine, broken, now_ns);
    }
    if (want) {
        engine->vmm->ops->cut_request(engine->vmm);
    }
    fut_primary_let_go(engine);
    fut_engine_act(engine);
}

uint64_t fut_engine_deadline(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    uint64_t deadline = fut_pair_deadline(engine->pair);
    if (engine->broken || engine->act_wanted) {
        deadline = 0;
    } else if (engine->cut_pending || (engine->copy.active && engine->copy.collect_wanted)) {
        deadline = MIN(deadline, engine->asked_ns + ASK_AGAIN_NS);
    } else if (fut_primary_may_cut(engine)) {
        deadline = MIN(deadline, fut_primary_deadline(engine));
    }
    g_mutex_unlock(&engine->lock);
    return deadline;
}

/* -- commands -- */

typedef bool (*PairCommand)(FutPair *pair, uint64_t now_ns, GError **error);

static bool command(FutEngine *engine, PairCommand of_pair, GError **error)
{
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    bool ok = of_pair(engine->pair, now_ns, error);
    g_mutex_unlock(&engine->lock);
    fut_engine_act(engine);
    engine->host->wake(engine->opaque);
    return ok;
}

bool fut_engine_protect(FutEngine *engine, GError **error)
{
    return command(engine, fut_pair_protect, error);
}

bool fut_engine_move(FutEngine *engine, GError **error)
{
    if (engine->shared.count > 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "the VM has shared disks, which the other host reaches already: use a "
                            "standby and futago failover");
        return false;
    }
    return command(engine, fut_pair_move, error);
}

bool fut_engine_unprotect(FutEngine *engine, GError **error)
{
    return command(engine, fut_pair_unprotect, error);
}

bool fut_engine_failover(FutEngine *engine, GError **error)
{
    return command(engine, fut_pair_failover, error);
}

bool fut_engine_accepts(FutEngine *engine, FutBuf *ret_bye)
{
    FutPairStatus status;
    g_mutex_lock(&engine->lock);
    fut_pair_status(engine->pair, &status);
    bool accepts = status.role == FUT_ROLE_BACKUP && !status.linked &&
                   (status.state == FUT_STATE_WAITING || status.state == FUT_STATE_CLAIMING);
    if (!accepts) {
        fut_pair_busy_bye(engine->pair, ret_bye);
    }
    g_mutex_unlock(&engine->lock);
    return accepts;
}

bool fut_engine_settled(FutEngine *engine)
{
    g_mutex_lock(&engine->lock);
    bool settled = fut_disk_queue_empty(&engine->shared.writes) || engine->shared.yielded;
    bool held = engine->shared.writes.pending.first != NULL;
    FutPairStatus status;
    fut_pair_status(engine->pair, &status);
    g_mutex_unlock(&engine->lock);
    if (status.role != FUT_ROLE_PRIMARY) {
        return true;
    }
    if (!settled && held && status.linked) {
        fut_engine_unprotect(engine, NULL);
    }
    return settled;
}

void fut_engine_exiting(FutEngine *engine)
{
    FutPairStatus status;
    g_mutex_lock(&engine->lock);
    engine->exiting = true;
    fut_engine_changed(engine);
    fut_pair_status(engine->pair, &status);
    g_mutex_unlock(&engine->lock);
    fut_series_cancel(engine, "the VM ends");
    if (status.role == FUT_ROLE_PRIMARY && status.linked) {
        fut_engine_unprotect(engine, NULL);
    }
}

void fut_engine_set_fault(FutEngine *engine, FutPairFault fault)
{
    g_mutex_lock(&engine->lock);
    fut_pair_set_fault(engine->pair, fault);
    engine->fault = fault;
    g_mutex_unlock(&engine->lock);
}
