/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Probes in the guest's kernel under TCG. The guest's memory is not touched: when QEMU translates a block of code that begins at a
 * probed address, a call of ours goes before its first instruction (QEMU's plugin interface). A function's first instruction
 * always begins a block, because calls end one; there all registers are in the CPU's structure, as nothing of the block has run. What was
 * translated before a probe came or went is thrown away while no vCPU executes.
 *
 * QEMU asks us about each block it translates only while there is a probe.
 */
#include "qvmm.h"

#include "fut_error.h"

typedef struct {
    uint64_t address; /* atomic; 0: none */
    uint64_t physical;
    unsigned number;
} FutQprobe;

/* One QEMU process is one VM, and QEMU's plugin calls carry nothing of ours. */
static struct {
    qemu_plugin_id_t id;
    FutQvmm *qvmm;
    FutQprobe probes[FUT_PROBES_MAX];
    unsigned count;           /* control thread */
    const FutQprobe *changed; /* for the stopped call */
} traced;

void fut_qprobe_init(FutQvmm *qvmm, qemu_plugin_id_t id)
{
    traced.id = id;
    traced.qvmm = qvmm;
    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        traced.probes[i].number = i;
    }
}

/* Guest memory may be anything: what is no RAM is left alone, since reading a device may change it. */
static bool read_physical(void *opaque, uint64_t physical, void *ret, size_t length)
{
    hwaddr within, available = length;

    RCU_READ_LOCK_GUARD();
    MemoryRegion *region = address_space_translate(&address_space_memory, physical, &within,
                                                   &available, false, MEMTXATTRS_UNSPECIFIED);
    if (!memory_region_is_ram(region) || memory_region_is_ram_device(region) ||
        available < length) {
        return false;
    }
    memcpy(ret, (uint8_t *)memory_region_get_ram_ptr(region) + within, length);
    return true;
}

static FutGuestMemory memory_of(const CPUX86State *env)
{
    return (FutGuestMemory){
        .read = read_physical,
        .cr3 = env->cr[3],
        .five_levels = (env->cr[4] & CR4_LA57_MASK) != 0,
    };
}

/* The vCPU's thread; no BQL. */
static void reached(unsigned int vcpu, void *data)
{
    const FutQprobe *probe = data;
    CPUX86State *env = &X86_CPU(current_cpu)->env;
    uint64_t gs = env->segs[R_GS].base;
    FutProbeHit hit = {
        .arguments = { env->regs[R_EDI], env->regs[R_ESI], env->regs[R_EDX], env->regs[R_ECX],
                       env->regs[8], env->regs[9] },
        /* Right after an interrupt the kernel has not put its own base in place yet. */
        .gs_base = (int64_t)gs < 0 ? gs : env->kernelgsbase,
        .syscall_entry = env->lstar,
        .memory = memory_of(env),
        .guest_time_ns = (uint64_t)qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL),
        .vcpu = vcpu,
    };

    if ((env->hflags & HF_CPL_MASK) == 0) {
        fut_watch_hit(traced.qvmm->vmm.watch, probe->number, &hit);
    }
}

/* QEMU translates a block; any vCPU's thread. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t address = qemu_plugin_tb_vaddr(tb);

    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        if (qatomic_read(&traced.probes[i].address) == address && address != 0) {
            qemu_plugin_register_vcpu_insn_exec_cb(qemu_plugin_tb_get_insn(tb, 0), reached,
                                                   QEMU_PLUGIN_CB_R_REGS, &traced.probes[i]);
        }
    }
}

/* BQL held, no vCPU executes. */
static void forget_code(FutQvmm *qvmm)
{
    fut_qemu_forget_code(first_cpu, traced.changed->physical);
}

static void do_nothing(CPUState *cpu, run_on_cpu_data data)
{
}

/* vCPUs take note of it one by one, as work of theirs: when ours is done, so is that. */
static void ask_about_blocks(bool wanted)
{
    CPUState *cpu;
    bool taken = fut_qvmm_lock();

    qemu_plugin_register_vcpu_tb_trans_cb(traced.id, wanted ? translated : NULL);
    CPU_FOREACH (cpu) {
        run_on_cpu(cpu, do_nothing, RUN_ON_CPU_NULL);
    }
    fut_qvmm_unlock(taken);
}

static bool change(FutQvmm *qvmm, FutQprobe *probe, uint64_t address)
{
    qatomic_set(&probe->address, address);
    traced.changed = probe;
    return fut_qstop_call(qvmm, forget_code);
}

bool fut_qprobe_look(FutVmm *vmm, FutGuestLook *ret, GError **error)
{
    if (!tcg_enabled()) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                            "probes work under TCG only: this VM runs under KVM");
        return false;
    }
    /* This registers the thread with RCU, too. */
    bool taken = fut_qvmm_lock();
    const CPUX86State *env = &X86_CPU(first_cpu)->env;
    *ret = (FutGuestLook){ .syscall_entry = env->lstar, .memory = memory_of(env) };
    fut_qvmm_unlock(taken);
    return true;
}

bool fut_qprobe_insert(FutVmm *vmm, unsigned number, uint64_t address, uint64_t physical,
                       GError **error)
{
    FutQvmm *qvmm = container_of(vmm, FutQvmm, vmm);
    FutQprobe *probe = &traced.probes[number];

    if (traced.count == 0) {
        ask_about_blocks(true);
    }
    probe->physical = physical;
    if (!change(qvmm, probe, address)) {
        qatomic_set(&probe->address, 0);
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM is about to end");
        return false;
    }
    traced.count++;
    return true;
}

bool fut_qprobe_remove(FutVmm *vmm, unsigned number)
{
    FutQvmm *qvmm = container_of(vmm, FutQvmm, vmm);

    if (!change(qvmm, &traced.probes[number], 0)) {
        return false;
    }
    if (--traced.count == 0) {
        ask_about_blocks(false);
    }
    return true;
}
