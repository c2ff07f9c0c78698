/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simulated VMM: the second implementation of vmm.h. What QEMU does in its own threads happens in events here: a cut comes
 * some microseconds after it was asked for, the guest makes a step now and then, and nothing else runs meanwhile. */
#include "sim.h"

#include "fut_error.h"

#define CUT_DELAY_MAX_NS (100 * FUT_NS_PER_US)
#define PACKETS_MAX 64

/* -- memory -- */

void sim_vm_init(SimVm *vm, SimHost *host)
{
    const SimProfile *profile = &host->sim->profile;
    uint64_t *words;

    *vm = (SimVm){ .host = host, .pages = profile->pages };
    vm->ram = g_malloc((size_t)vm->pages * FUT_PAGE_SIZE);
    vm->dirty = g_malloc0(vm->pages);
    vm->guarded = g_malloc0(vm->pages);
    words = (uint64_t *)vm->ram;
    for (size_t i = 0; i < (size_t)vm->pages * FUT_PAGE_SIZE / sizeof(*words); i++) {
        words[i] =
            sim_next(&host->sim->random); /* a standby's memory is not empty before the copy */
    }
    vm->memory.count = SIM_BLOCKS;
    uint8_t *base = vm->ram;
    for (unsigned i = 0; i < SIM_BLOCKS; i++) {
        vm->memory.block[i].base = base;
        vm->memory.block[i].length = (uint64_t)profile->block_pages[i] * FUT_PAGE_SIZE;
        base += vm->memory.block[i].length;
    }
    g_queue_init(&vm->arrived);
    sim_vm_disks_init(vm);
}

void sim_vm_done(SimVm *vm)
{
    g_queue_clear_full(&vm->arrived, g_free);
    g_free(vm->ram);
    g_free(vm->dirty);
    g_free(vm->guarded);
}

static const FutMemory *vm_memory(FutVmm *vmm)
{
    return &((SimVm *)vmm)->memory;
}

static bool vm_describe(FutVmm *vmm, char ***ret_lines, GError **error)
{
    g_autofree char *lines = g_strdup_printf("machine=simulated\npages=%u", ((SimVm *)vmm)->pages);
    *ret_lines = g_strsplit(lines, "\n", -1);
    return true;
}

/* True, with an error set, if the call was meant to fail. */
static bool fails(unsigned *calls, GError **error)
{
    if (*calls == 0) {
        return false;
    }
    (*calls)--;
    g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, "the simulator lets this fail");
    return true;
}

/* -- what was written -- */

static void begin_protection(SimVm *vm)
{
    SimHost *host = vm->host;
    SimProtection *protection = g_new0(SimProtection, 1);

    protection->number = host->sim->protections->len;
    protection->held = g_array_new(FALSE, FALSE, sizeof(SimHeld));
    protection->host = host->index;
    protection->life = host->life;
    protection->generation = sim_sight(host).pair.generation;
    g_ptr_array_add(host->sim->protections, protection);
    host->protection = protection;
    sim_disks_begin(vm);
}

static bool vm_dirty_start(FutVmm *vmm, FutPurpose purpose, GError **error)
{
    SimVm *vm = (SimVm *)vmm;

    if (purpose == FUT_FOR_PAIR) {
        begin_protection(vm);
        if (fails(&vm->fail_start, error)) {
            vm->host->protection->given_up = true;
            return false;
        }
    }
    if (vm->logging == 0) {
        memset(vm->dirty, 0, vm->pages);
    }
    vm->logging |= purpose;
    return true;
}

static void vm_dirty_stop(FutVmm *vmm, FutPurpose purpose)
{
    ((SimVm *)vmm)->logging &= ~(unsigned)purpose;
}

static void vm_dirty_collect(FutVmm *vmm, FutPageSet *set)
{
    SimVm *vm = (SimVm *)vmm;
    unsigned flat = 0;

    for (unsigned block = 0; block < vm->memory.count; block++) {
        for (uint64_t page = 0; page < vm->memory.block[block].length >> FUT_PAGE_SHIFT;
             page++, flat++) {
            if (vm->dirty[flat]) {
                vm->dirty[flat] = 0;
                fut_pageset_add(set, fut_key(block, page));
            }
        }
    }
}

/* -- cuts -- */

static void vm_cut_request(FutVmm *vmm)
{
    SimVm *vm = (SimVm *)vmm;
    SimHost *host = vm->host;

    if (!vm->cut_asked) {
        vm->cut_asked = true;
        sim_push_host(host, sim_below(&host->sim->random, CUT_DELAY_MAX_NS), SIM_EVENT_CUT);
    }
}

void sim_vm_cut(SimVm *vm)
{
    vm->cut_asked = false;
    if (!vm->started || vm->halted || vm->paused) {
        vm->disks.draining = false;
        return;
    }
    if (vm->staying) {
        vm->cut_kept = true;
        return;
    }
    bool drained = vm->disks.draining;
    vm->disks.draining = !sim_disks_drain(vm);
    if (vm->disks.draining) {
        vm_cut_request(&vm->base);
        return;
    }
    vm->staying = fut_engine_cut(vm->base.engine, sim_host_now(vm->host)) == FUT_CUT_STAY;
    fut_engine_cut_done(vm->base.engine);
    if (drained) {
        sim_vm_wake(vm);
    }
}

static void vm_cut_resume(FutVmm *vmm)
{
    SimVm *vm = (SimVm *)vmm;

    vm->staying = false;
    if (vm->cut_kept) {
        vm->cut_kept = false;
        vm_cut_request(vmm);
    }
    sim_vm_wake(vm);
}

static void remember_image(SimVm *vm, const FutStateImage *state)
{
    SimProtection *protection = vm->host->protection;
    vm->host->sim->count->overtaking += protection->cuts > protection->committed;
    SimImage *image = &protection->image[++protection->cuts % SIM_IMAGES];
    size_t size = (size_t)vm->pages * FUT_PAGE_SIZE;

    image->ram = image->ram ? image->ram : g_malloc(size);
    memcpy(image->ram, vm->ram, size);
    memcpy(image->state, state->data, state->length);
    image->state_length = (uint32_t)state->length;
    image->branch = vm->branch;
    image->epoch = protection->cuts;
    sim_disks_remember(vm, image);
    vm->host->sim->count->cuts++;
}

/* The engine saves the state for the pair only for a checkpoint: this is where an epoch ends. */
static bool vm_state_save(FutVmm *vmm, FutPurpose purpose, FutStateImage *ret, GError **error)
{
    SimVm *vm = (SimVm *)vmm;
    uint8_t state[SIM_STATE_PAGES * FUT_PAGE_SIZE] = { 0 };

    if (purpose == FUT_FOR_PAIR && fails(&vm->fail_save, error)) {
        vm->host->protection->given_up = true;
        return false;
    }
    uint32_t length = sim_guest_state(vm, state);
    vm->saved_changed = 0;
    for (size_t page = 0; page < SIM_STATE_PAGES; page++) {
        uint8_t *saved = vm->saved + page * FUT_PAGE_SIZE;
        bool same = page * FUT_PAGE_SIZE < vm->saved_length &&
                    memcmp(saved, state + page * FUT_PAGE_SIZE, FUT_PAGE_SIZE) == 0;
        vm->saved_changed |= (uint64_t)!same << page;
        memcpy(saved, state + page * FUT_PAGE_SIZE, FUT_PAGE_SIZE);
    }
    vm->saved_length = length;
    *ret = (FutStateImage){ vm->saved, length, &vm->saved_changed };
    if (purpose == FUT_FOR_PAIR) {
        remember_image(vm, ret);
    } else {
        sim_series_remember(vm, ret);
    }
    return true;
}

/* -- life -- */

SimBranch *sim_branch_new(Sim *sim, const SimBranch *from, uint64_t outputs)
{
    SimBranch *branch = g_new(SimBranch, 1);

    branch->chain = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    if (from) {
        g_array_append_vals(branch->chain, from->chain->data, (guint)outputs);
    }
    g_ptr_array_add(sim->branches, branch);
    return branch;
}

static bool vm_state_load(FutVmm *vmm, const uint8_t *state, size_t length, GError **error)
{
    SimVm *vm = (SimVm *)vmm;

    if (fails(&vm->fail_load, error)) {
        return false;
    }
    sim_check_takeover(vm->host, state, length);
    if (!sim_guest_load(vm, state, length)) {
        sim_violation(vm->host->sim, "image", "%s: the device state of %zu bytes makes no sense",
                      vm->host->node, length);
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "senseless device state");
        return false;
    }
    return true;
}

static bool vm_run(FutVmm *vmm, GError **error)
{
    SimVm *vm = (SimVm *)vmm;

    sim_world_takeover(vm->host);
    vm->started = true;
    sim_vm_wake(vm);
    return true;
}

static void vm_announce(FutVmm *vmm)
{
    sim_host_announce(((SimVm *)vmm)->host);
}

static void vm_halt(FutVmm *vmm)
{
    ((SimVm *)vmm)->halted = true;
}

static void vm_quit(FutVmm *vmm, bool failed)
{
    vm_halt(vmm);
}

static bool vm_running(FutVmm *vmm)
{
    const SimVm *vm = (const SimVm *)vmm;
    return vm->started && !vm->halted && !vm->paused;
}

bool sim_vm_moving(const SimVm *vm)
{
    return vm->started && !vm->halted && !vm->paused && !vm->staying && !vm->disks.draining;
}

void sim_vm_wake(SimVm *vm)
{
    SimHost *host = vm->host;

    if (!vm->stepping && sim_vm_moving(vm)) {
        uint64_t most_ns =
            vm->step_due ? host->sim->profile.step_ns / 10 : host->sim->profile.step_ns;
        vm->stepping = true;
        sim_push_host(host, sim_between(&host->sim->random, most_ns / 2, most_ns), SIM_EVENT_GUEST);
    }
}

/* -- network -- */

static void vm_packets_out(FutVmm *vmm, const FutPacket *list)
{
    sim_host_packets(((SimVm *)vmm)->host, list);
}

static void vm_packet_in(FutVmm *vmm, const FutPacket *packet)
{
    SimVm *vm = (SimVm *)vmm;
    SimRequest request;

    g_assert(packet->length == sizeof(SimRequest));
    sim_check_reinjected(vm->host, memcpy(&request, packet->data, sizeof(request)));
    vm->host->sim->count->reinjected++;
    if (vm->arrived.length < PACKETS_MAX) {
        g_queue_push_tail(&vm->arrived, g_memdup2(packet->data, packet->length));
    }
}

const FutVmmOps sim_vm_ops = {
    .describe = vm_describe,
    .memory = vm_memory,
    .dirty_start = vm_dirty_start,
    .dirty_stop = vm_dirty_stop,
    .dirty_collect = vm_dirty_collect,
    .cut_request = vm_cut_request,
    .cut_resume = vm_cut_resume,
    .state_save = vm_state_save,
    .state_load = vm_state_load,
    .run = vm_run,
    .announce = vm_announce,
    .halt = vm_halt,
    .quit = vm_quit,
    .running = vm_running,
    .packets_out = vm_packets_out,
    .packet_in = vm_packet_in,
    .disks = sim_vm_disks,
    .disk_read = sim_vm_disk_read,
    .disk_write = sim_vm_disk_write,
    .disk_note = sim_vm_disk_note,
    .disk_note_sync = sim_vm_disk_note_sync,
    .disk_note_drop = sim_vm_disk_note_drop,
};
