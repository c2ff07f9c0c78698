/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words of a command line, on top of GOption: its errors become ours. */
#include <string.h>

#include "cli.h"
#include "fut_error.h"

static void set_option_error(const FutCommand *command, const GError *fault, GError **error)
{
    g_autofree char *text = g_strdup(fault->message);

    *text = g_ascii_tolower(*text);
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s: see futago %s --help", text, command->name);
}

bool fut_cli_parse(const FutCommand *command, const GOptionEntry *entries, int *argc, char **argv,
                   GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new(command->usage);
    g_autofree char *program = g_strdup_printf("futago %s", command->name);
    g_autoptr(GError) fault = NULL;

    g_set_prgname(program);
    g_option_context_set_summary(context, command->summary);
    if (entries) {
        g_option_context_add_main_entries(context, entries, NULL);
    }
    if (!g_option_context_parse(context, argc, &argv, &fault)) {
        set_option_error(command, fault, error);
        return false;
    }
    return true;
}

const char *fut_cli_vm(const FutCommand *command, int argc, char **argv, bool optional,
                       GError **error)
{
    if (argc > 2) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "unexpected word '%s': futago %s takes one VM's name", argv[2], command->name);
        return NULL;
    }
    if (argc < 2) {
        if (!optional) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "%s: which VM? Add its name (futago status lists them)", command->name);
        }
        return NULL;
    }
    return fut_control_name_check(argv[1], error) ? argv[1] : NULL;
}

bool fut_cli_number(const char *option, const char *text, unsigned min, unsigned max,
                    unsigned *ret_number, GError **error)
{
    guint64 number = 0;

    if (!g_ascii_string_to_unsigned(text, 10, min, max, &number, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--%s %s: give a number from %u to %u", option,
                    text, min, max);
        return false;
    }
    *ret_number = (unsigned)number;
    return true;
}

/* Letters to change, add or take away to get from one word to the other. */
static unsigned distance(const char *from, const char *to)
{
    size_t columns = strlen(to);
    g_autofree unsigned *row = g_new(unsigned, columns + 1);

    for (size_t j = 0; j <= columns; j++) {
        row[j] = j;
    }
    for (size_t i = 1; from[i - 1]; i++) {
        unsigned above_left = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            unsigned above = row[j];
            unsigned change = above_left + (from[i - 1] != to[j - 1]);
            row[j] = MIN(change, MIN(above, row[j - 1]) + 1);
            above_left = above;
        }
    }
    return row[columns];
}

const char *fut_cli_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    unsigned least = 3; /* further away it is another word */

    for (size_t i = 0; i < count && strlen(word) < 32; i++) {
        unsigned letters = distance(word, candidates[i]);
        if (letters < least && letters < strlen(candidates[i])) {
            least = letters;
            nearest = candidates[i];
        }
    }
    return nearest;
}
