/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cuts: the engine asks, the guest is stopped (qstop.c), the engine captures, the guest goes on.
 *
 * At most one cut is under way; a request during it leads to one more afterwards. The request
 * itself takes no lock while one is pending, because every packet that the guest sends may make
 * one.
 */
#include "qvmm.h"

#include "fut_clock.h"

/* This vCPU thread is in fut_qcut_idle(), and has asked for a cut there. */
static __thread bool in_idle, asked_in_idle;

/* -- asking -- */

/* True if there was no cut under way: the caller has to post it. */
static bool mark_asked(FutQcut *cut)
{
    for (;;) {
        int state = qatomic_read(&cut->state);
        if (state == FUT_QCUT_ASKED || state == FUT_QCUT_AGAIN) {
            return false;
        }
        int next = state == FUT_QCUT_IDLE ? FUT_QCUT_ASKED : FUT_QCUT_AGAIN;
        if (qatomic_cmpxchg(&cut->state, state, next) == state) {
            return next == FUT_QCUT_ASKED;
        }
    }
}

void fut_qcut_request(FutVmm *vmm)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;

    if (qatomic_read(&qvmm->cut.ending) || !mark_asked(&qvmm->cut)) {
        return;
    }
    if (in_idle) {
        asked_in_idle = true;
        return;
    }
    bool taken = fut_qvmm_lock();
    fut_qstop_post(&qvmm->cut.stop);
    fut_qvmm_unlock(taken);
}

/* The cut is over, or could not be. BQL held. */
static void cut_ends(FutQvmm *qvmm)
{
    if (qatomic_xchg(&qvmm->cut.state, FUT_QCUT_IDLE) == FUT_QCUT_AGAIN) {
        fut_qcut_request(&qvmm->vmm);
    }
}

/* -- cutting -- */

static void post_again(void *opaque)
{
    FutQvmm *qvmm = opaque;

    fut_qstop_post(&qvmm->cut.stop);
}

static bool somebody_paused(void)
{
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        if (cpu->stopped) {
            return true;
        }
    }
    return false;
}

/* Guest stopped. False: not now; what has to happen for a later try is arranged. */
static bool may_cut(FutQvmm *qvmm)
{
    FutQcut *cut = &qvmm->cut;

    if (qatomic_read(&cut->ending) || !runstate_is_running() || cut->staying) {
        cut->wanted = true;
        cut_ends(qvmm);
        return false;
    }
    if (cut->stop.way != FUT_QSTOP_PAUSE && somebody_paused()) {
        /*
         * The main loop has paused the vCPUs for a moment, to reset the machine for instance, and
         * waits for a vCPU thread in between: the machine is not consistent. Try when the main loop
         * is through.
         */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), post_again, qvmm);
        return false;
    }
    if (fut_qide_in_gap(&qvmm->ide, fut_now_ns())) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), post_again, qvmm);
        return false;
    }
    return true;
}

/*
 * vCPUs do not enter the guest again until fut_qcut_resume(). Does not wait for them: none of them
 * executes now, and the clocks stand still.
 */
static void keep_stopped(FutQvmm *qvmm)
{
    CPUState *cpu;

    qvmm->cut.staying = true;
    if (qvmm->cut.stop.way == FUT_QSTOP_PAUSE) {
        return;
    }
    CPU_FOREACH (cpu) {
        cpu->stop = true;
        qemu_cpu_kick(cpu);
    }
}

static bool cut_run(FutQstop *stop)
{
    FutQvmm *qvmm = stop->qvmm;

    if (!may_cut(qvmm)) {
        return false;
    }
    qatomic_xchg(&qvmm->cut.state, FUT_QCUT_RUNNING);
    fut_qclock_stop(&qvmm->cut.clock);
    /* Requests on their way are not part of the device state. */
    fut_qblock_drain(qvmm);
    fut_qnotify_deliver(qvmm);
    if (fut_engine_cut(qvmm->vmm.engine, stop->begin_ns) == FUT_CUT_STAY) {
        keep_stopped(qvmm);
    } else {
        fut_qclock_go_on(&qvmm->cut.clock);
    }
    return true;
}

/* Sending may wait for a slow peer: the rest of QEMU goes on meanwhile. */
static void cut_after(FutQstop *stop)
{
    FutQvmm *qvmm = stop->qvmm;

    bql_unlock();
    fut_engine_cut_done(qvmm->vmm.engine);
    bql_lock();
    cut_ends(qvmm);
}

/* -- afterwards -- */

void fut_qcut_running(FutQvmm *qvmm)
{
    if (qvmm->cut.wanted) {
        qvmm->cut.wanted = false;
        fut_qcut_request(&qvmm->vmm);
    }
}

void fut_qcut_resume(FutVmm *vmm)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();

    if (qvmm->cut.staying) {
        qvmm->cut.staying = false;
        if (runstate_is_running()) {
            fut_qclock_go_on(&qvmm->cut.clock);
            resume_all_vcpus();
            fut_qcut_running(qvmm);
        }
    }
    fut_qvmm_unlock(taken);
}

/* -- the sleeping vCPU -- */

static void kick_first(void *opaque)
{
    qemu_cpu_kick(first_cpu);
}

/*
 * QEMU calls this once before it sleeps, and does not look again whether it should: what becomes
 * pending in here, also while the BQL is dropped, would wait for the next kick. So the main loop is
 * asked to give one: it gets the BQL only when the vCPU sleeps.
 */
static void cut_while_idle(FutQvmm *qvmm)
{
    CPUState *cpu = current_cpu;

    qvmm->cut.stop.way = FUT_QSTOP_THREAD;
    qvmm->cut.stop.begin_ns = fut_now_ns();
    if (cut_run(&qvmm->cut.stop)) {
        cut_after(&qvmm->cut.stop);
    }
    if (!cpu_thread_is_idle(cpu)) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), kick_first, qvmm);
    }
}

bool fut_qcut_asleep(void)
{
    CPUState *cpu;

    CPU_FOREACH (cpu) {
        if (!cpu->halted || cpu_has_work(cpu)) {
            return false;
        }
    }
    return true;
}

void fut_qcut_idle(FutQvmm *qvmm)
{
    if (!qvmm->vmm.engine || !runstate_is_running() || qvmm->cut.staying || somebody_paused()) {
        return;
    }
    in_idle = true;
    asked_in_idle = false;
    fut_engine_idle(qvmm->vmm.engine);
    in_idle = false;
    if (!asked_in_idle) {
        return;
    }
    if (CPU_NEXT(first_cpu)) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), post_again, qvmm);
    } else {
        cut_while_idle(qvmm);
    }
}

void fut_qcut_init(FutQvmm *qvmm)
{
    qvmm->cut.stop = (FutQstop){ .qvmm = qvmm, .run = cut_run, .after = cut_after };
}
