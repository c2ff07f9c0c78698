/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a probe goes: the function's address in one kernel, if a probe may stand there. */
#ifndef FUT_PROBE_PLACE_H
#define FUT_PROBE_PLACE_H

#include "guest_kernel.h"

typedef struct {
    uint64_t address, physical;
    bool
        passes; /* code stands there for a while only: the kernel gives the memory away when it has booted */
} FutProbePlace;

/*
 * `is_return`: it is to be left, too. FUT_ERR_ARG: there is no such function (with names like it), or no probe can stand there, and why.
 */
bool fut_probe_place_find(const FutGuestKernel *kernel, const char *function, bool is_return,
                          FutProbePlace *ret, GError **error);

#endif
