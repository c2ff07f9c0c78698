/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a disk came here: the curve of what is here over time, and how fast it comes now. Bounded whatever it lasts: when the curve is full,
 * every second point goes. Pure: time is handed in; the caller's lock. */
#ifndef FUT_PROGRESS_H
#define FUT_PROGRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_CURVE_POINTS 256
#define FUT_PROGRESS_LOOKS 21 /* so many looks back go the present rates */

typedef struct {
    uint64_t at_ns; /* since the disk was started */
    uint64_t here;  /* bytes */
} FutCurvePoint;

/* What has come so far, in bytes: on demand, and by the copy. */
typedef struct {
    uint64_t at_ns, demand, copied;
} FutProgressLook;

typedef struct {
    uint64_t start_ns, every_ns; /* points are so far apart */
    unsigned count;
    FutCurvePoint points[FUT_CURVE_POINTS];
    unsigned looks;
    FutProgressLook look[FUT_PROGRESS_LOOKS]; /* the oldest first */
} FutProgress;

typedef struct {
    double demand, copy; /* bytes a second */
} FutProgressRates;

void fut_progress_init(FutProgress *progress, uint64_t now_ns, uint64_t here);
/* Looks that come too soon after the last one are left out; `last`: the curve ends here, in any case. */
void fut_progress_note(FutProgress *progress, const FutProgressLook *now, uint64_t here, bool last);
/* From the oldest look that is kept (some two seconds ago) to `now`. */
FutProgressRates fut_progress_rates(const FutProgress *progress, const FutProgressLook *now);

#endif
