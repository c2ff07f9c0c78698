/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bucket of tokens, counted in whole ones. */
#include "fut_rate.h"

#include <glib.h>

static void refill(FutRate *rate, uint64_t now_ns)
{
    uint64_t more = (now_ns - rate->refilled_ns) / rate->refill_ns;

    rate->used -= (unsigned)MIN(more, rate->used);
    if (rate->used == 0) {
        rate->refilled_ns = now_ns;
    } else {
        rate->refilled_ns += more * rate->refill_ns;
    }
}

bool fut_rate_pass(FutRate *rate, uint64_t now_ns, uint64_t *ret_kept_back)
{
    refill(rate, now_ns);
    if (rate->used == rate->burst) {
        rate->kept_back++;
        return false;
    }
    rate->used++;
    *ret_kept_back = rate->kept_back;
    rate->kept_back = 0;
    return true;
}
