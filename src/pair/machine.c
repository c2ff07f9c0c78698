/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compares the descriptions of two machines and says in words what differs. */
#include "wire.h"

static size_t key_length(const char *line)
{
    const char *equals = strchr(line, '=');
    return equals ? (size_t)(equals - line) : strlen(line);
}

static const char *value_of(const char *line)
{
    const char *equals = strchr(line, '=');
    return equals ? equals + 1 : "";
}

static bool same_key(const char *a, const char *b)
{
    size_t length = key_length(a);
    return length == key_length(b) && memcmp(a, b, length) == 0;
}

static bool has_key(char *const *lines, const char *like)
{
    for (; *lines; lines++) {
        if (same_key(*lines, like)) {
            return true;
        }
    }
    return false;
}

/* here and there: the first lines that are not equal; NULL where one list has ended. */
static char *difference(char *const *all_here, char *const *all_there, const char *here,
                        const char *there)
{
    if (here && there && same_key(here, there)) {
        return g_strdup_printf("%.*s: here %s, there %s", (int)key_length(here), here,
                               value_of(here), value_of(there));
    }
    if (here && (!there || !has_key(all_there, here))) {
        return g_strdup_printf("%.*s: here %s, there none", (int)key_length(here), here,
                               value_of(here));
    }
    if (there && (!here || !has_key(all_here, there))) {
        return g_strdup_printf("%.*s: here none, there %s", (int)key_length(there), there,
                               value_of(there));
    }
    return g_strdup_printf("order: here %s, there %s", here, there);
}

char *fut_machine_difference(char *const *here, char *const *there)
{
    for (size_t i = 0;; i++) {
        if (!here[i] && !there[i]) {
            return NULL;
        }
        if (!here[i] || !there[i] || strcmp(here[i], there[i]) != 0) {
            return difference(here, there, here[i], there[i]);
        }
    }
}
