/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of all devices and vCPUs, in QEMU's migration format without memory. */
#include "qvmm.h"

#include "qstate.h"

#include "fut_error.h"
#include "hw/virtio/virtio-pci.h" /* PCIDevice has moved between QEMU's headers; this one has it */

/* QEMU's stream begins with magic and version; the reader for device state alone wants neither. */
#define STREAM_HEADER_SIZE 8
#define LENGTH_MAX (256u * 1024 * 1024)

/* -- saving -- */

/* For those who wait for the big lock. */
#define REST_US 50

static FutQstate *state_of(FutVmm *vmm)
{
    FutQdevices *devices = &((FutQvmm *)vmm)->devices;

    if (!devices->state) {
        devices->state = fut_qstate_new();
    }
    return devices->state;
}

void fut_qdevices_prepare(FutVmm *vmm)
{
    size_t touched = 0;
    bool more = true;

    fut_qlist_prepare();
    while (more) {
        bool taken = fut_qvmm_lock();
        more = fut_qstate_prepare(state_of(vmm), &touched);
        fut_qvmm_unlock(taken);
        g_usleep(REST_US);
    }
}

static int save(FutQstate *state, unsigned check_every, FutStateImage *ret)
{
    return fut_qstate_save(state, check_every, ret) ? 0 : fut_qstate_save_stock(state, ret);
}

bool fut_qdevices_save(FutVmm *vmm, FutPurpose purpose, FutStateImage *ret, GError **error)
{
    FutQstate *state = state_of(vmm);

    /* Part of the state, and the reader refuses it while it is empty. */
    global_state_store_running();
    bool running = fut_qemu_save_begin();
    int result = save(state, fut_engine_state_check_every(vmm->engine), ret);
    fut_qemu_save_end(running);
    if (result < 0) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "QEMU cannot save its devices (%s): leave out the device named in the line before",
            strerror(-result));
    }
    return result == 0;
}

void fut_qdevices_stats(FutVmm *vmm, FutStateStats *ret)
{
    const FutQstate *state = ((FutQvmm *)vmm)->devices.state;

    *ret = state ? state->stats : (FutStateStats){ 0 };
}

/* -- loading -- */

static int allow_dma(Object *object, void *opaque)
{
    if (object_dynamic_cast(object, TYPE_PCI_DEVICE)) {
        memory_region_set_enabled(&PCI_DEVICE(object)->bus_master_enable_region, true);
    }
    return 0;
}

/* Of devices that load nothing of PCI. */
static int forbid_dma(Object *object, void *opaque)
{
    if (object_dynamic_cast(object, TYPE_PCI_DEVICE)) {
        PCIDevice *device = PCI_DEVICE(object);
        if (!(pci_get_word(device->config + PCI_COMMAND) & PCI_COMMAND_MASTER)) {
            memory_region_set_enabled(&device->bus_master_enable_region, false);
        }
    }
    return 0;
}

static bool machine_has(const char *type)
{
    bool several = false;

    return object_resolve_path_type("", type, &several) || several;
}

/* An IOMMU of the guest's moves what its devices see of memory, and they look at it while they are
 * loaded. Without PCI nothing moves. */
static bool may_load_at_once(void)
{
    return machine_has("pci-host-bridge") && !machine_has("x86-iommu") &&
           !machine_has("virtio-iommu-device");
}

static void allow_all_dma(void)
{
    memory_region_transaction_begin();
    object_child_foreach_recursive(object_get_root(), allow_dma, NULL);
    memory_region_transaction_commit();
}

void fut_qdevices_open(FutQvmm *qvmm)
{
    if (may_load_at_once()) {
        allow_all_dma();
    }
}

/*
 * Each register that moves a piece of the address space makes QEMU build its maps anew, on a q35 for
 * most of the load's time. Here that is done once at the end. Devices that look at guest memory
 * meanwhile see RAM where it was before, which is where it will be; what is behind PCI must be
 * let to it first.
 */
static int load_at_once(QEMUFile *file)
{
    if (!may_load_at_once()) {
        return qemu_load_device_state(file);
    }
    allow_all_dma(); /* of no effect where that was done before */
    memory_region_transaction_begin();
    int result = qemu_load_device_state(file);
    object_child_foreach_recursive(object_get_root(), forbid_dma, NULL);
    memory_region_transaction_commit();
    return result;
}

static int load_from(FutQvmm *qvmm, QIOChannelBuffer *buffer)
{
    FutQdevices *devices = &qvmm->devices;
    QEMUFile *file = qemu_file_new_input(QIO_CHANNEL(buffer));
    bool taken = fut_qvmm_lock();

    /* Under KVM: what is loaded now is newer than what the kernel has. */
    cpu_synchronize_all_pre_loadvm();
    int result = load_at_once(file);
    fut_qahead_keep(qvmm);
    fut_qnet_quieten(qvmm);
    if (devices->state) {
        fut_qstate_forget(devices->state);
    }
    fut_qvmm_unlock(taken);
    qemu_fclose(file);
    return result;
}

bool fut_qdevices_load(FutVmm *vmm, const uint8_t *state, size_t length, GError **error)
{
    if (length <= STREAM_HEADER_SIZE || length > LENGTH_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "device state of %zu bytes cannot be loaded",
                    length);
        return false;
    }
    QIOChannelBuffer *buffer = qio_channel_buffer_new(length);
    memcpy(buffer->data, state, length);
    buffer->usage = length;
    buffer->offset = STREAM_HEADER_SIZE;

    int result = load_from((FutQvmm *)vmm, buffer);
    object_unref(OBJECT(buffer));
    if (result < 0) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_MISMATCH,
            "QEMU cannot load the device state (%s): start both QEMUs with the same command line",
            strerror(-result));
        return false;
    }
    return true;
}
