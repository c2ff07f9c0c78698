/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls that have not returned: nesting, calls that never return, too many, and several threads at once. */
#include <glib.h>

#include "open_calls.h"

#define STACK UINT64_C(0xffffc90000014000)
#define BACK UINT64_C(0xffffffff81001234)

static bool put(FutOpenCalls *calls, uint64_t stack, uint64_t number)
{
    uint64_t arguments[FUT_OPEN_CALL_ARGUMENTS] = { number, number + 1, 2, 3, 4, ~number };

    return fut_open_calls_put(calls, stack, BACK + number % 7, arguments);
}

static bool take(FutOpenCalls *calls, uint64_t stack, uint64_t number)
{
    uint64_t arguments[FUT_OPEN_CALL_ARGUMENTS];

    if (!fut_open_calls_take(calls, stack, BACK + number % 7, arguments)) {
        return false;
    }
    g_assert_cmpuint(arguments[0], ==, number);
    g_assert_cmpuint(arguments[1], ==, number + 1);
    g_assert_cmpuint(arguments[5], ==, ~number);
    return true;
}

static void test_nested(void)
{
    g_autoptr(FutOpenCalls) calls = fut_open_calls_new();

    g_assert_false(take(calls, STACK, 1));
    g_assert_false(put(calls, STACK, 1));
    g_assert_false(put(calls, STACK - 64, 2));
    g_assert_false(take(calls, STACK - 64, 1)); /* another return address */
    g_assert_true(take(calls, STACK - 64, 2));
    g_assert_false(take(calls, STACK - 64, 2));
    g_assert_true(take(calls, STACK, 1));
    g_assert_false(take(calls, 0, 1));
}

/* The process ended in it; its stack is another's now. */
/* Numbers that are no stack, and mean something in the table. */
static void test_no_stack(void)
{
    g_autoptr(FutOpenCalls) calls = fut_open_calls_new();
    uint64_t arguments[FUT_OPEN_CALL_ARGUMENTS] = { 0 };

    for (uint64_t stack = 0; stack < 2; stack++) {
        for (unsigned i = 0; i < 2 * FUT_OPEN_CALLS_MAX; i++) {
            g_assert_true(fut_open_calls_put(calls, stack, 1, arguments));
        }
        g_assert_false(fut_open_calls_take(calls, stack, 1, arguments));
    }
    g_assert_false(fut_open_calls_put(calls, 0x1000, 1, arguments));
}

static void test_never_returns(void)
{
    g_autoptr(FutOpenCalls) calls = fut_open_calls_new();

    g_assert_false(put(calls, STACK, 1));
    g_assert_true(put(calls, STACK, 2));
    g_assert_true(take(calls, STACK, 2));
}

/* More than there is room for: as many are forgotten, the newest is not. */
static void test_full(void)
{
    g_autoptr(FutOpenCalls) calls = fut_open_calls_new();
    unsigned forgotten = 0, seen = 0, number = 4 * FUT_OPEN_CALLS_MAX;

    for (unsigned i = 1; i <= number; i++) {
        forgotten += put(calls, STACK + 8 * (uint64_t)i, i);
    }
    g_assert_cmpuint(forgotten, >=, 3 * FUT_OPEN_CALLS_MAX);
    g_assert_true(take(calls, STACK + 8 * (uint64_t)number, number));
    for (unsigned i = 1; i < number; i++) {
        seen += take(calls, STACK + 8 * (uint64_t)i, i);
    }
    g_assert_cmpuint(seen + 1 + forgotten, ==, number);
}

typedef struct {
    FutOpenCalls *calls;
    unsigned number, forgotten, seen;
} Vcpu;

#define ROUNDS 50000u

/* Eight calls deep, again and again; each vCPU has stacks of its own, as the kernel's tasks have. */
static void *run_vcpu(void *data)
{
    Vcpu *vcpu = data;
    uint64_t stack = STACK + vcpu->number * 0x4000;

    for (unsigned i = 0; i < ROUNDS; i++) {
        for (unsigned depth = 0; depth < 8; depth++) {
            vcpu->forgotten += put(vcpu->calls, stack - 72 * depth, (uint64_t)i << 8 | depth);
        }
        for (unsigned depth = 8; depth-- > 0;) {
            vcpu->seen += take(vcpu->calls, stack - 72 * depth, (uint64_t)i << 8 | depth);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    g_autoptr(FutOpenCalls) calls = fut_open_calls_new();
    Vcpu vcpus[4];
    GThread *threads[4];
    unsigned forgotten = 0, seen = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(vcpus); i++) {
        vcpus[i] = (Vcpu){ calls, i, 0, 0 };
        threads[i] = g_thread_new("vcpu", run_vcpu, &vcpus[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(vcpus); i++) {
        g_thread_join(threads[i]);
        forgotten += vcpus[i].forgotten;
        seen += vcpus[i].seen;
    }
    g_assert_cmpuint(seen + forgotten, ==, 8 * ROUNDS * G_N_ELEMENTS(vcpus));
    g_assert_cmpuint(seen, >, forgotten);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/open-calls/nested", test_nested);
    g_test_add_func("/open-calls/no-stack", test_no_stack);
    g_test_add_func("/open-calls/never-returns", test_never_returns);
    g_test_add_func("/open-calls/full", test_full);
    g_test_add_func("/open-calls/threads", test_threads);
    return g_test_run();
}
