/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread in which a VM becomes what a snapshot says. It ends when all of it is there. */
#include "restore.h"

#include <unistd.h>

#include "background.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "restore_clock.h"
#include "restore_ready.h"
#include "run_program.h"
#include "service_internal.h"

/* A guest that waits for no page for so long has what it wants now; how often that is waited for at most. */
#define SETTLE_US 50000
#define SETTLES_MAX 20
/* Who let a guest go that was kept ready waits for its first answer: nothing else is to keep a processor from it until then. */
#define FIRST_ANSWER_US 200000
/* A store on a network may be away for a moment; a guest that stands still for longer is of no use to anybody. */
#define HOOK_NS (120 * FUT_NS_PER_S)
#define PATIENCE_NS (20 * FUT_NS_PER_S)

static char *tell(const FutRestoreTimes *times)
{
    g_autofree char *memory =
        times->lazy    ? g_strdup("memory follows")
        : times->ready ? g_strdup("memory was there")
                       : g_strdup_printf("%.0f ms for %" G_GUINT64_FORMAT " MiB of memory",
                                         (double)times->memory_ns / (double)FUT_NS_PER_MS,
                                         times->pages >> (20 - FUT_PAGE_SHIFT));

    return g_strdup_printf("the guest runs from snapshot %" G_GUINT64_FORMAT
                           ", %.1f s old: after %.0f ms (%s%s, %.0f ms for %" G_GUINT64_FORMAT
                           " MiB of disks)",
                           times->id,
                           (double)((int64_t)(times->run_us - times->time_us)) / G_USEC_PER_SEC,
                           (double)times->total_ns / (double)FUT_NS_PER_MS, memory,
                           times->checked ? ", which has the hash of the cut" : "",
                           (double)times->disks_ns / (double)FUT_NS_PER_MS,
                           times->disk_bytes >> 20);
}

/* What the host has to do for a clone: it can reach the guest, and that takes its time. */
static void *hook_thread(void *opaque)
{
    FutService *service = opaque;
    const FutOptions *options = service->options;
    g_autofree char *control = g_strconcat("FUTAGO_SOCKET=", service->control_path, NULL);
    g_autofree char *from = g_strconcat("FUTAGO_SNAPSHOT=", options->restore, NULL);
    g_autofree char *who = fut_identities_text(&options->identities);
    g_autofree char *identity = g_strconcat("FUTAGO_IDENTITY=", who, NULL);
    g_autofree char *vm = g_strconcat("FUTAGO_VM=", options->vm, NULL);
    g_autofree char *path = g_strconcat("PATH=", g_getenv("PATH"), NULL);
    char *argv[] = { options->restore_hook, options->vm, NULL };
    char *env[] = { vm, from, identity, control, path, NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_autofree FutRunResult *result = g_new0(FutRunResult, 1);

    if (!fut_run_program(argv, env, fut_now_ns() + HOOK_NS, result, &error)) {
        text = g_strdup_printf("identity hook: %s", error->message);
    } else if (result->late || result->status != 0) {
        text = g_strdup_printf("identity hook %s: %s: the clone may still be as it was: %s",
                               options->restore_hook,
                               result->late         ? "no end within 120 s, killed"
                               : result->status < 0 ? "ended by a signal"
                                                    : "failed",
                               result->errors);
    } else {
        text = g_strdup_printf("identity hook %s: done", options->restore_hook);
    }
    g_strdelimit(g_strchomp(text), "\n", ' ');
    fut_service_report(service, "FUT-228", text);
    return NULL;
}

static void begin_clone(FutService *service)
{
    if (service->options->identities.count > 0) {
        g_autofree char *who = fut_identities_text(&service->options->identities);
        g_autofree char *text = g_strconcat("to the network ", who, NULL);
        fut_service_report(service, "FUT-227", text);
    }
    if (service->options->restore_hook) {
        g_thread_unref(g_thread_new("futago-hook", hook_thread, service));
    }
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
        "all of its memory is there, %.1f s after the guest began to run; %u accesses had to wait, "
        "%u pages that it had used last came before the rest",
        (double)(fut_now_ns() - begin_ns) / FUT_NS_PER_S, fut_restore_faults(restore),
        fut_restore_hot(restore));
    fut_service_report(service, "FUT-222", text);
}

/* The guest goes first: its kernel's symbols, which its clock is found by, are tens of megabytes, and would come before the pages that it waits
 * for itself. */
static void let_guest_settle(FutRestore *restore)
{
    unsigned before = fut_restore_faults(restore), after;

    for (int i = 0; i < SETTLES_MAX; i++) {
        g_usleep(SETTLE_US);
        after = fut_restore_faults(restore);
        if (after == before) {
            return;
        }
        before = after;
    }
}

/* The search for it can wait for whatever else wants a processor. */
static void set_clock(FutService *service, const FutRestoreTimes *times)
{
    FutBackground background;

    fut_background_init(&background);
    fut_background_set(&background, true);
    fut_restore_clock(service, times);
    fut_background_set(&background, false);
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
        status = json_pack("{s:f, s:I, s:I, s:f}", "share",
                           fut_restore_permille(service->restore) / 1000.0, "faults",
                           (json_int_t)fut_restore_faults(service->restore), "snapshot",
                           (json_int_t)fut_restore_id(service->restore), "cut",
                           (double)fut_restore_time_us(service->restore) / G_USEC_PER_SEC);
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
    bool good = service->ready ? fut_ready_run(service, restore, &times, &error)
                               : fut_restore_do(restore, &times, &error);
    if (!good) {
        text = g_strdup_printf("restore failed, the VM ends: %s", error->message);
        fut_service_report(service, "FUT-221", text);
        service->vmm->ops->quit(service->vmm, true);
        return NULL; /* it is never over: what begins with such memory would be nothing */
    }
    g_thread_unref(g_thread_new("futago-flows", fut_flows_thread, service));
    text = tell(&times);
    fut_service_report(service, "FUT-220", text);
    tell_fault(service, &times);
    if (!times.lazy) {
        forget(
            service); /* what the clock takes is written as a device would, and noticed by whoever has to know */
    }
    if (times.ready) {
        g_usleep(FIRST_ANSWER_US);
    }
    if (times.ready && times.lazy) {
        fut_restore_fetch_rest(restore);
    }
    if (service->options->restore_clock && times.lazy) {
        let_guest_settle(restore);
    }
    set_clock(service, &times);
    begin_clone(service);
    if (times.lazy) {
        follow(service, restore);
        forget(service);
    }
    return NULL;
}
