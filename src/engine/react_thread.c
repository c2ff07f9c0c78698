/* SPDX-License-Identifier: GPL-2.0-or-later */
/* React thread: takes the probes' records and does what they ask for, beside whoever watches them. */
#include <poll.h>
#include <sys/eventfd.h>

#include "service_internal.h"

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

    service->vmm->ops->quit(service->vmm);
}

static const FutReactOps react_ops = {
    .report = host_report,
    .situation = host_situation,
    .failover = host_failover,
    .stop = host_stop,
};

void fut_react_host_init(FutService *service)
{
    service->react_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(service->react_wake_fd >= 0);
    service->react =
        fut_react_new(&react_ops, service, service->options->vm, service->options->node);
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
