/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Linux kernel in a guest, known from its memory alone: where it is (whatever KASLR chose), its symbols,
 * its types.
 */
#ifndef FUT_GUEST_KERNEL_H
#define FUT_GUEST_KERNEL_H

#include "guest_memory.h"
#include "guest_types.h"
#include "kallsyms.h"

typedef struct {
    uint64_t syscall_entry; /* MSR LSTAR: an address within the kernel once it is up, else 0 */
    uint32_t boot;          /* how often the machine was reset */
    FutGuestMemory
        memory; /* as the vCPU sees it at the moment, perhaps without most of the kernel */
} FutGuestLook;

typedef struct {
    uint64_t
        syscall_entry; /* with `boot`, tells this start of the kernel from others: without KASLR all have the same address */
    uint32_t boot;
    uint64_t text; /* where the image begins */
    FutGuestMemory memory;
    bool own_table; /* `memory` is by the kernel's own: it stays as long as the kernel */
    FutKallsyms *symbols;
    FutGuestTypes *types;  /* NULL: the kernel has none */
    uint64_t current_task; /* within the per-CPU area; 0: unknown */
    uint64_t clock;        /* address of its jiffies_64; 0: unknown */
    uint64_t clock_seen;   /* what that was last: it never goes back while the kernel runs */
    char banner[160];      /* "Linux version ..." */
    char *symbol_file;     /* owned; where the symbols are from; NULL: from its memory */
} FutGuestKernel;

/*
 * Some tens of milliseconds; the guest may run. `symbol_file`: a System.map or vmlinux of that kernel, for one that has no symbols in its
 * memory; NULL: from there. FUT_ERR_STATE: no kernel is up yet; FUT_ERR_UNSUPPORTED: it is not a Linux whose symbols can be read;
 * FUT_ERR_ARG: the file cannot be read, or is another kernel's.
 */
FutGuestKernel *fut_guest_kernel_read(const FutGuestLook *look, const char *symbol_file,
                                      GError **error);
/*
 * Is it still the one that runs, as far as memory tells? One that was started in its place (kexec), perhaps the same one at the same
 * address, is elsewhere in physical memory than where the old one's table leads to, or says another banner, or its clock has begun anew. What
 * cannot be read tells nothing. `look` is at the vCPU as it is now, with this kernel's syscall_entry and boot.
 */
bool fut_guest_kernel_runs(FutGuestKernel *kernel, const FutGuestLook *look);
void fut_guest_kernel_free(FutGuestKernel *kernel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutGuestKernel, fut_guest_kernel_free)

#endif
