/* SPDX-License-Identifier: GPL-2.0-or-later */
/* React thread: takes the probes' records and does what they ask for, beside whoever watches them. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "control.h"
#include "fut_error.h"
#include "service_internal.h"
#include "snapper.h"

static void host_report(void *opaque, const char *id, const char *text)
{
    fut_service_report(opaque, id, text);
}

static FutSituation host_situation(void *opaque)
{
    FutService *service = opaque;
    FutEngineStatus status;

    fut_engine_status(service->engine, &status);
    return (FutSituation){
        .primary = status.role == FUT_ROLE_PRIMARY && status.state != FUT_STATE_FENCED,
        .is_protected = status.state == FUT_STATE_PROTECTED,
    };
}

static bool host_failover(void *opaque, GError **error)
{
    FutService *service = opaque;

    return fut_engine_failover(service->engine, error);
}

static void host_stop(void *opaque)
{
    FutService *service = opaque;

    service->vmm->ops->quit(service->vmm, false);
}

static bool host_snapshot(void *opaque, const char *store, const char *reason, uint64_t *ret_id,
                          GError **error)
{
    FutService *service = opaque;
    json_t *args = json_pack("{s:s, s:s*}", "reason", reason, "store", store);
    bool ok = fut_snapper_take(service->snapper, args, FUT_REACT_SNAPSHOT_S, ret_id, error);

    json_decref(args);
    return ok;
}

static const FutReactOps react_ops = {
    .report = host_report,
    .situation = host_situation,
    .failover = host_failover,
    .snapshot = host_snapshot,
    .stop = host_stop,
};

/* RUNDIR/VM.probes leads to the memory itself, which is nobody's file: it is gone with the process. */
static bool share_records(FutService *service, GError **error)
{
    g_autofree char *rundir = fut_control_rundir();
    g_autofree char *name = g_strconcat(service->options->vm, ".probes", NULL);
    int fd = fut_watch_share(service->watch, error);

    if (fd < 0) {
        return false;
    }
    g_autofree char *memory = g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), fd);
    service->records_path = g_build_filename(rundir, name, NULL);
    unlink(service->records_path);
    if (symlink(memory, service->records_path) < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: %s", service->records_path,
                    g_strerror(errno));
        return false;
    }
    return true;
}

void fut_react_host_init(FutService *service)
{
    service->react_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(service->react_wake_fd >= 0);
    service->react =
        fut_react_new(&react_ops, service, service->options->vm, service->options->node);
    g_autoptr(GError) error = NULL;
    if (!share_records(service, &error)) {
        /* All else works. */
        g_autofree char *text =
            g_strdup_printf("other programs cannot map the probes' records: %s", error->message);
        fut_service_report(service, "FUT-212", text);
    }
}

void *fut_react_thread(void *opaque)
{
    FutService *service = opaque;
    FutProbeRecord *record = g_new(FutProbeRecord, 1);
    uint64_t place = 0, lost;

    for (;;) {
        struct pollfd wait = { .fd = service->react_wake_fd, .events = POLLIN };
        poll(&wait, 1, -1);
        fut_wake_drain(service->react_wake_fd);
        while (fut_watch_next(service->watch, &place, record, &lost)) {
            fut_react_take(service->react, record, lost);
            fut_probe_unref(record->probe);
        }
    }
    return NULL;
}
