/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which compression pays on this link. */
#include "pack_choice.h"

#include <glib.h>

#include "fut_clock.h"

/* A measure takes so many bytes and so long at least, on a very slow link only so long, and no longer than that: nobody may
 * have looked meanwhile. */
#define MEASURE_BYTES (1u << 20)
#define MEASURE_MIN_NS (20 * FUT_NS_PER_MS)
#define MEASURE_SLOW_NS FUT_NS_PER_S
#define MEASURE_MAX_NS (10 * FUT_NS_PER_S)
/* Faster than the limit by this before a lighter choice is made. */
#define MARGIN 1.5
/* Messages left as they are between two tries, at most. */
#define SKIP_MAX 63

void fut_pack_choice_start(FutPackChoice *choice)
{
    *choice = (FutPackChoice){ .kind = FUT_PACK_NONE };
}

static FutPackKind kind_for(FutPackKind now, double bytes_per_s)
{
    double slow = FUT_LINK_SLOW * (now == FUT_PACK_ZSTD ? MARGIN : 1);
    double fast = FUT_LINK_FAST * (now == FUT_PACK_NONE ? 1 : MARGIN);

    if (bytes_per_s < slow) {
        return FUT_PACK_ZSTD;
    }
    return bytes_per_s < fast ? FUT_PACK_LZ4 : FUT_PACK_NONE;
}

static void decide(FutPackChoice *choice)
{
    FutPackKind kind = kind_for(choice->kind, choice->bytes_per_s);

    if (kind != choice->kind && kind == choice->wanted) {
        choice->kind = kind;
        choice->changes++;
    }
    choice->wanted = kind;
}

static void measure(FutPackChoice *choice, uint64_t taken, size_t pending, uint64_t now_ns)
{
    uint64_t bytes = taken - choice->begin_bytes, time_ns = now_ns - choice->begin_ns;

    if (choice->measuring && pending > 0 && time_ns <= MEASURE_MAX_NS) {
        if (time_ns < (bytes < MEASURE_BYTES ? MEASURE_SLOW_NS : MEASURE_MIN_NS)) {
            return;
        }
        choice->bytes_per_s = (double)bytes * FUT_NS_PER_S / (double)time_ns;
        decide(choice);
    }
    choice->measuring = pending > 0;
    choice->begin_ns = now_ns;
    choice->begin_bytes = taken;
}

FutPackKind fut_pack_choice_next(FutPackChoice *choice, uint64_t taken, size_t pending,
                                 uint64_t now_ns)
{
    measure(choice, taken, pending, now_ns);
    if (choice->skip > 0) {
        choice->skip--;
        return FUT_PACK_NONE;
    }
    return choice->kind;
}

void fut_pack_choice_result(FutPackChoice *choice, bool vain)
{
    choice->vain = vain ? MIN(2 * choice->vain + 1, SKIP_MAX) : 0;
    choice->skip = choice->vain;
}
