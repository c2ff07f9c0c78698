/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "prune_policy.h"

#include <string.h>

#define HOUR_US (3600ull * G_USEC_PER_SEC)

static const FutSnapshotInfo *nth(const GPtrArray *all, guint i)
{
    return all->pdata[i];
}

static bool same_vm(const GPtrArray *all, guint a, guint b)
{
    return strcmp(nth(all, a)->vm, nth(all, b)->vm) == 0;
}

bool fut_prune_is_newest(const GPtrArray *all, guint i)
{
    for (guint later = i + 1; later < all->len; later++) {
        if (same_vm(all, i, later)) {
            return false;
        }
    }
    return true;
}

bool fut_prune_may_go(const FutSnapshotInfo *info, const FutPrunePolicy *policy)
{
    return (!policy->vm || strcmp(info->vm, policy->vm) == 0) &&
           (!policy->reason || (info->reason && strcmp(info->reason, policy->reason) == 0));
}

/* Lets the newest of each period stay, for the last `count` periods that have one. period_us 0: each snapshot is one. */
static void stay(const GPtrArray *all, guint newest, const FutPrunePolicy *policy,
                 uint64_t period_us, unsigned count, bool *stays)
{
    uint64_t period = UINT64_MAX;

    for (guint i = newest + 1; i-- > 0 && count > 0;) {
        uint64_t is = period_us ? nth(all, i)->time_us / period_us : i;
        if (same_vm(all, i, newest) && fut_prune_may_go(nth(all, i), policy) && is != period) {
            period = is;
            stays[i] = true;
            count--;
        }
    }
}

void fut_prune_thin(const GPtrArray *all, const FutPrunePolicy *policy, bool *stays)
{
    bool everything = policy->keep == 0 && policy->hourly == 0 && policy->daily == 0;

    for (guint i = 0; i < all->len; i++) {
        stays[i] =
            everything || fut_prune_is_newest(all, i) || !fut_prune_may_go(nth(all, i), policy);
    }
    for (guint i = 0; i < all->len; i++) {
        if (fut_prune_is_newest(all, i)) {
            stay(all, i, policy, 0, policy->keep, stays);
            stay(all, i, policy, HOUR_US, policy->hourly, stays);
            stay(all, i, policy, 24 * HOUR_US, policy->daily, stays);
        }
    }
}
