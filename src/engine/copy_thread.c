/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy thread: runs the initial copy, no faster than the link takes it. */
#include "fut_clock.h"
#include "service_internal.h"

/* Bytes waiting in the link above which copying pauses. */
#define COPY_PENDING_MAX (8u << 20)
#define COPY_WAIT_US 500

void fut_copy_host_copy(FutService *service, bool on)
{
    g_mutex_lock(&service->copy_lock);
    service->copy_on = on;
    service->copy_poked |= on;
    g_cond_broadcast(&service->copy_changed);
    while (!on && service->copy_stepping) {
        g_cond_wait(&service->copy_changed, &service->copy_lock);
    }
    g_mutex_unlock(&service->copy_lock);
}

/* A poke that comes during a step is kept for the next round. */
static void wait_for_poke(FutService *service)
{
    g_mutex_lock(&service->copy_lock);
    service->copy_stepping = false;
    g_cond_broadcast(&service->copy_changed);
    while (!service->copy_on || !service->copy_poked) {
        g_cond_wait(&service->copy_changed, &service->copy_lock);
    }
    service->copy_poked = false;
    service->copy_stepping = true;
    g_mutex_unlock(&service->copy_lock);
}

static void poke_self(FutService *service)
{
    g_mutex_lock(&service->copy_lock);
    service->copy_poked = true;
    g_mutex_unlock(&service->copy_lock);
}

void *fut_copy_thread(void *opaque)
{
    FutService *service = opaque;
    for (;;) {
        wait_for_poke(service);
        if (fut_link_host_pending(service) > COPY_PENDING_MAX) {
            g_usleep(COPY_WAIT_US);
            poke_self(service);
        } else if (fut_engine_copy_step(service->engine, fut_now_ns()) > 0) {
            poke_self(service);
        }
    }
    return NULL;
}
