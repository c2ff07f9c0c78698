/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Monotonic time, which goes on while the host is suspended: who slept through a time-out must see
 * that it did. Nobody who sets the host's clock moves it. Code that must be replayable (src/pair) never calls this: time is handed in. */
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
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * FUT_NS_PER_S + (uint64_t)ts.tv_nsec;
}

#endif
