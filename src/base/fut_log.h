/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines of the engine, the module and the CLI (libraries below them do not log). Each line
 * has a stable message id such as "FUT-101": people grep for it, so an id is never reused. */
#ifndef FUT_LOG_H
#define FUT_LOG_H

#include <glib.h>

typedef enum {
    FUT_LOG_DEBUG,
    FUT_LOG_INFO,
    FUT_LOG_WARN,
    FUT_LOG_ERROR
} FutLogLevel;

/* One line to the sink (stderr by default: "futago[NAME]: FUT-101 text"). Thread-safe. */
void fut_log(FutLogLevel level, const char *id, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Name printed in each line (the VM's). Copied. Lines below `least` are dropped. */
void fut_log_setup(const char *name, FutLogLevel least);
/* Replaces the sink (tests; the control socket's event stream). NULL restores stderr. The sink
 * is called under the log's lock: it must not log; once this returns the former sink is not
 * running and will not be called. */
typedef void (*FutLogSink)(FutLogLevel level, const char *id, const char *text, void *opaque);
void fut_log_set_sink(FutLogSink sink, void *opaque);

#endif
