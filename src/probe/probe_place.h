/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a probe goes: an address in one kernel, if a probe may stand there. */
#ifndef FUT_PROBE_PLACE_H
#define FUT_PROBE_PLACE_H

#include "guest_kernel.h"
#include "guest_modules.h"

typedef struct {
    const char *module; /* NULL: whosever it is, the kernel's own first */
    const char *function;
    uint32_t offset; /* bytes from its beginning */
    bool is_return;  /* it is to be left, too */
} FutProbePoint;

typedef struct {
    uint64_t address, physical;
    FutGuestModule module; /* whose it is; name "": the kernel's own */
    bool
        passes; /* code stands there for a while only: the kernel gives the memory away when it has booted */
} FutProbePlace;

/*
 * FUT_ERR_ARG: there is no such function (with names like it), or more than one module has it, or no probe can stand there, and why: it is
 * within an instruction, for instance. FUT_ERR_STATE: the module is not loaded now. FUT_ERR_UNSUPPORTED: modules of this kernel cannot be read.
 */
bool fut_probe_place_find(const FutGuestKernel *kernel, const FutProbePoint *point,
                          FutProbePlace *ret, GError **error);

#endif
