/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread whose work can wait for whatever else wants a processor, and between that does things for which somebody waits. */
#ifndef FUT_BACKGROUND_H
#define FUT_BACKGROUND_H

#include <stdbool.h>

typedef struct {
    int nice; /* of the thread otherwise */
    bool possible, on;
} FutBackground;

/* The thread that works begins with this. Where it could lower its priority and not raise it again (no CAP_SYS_NICE, no RLIMIT_NICE) it
 * stays as it is. */
void fut_background_init(FutBackground *background);
/* Same thread. Two system calls' worth of time for on and off. */
void fut_background_set(FutBackground *background, bool on);

#endif
