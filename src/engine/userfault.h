/* SPDX-License-Identifier: GPL-2.0-or-later */
/* userfaultfd's descriptor: who touches memory that is registered with it waits until its owner has answered, a system call included. */
#ifndef FUT_USERFAULT_H
#define FUT_USERFAULT_H

#include <stdint.h>

/* Not blocking, with those features (UFFD_FEATURE_*). -1: this kernel, or this process's rights (root, CAP_SYS_PTRACE or access to
 * /dev/userfaultfd), do not allow it. */
int fut_userfault_open(uint64_t features);

#endif
