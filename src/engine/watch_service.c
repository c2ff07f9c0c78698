/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes and the pair: what the control thread does between two commands. */
#include "probe_definition.h"
#include "fut_error.h"
#include "service_internal.h"
#include "watch_service.h"

/* Its actions are to be carried out here once the twin lives: what will not work is told while that can be mended. */
static void check_actions(FutService *service, const FutProbeSet *set)
{
    for (guint i = 0; i < set->definitions->len; i++) {
        const FutProbeDefinition *one = g_ptr_array_index(set->definitions, i);
        g_autoptr(FutProbeKeys) keys = fut_probe_keys_parse(one->text, NULL);
        g_autoptr(GError) fault = NULL;
        if (keys && !fut_react_check(service->react, keys, &fault)) {
            g_autofree char *text =
                g_strdup_printf("%s, sent by the primary: %s", one->name, fault->message);
            fut_service_report(service, "FUT-213", text);
        }
    }
}

/* What the primary has sent, in place of what was there. Nothing of it can be wrong any more: it was checked when it came. */
static void take_over_probes(FutService *service)
{
    FutBuf body = { 0 };

    if (fut_engine_take_probes(service->engine, &body)) {
        FutProbeSet *set =
            body.len > 0 ? fut_probe_set_decode(body.data, body.len, NULL) : fut_probe_set_new();
        g_assert(set);
        check_actions(service, set);
        fut_watch_replace(service->watch, set);
    }
    fut_buf_done(&body);
}

static void publish(FutService *service)
{
    FutBuf body = { 0 };

    if (fut_watch_changed(service->watch, &body)) {
        fut_engine_set_probes(service->engine, body.data, body.len);
    }
    fut_buf_done(&body);
}

int fut_watch_service_round(FutService *service)
{
    FutEngineStatus status;

    fut_engine_status(service->engine, &status);
    bool backup = status.role == FUT_ROLE_BACKUP;
    take_over_probes(service);
    if (service->watch_backup && !backup) {
        /* The twin lives: its probes are its own, and go to its next backup. */
        fut_watch_touch(service->watch);
    }
    service->watch_backup = backup;
    int again_ms = fut_watch_tend(service->watch, !backup || status.state == FUT_STATE_STANDBY);
    if (!backup) {
        publish(service);
    }
    return again_ms;
}

bool fut_watch_service_check(FutService *service, GError **error)
{
    FutEngineStatus status;

    fut_engine_status(service->engine, &status);
    if (status.role == FUT_ROLE_BACKUP) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "the VM does not run here: change its probes on the primary, they come "
                            "to this host by themselves");
        return false;
    }
    return true;
}
