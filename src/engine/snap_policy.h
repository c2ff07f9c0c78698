/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the next snapshot of a series is due. Pure.
 *
 * by cpu: from Nanzan University's snapshot method: the interval follows the guest's use of its vCPUs; an idle guest is
 * saved often, as that disturbs nobody, a busy one seldom.
 * by dirty: what a snapshot has cost the guest (its stops, and the writes that met the protection) may be no more than a share of its time. The cost
 * of the last ones tells how far apart they have to be; and a guest that wrote nothing needs none. */
#ifndef FUT_SNAP_POLICY_H
#define FUT_SNAP_POLICY_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FUT_SNAP_BY_CPU,
    FUT_SNAP_BY_DIRTY
} FutSnapBy;

typedef struct {
    FutSnapBy by;
    uint64_t min_ns, max_ns; /* between the beginnings of two; 0 < min_ns <= max_ns */
    double cost;             /* by dirty: share of the guest's time, > 0 */
} FutSnapPolicy;

typedef struct {
    FutSnapPolicy policy;
    uint64_t last_ns;  /* when the last one began; 0: none yet */
    double busy;       /* moving mean of the share of the vCPUs' time that was used */
    double cost_ns;    /* moving mean of what one cost the guest */
    unsigned failures; /* one after the other */
} FutSnapClock;

/* The guest waits about so long at a write that meets the protection. */
#define FUT_SNAP_FAULT_NS 30000

void fut_snap_clock_init(FutSnapClock *clock, const FutSnapPolicy *policy);
/* The vCPUs were busy for that share (0..1) of the last time. */
void fut_snap_clock_busy(FutSnapClock *clock, double busy);
/* One has begun at that time. */
void fut_snap_clock_began(FutSnapClock *clock, uint64_t now_ns);
/* It is done: it stopped the guest so long in all, and so many writes met the protection. */
void fut_snap_clock_done(FutSnapClock *clock, uint64_t stop_ns, uint64_t faults);
/* It did not come about: the next one waits, longer each time, up to max_ns. */
void fut_snap_clock_failed(FutSnapClock *clock);
/* How far apart they are to be now, min_ns..max_ns. */
uint64_t fut_snap_clock_interval(const FutSnapClock *clock);
/* When the next one is due; the first one is at once. */
uint64_t fut_snap_clock_due(const FutSnapClock *clock);

#endif
