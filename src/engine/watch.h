/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The probes of one VM: which there are, and what they have recorded. The kernel in the guest is read when a probe is added, and
 * anew when it is another one than before.
 *
 * Threads: the control thread calls all of this but fut_watch_hit() (vmm.h), which vCPUs call.
 */
#ifndef FUT_WATCH_H
#define FUT_WATCH_H

#include "record_ring.h"
#include "vmm.h"

/* `wake` is called from vCPU threads after a record was made. Touches nothing of the VMM. */
FutWatch *fut_watch_new(FutVmm *vmm, void (*wake)(void *opaque), void *opaque);
/* No probe may be in. */
void fut_watch_free(FutWatch *watch);

/*
 * Puts a probe in; `name` may be NULL (then it is the function's), `filter` too. Borrowed until it is removed. FUT_ERR_BUSY: the name is taken, or
 * FUT_PROBES_MAX are in; else the errors of fut_guest_kernel_read(), fut_probe_new() and probe_insert().
 */
const FutProbe *fut_watch_add(FutWatch *watch, const char *name, const char *text,
                              const char *filter, GError **error);
/* FUT_ERR_ARG: there is none of that name. */
bool fut_watch_remove(FutWatch *watch, const char *name, GError **error);
/* Probe of a number below FUT_PROBES_MAX; NULL: none. */
const FutProbe *fut_watch_probe(const FutWatch *watch, unsigned number);
/* NULL: none was read yet. */
const FutGuestKernel *fut_watch_kernel(const FutWatch *watch);
/* The guest's kernel is not the one this probe was made for: it sees nothing any more. */
bool fut_watch_is_stale(const FutWatch *watch, const FutProbe *probe);
/* As fut_record_ring_share(). */
int fut_watch_share(FutWatch *watch, GError **error);
/* As fut_record_ring_next(). */
bool fut_watch_next(FutWatch *watch, uint64_t *place, FutProbeRecord *ret, uint64_t *ret_lost);

#endif
