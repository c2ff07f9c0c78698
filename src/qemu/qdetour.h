/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One of QEMU's functions replaced by one of ours, in the memory of this process. */
#ifndef FUT_QDETOUR_H
#define FUT_QDETOUR_H

#include <glib.h>
#include <stdbool.h>

/*
 * From here on who calls `function` gets to `to`, which does all that `function` does: nothing of
 * it is left to be called. `function` is one that QEMU exports and that no thread executes now.
 * FUT_ERR_UNSUPPORTED where that cannot be done; then nothing has changed.
 */
bool fut_qdetour(void *function, const void *to, GError **error);

#endif
