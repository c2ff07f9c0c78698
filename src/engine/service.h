/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service: an engine with its threads, socket, arbiter and control socket, set up from key=value options.
 * One per VMM process.
 *
 * Options: role=primary|backup (mandatory), name=VM (mandatory), node=, arbiter=KIND:WHERE, listen=ADDR (backup), to=ADDR (primary),
 * tls=x509:DIR|psk:FILE, tls_name=NAME (link_tls.h),
 * shared_disk=NAME|all (as often as needed),
 * mode=pipeline|stop, epoch_max_us=, batch_max_us=, heartbeat_ms=, timeout_ms=, retry_ms=, commit_ms=, verify=N,
 * state_check=N, events=all|none|NAME,..., tracker=queue|words|flags, tracker_check=N, compress=auto|none|lz4|zstd, on_panic=report|restart|stop,
 * send_at_kick=on|off, restore=STORE@ID, restore_force=on, restore_lazy=on, restore_ready=on (primary; the guest must not run yet),
 * force_generation=on, insecure=on. */
#ifndef FUT_SERVICE_H
#define FUT_SERVICE_H

#include <glib.h>
#include <stdbool.h>

#include "engine.h"
#include "restore_early.h"

typedef struct FutService FutService;

/* Syntax and values only; touches nothing. FUT_ERR_ARG with culprit and remedy. */
bool fut_service_check_options(int argc, char **argv, GError **error);
/* What the VMM has to know before it starts: a backup must not run its guest. Options were checked. */
FutRole fut_service_role(int argc, char **argv);
/* Names of the disks whose one image both hosts reach; caller frees. Options were checked. */
GStrv fut_service_shared_disks(int argc, char **argv);
/* The guest is not to run, nor its disks to be touched, before somebody lets it go. Likewise. */
bool fut_service_waits(int argc, char **argv);
/* Likewise: what a checkpoint is cut for. */
FutEventSet fut_service_events(int argc, char **argv);
/* Begins with what can be done before the machine is there; NULL: nothing. Options were checked. */
FutRestoreEarly *fut_service_begin_early(int argc, char **argv);
/* Claims the generation (primary) or binds the port (backup), opens the control socket, starts the threads. The guest is not running yet.
 * On error nothing is left behind. Called once, main thread. */
FutService *fut_service_start(FutVmm *vmm, int argc, char **argv, FutRestoreEarly *take_early,
                              GError **error);
/* Before fut_service_exiting(), every now and then until it says true, while the VMM can still write to its disks: writes of the
 * guest to shared disks that are held back reach the images. Also true, with a report, when that takes too long. No big lock. */
bool fut_service_settled(FutService *service);
/* Orderly end of the process: the backup stands down, the arbiter's record is released, the control socket goes. The guest is stopped.
 * No big lock. */
void fut_service_exiting(FutService *service);

#endif
