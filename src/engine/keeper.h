/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: makes a sudden death quick to see.
 *
 * The kernel frees a killed process's memory before it closes its sockets. With a guest's worth of memory that is tens
 * of milliseconds to seconds in which the twin hears nothing. The keeper is a tiny process that shares this one's
 * memory (and nothing else: no files): as long as it lives the memory need not be freed, so the sockets close at once.
 * It ends a moment after its parent, however that ended, and frees the memory then. */
#ifndef FUT_KEEPER_H
#define FUT_KEEPER_H

/* Starts the keeper. Main thread, once. Without one (a sandbox forbids processes, the kernel refused) deaths are
 * merely seen later: no error. */
void fut_keeper_start(void);

#endif
