/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module's entrance: called by the loader (loader.c) from QEMU's plugin loading, before the
 * machine exists. When the machine is complete it becomes a FutVmm and gets its service; when QEMU
 * ends, the service hears of it first.
 */
#include "qvmm.h"

#include "build_check.h"
#include "fut_error.h"
#include "service.h"

__attribute__((visibility("default"))) int futago_qemu_install(qemu_plugin_id_t id,
                                                               const qemu_info_t *info, int argc,
                                                               char **argv);

/* One QEMU process is one VM. */
static struct {
    qemu_plugin_id_t id;
    bool checking; /* the only option is "check=on" */
    int argc;
    char **argv;
    GStrv shared; /* names of shared disks */
    bool waits;   /* the guest comes from a snapshot, and runs when somebody lets it go */
    FutRestoreEarly *early;
    FutQvmm *qvmm;
    FutService *service;
} module;

/* A pointer to the error: it is set by the call that stands before it among the arguments. */
static void check_or_exit(bool ok, GError *const *error)
{
    if (!ok) {
        fprintf(stderr, "futago: %s\n", (*error)->message);
        exit(fut_err_exit_status((*error)->domain == FUT_ERROR ? (FutErr)(*error)->code
                                                               : FUT_ERR_IO));
    }
}

/* A guest that runs on the backup from the start would be a second one. */
static bool check_start(FutRole role, GError **error)
{
    if (role == FUT_ROLE_BACKUP && autostart) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "a standby must not run its guest: start QEMU with -S");
        return false;
    }
    if (module.waits && autostart) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "a VM that is kept ready must not run yet: start QEMU with -S");
        return false;
    }
    bool incoming = module.waits || (role == FUT_ROLE_BACKUP && module.shared[0]);
    return !incoming || fut_qblock_end_incoming(error);
}

/* For `futago check`: all that would be refused, and the end. Nothing was touched. */
static G_NORETURN void tell_and_exit(void)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);

    fut_qrefuse_list(problems);
    for (guint i = 0; i < problems->len; i++) {
        printf("futago-check: %s\n", (char *)problems->pdata[i]);
    }
    printf("futago-check done\n");
    exit(EXIT_SUCCESS);
}

static void machine_ready(Notifier *notifier, void *data)
{
    GError *error = NULL;

    check_or_exit(fut_build_check(&error), &error);
    if (module.checking) {
        tell_and_exit();
    }
    FutRole role = fut_service_role(module.argc, module.argv);
    check_or_exit(check_start(role, &error), &error);
    FutQvmm *qvmm = fut_qvmm_new(role == FUT_ROLE_BACKUP || module.waits);
    check_or_exit(fut_qrefuse_machine(qvmm, &error), &error);
    check_or_exit(fut_qblock_attach(qvmm, module.shared, &error), &error);
    if (module.waits) {
        fut_qblock_stay_out(qvmm);
    }
    check_or_exit(fut_qrefuse_changes(qvmm, &error), &error);
    if (role == FUT_ROLE_BACKUP || module.waits) {
        fut_qready_init(qvmm);
    }
    FutEventSet events = fut_service_events(module.argc, module.argv);
    check_or_exit(fut_qevents_attach(qvmm, events, &error), &error);
    fut_qprobe_init(qvmm, module.id);
    module.service = fut_service_start(&qvmm->vmm, module.argc, module.argv,
                                       g_steal_pointer(&module.early), &error);
    check_or_exit(module.service != NULL, &error);
    fut_qpanic_init(qvmm);
    module.qvmm = qvmm;
}

static bool settled(void)
{
    return fut_service_settled(module.service);
}

/*
 * The guest was switched off, or somebody ends QEMU. Main loop, BQL held, nothing is taken down
 * yet.
 */
static void machine_ends(Notifier *notifier, void *data)
{
    if (!module.service || shutdown_action == SHUTDOWN_ACTION_PAUSE) {
        return;
    }
    if (runstate_is_running()) {
        vm_stop(RUN_STATE_SHUTDOWN);
    }
    fut_qblock_settle(module.qvmm, settled);
    qatomic_set(&module.qvmm->cut.ending, true);
    bql_unlock();
    fut_service_exiting(module.service);
    bql_lock();
    fut_qblock_ending(module.qvmm);
}

static void vcpu_sleeps(qemu_plugin_id_t id, unsigned int vcpu)
{
    if (module.qvmm) {
        fut_qcut_idle(module.qvmm);
        fut_qtx_asleep(module.qvmm);
    }
}

int futago_qemu_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    static Notifier ready = { .notify = machine_ready };
    static Notifier ends = { .notify = machine_ends };
    GError *error = NULL;

    module.checking = argc == 1 && strcmp(argv[0], "check=on") == 0;
    check_or_exit(module.checking || fut_service_check_options(argc, argv, &error), &error);
    module.id = id;
    module.argc = argc;
    module.argv = g_new0(char *, argc + 1);
    for (int i = 0; i < argc; i++) {
        module.argv[i] = g_strdup(argv[i]);
    }
    module.shared = module.checking ? NULL : fut_service_shared_disks(argc, argv);
    module.waits = !module.checking && fut_service_waits(argc, argv);
    module.early = module.checking ? NULL : fut_service_begin_early(argc, argv);
    atexit(fut_qlife_exit_status);
    fut_qnet_register();
    fut_qblock_register();
    qemu_add_machine_init_done_notifier(&ready);
    qemu_register_shutdown_notifier(&ends);
    qemu_plugin_register_vcpu_idle_cb(id, vcpu_sleeps);
    return 0;
}
