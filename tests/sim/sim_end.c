/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Somebody ends the VM on purpose, at any time and in the middle of whatever goes wrong. As the service does it: the guest
 * stops, the arbiter is told, then the twin, then the process is gone. A VM that was ended is never brought back. */
#include "sim.h"

#define RETRY_NS (5 * FUT_NS_PER_MS)
#define FAREWELL_NS (20 * FUT_NS_PER_MS)

void sim_end_plan(Sim *sim)
{
    sim_push(sim, sim_below(&sim->end.random, 250 * FUT_NS_PER_MS),
             (SimEvent){ .kind = SIM_EVENT_END });
}

static void push_command(SimHost *host, uint64_t after_ns, SimCommand command)
{
    sim_push(host->sim, after_ns,
             (SimEvent){ .kind = SIM_EVENT_COMMAND,
                         .host = host->index,
                         .life = host->life,
                         .detail = command });
}

void sim_end_order(Sim *sim)
{
    SimHost *active = sim_active(sim);

    if (active && active->living == SIM_LIVE) {
        push_command(active, 0, SIM_COMMAND_END);
    } else {
        sim_push(sim, RETRY_NS, (SimEvent){ .kind = SIM_EVENT_END });
    }
}

static bool is_ours(const SimSight *sight)
{
    return sight->pair.role == FUT_ROLE_PRIMARY && sight->pair.state != FUT_STATE_FENCED &&
           sight->pair.state != FUT_STATE_HANDING;
}

static void release(SimHost *host)
{
    uint64_t generation = sim_sight(host).pair.generation;

    sim_arbiter_release(host, generation);
    sim_arbiter_release(host, generation + 1);
}

void sim_end_begin(SimHost *host)
{
    SimSight sight = sim_sight(host);

    SIM_TRACE(host->sim, "%s: the VM is ended", host->node);
    host->sim->end.begun = true;
    host->ending = true;
    host->vm.halted = true;
    if (host->protection) {
        host->protection->given_up = true;
    }
    host->end_told = is_ours(&sight);
    if (host->end_told) {
        release(host);
    }
    push_command(host, sim_below(&host->sim->end.random, FAREWELL_NS), SIM_COMMAND_FAREWELL);
}

void sim_end_farewell(SimHost *host)
{
    fut_engine_exiting(host->engine);
    SimSight sight = sim_sight(host);
    if (!host->end_told && is_ours(&sight)) {
        release(host);
    }
    sim_host_die(host, SIM_DEAD);
}
