/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host: its life, and the work of the engine's threads, one event at a time. The link thread's order is the engine's: time
 * first, then what arrived, then new connections. It goes round when something wakes it, and only then looks at the deadline
 * again: a wake-up that the engine forgets is missed here too. */
#include "sim.h"

#include <sys/uio.h>

#include "fut_error.h"
#include "wire.h"

#define LOOP_DELAY_MAX_NS (20 * FUT_NS_PER_US)
#define COPY_DELAY_MAX_NS (200 * FUT_NS_PER_US)
#define COPY_PENDING_MAX 200000
#define CONNECT_TIMEOUT_NS (30 * FUT_NS_PER_MS)

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
    config.heartbeat_ms = profile->heartbeat_ms;
    config.timeout_ms = profile->timeout_ms;
    config.retry_ms = profile->retry_ms;
    config.verify_every = profile->verify_every;
    config.part_pages_max = profile->part_pages_max;
    config.rest_pages_max = profile->rest_pages_max;
    config.hold_max_bytes = profile->hold_max_bytes;
    config.log_max_bytes = profile->log_max_bytes;
    host->engine = fut_engine_new(&host->vm.base, &config, machine, &sim_host_ops, host);
    fut_engine_set_fault(host->engine, host->sim->wrong);
    host->listening = role == FUT_ROLE_BACKUP;
    host->last_state = role == FUT_ROLE_BACKUP ? FUT_STATE_WAITING : FUT_STATE_ALONE;
}

void sim_host_free(SimHost *host)
{
    if (!host->engine) {
        return;
    }
    g_clear_pointer(&host->engine, fut_engine_free);
    g_clear_pointer(&host->reader, fut_frame_reader_free);
    sim_vm_done(&host->vm);
    g_queue_clear_full(&host->questions, g_free);
    g_queue_clear_full(&host->held, g_free);
    g_array_unref(host->deferred);
}

void sim_host_die(SimHost *host, SimLiving how)
{
    SimHost fresh = { .sim = host->sim, .index = host->index, .life = host->life };

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
    sim_host_free(host);
    memcpy(fresh.node, host->node, sizeof(fresh.node));
    *host = fresh;
    host->living = how;
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

/* -- the link -- */

void sim_host_detach(SimHost *host)
{
    if (host->link) {
        sim_link_close(host->sim, host->link, host->end);
        host->link = NULL; /* the reader may be in use: it goes with the next link */
    }
}

void sim_host_look(SimHost *host)
{
    if (!host->loop_scheduled) {
        host->loop_scheduled = true;
        sim_push_host(host, sim_below(&host->sim->random, LOOP_DELAY_MAX_NS), SIM_EVENT_LOOP);
    }
}

static void adopt(SimHost *host, SimLink *link, unsigned end)
{
    g_assert(!host->link);
    host->link = link;
    host->end = end;
    host->session = 0;
    host->sequence = 0;
    g_clear_pointer(&host->reader, fut_frame_reader_free);
    host->reader = fut_frame_reader_new(fut_wire_cap);
    fut_engine_link_up(host->engine, sim_next(&host->sim->random), sim_host_now(host));
    sim_host_look(host);
}

static void connect_peer(SimHost *host)
{
    Sim *sim = host->sim;
    SimHost *to = &sim->host[host->peer];
    uint64_t there_ns = sim_path_delay(sim, host->index, to->index);
    uint64_t back_ns = sim_path_delay(sim, to->index, host->index);

    if (sim_path_cut(sim, host->index, to->index) || sim_path_cut(sim, to->index, host->index) ||
        to->living == SIM_DARK) {
        sim_push_host(host, CONNECT_TIMEOUT_NS, SIM_EVENT_REFUSED);
    } else if (to->living == SIM_DEAD || !to->listening) {
        sim_push_host(host, there_ns + back_ns, SIM_EVENT_REFUSED);
    } else {
        SimLink *link = sim_link_new(sim, host->index, to->index);
        SIM_TRACE(sim, "%s: link %u to %s", host->node, link->number, to->node);
        sim_push(sim, there_ns + back_ns,
                 (SimEvent){ .kind = SIM_EVENT_CONNECTED,
                             .host = host->index,
                             .life = host->life,
                             .link = link->number });
        sim_push(sim, there_ns,
                 (SimEvent){ .kind = SIM_EVENT_ACCEPT,
                             .host = to->index,
                             .life = to->life,
                             .link = link->number });
    }
}

static void turn_away(SimHost *host, SimLink *link, const FutBuf *bye)
{
    uint8_t head[FUT_FRAME_HEADER_SIZE];

    fut_frame_header_encode(head, FUT_MSG_BYE, FUT_BYE_BUSY, 0, 0, bye->data, (uint32_t)bye->len);
    sim_link_send(host->sim, link, 1, head, sizeof(head), bye->data, bye->len);
    sim_link_close(host->sim, link, 1);
}

static void accept_peer(SimHost *host, SimLink *link)
{
    FutBuf bye = { 0 };

    if (!host->listening) {
        sim_link_close(host->sim, link, 1);
    } else if (fut_engine_accepts(host->engine, &bye)) {
        sim_host_detach(host);
        adopt(host, link, 1);
    } else {
        SIM_TRACE(host->sim, "%s: turns link %u away", host->node, link->number);
        turn_away(host, link, &bye);
    }
    fut_buf_done(&bye);
}

/* -- reading -- */

static void link_ended(SimHost *host, const char *why, bool peers_fault)
{
    if (peers_fault) {
        host->sim->count->bad_streams++;
        fut_engine_bad_peer(host->engine, why, sim_host_now(host));
    } else {
        sim_host_detach(host);
        fut_engine_link_down(host->engine, why, sim_host_now(host));
    }
}

/* Hands on all whole frames. False when the link is not to be read any more. */
static bool read_frames(SimHost *host, SimLink *link)
{
    g_autoptr(GError) error = NULL;
    FutFrame frame;
    int got;

    for (;;) {
        if (host->session != 0) {
            fut_frame_reader_set_session(host->reader, host->session);
        }
        got = fut_frame_reader_next(host->reader, &frame, &error);
        if (got <= 0) {
            break;
        }
        SIM_TRACE(host->sim, "%s: link %u: gets %s", host->node, link->number,
                  fut_wire_type_name(frame.type));
        fut_engine_frame(host->engine, &frame, sim_host_now(host));
        sim_check_commit(host);
        if (host->link != link || host->dying != SIM_LIVE) {
            return false;
        }
    }
    if (got < 0) {
        link_ended(host, error->message, true);
    }
    return got == 0;
}

static void read_link(SimHost *host)
{
    SimLink *link = host->link;
    SimPipe *pipe = &link->pipe[!host->end];

    if (!read_frames(host, link)) { /* those that a freeze kept from being handed on */
        return;
    }
    while (pipe->arrived.len > 0) {
        size_t room;
        uint8_t *at = fut_frame_reader_space(host->reader, &room);
        size_t count = MIN(room, pipe->arrived.len);
        memcpy(at, pipe->arrived.data, count);
        pipe->arrived.len -= count;
        memmove(pipe->arrived.data, pipe->arrived.data + count, pipe->arrived.len);
        fut_engine_alive(host->engine, sim_host_now(host));
        fut_frame_reader_filled(host->reader, count);
        if (!read_frames(host, link)) {
            return;
        }
    }
    if (pipe->fin && host->link == link) {
        link_ended(host, "closed by the peer", false);
    }
}

/* -- the link thread -- */

static uint64_t deadline_of(SimHost *host)
{
    uint64_t deadline_ns = fut_engine_deadline(host->engine);

    if (deadline_ns == SIM_NEVER) {
        return SIM_NEVER;
    }
    return deadline_ns > host->clock_offset_ns ? deadline_ns - host->clock_offset_ns : 0;
}

static void set_alarm(SimHost *host)
{
    uint64_t deadline_ns = MAX(deadline_of(host), host->sim->now_ns);

    if (deadline_ns < host->tick_event_ns) {
        host->tick_event_ns = deadline_ns;
        sim_push_host(host, deadline_ns - host->sim->now_ns, SIM_EVENT_TICK);
    }
}

static void go_round(SimHost *host)
{
    if (host->sim->now_ns >= deadline_of(host)) {
        fut_engine_tick(host->engine, sim_host_now(host));
        host->listening &= sim_sight(host).pair.role == FUT_ROLE_BACKUP;
    }
    if (sim_gate(host) && host->link) {
        read_link(host);
    }
    set_alarm(host);
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
    if (more || fut_engine_copy_step(host->engine, sim_host_now(host)) > 0) {
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
    static const char *const names[] = { "protect", "unprotect", "failover" };
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
    }
    SIM_TRACE(host->sim, "%s: %s: %s", host->node, names[what], accepted ? "yes" : "not now");
}

static void unpause(SimHost *host)
{
    host->vm.paused = false;
    sim_vm_wake(&host->vm);
}

static void dispatch(SimHost *host, const SimEvent *event)
{
    switch (event->kind) {
    case SIM_EVENT_TICK:
        host->tick_event_ns = SIM_NEVER;
        go_round(host);
        break;
    case SIM_EVENT_LOOP:
        host->loop_scheduled = false;
        go_round(host);
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
    case SIM_EVENT_CONNECT:
        connect_peer(host);
        break;
    case SIM_EVENT_CONNECTED:
        adopt(host, host->sim->links->pdata[event->link], 0);
        break;
    case SIM_EVENT_REFUSED:
        fut_engine_link_down(host->engine, "cannot connect", sim_host_now(host));
        sim_host_look(host);
        break;
    case SIM_EVENT_ACCEPT:
        accept_peer(host, host->sim->links->pdata[event->link]);
        break;
    case SIM_EVENT_ANSWER:
        answer(host, event);
        break;
    case SIM_EVENT_PACKET:
        sim_world_packet(host, event);
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
        sim_leave(host, event);
    }
}
