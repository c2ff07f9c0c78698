/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "recency.h"

#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_PAGES (1u << FUT_RECENCY_CHUNK_SHIFT)

static uint64_t pages_of(const FutRecency *recency, unsigned block)
{
    return recency->memory->block[block].length >> FUT_PAGE_SHIFT;
}

/* Not from malloc(): most of it will never be touched. */
static void *map(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

bool fut_recency_init(FutRecency *recency, const FutMemory *memory)
{
    memset(recency, 0, sizeof(*recency));
    recency->memory = memory;
    recency->now = 1;
    for (unsigned i = 0; i < memory->count; i++) {
        uint64_t pages = pages_of(recency, i);
        if (pages == 0) {
            continue;
        }
        recency->pages[i] = map(pages * sizeof(FutPageUse));
        recency->used[i] = g_malloc0((pages >> FUT_RECENCY_CHUNK_SHIFT) + 1);
        if (!recency->pages[i]) {
            fut_recency_done(recency);
            return false;
        }
    }
    return true;
}

void fut_recency_done(FutRecency *recency)
{
    for (unsigned i = 0; i < recency->memory->count; i++) {
        if (recency->pages[i]) {
            munmap(recency->pages[i], pages_of(recency, i) * sizeof(FutPageUse));
        }
        g_free(recency->used[i]);
        recency->pages[i] = NULL;
        recency->used[i] = NULL;
    }
}

/* -- the best -- */

typedef struct {
    uint32_t age, times;
    uint64_t key;
} Aged;

static void take_page(const FutPageUse *use, uint32_t now, uint64_t key, GArray *found)
{
    uint32_t last = __atomic_load_n(&use->last, __ATOMIC_RELAXED);
    /* Used since the search began: the difference is below zero. */
    uint32_t age = (int32_t)(now - last) < 0 ? 0 : now - last;

    if (last != 0) {
        uint32_t times = fut_recency_fade(__atomic_load_n(&use->times, __ATOMIC_RELAXED), age);
        Aged one = { age, times, key };
        g_array_append_val(found, one);
    }
}

static void look(const FutRecency *recency, GArray *found)
{
    uint32_t now = __atomic_load_n(&recency->now, __ATOMIC_RELAXED);

    for (unsigned block = 0; block < recency->memory->count; block++) {
        uint64_t pages = pages_of(recency, block);
        for (uint64_t first = 0; first < pages; first += CHUNK_PAGES) {
            if (!__atomic_load_n(&recency->used[block][first >> FUT_RECENCY_CHUNK_SHIFT],
                                 __ATOMIC_RELAXED)) {
                continue;
            }
            for (uint64_t page = first; page < MIN(first + CHUNK_PAGES, pages); page++) {
                take_page(&recency->pages[block][page], now, fut_key(block, page), found);
            }
        }
    }
}

static gint by_age(gconstpointer a, gconstpointer b)
{
    const Aged *x = a, *y = b;

    if (x->age != y->age) {
        return x->age < y->age ? -1 : 1;
    }
    return x->key < y->key ? -1 : x->key > y->key;
}

static gint by_times(gconstpointer a, gconstpointer b)
{
    const Aged *x = a, *y = b;

    return x->times != y->times ? (x->times > y->times ? -1 : 1) : by_age(a, b);
}

size_t fut_recency_best(const FutRecency *recency, FutRecencyOrder order, uint64_t *ret_keys,
                        size_t max)
{
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(Aged));

    look(recency, found);
    g_array_sort(found, order == FUT_RECENCY_NEWEST ? by_age : by_times);
    size_t count = MIN(max, found->len);
    for (size_t i = 0; i < count; i++) {
        ret_keys[i] = g_array_index(found, Aged, i).key;
    }
    return count;
}
