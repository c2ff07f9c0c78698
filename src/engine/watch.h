/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The probes of one VM: which there are, and what they have recorded. The kernel in the guest is read when a probe is added, and
 * anew when it is another one than before.
 *
 * A probe that cannot be put in yet waits: for the guest's kernel, or on a backup for its image of the guest. It is tried again by
 * fut_watch_tend().
 *
 * Threads: the control thread calls all of this but fut_watch_hit() and its kin (vmm.h), which vCPUs call.
 */
#ifndef FUT_WATCH_H
#define FUT_WATCH_H

#include "probe_definition.h"
#include "record_ring.h"
#include "vmm.h"

typedef enum {
    FUT_WATCHED_IN,
    FUT_WATCHED_DISABLED,
    FUT_WATCHED_WAITING, /* no vCPU sees it yet; `reason` says why */
    FUT_WATCHED_STALE    /* it is for a kernel that is gone: it sees nothing any more */
} FutWatchedState;

/* One probe that was asked for. */
typedef struct {
    FutProbeDefinition *definition; /* owned */
    FutProbe *probe;                /* owned; NULL while it waits */
    char *reason;                   /* owned; why it waits, or NULL */
    bool in;                        /* vCPUs see it */
} FutWatched;

/* `wake` is called from vCPU threads after a record was made. Touches nothing of the VMM. */
FutWatch *fut_watch_new(FutVmm *vmm, void (*wake)(void *opaque), void *opaque);
/* No probe may be in. */
void fut_watch_free(FutWatch *watch);

/*
 * Puts a probe in, or lets it wait if it may (definition->wait) and the kernel or its module is not up. Borrowed until it is removed. FUT_ERR_BUSY: the
 * name is taken, or FUT_PROBES_MAX are there; else the errors of fut_probe_definition_new(), fut_guest_kernel_read(), fut_probe_new() and
 * probe_insert(): nothing of it is left then.
 */
const FutWatched *fut_watch_add(FutWatch *watch, const FutProbeDefinition *from, GError **error);
/* FUT_ERR_ARG: there is none of that name. */
bool fut_watch_remove(FutWatch *watch, const char *name, GError **error);
/* A disabled probe keeps its counts and costs nothing. Of no effect if it is that already. FUT_ERR_ARG: there is none of that name. */
bool fut_watch_enable(FutWatch *watch, const char *name, bool enabled, GError **error);
/* Of a number below FUT_PROBES_MAX; NULL: none. */
const FutWatched *fut_watch_at(const FutWatch *watch, unsigned number);
FutWatchedState fut_watch_state(const FutWatch *watch, const FutWatched *watched);
/* Finds out whether another kernel was started in the place of the one that the probes are for (kexec): they are stale then. */
void fut_watch_notice(FutWatch *watch);
/* How many there are that see something: neither disabled, nor waiting, nor stale. */
unsigned fut_watch_seeing(const FutWatch *watch);
/* NULL: none was read yet. */
const FutGuestKernel *fut_watch_kernel(const FutWatch *watch);
/* The kernel that runs in the guest, read now unless it was. Borrowed until another call. Errors as of fut_guest_kernel_read(). */
const FutGuestKernel *fut_watch_read_kernel(FutWatch *watch, GError **error);
/* As fut_record_ring_share(). */
int fut_watch_share(FutWatch *watch, GError **error);
/* As fut_record_ring_next(). */
bool fut_watch_next(FutWatch *watch, uint64_t *place, FutProbeRecord *ret, uint64_t *ret_lost);

/* Tries those that wait. `image`: the guest's memory is there, and complete. Returns in how many ms to call it again; -1: need not be. */
int fut_watch_tend(FutWatch *watch, bool image);
/* All there are, to be sent to a backup; true if something has changed since the last call. Appends to `out`. */
bool fut_watch_changed(FutWatch *watch, FutBuf *out);
/* A backup has become primary: something has changed in any case, and those that wait are tried at once. */
void fut_watch_touch(FutWatch *watch);
/* Backup: these in place of all others; they are tried when the image is complete. */
void fut_watch_replace(FutWatch *watch, FutProbeSet *take_set);

#endif
