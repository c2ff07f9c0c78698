/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interval between snapshots. */
#include "snap_policy.h"

#include <glib.h>

/* Weight of the newest in a moving mean. */
#define WEIGHT 0.3
/* Failures after which waiting does not grow any more. */
#define FAILURES_MAX 16

void fut_snap_clock_init(FutSnapClock *clock, const FutSnapPolicy *policy)
{
    g_assert(policy->min_ns > 0 && policy->min_ns <= policy->max_ns && policy->cost > 0);
    *clock = (FutSnapClock){ .policy = *policy };
}

void fut_snap_clock_busy(FutSnapClock *clock, double busy)
{
    clock->busy += WEIGHT * (CLAMP(busy, 0.0, 1.0) - clock->busy);
}

void fut_snap_clock_began(FutSnapClock *clock, uint64_t now_ns)
{
    clock->last_ns = MAX(now_ns, 1);
}

void fut_snap_clock_done(FutSnapClock *clock, uint64_t stop_ns, uint64_t faults)
{
    double cost_ns = (double)stop_ns + (double)faults * FUT_SNAP_FAULT_NS;

    clock->failures = 0;
    /* What has become dearer counts at once, what has become cheaper by and by. */
    clock->cost_ns =
        cost_ns > clock->cost_ns ? cost_ns : clock->cost_ns + WEIGHT * (cost_ns - clock->cost_ns);
}

void fut_snap_clock_failed(FutSnapClock *clock)
{
    clock->failures = MIN(clock->failures + 1, FAILURES_MAX);
}

uint64_t fut_snap_clock_interval(const FutSnapClock *clock)
{
    const FutSnapPolicy *policy = &clock->policy;
    double min_ns = (double)policy->min_ns, max_ns = (double)policy->max_ns, wish_ns;

    if (clock->failures > 0) {
        wish_ns = min_ns * (double)(1u << clock->failures);
    } else if (policy->by == FUT_SNAP_BY_CPU) {
        wish_ns = min_ns + clock->busy * (max_ns - min_ns);
    } else {
        wish_ns = clock->cost_ns / policy->cost;
    }
    return (uint64_t)CLAMP(wish_ns, min_ns, max_ns);
}

uint64_t fut_snap_clock_due(const FutSnapClock *clock)
{
    return clock->last_ns == 0 ? 0 : clock->last_ns + fut_snap_clock_interval(clock);
}
