/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The curve of what is here of a disk over time, as a picture (SVG). Pure. */
#ifndef FUT_DISK_PLOT_H
#define FUT_DISK_PLOT_H

#include <glib.h>
#include <jansson.h>

/* `curve` is a disk's answer to "curve": its name, and points [seconds, share] in order. FUT_ERR_IO when it is none. Caller frees. */
char *fut_disk_plot(const json_t *curve, GError **error);

#endif
