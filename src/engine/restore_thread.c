/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread in which a VM becomes what a snapshot says. It ends when the guest runs. */
#include "restore.h"

#include "fut_clock.h"
#include "service_internal.h"

static char *tell(const FutRestoreTimes *times)
{
    return g_strdup_printf("the guest runs from snapshot %" G_GUINT64_FORMAT
                           ", %.1f s old: after %.0f ms (%.0f ms for %" G_GUINT64_FORMAT
                           " MiB of memory, %.0f ms for %" G_GUINT64_FORMAT " MiB of disks)",
                           times->id, (double)times->age_us / G_USEC_PER_SEC,
                           (double)times->total_ns / (double)FUT_NS_PER_MS,
                           (double)times->memory_ns / (double)FUT_NS_PER_MS,
                           times->pages >> (20 - FUT_PAGE_SHIFT),
                           (double)times->disks_ns / (double)FUT_NS_PER_MS,
                           times->disk_bytes >> 20);
}

void *fut_restore_thread(void *opaque)
{
    FutService *service = opaque;
    g_autoptr(FutRestore) restore = g_steal_pointer(&service->restore);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    FutRestoreTimes times;

    if (fut_restore_do(restore, &times, &error)) {
        text = tell(&times);
        fut_service_report(service, "FUT-220", text);
    } else {
        text = g_strdup_printf("restore failed, the VM ends: %s", error->message);
        fut_service_report(service, "FUT-221", text);
        service->vmm->ops->quit(service->vmm);
    }
    return NULL;
}
