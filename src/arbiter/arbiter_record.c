/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record's line, read and written, and the judgement of claims. */
#include <string.h>

#include "arbiter_record.h"

#define FORMAT_PREFIX "futago-arbiter 1"

void fut_arbiter_record_clear(FutArbiterRecord *record)
{
    g_clear_pointer(&record->holder, g_free);
    record->generation = 0;
    record->released = false;
}

bool fut_arbiter_name_ok(const char *name)
{
    for (const char *at = name; *at; at++) {
        if (!g_ascii_isalnum(*at) && (at == name || !strchr("._-", *at))) {
            return false;
        }
    }
    return *name && strlen(name) < 128;
}

char *fut_arbiter_line(uint64_t generation, const char *holder, bool released)
{
    return g_strdup_printf(FORMAT_PREFIX " generation=%" G_GUINT64_FORMAT " holder=%s state=%s\n",
                           generation, holder, released ? "released" : "active");
}

/* Value of "key=value", NULL if the word has another key. */
static const char *value_of(const char *word, const char *key)
{
    size_t length = strlen(key);

    return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

bool fut_arbiter_line_parse(const char *line, FutArbiterRecord *ret)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \n", -1);

    if (g_strv_length(words) != 6) {
        return false;
    }
    const char *number = value_of(words[2], "generation");
    const char *holder = value_of(words[3], "holder");
    const char *state = value_of(words[4], "state");
    guint64 generation = 0;
    if (!number || !holder || !state || !fut_arbiter_name_ok(holder) ||
        !g_ascii_string_to_unsigned(number, 10, 1, G_MAXUINT64 - 1, &generation, NULL)) {
        return false;
    }
    bool released = strcmp(state, "released") == 0;
    g_autofree char *again = fut_arbiter_line(generation, holder, released);
    if (strcmp(again, line) != 0) {
        return false;
    }
    ret->generation = generation;
    ret->holder = g_strdup(holder);
    ret->released = released;
    return true;
}

bool fut_arbiter_record_is(const FutArbiterRecord *record, uint64_t generation, const char *node)
{
    return record->generation == generation && strcmp(record->holder, node) == 0 &&
           !record->released;
}

FutClaim fut_arbiter_judge(const FutArbiterRecord *record, uint64_t generation, const char *node,
                           const char *where, const char *doubt, char **ret_text)
{
    if (record->generation == generation - 1 || fut_arbiter_record_is(record, generation, node)) {
        return FUT_CLAIM_GRANTED;
    }
    if (record->generation < generation) {
        *ret_text = g_strdup_printf("arbiter: %s says generation %" G_GUINT64_FORMAT
                                    " where %" G_GUINT64_FORMAT " was before: %s",
                                    where, record->generation, generation - 1, doubt);
        return FUT_CLAIM_UNKNOWN;
    }
    *ret_text = g_strdup_printf("%s %s generation %" G_GUINT64_FORMAT, record->holder,
                                record->released ? "has ended the VM, which is" : "runs the VM in",
                                record->generation);
    return FUT_CLAIM_REFUSED;
}
