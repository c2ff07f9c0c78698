/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wall clock of a Linux guest, found in its kernel's memory and moved from outside. It is moved as clock_settime(CLOCK_REALTIME) would (kernel/time/timekeeping.c,
 * tk_set_wall_to_mono() and tk_set_xtime(); kernel/time/vsyscall.c for what programs read without the kernel): CLOCK_MONOTONIC and
 * CLOCK_BOOTTIME go on as they were, timers against the wall clock come due by the new one at the next timer interrupt, and what an NTP daemon has told the kernel stays.
 * Known are the structures of 6.1 to 6.12: members are found by name, and all that is to be written is first explained by what is there.
 */
#ifndef FUT_GUEST_CLOCK_H
#define FUT_GUEST_CLOCK_H

#include "guest_kernel.h"

/* Members of struct timekeeper that are looked at. */
typedef enum {
    FUT_TK_XTIME_SEC,
    FUT_TK_KTIME_SEC,
    FUT_TK_WALL_SEC, /* wall_to_monotonic */
    FUT_TK_WALL_NSEC,
    FUT_TK_OFFS_REAL,
    FUT_TK_OFFS_TAI,
    FUT_TK_TAI_OFFSET,
    FUT_TK_SET_SEQ, /* clock_was_set_seq */
    FUT_TK_NEXT_LEAP,
    FUT_TK_SHIFT, /* of tkr_mono, as all below */
    FUT_TK_XTIME_NSEC,
    FUT_TK_BASE,
    FUT_TK_BASE_REAL,
    FUT_TK_MEMBERS
} FutTkMember;

typedef struct {
    FutGuestMemory memory;
    uint64_t sequence, lock; /* addresses: 32 bits each */
    uint64_t timekeeper, shadow;
    uint64_t vdso;        /* struct vdso_data */
    uint64_t vdso_stamps; /* its basetime[] */
    uint64_t vdso_sequence;
    uint32_t at[FUT_TK_MEMBERS]; /* offsets in struct timekeeper */
} FutGuestClock;

#define FUT_GUEST_CLOCK_WRITES 32u /* at most */

/* `kernel` is borrowed for the call. FUT_ERR_UNSUPPORTED says what of it is not known. */
bool fut_guest_clock_find(const FutGuestKernel *kernel, FutGuestClock *ret, GError **error);
/*
 * What has to be written for the wall clock to be `by_ns` later, all of it before a vCPU executes again; none may execute during the call.
 * FUT_ERR_BUSY: the kernel itself was at it; let the guest run a moment. FUT_ERR_UNSUPPORTED: what is there is not a clock as it is known.
 */
bool fut_guest_clock_step(const FutGuestClock *clock, uint64_t by_ns,
                          FutGuestWrite writes[FUT_GUEST_CLOCK_WRITES], unsigned *ret_count,
                          GError **error);

#endif
