/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a record to one line that says what has happened. */
#include "probe_says.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#define LABEL_MAX 128
#define ERRNO_MAX 4095

char *fut_probe_value_text(const FutProbeValue *value)
{
    switch (value->kind) {
    case FUT_VALUE_NONE:
        return g_strdup("?");
    case FUT_VALUE_UNSIGNED:
        /* No count is that large. */
        return g_strdup_printf(value->number <= INT64_MAX ? "%" PRIu64 : "0x%" PRIx64,
                               value->number);
    case FUT_VALUE_SIGNED:
        return g_strdup_printf("%" PRId64, (int64_t)value->number);
    case FUT_VALUE_POINTER:
        return g_strdup_printf("0x%" PRIx64, value->number);
    case FUT_VALUE_TEXT:
        return g_strdup(value->text);
    }
    g_assert_not_reached();
}

static const FutProbeValue *field(const FutProbe *probe, const FutProbeValue *values,
                                  const char *label)
{
    for (unsigned i = 0; i < probe->field_count; i++) {
        if (strcmp(probe->labels[i], label) == 0) {
            return &values[i];
        }
    }
    return NULL;
}

/* Low seven bits: in an exit code the next says that there was a core dump. */
static char *signal_text(const FutProbeValue *value)
{
    const char *name = sigabbrev_np((int)(value->number & 0x7f));

    return name ? g_strdup_printf("SIG%s", name) : fut_probe_value_text(value);
}

static char *error_text(const FutProbeValue *value)
{
    int64_t number = (int64_t)value->number;

    number = number < 0 && number >= -ERRNO_MAX ? -number : number;
    const char *name = number > 0 && number <= ERRNO_MAX ? strerrorname_np((int)number) : NULL;
    return name ? g_strdup_printf("%s (%d)", name, (int)number) : fut_probe_value_text(value);
}

static char *sender_text(const FutProbe *probe, const FutProbeValue *values,
                         const FutProbeValue *code)
{
    const FutProbeValue *name = field(probe, values, "sender_comm");
    const FutProbeValue *pid = field(probe, values, "sender");

    if ((int32_t)code->number > 0) {
        return g_strdup("the kernel");
    }
    g_autofree char *first = name ? fut_probe_value_text(name) : g_strdup("a process");
    g_autofree char *second = pid ? fut_probe_value_text(pid) : g_strdup("?");
    return g_strdup_printf("%s/%s", first, second);
}

/* NULL: there is no such field or form. Caller frees. */
static char *expand(const FutProbe *probe, const FutProbeValue *values, const char *label,
                    const char *form)
{
    const FutProbeValue *value = field(probe, values, label);

    if (!value) {
        return NULL;
    }
    if (!form || value->kind == FUT_VALUE_NONE) {
        return fut_probe_value_text(value);
    }
    if (strcmp(form, "hex") == 0) {
        return value->kind == FUT_VALUE_TEXT ? NULL : g_strdup_printf("0x%" PRIx64, value->number);
    }
    if (strcmp(form, "signal") == 0) {
        return signal_text(value);
    }
    if (strcmp(form, "error") == 0) {
        return error_text(value);
    }
    return strcmp(form, "sender") == 0 ? sender_text(probe, values, value) : NULL;
}

/* What stands at `at`, which is a '{', goes to the line; the characters it took, 0 if it stays as it is. */
static size_t take_place(const FutProbe *probe, const FutProbeValue *values, const char *at,
                         GString *line)
{
    size_t length = strcspn(at, "}");

    if (at[length] != '}' || length > LABEL_MAX) {
        return 0;
    }
    g_autofree char *label = g_strndup(at + 1, length - 1);
    char *form = strchr(label, ':');
    if (form) {
        *form++ = '\0';
    }
    g_autofree char *text = expand(probe, values, label, form);
    if (text) {
        g_string_append(line, text);
    }
    return text ? length + 1 : 0;
}

static void follow_text(const FutProbe *probe, const FutProbeValue *values, GString *line)
{
    const char *at = probe->keys->says;

    while (*at) {
        size_t taken = *at == '{' ? take_place(probe, values, at, line) : 0;
        if (taken == 0) {
            g_string_append_c(line, *at);
        }
        at += MAX(taken, 1);
    }
}

static void list_fields(const FutProbe *probe, const FutProbeValue *values, GString *line)
{
    g_string_append_printf(line, probe->within ? "%s" : "%s()", probe->point);
    for (unsigned i = 0; i < probe->field_count; i++) {
        g_autofree char *text = fut_probe_value_text(&values[i]);
        g_string_append_printf(line, " %s=%s", probe->labels[i], text);
    }
}

char *fut_probe_says(const FutProbe *probe, const FutProbeValue *values)
{
    g_autoptr(GString) line = g_string_new("");

    if (*probe->keys->says) {
        follow_text(probe, values, line);
    } else {
        list_fields(probe, values, line);
    }
    char *valid = g_utf8_make_valid(line->str, (gssize)line->len);
    const gchar *end = NULL;
    g_utf8_validate(valid, (gssize)MIN(strlen(valid), FUT_PROBE_CAUSE_MAX), &end);
    valid[end - valid] = '\0';
    for (char *at = valid; *at; at++) {
        *at = g_ascii_iscntrl(*at) ? ' ' : *at;
    }
    return valid;
}
