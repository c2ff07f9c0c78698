/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages the guest used last, under TCG. Translated code finds a page in the vCPU's software
 * TLB; what is not there is looked up by a function that QEMU keeps in a table of the CPU's class.
 * The table is replaced by a copy with our function, which calls QEMU's and then notes the page. A
 * guest's switch from one address space to another empties the TLB, so that what is in use comes by
 * again and again; instruction fetches come by as well. Only while snapshots are taken: what it
 * adds to a miss is little beside a walk of the guest's page tables, but it is not nothing.
 */
#include "qvmm.h"

#include <dlfcn.h>

#include "recency.h"

/* One machine a process; never freed, because vCPUs use it until the end. */
static struct {
    FutRecency code, data;
    struct TCGCPUOps ops;
    const struct TCGCPUOps *qemus;
    /* QEMU's function; NULL until all this is prepared. */
    bool (*fill)(CPUState *cpu, vaddr address, int size, MMUAccessType access, int mmu_index,
                 bool probe, uintptr_t return_address);
} hot;

/* What is no memory is not in any block. */
static void note(FutRecency *recency, uintptr_t at)
{
    const FutMemory *memory = recency->memory;

    for (unsigned i = 0; i < memory->count; i++) {
        uintptr_t offset = at - (uintptr_t)memory->block[i].base;
        if (offset < memory->block[i].length) {
            fut_recency_use(recency, i, offset >> FUT_PAGE_SHIFT);
            return;
        }
    }
}

/* The vCPU's thread. QEMU's function does not return when the guest has no such page. */
static bool fill(CPUState *cpu, vaddr address, int size, MMUAccessType access, int mmu_index,
                 bool probe, uintptr_t return_address)
{
    if (!hot.fill(cpu, address, size, access, mmu_index, probe, return_address)) {
        return false;
    }
    const CPUTLBDescFast *tlb = fut_qemu_tlb(cpu, mmu_index);
    size_t number = (address >> TARGET_PAGE_BITS) & (tlb->mask >> CPU_TLB_ENTRY_BITS);
    note(access == MMU_INST_FETCH ? &hot.code : &hot.data,
         (uintptr_t)(address & TARGET_PAGE_MASK) + tlb->table[number].addend);
    return true;
}

/* The table is what our headers say: it has a function of QEMU's where that is to be. */
static bool is_understood(const CPUClass *class)
{
    return tcg_enabled() && class->tcg_ops && class->tcg_ops->tlb_fill &&
           (void *)class->tcg_ops->tlb_fill == dlsym(RTLD_DEFAULT, "x86_cpu_tlb_fill");
}

static bool prepare(FutQvmm *qvmm, const CPUClass *class)
{
    if (hot.fill) {
        return true;
    }
    if (!is_understood(class) || !fut_recency_init(&hot.code, &qvmm->memory) ||
        !fut_recency_init(&hot.data, &qvmm->memory)) {
        return false;
    }
    hot.ops = *class->tcg_ops;
    hot.fill = hot.ops.tlb_fill;
    hot.qemus = class->tcg_ops;
    hot.ops.tlb_fill = fill;
    return true;
}

/* A vCPU takes the table's address at each miss: either table does. */
void fut_qhot_follow(FutQvmm *qvmm, bool on)
{
    CPUClass *class = CPU_GET_CLASS(first_cpu);

    if (prepare(qvmm, class)) {
        qatomic_set(&class->tcg_ops, on ? &hot.ops : hot.qemus);
    }
}

/*
 * Half of them code, which is what a guest has to have whatever it does next, half of them data. Of
 * these the often used: a guest that goes through much memory would have only that in the list.
 */
size_t fut_qhot_pages(FutVmm *vmm, uint64_t *ret_keys, size_t max)
{
    size_t half = max / 2, count = 0;
    g_autofree uint64_t *data = g_new(uint64_t, half + 1);

    if (!hot.fill) {
        return 0;
    }
    size_t codes = fut_recency_best(&hot.code, FUT_RECENCY_NEWEST, ret_keys + half, half);
    size_t datas = fut_recency_best(&hot.data, FUT_RECENCY_MOST, data, half);
    /* In turns. What is written does not get beyond what is still to be read: count <= half + i. */
    for (size_t i = 0; i < half; i++) {
        if (i < codes) {
            ret_keys[count++] = ret_keys[half + i];
        }
        if (i < datas) {
            ret_keys[count++] = data[i];
        }
    }
    return count;
}

uint32_t fut_qhot_code_age(unsigned block, uint64_t page)
{
    return hot.fill ? fut_recency_age(&hot.code, block, page) : FUT_RECENCY_NEVER;
}
