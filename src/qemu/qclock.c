/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clocks over a cut. The saved state must hold clocks that stand still, so they are
 * stopped for it. QEMU would let them go on from where they stood, and a guest with some thousand
 * checkpoints a second would fall behind the world by a quarter; here they go on as if they had
 * never stopped. To the guest a cut is like the time a busy host takes away.
 */
#include "qvmm.h"

void fut_qclock_stop(FutQclock *clock)
{
    clock->ticks_offset = timers_state.cpu_ticks_offset;
    clock->time_offset = timers_state.cpu_clock_offset;
    cpu_disable_ticks();
}

void fut_qclock_go_on(const FutQclock *clock)
{
    /*
     * Somebody has stopped and continued the VM meanwhile: then the clocks stood still on purpose.
     */
    bool still = !timers_state.cpu_ticks_enabled;

    cpu_enable_ticks();
    if (!still) {
        return;
    }
    seqlock_write_lock(&timers_state.vm_clock_seqlock, &timers_state.vm_clock_lock);
    timers_state.cpu_ticks_offset = clock->ticks_offset;
    timers_state.cpu_clock_offset = clock->time_offset;
    seqlock_write_unlock(&timers_state.vm_clock_seqlock, &timers_state.vm_clock_lock);
}
