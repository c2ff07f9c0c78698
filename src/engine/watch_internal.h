/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of a FutWatch: watch.c (the control thread) and watch_hit.c (vCPUs). */
#ifndef FUT_WATCH_INTERNAL_H
#define FUT_WATCH_INTERNAL_H

#include "watch.h"

struct FutWatch {
    FutVmm *vmm;
    void (*wake)(void *opaque);
    void *opaque;
    FutRecordRing *ring;
    /* Written by the control thread, read by vCPUs: set before the probe is put in, cleared after it was taken out. */
    FutProbe *_Atomic probes[FUT_PROBES_MAX];

    /* control thread */
    FutGuestKernel *kernel;
    FutWatched watched[FUT_PROBES_MAX]; /* by the same numbers; definition NULL: none */
    bool changed;                       /* since fut_watch_changed() */
    struct {
        uint64_t syscall_entry; /* of the kernel for which the last try was */
        uint64_t next_ns;       /* not before that, if it is the same one still */
        unsigned wait_ms;       /* grows from try to try; 0: there was none, or all are ready */
    } tries;
    struct {
        uint64_t syscall_entry, table; /* 0: none */
        bool five_levels;
    } hint; /* backup: where the kernel is, as the primary says */
};

#endif
