/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: makes a sudden death quick to see, and has the last word.
 *
 * The kernel frees a killed process's memory before it closes its sockets. With a guest's worth of memory that is tens
 * of milliseconds to seconds in which the twin hears nothing. The keeper is a tiny process that shares this one's
 * memory, and of its files what it is given: as long as it lives the memory need not be freed, so the sockets close at
 * once. It ends a moment after its parent, however that ended, and frees the memory then. */
#ifndef FUT_KEEPER_H
#define FUT_KEEPER_H

#define FUT_KEEPER_FDS_MAX 16

/* What is done when this process has died, all its threads have ended, and its memory is as they left it: a lock that
 * was held is held for ever. Plain system calls (plain_syscall.h) and pure functions only. fds: the keeper's copies. */
typedef void (*FutKeeperLast)(const int *fds, unsigned count);

/* Starts the keeper. Main thread, once. Without one (a sandbox forbids processes, the kernel refused) deaths are
 * merely seen later, and nothing is done after them: no error. */
void fut_keeper_start(void);

/* Gives the keeper copies of descriptors, in place of those it had, for what it is to do after this process's death. As
 * long as it has them they are open, whoever else closes them. Any thread. */
void fut_keeper_give(const int *fds, unsigned count, FutKeeperLast last);

/* The keeper closes what it has, and does nothing. Any thread, before fut_keeper_start() too. */
void fut_keeper_take_back(void);

#endif
