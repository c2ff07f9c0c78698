/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files that are to go with this process, however it ends: the keeper (keeper.h) removes them when it was killed. */
#ifndef FUT_SWEEP_H
#define FUT_SWEEP_H

#define FUT_SWEEP_MAX 2

/* These files, all in one folder, as they are now: what others put in their place meanwhile stays. NULL ends the list, FUT_SWEEP_MAX at most. In place of
 * whatever the keeper had to do, and undone by fut_keeper_take_back(). Once a process; its thread matters to nobody. Nothing happens where a file
 * is not there. */
void fut_sweep_promise(const char *const *paths);

#endif
