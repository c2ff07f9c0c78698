/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Becoming QEMU: finds the module, prints or executes the command line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_config.h"
#include "cli_start.h"
#include "fut_error.h"

static bool is_readable_file(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, R_OK) == 0;
}

/* src/qemu/futago.so beside src/cli/futago of one build tree; NULL if this is not one. */
static char *built_module(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *path = folder ? g_canonicalize_filename("../qemu/futago.so", folder) : NULL;

    return path && is_readable_file(path) ? g_steal_pointer(&path) : NULL;
}

char *fut_start_module(GError **error)
{
    const char *chosen = g_getenv("FUTAGO_MODULE");

    if (chosen && *chosen) {
        g_autofree char *path = g_canonicalize_filename(chosen, NULL);
        if (!is_readable_file(path)) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "FUTAGO_MODULE=%s: no such file: set it to the path of futago.so", chosen);
            return NULL;
        }
        return g_steal_pointer(&path);
    }
    char *built = built_module();
    if (built || is_readable_file(FUT_CLI_MODULE)) {
        return built ? built : g_strdup(FUT_CLI_MODULE);
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                "no module at %s: install it or set FUTAGO_MODULE to the path of futago.so",
                FUT_CLI_MODULE);
    return NULL;
}

/* As a shell would have to read it. */
static void print_word(const char *word, bool first)
{
    bool plain = *word && strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789_-+=./,:@%") == strlen(word);
    g_autofree char *quoted = plain ? g_strdup(word) : g_shell_quote(word);

    printf("%s%s", first ? "" : " ", quoted);
}

static bool print_arguments(FutStart *start, const char *module)
{
    start->qemu = NULL; /* what is there already needs no printing */
    g_autoptr(GPtrArray) words = fut_start_command(start, module);

    for (guint i = 0; i + 1 < words->len; i++) {
        print_word(g_ptr_array_index(words, i), i == 0);
    }
    printf("\n");
    return true;
}

/* QEMU's start is thousands of small allocations in memory that nobody has touched: a few large pages, where there are such, instead of a fault for
 * each 4 KiB. Its threads' heaps stay as they are: a large page for each would be memory that is not used. */
#define LARGE_PAGES "glibc.malloc.hugetlb="

char *fut_start_tunables(const char *own)
{
    if (own && strstr(own, LARGE_PAGES)) {
        return g_strdup(own);
    }
    return g_strconcat(own ? own : "", own && *own ? ":" : "", LARGE_PAGES "1", NULL);
}

static bool become_qemu(const FutStart *start, const char *module, GError **error)
{
    g_autoptr(GPtrArray) words = fut_start_command(start, module);
    char **argv = (char **)words->pdata;
    g_autofree char *tuned = fut_start_tunables(g_getenv("GLIBC_TUNABLES"));

    g_setenv("GLIBC_TUNABLES", tuned, TRUE);
    fflush(NULL);
    execvp(argv[0], argv);
    g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                "cannot start '%s': %s: give the path of QEMU's program after --", argv[0],
                g_strerror(errno));
    return false;
}

bool fut_start_execute(FutStart *start, const char *module, GError **error)
{
    return start->print ? print_arguments(start, module) : become_qemu(start, module, error);
}

bool fut_start_run(const FutCommand *command, bool backup, int argc, char **argv, GError **error)
{
    FutStart start;
    bool ok = fut_start_parse(&start, command, backup, argc, argv, error);
    g_autofree char *module = ok ? fut_start_module(error) : NULL;

    ok = module && fut_start_execute(&start, module, error);
    fut_start_done(&start);
    return ok;
}
