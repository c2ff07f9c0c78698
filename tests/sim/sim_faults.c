/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes wrong, and when. Faults prefer the host that runs the VM and its twin, and often come in pairs close together:
 * a protocol breaks in the narrow places. */
#include "sim.h"

#define ALL_HOSTS SIM_HOSTS

static SimHost *host_a(Sim *sim, const SimFault *fault)
{
    SimHost *host = &sim->host[fault->a];
    return sim_host_up(host) ? host : NULL;
}

static SimPath *path_of(Sim *sim, unsigned from, unsigned to)
{
    return &sim->path[from][to];
}

static void cut(Sim *sim, unsigned from, unsigned to, bool on)
{
    if (from != to) {
        path_of(sim, from, to)->cuts += on ? 1 : -1;
        if (path_of(sim, from, to)->cuts == 0) {
            sim_path_healed(sim, from, to);
        }
    }
}

/* -- hosts -- */

static void die(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        sim_host_die(host_a(sim, fault), SIM_DEAD);
    }
}

static void go_dark(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        sim_host_die(host_a(sim, fault), SIM_DARK);
    }
}

static void set_trip(Sim *sim, const SimFault *fault, SimTrip trip)
{
    SimHost *host = host_a(sim, fault);

    if (host) {
        host->trip = trip;
        host->trip_ops = (unsigned)sim_below(&sim->random, 30);
    }
}

static void die_within(Sim *sim, SimFault *fault)
{
    set_trip(sim, fault, SIM_TRIP_DIE);
}

static void freeze(Sim *sim, SimFault *fault)
{
    SimHost *host = host_a(sim, fault);

    if (host && host->living == SIM_LIVE) {
        sim_host_freeze(host);
    }
}

static void freeze_within(Sim *sim, SimFault *fault)
{
    set_trip(sim, fault, SIM_TRIP_FREEZE);
}

static void thaw(Sim *sim, SimFault *fault)
{
    SimHost *host = host_a(sim, fault);

    if (host && host->life == fault->life) {
        host->trip = SIM_TRIP_NONE;
        if (host->living == SIM_FROZEN) {
            sim_host_thaw(host);
        }
    }
}

static void pause_guest(Sim *sim, SimFault *fault)
{
    SimHost *host = host_a(sim, fault);

    if (host && host->vm.started) {
        host->vm.paused = true;
    }
}

static void unpause_guest(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        sim_push_host(host_a(sim, fault), 0, SIM_EVENT_UNPAUSE);
    }
}

/* -- the network -- */

static void cut_both(Sim *sim, SimFault *fault)
{
    cut(sim, fault->a, fault->b, true);
    cut(sim, fault->b, fault->a, true);
}

static void mend_both(Sim *sim, SimFault *fault)
{
    cut(sim, fault->a, fault->b, false);
    cut(sim, fault->b, fault->a, false);
}

static void cut_one_way(Sim *sim, SimFault *fault)
{
    cut(sim, fault->a, fault->b, true);
}

static void mend_one_way(Sim *sim, SimFault *fault)
{
    cut(sim, fault->a, fault->b, false);
}

static void isolate(Sim *sim, SimFault *fault)
{
    sim->arbiter.down[fault->a]++;
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        cut(sim, fault->a, i, true);
        cut(sim, i, fault->a, true);
    }
}

static void rejoin(Sim *sim, SimFault *fault)
{
    sim->arbiter.down[fault->a]--;
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        cut(sim, fault->a, i, false);
        cut(sim, i, fault->a, false);
    }
}

static void slow_down(Sim *sim, SimFault *fault)
{
    path_of(sim, fault->a, fault->b)->slow++;
    path_of(sim, fault->b, fault->a)->slow++;
}

static void speed_up(Sim *sim, SimFault *fault)
{
    path_of(sim, fault->a, fault->b)->slow--;
    path_of(sim, fault->b, fault->a)->slow--;
}

static void mangle(Sim *sim, SimFault *fault)
{
    path_of(sim, fault->a, fault->b)->mangle =
        (SimMangle)sim_between(&sim->random, 1, SIM_MANGLE_COUNT - 1);
}

static void unmangle(Sim *sim, SimFault *fault)
{
    path_of(sim, fault->a, fault->b)->mangle = SIM_MANGLE_NONE;
}

/* Something between the two resets their connections. */
static void reset_links(Sim *sim, SimFault *fault)
{
    SimHost *host = host_a(sim, fault);

    if (host && host->link) {
        SimLink *link = host->link;
        sim_link_close(sim, link, 0);
        sim_link_close(sim, link, 1);
    }
}

static void send_stranger(Sim *sim, SimFault *fault)
{
    sim_stranger(sim, fault->a);
}

/* -- the arbiter -- */

static void hide_arbiter(Sim *sim, SimFault *fault)
{
    sim->arbiter.down[fault->a]++;
}

static void show_arbiter(Sim *sim, SimFault *fault)
{
    sim->arbiter.down[fault->a]--;
}

static void stop_arbiter(Sim *sim, SimFault *fault)
{
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        sim->arbiter.down[i]++;
    }
}

static void start_arbiter(Sim *sim, SimFault *fault)
{
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        sim->arbiter.down[i]--;
    }
}

static void slow_arbiter(Sim *sim, SimFault *fault)
{
    sim->arbiter.slow++;
}

static void quick_arbiter(Sim *sim, SimFault *fault)
{
    sim->arbiter.slow--;
}

static void lose_answers(Sim *sim, SimFault *fault)
{
    sim->arbiter.lose_answers++;
}

static void give_answers(Sim *sim, SimFault *fault)
{
    sim->arbiter.lose_answers--;
}

/* -- people -- */

static void push_command(Sim *sim, const SimFault *fault, SimCommand command)
{
    SimHost *host = host_a(sim, fault);

    if (host) {
        sim_push(sim, 0,
                 (SimEvent){ .kind = SIM_EVENT_COMMAND,
                             .host = host->index,
                             .life = host->life,
                             .detail = command });
    }
}

static void unprotect(Sim *sim, SimFault *fault)
{
    push_command(sim, fault, SIM_COMMAND_UNPROTECT);
}

static void fail_over(Sim *sim, SimFault *fault)
{
    push_command(sim, fault, SIM_COMMAND_FAILOVER);
}

/* -- the VMM -- */

static void break_save(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.fail_save = 1;
    }
}

static void break_start(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.fail_start = 1;
    }
}

static void break_load(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.fail_load = 1;
    }
}

static void mend_vmm(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        SimVm *vm = &host_a(sim, fault)->vm;
        vm->fail_save = vm->fail_start = vm->fail_load = 0;
    }
}

/* -- all of them -- */

static const struct {
    const char *name;
    unsigned weight;
    void (*begin)(Sim *sim, SimFault *fault);
    void (*end)(Sim *sim, SimFault *fault);
} kinds[] = {
    { "die", 8, die, NULL },
    { "power loss", 6, go_dark, NULL },
    { "die within", 10, die_within, NULL },
    { "freeze", 10, freeze, thaw },
    { "freeze within", 10, freeze_within, thaw },
    { "cut", 10, cut_both, mend_both },
    { "cut one way", 8, cut_one_way, mend_one_way },
    { "isolate", 8, isolate, rejoin },
    { "slow link", 5, slow_down, speed_up },
    { "mangle", 6, mangle, unmangle },
    { "reset", 6, reset_links, NULL },
    { "stranger", 5, send_stranger, NULL },
    { "arbiter out of reach", 6, hide_arbiter, show_arbiter },
    { "arbiter down", 5, stop_arbiter, start_arbiter },
    { "arbiter slow", 6, slow_arbiter, quick_arbiter },
    { "answers lost", 6, lose_answers, give_answers },
    { "unprotect", 5, unprotect, NULL },
    { "failover", 10, fail_over, NULL },
    { "pause", 3, pause_guest, unpause_guest },
    { "save fails", 2, break_save, mend_vmm },
    { "start fails", 1, break_start, mend_vmm },
    { "load fails", 2, break_load, mend_vmm },
};

const char *sim_fault_name(unsigned kind)
{
    return kinds[kind].name;
}

unsigned sim_fault_kinds(void)
{
    return G_N_ELEMENTS(kinds);
}

static unsigned choose_kind(SimRandom *random)
{
    unsigned total = 0, kind = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        total += kinds[i].weight;
    }
    uint64_t at = sim_below(random, total);
    while (at >= kinds[kind].weight) {
        at -= kinds[kind++].weight;
    }
    return kind;
}

void sim_faults_plan(Sim *sim)
{
    uint64_t at_ns = sim_below(&sim->random, 30 * FUT_NS_PER_MS);

    for (unsigned i = 0; i < sim->profile.faults; i++) {
        SimFault *fault = &sim->fault[i];
        uint64_t timeout_ns = sim->profile.timeout_ms * FUT_NS_PER_MS;
        fault->kind = choose_kind(&sim->random);
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
    fault->a = choose_host(sim);
    fault->b = choose_other(sim, fault->a);
    fault->life = sim->host[fault->a].life;
    fault->on = true;
    sim->count->faults[fault->kind]++;
    SIM_TRACE(sim, "FAULT %s: %s, %s, for %.3f ms", kinds[fault->kind].name,
              sim->host[fault->a].node, sim->host[fault->b].node,
              kinds[fault->kind].end ? (double)fault->last_ns / FUT_NS_PER_MS : 0);
    kinds[fault->kind].begin(sim, fault);
    sim_push(sim, fault->last_ns, (SimEvent){ .kind = SIM_EVENT_HEAL, .detail = number });
}

void sim_fault_end(Sim *sim, unsigned number)
{
    SimFault *fault = &sim->fault[number];

    if (fault->on) {
        fault->on = false;
        if (kinds[fault->kind].end) {
            SIM_TRACE(sim, "END of %s: %s, %s", kinds[fault->kind].name, sim->host[fault->a].node,
                      sim->host[fault->b].node);
            kinds[fault->kind].end(sim, fault);
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
