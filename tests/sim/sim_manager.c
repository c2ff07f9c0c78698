/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An operator: starts dead hosts again as standbys, and has the VM protected by one that waits. While things go wrong he comes
 * when he likes; afterwards he does his duty. */
#include "sim.h"

/* Whoever runs the VM by right: at most one, as the checks see to. */
SimHost *sim_active(Sim *sim)
{
    SimHost *holder = &sim->host[sim->arbiter.host];

    if (!sim_arbiter_holds(holder) || !holder->vm.started || holder->vm.halted) {
        return NULL;
    }
    return sim_sight(holder).pair.role == FUT_ROLE_PRIMARY ? holder : NULL;
}

static bool beyond_help(const SimHost *host)
{
    if (host->living == SIM_FROZEN) {
        return false;
    }
    FutPairState state = sim_sight(host).pair.state;
    return state == FUT_STATE_FENCED || state == FUT_STATE_FAILED;
}

static void restart_hosts(Sim *sim)
{
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        SimHost *host = &sim->host[i];
        if (!sim->healing && !sim_chance(&sim->random, 20)) {
            continue;
        }
        if (sim_host_up(host) && beyond_help(host)) {
            sim_host_die(host, SIM_DEAD);
        } else if (!sim_host_up(host)) {
            SIM_TRACE(sim, "%s: starts again as a standby", host->node);
            sim_host_start(host, FUT_ROLE_BACKUP, 0);
        }
    }
}

static bool waits(const SimHost *host)
{
    return host->living == SIM_LIVE && sim_sight(host).pair.state == FUT_STATE_WAITING;
}

static SimHost *choose_standby(Sim *sim)
{
    unsigned first = (unsigned)sim_below(&sim->random, SIM_HOSTS);

    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        SimHost *host = &sim->host[(first + i) % SIM_HOSTS];
        if (waits(host)) {
            return host;
        }
    }
    return NULL;
}

static void protect(Sim *sim)
{
    SimHost *active = sim_active(sim);
    SimHost *standby = choose_standby(sim);

    if (!active || !standby || active->living != SIM_LIVE ||
        (!sim->healing && !sim_chance(&sim->random, 50))) {
        return;
    }
    FutPairState state = sim_sight(active).pair.state;
    if (state == FUT_STATE_CONNECTING && !waits(&sim->host[active->peer])) {
        active->peer = standby->index;
    } else if (state == FUT_STATE_ALONE) {
        SIM_TRACE(sim, "%s: to be protected by %s", active->node, standby->node);
        active->peer = standby->index;
        sim_push(sim, 0,
                 (SimEvent){ .kind = SIM_EVENT_COMMAND,
                             .host = active->index,
                             .life = active->life,
                             .detail = SIM_COMMAND_PROTECT });
    }
}

void sim_manager(Sim *sim)
{
    restart_hosts(sim);
    protect(sim);
    sim_push(sim, sim->profile.manager_ns, (SimEvent){ .kind = SIM_EVENT_MANAGER });
}
