/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device, as QEMU's virtio_save() writes it: the transport's configuration, the queues in
 * use, the device's own state, then subsections with tables of all 1024 queues a device could have.
 *
 * Only a few queues exist. The others hold nothing but zeros, and nothing can change that without
 * changing the number of queues: QEMU refuses to set a size or an address of a queue that does not
 * exist, and a new queue takes the first free place. So their part of a table is written once and
 * their memory (150 KB a device) is not looked at. How far the used part reaches is found out again
 * when the number of queues or the device's status changes.
 */
#include "qstate.h"

#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio.h"

#define SUBS_MAX 32
#define OFFSET_QUEUES offsetof(VirtIODevice, vq)

typedef enum {
    SUB_PLAIN,
    SUB_RINGS, /* "virtio/virtqueues" */
    SUB_SIZES, /* "virtio/ringsize" */
    SUB_EXTRA, /* "virtio/extra_state" */
} SubKind;

/* One of the subsections. */
typedef struct {
    SubKind kind;
    bool (*needed)(void *opaque);
    const FutQcode
        *code; /* of the subsection, of a row of its table, or of the transport's state */
    const uint8_t *head;
    size_t head_length;
} Sub;

typedef struct {
    BusState *bus;
    VirtioBusClass *bus_class;
    VirtioDeviceClass *class;
    const FutQcode *own; /* the device's own state, or NULL */
    Sub subs[SUBS_MAX];
    unsigned sub_count;
    bool stock;      /* by virtio_save() */
    size_t stride;   /* of the queues */
    unsigned queues; /* that exist */
    unsigned live;   /* queues from here on are all zero */
    uint8_t status;  /* when `live` was found out */
} FutQvirtio;

static FutQemuQueue *queue_at(const FutQvirtio *virtio, VirtIODevice *device, unsigned number)
{
    return (FutQemuQueue *)((uint8_t *)device->vq + number * virtio->stride);
}

/* -- what is known of a device -- */

/* The field is the table of all queues; returns the size of a queue. */
static size_t table_stride(const VMStateField *field)
{
    bool table = field->name && (field->flags & VMS_STRUCT) && (field->flags & VMS_POINTER) &&
                 field->offset == OFFSET_QUEUES && !field->field_exists && !field[1].name;

    return table ? field->size : 0;
}

static const VMStateDescription *subsection(const VMStateDescription *vmsd, const char *name)
{
    for (int i = 0; vmsd->subsections[i]; i++) {
        if (g_str_equal(vmsd->subsections[i]->name, name)) {
            return vmsd->subsections[i];
        }
    }
    return NULL;
}

/* The description's only structure has this 4- or 8-byte member at that offset. */
static bool describes(const VMStateDescription *table, unsigned member, size_t offset)
{
    const VMStateField *fields = table->fields[0].vmsd->fields;

    for (unsigned i = 0; i <= member; i++) {
        if (!fields[i].name) {
            return false;
        }
    }
    return fields[member].offset == offset;
}

/* QEMU's own description says that its queues look as we think. */
static bool shape_is_known(const VMStateDescription *common, size_t *ret_stride)
{
    const VMStateDescription *rings = subsection(common, "virtio/virtqueues");
    const VMStateDescription *sizes = subsection(common, "virtio/ringsize");

    if (common->pre_save || common->post_save || common->fields[0].name || !rings || !sizes) {
        return false;
    }
    *ret_stride = table_stride(&rings->fields[0]);
    return *ret_stride >= sizeof(FutQemuQueue) && *ret_stride == table_stride(&sizes->fields[0]) &&
           describes(rings, 0, offsetof(FutQemuQueue, avail)) &&
           describes(rings, 1, offsetof(FutQemuQueue, used)) &&
           describes(sizes, 0, offsetof(FutQemuQueue, num_default));
}

/* What the transport adds, by its description; NULL: by its function. */
static const FutQcode *transport_code(FutQrun *run, const FutQvirtio *virtio)
{
    const VMStateDescription *vmsd = NULL;

    if (object_dynamic_cast(OBJECT(virtio->bus->parent), "virtio-pci")) {
        vmsd = fut_qlist_description("virtio_pci");
    } else if (object_dynamic_cast(OBJECT(virtio->bus->parent), "virtio-mmio")) {
        vmsd = fut_qlist_description("virtio_mmio");
    }
    return vmsd ? fut_qcode_get(run->codes, vmsd, vmsd->version_id) : NULL;
}

static Sub sub_new(FutQrun *run, const FutQvirtio *virtio, const VMStateDescription *vmsd)
{
    Sub sub = { .kind = SUB_PLAIN, .needed = vmsd->needed };
    g_autofree uint8_t *head = fut_qcode_subsection(vmsd, &sub.head_length);

    sub.head = fut_qcode_keep(run->codes, head, sub.head_length);
    if (g_str_equal(vmsd->name, "virtio/virtqueues")) {
        sub.kind = SUB_RINGS;
        vmsd = vmsd->fields[0].vmsd;
    } else if (g_str_equal(vmsd->name, "virtio/ringsize")) {
        sub.kind = SUB_SIZES;
        vmsd = vmsd->fields[0].vmsd;
    } else if (g_str_equal(vmsd->name, "virtio/extra_state")) {
        sub.kind = SUB_EXTRA;
    }
    sub.code = sub.kind == SUB_EXTRA ? transport_code(run, virtio)
                                     : fut_qcode_get(run->codes, vmsd, vmsd->version_id);
    return sub;
}

static FutQvirtio *virtio_new(FutQrun *run, VirtIODevice *device)
{
    FutQvirtio *virtio = g_new0(FutQvirtio, 1);
    const VMStateDescription *common = fut_qlist_description("virtio");

    virtio->bus = qdev_get_parent_bus(DEVICE(device));
    virtio->bus_class = VIRTIO_BUS_GET_CLASS(virtio->bus);
    virtio->class = VIRTIO_DEVICE_GET_CLASS(device);
    virtio->queues = UINT_MAX;
    if (!common || !shape_is_known(common, &virtio->stride)) {
        virtio->stock = true;
        return virtio;
    }
    if (virtio->class->vmsd) {
        virtio->own =
            fut_qcode_get(run->codes, virtio->class->vmsd, virtio->class->vmsd->version_id);
    }
    for (int i = 0; common->subsections[i] && !virtio->stock; i++) {
        virtio->stock = virtio->sub_count == SUBS_MAX;
        if (!virtio->stock) {
            virtio->subs[virtio->sub_count++] = sub_new(run, virtio, common->subsections[i]);
        }
    }
    return virtio;
}

static FutQvirtio *virtio_of(FutQrun *run, VirtIODevice *device)
{
    FutQvirtio *virtio = g_hash_table_lookup(run->virtio, device);

    if (!virtio) {
        virtio = virtio_new(run, device);
        g_hash_table_insert(run->virtio, device, virtio);
    }
    return virtio;
}

/* -- queues -- */

static void find_live(FutQvirtio *virtio, VirtIODevice *device, unsigned queues)
{
    unsigned live = MIN(queues + 1, VIRTIO_QUEUE_MAX);

    for (unsigned i = live; i < VIRTIO_QUEUE_MAX; i++) {
        const FutQemuQueue *queue = queue_at(virtio, device, i);
        if (queue->num || queue->num_default || queue->desc || queue->avail || queue->used) {
            live = i + 1;
        }
    }
    virtio->queues = queues;
    virtio->live = live;
    virtio->status = device->status;
}

static void look_at_queues(FutQvirtio *virtio, VirtIODevice *device)
{
    unsigned queues = 0;

    while (queues < VIRTIO_QUEUE_MAX && queue_at(virtio, device, queues)->num) {
        queues++;
    }
    if (queues != virtio->queues || device->status != virtio->status) {
        find_live(virtio, device, queues);
    }
}

static void put_queues(const FutQvirtio *virtio, VirtIODevice *device, QEMUFile *file)
{
    qemu_put_be32(file, virtio->queues);
    for (unsigned i = 0; i < virtio->queues; i++) {
        const FutQemuQueue *queue = queue_at(virtio, device, i);
        qemu_put_be32(file, queue->num);
        if (virtio->bus_class->has_variable_vring_alignment) {
            qemu_put_be32(file, queue->align);
        }
        qemu_put_be64(file, queue->desc);
        qemu_put_be16(file, queue->last_avail_idx);
        if (virtio->bus_class->save_queue) {
            virtio->bus_class->save_queue(virtio->bus->parent, i, file);
        }
    }
}

/* -- sections -- */

static bool run_head(FutQrun *run, const FutQvirtio *virtio, VirtIODevice *device)
{
    QEMUFile *file = fut_qrun_put(run);

    if (virtio->bus_class->save_config) {
        virtio->bus_class->save_config(virtio->bus->parent, file);
    }
    qemu_put_byte(file, device->status);
    qemu_put_byte(file, device->isr);
    qemu_put_be16(file, device->queue_sel);
    qemu_put_be32(file, (uint32_t)device->guest_features);
    qemu_put_be32(file, device->config_len);
    qemu_put_buffer(file, device->config, device->config_len);
    put_queues(virtio, device, file);
    if (virtio->class->save) {
        virtio->class->save(device, file);
    }
    return fut_qrun_put_done(run);
}

/* A table of members of queues that are zero where there is no queue. */
static bool run_table_of_queues(FutQrun *run, const FutQvirtio *virtio, VirtIODevice *device,
                                const Sub *sub)
{
    size_t begin = run->length;

    for (unsigned i = 0; i < virtio->live; i++) {
        if (!fut_qrun_code(run, sub->code, queue_at(virtio, device, i))) {
            return false;
        }
    }
    size_t each = (run->length - begin) / virtio->live;
    return fut_qrun_zeros(run, sub, each * (VIRTIO_QUEUE_MAX - virtio->live));
}

static bool sizes_needed(const FutQvirtio *virtio, VirtIODevice *device)
{
    for (unsigned i = 0; i < virtio->live; i++) {
        const FutQemuQueue *queue = queue_at(virtio, device, i);
        if (queue->num != queue->num_default) {
            return true;
        }
    }
    return false;
}

static bool run_extra(FutQrun *run, const FutQvirtio *virtio, const Sub *sub)
{
    if (sub->code) {
        return fut_qrun_code(run, sub->code, virtio->bus->parent);
    }
    virtio->bus_class->save_extra_state(virtio->bus->parent, fut_qrun_put(run));
    return fut_qrun_put_done(run);
}

static bool run_sub(FutQrun *run, const FutQvirtio *virtio, VirtIODevice *device, const Sub *sub)
{
    bool needed =
        sub->kind == SUB_SIZES ? sizes_needed(virtio, device) : !sub->needed || sub->needed(device);

    if (!needed) {
        return true;
    }
    if (!fut_qrun_bytes(run, sub->head, sub->head_length)) {
        return false;
    }
    switch (sub->kind) {
    case SUB_RINGS:
    case SUB_SIZES:
        return run_table_of_queues(run, virtio, device, sub);
    case SUB_EXTRA:
        return run_extra(run, virtio, sub);
    default:
        return fut_qrun_code(run, sub->code, device);
    }
}

static bool run_stock(FutQrun *run, VirtIODevice *device)
{
    QEMUFile *file = fut_qrun_put(run);

    return virtio_save(device, file) == 0 && fut_qrun_put_done(run);
}

bool fut_qvirtio_run(FutQrun *run, VirtIODevice *device)
{
    FutQvirtio *virtio = virtio_of(run, device);

    if (virtio->stock) {
        return run_stock(run, device);
    }
    look_at_queues(virtio, device);
    if (!run_head(run, virtio, device) ||
        (virtio->own && !fut_qrun_code(run, virtio->own, device))) {
        return false;
    }
    for (unsigned i = 0; i < virtio->sub_count; i++) {
        if (!run_sub(run, virtio, device, &virtio->subs[i])) {
            return false;
        }
    }
    return true;
}
