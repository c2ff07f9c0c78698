/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory, and which of its pages were written (qdirty.h). QEMU keeps a bitmap a client; the
 * one of migration is used here.
 *
 * Under TCG a clean page must also be made slow to write again in every vCPU's TLB: QEMU's own
 * migration code leaves that to a walk this module does not make. Under KVM the kernel has its own
 * log: rings, which are read here, or a bitmap, which QEMU copies into its own.
 */
#include "qdirty.h"

#include "fut_error.h"
#include "fut_log.h"

/* So many collections are checked at first, as what is wrong will mostly be so from the start. */
#define CHECKS_FIRST 16

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

/* -- collecting -- */

/* What was taken is watched from here on: the next write marks it again. */
static void watch_again(const FutQvmm *qvmm, const FutQtaken *taken)
{
    CPUState *cpu;

    if (tcg_enabled() && taken->count > 0) {
        CPU_FOREACH (cpu) {
            tlb_reset_dirty(cpu, taken->begin, taken->end - taken->begin);
        }
    }
    for (unsigned i = 0; kvm_enabled() && !kvm_dirty_ring_enabled() && i < qvmm->memory.count;
         i++) {
        if (taken->blocks[i / 64] >> (i % 64) & 1) {
            memory_region_clear_dirty_bitmap(qvmm->blocks[i]->mr, 0, qvmm->blocks[i]->used_length);
        }
    }
}

/* KVM has overrun a ring: what was written is not known, neither now nor later. */
static void give_up_tracking(FutQvmm *qvmm)
{
    qvmm->dirty.stats.tracker = FUT_TRACKER_ALL;
    fut_qqueue_end();
    fut_log(FUT_LOG_ERROR, "FUT-205",
            "KVM has overrun a dirty ring: from now on all memory is compared at each checkpoint, "
            "which is very slow: start QEMU with dirty-ring-size=65536, or without it");
}

/* Takes all marks there are, QEMU's own log included. */
static void scan(FutQvmm *qvmm, FutQtaken *taken,
                 void (*take_marks)(const FutQvmm *qvmm, FutQtaken *taken))
{
    if (!tcg_enabled()) {
        fut_qemu_dirty_log_sync();
    }
    take_marks(qvmm, taken);
    fut_qqueue_clear();
    qvmm->dirty.stats.scans++;
    if (kvm_enabled() && kvm_dirty_ring_enabled()) {
        fut_qring_follow();
        if (!fut_qring_intact()) {
            give_up_tracking(qvmm);
        }
    }
}

/* All marks are clear now, or the queue has missed some. These are taken, and the queue is not
 * relied on again. */
static void check_queue(FutQvmm *qvmm, FutQtaken *taken)
{
    FutDirtyStats *stats = &qvmm->dirty.stats;
    size_t before = taken->count;

    fut_qscan_words(qvmm, taken);
    stats->checks++;
    if (taken->count > before) {
        stats->mismatches++;
        stats->tracker = FUT_TRACKER_WORDS;
        fut_qqueue_end();
        fut_log(FUT_LOG_WARN, "FUT-204",
                "the queue of written pages missed %zu of %zu: from now on all of memory is "
                "searched; please report this as a bug",
                taken->count - before, taken->count);
    }
}

static void take_queue(FutQvmm *qvmm, FutQtaken *taken)
{
    unsigned every = fut_engine_tracker_check_every(qvmm->vmm.engine);
    uint64_t number = ++qvmm->dirty.stats.collections;

    if ((kvm_enabled() && !fut_qring_take()) || !fut_qqueue_take(qvmm, taken)) {
        scan(qvmm, taken, fut_qscan_words);
    } else if (number <= CHECKS_FIRST || (every > 0 && number % every == 0)) {
        check_queue(qvmm, taken);
    }
}

void fut_qmemory_collect(FutVmm *vmm, FutPageSet *set)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    FutQtaken taken = { .set = set };

    RCU_READ_LOCK_GUARD();
    switch (qvmm->dirty.stats.tracker) {
    case FUT_TRACKER_QUEUE:
        take_queue(qvmm, &taken);
        break;
    case FUT_TRACKER_WORDS:
        scan(qvmm, &taken, fut_qscan_words);
        break;
    case FUT_TRACKER_FLAGS:
        scan(qvmm, &taken, fut_qscan_flags);
        break;
    case FUT_TRACKER_ALL:
        break;
    }
    watch_again(qvmm, &taken);
    if (qvmm->dirty.stats.tracker == FUT_TRACKER_ALL && set) {
        fut_pageset_clear(set);
        fut_qscan_all(qvmm, &(FutQtaken){ .set = set });
    }
}

void fut_qmemory_stats(FutVmm *vmm, FutDirtyStats *ret)
{
    const FutQdirty *dirty = &((FutQvmm *)vmm)->dirty;

    *ret = dirty->on ? dirty->stats : (FutDirtyStats){ .tracker = fut_engine_tracker(vmm->engine) };
}

/* -- beginning and end -- */

/* The one asked for, or what can be done here instead of it. */
static FutTracker choose_tracker(FutQvmm *qvmm)
{
    FutTracker asked = fut_engine_tracker(qvmm->vmm.engine);
    g_autoptr(GError) error = NULL;

    if (asked != FUT_TRACKER_QUEUE) {
        return asked;
    }
    if ((tcg_enabled() || fut_qring_check(&error)) && fut_qqueue_install(&error) &&
        fut_qqueue_begin(&error)) {
        return FUT_TRACKER_QUEUE;
    }
    fut_log(FUT_LOG_WARN, "FUT-203",
            "written pages are searched for in all of memory, which is slower: %s", error->message);
    return FUT_TRACKER_WORDS;
}

/* Guest stopped: what was marked before tracking began is nobody's business. */
static void begin(FutQvmm *qvmm)
{
    FutQtaken taken = { .set = NULL };

    qvmm->dirty.stats = (FutDirtyStats){ .tracker = choose_tracker(qvmm) };
    RCU_READ_LOCK_GUARD();
    scan(qvmm, &taken, fut_qscan_words);
    watch_again(qvmm, &taken);
    qvmm->dirty.stats.scans = 0;
}

static bool start(FutQvmm *qvmm, FutPurpose purpose, GError **error)
{
    Error *reason = NULL;
    bool taken = fut_qvmm_lock();
    bool first = qvmm->dirty.on == 0;
    bool on = !first || fut_qemu_dirty_log_start(&reason);

    qvmm->dirty.on |= on ? purpose : 0;
    fut_qvmm_unlock(taken);
    if (on && !first) {
        return true; /* marks that are set are somebody's already: they stay */
    }
    if (!on) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "QEMU cannot log memory writes: %s: use -accel tcg", error_get_pretty(reason));
        error_free(reason);
        return false;
    }
    if (!fut_qstop_call(qvmm, begin)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "this QEMU is about to end: start it anew");
        return false;
    }
    return true;
}

/*
 * A page that a balloon gives back to the host loses its protection, and what was in it at a
 * snapshot's cut: as QEMU does for its own snapshots, the balloon gives nothing back meanwhile.
 */
bool fut_qmemory_start(FutVmm *vmm, FutPurpose purpose, GError **error)
{
    bool keep = purpose == FUT_FOR_SNAPSHOTS;

    if (keep && ram_block_discard_disable(true) != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "a device of this VM has to give memory back to the host (virtio-mem): leave "
                    "it out to take snapshots");
        return false;
    }
    bool started = start((FutQvmm *)vmm, purpose, error);
    if (keep && !started) {
        ram_block_discard_disable(false);
    }
    if (keep && started) {
        fut_qhot_follow((FutQvmm *)vmm, true);
    }
    return started;
}

void fut_qmemory_stop(FutVmm *vmm, FutPurpose purpose)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();
    bool last = qvmm->dirty.on == (unsigned)purpose;

    qvmm->dirty.on &= ~(unsigned)purpose;
    if (last) {
        fut_qqueue_end();
        memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION);
    }
    fut_qvmm_unlock(taken);
    if (purpose == FUT_FOR_SNAPSHOTS) {
        fut_qhot_follow(qvmm, false);
        ram_block_discard_disable(false);
    }
}
