/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can go wrong. When, and to whom: sim_plan.c. */
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

static void send_strangers(Sim *sim, SimFault *fault)
{
    unsigned count = (unsigned)sim_between(&sim->random, 1, 5);

    for (unsigned i = 0; i < count; i++) {
        sim_stranger(sim, fault->last_ns);
    }
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
        host_a(sim, fault)->vm.fail_save = UINT_MAX; /* until it is mended */
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

/* -- disks -- */

/* Once, or until it is mended. */
static unsigned how_often(Sim *sim)
{
    return sim_chance(&sim->random, 50) ? 1 : UINT_MAX;
}

static void break_writing(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.disks.fail_write = how_often(sim);
    }
}

static void break_reading(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.disks.fail_read = how_often(sim);
    }
}

static void break_guest_writing(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.disks.fail_guest = (unsigned)sim_between(&sim->random, 1, 3);
    }
}

static void slow_disk(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.disks.slow = 1;
    }
}

static void mend_disks(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        SimVmDisks *disks = &host_a(sim, fault)->vm.disks;
        disks->fail_note = disks->fail_write = disks->fail_read = disks->fail_guest = disks->slow =
            0;
    }
}

static void break_notes(Sim *sim, SimFault *fault)
{
    if (host_a(sim, fault)) {
        host_a(sim, fault)->vm.disks.fail_note = 1;
    }
}

/* Of a host whose VMM is killed for it, and of those that are down. */
static void touch_images(Sim *sim, SimFault *fault)
{
    die(sim, fault);
    for (unsigned i = 0; i < SIM_HOSTS; i++) {
        if (!sim_host_up(&sim->host[i])) {
            sim_disks_touch(&sim->host[i]);
        }
    }
}

/* The host's own memory of what it wrote is gone, and with it all that was not flushed. */
static void cut_power_within(Sim *sim, SimFault *fault)
{
    set_trip(sim, fault, SIM_TRIP_DARK);
}

/* -- all of them -- */

const SimFaultKind sim_fault_kinds[SIM_FAULT_KINDS] = {
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
    { "stranger", 10, send_strangers, NULL },
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
    { "disk not written", 8, break_writing, mend_disks },
    { "disk not read", 3, break_reading, mend_disks },
    { "guest's write fails", 4, break_guest_writing, mend_disks },
    { "disk slow", 8, slow_disk, mend_disks },
    { "power loss within", 8, cut_power_within, NULL },
    { "note not written", 2, break_notes, mend_disks },
    { "images touched", 6, touch_images, NULL },
};
