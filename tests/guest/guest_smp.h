/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test guest's work for several vCPUs. */
#ifndef FUT_GUEST_SMP_H
#define FUT_GUEST_SMP_H

void serve_smp(int fd);

#endif
