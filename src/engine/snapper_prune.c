/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The schedule keeps its store within bounds. */
#include "fut_clock.h"
#include "snapper_internal.h"

/* Where so much more than the floor is not free, old ones go: the next one would not fit. */
#define HEADROOM (64ull << 20)
/* Joining small files may write so much each time. */
#define JOIN_MAX (64ull << 20)
/* Of the thread's time at most one part of so many is spent on it. */
#define PRUNE_SHARE 20

static FutPrunePolicy policy_of(const FutSnapper *snapper, const FutSnapOrder *order)
{
    FutPrunePolicy policy = order->bounds;

    policy.min_free += HEADROOM;
    policy.vm = snapper->service->options->vm;
    policy.reason = FUT_SNAPPER_BY_SCHEDULE;
    return policy;
}

/* Each fault once. */
static void tell_fault(FutSnapper *snapper, const FutSnapOrder *order, const char *what,
                       const char *fault)
{
    if (g_strcmp0(snapper->prune_error, fault) != 0) {
        g_free(snapper->prune_error);
        snapper->prune_error = g_strdup(fault);
        g_autofree char *text = g_strdup_printf("%s %s: %s", order->store, what, fault);
        fut_service_report(snapper->service, "FUT-245", text);
    }
}

static void tell_removed(FutSnapper *snapper, const FutSnapOrder *order,
                         const FutPruneReport *report)
{
    g_mutex_lock(&snapper->lock);
    bool news = report->short_of_room && !snapper->short_of_room;
    snapper->removed += report->removed->len;
    snapper->short_of_room = report->short_of_room;
    g_mutex_unlock(&snapper->lock);
    if (report->damages->len > 0) {
        tell_fault(snapper, order, "is pruned as far as damage lets be known what is needed",
                   report->damages->pdata[0]);
    } else {
        g_clear_pointer(&snapper->prune_error, g_free);
    }
    if (news) {
        g_autofree char *text = g_strdup_printf(
            "%s exceeds its bounds by what the schedule may not remove (%.0f MB): raise --max-bytes, "
            "make room, or delete snapshots; none are taken while less than %.0f MB are free",
            order->store, (double)report->bytes_after / 1e6, (double)order->min_free / 1e6);
        fut_service_report(snapper->service, "FUT-244", text);
    }
}

void fut_snapper_prune(FutSnapper *snapper, const FutSnapOrder *order)
{
    FutPrunePolicy policy = policy_of(snapper, order);
    uint64_t begin_ns = fut_now_ns();
    FutPruneReport report;
    g_autoptr(GError) error = NULL;

    if (!snapper->store || begin_ns < snapper->prune_due_ns) {
        return;
    }
    if (fut_snap_store_prune(snapper->store, &policy, JOIN_MAX, &report, &error)) {
        tell_removed(snapper, order, &report);
        fut_prune_report_done(&report);
    } else {
        tell_fault(snapper, order, "is not kept within its bounds", error->message);
    }
    uint64_t end_ns = fut_now_ns();
    snapper->prune_due_ns = end_ns + (end_ns - begin_ns) * PRUNE_SHARE;
}
