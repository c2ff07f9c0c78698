/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the control sockets are, and which names a VM may have. */
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "control_internal.h"
#include "fut_error.h"

#define SOCKET_SUFFIX ".sock"

char *fut_control_rundir(void)
{
    const char *chosen = g_getenv("FUTAGO_RUNDIR");
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");

    if (chosen && *chosen) {
        return g_strdup(chosen);
    }
    if (geteuid() == 0) {
        return g_strdup("/run/futago");
    }
    if (runtime && *runtime) {
        return g_build_filename(runtime, "futago", NULL);
    }
    return g_strdup_printf("/tmp/futago-%u", (unsigned)geteuid());
}

bool fut_control_name_check(const char *vm, GError **error)
{
    size_t length = strlen(vm);

    if (length == 0 || length > FUT_CONTROL_NAME_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "name '%.80s': use 1 to %d characters", vm,
                    FUT_CONTROL_NAME_MAX);
        return false;
    }
    for (const char *at = vm; *at; at++) {
        if (!g_ascii_isalnum(*at) && (at == vm || !strchr("._-", *at))) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "name '%s': use letters, digits, '.', '_' and '-', a letter or digit first",
                        vm);
            return false;
        }
    }
    return true;
}

/* The folder of the sockets: of VMs, or of disks. Caller frees. */
static char *folder_of(bool disks)
{
    g_autofree char *rundir = fut_control_rundir();
    return disks ? g_build_filename(rundir, "disks", NULL) : g_steal_pointer(&rundir);
}

static char *path_in(bool disks, const char *name, GError **error)
{
    if (!fut_control_name_check(name, error)) {
        return NULL;
    }
    g_autofree char *folder = folder_of(disks);
    return g_strdup_printf("%s/%s" SOCKET_SUFFIX, folder, name);
}

char *fut_control_path(const char *vm, GError **error)
{
    return path_in(false, vm, error);
}

char *fut_control_disk_path(const char *disk, GError **error)
{
    return path_in(true, disk, error);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *list_in(bool disks)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *folder = folder_of(disks);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *file;

    while (dir && (file = g_dir_read_name(dir))) {
        if (g_str_has_suffix(file, SOCKET_SUFFIX)) {
            g_autofree char *name = g_strndup(file, strlen(file) - strlen(SOCKET_SUFFIX));
            if (fut_control_name_check(name, NULL)) {
                g_ptr_array_add(names, g_steal_pointer(&name));
            }
        }
    }
    g_ptr_array_sort(names, compare_names);
    return names;
}

GPtrArray *fut_control_list(void)
{
    return list_in(false);
}

GPtrArray *fut_control_list_disks(void)
{
    return list_in(true);
}

bool fut_control_address(const char *path, struct sockaddr_un *ret, GError **error)
{
    if (strlen(path) >= sizeof(ret->sun_path)) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_ARG,
            "%s is too long for a socket (%zu bytes at most): set FUTAGO_RUNDIR to a shorter path",
            path, sizeof(ret->sun_path) - 1);
        return false;
    }
    memset(ret, 0, sizeof(*ret));
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path, path, strlen(path));
    return true;
}
