/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread whose work can wait for whatever else wants a processor, and between that does things for which somebody waits. */
#ifndef FUT_BACKGROUND_H
#define FUT_BACKGROUND_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int nice; /* of the thread otherwise */
    bool possible, on;
    uint64_t since_ns; /* the thread's own time when it gave way last */
} FutBackground;

/* The thread that works begins with this. Where it could lower its priority and not raise it again (no CAP_SYS_NICE, no RLIMIT_NICE) it
 * stays as it is. */
void fut_background_init(FutBackground *background);
/* Same thread. Two system calls' worth of time for on and off. */
void fut_background_set(FutBackground *background, bool on);
/* Same thread, while it is on, after every tenth of a millisecond or so of work: a good moment to let those go first who wait for this processor. */
void fut_background_give_way(FutBackground *background);

#endif
