/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's wall clock after a restore: late by the snapshot's age, which nobody tells the guest. */
#ifndef FUT_RESTORE_CLOCK_H
#define FUT_RESTORE_CLOCK_H

#include "restore.h"
#include "service_internal.h"

/* Sets it, where the guest's kernel is one that is known, and tells what came of it. A thread without locks, the guest runs. Takes as long as reading the kernel's symbols
 * does; of that the guest stands still only while it is written. */
void fut_restore_clock(FutService *service, const FutRestoreTimes *times);

#endif
