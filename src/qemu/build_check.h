/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does the running QEMU have the structures and enumerations that this module was compiled with? */
#ifndef FUT_BUILD_CHECK_H
#define FUT_BUILD_CHECK_H

#include <glib.h>

/*
 * True if all samples agree. False sets @error to one line that names the first difference. Main
 * thread, once, when the QOM types are registered (that is, from the module's install function on).
 */
bool fut_build_check(GError **error);

#endif
