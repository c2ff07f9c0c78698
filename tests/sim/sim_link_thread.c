/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host's link thread. Its order is the engine's: time first, then what arrived, then new connections. It goes round when
 * something wakes it, and only then looks at the deadline again: a wake-up that the engine forgets is missed here too. */
#include "sim.h"

#include "wire.h"

#define LOOP_DELAY_MAX_NS (20 * FUT_NS_PER_US)
#define CONNECT_TIMEOUT_NS (30 * FUT_NS_PER_MS)

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

void sim_link_adopt(SimHost *host, SimLink *link, unsigned end)
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

void sim_link_connect(SimHost *host)
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

void sim_link_accept(SimHost *host, SimLink *link)
{
    FutBuf bye = { 0 };

    if (!host->listening) {
        sim_link_close(host->sim, link, 1);
    } else if (fut_engine_accepts(host->engine, &bye)) {
        sim_host_detach(host);
        sim_link_adopt(host, link, 1);
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

void sim_link_round(SimHost *host)
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
