/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of events, in words. */
#include "event_set.h"

#include <string.h>

#include "fut_error.h"

#define ALL "all"
#define NONE "none"

static const char *const names[FUT_EVENT_KINDS] = {
    [FUT_EVENT_NET_TX] = "net-tx",         [FUT_EVENT_NET_RX] = "net-rx",
    [FUT_EVENT_DISK_WRITE] = "disk-write", [FUT_EVENT_DISK_READ] = "disk-read",
    [FUT_EVENT_CONSOLE] = "console",       [FUT_EVENT_TIMER] = "timer",
};

const char *fut_event_name(FutEventKind event)
{
    g_assert(event < FUT_EVENT_KINDS);
    return names[event];
}

static bool parse_name(const char *name, FutEventSet *set)
{
    for (unsigned i = 0; i < FUT_EVENT_KINDS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *set |= FUT_EVENT_SET(i);
            return true;
        }
    }
    return false;
}

bool fut_event_set_parse(const char *text, FutEventSet *ret, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, ",", FUT_EVENT_KINDS + 1);
    FutEventSet set = 0;

    if (strcmp(text, ALL) == 0 || strcmp(text, NONE) == 0) {
        *ret = strcmp(text, ALL) == 0 ? FUT_EVENTS_ALL : 0;
        return true;
    }
    for (char **word = words; *word || word == words; word++) {
        if (!*word || !parse_name(*word, &set)) {
            g_autofree char *known = fut_event_set_text(FUT_EVENTS_ALL & ~FUT_EVENT_SET(0));
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "\"%s\" is no event: use all, none, or some of %s,%s", *word ? *word : "",
                        names[0], known);
            return false;
        }
    }
    *ret = set;
    return true;
}

char *fut_event_set_text(FutEventSet set)
{
    GString *text = g_string_new(set == FUT_EVENTS_ALL ? ALL : set == 0 ? NONE : NULL);

    if (text->len == 0) {
        for (unsigned i = 0; i < FUT_EVENT_KINDS; i++) {
            if (set & FUT_EVENT_SET(i)) {
                g_string_append_printf(text, "%s%s", text->len ? "," : "", names[i]);
            }
        }
    }
    return g_string_free(text, FALSE);
}
