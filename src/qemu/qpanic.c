/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest whose kernel has panicked. QEMU hears of it from a device (pvpanic, for instance) and
 * stops the guest; its twin, being the same, would panic too.
 */
#include "qvmm.h"

#include "fut_clock.h"

#define RESTARTS_BURST 3
#define RESTART_EVERY_NS (600 * FUT_NS_PER_S)

void fut_qpanic_init(FutQvmm *qvmm)
{
    static const PanicAction actions[] = {
        [FUT_PANIC_REPORT] = PANIC_ACTION_PAUSE,
        [FUT_PANIC_RESTART] = PANIC_ACTION_PAUSE,
        [FUT_PANIC_STOP] = PANIC_ACTION_SHUTDOWN,
    };
    FutPanic panic = fut_engine_on_panic(qvmm->vmm.engine);

    qvmm->restarts = (FutRate)FUT_RATE_INIT(RESTARTS_BURST, RESTART_EVERY_NS);
    if (panic != FUT_PANIC_VMM) {
        panic_action = actions[panic];
    }
}

/* Main loop, BQL held, after QEMU has stopped the guest. */
static void restart(void *opaque)
{
    FutQvmm *qvmm = opaque;

    if (!qvmm->halted && runstate_check(RUN_STATE_GUEST_PANICKED)) {
        qemu_system_reset(SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET);
        vm_start();
    }
}

void fut_qpanic_seen(FutQvmm *qvmm)
{
    FutPanic panic = fut_engine_on_panic(qvmm->vmm.engine);
    const char *outcome = "what -action panic= says is done";
    uint64_t kept_back;

    if (panic == FUT_PANIC_RESTART && fut_rate_pass(&qvmm->restarts, fut_now_ns(), &kept_back)) {
        outcome = "it starts anew";
        aio_bh_schedule_oneshot(qemu_get_aio_context(), restart, qvmm);
    } else if (panic == FUT_PANIC_RESTART) {
        outcome = "it stays stopped, having started anew too often";
    } else if (panic == FUT_PANIC_REPORT) {
        outcome = "it stays stopped";
    } else if (panic == FUT_PANIC_STOP) {
        outcome = "the VM ends";
    }
    fut_engine_panicked(qvmm->vmm.engine, outcome);
}
