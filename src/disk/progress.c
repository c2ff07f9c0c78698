/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"

#include <string.h>

#include "fut_clock.h"

#define EVERY_NS (100 * FUT_NS_PER_MS)

void fut_progress_init(FutProgress *progress, uint64_t now_ns, uint64_t here)
{
    memset(progress, 0, sizeof(*progress));
    progress->start_ns = now_ns;
    progress->every_ns = EVERY_NS;
    progress->points[0] = (FutCurvePoint){ 0, here };
    progress->count = 1;
    progress->look[0].at_ns = now_ns;
    progress->looks = 1;
}

static void thin_out(FutProgress *progress)
{
    for (unsigned i = 1; 2 * i < FUT_CURVE_POINTS; i++) {
        progress->points[i] = progress->points[2 * i];
    }
    progress->count = FUT_CURVE_POINTS / 2;
    progress->every_ns *= 2;
}

static void add_point(FutProgress *progress, uint64_t now_ns, uint64_t here, bool last)
{
    uint64_t at_ns = now_ns - progress->start_ns;

    if (!last && at_ns - progress->points[progress->count - 1].at_ns < progress->every_ns) {
        return;
    }
    if (progress->count == FUT_CURVE_POINTS) {
        thin_out(progress);
    }
    progress->points[progress->count++] = (FutCurvePoint){ at_ns, here };
}

static void add_look(FutProgress *progress, const FutProgressLook *now)
{
    if (now->at_ns - progress->look[progress->looks - 1].at_ns < EVERY_NS) {
        return;
    }
    if (progress->looks == FUT_PROGRESS_LOOKS) {
        progress->looks--;
        memmove(progress->look, progress->look + 1, progress->looks * sizeof(*now));
    }
    progress->look[progress->looks++] = *now;
}

void fut_progress_note(FutProgress *progress, const FutProgressLook *now, uint64_t here, bool last)
{
    add_point(progress, now->at_ns, here, last);
    add_look(progress, now);
}

FutProgressRates fut_progress_rates(const FutProgress *progress, const FutProgressLook *now)
{
    const FutProgressLook *then = &progress->look[0];
    double seconds = (double)(now->at_ns - then->at_ns) / FUT_NS_PER_S;

    if (seconds <= 0) {
        return (FutProgressRates){ 0, 0 };
    }
    return (FutProgressRates){ (double)(now->demand - then->demand) / seconds,
                               (double)(now->copied - then->copied) / seconds };
}
