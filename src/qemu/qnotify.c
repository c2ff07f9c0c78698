/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts that QEMU still has in its hands. On PCI a virtio disk does not interrupt the guest when
 * a request is done: it writes to an event descriptor, from which the main loop makes the interrupt
 * (or, without VIRTIO_RING_F_EVENT_IDX, to a bottom half that does). Such an interrupt is no part of
 * the device state: a twin would see the request done in memory and never hear of it. So whatever
 * is on its way when the guest is stopped is delivered before the state is saved.
 */
#include "qvmm.h"

#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio.h"
#include "standard-headers/linux/virtio_ids.h"

static int add_device(Object *object, void *opaque)
{
    GPtrArray *devices = opaque;

    if (object_dynamic_cast(object, TYPE_VIRTIO_DEVICE)) {
        g_ptr_array_add(devices, object);
    }
    return 0;
}

void fut_qnotify_attach(FutQvmm *qvmm)
{
    qvmm->virtio = g_ptr_array_new();
    object_child_foreach_recursive(object_get_root(), add_device, qvmm->virtio);
}

/* Queues are numbered without gaps. */
static void deliver_queue(VirtIODevice *device, int number)
{
    EventNotifier *notifier = virtio_queue_get_guest_notifier(virtio_get_queue(device, number));
    BusState *bus = qdev_get_parent_bus(DEVICE(device));

    if (notifier->initialized && event_notifier_test_and_clear(notifier)) {
        VIRTIO_BUS_GET_CLASS(bus)->notify(bus->parent, virtio_queue_vector(device, number));
    }
}

/* Its interrupts may wait for a bottom half. */
static bool in_batches(VirtIODevice *device)
{
    return device->device_id == VIRTIO_ID_BLOCK && (device->status & VIRTIO_CONFIG_S_DRIVER_OK) &&
           !virtio_vdev_has_feature(device, VIRTIO_RING_F_EVENT_IDX);
}

void fut_qnotify_deliver(const FutQvmm *qvmm)
{
    bool batches = false;

    for (guint i = 0; i < qvmm->virtio->len; i++) {
        batches |= in_batches(qvmm->virtio->pdata[i]);
    }
    if (batches) {
        aio_bh_poll(qemu_get_aio_context());
    }
    for (guint i = 0; i < qvmm->virtio->len; i++) {
        VirtIODevice *device = qvmm->virtio->pdata[i];
        for (int n = 0; n < VIRTIO_QUEUE_MAX && virtio_queue_get_num(device, n) > 0; n++) {
            deliver_queue(device, n);
        }
    }
}
