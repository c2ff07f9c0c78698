/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes wrong the same way again and again is said once, then at twice the interval each time. */
#ifndef FUT_REPEAT_H
#define FUT_REPEAT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t said_ns, after_ns; /* all 0: never said */
} FutRepeat;

/* Is it to be said now? If so it counts as said. The first interval is `first_ns`, none is longer than `max_ns`. */
static inline bool fut_repeat_due(FutRepeat *repeat, uint64_t now_ns, uint64_t first_ns,
                                  uint64_t max_ns)
{
    if (repeat->after_ns && now_ns - repeat->said_ns < repeat->after_ns) {
        return false;
    }
    repeat->said_ns = now_ns;
    repeat->after_ns = CLAMP(2 * repeat->after_ns, first_ns, max_ns);
    return true;
}

#endif
