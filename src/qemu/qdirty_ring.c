/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's dirty rings (-accel kvm,dirty-ring-size=N): the kernel puts each page that a vCPU writes
 * into that vCPU's ring, once until it is told to watch the page again.
 *
 * QEMU empties them, too: once a second, and when one is full. It does so with the BQL and counts what
 * it took (kvm_fetch_index); so a count that is not ours tells that pages have gone to where QEMU
 * keeps them, from where its own synchronisation fetches them.
 *
 * The kernel ends a vCPU's run before its ring is full, and counts on that: should the ring be overrun all the
 * same, it goes on a lap ahead. Pages are lost then, and what it writes from there on is not where we
 * and QEMU read. KVM that emulates what it cannot run has been seen to do so.
 */
#include "qdirty.h"

#include "compat/kvm_slots.h"
#include "fut_error.h"

bool fut_qring_check(GError **error)
{
    if (!kvm_dirty_ring_enabled()) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "KVM has no dirty rings: add dirty-ring-size=65536 to -accel kvm");
        return false;
    }
    if (!fut_qemu_kvm_understood()) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "QEMU keeps KVM's memory slots in an unknown way");
        return false;
    }
    return true;
}

/* What each vCPU's count was when we last looked. */
static GArray *seen;

static uint32_t *seen_of(const CPUState *cpu)
{
    if (!seen) {
        seen = g_array_new(FALSE, TRUE, sizeof(uint32_t));
    }
    if ((guint)cpu->cpu_index >= seen->len) {
        g_array_set_size(seen, cpu->cpu_index + 1);
    }
    return &g_array_index(seen, uint32_t, cpu->cpu_index);
}

void fut_qring_follow(void)
{
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        *seen_of(cpu) = cpu->kvm_fetch_index;
    }
}

static bool nobody_else_took(void)
{
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        if (*seen_of(cpu) != cpu->kvm_fetch_index) {
            return false;
        }
    }
    return true;
}

/* The kernel writes an entry, then its flag; we read in the other order, and hand it back. */
static uint32_t take_ring(CPUState *cpu)
{
    uint32_t mask = kvm_dirty_ring_size() - 1;
    uint32_t from = cpu->kvm_fetch_index;

    for (;; cpu->kvm_fetch_index++) {
        struct kvm_dirty_gfn *entry = &cpu->kvm_dirty_gfns[cpu->kvm_fetch_index & mask];
        if (qatomic_load_acquire(&entry->flags) != KVM_DIRTY_GFN_F_DIRTY) {
            return cpu->kvm_fetch_index - from;
        }
        uint64_t page = fut_qemu_kvm_page(entry->slot, entry->offset);
        if (page != UINT64_MAX) {
            fut_qqueue_mark(page);
        }
        qatomic_store_release(&entry->flags, KVM_DIRTY_GFN_F_RESET);
    }
}

bool fut_qring_intact(void)
{
    uint32_t size = kvm_dirty_ring_size();
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        for (uint32_t i = 0; i < size; i++) {
            if (qatomic_read(&cpu->kvm_dirty_gfns[i].flags) == KVM_DIRTY_GFN_F_DIRTY) {
                return false;
            }
        }
    }
    return true;
}

bool fut_qring_take(void)
{
    uint32_t taken = 0, most = 0;
    CPUState *cpu;

    if (!nobody_else_took()) {
        return false;
    }
    CPU_FOREACH (cpu) {
        uint32_t count = take_ring(cpu);
        taken += count;
        most = MAX(most, count);
    }
    if (taken > 0) {
        int reset = kvm_vm_ioctl(kvm_state, KVM_RESET_DIRTY_RINGS);
        g_assert(reset >= 0 && (uint32_t)reset == taken);
    }
    fut_qring_follow();
    /* The one that was so full may have been overrun: let all be looked at. */
    return most < kvm_dirty_ring_size() / 2;
}
