/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens at a hit, in the vCPU's thread: no lock but the ring's, no allocation, a bounded number of reads. */
#include "fut_clock.h"
#include "watch_internal.h"

/* NULL: there is none, or it is not for the kernel that runs: after a restart something else may stand at that address. */
static FutProbe *probe_of(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = atomic_load(&watch->probes[number]);

    return probe && hit->boot == probe->boot && hit->syscall_entry == probe->syscall_entry &&
                   !atomic_load(&probe->gone) && fut_probe_is_there(probe, &hit->memory)
               ? probe
               : NULL;
}

static void look(FutWatch *watch, FutProbe *probe, const FutProbeHit *hit, uint64_t now_ns)
{
    FutProbeValue values[FUT_PROBE_FIELDS_MAX];

    if (fut_probe_evaluate(probe, hit, values) &&
        fut_record_ring_put(watch->ring, probe, hit, values, now_ns)) {
        watch->wake(watch->opaque);
    }
}

uint64_t fut_watch_hit(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = probe_of(watch, number, hit);
    uint64_t begin_ns = fut_now_ns(), back = 0;

    if (!probe) {
        return 0;
    }
    atomic_fetch_add(&probe->hits, 1);
    if (fut_probe_is_too_hot(probe, begin_ns)) {
        return 0;
    }
    if (probe->calls) {
        back = fut_probe_enter(probe, hit);
    } else {
        look(watch, probe, hit, begin_ns);
    }
    fut_probe_spent(probe, fut_now_ns() - begin_ns);
    return back;
}

void fut_watch_returned(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = probe_of(watch, number, hit);
    FutProbeHit whole = *hit;
    uint64_t begin_ns = fut_now_ns();

    if (!probe || !fut_probe_leave(probe, &whole) || fut_probe_is_too_hot(probe, begin_ns)) {
        return;
    }
    look(watch, probe, &whole, begin_ns);
    fut_probe_spent(probe, fut_now_ns() - begin_ns);
}

void fut_watch_unreturned(FutWatch *watch, unsigned number, const FutProbeHit *hit)
{
    FutProbe *probe = probe_of(watch, number, hit);

    if (probe) {
        fut_probe_give_up(probe, hit);
    }
}
