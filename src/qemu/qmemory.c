/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory, and which of its pages were written. QEMU keeps a bitmap a client; the one of
 * migration is used here, read and cleared a word at a time, so that looking costs 2 us for 256 MB
 * and not one call a page.
 *
 * Under TCG a clean page must also be made slow to write again in every vCPU's TLB: QEMU's own
 * migration code leaves that to a walk this module does not make. Under KVM the kernel has its own
 * log, which QEMU copies into the bitmap.
 */
#include "qvmm.h"

#include "fut_error.h"

QEMU_BUILD_BUG_ON(TARGET_PAGE_BITS != FUT_PAGE_SHIFT);
QEMU_BUILD_BUG_ON(DIRTY_MEMORY_BLOCK_SIZE % BITS_PER_LONG != 0);

void fut_qmemory_init(FutQvmm *qvmm)
{
    FutMemory *memory = &qvmm->memory;
    RAMBlock *block;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH (block) {
        if (!qemu_ram_is_migratable(block) || memory->count == FUT_BLOCKS_MAX - 1) {
            continue;
        }
        /* So QEMU lays blocks out; without it a word could belong to two blocks. */
        g_assert((block->offset >> FUT_PAGE_SHIFT) % BITS_PER_LONG == 0);
        /*
         * A block that the guest's firmware may resize is taken in full, so that its pages' numbers
         * never change.
         */
        memory->block[memory->count].base = block->host;
        memory->block[memory->count].length = block->max_length;
        qvmm->blocks[memory->count++] = block;
    }
}

const FutMemory *fut_qmemory_get(FutVmm *vmm)
{
    return &((FutQvmm *)vmm)->memory;
}

/*
 * Moves the marks of a block's pages from QEMU's bitmap into the set (or nowhere). Returns whether
 * there were any.
 */
static bool take_marks(const DirtyMemoryBlocks *marks, unsigned number, const RAMBlock *block,
                       FutPageSet *set)
{
    uint64_t first = block->offset >> FUT_PAGE_SHIFT;
    uint64_t pages = block->max_length >> FUT_PAGE_SHIFT;
    bool any = false;

    for (uint64_t page = 0; page < pages; page += BITS_PER_LONG) {
        uint64_t at = first + page;
        unsigned long *word =
            &marks->blocks[at / DIRTY_MEMORY_BLOCK_SIZE][BIT_WORD(at % DIRTY_MEMORY_BLOCK_SIZE)];
        if (likely(*word == 0)) {
            continue;
        }
        uint64_t taken = qatomic_xchg(word, 0);
        if (pages - page < BITS_PER_LONG) {
            taken &= (1ull << (pages - page)) - 1;
        }
        any = true;
        if (set) {
            fut_pageset_add_word(set, number, page, taken);
        }
    }
    return any;
}

/*
 * The range of host addresses of all blocks whose marks were taken: one walk through the TLBs does
 * for all of them.
 */
typedef struct {
    uintptr_t begin, end;
} HostRange;

static void range_add(HostRange *range, const RAMBlock *block)
{
    uintptr_t begin = (uintptr_t)block->host;
    uintptr_t end = begin + block->max_length;

    range->begin = range->end ? MIN(range->begin, begin) : begin;
    range->end = MAX(range->end, end);
}

static void make_slow_to_write(HostRange range)
{
    CPUState *cpu;

    if (range.end) {
        CPU_FOREACH (cpu) {
            tlb_reset_dirty(cpu, range.begin, range.end - range.begin);
        }
    }
}

void fut_qmemory_collect(FutVmm *vmm, FutPageSet *set)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    HostRange range = { 0, 0 };

    if (!tcg_enabled()) {
        fut_qemu_dirty_log_sync();
    }
    RCU_READ_LOCK_GUARD();
    const DirtyMemoryBlocks *marks =
        qatomic_rcu_read(&ram_list.dirty_memory[DIRTY_MEMORY_MIGRATION]);
    for (unsigned i = 0; i < qvmm->memory.count; i++) {
        RAMBlock *block = qvmm->blocks[i];
        if (!take_marks(marks, i, block, set)) {
            continue;
        }
        if (tcg_enabled()) {
            range_add(&range, block);
        } else {
            memory_region_clear_dirty_bitmap(block->mr, 0, block->used_length);
        }
    }
    make_slow_to_write(range);
}

/* Guest stopped: what was marked before tracking began is nobody's business. */
static void forget_marks(FutQvmm *qvmm)
{
    fut_qmemory_collect(&qvmm->vmm, NULL);
}

bool fut_qmemory_start(FutVmm *vmm, GError **error)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    Error *reason = NULL;
    bool taken = fut_qvmm_lock();
    bool on = qvmm->tracking || fut_qemu_dirty_log_start(&reason);

    qvmm->tracking = on;
    fut_qvmm_unlock(taken);
    if (!on) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "QEMU cannot log memory writes: %s: use -accel tcg", error_get_pretty(reason));
        error_free(reason);
        return false;
    }
    if (!fut_qstop_call(qvmm, forget_marks)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "this QEMU is about to end: start it anew");
        return false;
    }
    return true;
}

void fut_qmemory_stop(FutVmm *vmm)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();

    if (qvmm->tracking) {
        memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION);
        qvmm->tracking = false;
    }
    fut_qvmm_unlock(taken);
}
