/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread in which a VM becomes what a snapshot says. It ends when all of it is there. */
#include "restore.h"

#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "service_internal.h"

/* A store on a network may be away for a moment; a guest that stands still for longer is of no use to anybody. */
#define PATIENCE_NS (20 * FUT_NS_PER_S)

static char *tell(const FutRestoreTimes *times)
{
    g_autofree char *memory =
        times->lazy ? g_strdup("memory follows")
                    : g_strdup_printf("%.0f ms for %" G_GUINT64_FORMAT " MiB of memory",
                                      (double)times->memory_ns / (double)FUT_NS_PER_MS,
                                      times->pages >> (20 - FUT_PAGE_SHIFT));

    return g_strdup_printf("the guest runs from snapshot %" G_GUINT64_FORMAT
                           ", %.1f s old: after %.0f ms (%s%s, %.0f ms for %" G_GUINT64_FORMAT
                           " MiB of disks)",
                           times->id, (double)times->age_us / G_USEC_PER_SEC,
                           (double)times->total_ns / (double)FUT_NS_PER_MS, memory,
                           times->checked ? ", which has the hash of the cut" : "",
                           (double)times->disks_ns / (double)FUT_NS_PER_MS,
                           times->disk_bytes >> 20);
}

static void tell_fault(FutService *service, const FutRestoreTimes *times)
{
    if (times->flows_fault[0]) {
        g_autofree char *text =
            g_strdup_printf("the snapshot's connections are left as they are: %s",
                            times->flows_fault);
        fut_service_report(service, "FUT-226", text);
    }
}

/* -- memory that comes while the guest runs -- */

static void trouble(void *opaque, const char *why, bool ends)
{
    g_autofree char *text =
        g_strdup_printf("the guest's memory cannot be read from the snapshot: %s%s", why,
                        ends ? ": the guest waits for a page, and is ended if this lasts"
                             : ": the guest runs on, and this is tried again");

    fut_service_report(opaque, "FUT-223", text);
}

/* QEMU's own end would wait for the vCPU that waits for the page. */
static void lost(void *opaque, const char *why)
{
    g_autofree char *text = g_strdup_printf(
        "the VM ends as by a power cut: a page of its memory cannot be read from the snapshot: %s: "
        "mend the store, or restore another snapshot",
        why);

    fut_service_report(opaque, "FUT-224", text);
    _exit(1);
}

static const FutLazyHost lazy_host = { trouble, lost, PATIENCE_NS };

static void follow(FutService *service, FutRestore *restore)
{
    uint64_t begin_ns = fut_now_ns();

    fut_restore_wait(restore);
    g_autofree char *text = g_strdup_printf(
        "all of its memory is there, %.1f s after the guest began to run; %u accesses had to wait",
        (double)(fut_now_ns() - begin_ns) / FUT_NS_PER_S, fut_restore_faults(restore));
    fut_service_report(service, "FUT-222", text);
}

/* -- who asks -- */

bool fut_restore_over(FutService *service, GError **error)
{
    g_mutex_lock(&service->restore_lock);
    bool over = service->restore == NULL;
    unsigned permille = over ? 0 : fut_restore_permille(service->restore);
    g_mutex_unlock(&service->restore_lock);
    if (!over) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "its memory is still coming from a snapshot (%u.%u %%): try again when all is "
                    "there (event FUT-222)",
                    permille / 10, permille % 10);
    }
    return over;
}

json_t *fut_restore_status(FutService *service)
{
    json_t *status = NULL;

    g_mutex_lock(&service->restore_lock);
    if (service->restore) {
        status = json_pack("{s:f, s:I}", "share", fut_restore_permille(service->restore) / 1000.0,
                           "faults", (json_int_t)fut_restore_faults(service->restore));
    }
    g_mutex_unlock(&service->restore_lock);
    return status;
}

static void forget(FutService *service)
{
    g_mutex_lock(&service->restore_lock);
    g_autoptr(FutRestore) restore = g_steal_pointer(&service->restore);
    g_mutex_unlock(&service->restore_lock);
}

void *fut_restore_thread(void *opaque)
{
    FutService *service = opaque;
    FutRestore *restore = service->restore;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    FutRestoreTimes times;

    if (service->options->restore_lazy) {
        fut_restore_set_lazy(restore, &lazy_host, service);
    }
    fut_restore_set_connections(restore, service->options->restore_connections);
    if (service->options->restore_check) {
        fut_restore_set_check(restore);
    }
    if (!fut_restore_do(restore, &times, &error)) {
        text = g_strdup_printf("restore failed, the VM ends: %s", error->message);
        fut_service_report(service, "FUT-221", text);
        service->vmm->ops->quit(service->vmm, true);
        return NULL; /* it is never over: what begins with such memory would be nothing */
    }
    g_thread_unref(g_thread_new("futago-flows", fut_flows_thread, service));
    text = tell(&times);
    fut_service_report(service, "FUT-220", text);
    tell_fault(service, &times);
    if (times.lazy) {
        follow(service, restore);
    }
    forget(service);
    return NULL;
}
