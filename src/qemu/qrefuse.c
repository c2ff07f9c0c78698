/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cannot be protected is refused, rather than protected halfway: a device whose state QEMU
 * cannot save, one that works past QEMU (the kernel or another process moves the guest's data), one
 * that runs outside the BQL.
 */
#include "qvmm.h"

#include "fut_error.h"

void fut_qrefuse_add(GPtrArray *problems, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_ptr_array_add(problems, g_strdup_vprintf(format, list));
    va_end(list);
}

/* How a person calls a device: its id, else its place in the machine. */
static char *device_name(Object *object)
{
    g_autofree char *path = object_get_canonical_path(object);
    const char *id = object_dynamic_cast(object, TYPE_DEVICE) ? DEVICE(object)->id : NULL;

    return id ? g_strdup(id) : g_steal_pointer(&path);
}

/* -- one by one -- */

static void check_mode(GPtrArray *problems)
{
    if (!tcg_enabled() && !kvm_enabled()) {
        fut_qrefuse_add(problems, "only -accel tcg and -accel kvm can be protected");
    }
    if (icount_enabled()) {
        fut_qrefuse_add(problems, "a VM with -icount cannot be protected: leave it out");
    }
    if (replay_mode != REPLAY_MODE_NONE) {
        fut_qrefuse_add(
            problems,
            "a VM that records or replays (-icount rr=) cannot be protected: leave it out");
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        fut_qrefuse_add(problems, "-incoming and futago exclude each other: leave out -incoming");
    }
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

/* Not a part of a device that runs there itself, as the inner half of a virtio device is. */
static bool is_in_iothread(Object *object)
{
    Object *whole = object->parent;
    bool part = whole && object_dynamic_cast(whole, TYPE_DEVICE) && has_iothread(whole);

    return has_iothread(object) && !part;
}

static bool passes_by(const char *type)
{
    static const char *const kinds[] = { "vfio-",      "vhost-",     "x-vfio-",
                                         "pci-assign", "scsi-block", "scsi-generic",
                                         "usb-host",   "usb-redir",  "ivshmem-" };

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (g_str_has_prefix(type, kinds[i])) {
            return true;
        }
    }
    return false;
}

static void check_device(GPtrArray *problems, Object *object)
{
    const char *type = object_get_typename(object);
    g_autofree char *name = device_name(object);
    const VMStateDescription *state = qdev_get_vmsd(DEVICE(object));

    if (passes_by(type)) {
        fut_qrefuse_add(
            problems,
            "device \"%s\" (%s) works past QEMU and cannot be protected: use an emulated or virtio device",
            name, type);
    } else if (is_in_iothread(object)) {
        fut_qrefuse_add(
            problems,
            "device \"%s\" (%s) runs in an iothread, which is not supported yet: leave out iothread=",
            name, type);
    } else if (state && state->unmigratable) {
        fut_qrefuse_add(problems, "QEMU cannot save device \"%s\" (%s): leave it out", name, type);
    }
}

static void check_netdev(GPtrArray *problems, NetClientState *netdev)
{
    const char *kind = NetClientDriver_str(netdev->info->type);

    if (g_str_has_prefix(kind, "vhost-")) {
        fut_qrefuse_add(problems, "netdev \"%s\" (%s) moves packets past QEMU: use -netdev tap",
                        netdev->name, kind);
    } else if (get_vhost_net(netdev)) {
        fut_qrefuse_add(problems,
                        "netdev \"%s\" has vhost=on, which moves packets past QEMU: use vhost=off",
                        netdev->name);
    }
}

/* Once a netdev, whatever its queues. */
static void check_nic(NICState *nic, void *problems)
{
    guint before = ((GPtrArray *)problems)->len;

    for (int queue = 0; queue < MAX(nic->conf->peers.queues, 1); queue++) {
        NetClientState *netdev = qemu_get_subqueue(nic, queue)->peer;
        if (netdev && ((GPtrArray *)problems)->len == before) {
            check_netdev(problems, netdev);
        }
    }
}

static int check_object(Object *object, void *problems)
{
    if (object_dynamic_cast(object, TYPE_DEVICE)) {
        check_device(problems, object);
    }
    return 0;
}

static void check_blockers(GPtrArray *problems)
{
    Error *reason = NULL;

    if (migration_is_blocked(&reason)) {
        fut_qrefuse_add(problems, "QEMU cannot save this machine: %s: leave that device out",
                        error_get_pretty(reason));
        error_free(reason);
    }
}

void fut_qrefuse_list(GPtrArray *problems)
{
    check_mode(problems);
    qemu_foreach_nic(check_nic, problems);
    object_child_foreach_recursive(qdev_get_machine(), check_object, problems);
    fut_qblock_check(problems);
    if (problems->len == 0) {
        check_blockers(problems); /* which name the devices above once more */
    }
}

bool fut_qrefuse_machine(FutQvmm *qvmm, GError **error)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);

    if (qvmm->closed) {
        return true;
    }
    fut_qrefuse_list(problems);
    if (problems->len > 0) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, problems->pdata[0]);
    }
    return problems->len == 0;
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
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED, error_get_pretty(failure));
        error_free(failure);
        return false;
    }
    only_migratable = 1;
    return true;
}
