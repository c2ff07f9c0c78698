/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The only source of chance in the simulator: a small generator (splitmix64) that a seed repeats exactly. */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} SimRandom;

static inline uint64_t sim_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t sim_next(SimRandom *random)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix(random->state);
}

/* 0 .. count - 1 */
static inline uint64_t sim_below(SimRandom *random, uint64_t count)
{
    return sim_next(random) % count;
}

/* low .. high, both included */
static inline uint64_t sim_between(SimRandom *random, uint64_t low, uint64_t high)
{
    return low + sim_below(random, high - low + 1);
}

static inline bool sim_chance(SimRandom *random, unsigned percent)
{
    return sim_below(random, 100) < percent;
}

#endif
