/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions of a guest's kernel by words in their names: a subsystem ("ext4"), what they do ("remount"), or a part of a name. */
#ifndef FUT_FUNCTION_SEARCH_H
#define FUT_FUNCTION_SEARCH_H

#include "guest_kernel.h"

#define FUT_FUNCTIONS_FOUND_MAX 20u

/*
 * Those that fit best and where a probe can stand, best first. `words` are told apart by anything that is not in a name; capitals do not
 * matter; the first 16 count. Of parts of a name that are parted by "_" a whole one counts for more than a piece. Some tens of milliseconds.
 * Names are borrowed from the kernel. Returns how many.
 */
unsigned fut_function_search(const FutGuestKernel *kernel, const char *words,
                             const char *ret_names[FUT_FUNCTIONS_FOUND_MAX]);

#endif
