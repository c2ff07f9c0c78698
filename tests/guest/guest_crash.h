/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes of the test guest that die, and the guest's own end. */
#ifndef FUT_GUEST_CRASH_H
#define FUT_GUEST_CRASH_H

void serve_crash(int fd);

#endif
