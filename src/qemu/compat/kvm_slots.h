/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's memory slots, as QEMU keeps them in its accelerator's private object. That is looked at only
 * after it was compared with what QEMU's functions say.
 */
#ifndef FUT_KVM_SLOTS_H
#define FUT_KVM_SLOTS_H

#include "compat.h"

/* What the object holds of the rings is what QEMU says, and its first memory is the machine's. */
static inline bool fut_qemu_kvm_understood(void)
{
    const KVMState *kvm = kvm_state;

    return kvm->kvm_dirty_ring_size == kvm_dirty_ring_size() &&
           kvm->kvm_dirty_ring_bytes == kvm->kvm_dirty_ring_size * sizeof(struct kvm_dirty_gfn) &&
           kvm->nr_as >= 1 && kvm->nr_as <= 2 && kvm->as &&
           kvm->as[0].as == &address_space_memory && kvm->as[0].ml == &kvm->memory_listener;
}

/*
 * The page that a ring's entry means, as QEMU numbers RAM; UINT64_MAX if there is none. The slots
 * change only with the BQL held.
 */
static inline uint64_t fut_qemu_kvm_page(uint32_t slot, uint64_t offset)
{
    unsigned space = slot >> 16;
    uint32_t number = slot & 0xffff;

    if (space >= (unsigned)kvm_state->nr_as ||
        number >= kvm_state->as[space].ml->nr_slots_allocated) {
        return UINT64_MAX;
    }
    const KVMSlot *found = &kvm_state->as[space].ml->slots[number];
    if (found->slot != (int)number || offset >= found->memory_size >> TARGET_PAGE_BITS) {
        return UINT64_MAX;
    }
    return (found->ram_start_offset >> TARGET_PAGE_BITS) + offset;
}

#endif
