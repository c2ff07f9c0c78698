/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "early_flush.h"

#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool have_context(FutEarlyFlush *flush)
{
    if (flush->context == 0 && !flush->impossible) {
        flush->impossible = syscall(SYS_io_setup, 1, &flush->context) != 0;
    }
    return !flush->impossible;
}

/* Takes note of one that has ended, or waits until it has. */
static void reap(FutEarlyFlush *flush, bool wait)
{
    const struct timespec at_once = { 0 };
    struct io_event event;
    long got = -1;

    while (flush->pending && got < 0) {
        got = syscall(SYS_io_getevents, flush->context, wait ? 1L : 0L, 1L, &event,
                      wait ? NULL : &at_once);
        g_assert(got >= 0 || errno == EINTR);
    }
    if (flush->pending && got == 1) {
        flush->pending = false;
        flush->code = flush->code ? flush->code : (int)-event.res;
    }
}

bool fut_early_flush_begin(FutEarlyFlush *flush, int fd)
{
    struct iocb call = { .aio_fildes = (uint32_t)fd, .aio_lio_opcode = IOCB_CMD_FDSYNC };
    struct iocb *calls[] = { &call };

    reap(flush, false);
    if (flush->pending || !have_context(flush)) {
        return false;
    }
    flush->pending = syscall(SYS_io_submit, flush->context, 1L, calls) == 1;
    return flush->pending;
}

int fut_early_flush_end(FutEarlyFlush *flush)
{
    reap(flush, true);
    int code = flush->code;
    flush->code = 0;
    return code;
}

void fut_early_flush_done(FutEarlyFlush *flush)
{
    fut_early_flush_end(flush);
    if (flush->context != 0) {
        syscall(SYS_io_destroy, flush->context);
        flush->context = 0;
    }
}
