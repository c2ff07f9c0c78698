/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One VM's move, in a process of its own: it goes on when whoever looks at it does not. What it does and what came of it, it tells as JSON lines:
 *   {"vm", "phase", "share", "rate", "text"}   phases: preparing, memory, held, switching, disks
 *   {"vm", "phase": "end", "outcome", "text"}  the last one; or, with "unknown", the last but one
 * Outcomes: moved; stayed (it runs at the source); ended (it runs nowhere: it ended before the switch); unknown. */
#ifndef FUT_RELOCATE_VM_H
#define FUT_RELOCATE_VM_H

#include <stdbool.h>

#include "address.h"

typedef struct {
    FutAddress *to;   /* the other host's futago receive */
    bool hold;        /* all but the switch, until SIGUSR1 comes */
    char *protect_to; /* where a standby waits for the VM at its new place; may be NULL */
} FutRelocate;

/* Returns when it is over. SIGTERM: cancels what can be cancelled. */
void fut_relocate_vm(const FutRelocate *how, const char *vm, int out_fd);
/* Brings a move to its end whose process was killed: ends what exports its disks when they are complete there, or the VM stays. Tells the same. */
void fut_relocate_follow(const char *vm, int out_fd);

#endif
