/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM that begins as a snapshot: memory and disks are filled, the device state is loaded, the guest runs from where it was cut. */
#ifndef FUT_RESTORE_H
#define FUT_RESTORE_H

#include "store.h"
#include "vmm.h"

typedef struct FutRestore FutRestore;

typedef struct {
    uint64_t id;
    uint64_t age_us;     /* of the snapshot when the guest began to run */
    uint64_t memory_ns;  /* to fill memory */
    uint64_t disks_ns;   /* to fill disks */
    uint64_t pages;      /* that were filled */
    uint64_t disk_bytes; /* that were written */
    uint64_t total_ns;   /* until the guest ran */
} FutRestoreTimes;

/* Opens snapshot ID of "STORE@ID" and compares it with this machine (describe()'s lines): FUT_ERR_MISMATCH names what differs. `force`: disks
 * that have content are overwritten. Nothing is touched yet. Both are borrowed until it is done. */
FutRestore *fut_restore_new(FutVmm *vmm, char **machine, const char *from, bool force,
                            GError **error);
/* A thread of its own, without locks; the guest is not running. It runs when this returns true; on an error the VM has to end, and what was not
 * yet written to its disks is told by the error. */
bool fut_restore_do(FutRestore *restore, FutRestoreTimes *ret, GError **error);
void fut_restore_free(FutRestore *restore);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutRestore, fut_restore_free)

/* What differs, in plain words: of the snapshot's lines and the machine's. NULL: nothing. Caller frees. Pure. */
char *fut_restore_difference(char **snapshot, char **machine);

#endif
