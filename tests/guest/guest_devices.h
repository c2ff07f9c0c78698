/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test guest's clock, random numbers and consoles. */
#ifndef FUT_GUEST_DEVICES_H
#define FUT_GUEST_DEVICES_H

void serve_devices(int fd);
/* Thread of one console; the argument is its path. */
void *console_thread(void *path);

#endif
