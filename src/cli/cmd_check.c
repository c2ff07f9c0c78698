/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago check: can this QEMU command line be protected? What it says is looked at here; then QEMU is started on a harmless copy
 * of it, stopped, and the module in it says what it would refuse. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "check_words.h"
#include "cli_start.h"
#include "fut_error.h"

/* What the module prints before each problem, and at the end (src/qemu/module.c). */
#define PROBLEM "futago-check: "
#define ALL_SAID "futago-check done"

static bool is_known(const FutCheckWords *check, const char *problem)
{
    return g_ptr_array_find_with_equal_func(check->problems, problem, g_str_equal, NULL);
}

/* False if the module did not come to its end. */
static bool take_answers(FutCheckWords *check, const char *output)
{
    g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
    bool all = false;

    for (char **line = lines; *line; line++) {
        all = all || strcmp(*line, ALL_SAID) == 0;
        if (g_str_has_prefix(*line, PROBLEM) && !is_known(check, *line + strlen(PROBLEM))) {
            g_ptr_array_add(check->problems, g_strdup(*line + strlen(PROBLEM)));
        }
    }
    return all;
}

/* The last thing that QEMU says is why it ended. */
static void add_failure(FutCheckWords *check, char *errors)
{
    char *end = strrchr(g_strchomp(errors), '\n');
    const char *last = end ? end + 1 : errors;

    g_ptr_array_add(check->problems,
                    g_strdup_printf("QEMU does not start with these options: %s",
                                    *last ? last : "it says nothing, or took over a minute"));
}

static void finish_command(FutCheckWords *check, const char *module)
{
    static const char *const more[] = { "-S", "-display", "none", "-monitor", "none", "-plugin" };

    for (size_t i = 0; i < G_N_ELEMENTS(more); i++) {
        g_ptr_array_add(check->words, g_strdup(more[i]));
    }
    g_auto(GStrv) parts = g_strsplit(module, ",", -1);
    g_autofree char *doubled = g_strjoinv(",,", parts);
    g_ptr_array_add(check->words, g_strdup_printf("file=%s,check=on", doubled));
    g_ptr_array_add(check->words, NULL);
    static const char *const before[] = { "timeout", "--kill-after=2", "60" };
    for (size_t i = 0; i < G_N_ELEMENTS(before); i++) {
        g_ptr_array_insert(check->words, (gint)i, g_strdup(before[i]));
    }
}

static bool ask_qemu(FutCheckWords *check, GError **error)
{
    g_autofree char *module = fut_start_module(error), *output = NULL, *errors = NULL;
    g_autofree char *program = g_find_program_in_path(check->words->pdata[0]);
    g_autoptr(GError) fault = NULL;

    if (!module) {
        return false;
    }
    if (!program) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "cannot start '%s': give the path of QEMU's program after --",
                    (char *)check->words->pdata[0]);
        return false;
    }
    finish_command(check, module);
    if (!g_spawn_sync(NULL, (char **)check->words->pdata, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                      &output, &errors, NULL, &fault)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot run the check: %s", fault->message);
        return false;
    }
    if (!take_answers(check, output)) {
        add_failure(check, errors);
    }
    return true;
}

static void print_json(const FutCheckWords *check)
{
    json_t *problems = json_array();

    for (guint i = 0; i < check->problems->len; i++) {
        json_array_append_new(problems, json_string(check->problems->pdata[i]));
    }
    json_t *answer =
        json_pack("{s:b, s:o}", "protectable", check->problems->len == 0, "problems", problems);
    char *text = json_dumps(answer, JSON_INDENT(2));
    printf("%s\n", text);
    free(text);
    json_decref(answer);
}

static bool print_answer(const FutCheckWords *check, bool json, GError **error)
{
    guint count = check->problems->len;

    if (json) {
        print_json(check);
    } else {
        for (guint i = 0; i < count; i++) {
            printf("%s\n", (char *)check->problems->pdata[i]);
        }
        if (count == 0) {
            printf("this VM can be protected\n");
        }
    }
    if (count > 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "this VM cannot be protected: %u thing%s to change", count,
                    count == 1 ? "" : "s");
    }
    return count == 0;
}

static bool run(int argc, char **argv, GError **error)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, "As JSON", NULL },
        { 0 },
    };
    int own = fut_start_separator(argc, argv);
    g_autofree char **words = g_memdup2(argv, (own + 1) * sizeof(*argv));
    FutCheckWords check;

    words[own] = NULL;
    if (!fut_cli_parse(&fut_cmd_check, entries, &own, words, error)) {
        return false;
    }
    char **qemu = argv + fut_start_separator(argc, argv);
    if (own > 1 || !qemu[0] || !qemu[1]) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "check: no QEMU command line: add -- qemu-system-x86_64 and its options");
        return false;
    }
    fut_check_words_init(&check, qemu + 1);
    bool ok = ask_qemu(&check, error) && print_answer(&check, json, error);
    fut_check_words_done(&check);
    return ok;
}

const FutCommand fut_cmd_check = {
    .name = "check",
    .usage = "-- QEMU-PROGRAM [QEMU-OPTION…]",
    .summary = "Say whether a VM can be protected, and what to change",
    .run = run,
};
