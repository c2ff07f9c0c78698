/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Monotonic time. Code that must be replayable (src/pair) never calls this: time is handed in. */
#ifndef FUT_CLOCK_H
#define FUT_CLOCK_H

#include <stdint.h>
#include <time.h>

#define FUT_NS_PER_US 1000ull
#define FUT_NS_PER_MS 1000000ull
#define FUT_NS_PER_S 1000000000ull

static inline uint64_t fut_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FUT_NS_PER_S + (uint64_t)ts.tv_nsec;
}

#endif
