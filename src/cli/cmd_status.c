/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago status: one VM in full, or a line for each VM of this host; once or every second. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"
#include "cli_status.h"
#include "fut_error.h"

#define WATCH_EVERY_US 1000000

typedef struct {
    gboolean json, watch;
} View;

static json_t *ask(const char *vm, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);

    return client ? fut_control_call(client, "status", NULL, FUT_CLI_ANSWER_MS, error) : NULL;
}

/* Followed by programs, one look is one line. */
static void print_json(const json_t *value, const View *view)
{
    char *text = json_dumps(value, view->watch ? JSON_COMPACT : JSON_INDENT(2));

    printf("%s\n", text);
    free(text);
}

static bool show_one(const char *vm, const View *view, GError **error)
{
    json_t *status = ask(vm, error);

    if (!status) {
        return false;
    }
    if (view->json) {
        print_json(status, view);
    } else {
        g_autofree char *block = fut_status_block(status);
        printf("%s", block);
    }
    json_decref(status);
    return true;
}

/* In a few words, for the table: why a VM did not answer. */
static const char *silence(const GError *fault)
{
    return g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE) ? "ended" : "no answer";
}

static void print_all_json(GPtrArray *names, const View *view)
{
    json_t *all = json_array();

    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GError) fault = NULL;
        const char *vm = g_ptr_array_index(names, i);
        json_t *status = ask(vm, &fault);
        json_array_append_new(all,
                              status ? status
                                     : json_pack("{s:s, s:s}", "vm", vm, "error", silence(fault)));
    }
    print_json(all, view);
    json_decref(all);
}

static void print_all(GPtrArray *names)
{
    FutTable *table = fut_table_new();

    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GError) fault = NULL;
        const char *vm = g_ptr_array_index(names, i);
        json_t *status = ask(vm, &fault);
        if (status) {
            fut_table_add(table, status);
            json_decref(status);
        } else {
            fut_table_add_silent(table, vm, silence(fault));
        }
    }
    g_autofree char *text = fut_table_end(table);
    printf("%s", text);
}

static void show_all(const View *view)
{
    g_autoptr(GPtrArray) names = fut_control_list();
    g_autofree char *rundir = fut_control_rundir();

    if (view->json) {
        print_all_json(names, view);
    } else if (names->len > 0) {
        print_all(names);
    } else {
        printf("no VM runs on this host (none in %s)\n", rundir);
    }
}

static bool show(const char *vm, const View *view, GError **error)
{
    for (;;) {
        if (view->watch && !view->json && isatty(STDOUT_FILENO)) {
            printf("\033[H\033[J");
        }
        if (!vm) {
            show_all(view);
        } else if (!show_one(vm, view, error)) {
            return false;
        }
        fflush(stdout);
        if (!view->watch) {
            return true;
        }
        g_usleep(WATCH_EVERY_US);
    }
}

static bool run(int argc, char **argv, GError **error)
{
    View view = { 0 };
    g_autoptr(GError) fault = NULL;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &view.json, "As JSON", NULL },
        { "watch", 0, 0, G_OPTION_ARG_NONE, &view.watch, "Anew every second", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_status, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_status, argc, argv, true, &fault);
    if (fault) {
        g_propagate_error(error, g_steal_pointer(&fault));
        return false;
    }
    return show(vm, &view, error);
}

const FutCommand fut_cmd_status = {
    .name = "status",
    .usage = "[VM]",
    .summary = "Show how a VM and its protection are, or list all VMs of this host",
    .run = run,
};
