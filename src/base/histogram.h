/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log-linear histogram of durations: fixed size, about 3 % resolution from 1 to 2^40, no
 * allocation. Not locked: the owner's lock covers it. */
#ifndef FUT_HISTOGRAM_H
#define FUT_HISTOGRAM_H

#include <stdint.h>

#define FUT_HISTOGRAM_SUB 32
#define FUT_HISTOGRAM_BINS (FUT_HISTOGRAM_SUB * 37)

typedef struct {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint32_t bins[FUT_HISTOGRAM_BINS];
} FutHistogram;

void fut_histogram_clear(FutHistogram *h);
void fut_histogram_add(FutHistogram *h, uint64_t value);
/* Value below or at which `percent` (0..100) of the samples lie; 0 when empty. The exact max for
 * 100. */
uint64_t fut_histogram_percentile(const FutHistogram *h, double percent);
double fut_histogram_mean(const FutHistogram *h);

#endif
