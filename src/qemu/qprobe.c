/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes in the guest's kernel: looking at a vCPU, and the choice of the way. */
#include "qprobe.h"

#include "fut_error.h"

static void machine_reset(void *opaque)
{
    FutQvmm *qvmm = opaque;

    qatomic_set(&qvmm->boots, qvmm->boots + 1);
}

void fut_qprobe_init(FutQvmm *qvmm, qemu_plugin_id_t id)
{
    qemu_register_reset(machine_reset, qvmm);
    if (kvm_enabled()) {
        fut_qprobe_kvm_init(qvmm);
    } else {
        fut_qprobe_tcg_init(qvmm, id);
    }
}

/* Guest memory may be anything: what is no RAM is left alone, since reading a device may change it. */
static bool read_physical(void *opaque, uint64_t physical, void *ret, size_t length)
{
    hwaddr within, available = length;

    RCU_READ_LOCK_GUARD();
    MemoryRegion *region = address_space_translate(&address_space_memory, physical, &within,
                                                   &available, false, MEMTXATTRS_UNSPECIFIED);
    if (available < length) {
        return false;
    }
    const void *below = fut_qprobe_kvm_below(region, within);
    if (below) {
        memcpy(ret, below, length);
        return true;
    }
    if (!memory_region_is_ram(region) || memory_region_is_ram_device(region)) {
        return false;
    }
    memcpy(ret, (uint8_t *)memory_region_get_ram_ptr(region) + within, length);
    return true;
}

FutGuestMemory fut_qprobe_memory_at(uint64_t cr3, uint64_t cr4)
{
    return (FutGuestMemory){
        .read = read_physical,
        .cr3 = cr3,
        .five_levels = (cr4 & CR4_LA57_MASK) != 0,
    };
}

FutGuestMemory fut_qprobe_memory(const CPUX86State *env)
{
    return fut_qprobe_memory_at(env->cr[3], env->cr[4]);
}

FutProbeHit fut_qprobe_hit(CPUState *cpu, uint64_t instruction, uint32_t boot)
{
    const CPUX86State *env = &X86_CPU(cpu)->env;
    uint64_t gs = env->segs[R_GS].base;
    FutProbeHit hit = {
        .instruction = instruction,
        /* Right after an interrupt the kernel has not put its own base in place yet. */
        .gs_base = (int64_t)gs < 0 ? gs : env->kernelgsbase,
        .syscall_entry = env->lstar,
        .boot = boot,
        .memory = fut_qprobe_memory(env),
        .guest_time_ns = (uint64_t)qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL),
        .vcpu = (unsigned)cpu->cpu_index,
    };

    QEMU_BUILD_BUG_ON((int)R_ESP != (int)FUT_RSP || (int)R_EDI != (int)FUT_RDI);
    for (unsigned i = 0; i < FUT_REGISTERS; i++) {
        hit.registers[i] = env->regs[i];
    }
    return hit;
}

bool fut_qprobe_look(FutVmm *vmm, FutGuestLook *ret, GError **error)
{
    const FutQvmm *qvmm = container_of(vmm, FutQvmm, vmm);
    /* The first vCPU stays; its own thread writes these registers, and without the BQL. */
    const CPUX86State *env = &X86_CPU(first_cpu)->env;

    fut_qvmm_register_thread();
    if (kvm_enabled()) {
        return fut_qprobe_kvm_look(ret, error);
    }
    *ret = (FutGuestLook){
        .syscall_entry = qatomic_read(&env->lstar),
        .boot = qatomic_read(&qvmm->boots),
        .memory = fut_qprobe_memory(env),
    };
    return true;
}

bool fut_qprobe_insert(FutVmm *vmm, unsigned number, const FutProbe *probe, GError **error)
{
    FutQvmm *qvmm = container_of(vmm, FutQvmm, vmm);

    return kvm_enabled() ? fut_qprobe_kvm_insert(qvmm, number, probe, error)
                         : fut_qprobe_tcg_insert(qvmm, number, probe, error);
}

bool fut_qprobe_remove(FutVmm *vmm, unsigned number)
{
    FutQvmm *qvmm = container_of(vmm, FutQvmm, vmm);

    return kvm_enabled() ? fut_qprobe_kvm_remove(qvmm, number)
                         : fut_qprobe_tcg_remove(qvmm, number);
}

/* No vCPU executes; BQL held. */
static void write_all(FutQvmm *qvmm)
{
    FutGuestWrite writes[FUT_GUEST_WRITES_MAX];
    unsigned count = qvmm->patch.make(qvmm->patch.opaque, writes);

    for (unsigned i = 0; i < count; i++) {
        address_space_write(&address_space_memory, writes[i].physical, MEMTXATTRS_UNSPECIFIED,
                            writes[i].bytes, writes[i].length);
    }
}

bool fut_qprobe_write(FutVmm *vmm, FutGuestMake make, void *opaque)
{
    FutQvmm *qvmm = container_of(vmm, FutQvmm, vmm);

    qvmm->patch = (FutQpatch){ make, opaque };
    return fut_qstop_call(qvmm, write_all);
}
