/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links between hosts, as TCP gives them: each direction keeps its order, nothing is lost while both ends live and the way
 * heals in time, and what was under way during a cut arrives after it. Only a mangled path changes bytes. */
#include "sim.h"

/* A cut way is tried again by the sender's kernel only now and then. */
#define RETRANSMIT_NS (8 * FUT_NS_PER_MS)
/* A slow way: this many times the delay, and this little a second. */
#define SLOW_DELAY 20
#define SLOW_BYTES_PER_MS 20000
#define FAST_BYTES_PER_MS 10000000
#define RECORD_MAX 20000

/* -- ways -- */

uint64_t sim_path_delay(Sim *sim, unsigned from, unsigned to)
{
    uint64_t delay_ns = sim->profile.delay_ns;
    uint64_t jitter_ns = sim_below(&sim->random, delay_ns + 1);

    return (delay_ns + jitter_ns) * (sim->path[from][to].slow ? SLOW_DELAY : 1);
}

bool sim_path_cut(const Sim *sim, unsigned from, unsigned to)
{
    return sim->path[from][to].cuts > 0;
}

static void push_deliver(Sim *sim, const SimLink *link, unsigned end, uint64_t after_ns)
{
    sim_push(sim, after_ns,
             (SimEvent){ .kind = SIM_EVENT_DELIVER, .link = link->number, .detail = end });
}

void sim_path_healed(Sim *sim, unsigned from, unsigned to)
{
    for (unsigned i = 0; i < sim->links->len; i++) {
        SimLink *link = sim->links->pdata[i];
        for (unsigned end = 0; end < 2; end++) {
            if (link->pipe[end].stalled && link->end[end] == from && link->end[!end] == to) {
                link->pipe[end].stalled = false;
                push_deliver(sim, link, end, sim_below(&sim->random, RETRANSMIT_NS));
            }
        }
    }
}

/* -- links -- */

SimLink *sim_link_new(Sim *sim, unsigned from, unsigned to)
{
    SimLink *link = g_new0(SimLink, 1);

    link->number = sim->links->len;
    link->end[0] = from;
    link->end[1] = to;
    for (unsigned end = 0; end < 2; end++) {
        link->life[end] = link->end[end] < SIM_HOSTS ? sim->host[link->end[end]].life : 0;
        g_queue_init(&link->pipe[end].segments);
    }
    g_ptr_array_add(sim->links, link);
    return link;
}

static void segment_free(gpointer data)
{
    SimSegment *segment = data;

    g_free(segment->bytes);
    g_free(segment);
}

void sim_link_free(SimLink *link)
{
    for (unsigned end = 0; end < 2; end++) {
        g_queue_clear_full(&link->pipe[end].segments, segment_free);
        fut_buf_done(&link->pipe[end].arrived);
    }
    fut_buf_done(&link->record);
    g_free(link);
}

static void queue_segment(Sim *sim, SimLink *link, unsigned end, const void *bytes, size_t length,
                          bool fin)
{
    SimPipe *pipe = &link->pipe[end];
    const SimPath *path = &sim->path[link->end[end]][link->end[!end]];
    uint64_t rate = path->slow ? SLOW_BYTES_PER_MS : FAST_BYTES_PER_MS;
    uint64_t due_ns = sim->now_ns + sim_path_delay(sim, link->end[end], link->end[!end]);
    SimSegment *segment = g_new(SimSegment, 1);

    due_ns = MAX(due_ns, pipe->last_due_ns) + length * FUT_NS_PER_MS / rate;
    pipe->last_due_ns = due_ns;
    pipe->waiting += length;
    *segment = (SimSegment){ due_ns, (uint32_t)length, fin, g_memdup2(bytes, length) };
    g_queue_push_tail(&pipe->segments, segment);
    push_deliver(sim, link, end, due_ns - sim->now_ns);
}

static void queue_pieces(Sim *sim, SimLink *link, unsigned end, const uint8_t *bytes, size_t length)
{
    while (length > 1 && sim_chance(&sim->random, sim->profile.choppy)) {
        size_t piece = sim_between(&sim->random, 1, length - 1);
        queue_segment(sim, link, end, bytes, piece, false);
        bytes += piece;
        length -= piece;
    }
    queue_segment(sim, link, end, bytes, length, false);
}

/* One message is damaged on its way; what comes after it is not. */
static void queue_mangled(Sim *sim, SimLink *link, unsigned end, FutBuf *message, SimMangle mangle)
{
    uint8_t garbage[48];

    SIM_TRACE(sim, "link %u: %zu bytes mangled (%u)", link->number, message->len, mangle);
    switch (mangle) {
    case SIM_MANGLE_FLIP:
        message->data[sim_below(&sim->random, message->len)] ^=
            (uint8_t)(1u << sim_below(&sim->random, 8));
        break;
    case SIM_MANGLE_GARBAGE:
        for (unsigned i = 0; i < sizeof(garbage); i++) {
            garbage[i] = (uint8_t)sim_next(&sim->random);
        }
        queue_pieces(sim, link, end, garbage, sim_between(&sim->random, 1, sizeof(garbage)));
        break;
    case SIM_MANGLE_DOUBLE:
        queue_pieces(sim, link, end, message->data, message->len);
        break;
    default:
        message->len = sim_below(&sim->random, message->len);
        break;
    }
    if (message->len > 0) {
        queue_pieces(sim, link, end, message->data, message->len);
    }
}

void sim_link_send(Sim *sim, SimLink *link, unsigned end, const void *head, size_t head_length,
                   const void *body, size_t length)
{
    FutBuf message = { 0 };
    SimMangle *mangle = &sim->path[link->end[end]][link->end[!end]].mangle;

    fut_buf_append(&message, head, head_length);
    fut_buf_append(&message, body, length);
    if (end == 0 && link->record.len + message.len <= RECORD_MAX) {
        fut_buf_append(&link->record, message.data, message.len);
    }
    if (*mangle != SIM_MANGLE_NONE) {
        queue_mangled(sim, link, end, &message, *mangle);
        *mangle = SIM_MANGLE_NONE;
    } else {
        queue_pieces(sim, link, end, message.data, message.len);
    }
    fut_buf_done(&message);
}

void sim_link_close(Sim *sim, SimLink *link, unsigned end)
{
    if (!link->closed[end]) {
        link->closed[end] = true;
        queue_segment(sim, link, end, NULL, 0, true);
    }
}

/* Nobody reads at the other end any more. If its kernel still runs, the sender hears of it. */
static void reset(Sim *sim, SimLink *link, unsigned end)
{
    unsigned reader = link->end[!end];
    SimPipe *back = &link->pipe[!end];

    if (reader < SIM_HOSTS && sim->host[reader].living == SIM_DARK &&
        sim->host[reader].life == link->life[!end]) {
        return;
    }
    if (!link->closed[end] && !back->fin) {
        link->closed[!end] = true;
        queue_segment(sim, link, !end, NULL, 0, true);
    }
}

static void arrive(Sim *sim, SimLink *link, unsigned end)
{
    SimPipe *pipe = &link->pipe[end];
    const SimSegment *next;

    while ((next = g_queue_peek_head(&pipe->segments)) && next->due_ns <= sim->now_ns) {
        SimSegment *segment = g_queue_pop_head(&pipe->segments);
        pipe->waiting -= segment->length;
        pipe->fin |= segment->fin;
        fut_buf_append(&pipe->arrived, segment->bytes, segment->length);
        segment_free(segment);
    }
}

void sim_link_deliver(Sim *sim, SimLink *link, unsigned end)
{
    unsigned reader = link->end[!end];

    if (sim_path_cut(sim, link->end[end], reader)) {
        link->pipe[end].stalled = true;
        return;
    }
    arrive(sim, link, end);
    if (reader == SIM_OUTSIDE) {
        return;
    }
    if (sim->host[reader].life != link->life[!end] || !sim_host_up(&sim->host[reader])) {
        reset(sim, link, end);
    } else {
        sim_host_look(&sim->host[reader]);
    }
}
