/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM that begins as a snapshot: memory and disks are filled, the device state is loaded, the guest runs from where it was cut. */
#ifndef FUT_RESTORE_H
#define FUT_RESTORE_H

#include "flows.h"
#include "lazy.h"
#include "restore_early.h"
#include "store.h"
#include "vmm.h"

typedef struct FutRestore FutRestore;

typedef struct {
    uint64_t id;
    uint64_t time_us;    /* of the cut */
    uint64_t run_us;     /* when the guest began to run, likewise since 1970 */
    uint64_t memory_ns;  /* to fill memory; lazily: to make it ready for that */
    uint64_t disks_ns;   /* to fill disks */
    uint64_t pages;      /* that were filled */
    uint64_t disk_bytes; /* that were written */
    uint64_t total_ns;   /* until the guest ran; of one that was kept ready, from the word to go */
    bool lazy;           /* memory comes later */
    bool ready;          /* the guest waited for the word to go */
    bool checked;        /* all of it has the snapshot's hash */
    char flows_fault[256]; /* why nothing can be done for its connections; or empty */
} FutRestoreTimes;

/* Takes a snapshot that is being opened and compares it with this machine (describe()'s lines): FUT_ERR_MISMATCH names what differs. `force`: disks
 * that have content are overwritten. Nothing is touched yet. The first two are borrowed until it is done. */
FutRestore *fut_restore_new(FutVmm *vmm, char **machine, FutRestoreEarly *take_early, bool force,
                            GError **error);
/* Memory is to come when it is touched, and by itself while the guest runs. Before fut_restore_do(); `host` is borrowed. */
void fut_restore_set_lazy(FutRestore *restore, const FutLazyHost *host, void *opaque);
/* All memory is compared with the snapshot's hash before the guest runs: FUT_ERR_MISMATCH, or FUT_ERR_STATE if it has none. Before
 * fut_restore_do(). */
void fut_restore_set_check(FutRestore *restore);
/* What becomes of the guest's connections; FUT_CONNECTIONS_CHECK if nothing is said. Before fut_restore_do(); fut_flows_work() is to follow that. */
void fut_restore_set_connections(FutRestore *restore, FutConnections what);
/* A thread of its own, without locks; the guest is not running. It runs when this returns true; on an error the VM has to end, and what was not
 * yet written to its disks is told by the error. */
bool fut_restore_do(FutRestore *restore, FutRestoreTimes *ret, GError **error);
/* In its place, in three steps, where the guest is to wait until somebody lets it go. The first: memory is there, or what the guest used last of it
 * and the rest on demand. Nothing but memory is touched. May take as long as fut_restore_do(). */
bool fut_restore_prepare(FutRestore *restore, GError **error);
/* The second: takes hold of the disks' images, looks whether they may be written, and whether the store can still be read. After an error nothing has
 * changed, and it may be tried again. */
bool fut_restore_claim(FutRestore *restore, GError **error);
/* The images are left to others again: after fut_restore_claim(), in place of fut_restore_go(). */
void fut_restore_yield(FutRestore *restore);
/* The third: as fut_restore_do(). `begin_ns`: when the word came (fut_now_ns()). */
bool fut_restore_go(FutRestore *restore, uint64_t begin_ns, FutRestoreTimes *ret, GError **error);
/* After the third: memory that comes lazily comes by itself, too, and not only to who touches it. */
void fut_restore_fetch_rest(FutRestore *restore);
/* Of the snapshot. */
uint64_t fut_restore_id(const FutRestore *restore);
uint64_t fut_restore_time_us(const FutRestore *restore);
/* After it, once, if memory comes lazily: returns when all is there. */
void fut_restore_wait(FutRestore *restore);
/* Any thread, between fut_restore_new() and fut_restore_free(): thousandths of memory that are there; how many accesses had to wait. */
unsigned fut_restore_permille(FutRestore *restore);
unsigned fut_restore_faults(FutRestore *restore);
/* After fut_restore_wait(): pages that came before all others because the guest had used them last. */
unsigned fut_restore_hot(FutRestore *restore);
/* Of one that is kept ready: pieces of code that were translated ahead. */
unsigned fut_restore_codes(const FutRestore *restore);
/* Not while the guest runs and memory is still coming. Takes NULL. */
void fut_restore_free(FutRestore *restore);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutRestore, fut_restore_free)

/* What differs, in plain words: of the snapshot's lines and the machine's. NULL: nothing. Caller frees. Pure. */
char *fut_restore_difference(char **snapshot, char **machine);

#endif
