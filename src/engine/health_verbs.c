/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The health as JSON. */
#include "health_verbs.h"

#include "vmm.h"

/* Of the newest, so that an answer fits into a line. */
#define SHOWN_MAX 24u

static json_t *finding_json(const FutFinding *finding, int64_t now_us)
{
    json_t *object = json_object();
    const struct {
        const char *key, *value;
    } texts[] = {
        { "probe", finding->probe },
        { "severity", fut_severity_names[finding->severity] },
        { "scope", fut_scope_names[finding->scope] },
        { "cause", finding->cause },
        { "means", finding->means },
        { "outcome", finding->outcome },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        json_object_set_new(object, texts[i].key, json_string(texts[i].value));
    }
    json_object_set_new(object, "first", json_real((double)finding->first_us / G_USEC_PER_SEC));
    json_object_set_new(object, "last", json_real((double)finding->last_us / G_USEC_PER_SEC));
    json_object_set_new(object, "guest_time", json_real((double)finding->guest_time_ns / 1e9));
    json_object_set_new(object, "vcpu", json_integer(finding->vcpu));
    json_object_set_new(object, "sequence", json_integer((json_int_t)finding->sequence));
    json_object_set_new(object, "count", json_integer((json_int_t)finding->count));
    json_object_set_new(object, "counts", json_boolean(fut_finding_counts(finding, now_us)));
    return object;
}

json_t *fut_health_verb(FutReact *react, const FutWatch *watch)
{
    json_t *result = json_object(), *findings = json_array();
    int64_t now_us = g_get_real_time();
    unsigned probes = fut_watch_seeing(watch);
    uint64_t lost;

    FutHealth *health = fut_react_lock(react, &lost);
    guint skipped = health->findings.length > SHOWN_MAX ? health->findings.length - SHOWN_MAX : 0;
    FutHealthLevel level = fut_health_level(health, probes > 0, now_us);
    json_int_t forgotten = (json_int_t)health->forgotten;
    for (GList *at = g_queue_peek_nth_link(&health->findings, skipped); at; at = at->next) {
        json_array_append_new(findings, finding_json(at->data, now_us));
    }
    fut_react_unlock(react);
    json_object_set_new(result, "health", json_string(fut_health_names[level]));
    json_object_set_new(result, "probes", json_integer(probes));
    json_object_set_new(result, "lost", json_integer((json_int_t)lost));
    json_object_set_new(result, "forgotten", json_integer(forgotten));
    json_object_set_new(result, "findings", findings);
    return result;
}

json_t *fut_health_verb_clear(FutReact *react, const json_t *args)
{
    const char *probe = json_string_value(json_object_get(args, "probe"));
    uint64_t lost;

    FutHealth *health = fut_react_lock(react, &lost);
    unsigned count = fut_health_clear(health, probe);
    fut_react_unlock(react);
    return json_pack("{s:i}", "cleared", (int)count);
}
