/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a twin can have done before its hour: between the loss of the primary and the first answer each page that the kernel
 * has to find, and each map that QEMU has to build, is waited for by a client.
 */
#include "qvmm.h"

#include <sys/mman.h>

#include "fut_heap.h"

/* Room for translated code that a vCPU will want at once: some thousand pieces. */
#define CODE_BYTES (4u << 20)
/* QEMU's notes on them. */
#define NOTES_BYTES (512u << 10)

#ifndef MADV_POPULATE_WRITE /* Linux 5.14; an older one refuses it */
#define MADV_POPULATE_WRITE 23
#endif

/* In the vCPU's thread, whose translator it is; BQL held. The buffer is in large pages: the first piece of code would wait for 2 MiB to be cleared. */
static void populate_code(CPUState *cpu, run_on_cpu_data data)
{
    FutQvmm *qvmm = data.host_ptr;
    uintptr_t page = qemu_real_host_page_size();
    uintptr_t begin = tcg_ctx ? (uintptr_t)tcg_ctx->code_gen_ptr : 0;

    if (!qvmm->kept || !in_code_gen_buffer((void *)begin)) {
        return;
    }
    uintptr_t end = MIN(begin + CODE_BYTES, (uintptr_t)tcg_ctx->code_gen_highwater);
    begin &= ~(page - 1);
    end &= ~(page - 1);
    if (begin < end) {
        madvise((void *)begin, end - begin, MADV_POPULATE_WRITE);
    }
    g_ptr_array_add(qvmm->kept, fut_heap_keep(NOTES_BYTES));
}

/* Main loop: the machine was reset. */
static void make_ready(void *opaque)
{
    FutQvmm *qvmm = opaque;
    CPUState *cpu;

    if (!qvmm->standby) {
        return;
    }
    fut_qdevices_open(qvmm);
    if (tcg_enabled()) {
        CPU_FOREACH (cpu) {
            async_run_on_cpu(cpu, populate_code, RUN_ON_CPU_HOST_PTR(qvmm));
        }
    }
}

void fut_qready_go(FutQvmm *qvmm)
{
    for (guint i = 0; qvmm->kept && i < qvmm->kept->len; i++) {
        fut_heap_let_go(qvmm->kept->pdata[i]);
    }
    g_clear_pointer(&qvmm->kept, g_ptr_array_unref);
}

void fut_qready_init(FutQvmm *qvmm)
{
    qvmm->kept = g_ptr_array_new();
    aio_bh_schedule_oneshot(qemu_get_aio_context(), make_ready, qvmm);
}
