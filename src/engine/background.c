/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "background.h"

#include <glib.h>
#include <sys/resource.h>

/* Lower by so much: a third of what others get where all want it, and they go first when they wake up. */
#define STEPS 5
#define NICE_MAX 19

static int lower(int nice)
{
    return MIN(nice + STEPS, NICE_MAX);
}

/* In Linux this is of one thread. */
static bool set_nice(int nice)
{
    return setpriority(PRIO_PROCESS, 0, nice) == 0;
}

/* In a thread of its own, for it may not come back. */
static void *try_both(void *opaque)
{
    FutBackground *background = opaque;

    background->possible = set_nice(lower(background->nice)) && set_nice(background->nice);
    return NULL;
}

void fut_background_init(FutBackground *background)
{
    *background = (FutBackground){ .nice = getpriority(PRIO_PROCESS, 0) };
    g_thread_join(g_thread_new("futago-nice", try_both, background));
}

void fut_background_set(FutBackground *background, bool on)
{
    if (background->possible && background->on != on) {
        background->on =
            set_nice(on ? lower(background->nice) : background->nice) ? on : background->on;
    }
}
