/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host: its life, and the work of the engine's threads other than the link thread, one event at a time. */
#include "sim.h"

#define COPY_DELAY_MAX_NS (200 * FUT_NS_PER_US)
#define COPY_PENDING_MAX 200000

bool sim_host_up(const SimHost *host)
{
    return host->living == SIM_LIVE || host->living == SIM_FROZEN;
}

uint64_t sim_host_now(const SimHost *host)
{
    return host->sim->now_ns + host->clock_offset_ns;
}

/* -- life -- */

void sim_host_start(SimHost *host, FutRole role, uint64_t generation)
{
    const SimProfile *profile = &host->sim->profile;
    FutEngineConfig config;
    g_auto(GStrv) machine = NULL;

    host->life++;
    host->living = SIM_LIVE;
    host->clock_offset_ns = sim_below(&host->sim->random, 1000 * FUT_NS_PER_S);
    host->deferred = g_array_new(FALSE, FALSE, sizeof(SimEvent));
    host->tick_event_ns = SIM_NEVER;
    g_queue_init(&host->questions);
    g_queue_init(&host->held);
    sim_vm_init(&host->vm, host);
    host->vm.base.ops = &sim_vm_ops;
    sim_vm_ops.describe(&host->vm.base, &machine, NULL);

    fut_engine_config_defaults(&config);
    config.vm = "vm";
    config.node = host->node;
    config.role = role;
    config.generation = generation;
    config.mode = profile->mode;
    config.epoch_max_us = profile->epoch_max_us;
    config.batch_max_us = profile->batch_max_us;
    config.window = profile->window;
    config.gap_us = profile->gap_us;
    config.heartbeat_ms = profile->heartbeat_ms;
    config.timeout_ms = profile->timeout_ms;
    config.retry_ms = profile->retry_ms;
    config.verify_every = profile->verify_every;
    config.part_pages_max = profile->part_pages_max;
    config.aside_min_bytes = profile->aside_min_bytes;
    config.rest_pages_max = profile->rest_pages_max;
    config.hold_max_bytes = profile->hold_max_bytes;
    config.log_max_bytes = profile->log_max_bytes;
    config.log_wait_us = profile->log_wait_us;
    config.disk_chunk_shift = config.series_chunk_shift = SIM_CHUNK_SHIFT;
    config.series_side_max_bytes = profile->pages * 1500ull;
    sim_series_config(host, &config);
    if (profile->disks > 0) {
        config.disk_unacked_max_bytes = profile->disk_unacked_max_bytes;
        config.disk_queue_max_bytes = profile->disk_queue_max_bytes;
        config.disk_batch_bytes = profile->disk_batch_bytes;
        config.flush_both = profile->flush_both;
        config.disk_mark_ms = profile->disk_mark_ms;
        config.disk_mark_bytes = profile->disk_mark_bytes;
    }
    host->engine = fut_engine_new(&host->vm.base, &config, machine, &sim_host_ops, host);
    fut_engine_set_fault(host->engine, host->sim->wish.wrong);
    host->listening = role == FUT_ROLE_BACKUP;
    host->last_state = role == FUT_ROLE_BACKUP ? FUT_STATE_WAITING : FUT_STATE_ALONE;
    sim_series_init(host);
}

void sim_host_free(SimHost *host)
{
    if (!host->engine) {
        return;
    }
    g_clear_pointer(&host->engine, fut_engine_free);
    g_clear_pointer(&host->reader, fut_frame_reader_free);
    sim_vm_done(&host->vm);
    sim_series_done(host);
    g_queue_clear_full(&host->questions, g_free);
    g_queue_clear_full(&host->held, g_free);
    g_array_unref(host->deferred);
}

void sim_host_die(SimHost *host, SimLiving how)
{
    SimHost fresh = { .sim = host->sim, .index = host->index, .life = host->life };

    if (host->dying == SIM_LIVE) {
        sim_notes_keep(host);
    }
    if (host->depth > 0) {
        host->dying =
            how; /* its engine is in use up the stack: nothing it does has any effect from here on */
        host->waking = true;
        return;
    }
    SIM_TRACE(host->sim, "%s: %s", host->node, how == SIM_DARK ? "loses its power" : "dies");
    if (how == SIM_DEAD) {
        sim_host_detach(host);
    }
    if (how == SIM_DARK) {
        sim_disks_lose_power(host);
    }
    sim_host_free(host);
    memcpy(fresh.disk, host->disk, sizeof(fresh.disk));
    memcpy(fresh.node, host->node, sizeof(fresh.node));
    *host = fresh;
    host->living = how;
    sim_check_notes(host->sim);
}

void sim_host_freeze(SimHost *host)
{
    SIM_TRACE(host->sim, "%s: freezes", host->node);
    host->living = SIM_FROZEN;
    host->waking = false;
}

/* What came meanwhile has its turn now. */
void sim_host_catch_up(SimHost *host)
{
    for (guint i = 0; i < host->deferred->len; i++) {
        sim_push_again(host->sim, &g_array_index(host->deferred, SimEvent, i));
    }
    g_array_set_size(host->deferred, 0);
}

void sim_host_thaw(SimHost *host)
{
    if (host->depth > 0) {
        host->waking = true; /* and wakes as soon as the stack comes back to it */
        return;
    }
    SIM_TRACE(host->sim, "%s: wakes", host->node);
    host->living = SIM_LIVE;
    sim_host_look(host);
    sim_host_catch_up(host);
}

/* -- the other threads -- */

static void copy_some(SimHost *host)
{
    bool more;

    host->copy_scheduled = false;
    if (!host->copy_on) {
        return;
    }
    more = host->link && host->link->pipe[host->end].waiting > COPY_PENDING_MAX;
    host->in_copy = true;
    more = more || fut_engine_copy_step(host->engine, sim_host_now(host)) > 0;
    host->in_copy = false;
    if (more) {
        sim_host_ops.copy(host, true);
    }
}

static void answer(SimHost *host, const SimEvent *event)
{
    static const char *const texts[] = { "", "somebody else has it",
                                         "the arbiter does not answer" };

    fut_engine_answer(host->engine, (FutAnswer)event->detail, event->number, texts[event->detail],
                      sim_host_now(host));
    sim_arbiter_answered(host);
}

static void guest_step(SimHost *host)
{
    host->vm.stepping = false;
    host->vm.step_due = !sim_vm_moving(&host->vm);
    if (!host->vm.step_due) {
        sim_guest_step(&host->vm);
    }
    sim_vm_wake(&host->vm);
}

/* The control thread's work. */
static void command(SimHost *host, SimCommand what)
{
    static const char *const names[] = { "protect", "unprotect", "failover", "end", "farewell" };
    bool accepted = false;

    switch (what) {
    case SIM_COMMAND_PROTECT:
        accepted = fut_engine_protect(host->engine, NULL);
        break;
    case SIM_COMMAND_UNPROTECT:
        if (host->protection) {
            host->protection->given_up = true;
        }
        accepted = fut_engine_unprotect(host->engine, NULL);
        break;
    case SIM_COMMAND_FAILOVER:
        accepted = fut_engine_failover(host->engine, NULL);
        break;
    case SIM_COMMAND_END:
        sim_end_begin(host);
        return;
    case SIM_COMMAND_FAREWELL:
        sim_end_farewell(host);
        return;
    }
    SIM_TRACE(host->sim, "%s: %s: %s", host->node, names[what], accepted ? "yes" : "not now");
}

static void unpause(SimHost *host)
{
    host->vm.paused = false;
    sim_vm_wake(&host->vm);
}

/* Often enough to see what each step leaves behind. */
static void check_notes(SimHost *host)
{
    if (host->sim->profile.disks > 0 && sim_chance(&host->sim->random, 10)) {
        sim_check_notes(host->sim);
    }
}

static void dispatch(SimHost *host, const SimEvent *event)
{
    switch (event->kind) {
    case SIM_EVENT_TICK:
        host->tick_event_ns = SIM_NEVER;
        sim_link_round(host);
        break;
    case SIM_EVENT_LOOP:
        host->loop_scheduled = false;
        sim_link_round(host);
        break;
    case SIM_EVENT_GUEST:
        guest_step(host);
        break;
    case SIM_EVENT_CUT:
        sim_vm_cut(&host->vm);
        break;
    case SIM_EVENT_COPY:
        copy_some(host);
        break;
    case SIM_EVENT_DISK:
        sim_disk_some(host);
        break;
    case SIM_EVENT_IO:
        sim_disk_event(&host->vm, event);
        break;
    case SIM_EVENT_CONNECT:
        sim_link_connect(host);
        break;
    case SIM_EVENT_CONNECTED:
        sim_link_adopt(host, host->sim->links->pdata[event->link], 0);
        break;
    case SIM_EVENT_REFUSED:
        fut_engine_link_down(host->engine, "cannot connect", sim_host_now(host));
        sim_host_look(host);
        break;
    case SIM_EVENT_ACCEPT:
        sim_link_accept(host, host->sim->links->pdata[event->link]);
        break;
    case SIM_EVENT_ANSWER:
        answer(host, event);
        break;
    case SIM_EVENT_PACKET:
        sim_world_packet(host, event);
        break;
    case SIM_EVENT_SERIES:
        sim_series_event(host, event);
        break;
    case SIM_EVENT_COMMAND:
        command(host, (SimCommand)event->detail);
        break;
    default:
        g_assert(event->kind == SIM_EVENT_UNPAUSE);
        unpause(host);
        break;
    }
}

void sim_host_event(SimHost *host, const SimEvent *event)
{
    if (sim_enter(host, event)) {
        dispatch(host, event);
        check_notes(host);
        sim_leave(host, event);
    }
}
