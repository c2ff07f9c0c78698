/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Places in a table by hash of the stack's address, a few in a row. `stack` is free, taken by a thread that writes or reads the rest, or
 * the call's: whoever turns it from one of the other two into TAKEN owns the place until he sets it again.
 */
#include "open_calls.h"

#include <stdatomic.h>
#include <string.h>

#define REACH 8u
#define FREE UINT64_C(0)
#define TAKEN UINT64_C(1)

typedef struct {
    atomic_uint_fast64_t stack;
    atomic_uint_fast64_t serial; /* the smaller, the older */
    uint64_t return_address;
    uint64_t arguments[FUT_OPEN_CALL_ARGUMENTS];
} Call;

struct FutOpenCalls {
    atomic_uint_fast64_t serial;
    Call calls[FUT_OPEN_CALLS_MAX];
};

FutOpenCalls *fut_open_calls_new(void)
{
    return g_new0(FutOpenCalls, 1);
}

void fut_open_calls_free(FutOpenCalls *calls)
{
    g_free(calls);
}

/* Stacks are 16 KiB, and differ above that and within. */
static Call *place(FutOpenCalls *calls, uint64_t stack, unsigned n)
{
    uint64_t hash = (stack >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 32;

    return &calls->calls[(hash + n) % FUT_OPEN_CALLS_MAX];
}

static bool own(Call *call, uint64_t stack)
{
    uint_fast64_t expected = stack;

    return atomic_compare_exchange_strong(&call->stack, &expected, TAKEN);
}

/* In the reach of `stack`, the one that is `holder`'s. */
static Call *find(FutOpenCalls *calls, uint64_t stack, uint64_t holder)
{
    for (unsigned n = 0; n < REACH; n++) {
        Call *call = place(calls, stack, n);
        if (atomic_load(&call->stack) == holder && own(call, holder)) {
            return call;
        }
    }
    return NULL;
}

static Call *find_oldest(FutOpenCalls *calls, uint64_t stack)
{
    Call *oldest = NULL;
    uint64_t serial = UINT64_MAX, holder = FREE;

    for (unsigned n = 0; n < REACH; n++) {
        Call *call = place(calls, stack, n);
        uint64_t there = atomic_load(&call->stack), age = atomic_load(&call->serial);
        if (there != TAKEN && age < serial) {
            oldest = call;
            serial = age;
            holder = there;
        }
    }
    return oldest && own(oldest, holder) ? oldest : NULL;
}

bool fut_open_calls_put(FutOpenCalls *calls, uint64_t stack, uint64_t return_address,
                        const uint64_t arguments[FUT_OPEN_CALL_ARGUMENTS])
{
    if (stack <= TAKEN) {
        return true; /* a guest may set its stack to anything */
    }
    Call *call = find(calls, stack, stack); /* a call from that very place that never returned */
    bool forgotten = call != NULL;

    if (!call) {
        call = find(calls, stack, FREE);
    }
    if (!call) {
        call = find_oldest(calls, stack);
        forgotten = true;
    }
    if (call) {
        call->return_address = return_address;
        memcpy(call->arguments, arguments, sizeof(call->arguments));
        atomic_store(&call->serial, atomic_fetch_add(&calls->serial, 1));
        atomic_store(&call->stack, stack);
    }
    return forgotten;
}

bool fut_open_calls_take(FutOpenCalls *calls, uint64_t stack, uint64_t return_address,
                         uint64_t ret_arguments[FUT_OPEN_CALL_ARGUMENTS])
{
    Call *call = stack > TAKEN ? find(calls, stack, stack) : NULL;

    if (!call) {
        return false;
    }
    bool same = call->return_address == return_address;
    if (same) {
        memcpy(ret_arguments, call->arguments, sizeof(call->arguments));
    }
    atomic_store(&call->stack, same ? FREE : stack);
    return same;
}
