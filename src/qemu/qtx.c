/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transmission at the kick. When the guest tells virtio-net that packets wait, stock QEMU schedules
 * a bottom half and the main loop sends them some time later. The kick is the output event that a
 * checkpoint is cut for, so here the bottom half is run at once, in the vCPU's own thread: the cut
 * can follow without a detour through another thread (NTT 2007 cut at the event itself, too). While
 * nothing is held QEMU's own way is the better one: there the main loop sends while the guest goes on.
 *
 * The way in: the memory region the guest writes its kick to gets operations that call QEMU's and
 * then look whether a transmission was scheduled. Only layouts of QEMU's headers are relied on.
 * Where the kick does not come through a memory region (KVM with ioeventfd), nothing changes.
 */
#include "qvmm.h"

#include "hw/sysbus.h"
#include "hw/virtio/virtio-mmio.h"
#include "hw/virtio/virtio-net.h"
#include "hw/virtio/virtio-pci.h"

/* One wrapped region; lives as long as QEMU does. */
typedef struct {
    MemoryRegionOps ops;
    const MemoryRegionOps *inner_ops;
    void *inner;
    VirtIONet *net;
    FutQvmm *qvmm;
} Kick;

static void send_now(const Kick *kick)
{
    VirtIONet *net = kick->net;
    FutEngine *engine = kick->qvmm->vmm.engine;

    if (!engine || !fut_engine_send_at_kick(engine)) {
        return;
    }
    for (int i = 0; i < net->max_queue_pairs; i++) {
        VirtIONetQueue *queue = &net->vqs[i];
        if (queue->tx_waiting && queue->tx_bh) {
            qemu_bh_cancel(queue->tx_bh);
            aio_bh_call(queue->tx_bh);
        }
    }
}

static uint64_t kick_read(void *opaque, hwaddr address, unsigned size)
{
    Kick *kick = opaque;

    return kick->inner_ops->read(kick->inner, address, size);
}

static MemTxResult kick_read_attrs(void *opaque, hwaddr address, uint64_t *data, unsigned size,
                                   MemTxAttrs attrs)
{
    Kick *kick = opaque;

    return kick->inner_ops->read_with_attrs(kick->inner, address, data, size, attrs);
}

static void kick_write(void *opaque, hwaddr address, uint64_t data, unsigned size)
{
    Kick *kick = opaque;

    kick->inner_ops->write(kick->inner, address, data, size);
    send_now(kick);
}

static MemTxResult kick_write_attrs(void *opaque, hwaddr address, uint64_t data, unsigned size,
                                    MemTxAttrs attrs)
{
    Kick *kick = opaque;
    MemTxResult result = kick->inner_ops->write_with_attrs(kick->inner, address, data, size, attrs);

    send_now(kick);
    return result;
}

static void wrap(MemoryRegion *region, VirtIONet *net, FutQvmm *qvmm)
{
    if (!region->ops || !(region->ops->write || region->ops->write_with_attrs)) {
        return; /* this device does not use that region */
    }
    Kick *kick = g_new0(Kick, 1);
    kick->ops = *region->ops;
    kick->inner_ops = region->ops;
    kick->inner = region->opaque;
    kick->net = net;
    kick->qvmm = qvmm;
    kick->ops.read = kick->ops.read ? kick_read : NULL;
    kick->ops.read_with_attrs = kick->ops.read_with_attrs ? kick_read_attrs : NULL;
    kick->ops.write = kick->ops.write ? kick_write : NULL;
    kick->ops.write_with_attrs = kick->ops.write_with_attrs ? kick_write_attrs : NULL;
    region->ops = &kick->ops;
    region->opaque = kick;
}

static int wrap_transport(Object *object, void *opaque)
{
    if (!object_dynamic_cast(object, TYPE_VIRTIO_NET)) {
        return 0;
    }
    VirtIONet *net = VIRTIO_NET(object);
    BusState *bus = qdev_get_parent_bus(DEVICE(object));
    Object *transport = bus ? OBJECT(bus->parent) : NULL;

    if (object_dynamic_cast(transport, TYPE_VIRTIO_MMIO)) {
        wrap(&VIRTIO_MMIO(transport)->iomem, net, opaque);
    } else if (object_dynamic_cast(transport, TYPE_VIRTIO_PCI)) {
        VirtIOPCIProxy *proxy = VIRTIO_PCI(transport);
        wrap(&proxy->bar, net, opaque);
        wrap(&proxy->notify.mr, net, opaque);
        wrap(&proxy->notify_pio.mr, net, opaque);
    }
    return 0;
}

void fut_qtx_attach(FutQvmm *qvmm)
{
    object_child_foreach_recursive(object_get_root(), wrap_transport, qvmm);
}
