/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines: one write(2) a line, so that lines of several threads and processes do not mix. */
#include "fut_log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* All under `lock`, which is held while a line is written: a sink that was replaced is not
 * called any more. */
static GMutex lock;
static char *vm_name;
static FutLogLevel least_level = FUT_LOG_INFO;
static FutLogSink current_sink;
static void *sink_opaque;

static void write_stderr(const char *id, const char *text)
{
    g_autofree char *line = vm_name ? g_strdup_printf("futago[%s]: %s %s\n", vm_name, id, text)
                                    : g_strdup_printf("futago: %s %s\n", id, text);
    ssize_t done;
    do {
        done = write(STDERR_FILENO, line, strlen(line));
    } while (done < 0 && errno == EINTR);
    /* Nowhere to complain about a log that cannot be written. */
}

void fut_log(FutLogLevel level, const char *id, const char *format, ...)
{
    int saved_errno = errno;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_strdelimit(text, "\r\n", ' ');

    g_mutex_lock(&lock);
    if (level >= least_level) {
        if (current_sink) {
            current_sink(level, id, text, sink_opaque);
        } else {
            write_stderr(id, text);
        }
    }
    g_mutex_unlock(&lock);
    errno = saved_errno;
}

void fut_log_setup(const char *name, FutLogLevel least)
{
    g_mutex_lock(&lock);
    g_free(vm_name);
    vm_name = g_strdup(name);
    least_level = least;
    g_mutex_unlock(&lock);
}

void fut_log_set_sink(FutLogSink sink, void *opaque)
{
    g_mutex_lock(&lock);
    current_sink = sink;
    sink_opaque = opaque;
    g_mutex_unlock(&lock);
}
