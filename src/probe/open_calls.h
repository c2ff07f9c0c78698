/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of a function that have not returned yet. A call is known by its place on the stack: whoever made it, on whichever vCPU it
 * goes on, it is over when the stack pointer is above that place again. A fixed number of places, no lock, no allocation: all vCPUs
 * may come at any time. A function that never returns (the end of a process) leaves its place to the next call from there, or to
 * whoever needs it after all others in reach are taken.
 */
#ifndef FUT_OPEN_CALLS_H
#define FUT_OPEN_CALLS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FUT_OPEN_CALLS_MAX 512u
#define FUT_OPEN_CALL_ARGUMENTS 6u

typedef struct FutOpenCalls FutOpenCalls;

FutOpenCalls *fut_open_calls_new(void);
void fut_open_calls_free(FutOpenCalls *calls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutOpenCalls, fut_open_calls_free)
/*
 * A call that will have returned when the stack pointer is `stack` at `return_address` (0 and 1 are no stacks: forgotten at once). True: another one was forgotten for it,
 * or this one: its return will not be seen.
 */
bool fut_open_calls_put(FutOpenCalls *calls, uint64_t stack, uint64_t return_address,
                        const uint64_t arguments[FUT_OPEN_CALL_ARGUMENTS]);
/* It has returned: its arguments. False: there is none such. */
bool fut_open_calls_take(FutOpenCalls *calls, uint64_t stack, uint64_t return_address,
                         uint64_t ret_arguments[FUT_OPEN_CALL_ARGUMENTS]);

#endif
