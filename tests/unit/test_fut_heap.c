/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fut_heap.h"

#include <glib.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/resource.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#define READY (1u << 20)
#define BLOCK 8192u
#define BLOCKS (READY / 2 / BLOCK)

static long faults(void)
{
    struct rusage usage;

    g_assert_cmpint(getrusage(RUSAGE_THREAD, &usage), ==, 0);
    return usage.ru_minflt;
}

/* How many pages the kernel had to find for half a MiB. */
static long use_heap(void)
{
    volatile char *blocks[BLOCKS];
    long before = faults();

    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK);
        blocks[i][0] = 1;
        blocks[i][BLOCK / 2] = 1;
    }
    long found = faults() - before;
    for (unsigned i = 0; i < BLOCKS; i++) {
        free((void *)blocks[i]);
    }
    return found;
}

static void *in_thread(void *opaque)
{
    long *result = opaque;

#ifdef __SANITIZE_ADDRESS__
    __lsan_disable(); /* a piece of it stays taken for good */
#endif
    FutHeap *heap = fut_heap_keep(READY);
#ifdef __SANITIZE_ADDRESS__
    __lsan_enable();
#endif
    malloc_trim(0); /* as QEMU does */
    fut_heap_let_go(heap);
    *result = use_heap();
    return NULL;
}

static void test_no_fault(void)
{
    long result = -1;

    /* With a heap of its own, which nobody has used before. */
    g_thread_join(g_thread_new("heap", in_thread, &result));
#ifdef __SANITIZE_ADDRESS__
    g_assert_cmpint(
        result, >=,
        0); /* the sanitizer's heap is another one: that nothing is lost or used twice is what it looks for */
#else
    g_assert_cmpint(result, <, BLOCKS / 4);
#endif
    fut_heap_let_go(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fut-heap/no-fault", test_no_fault);
    return g_test_run();
}
