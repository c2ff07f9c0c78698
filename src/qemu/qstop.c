/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a function while no vCPU executes. What is cheapest depends on how the vCPUs are
 * threaded:
 *
 * - One vCPU, or all of them in one thread: as work of that thread. It runs between two translated
 *   blocks, with the BQL, and costs no handshake.
 * - Several TCG threads: as exclusive work. QEMU keeps the others out of the guest and drops the
 *   BQL for the waiting; it is taken again inside. That cannot deadlock: nobody waits for the end
 *   of exclusive work with the BQL held (vCPUs wait for it before they enter the guest, without the
 *   BQL), and whoever holds the BQL lets go of it without our help.
 * - Several KVM threads: from the main loop with all vCPUs paused, because reading their registers
 *   needs their threads.
 *
 * All three also work when the guest sleeps or the VM is paused: vCPU threads do their work even
 * then.
 */
#include "qvmm.h"

#include "fut_clock.h"

static FutQstopWay choose_way(void)
{
    if (!CPU_NEXT(first_cpu)) {
        return FUT_QSTOP_THREAD;
    }
    if (!tcg_enabled()) {
        return FUT_QSTOP_PAUSE;
    }
    return qemu_tcg_mttcg_enabled() ? FUT_QSTOP_EXCLUSIVE : FUT_QSTOP_THREAD;
}

static void run_after(CPUState *cpu, run_on_cpu_data data)
{
    FutQstop *stop = data.host_ptr;

    stop->after(stop);
}

static void run_in_thread(CPUState *cpu, run_on_cpu_data data)
{
    FutQstop *stop = data.host_ptr;

    stop->begin_ns = fut_now_ns();
    if (stop->run(stop)) {
        stop->after(stop);
    }
}

static void run_exclusive(CPUState *cpu, run_on_cpu_data data)
{
    FutQstop *stop = data.host_ptr;

    stop->begin_ns = fut_now_ns();
    bql_lock();
    if (stop->run(stop)) {
        /* Done next by this thread, when the others are let into the guest again. */
        async_run_on_cpu(cpu, run_after, data);
    }
    bql_unlock();
}

static void run_paused(void *opaque)
{
    FutQstop *stop = opaque;
    FutQvmm *qvmm = stop->qvmm;

    if (current_cpu) {
        /*
         * A vCPU in the middle of an instruction polls for the main loop (a device waits for its
         * disk): not now.
         */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), run_paused, stop);
        return;
    }
    stop->begin_ns = fut_now_ns();
    pause_all_vcpus();
    bool after = stop->run(stop);
    if (!qvmm->cut.staying) {
        resume_all_vcpus();
    }
    if (after) {
        stop->after(stop);
    }
}

void fut_qstop_post(FutQstop *stop)
{
    CPUState *cpu = current_cpu ? current_cpu : first_cpu;

    stop->way = choose_way();
    switch (stop->way) {
    case FUT_QSTOP_THREAD:
        async_run_on_cpu(cpu, run_in_thread, RUN_ON_CPU_HOST_PTR(stop));
        break;
    case FUT_QSTOP_EXCLUSIVE:
        async_safe_run_on_cpu(cpu, run_exclusive, RUN_ON_CPU_HOST_PTR(stop));
        break;
    case FUT_QSTOP_PAUSE:
        aio_bh_schedule_oneshot(qemu_get_aio_context(), run_paused, stop);
        break;
    }
}

/* -- waiting for one -- */

/* Owned by the caller and the callee together: the second to leave frees it. */
typedef struct {
    FutQstop stop;
    void (*run)(FutQvmm *qvmm);
    GMutex lock;
    GCond changed;
    bool made;
    gint users;
} WaitedCall;

static void waited_call_unref(WaitedCall *call)
{
    if (g_atomic_int_dec_and_test(&call->users)) {
        g_mutex_clear(&call->lock);
        g_cond_clear(&call->changed);
        g_free(call);
    }
}

static bool run_waited(FutQstop *stop)
{
    WaitedCall *call = container_of(stop, WaitedCall, stop);

    call->run(stop->qvmm);
    g_mutex_lock(&call->lock);
    call->made = true;
    g_cond_signal(&call->changed);
    g_mutex_unlock(&call->lock);
    waited_call_unref(call);
    return false;
}

/* At the end of QEMU the threads that make calls may be gone: look every now and then. */
#define ENDING_POLL_MS 50

static bool waited_call_wait(WaitedCall *call, FutQvmm *qvmm)
{
    bool made;

    g_mutex_lock(&call->lock);
    while (!call->made && !qatomic_read(&qvmm->cut.ending)) {
        g_cond_wait_until(&call->changed, &call->lock,
                          g_get_monotonic_time() + ENDING_POLL_MS * 1000);
    }
    made = call->made;
    g_mutex_unlock(&call->lock);
    return made;
}

bool fut_qstop_call(FutQvmm *qvmm, void (*run)(FutQvmm *qvmm))
{
    WaitedCall *call = g_new0(WaitedCall, 1);

    g_assert(!bql_locked());
    g_mutex_init(&call->lock);
    g_cond_init(&call->changed);
    call->users = 2;
    call->stop.qvmm = qvmm;
    call->stop.run = run_waited;
    call->run = run;

    bool taken = fut_qvmm_lock();
    fut_qstop_post(&call->stop);
    fut_qvmm_unlock(taken);
    bool made = waited_call_wait(call, qvmm);
    waited_call_unref(call);
    return made;
}
