/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "copy_pace.h"

#include <string.h>

#include "copy_order.h"
#include "fut_clock.h"

#define WINDOW_MIN ((double)FUT_COPY_UNIT)
#define WINDOW_START (4.0 * FUT_COPY_UNIT)
#define WINDOW_MAX (64.0 * FUT_COPY_UNIT)
/* Minima are taken over one to two of these: the way may have become longer. */
#define EPOCH_NS (20 * FUT_NS_PER_S)
/* The wait that is allowed: less while somebody would feel it. */
#define TARGET_BUSY_NS (4 * FUT_NS_PER_MS)
#define TARGET_IDLE_NS (40 * FUT_NS_PER_MS)
#define BUSY_FOR_NS FUT_NS_PER_S
/* The least wait of so long counts: the machine may have delayed the others. */
#define RECENT_NS (100 * FUT_NS_PER_MS)
/* What arrives in so long tells a rate, and the best one is forgotten after one to two of BEST_NS: the link may have become slower. */
#define COUNT_NS (250 * FUT_NS_PER_MS)
#define BEST_NS (4 * FUT_NS_PER_S)
/* So much of what the link holds makes no queue. */
#define HELD_SHARE 0.75
/* With a fixed rate, at most so much of a second may come in one burst. */
#define BURST_S 0.05

void fut_copy_pace_init(FutCopyPace *pace, bool adaptive, uint64_t rate, uint64_t now_ns)
{
    memset(pace, 0, sizeof(*pace));
    pace->window = WINDOW_START;
    pace->starting = true;
    pace->epoch_ns = pace->counted_ns = pace->best_ns = now_ns;
    fut_copy_pace_set_rate(pace, adaptive, rate, now_ns);
}

void fut_copy_pace_set_rate(FutCopyPace *pace, bool adaptive, uint64_t rate, uint64_t now_ns)
{
    pace->adaptive = adaptive;
    pace->rate = rate;
    pace->credit = 0;
    pace->credit_ns = now_ns;
}

static void earn(FutCopyPace *pace, uint64_t now_ns)
{
    double earned = (double)(now_ns - pace->credit_ns) / FUT_NS_PER_S * (double)pace->rate;
    double most = MAX((double)FUT_COPY_UNIT, (double)pace->rate * BURST_S);

    pace->credit = MIN(pace->credit + earned, most);
    pace->credit_ns = now_ns;
}

uint64_t fut_copy_pace_wait(FutCopyPace *pace, uint64_t bytes, uint64_t now_ns)
{
    double window = pace->adaptive ? pace->window : WINDOW_MAX;

    if (pace->under_way > 0 && (double)(pace->under_way + bytes) > window) {
        return UINT64_MAX;
    }
    if (pace->rate == 0) {
        return 0;
    }
    earn(pace, now_ns);
    double lacking = (double)bytes - pace->credit;
    return lacking <= 0 ? 0 : (uint64_t)(lacking / (double)pace->rate * FUT_NS_PER_S) + 1;
}

void fut_copy_pace_sent(FutCopyPace *pace, uint64_t bytes)
{
    pace->under_way += bytes;
    if (pace->rate > 0) {
        pace->credit -= (double)bytes;
    }
}

static unsigned size_class(uint64_t bytes)
{
    unsigned log = 63 - (unsigned)__builtin_clzll(MAX(bytes, 1u << 12));
    return MIN(log - 12, FUT_PACE_SIZES - 1);
}

/* The least latency of such fetches lately; 0: there was none. */
static uint64_t base_ns(const FutCopyPace *pace, unsigned class)
{
    uint64_t now = pace->least_ns[class], before = pace->earlier_ns[class];
    return now == 0 || before == 0 ? MAX(now, before) : MIN(now, before);
}

/* How long a fetch waited in queues: what it took beyond the least of its like. */
static uint64_t waited(FutCopyPace *pace, uint64_t bytes, uint64_t latency_ns, uint64_t now_ns)
{
    unsigned class = size_class(bytes);
    uint64_t *least = &pace->least_ns[class];

    if (now_ns - pace->epoch_ns > EPOCH_NS) {
        memcpy(pace->earlier_ns, pace->least_ns, sizeof(pace->least_ns));
        memset(pace->least_ns, 0, sizeof(pace->least_ns));
        pace->epoch_ns = now_ns;
    }
    if (*least == 0 || latency_ns < *least) {
        *least = latency_ns;
    }
    return latency_ns - base_ns(pace, class);
}

/* The least of what was waited lately, this one included. */
static uint64_t queued(FutCopyPace *pace, uint64_t wait_ns, uint64_t now_ns)
{
    unsigned at = pace->next_recent++ % FUT_PACE_RECENT;

    pace->recent[at].at_ns = now_ns;
    pace->recent[at].wait_ns = wait_ns;
    for (unsigned i = 0; i < FUT_PACE_RECENT; i++) {
        if (pace->recent[i].at_ns > 0 && pace->recent[i].at_ns + RECENT_NS >= now_ns) {
            wait_ns = MIN(wait_ns, pace->recent[i].wait_ns);
        }
    }
    return wait_ns;
}

/* -- what the link carries -- */

static void count(FutCopyPace *pace, uint64_t bytes, uint64_t now_ns)
{
    uint64_t took_ns = now_ns - pace->counted_ns;

    pace->counted += bytes;
    if (took_ns < COUNT_NS) {
        return;
    }
    if (now_ns - pace->best_ns > BEST_NS) {
        pace->earlier_best = pace->best;
        pace->best = 0;
        pace->best_ns = now_ns;
    }
    pace->best = MAX(pace->best, (double)pace->counted / (double)took_ns * FUT_NS_PER_S);
    pace->counted = 0;
    pace->counted_ns = now_ns;
}

/* Bytes that are on the way without waiting for each other. */
static double held_by_link(const FutCopyPace *pace)
{
    double way_s = (double)base_ns(pace, size_class(FUT_COPY_UNIT)) / FUT_NS_PER_S;
    return MAX(pace->best, pace->earlier_best) * way_s * HELD_SHARE;
}

static void set_window(FutCopyPace *pace, double window)
{
    double least = MIN(MAX(WINDOW_MIN, held_by_link(pace)), WINDOW_MAX);
    pace->window = CLAMP(window, least, WINDOW_MAX);
}

static void steer(FutCopyPace *pace, uint64_t bytes, uint64_t latency_ns, uint64_t now_ns)
{
    bool busy = fut_copy_pace_idle_ns(pace, now_ns) < BUSY_FOR_NS;
    double target = busy ? TARGET_BUSY_NS : TARGET_IDLE_NS;
    uint64_t wait_ns = waited(pace, bytes, latency_ns, now_ns);
    double off = (target - (double)queued(pace, wait_ns, now_ns)) / target;
    double share = (double)bytes / pace->window, window = pace->window;

    if ((double)wait_ns > target) {
        pace->starting = false; /* a doubling window must not overshoot for a tenth of a second */
    }
    if (pace->starting) {
        window += (double)bytes;
    } else if (off >= 0) {
        window += off * share * (busy ? FUT_COPY_UNIT / 2 : FUT_COPY_UNIT);
    } else {
        /* At worst halved within one round. */
        window -= MIN(-off, 1) * share * window / 2;
    }
    set_window(pace, window);
}

void fut_copy_pace_done(FutCopyPace *pace, uint64_t bytes, uint64_t latency_ns, uint64_t now_ns)
{
    g_assert(pace->under_way >= bytes);
    pace->under_way -= bytes;
    if (latency_ns > 0) {
        count(pace, bytes, now_ns);
        steer(pace, bytes, latency_ns, now_ns);
    }
}

void fut_copy_pace_vm(FutCopyPace *pace, uint64_t bytes, uint64_t latency_ns, uint64_t now_ns)
{
    pace->busy_ns = now_ns;
    if (latency_ns == 0) {
        return;
    }
    uint64_t wait_ns = waited(pace, bytes, latency_ns, now_ns);
    if (wait_ns > 2 * TARGET_BUSY_NS) {
        pace->starting = false;
    }
    if (queued(pace, wait_ns, now_ns) > 2 * TARGET_BUSY_NS &&
        now_ns - pace->last_cut_ns > MAX(latency_ns, RECENT_NS)) {
        /* Once in a round: what it shows was caused a round ago. */
        pace->last_cut_ns = now_ns;
        set_window(pace, pace->window * 0.8);
    }
}

uint64_t fut_copy_pace_idle_ns(const FutCopyPace *pace, uint64_t now_ns)
{
    if (pace->busy_ns == 0) {
        return UINT64_MAX;
    }
    return now_ns > pace->busy_ns ? now_ns - pace->busy_ns
                                  : 0; /* it may have come after `now` was read */
}
