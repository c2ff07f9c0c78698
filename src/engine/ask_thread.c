/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ask thread: talks to the arbiter, which may block for as long as shared storage does. */
#include "fut_clock.h"
#include "fut_heap.h"
#include "service_internal.h"

/* A grant is followed by a takeover, in this thread: the device state and all that is made of it. */
#define TAKEOVER_BYTES (1u << 20)

static FutAnswer answer_of(FutClaim claim)
{
    switch (claim) {
    case FUT_CLAIM_GRANTED:
        return FUT_ANSWER_GRANTED;
    case FUT_CLAIM_REFUSED:
        return FUT_ANSWER_REFUSED;
    default:
        return FUT_ANSWER_UNKNOWN;
    }
}

/* What this host has already is looked up, not claimed: a program that fences would act. */
static FutClaim ask(FutService *service, uint64_t generation, char **ret_text)
{
    const char *node = service->options->node;
    FutEngineStatus status;

    fut_engine_status(service->engine, &status);
    return generation <= status.generation
               ? fut_arbiter_confirm(service->arbiter, generation, node, ret_text)
               : fut_arbiter_claim(service->arbiter, generation, node, ret_text);
}

void *fut_ask_thread(void *opaque)
{
    FutService *service = opaque;
    FutHeap *kept =
        service->options->role == FUT_ROLE_BACKUP ? fut_heap_keep(TAKEOVER_BYTES) : NULL;

    for (;;) {
        g_autofree uint64_t *generation = g_async_queue_pop(service->asks);
        if (g_atomic_int_get(&service->exiting)) {
            continue; /* who is about to leave claims nothing any more */
        }
        g_autofree char *text = NULL;
        fut_heap_let_go(g_steal_pointer(&kept));
        FutClaim claim = ask(service, *generation, &text);
        fut_engine_answer(service->engine, answer_of(claim), *generation, text ? text : "",
                          fut_now_ns());
    }
    return NULL;
}
