/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory of malloc()'s that was used before it is wanted. */
#ifndef FUT_HEAP_H
#define FUT_HEAP_H

#include <stddef.h>

typedef struct FutHeap FutHeap;

/* Takes and touches about that much of the calling thread's heap. It stays taken: what is free, QEMU gives back to the kernel at any time
 * (malloc_trim()). NULL where there is no memory. */
FutHeap *fut_heap_keep(size_t bytes);

/* From now on that thread's allocations find it, and no page of it has to be found by the kernel first. 64 KiB of it stay taken for good,
 * so that it is not the heap's end, which the C library gives back. Takes NULL. Any thread. */
void fut_heap_let_go(FutHeap *take_heap);

#endif
