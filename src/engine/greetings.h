/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links that are not links of the pair yet: their two ends still prove to each other who they are
 * (TLS). Many may be under way at once, and one that says nothing holds up nobody. Link thread
 * only. */
#ifndef FUT_GREETINGS_H
#define FUT_GREETINGS_H

#include <poll.h>

#include "link.h"

/* Under way at once; one more pushes the oldest out. */
#define FUT_GREETINGS_MAX 32
/* Patience with each. */
#define FUT_GREETING_MS 3000

typedef struct {
    FutLink *link; /* owned; NULL = free place */
    bool called;   /* we connected; else somebody came in */
    uint64_t end_ns;
    short events; /* what poll said last */
} FutGreeting;

typedef struct {
    FutGreeting all[FUT_GREETINGS_MAX];
    /* The ends prove themselves: the link is the caller's. */
    void (*greeted)(void *opaque, FutLink *take_link, bool called);
    void (*failed)(void *opaque, bool called, const char *why);
    void *opaque;
} FutGreetings;

/* Calls greeted() or failed() at once when there is nothing to wait for, as for a plain link. */
void fut_greetings_add(FutGreetings *greetings, FutLink *take_link, bool called, uint64_t now_ns);
/* Descriptors to poll; returns how many. `fds` has room for FUT_GREETINGS_MAX. */
nfds_t fut_greetings_poll(const FutGreetings *greetings, struct pollfd *fds);
/* When the first of them runs out of time; UINT64_MAX: none is under way. */
uint64_t fut_greetings_deadline(const FutGreetings *greetings);
/* After poll: goes on with those that can, ends those that took too long. */
void fut_greetings_run(FutGreetings *greetings, const struct pollfd *fds, nfds_t count,
                       uint64_t now_ns);

#endif
