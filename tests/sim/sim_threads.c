/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who waits while others go on. There is one thread, but a call into a host can be kept waiting at its gates: then other things
 * happen in between, from further up the stack. In this way a whole host freezes at any point of what it does, and the link
 * thread of a host falls behind the guest, the cuts, the copy and the arbiter's answers.
 *
 * A thread other than the link thread is not kept waiting while its own host goes on: it may hold what the link thread
 * waits for (a cut under way, a step of the copy), and nobody could get at it up the stack. */
#include "sim.h"

static bool is_link_event(SimEventKind kind)
{
    switch (kind) {
    case SIM_EVENT_TICK:
    case SIM_EVENT_LOOP:
    case SIM_EVENT_CONNECT:
    case SIM_EVENT_CONNECTED:
    case SIM_EVENT_REFUSED:
    case SIM_EVENT_ACCEPT:
        return true;
    default:
        return false;
    }
}

bool sim_enter(SimHost *host, const SimEvent *event)
{
    bool link = is_link_event(event->kind);

    if (event->life != host->life || !sim_host_up(host) || host->dying != SIM_LIVE) {
        return false;
    }
    if (host->living == SIM_FROZEN || (link && host->link_busy)) {
        g_array_append_val(host->deferred, *event);
        return false;
    }
    host->depth++;
    host->in_link = link;
    host->link_busy |= link;
    return true;
}

void sim_leave(SimHost *host, const SimEvent *event)
{
    bool link = is_link_event(event->kind);

    host->depth--;
    host->in_link = host->link_busy && !link; /* then it is the link thread that waited */
    if (link) {
        host->link_busy = false;
        sim_host_catch_up(host);
    }
    if (host->dying != SIM_LIVE && host->depth == 0) {
        sim_host_die(host, host->dying);
    }
}

/* -- waiting -- */

/* As long as the engine waits in one go. */
#define WAIT_NS (2 * FUT_NS_PER_MS)

static void stay_frozen(SimHost *host)
{
    while (!host->waking && !host->sim->over) {
        sim_step(host->sim);
    }
    SIM_TRACE(host->sim, "%s: wakes", host->node);
    host->living = SIM_LIVE;
    sim_host_catch_up(host);
    sim_host_look(host);
}

static void fall_behind(SimHost *host)
{
    Sim *sim = host->sim;
    uint64_t timeout_ns = sim->profile.timeout_ms * FUT_NS_PER_MS;
    uint64_t most_ns = sim_chance(&sim->random, 70)   ? 200 * FUT_NS_PER_US
                       : sim_chance(&sim->random, 30) ? 2 * FUT_NS_PER_MS
                                                      : 2 * timeout_ns;
    uint64_t until_ns = sim->now_ns + sim_below(&sim->random, most_ns);

    while (!sim->over && host->dying == SIM_LIVE && sim->heap->len > 0 &&
           g_array_index(sim->heap, SimEvent, 0).at_ns <= until_ns) {
        sim_step(sim);
    }
    sim->now_ns = MAX(sim->now_ns, MIN(until_ns, g_array_index(sim->heap, SimEvent, 0).at_ns));
}

static void spring_trip(SimHost *host)
{
    SimTrip trip = host->trip;

    host->trip = SIM_TRIP_NONE;
    SIM_TRACE(host->sim, "%s: %s in the middle", host->node,
              trip == SIM_TRIP_FREEZE ? "freezes" : "dies");
    if (trip == SIM_TRIP_DARK) {
        sim_host_die(host, SIM_DARK);
    } else if (trip == SIM_TRIP_DIE) {
        sim_host_die(host, sim_chance(&host->sim->random, 50) ? SIM_DEAD : SIM_DARK);
    } else {
        sim_host_freeze(host);
    }
}

bool sim_gate(SimHost *host)
{
    Sim *sim = host->sim;

    if (host->depth == 0 || sim->over) { /* not a call, but its setting up */
        return true;
    }
    sim_note_commit(host);
    if (host->trip != SIM_TRIP_NONE && host->trip_ops-- == 0) {
        spring_trip(host);
    }
    if (host->in_link && host->living == SIM_LIVE && host->dying == SIM_LIVE && !sim->healing &&
        sim_below(&sim->random, 1000) < sim->profile.waiting) {
        host->in_link = false; /* once is enough: what happens meanwhile must not wait for it */
        fall_behind(host);
        host->in_link = true;
    }
    if (host->living == SIM_FROZEN && host->dying == SIM_LIVE) {
        stay_frozen(host);
    }
    return host->dying == SIM_LIVE;
}

/* The link thread does nothing until the caller goes on: it is the caller, or would soon wait for him. */
bool sim_wait(SimHost *host)
{
    Sim *sim = host->sim;
    bool in_link = host->in_link, busy = host->link_busy;
    uint64_t until_ns = sim->now_ns + WAIT_NS, steps = host->disk_steps;

    sim->count->disk_waits++;
    host->in_link = false;
    host->link_busy = true;
    while (!sim->over && host->living == SIM_LIVE && host->dying == SIM_LIVE &&
           host->disk_steps == steps && g_array_index(sim->heap, SimEvent, 0).at_ns <= until_ns) {
        sim_step(sim);
    }
    if (g_array_index(sim->heap, SimEvent, 0).at_ns > until_ns) {
        sim->now_ns = MAX(sim->now_ns, until_ns);
    }
    host->in_link = in_link;
    host->link_busy = busy;
    if (!busy) {
        sim_host_catch_up(host);
    }
    return sim_gate(host) && !sim->over;
}
