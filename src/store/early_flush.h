/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An fdatasync() that goes on beside who began it, so that the last one, for which somebody waits, has less left: a disk takes its time to make
 * durable what it was given, and that grows with how much it is. Linux' own asynchronous I/O: no thread of ours. One at a time. */
#ifndef FUT_EARLY_FLUSH_H
#define FUT_EARLY_FLUSH_H

#include <linux/aio_abi.h>
#include <stdbool.h>

typedef struct {
    aio_context_t context; /* 0: none yet */
    bool impossible;       /* there are no contexts left, or this process may have none */
    bool pending;
    int code; /* errno value of one that has ended, since fut_early_flush_end() */
} FutEarlyFlush;

/* Zeroed is a valid one. True: one is under way for this file. False: the one before is still under way, or there is no such thing here. */
bool fut_early_flush_begin(FutEarlyFlush *flush, int fd);
/* Waits for it. 0 or the first errno value: an error is told once by the kernel, and a later fdatasync() of the same descriptor does not know of it. */
int fut_early_flush_end(FutEarlyFlush *flush);
void fut_early_flush_done(FutEarlyFlush *flush);

#endif
