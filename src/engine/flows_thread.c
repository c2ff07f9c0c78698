/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread that sees to the connections of a guest which runs from a snapshot. It ends when all are judged. */
#include "engine_internal.h"
#include "service_internal.h"

static void add(GString *text, unsigned count, const char *what)
{
    if (count > 0) {
        g_string_append_printf(text, "%s%u %s", text->len > 0 ? ", " : "", count, what);
    }
}

void *fut_flows_thread(void *opaque)
{
    FutService *service = opaque;
    g_autoptr(GString) text = g_string_new(NULL);
    FutFlowCounts counts;

    if (fut_flows_work(service->engine, &counts)) {
        add(text, counts.count[FUT_FLOW_KEPT], "go on");
        add(text, counts.count[FUT_FLOW_RESET], "reset");
        add(text, counts.count[FUT_FLOW_SILENT], "reset in the guest, as the other end is silent");
        add(text, counts.count[FUT_FLOW_LEFT], "left, as the guest is silent");
        g_string_prepend(text, "the snapshot's connections: ");
        fut_service_report(service, "FUT-225", text->str);
    }
    return NULL;
}
