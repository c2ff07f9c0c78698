/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How fast the background copy goes: a fixed limit, and one that adapts. Pure: time is handed in.
 *
 * The adaptive limit is a window of bytes under way, steered by delay as LEDBAT's is (RFC 6817): the least latency seen lately is what the
 * way takes when it is empty; what a fetch took longer has waited in a queue, and the VM's own reads wait in the same one. The
 * window grows while that wait is below a target and shrinks above it. The link is full with a queue of almost nothing.
 *
 * A machine that is slow to run us delays fetches, too, and asking for less does not help against that. Two things tell it from a
 * queue. A queue delays every fetch of some tenth of a second, a machine that comes and goes does not: the least wait of that
 * time counts (RFC 6817, 3.4.2). And what has arrived in a second at best lately, times the way's latency, is what the link holds without any
 * queue (BBR's estimate): most of that may be under way, whatever the waits say. */
#ifndef FUT_COPY_PACE_H
#define FUT_COPY_PACE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_PACE_SIZES 8   /* latencies are compared among fetches of a like size */
#define FUT_PACE_RECENT 64 /* waits that are looked back at */

typedef struct {
    bool adaptive;
    uint64_t rate;      /* bytes a second; 0: no limit */
    double credit;      /* bytes that the rate allows now */
    uint64_t credit_ns; /* as of then */
    double window;      /* bytes */
    uint64_t under_way; /* bytes */
    bool starting;      /* doubling the window, until a wait shows */
    uint64_t epoch_ns;  /* when the minima below began */
    uint64_t busy_ns;   /* last fetch or access of the VM's */
    uint64_t last_cut_ns;
    uint64_t least_ns[FUT_PACE_SIZES],
        earlier_ns[FUT_PACE_SIZES]; /* since epoch_ns, and before it */
    struct {
        uint64_t at_ns, wait_ns;
    } recent[FUT_PACE_RECENT];
    unsigned next_recent;
    uint64_t counted_ns, counted; /* bytes that have come since then */
    double best, earlier_best;    /* bytes a second: since best_ns, and before it */
    uint64_t best_ns;
} FutCopyPace;

void fut_copy_pace_init(FutCopyPace *pace, bool adaptive, uint64_t rate, uint64_t now_ns);
void fut_copy_pace_set_rate(FutCopyPace *pace, bool adaptive, uint64_t rate, uint64_t now_ns);
/* 0: `bytes` may be fetched now. Otherwise nanoseconds after which to ask again; UINT64_MAX: when a fetch has ended. */
uint64_t fut_copy_pace_wait(FutCopyPace *pace, uint64_t bytes, uint64_t now_ns);
void fut_copy_pace_sent(FutCopyPace *pace, uint64_t bytes);
/* A fetch has ended after latency_ns; 0: it failed. */
void fut_copy_pace_done(FutCopyPace *pace, uint64_t bytes, uint64_t latency_ns, uint64_t now_ns);
/* The VM uses the disk; latency_ns of a fetch of its own, or 0. */
void fut_copy_pace_vm(FutCopyPace *pace, uint64_t bytes, uint64_t latency_ns, uint64_t now_ns);
/* Nanoseconds since the VM last used the disk. */
uint64_t fut_copy_pace_idle_ns(const FutCopyPace *pace, uint64_t now_ns);

#endif
