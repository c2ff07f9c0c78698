/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk thread: writes to a backup's disks and to a primary's shared ones, so that neither link nor commit waits for them. */
#include "service_internal.h"

void fut_disk_host_poke(FutService *service)
{
    g_mutex_lock(&service->disk_lock);
    service->disk_poked = true;
    g_cond_signal(&service->disk_changed);
    g_mutex_unlock(&service->disk_lock);
}

void *fut_disk_thread(void *opaque)
{
    FutService *service = opaque;
    for (;;) {
        g_mutex_lock(&service->disk_lock);
        while (!service->disk_poked) {
            g_cond_wait(&service->disk_changed, &service->disk_lock);
        }
        service->disk_poked = false;
        g_mutex_unlock(&service->disk_lock);
        while (fut_engine_disk_step(service->engine)) {
        }
    }
    return NULL;
}
