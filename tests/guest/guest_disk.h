/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test guest's disk service; guest_disk.c says what it understands. */
#ifndef GUEST_DISK_H
#define GUEST_DISK_H

void serve_disk(int fd);

#endif
