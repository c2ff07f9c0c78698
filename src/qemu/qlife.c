/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running, halting and ending the VM. */
#include "qvmm.h"

#include "fut_error.h"

/* -- not running when it must not -- */

static bool must_not_run(const FutQvmm *qvmm)
{
    return qvmm->halted || qvmm->standby;
}

/*
 * Called inside QEMU's start of the VM, before the vCPUs are let go. Stopping here means that they
 * are not.
 */
static void state_changed(void *opaque, bool running, RunState state)
{
    FutQvmm *qvmm = opaque;

    if (!running) {
        if (state == RUN_STATE_GUEST_PANICKED) {
            fut_qpanic_seen(qvmm);
        }
        return;
    }
    if (must_not_run(qvmm)) {
        vm_stop(RUN_STATE_PAUSED);
        return;
    }
    fut_qcut_running(qvmm);
}

void fut_qlife_init(FutQvmm *qvmm)
{
    qemu_add_vm_change_state_handler(state_changed, qvmm);
}

/* -- operations -- */

bool fut_qlife_run(FutVmm *vmm, GError **error)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();

    qvmm->standby = false;
    fut_qready_go(qvmm);
    if (!qvmm->halted) {
        vm_start();
    }
    bool running = runstate_is_running();
    fut_qvmm_unlock(taken);
    if (!running) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "QEMU does not start the guest: %s",
                    qvmm->halted ? "it was halted, end this QEMU"
                                 : "see its run state (QMP query-status)");
    }
    return running;
}

void fut_qlife_announce(FutVmm *vmm)
{
    static AnnounceTimer timer;
    bool taken = fut_qvmm_lock();

    qemu_announce_self(&timer, migrate_announce_params());
    fut_qvmm_unlock(taken);
}

static void main_loop_runs(void *opaque)
{
    qemu_sem_post(opaque);
}

/* The main loop begins after the machine's reset, which puts its ROMs into memory. */
void fut_qlife_settle(FutVmm *vmm)
{
    QemuSemaphore runs;

    qemu_sem_init(&runs, 0);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), main_loop_runs, &runs);
    qemu_sem_wait(&runs);
    qemu_sem_destroy(&runs);
}

void fut_qlife_halt(FutVmm *vmm)
{
    FutQvmm *qvmm = (FutQvmm *)vmm;
    bool taken = fut_qvmm_lock();

    qvmm->halted = true;
    if (runstate_is_running()) {
        /*
         * In this state QEMU refuses to continue, with a message; a reset leads out of it, but not
         * past must_not_run().
         */
        vm_stop(RUN_STATE_INTERNAL_ERROR);
    }
    fut_qvmm_unlock(taken);
}

static int quit_failed;

void fut_qlife_exit_status(void)
{
    if (qatomic_read(&quit_failed)) {
        fflush(NULL);
        _exit(EXIT_FAILURE);
    }
}

/* QEMU's own request knows no exit status in 7.2. */
void fut_qlife_quit(FutVmm *vmm, bool failed)
{
    bool taken = fut_qvmm_lock();

    if (failed) {
        qatomic_set(&quit_failed, 1);
    }

    /* As QMP's quit: also with -no-shutdown. */
    shutdown_action = SHUTDOWN_ACTION_POWEROFF;
    qemu_system_shutdown_request(SHUTDOWN_CAUSE_HOST_QMP_QUIT);
    fut_qvmm_unlock(taken);
}

bool fut_qlife_running(FutVmm *vmm)
{
    return fut_qemu_runs();
}
