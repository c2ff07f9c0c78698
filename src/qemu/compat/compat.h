/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's headers, and what differs between the supported versions (7.2 to 10.0). Each difference is
 * one block, named after the change in QEMU that made it. This folder is the only place where QEMU
 * versions are compared; the rest of src/qemu is written against the newer form, or against the
 * fut_qemu_* calls below.
 *
 * Include this first in every file of src/qemu.
 */
#ifndef FUT_QEMU_COMPAT_H
#define FUT_QEMU_COMPAT_H

#include "qemu_headers.h"

#define FUT_QEMU_AT_LEAST(major, minor)                                                            \
    (QEMU_VERSION_MAJOR > (major) ||                                                               \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

/* 9.0, "system/cpus: rename qemu_mutex_lock_iothread() to bql_lock()" */
#if !FUT_QEMU_AT_LEAST(9, 0)
#define bql_lock() qemu_mutex_lock_iothread()
#define bql_unlock() qemu_mutex_unlock_iothread()
#define bql_locked() qemu_mutex_iothread_locked()
#endif

/*
 * 9.0, "aio: remove aio_context_acquire()/aio_context_release() API": before, block calls needed
 * the context's lock.
 */
static inline void fut_qemu_aio_acquire(AioContext *context)
{
#if !FUT_QEMU_AT_LEAST(9, 0)
    aio_context_acquire(context);
#endif
}

static inline void fut_qemu_aio_release(AioContext *context)
{
#if !FUT_QEMU_AT_LEAST(9, 0)
    aio_context_release(context);
#endif
}

/* 9.1, "memory: add Error** argument to memory_global_dirty_log_start()". BQL held. */
static inline bool fut_qemu_dirty_log_start(Error **errp)
{
#if FUT_QEMU_AT_LEAST(9, 1)
    return memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION, errp);
#else
    memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION);
    return true;
#endif
}

/* 8.1, the global dirty log's synchronisation is told whether it is the last one. BQL held. */
static inline void fut_qemu_dirty_log_sync(void)
{
#if FUT_QEMU_AT_LEAST(8, 1)
    memory_global_dirty_log_sync(false);
#else
    memory_global_dirty_log_sync();
#endif
}

/* 8.0, bdrv_getlength() became a coroutine wrapper: so did the driver's callback. */
#if FUT_QEMU_AT_LEAST(8, 0)
#define FUT_QEMU_BDRV_GETLENGTH .bdrv_co_getlength
#define fut_qemu_getlength bdrv_co_getlength
#else
#define FUT_QEMU_BDRV_GETLENGTH .bdrv_getlength
#define fut_qemu_getlength bdrv_getlength
#endif

/* 8.1, has_variable_length became a limit of the node: filters inherit it, and name it before. */
#if FUT_QEMU_AT_LEAST(8, 1)
#define FUT_QEMU_BDRV_VARIABLE_LENGTH
#else
#define FUT_QEMU_BDRV_VARIABLE_LENGTH .has_variable_length = true,
#endif

/* 8.1, the block graph got a lock: who walks it holds it for reading. */
#if FUT_QEMU_AT_LEAST(8, 1)
#define FUT_QEMU_GRAPH_RDLOCK_GUARD() GRAPH_RDLOCK_GUARD_MAINLOOP()
#else
#define FUT_QEMU_GRAPH_RDLOCK_GUARD() ((void)0)
#endif

/* The same, for coroutines. */
#if FUT_QEMU_AT_LEAST(8, 1)
#define FUT_QEMU_GRAPH_CO_RDLOCK_GUARD() GRAPH_RDLOCK_GUARD()
#else
#define FUT_QEMU_GRAPH_CO_RDLOCK_GUARD() ((void)0)
#endif

/*
 * 10.0, object_type_get_instance_size() is gone: the size stands third in QEMU's private type
 * record. 0 if there is no such type, or if the record is not what it was.
 */
static inline size_t fut_qemu_instance_size(const char *type)
{
#if FUT_QEMU_AT_LEAST(10, 0)
    struct TypeRecord {
        const char *name;
        size_t class_size;
        size_t instance_size;
    };
    ObjectClass *class = object_class_by_name(type);
    const struct TypeRecord *record = class ? (const struct TypeRecord *)class->type : NULL;

    return record && g_str_equal(record->name, type) ? record->instance_size : 0;
#else
    return object_class_by_name(type) ? object_type_get_instance_size(type) : 0;
#endif
}

/*
 * 8.2, "migration: simplify blockers": the blocker takes the error over and clears the pointer. BQL
 * held.
 */
static inline bool fut_qemu_add_migration_blocker(Error **take_reason, Error **errp)
{
#if FUT_QEMU_AT_LEAST(8, 2)
    return migrate_add_blocker_internal(take_reason, errp) == 0;
#else
    return migrate_add_blocker_internal(*take_reason, errp) == 0;
#endif
}

/*
 * 9.0, "scsi: only access SCSIDevice->requests from one thread": a SCSI device is saved only while the run state says that
 * the guest is stopped. We stop the vCPUs alone, so the run state is changed for the time of a save. What KVM reads of the
 * vCPUs depends on it, and is read before. Returns what ..._save_end() wants. BQL held, vCPUs stopped.
 */
static inline bool fut_qemu_save_begin(void)
{
#if FUT_QEMU_AT_LEAST(9, 0)
    if (runstate_is_running()) {
        cpu_synchronize_all_states();
        runstate_set(RUN_STATE_SAVE_VM);
        return true;
    }
#endif
    return false;
}

static inline void fut_qemu_save_end(bool was_running)
{
    if (was_running) {
        runstate_set(RUN_STATE_RUNNING);
    }
}

/* Whether the guest runs, also for who asks without the BQL, perhaps amid a save. */
static inline bool fut_qemu_runs(void)
{
#if FUT_QEMU_AT_LEAST(9, 0)
    RunState state = runstate_get();

    return state == RUN_STATE_RUNNING || state == RUN_STATE_SAVE_VM;
#else
    return runstate_is_running();
#endif
}

/*
 * 8.1, tb_invalidate_phys_addr() went: all translated code is thrown away there. BQL held, no vCPU
 * executes.
 */
static inline void fut_qemu_forget_code(CPUState *cpu, hwaddr physical)
{
#if FUT_QEMU_AT_LEAST(8, 1)
    tb_flush(cpu);
#else
    tb_invalidate_phys_addr(&address_space_memory, physical, MEMTXATTRS_UNSPECIFIED);
#endif
}

/* 8.2, "exec: Move cpu_neg into CPUState": a vCPU's software TLB of that kind of access. Its own thread. */
static inline const CPUTLBDescFast *fut_qemu_tlb(CPUState *cpu, int mmu_index)
{
#if FUT_QEMU_AT_LEAST(8, 2)
    return &cpu->neg.tlb.f[mmu_index];
#else
    return &env_tlb(cpu->env_ptr)->f[mmu_index];
#endif
}

/*
 * Translating a piece of code, and going through all of them, is private to QEMU's accelerator, and
 * exported all the same; a QEMU without one of these does without. 8.2, "accel/tcg: Replace
 * target_ulong with vaddr": the same type here.
 */
TranslationBlock *tb_gen_code(CPUState *cpu, uint64_t pc, uint64_t cs_base, uint32_t flags,
                              int cflags);
uint32_t curr_cflags(CPUState *cpu);
#pragma weak tb_gen_code
#pragma weak curr_cflags
#pragma weak tb_ctx
#pragma weak tcg_tb_foreach
#pragma weak tcg_nb_tbs
#pragma weak tcg_code_size
#pragma weak tcg_code_capacity

static inline bool fut_qemu_translates(void)
{
    return tcg_enabled() && tb_gen_code && curr_cflags && &tb_ctx && tcg_tb_foreach && tcg_nb_tbs &&
           tcg_code_size && tcg_code_capacity;
}

/*
 * 8.1, "accel/tcg: Introduce CF_PCREL": code that may stand at any address has none from there on. Debian's
 * 7.2 has it and goes by it.
 */
static inline uint64_t fut_qemu_code_address(const TranslationBlock *block)
{
#if FUT_QEMU_AT_LEAST(8, 1)
    if (qatomic_read(&block->cflags) & CF_PCREL) {
        return block->page_addr[0] & ~TARGET_PAGE_MASK;
    }
#endif
    return block->pc;
}

/* 9.0, "include/exec: Change cpu_mmu_index argument to CPUState": of the mode that the vCPU is in. */
static inline int fut_qemu_code_mmu(CPUState *cpu)
{
#if FUT_QEMU_AT_LEAST(9, 0)
    return cpu_mmu_index(cpu, true);
#else
    return cpu_mmu_index(&X86_CPU(cpu)->env, true);
#endif
}

/* 9.0, the list of CPUs got another name: CPU_FOREACH() hides it, once compiled anew. */

#endif
