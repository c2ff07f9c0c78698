/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fut_heap.h"

#include <stdint.h>
#include <stdlib.h>

/* Below what the C library maps apart from its heap. */
#define CHUNK (64u << 10)
#define PAGE 4096u

struct FutHeap {
    FutHeap *before;
};

static FutHeap *take_chunk(FutHeap *before)
{
    FutHeap *chunk = malloc(CHUNK);

    for (size_t at = 0; chunk && at < CHUNK; at += PAGE) {
        *((volatile uint8_t *)chunk + at) = 0;
    }
    if (chunk) {
        chunk->before = before;
    }
    return chunk;
}

FutHeap *fut_heap_keep(size_t bytes)
{
    FutHeap *last = NULL;

    for (size_t done = 0; done < bytes + CHUNK; done += CHUNK) {
        FutHeap *chunk = take_chunk(last);
        last = chunk ? chunk : last;
    }
    return last;
}

void fut_heap_let_go(FutHeap *take_heap)
{
    /* The last stands behind the others, and stays. */
    FutHeap *chunk = take_heap ? take_heap->before : NULL;

    while (chunk) {
        FutHeap *before = chunk->before;
        free(chunk);
        chunk = before;
    }
}
