/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "background.h"

#include <glib.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fut_clock.h"

/* Lower by so much: a third of what others get where all want it. */
#define STEPS 5
#define NICE_MAX 19
/* So long it keeps a processor in one go while others wait for it. Linux would let it have three and more milliseconds, and who is woken meanwhile
 * waits for their end, even if another processor has nothing to do. */
#define SLICE_NS (500 * FUT_NS_PER_US)

/* As Linux has it; glibc does not. */
typedef struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t
        runtime_ns; /* the slice, since Linux 6.12; without a meaning before. 0: the usual one */
    uint64_t deadline_ns, period_ns;
} Attributes;

static int lower(int nice)
{
    return MIN(nice + STEPS, NICE_MAX);
}

/* In Linux this is of one thread. */
static bool set_nice(int nice)
{
    return setpriority(PRIO_PROCESS, 0, nice) == 0;
}

/* Both at once. Where that cannot be it stays as it is. */
static bool set_both(int nice, uint64_t slice_ns)
{
    Attributes attributes = {
        .size = sizeof(attributes), .policy = SCHED_OTHER, .nice = nice, .runtime_ns = slice_ns
    };

    return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0 || set_nice(nice);
}

/* In a thread of its own, for it may not come back. */
static void *try_both(void *opaque)
{
    FutBackground *background = opaque;

    background->possible = sched_getscheduler(0) == SCHED_OTHER &&
                           set_nice(lower(background->nice)) && set_nice(background->nice);
    return NULL;
}

void fut_background_init(FutBackground *background)
{
    *background = (FutBackground){ .nice = getpriority(PRIO_PROCESS, 0) };
    g_thread_join(g_thread_new("futago-nice", try_both, background));
}

static uint64_t used_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * FUT_NS_PER_S + (uint64_t)time.tv_nsec;
}

void fut_background_set(FutBackground *background, bool on)
{
    if (!background->possible || background->on == on) {
        return;
    }
    if (set_both(on ? lower(background->nice) : background->nice, on ? SLICE_NS : 0)) {
        background->on = on;
    }
}

void fut_background_give_way(FutBackground *background)
{
    if (background->on && used_ns() - background->since_ns >= SLICE_NS * 4 / 5) {
        sched_yield();
        background->since_ns = used_ns();
    }
}
