/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * futago.so, what "-plugin" names: a door that can be opened by any QEMU. The module behind it
 * (futago-qemu.so, in the same folder) fits one QEMU build only, as a kernel module fits one
 * kernel. Here the running QEMU is asked what it is before the module is touched, so that a wrong
 * one gets a sentence and not an undefined symbol.
 *
 * Uses no QEMU header: what is read of the running QEMU is its version report alone.
 */
#include <dlfcn.h>
#include <glib.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu-build.h"

#define FUT_EXPORT __attribute__((visibility("default")))

/* What QEMU's query-version returns; its shape is part of QEMU's stable monitor interface. */
typedef struct {
    int64_t major;
    int64_t minor;
    int64_t micro;
} QemuVersionTriple;

typedef struct {
    QemuVersionTriple *triple;
    char *package;
} QemuVersionReport;

typedef QemuVersionReport *QemuVersionQuery(void *errp);
typedef int ModuleInstall(uint64_t id, const void *info, int argc, char **argv);

FUT_EXPORT int qemu_plugin_version = FUT_QEMU_PLUGIN_API;
FUT_EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

static char *running_build(void)
{
    QemuVersionQuery *query = (QemuVersionQuery *)dlsym(RTLD_DEFAULT, "qmp_query_version");
    QemuVersionReport *report = query ? query(NULL) : NULL;

    if (!report) {
        return g_strdup("a program that does not export QEMU's functions");
    }
    return g_strdup_printf("QEMU %d.%d.%d (%s)", (int)report->triple->major,
                           (int)report->triple->minor, (int)report->triple->micro, report->package);
}

static void refuse(const char *running)
{
    fprintf(stderr,
            "futago: built for QEMU %s (%s), but this is %s: "
            "run ./dev setup && ./dev build on this machine\n",
            FUT_QEMU_VERSION, FUT_QEMU_PACKAGE, running);
    exit(EXIT_FAILURE);
}

/*
 * Runs while QEMU opens this file, before QEMU compares its plugin interface's version with ours.
 */
__attribute__((constructor)) static void check_running_build(void)
{
    g_autofree char *running = running_build();

    if (strcmp(running, "QEMU " FUT_QEMU_VERSION " (" FUT_QEMU_PACKAGE ")") != 0) {
        refuse(running);
    }
}

/*
 * The path of futago-qemu.so beside this file; the caller frees. NULL if this file cannot be found
 * again.
 */
static char *module_path(void)
{
    Dl_info self;
    char real[PATH_MAX];

    if (!dladdr((void *)qemu_plugin_install, &self) || !realpath(self.dli_fname, real)) {
        return NULL;
    }
    g_autofree char *folder = g_path_get_dirname(real);
    return g_build_filename(folder, "futago-qemu.so", NULL);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    g_autofree char *path = module_path();
    void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    ModuleInstall *install = module ? (ModuleInstall *)dlsym(module, "futago_qemu_install") : NULL;

    if (!install) {
        fprintf(stderr, "futago: cannot load the module: %s: run ./dev build\n", dlerror());
        return -1;
    }
    return install(id, info, argc, argv);
}
