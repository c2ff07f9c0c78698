/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module's entrance: called by the loader (loader.c) from QEMU's plugin loading, before the
 * machine exists.
 */
#include "compat.h"

#include "build_check.h"

__attribute__((visibility("default"))) int futago_qemu_install(qemu_plugin_id_t id,
                                                               const qemu_info_t *info, int argc,
                                                               char **argv);

static void machine_ready(Notifier *notifier, void *data)
{
    g_autoptr(GError) error = NULL;

    if (!fut_build_check(&error)) {
        fprintf(stderr, "futago: %s\n", error->message);
        exit(EXIT_FAILURE);
    }
    fprintf(stderr, "futago: loaded\n");
}

int futago_qemu_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    static Notifier ready = { .notify = machine_ready };

    qemu_add_machine_init_done_notifier(&ready);
    return 0;
}
