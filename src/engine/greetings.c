/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links whose ends still prove to each other who they are. */
#include "greetings.h"

#include "fut_clock.h"

/* Its place is free before anybody is told: who is told may add another. */
static void end(FutGreetings *greetings, FutGreeting *greeting, const char *why)
{
    g_autoptr(FutLink) link = g_steal_pointer(&greeting->link);
    fut_link_close(link);
    greetings->failed(greetings->opaque, greeting->called, why);
}

static void fail(FutGreetings *greetings, FutGreeting *greeting, const char *why)
{
    g_autofree char *text =
        g_strdup_printf("no TLS with %s: %s", fut_link_name(greeting->link), why);
    end(greetings, greeting, text);
}

static void go_on(FutGreetings *greetings, FutGreeting *greeting)
{
    g_autoptr(GError) error = NULL;
    if (!fut_link_flush(greeting->link, &error)) {
        end(greetings, greeting, error->message);
        return;
    }
    int done = fut_link_handshake(greeting->link, &error);
    if (done < 0) {
        end(greetings, greeting, error->message);
    } else if (done > 0) {
        greetings->greeted(greetings->opaque, g_steal_pointer(&greeting->link), greeting->called);
    }
}

static FutGreeting *oldest_of(FutGreetings *greetings)
{
    FutGreeting *oldest = NULL;
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        FutGreeting *greeting = &greetings->all[i];
        /* Not our own call: strangers must not be able to end it. */
        if (greeting->link && !greeting->called && (!oldest || greeting->end_ns < oldest->end_ns)) {
            oldest = greeting;
        }
    }
    return oldest;
}

static FutGreeting *free_place(FutGreetings *greetings)
{
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        if (!greetings->all[i].link) {
            return &greetings->all[i];
        }
    }
    return NULL;
}

void fut_greetings_add(FutGreetings *greetings, FutLink *take_link, bool called, uint64_t now_ns)
{
    FutGreeting *place = free_place(greetings);
    if (!place) {
        fail(greetings, oldest_of(greetings), "too many connections at once");
        place = free_place(greetings);
    }
    *place = (FutGreeting){ take_link, called, now_ns + FUT_GREETING_MS * FUT_NS_PER_MS, 0 };
    go_on(greetings, place);
}

nfds_t fut_greetings_poll(const FutGreetings *greetings, struct pollfd *fds)
{
    nfds_t count = 0;
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        FutLink *link = greetings->all[i].link;
        if (link) {
            short wanted = fut_link_pending(link) > 0 ? POLLIN | POLLOUT : POLLIN;
            fds[count++] = (struct pollfd){ fut_link_fd(link), wanted, 0 };
        }
    }
    return count;
}

uint64_t fut_greetings_deadline(const FutGreetings *greetings)
{
    uint64_t first_ns = UINT64_MAX;
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        if (greetings->all[i].link) {
            first_ns = MIN(first_ns, greetings->all[i].end_ns);
        }
    }
    return first_ns;
}

/* What poll said about a descriptor. */
static short events_of(int fd, const struct pollfd *fds, nfds_t count)
{
    for (nfds_t i = 0; i < count; i++) {
        if (fds[i].fd == fd) {
            return fds[i].revents;
        }
    }
    return 0;
}

void fut_greetings_run(FutGreetings *greetings, const struct pollfd *fds, nfds_t count,
                       uint64_t now_ns)
{
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        FutGreeting *greeting = &greetings->all[i];
        greeting->events = greeting->link ? events_of(fut_link_fd(greeting->link), fds, count) : 0;
    }
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        FutGreeting *greeting = &greetings->all[i];
        if (!greeting->link) {
            continue;
        }
        if (now_ns < greeting->end_ns) {
            if (greeting->events) {
                go_on(greetings, greeting);
            }
        } else { /* whoever trickles, too */
            fail(greetings, greeting,
                 "it said nothing, or not enough, for " G_STRINGIFY(FUT_GREETING_MS) " ms");
        }
    }
}
