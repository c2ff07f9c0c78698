/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest that is kept ready: made from a snapshot, and not running before somebody lets it go. Until then nothing outside this process is touched: no
 * generation is claimed, no image of a disk is locked, read or written, no packet leaves or comes in.
 *
 * Order at the word to go: the images' locks, whether they may be written, the arbiter's grant (up to here a refusal leaves all as it was), the
 * disks' content, the device state, the guest. The device state is loaded that late because a machine that has it is not at rest: clocks that follow
 * the host's go on, and under KVM the guest's time stamp counter does. */
#ifndef FUT_RESTORE_READY_H
#define FUT_RESTORE_READY_H

#include "restore.h"
#include "service_internal.h"

FutReady *fut_ready_new(void);
/* Takes NULL. */
void fut_ready_free(FutReady *ready);

/* The restore thread, in place of fut_restore_do(); returns when the guest runs, or with the reason why the VM has to end. */
bool fut_ready_run(FutService *service, FutRestore *restore, FutRestoreTimes *ret, GError **error);

/* The verb: lets it go. The answer is there when the guest runs, or why it does not yet; "going" true: it takes longer than a control thread can
 * wait, look at the status. Control thread. */
json_t *fut_ready_verb_go(FutService *service, json_t *args, GError **error);
/* "preparing", "ready" or "going"; NULL: it runs, or never had to wait. Any thread. `ready` may be NULL. */
const char *fut_ready_state(FutReady *ready);
/* FUT_ERR_STATE for a verb that has to wait until it runs. */
bool fut_ready_allows(FutService *service, const char *verb, GError **error);
/* Adds to the status of one that waits: of what, and why it was not let go when that was tried. */
void fut_ready_describe(FutService *service, json_t *status);

/* The process ends: nothing is claimed from its return on. Main thread. */
void fut_ready_exiting(FutReady *ready);
/* There is nothing to give back to the arbiter. `ready` may be NULL. */
bool fut_ready_unclaimed(FutReady *ready);

#endif
