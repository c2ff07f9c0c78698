/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When something goes wrong, and to whom. Faults prefer the host that runs the VM and its twin, and often come in pairs close
 * together: a protocol breaks in the narrow places. */
#include "sim.h"

static unsigned weight_of(const Sim *sim, unsigned kind)
{
    bool possible = kind < SIM_FAULT_DISKS || sim->profile.disks > 0;
    return possible ? sim_fault_kinds[kind].weight : 0;
}

static unsigned choose_kind(Sim *sim)
{
    unsigned total = 0, kind = 0;

    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++) {
        total += weight_of(sim, i);
    }
    uint64_t at = sim_below(&sim->random, total);
    while (at >= weight_of(sim, kind)) {
        at -= weight_of(sim, kind++);
    }
    return kind;
}

void sim_faults_plan(Sim *sim)
{
    uint64_t at_ns = sim_below(&sim->random, 30 * FUT_NS_PER_MS);

    for (unsigned i = 0; i < sim->profile.faults; i++) {
        SimFault *fault = &sim->fault[i];
        uint64_t timeout_ns = sim->profile.timeout_ms * FUT_NS_PER_MS;
        fault->kind = choose_kind(sim);
        fault->last_ns = sim_chance(&sim->random, 50)
                             ? sim_below(&sim->random, timeout_ns)
                             : sim_between(&sim->random, timeout_ns, 4 * timeout_ns);
        sim_push(sim, at_ns, (SimEvent){ .kind = SIM_EVENT_FAULT, .detail = i });
        at_ns += sim_chance(&sim->random, 40) ? sim_below(&sim->random, 2 * FUT_NS_PER_MS)
                                              : sim_below(&sim->random, 2 * timeout_ns);
    }
}

/* The active host, its twin, or anybody. */
static unsigned choose_host(Sim *sim)
{
    SimHost *active = sim_active(sim);

    if (!active || sim_chance(&sim->random, 15)) {
        return (unsigned)sim_below(&sim->random, SIM_HOSTS);
    }
    return sim_chance(&sim->random, 50) ? active->index : active->peer;
}

static unsigned choose_other(Sim *sim, unsigned than)
{
    SimHost *active = sim_active(sim);

    if (active && active->index != than) {
        return active->index;
    }
    if (active && sim_chance(&sim->random, 85)) {
        return active->peer;
    }
    return (than + 1 + (unsigned)sim_below(&sim->random, SIM_HOSTS - 1)) % SIM_HOSTS;
}

void sim_fault_begin(Sim *sim, unsigned number)
{
    SimFault *fault = &sim->fault[number];

    if (sim->healing) {
        return;
    }
    if (sim->faults_begun++ == 0) {
        SimHost *active = sim_active(sim);
        sim->was_protected = active && sim_sight(active).pair.state == FUT_STATE_PROTECTED;
    }
    fault->a = choose_host(sim);
    fault->b = choose_other(sim, fault->a);
    fault->life = sim->host[fault->a].life;
    fault->on = true;
    sim->count->faults[fault->kind]++;
    SIM_TRACE(sim, "FAULT %s: %s, %s, for %.3f ms", sim_fault_kinds[fault->kind].name,
              sim->host[fault->a].node, sim->host[fault->b].node,
              sim_fault_kinds[fault->kind].end ? (double)fault->last_ns / FUT_NS_PER_MS : 0);
    sim_fault_kinds[fault->kind].begin(sim, fault);
    sim_push(sim, fault->last_ns, (SimEvent){ .kind = SIM_EVENT_HEAL, .detail = number });
}

void sim_fault_end(Sim *sim, unsigned number)
{
    SimFault *fault = &sim->fault[number];

    if (fault->on) {
        fault->on = false;
        if (sim_fault_kinds[fault->kind].end) {
            SIM_TRACE(sim, "END of %s: %s, %s", sim_fault_kinds[fault->kind].name,
                      sim->host[fault->a].node, sim->host[fault->b].node);
            sim_fault_kinds[fault->kind].end(sim, fault);
        }
    }
}

void sim_faults_heal(Sim *sim)
{
    SIM_TRACE(sim, "HEALING");
    sim->healing = true;
    sim->healing_ns = sim->now_ns;
    for (unsigned i = 0; i < sim->profile.faults; i++) {
        sim_fault_end(sim, i);
    }
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        sim->host[i].trip = SIM_TRIP_NONE;
    }
}
