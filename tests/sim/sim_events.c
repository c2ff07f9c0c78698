/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens next: a binary heap of events, by time, then by the order in which they were put. */
#include "sim.h"

static bool earlier(const SimEvent *a, const SimEvent *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static SimEvent *at(GArray *heap, unsigned i)
{
    return &g_array_index(heap, SimEvent, i);
}

static void swap(GArray *heap, unsigned i, unsigned j)
{
    SimEvent spare = *at(heap, i);
    *at(heap, i) = *at(heap, j);
    *at(heap, j) = spare;
}

void sim_push(Sim *sim, uint64_t after_ns, SimEvent event)
{
    GArray *heap = sim->heap;

    event.at_ns = sim->now_ns + after_ns;
    event.order = sim->order++;
    g_array_append_val(heap, event);
    for (unsigned i = heap->len - 1; i > 0 && earlier(at(heap, i), at(heap, (i - 1) / 2));
         i = (i - 1) / 2) {
        swap(heap, i, (i - 1) / 2);
    }
}

void sim_push_host(SimHost *host, uint64_t after_ns, SimEventKind kind)
{
    sim_push(host->sim, after_ns,
             (SimEvent){ .kind = kind, .host = host->index, .life = host->life });
}

void sim_push_again(Sim *sim, const SimEvent *event)
{
    sim_push(sim, 0, *event);
}

bool sim_pop(Sim *sim, SimEvent *ret)
{
    GArray *heap = sim->heap;

    if (heap->len == 0) {
        return false;
    }
    *ret = *at(heap, 0);
    swap(heap, 0, heap->len - 1);
    g_array_set_size(heap, heap->len - 1);
    for (unsigned i = 0;;) {
        unsigned least = i;
        for (unsigned child = 2 * i + 1; child <= 2 * i + 2 && child < heap->len; child++) {
            least = earlier(at(heap, child), at(heap, least)) ? child : least;
        }
        if (least == i) {
            return true;
        }
        swap(heap, i, least);
        i = least;
    }
}
