/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago: finds the command, runs it, prints its error. */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "cli_config.h"
#include "fut_error.h"

static const FutCommand *const commands[] = {
    &fut_cmd_run,      &fut_cmd_standby,  &fut_cmd_check,  &fut_cmd_protect, &fut_cmd_unprotect,
    &fut_cmd_failover, &fut_cmd_grant,    &fut_cmd_status, &fut_cmd_events,  &fut_cmd_probe,
    &fut_cmd_health,   &fut_cmd_snapshot, &fut_cmd_stop,   &fut_cmd_disk,    &fut_cmd_receive,
    &fut_cmd_relocate, &fut_cmd_restore,
};

static void print_usage(FILE *to)
{
    fprintf(to, "usage: futago COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(to, "  %-10s This text, or the options of a command\n", "help");
    fprintf(to, "\n--version says which version this is.\n");
}

static const FutCommand *find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static bool fail_unknown(const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(commands)];

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        names[i] = commands[i]->name;
    }
    const char *nearest = fut_cli_nearest(name, names, G_N_ELEMENTS(names));
    if (nearest) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "unknown command '%s': did you mean '%s'?", name,
                    nearest);
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "unknown command '%s': see futago help", name);
    }
    return false;
}

static bool help(int argc, char **argv, GError **error)
{
    if (argc < 2) {
        print_usage(stdout);
        return true;
    }
    const FutCommand *command = find(argv[1]);
    if (!command) {
        return fail_unknown(argv[1], error);
    }
    char *words[] = { argv[1], "--help", NULL };
    return command->run(2, words, error);
}

static bool dispatch(int argc, char **argv, GError **error)
{
    static const char *const helps[] = { "help", "--help", "-h" };

    if (strcmp(argv[0], "--version") == 0) {
        printf("futago " FUT_CLI_VERSION "\n");
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(helps); i++) {
        if (strcmp(argv[0], helps[i]) == 0) {
            return help(argc, argv, error);
        }
    }
    if (argv[0][0] == '-') {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "unknown option '%s': a command comes first (see futago help)", argv[0]);
        return false;
    }
    const FutCommand *command = find(argv[0]);
    return command ? command->run(argc, argv, error) : fail_unknown(argv[0], error);
}

/* One line, whatever the text came from. */
static int fail(const GError *error)
{
    g_autofree char *line = g_strdelimit(g_strdup(error->message), "\r\n", ' ');

    fprintf(stderr, "futago: %s\n", line);
    return error->domain == FUT_ERROR ? fut_err_exit_status((FutErr)error->code) : 1;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (!dispatch(argc - 1, argv + 1, &error)) {
        return fail(error);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "futago: cannot write the output: look at where it goes\n");
        return 1;
    }
    return 0;
}
