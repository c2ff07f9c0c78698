/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Few lines about what anybody on the network may cause as often as he likes. */
#ifndef FUT_RATE_H
#define FUT_RATE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    unsigned burst;     /* as many at once */
    uint64_t refill_ns; /* one more after each of these */
    unsigned used;      /* of the burst */
    uint64_t refilled_ns;
    uint64_t kept_back; /* since the last that was let through */
} FutRate;

#define FUT_RATE_INIT(most, every_ns)                                                              \
    {                                                                                              \
        .burst = (most), .refill_ns = (every_ns)                                                   \
    }

/* May this one be told? *ret_kept_back: how many were not, since the last that was. Caller's lock. */
bool fut_rate_pass(FutRate *rate, uint64_t now_ns, uint64_t *ret_kept_back);

#endif
