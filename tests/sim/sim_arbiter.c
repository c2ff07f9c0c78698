/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arbiter, and each host's way to it: one question at a time, as the engine's ask thread does. A question that was sent
 * counts even if its host dies meanwhile or never hears the answer. */
#include "sim.h"

#define SLOW_FACTOR 40

static uint64_t delay(Sim *sim)
{
    uint64_t most_ns = sim->profile.arbiter_ns * (sim->arbiter.slow ? SLOW_FACTOR : 1);
    return sim_between(&sim->random, most_ns / 10, most_ns);
}

static void push_answer(SimHost *host, uint64_t generation, FutAnswer answer)
{
    sim_push(host->sim, delay(host->sim),
             (SimEvent){ .kind = SIM_EVENT_ANSWER,
                         .host = host->index,
                         .life = host->life,
                         .number = generation,
                         .detail = answer });
}

static void ask_next(SimHost *host)
{
    uint64_t *generation = host->asking ? NULL : g_queue_pop_head(&host->questions);

    if (!generation) {
        return;
    }
    if (host->ending) { /* who is about to leave claims nothing any more */
        g_free(generation);
        return;
    }
    host->asking = true;
    if (host->sim->arbiter.down[host->index]) {
        push_answer(host, *generation, FUT_ANSWER_UNKNOWN);
    } else {
        sim_push(host->sim, delay(host->sim),
                 (SimEvent){ .kind = SIM_EVENT_CLAIM,
                             .host = host->index,
                             .life = host->life,
                             .number = *generation });
    }
    g_free(generation);
}

void sim_arbiter_ask(SimHost *host, uint64_t generation)
{
    SIM_TRACE(host->sim, "%s: asks for generation %" PRIu64, host->node, generation);
    g_queue_push_tail(&host->questions, g_memdup2(&generation, sizeof(generation)));
    ask_next(host);
}

void sim_arbiter_answered(SimHost *host)
{
    host->asking = false;
    ask_next(host);
}

/* Compare and swap, by node name: a host that comes back under its name is granted what it was granted before. */
static FutAnswer claim(Sim *sim, const SimEvent *event)
{
    SimArbiter *arbiter = &sim->arbiter;

    if (arbiter->generation == event->number && arbiter->host == event->host &&
        !arbiter->released) {
        arbiter->life = event->life;
        return FUT_ANSWER_GRANTED;
    }
    if (arbiter->generation >= event->number) {
        sim->count->refusals++;
        sim->count->ended_refusals += arbiter->released;
        return FUT_ANSWER_REFUSED;
    }
    if (arbiter->generation != event->number - 1) {
        return FUT_ANSWER_UNKNOWN;
    }
    if (sim->end.told) {
        sim_violation(sim, "ended", "%s is granted generation %" PRIu64 " of a VM that was ended",
                      sim->host[event->host].node, event->number);
    }
    arbiter->generation = event->number;
    arbiter->host = event->host;
    arbiter->life = event->life;
    arbiter->released = false;
    sim->count->grants++;
    return FUT_ANSWER_GRANTED;
}

void sim_arbiter_claim(Sim *sim, const SimEvent *event)
{
    SimHost *host = &sim->host[event->host];
    FutAnswer answer = claim(sim, event);

    SIM_TRACE(sim, "arbiter: generation %" PRIu64 " for %s: %s", event->number, host->node,
              answer == FUT_ANSWER_GRANTED   ? "granted"
              : answer == FUT_ANSWER_REFUSED ? "refused"
                                             : "nobody knows");
    if (host->life != event->life || !sim_host_up(host)) {
        return;
    }
    if (sim->arbiter.down[host->index] || sim->arbiter.lose_answers) {
        answer = FUT_ANSWER_UNKNOWN;
    }
    push_answer(host, event->number, answer);
}

bool sim_arbiter_held_last(const SimHost *host)
{
    const SimArbiter *arbiter = &host->sim->arbiter;
    return arbiter->host == host->index && arbiter->life == host->life && sim_host_up(host);
}

bool sim_arbiter_holds(const SimHost *host)
{
    return sim_arbiter_held_last(host) && !host->sim->arbiter.released;
}

/* As a claim, but at once: the host waits for it. The end takes a generation of its own. */
void sim_arbiter_release(SimHost *host, uint64_t generation)
{
    Sim *sim = host->sim;
    SimArbiter *arbiter = &sim->arbiter;
    bool held =
        arbiter->generation == generation && arbiter->host == host->index && !arbiter->released;

    if (!held || arbiter->down[host->index]) {
        return;
    }
    SIM_TRACE(sim, "arbiter: %s has ended the VM", host->node);
    arbiter->generation += sim->wish.end_forgotten ? 0 : 1;
    arbiter->released = true;
    sim->end.told = true;
    sim->count->ended++;
}
