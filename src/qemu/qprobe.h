/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Probes in QEMU: what is common (qprobe.c), and the ways to bring a vCPU to call us where one stands (qprobe_tcg.c, qprobe_kvm.c).
 */
#ifndef FUT_QPROBE_H
#define FUT_QPROBE_H

#include "qvmm.h"

/* The guest's memory as this vCPU sees it; its registers are in `env`. */
FutGuestMemory fut_qprobe_memory(const CPUX86State *env);
FutGuestMemory fut_qprobe_memory_at(uint64_t cr3, uint64_t cr4);
/* A vCPU under TCG, as it stands at `instruction`, in the boot of that number. Its thread. */
FutProbeHit fut_qprobe_hit(CPUState *cpu, uint64_t instruction, uint32_t boot);

/* -- qprobe_tcg.c; the control thread, without the BQL -- */
void fut_qprobe_tcg_init(FutQvmm *qvmm, qemu_plugin_id_t id);
bool fut_qprobe_tcg_insert(FutQvmm *qvmm, unsigned number, const FutProbe *probe, GError **error);
bool fut_qprobe_tcg_remove(FutQvmm *qvmm, unsigned number);

/* -- qprobe_kvm.c -- */
/* The machine is complete, the guest not started. BQL held. */
void fut_qprobe_kvm_init(FutQvmm *qvmm);
/* The control thread, without the BQL. */
bool fut_qprobe_kvm_look(FutGuestLook *ret, GError **error);
bool fut_qprobe_kvm_insert(FutQvmm *qvmm, unsigned number, const FutProbe *probe, GError **error);
bool fut_qprobe_kvm_remove(FutQvmm *qvmm, unsigned number);
/* What is below a page with a probe; NULL: that region is none. Any thread. */
const void *fut_qprobe_kvm_below(const MemoryRegion *region, hwaddr within);

#endif
