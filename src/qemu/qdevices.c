/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of all devices and vCPUs, in QEMU's migration format without memory. */
#include "qvmm.h"

#include "qstate.h"

#include "fut_error.h"

/* QEMU's stream begins with magic and version; the reader for device state alone wants neither. */
#define STREAM_HEADER_SIZE 8
#define LENGTH_MAX (256u * 1024 * 1024)

/* -- saving -- */

void fut_qdevices_prepare(FutVmm *vmm)
{
    fut_qlist_prepare();
}

static int save(FutQstate *state, unsigned check_every, FutStateImage *ret)
{
    return fut_qstate_save(state, check_every, ret) ? 0 : fut_qstate_save_stock(state, ret);
}

bool fut_qdevices_save(FutVmm *vmm, FutPurpose purpose, FutStateImage *ret, GError **error)
{
    FutQdevices *devices = &((FutQvmm *)vmm)->devices;

    if (!devices->state) {
        devices->state = fut_qstate_new();
    }
    /* Part of the state, and the reader refuses it while it is empty. */
    global_state_store_running();
    bool running = fut_qemu_save_begin();
    int result = save(devices->state, fut_engine_state_check_every(vmm->engine), ret);
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

static int load_from(FutQvmm *qvmm, QIOChannelBuffer *buffer)
{
    FutQdevices *devices = &qvmm->devices;
    QEMUFile *file = qemu_file_new_input(QIO_CHANNEL(buffer));
    bool taken = fut_qvmm_lock();

    /* Under KVM: what is loaded now is newer than what the kernel has. */
    cpu_synchronize_all_pre_loadvm();
    int result = qemu_load_device_state(file);
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
