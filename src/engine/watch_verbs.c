/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes as JSON. */
#include "watch_verbs.h"

#include <string.h>

#include "control.h"
#include "function_search.h"
#include "fut_error.h"
#include "probe_says.h"

#define SHOWN_MAX 400u

static json_t *hex(uint64_t number)
{
    return json_sprintf("0x%" G_GINT64_MODIFIER "x", number);
}

/* NULL without error: it is missing. */
static const char *text_argument(const json_t *args, const char *key)
{
    return json_string_value(json_object_get(args, key));
}

static const char *mandatory_argument(const json_t *args, const char *key, GError **error)
{
    const char *text = text_argument(args, key);

    if (!text) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "\"%s\" is missing", key);
    }
    return text;
}

static const char *state_name(const FutWatch *watch, const FutWatched *watched)
{
    static const char *const names[] = { "in", "disabled", "waiting", "stale" };

    return names[fut_watch_state(watch, watched)];
}

static json_t *describe_added(const FutWatch *watch, const FutWatched *watched)
{
    json_t *result = json_object();

    json_object_set_new(result, "name", json_string(watched->definition->name));
    json_object_set_new(result, "function", json_string(watched->definition->function));
    json_object_set_new(result, "state", json_string(state_name(watch, watched)));
    if (watched->probe) {
        json_object_set_new(result, "address", hex(watched->probe->address));
        json_object_set_new(result, "kernel", json_string(fut_watch_kernel(watch)->banner));
    } else {
        json_object_set_new(result, "reason", json_string(watched->reason));
    }
    return result;
}

json_t *fut_watch_verb_add(FutWatch *watch, const json_t *args, GError **error)
{
    const char *text = mandatory_argument(args, "probe", error);
    const char *name = text_argument(args, "name");

    if (!text || (name && !fut_control_name_check(name, error))) {
        return NULL;
    }
    FutProbeDefinition definition = {
        .name = (char *)name,
        .text = (char *)text,
        .filter = (char *)text_argument(args, "filter"),
        .symbols = (char *)text_argument(args, "symbols"),
        .wait = json_is_true(json_object_get(args, "wait")),
        .disabled = json_is_true(json_object_get(args, "disabled")),
    };
    const FutWatched *watched = fut_watch_add(watch, &definition, error);

    return watched ? describe_added(watch, watched) : NULL;
}

/* For people, and short, so that all probes fit into one answer: no comments, one blank in place of several, cut. */
static json_t *one_line(const char *text)
{
    g_autoptr(GString) line = g_string_new("");

    while (*text && line->len < SHOWN_MAX) {
        if (*text == '#') {
            text += strcspn(text, "\n");
            continue;
        }
        if (g_ascii_isgraph(*text)) {
            g_string_append_c(line, *text);
        } else if (line->len > 0 && line->str[line->len - 1] != ' ') {
            g_string_append_c(line, ' ');
        }
        text++;
    }
    g_strchomp(line->str);
    return json_string(line->str);
}

static json_t *describe(const FutWatch *watch, const FutWatched *watched)
{
    static const FutProbe none;
    const FutProbeDefinition *wanted = watched->definition;
    const FutProbe *probe = watched->probe ? watched->probe : &none;
    json_t *result = json_object();

    json_object_set_new(result, "name", json_string(wanted->name));
    json_object_set_new(result, "probe", one_line(wanted->text));
    json_object_set_new(result, "filter", one_line(wanted->filter ? wanted->filter : ""));
    json_object_set_new(result, "function", json_string(wanted->function));
    json_object_set_new(result, "state", json_string(state_name(watch, watched)));
    json_object_set_new(result, "wait", json_boolean(wanted->wait));
    json_object_set_new(result, "stale",
                        json_boolean(fut_watch_state(watch, watched) == FUT_WATCHED_STALE));
    if (watched->probe) {
        json_object_set_new(result, "address", hex(probe->address));
    } else {
        json_object_set_new(result, "reason", one_line(watched->reason ? watched->reason : ""));
    }
    json_object_set_new(result, "hits", json_integer((json_int_t)atomic_load(&probe->hits)));
    json_object_set_new(result, "records", json_integer((json_int_t)atomic_load(&probe->records)));
    json_object_set_new(result, "skipped", json_integer((json_int_t)atomic_load(&probe->skipped)));
    json_object_set_new(result, "missed", json_integer((json_int_t)atomic_load(&probe->missed)));
    return result;
}

json_t *fut_watch_verb_list(FutWatch *watch)
{
    fut_watch_notice(watch);
    const FutGuestKernel *kernel = fut_watch_kernel(watch);
    json_t *result = json_object(), *probes = json_array();

    for (unsigned i = 0; i < FUT_PROBES_MAX; i++) {
        const FutWatched *watched = fut_watch_at(watch, i);
        if (watched) {
            json_array_append_new(probes, describe(watch, watched));
        }
    }
    json_object_set_new(result, "kernel", json_string(kernel ? kernel->banner : ""));
    json_object_set_new(result, "probes", probes);
    return result;
}

json_t *fut_watch_verb_remove(FutWatch *watch, const json_t *args, GError **error)
{
    const char *name = mandatory_argument(args, "name", error);

    return name && fut_watch_remove(watch, name, error) ? json_object() : NULL;
}

json_t *fut_watch_verb_enable(FutWatch *watch, const json_t *args, bool enabled, GError **error)
{
    const char *name = mandatory_argument(args, "name", error);

    return name && fut_watch_enable(watch, name, enabled, error) ? json_object() : NULL;
}

json_t *fut_watch_verb_functions(FutWatch *watch, const json_t *args, GError **error)
{
    const char *words = mandatory_argument(args, "words", error);
    const FutGuestKernel *kernel = words ? fut_watch_read_kernel(watch, error) : NULL;
    const char *names[FUT_FUNCTIONS_FOUND_MAX];

    if (!kernel) {
        return NULL;
    }
    unsigned count = fut_function_search(kernel, words, names);
    json_t *functions = json_array();
    for (unsigned i = 0; i < count; i++) {
        g_autofree char *parameters =
            kernel->types ? fut_guest_types_parameters(kernel->types, names[i]) : NULL;
        json_array_append_new(functions, json_pack("{s:s, s:s*}", "function", names[i],
                                                   "parameters", parameters));
    }
    return json_pack("{s:s, s:o}", "kernel", kernel->banner, "functions", functions);
}

static json_t *value_json(const FutProbeValue *value)
{
    switch (value->kind) {
    case FUT_VALUE_NONE:
        return json_null();
    case FUT_VALUE_UNSIGNED:
        /* JSON's integers are signed here: what does not fit is told as addresses are. */
        return value->number <= INT64_MAX ? json_integer((json_int_t)value->number)
                                          : hex(value->number);
    case FUT_VALUE_SIGNED:
        return json_integer((json_int_t)value->number);
    case FUT_VALUE_POINTER:
        return hex(value->number);
    case FUT_VALUE_TEXT:
        return json_string(value->text);
    }
    g_assert_not_reached();
}

static json_t *record_json(const FutProbeRecord *record)
{
    const FutProbe *probe = record->probe;
    json_t *message = json_object(), *fields = json_object();

    for (unsigned i = 0; i < probe->field_count; i++) {
        json_object_set_new(fields, probe->labels[i], value_json(&record->values[i]));
    }
    json_object_set_new(message, "event", json_string("PROBE"));
    json_object_set_new(message, "probe", json_string(probe->name));
    json_object_set_new(message, "sequence", json_integer((json_int_t)record->sequence));
    json_object_set_new(message, "time", json_real((double)record->host_time_us / G_USEC_PER_SEC));
    json_object_set_new(message, "guest_time", json_real((double)record->guest_time_ns / 1e9));
    json_object_set_new(message, "vcpu", json_integer(record->vcpu));
    json_object_set_new(message, "fields", fields);
    if (record->skipped > 0) {
        json_object_set_new(message, "skipped", json_integer((json_int_t)record->skipped));
    }
    if (probe->keys->has_consequences) {
        g_autofree char *cause = fut_probe_says(probe, record->values);
        json_object_set_new(message, "severity",
                            json_string(fut_severity_names[probe->keys->severity]));
        json_object_set_new(message, "scope", json_string(fut_scope_names[probe->keys->scope]));
        json_object_set_new(message, "cause", json_string(cause));
    }
    return message;
}

/* Caller frees. */
static char *line_of(json_t *take_message)
{
    char *text = json_dumps(take_message, JSON_COMPACT);
    char *line = g_strdup_printf("%s\n", text);

    free(text);
    json_decref(take_message);
    return line;
}

char *fut_watch_next_line(FutWatch *watch, uint64_t *place)
{
    FutProbeRecord record;
    uint64_t lost, before = *place;

    if (!fut_watch_next(watch, place, &record, &lost)) {
        return NULL;
    }
    g_autoptr(FutProbe) probe = record.probe;
    if (lost > 0) {
        /* That is a line of its own; the record comes next. */
        *place = before + lost;
        return line_of(json_pack("{s:s, s:I}", "event", "PROBE-LOST", "lost", (json_int_t)lost));
    }
    return line_of(record_json(&record));
}
