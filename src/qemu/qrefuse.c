/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cannot be protected is refused, rather than protected halfway: a device whose state QEMU
 * cannot save, one that works past QEMU (the kernel or another process moves the guest's data), one
 * that runs outside the BQL.
 */
#include "qvmm.h"

#include "fut_error.h"

static bool refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool refuse(GError **error, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_autofree char *text = g_strdup_vprintf(format, list);
    va_end(list);
    g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, text);
    return false;
}

/* How a person calls a device: its id, else its place in the machine. */
static char *device_name(Object *object)
{
    g_autofree char *path = object_get_canonical_path(object);
    const char *id = object_dynamic_cast(object, TYPE_DEVICE) ? DEVICE(object)->id : NULL;

    return id ? g_strdup(id) : g_steal_pointer(&path);
}

/* -- one by one -- */

static bool check_mode(GError **error)
{
    if (!tcg_enabled() && !kvm_enabled()) {
        return refuse(error, "only -accel tcg and -accel kvm can be protected");
    }
    if (icount_enabled()) {
        return refuse(error, "a VM with -icount cannot be protected: leave it out");
    }
    if (replay_mode != REPLAY_MODE_NONE) {
        return refuse(
            error, "a VM that records or replays (-icount rr=) cannot be protected: leave it out");
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        return refuse(error, "-incoming and futago exclude each other: leave out -incoming");
    }
    return true;
}

static bool has_iothread(Object *object)
{
    if (object_property_find(object, "iothread") &&
        object_property_get_link(object, "iothread", NULL)) {
        return true;
    }
    if (!object_property_find(object, "iothread-vq-mapping")) {
        return false;
    }
    QObject *mapping = object_property_get_qobject(object, "iothread-vq-mapping", NULL);
    QList *list = mapping ? qobject_to(QList, mapping) : NULL;
    bool any = list && !qlist_empty(list);
    qobject_unref(mapping);
    return any;
}

static bool check_device(Object *object, GError **error)
{
    static const char *const passing_by[] = { "vfio-",      "vhost-",     "x-vfio-",
                                              "pci-assign", "scsi-block", "scsi-generic" };
    const char *type = object_get_typename(object);
    g_autofree char *name = device_name(object);

    for (size_t i = 0; i < G_N_ELEMENTS(passing_by); i++) {
        if (g_str_has_prefix(type, passing_by[i])) {
            return refuse(
                error,
                "device \"%s\" (%s) works past QEMU and cannot be protected: use an emulated or virtio device",
                name, type);
        }
    }
    if (has_iothread(object)) {
        return refuse(
            error,
            "device \"%s\" (%s) runs in an iothread, which is not supported yet: leave out iothread=",
            name, type);
    }
    const VMStateDescription *state = qdev_get_vmsd(DEVICE(object));
    if (state && state->unmigratable) {
        return refuse(error, "QEMU cannot save device \"%s\" (%s): leave it out", name, type);
    }
    return true;
}

static bool check_netdev(NetClientState *netdev, GError **error)
{
    const char *kind = NetClientDriver_str(netdev->info->type);

    if (g_str_has_prefix(kind, "vhost-")) {
        return refuse(error, "netdev \"%s\" (%s) moves packets past QEMU: use -netdev tap",
                      netdev->name, kind);
    }
    if (get_vhost_net(netdev)) {
        return refuse(error,
                      "netdev \"%s\" has vhost=on, which moves packets past QEMU: use vhost=off",
                      netdev->name);
    }
    return true;
}

typedef struct {
    bool ok;
    GError **error;
} Check;

static void check_nic(NICState *nic, void *opaque)
{
    Check *check = opaque;

    for (int queue = 0; queue < MAX(nic->conf->peers.queues, 1); queue++) {
        NetClientState *netdev = qemu_get_subqueue(nic, queue)->peer;
        if (check->ok && netdev) {
            check->ok = check_netdev(netdev, check->error);
        }
    }
}

static int check_object(Object *object, void *opaque)
{
    Check *check = opaque;

    check->ok = !object_dynamic_cast(object, TYPE_DEVICE) || check_device(object, check->error);
    return !check->ok;
}

static bool check_blockers(GError **error)
{
    Error *reason = NULL;

    if (migration_is_blocked(&reason)) {
        refuse(error, "QEMU cannot save this machine: %s: leave that device out",
               error_get_pretty(reason));
        error_free(reason);
        return false;
    }
    return true;
}

bool fut_qrefuse_machine(FutQvmm *qvmm, GError **error)
{
    Check check = { .ok = true, .error = error };

    if (qvmm->closed) {
        return true;
    }
    if (!check_mode(error)) {
        return false;
    }
    qemu_foreach_nic(check_nic, &check);
    if (check.ok) {
        object_child_foreach_recursive(qdev_get_machine(), check_object, &check);
    }
    return check.ok && fut_qblock_check(error) && check_blockers(error);
}

/* -- from now on -- */

static bool no_hotplug(MachineState *machine, DeviceState *device, Error **errp)
{
    error_setg(
        errp,
        "futago: a protected VM takes no new device: give it on the command lines of both QEMUs");
    return false;
}

static int forbid_unplug(Object *object, void *opaque)
{
    if (object_dynamic_cast(object, TYPE_DEVICE)) {
        qdev_add_unplug_blocker(DEVICE(object), opaque);
    }
    return 0;
}

bool fut_qrefuse_changes(FutQvmm *qvmm, GError **error)
{
    Error *unplug = NULL, *migrate = NULL, *failure = NULL;

    qvmm->closed = true;
    MACHINE_GET_CLASS(qdev_get_machine())->hotplug_allowed = no_hotplug;
    error_setg(&unplug, "futago: a protected VM keeps its devices");
    object_child_foreach_recursive(qdev_get_machine(), forbid_unplug, unplug);

    /* Migration and snapshots would use the same log of written pages. */
    error_setg(&migrate, "futago: a protected VM is not migrated by QEMU: use futago failover");
    if (!fut_qemu_add_migration_blocker(&migrate, &failure)) {
        refuse(error, "%s", error_get_pretty(failure));
        error_free(failure);
        return false;
    }
    only_migratable = 1;
    return true;
}
