/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transmission at the kick. When the guest tells virtio-net that packets wait, stock QEMU schedules
 * a bottom half and the main loop sends them some time later. The kick is the output event that a
 * checkpoint is cut for, so here the bottom half is run at once, in the vCPU's own thread: the cut
 * can follow without a detour through another thread (NTT 2007 cut at the event itself, too). While
 * nothing is held QEMU's own way is the better one: there the main loop sends while the guest goes on.
 *
 * The way in: the memory region the guest writes its kick to gets operations that call QEMU's. To
 * schedule a bottom half would wake the main loop, which finds nothing, and takes the processor and
 * the BQL from the vCPU meanwhile. So a queue that is kicked is marked as waiting before: then
 * QEMU's handler does the rest and schedules nothing, as it does for a second kick. What was
 * scheduled all the same is looked for afterwards. Only layouts of QEMU's headers are relied on.
 * Where the kick does not come through a memory region (KVM with ioeventfd), nothing changes.
 */
#include "qvmm.h"

#include "hw/sysbus.h"
#include "hw/virtio/virtio-mmio.h"
#include "hw/virtio/virtio-net.h"
#include "hw/virtio/virtio-pci.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_mmio.h"
#include "standard-headers/linux/virtio_net.h"
#include "standard-headers/linux/virtio_pci.h"

/* Bytes from one queue's place to the next in virtio-pci's notification region. */
#define PCI_NOTIFY_STEP 4u
#define PCI_NOTIFY_STEP_PAGE 0x1000u

/* -- which queue -- */

/* A write to a region: the number of the queue it kicks, or -1. */
typedef int (*KickQueue)(const VirtIOPCIProxy *proxy, hwaddr address, uint64_t data);

static int mmio_queue(const VirtIOPCIProxy *proxy, hwaddr address, uint64_t data)
{
    return address == VIRTIO_MMIO_QUEUE_NOTIFY && data < VIRTIO_QUEUE_MAX ? (int)data : -1;
}

static int legacy_queue(const VirtIOPCIProxy *proxy, hwaddr address, uint64_t data)
{
    return address == VIRTIO_PCI_QUEUE_NOTIFY && data < VIRTIO_QUEUE_MAX ? (int)data : -1;
}

static int modern_queue(const VirtIOPCIProxy *proxy, hwaddr address, uint64_t data)
{
    bool paged = proxy->flags & VIRTIO_PCI_FLAG_PAGE_PER_VQ;
    hwaddr queue = address / (paged ? PCI_NOTIFY_STEP_PAGE : PCI_NOTIFY_STEP);

    return queue < VIRTIO_QUEUE_MAX ? (int)queue : -1;
}

static int modern_pio_queue(const VirtIOPCIProxy *proxy, hwaddr address, uint64_t data)
{
    return data < VIRTIO_QUEUE_MAX ? (int)data : -1;
}

/* -- sending -- */

/* One wrapped region; lives as long as QEMU does. */
typedef struct {
    MemoryRegionOps ops;
    const MemoryRegionOps *inner_ops;
    void *inner;
    KickQueue queue;
    const VirtIOPCIProxy *proxy; /* NULL: virtio-mmio */
    VirtIONet *net;
    FutQvmm *qvmm;
} Kick;

static bool at_once(const Kick *kick)
{
    FutEngine *engine = kick->qvmm->vmm.engine;

    return engine && fut_engine_send_at_kick(engine);
}

/* The transmit queue that this write kicks, if QEMU would schedule its bottom half now and no more. */
static VirtIONetQueue *before(const Kick *kick, hwaddr address, uint64_t data)
{
    VirtIONet *net = kick->net;
    const VirtIODevice *device = &net->parent_obj;
    int number = kick->queue(kick->proxy, address, data);

    /* receive and transmit queues in turn, then the control queue */
    if (number < 0 || number % 2 == 0 || number / 2 >= net->max_queue_pairs) {
        return NULL;
    }
    VirtIONetQueue *queue = &net->vqs[number / 2];
    if (!queue->tx_bh || queue->tx_waiting || !(net->status & VIRTIO_NET_S_LINK_UP) ||
        !device->vm_running || device->broken || !(device->status & VIRTIO_CONFIG_S_DRIVER_OK) ||
        !at_once(kick)) {
        return NULL;
    }
    queue->tx_waiting = 1;
    return queue;
}

static void send_scheduled(const Kick *kick)
{
    VirtIONet *net = kick->net;

    if (!at_once(kick)) {
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

static void after(const Kick *kick, VirtIONetQueue *queue)
{
    if (queue) {
        virtio_queue_set_notification(queue->tx_vq, 0);
        aio_bh_call(queue->tx_bh);
    } else {
        send_scheduled(kick);
    }
}

/* -- the region -- */

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
    VirtIONetQueue *queue = before(kick, address, data);

    kick->inner_ops->write(kick->inner, address, data, size);
    after(kick, queue);
}

static MemTxResult kick_write_attrs(void *opaque, hwaddr address, uint64_t data, unsigned size,
                                    MemTxAttrs attrs)
{
    Kick *kick = opaque;
    VirtIONetQueue *queue = before(kick, address, data);
    MemTxResult result = kick->inner_ops->write_with_attrs(kick->inner, address, data, size, attrs);

    after(kick, queue);
    return result;
}

static void wrap(MemoryRegion *region, KickQueue queue, const VirtIOPCIProxy *proxy, VirtIONet *net,
                 FutQvmm *qvmm)
{
    if (!region->ops || !(region->ops->write || region->ops->write_with_attrs)) {
        return; /* this device does not use that region */
    }
    Kick *kick = g_new0(Kick, 1);
    kick->ops = *region->ops;
    kick->inner_ops = region->ops;
    kick->inner = region->opaque;
    kick->queue = queue;
    kick->proxy = proxy;
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
    FutQvmm *qvmm = opaque;
    BusState *bus = qdev_get_parent_bus(DEVICE(object));
    Object *transport = bus ? OBJECT(bus->parent) : NULL;

    g_ptr_array_add(qvmm->nets, net);
    if (object_dynamic_cast(transport, TYPE_VIRTIO_MMIO)) {
        wrap(&VIRTIO_MMIO(transport)->iomem, mmio_queue, NULL, net, opaque);
    } else if (object_dynamic_cast(transport, TYPE_VIRTIO_PCI)) {
        VirtIOPCIProxy *proxy = VIRTIO_PCI(transport);
        wrap(&proxy->bar, legacy_queue, proxy, net, opaque);
        wrap(&proxy->notify.mr, modern_queue, proxy, net, opaque);
        wrap(&proxy->notify_pio.mr, modern_pio_queue, proxy, net, opaque);
    }
    return 0;
}

void fut_qtx_attach(FutQvmm *qvmm)
{
    qvmm->nets = g_ptr_array_new();
    object_child_foreach_recursive(object_get_root(), wrap_transport, qvmm);
}

/* -- kicks that do not come -- */

/* Packets wait, nobody has been told, and nobody looks. */
static bool forgotten(const VirtIONet *net, const VirtIONetQueue *queue)
{
    const VirtIODevice *device = &net->parent_obj;

    return queue->tx_bh && !queue->tx_waiting && !queue->async_tx.elem &&
           (net->status & VIRTIO_NET_S_LINK_UP) && device->vm_running && !device->broken &&
           (device->status & VIRTIO_CONFIG_S_DRIVER_OK) && !virtio_queue_empty(queue->tx_vq);
}

/*
 * With one vCPU TCG translates the guest's memory barriers to nothing, as if nobody else saw its
 * memory. But the main loop does: when it asks for the next kick and looks for packets once more,
 * while the guest puts one there and looks whether a kick is asked for, neither may see what the
 * other did. Then no packet leaves this guest any more. A vCPU that goes to sleep has nothing on
 * its way: what is found now was forgotten, and is sent as if it had been kicked for. If it was not (another
 * vCPU is about to kick) that does no harm.
 */
void fut_qtx_asleep(FutQvmm *qvmm)
{
    for (guint i = 0; i < qvmm->nets->len && !qvmm->cut.staying; i++) {
        VirtIONet *net = qvmm->nets->pdata[i];
        for (int j = 0; j < net->max_queue_pairs; j++) {
            VirtIONetQueue *queue = &net->vqs[j];
            if (forgotten(net, queue)) {
                queue->tx_waiting = 1;
                virtio_queue_set_notification(queue->tx_vq, 0);
                qemu_bh_schedule(queue->tx_bh);
            }
        }
    }
}
