/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log-linear histogram: values below 32 have a bin each; above, each power of two is cut into 32
 * bins. */
#include "histogram.h"

#include <math.h>
#include <string.h>

#define SUB_BITS 5
_Static_assert(1u << SUB_BITS == FUT_HISTOGRAM_SUB, "bins of a power of two");

static unsigned bin_of(uint64_t value)
{
    if (value < FUT_HISTOGRAM_SUB) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - SUB_BITS;
    unsigned bin =
        (shift + 1) * FUT_HISTOGRAM_SUB + (unsigned)((value >> shift) & (FUT_HISTOGRAM_SUB - 1));
    return bin < FUT_HISTOGRAM_BINS ? bin : FUT_HISTOGRAM_BINS - 1;
}

/* Largest value of a bin. */
static uint64_t bin_top(unsigned bin)
{
    if (bin < FUT_HISTOGRAM_SUB) {
        return bin;
    }
    unsigned shift = bin / FUT_HISTOGRAM_SUB - 1;
    return ((uint64_t)(FUT_HISTOGRAM_SUB + bin % FUT_HISTOGRAM_SUB + 1) << shift) - 1;
}

void fut_histogram_clear(FutHistogram *h)
{
    memset(h, 0, sizeof(*h));
}

void fut_histogram_add(FutHistogram *h, uint64_t value)
{
    h->count++;
    h->sum += value;
    h->max = value > h->max ? value : h->max;
    uint32_t *bin = &h->bins[bin_of(value)];
    *bin += *bin < UINT32_MAX; /* saturates after 2^32 samples of one size */
}

uint64_t fut_histogram_percentile(const FutHistogram *h, double percent)
{
    if (h->count == 0 || percent >= 100) {
        return h->max;
    }
    double wanted = percent > 0 ? ceil(percent / 100 * (double)h->count) : 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < FUT_HISTOGRAM_BINS - 1; i++) {
        seen += h->bins[i];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t top = bin_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max; /* the last bin holds everything that is larger */
}

double fut_histogram_mean(const FutHistogram *h)
{
    return h->count ? (double)h->sum / (double)h->count : 0;
}
