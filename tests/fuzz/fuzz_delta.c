/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: whatever fut_delta_check() accepts, fut_delta_apply() survives, and what it wrote can
 * be sent on: encoding the difference again and applying that gives the same memory. */
#include <string.h>

#include "delta.h"
#include "fuzz.h"

#define BLOCKS 3
static const unsigned block_pages[BLOCKS] = { 5, 1, 9 };

/* Each block by itself, so that a write past its end is seen. */
static FutMemory memory_new(void)
{
    FutMemory memory = { .count = BLOCKS };
    for (unsigned i = 0; i < BLOCKS; i++) {
        memory.block[i].length = block_pages[i] * FUT_PAGE_SIZE;
        memory.block[i].base = g_aligned_alloc0(block_pages[i], FUT_PAGE_SIZE, FUT_PAGE_SIZE);
    }
    return memory;
}

static void memory_done(FutMemory *memory)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        g_aligned_free(memory->block[i].base);
    }
}

static void assert_same(const FutMemory *a, const FutMemory *b)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        g_assert(memcmp(a->block[i].base, b->block[i].base, a->block[i].length) == 0);
    }
}

/* `written` is `blank` plus a stream: send the same on to a third memory. */
static void send_on(const FutMemory *written, const FutMemory *blank)
{
    FutMemory third = memory_new();
    FutPageSet keys = { 0 };
    FutBuf stream = { 0 };
    for (unsigned i = 0; i < BLOCKS; i++) {
        fut_pageset_add_word(&keys, i, 0, (1ull << block_pages[i]) - 1);
    }
    fut_delta_encode(&stream, written, blank, keys.keys, keys.count, NULL);
    g_assert(fut_delta_check(stream.data, stream.len, &third, NULL, NULL));
    fut_delta_apply(stream.data, stream.len, &third, NULL);
    assert_same(written, blank);
    assert_same(written, &third);
    fut_buf_done(&stream);
    fut_pageset_done(&keys);
    memory_done(&third);
}

/* The same stream, with pages that were never touched left alone. */
static void apply_again(const uint8_t *data, size_t size, const FutMemory *expected)
{
    FutMemory memory = memory_new();
    FutResident resident;

    fut_resident_init(&resident, &memory);
    fut_delta_apply(data, size, &memory, &resident);
    assert_same(&memory, expected);
    fut_resident_done(&resident);
    memory_done(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FutMemory memory = memory_new(), blank = memory_new();
    g_autoptr(GError) error = NULL;
    size_t records = 0;
    if (fut_delta_check(data, size, &memory, &records, &error)) {
        g_assert(records <= size);
        fut_delta_apply(data, size, &memory, NULL);
        apply_again(data, size, &memory);
        send_on(&memory, &blank);
    } else {
        g_assert(error && error->message[0]);
    }
    memory_done(&memory);
    memory_done(&blank);
    return 0;
}
