/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Probes in the guest's kernel under TCG. The guest's memory is not touched: when QEMU translates a block of code that begins at a
 * probed address, a call of ours goes before its first instruction (QEMU's plugin interface). A function's first instruction
 * always begins a block, because calls end one, and so does the one to which it returns; there all registers are in the CPU's structure,
 * as nothing of the block has run. What was translated before a probe came or went is thrown away while no vCPU executes.
 *
 * Where a function returns to is learned at its entry. The first time from there, the vCPU queues work for itself that throws the code
 * there away: it is done between two blocks, so before the function can have returned, and no other vCPU can be amid translating.
 *
 * An instruction within a function begins a block only if it is made to: while a probe stands there, QEMU translates the page one instruction
 * at a time, as it does where a breakpoint is. Ours is of no kind that stops anything.
 *
 * QEMU asks us about each block it translates only while there is a probe.
 */
#include "qprobe.h"

#include "fut_error.h"

/* A power of two. */
#define RETURNS_MAX 128u

typedef struct FutQprobe FutQprobe;

typedef struct {
    FutQprobe *probe;
    uint64_t address; /* atomic; 0: none */
    uint64_t physical;
} Place;

struct FutQprobe {
    Place entry;
    Place returns[RETURNS_MAX]; /* by hash; filled while the probe is in */
    unsigned number;
    bool has_returns;
    bool within; /* a function: see above */
    FutGuestMemory memory;
};

/* One QEMU process is one VM, and QEMU's plugin calls carry nothing of ours. */
static struct {
    qemu_plugin_id_t id;
    FutQvmm *qvmm;
    FutQprobe probes[FUT_PROBES_MAX];
    unsigned count;     /* control thread */
    FutQprobe *changed; /* for the stopped call: what has come or gone */
    uint64_t place;     /* likewise: where it stands, or stood */
    bool deaf;          /* likewise: no probe is left, QEMU need not ask any more */
} traced;

void fut_qprobe_tcg_init(FutQvmm *qvmm, qemu_plugin_id_t id)
{
    traced.id = id;
    traced.qvmm = qvmm;
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        FutQprobe *probe = &traced.probes[i];
        probe->number = i;
        probe->entry.probe = probe;
        for (unsigned j = 0; j < RETURNS_MAX; j++) {
            probe->returns[j].probe = probe;
        }
    }
}

/* -- at a hit: the vCPU's thread, no BQL -- */

static bool in_kernel(void)
{
    return (X86_CPU(current_cpu)->env.hflags & HF_CPL_MASK) == 0;
}

static uint32_t boot(void)
{
    return qatomic_read(&traced.qvmm->boots);
}

/* The place of that return address, or the free one where it would be. NULL: neither. */
static Place *place_of(FutQprobe *probe, uint64_t address)
{
    for (unsigned i = 0; i < RETURNS_MAX; i++) {
        Place *place = &probe->returns[((address >> 2) + i) % RETURNS_MAX];
        uint64_t there = qatomic_read(&place->address);
        if (there == address || there == 0) {
            return place;
        }
    }
    return NULL;
}

/* No vCPU executes, no BQL. The probe may be gone, and the place another's: that costs a translation. */
static void see_returns(CPUState *cpu, run_on_cpu_data data)
{
    Place *place = data.host_ptr;

    bql_lock();
    fut_qemu_forget_code(cpu, place->physical);
    bql_unlock();
}

/* False: no return to there can be seen. */
static bool watch_return(FutQprobe *probe, const FutProbeHit *hit, uint64_t address)
{
    Place *place = place_of(probe, address);
    uint64_t physical;

    while (place && qatomic_read(&place->address) != address) {
        if (!fut_guest_translate(&hit->memory, address, &physical)) {
            return false;
        }
        /* Whoever comes first fills it; another vCPU may have the very same address. */
        if (qatomic_cmpxchg(&place->address, 0, address) == 0) {
            qatomic_set(&place->physical, physical);
            async_safe_run_on_cpu(current_cpu, see_returns, RUN_ON_CPU_HOST_PTR(place));
            return true;
        }
        place = place_of(probe, address);
    }
    return place != NULL;
}

static void reached(unsigned int vcpu, void *data)
{
    FutQprobe *probe = data;
    FutWatch *watch = traced.qvmm->vmm.watch;
    FutProbeHit hit;

    if (in_kernel()) {
        hit = fut_qprobe_hit(current_cpu, qatomic_read(&probe->entry.address), boot());
        uint64_t back = fut_watch_hit(watch, probe->number, &hit);
        if (back != 0 && !watch_return(probe, &hit, back)) {
            fut_watch_unreturned(watch, probe->number, &hit);
        }
    }
}

static void returned(unsigned int vcpu, void *data)
{
    const Place *place = data;
    FutProbeHit hit;

    if (in_kernel()) {
        hit = fut_qprobe_hit(current_cpu, qatomic_read(&place->address), boot());
        fut_watch_returned(traced.qvmm->vmm.watch, place->probe->number, &hit);
    }
}

/* -- translation: any vCPU's thread -- */

/* NULL: it does not return there, as far as is known. */
static Place *return_to(FutQprobe *probe, uint64_t address)
{
    Place *place = qatomic_read(&probe->has_returns) ? place_of(probe, address) : NULL;

    return place && qatomic_read(&place->address) == address ? place : NULL;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(tb, 0);

    for (unsigned i = 0; i < FUT_PROBES_MAX && address != 0; i++) {
        FutQprobe *probe = &traced.probes[i];
        uint64_t entry = qatomic_read(&probe->entry.address);
        if (entry == address) {
            qemu_plugin_register_vcpu_insn_exec_cb(first, reached, QEMU_PLUGIN_CB_R_REGS, probe);
        }
        Place *place = entry != 0 ? return_to(probe, address) : NULL;
        if (place) {
            qemu_plugin_register_vcpu_insn_exec_cb(first, returned, QEMU_PLUGIN_CB_R_REGS, place);
        }
    }
}

/* -- coming and going -- */

/* All blocks that begin at that place. A module may have been loaded anew meanwhile, at the same address in other memory. */
static void forget_entry(const FutQprobe *probe)
{
    uint64_t now;

    fut_qemu_forget_code(first_cpu, probe->entry.physical);
    if (fut_guest_translate(&probe->memory, traced.place, &now) && now != probe->entry.physical) {
        fut_qemu_forget_code(first_cpu, now);
    }
}

/* Neither a debugger's nor the guest's: it only makes QEMU look at each instruction of its page. */
#define BREAKPOINT_OF_NONE 0

static void break_page(bool comes)
{
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        if (comes) {
            cpu_breakpoint_insert(cpu, traced.place, BREAKPOINT_OF_NONE, NULL);
        } else {
            /* Not there on a vCPU that was plugged in later. */
            cpu_breakpoint_remove(cpu, traced.place, BREAKPOINT_OF_NONE);
        }
    }
}

/* BQL held, no vCPU executes. */
static void forget_code(FutQvmm *qvmm)
{
    FutQprobe *probe = traced.changed;

    if (probe->within) {
        break_page(probe->entry.address != 0);
    }
    forget_entry(probe);
    for (unsigned i = 0; i < RETURNS_MAX && probe->has_returns; i++) {
        if (probe->returns[i].address != 0) {
            fut_qemu_forget_code(first_cpu, probe->returns[i].physical);
            qatomic_set(&probe->returns[i].address, 0);
        }
    }
    if (traced.deaf) {
        /* QEMU frees what a vCPU that translates just now would go through. */
        qemu_plugin_register_vcpu_tb_trans_cb(traced.id, NULL);
    }
}

static void do_nothing(CPUState *cpu, run_on_cpu_data data)
{
}

/* vCPUs take note of it one by one, as work of theirs: when ours is done, so is that. */
static void ask_about_blocks(void)
{
    CPUState *cpu;
    bool taken = fut_qvmm_lock();

    qemu_plugin_register_vcpu_tb_trans_cb(traced.id, translated);
    CPU_FOREACH (cpu) {
        run_on_cpu(cpu, do_nothing, RUN_ON_CPU_NULL);
    }
    fut_qvmm_unlock(taken);
}

static bool change(FutQvmm *qvmm, FutQprobe *probe, uint64_t address)
{
    traced.place = address != 0 ? address : probe->entry.address;
    qatomic_set(&probe->entry.address, address);
    traced.changed = probe;
    traced.deaf = address == 0 && traced.count == 1;
    return fut_qstop_call(qvmm, forget_code);
}

bool fut_qprobe_tcg_insert(FutQvmm *qvmm, unsigned number, const FutProbe *from, GError **error)
{
    FutQprobe *probe = &traced.probes[number];

    if (traced.count == 0) {
        ask_about_blocks();
    }
    probe->entry.physical = from->physical;
    probe->memory = from->memory;
    probe->within = from->within;
    qatomic_set(&probe->has_returns, from->calls != NULL);
    if (!change(qvmm, probe, from->address)) {
        qatomic_set(&probe->entry.address, 0);
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM is about to end");
        return false;
    }
    traced.count++;
    return true;
}

bool fut_qprobe_tcg_remove(FutQvmm *qvmm, unsigned number)
{
    if (!change(qvmm, &traced.probes[number], 0)) {
        return false;
    }
    traced.count--;
    return true;
}
