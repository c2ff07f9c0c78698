/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of all devices and vCPUs, in QEMU's migration format without memory. */
#include "qvmm.h"

#include "qstate.h"

#include "fut_error.h"

/* QEMU's stream begins with magic and version; the reader for device state alone wants neither. */
#define STREAM_HEADER_SIZE 8
#define LENGTH_MAX (256u * 1024 * 1024)

/* -- saving -- */

/* All of it by QEMU's own functions. */
static bool save_stock(FutQfile *file, FutBuf *out, GError **error)
{
    int result = qemu_save_device_state(fut_qfile_begin(file));
    int written = result == 0 ? qemu_file_get_error(file->file) : 0;

    if (!fut_qfile_end(file) || result < 0 || written < 0) {
        fut_qfile_close(file);
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "QEMU cannot save its devices (%s): leave out the device named in the line before",
            strerror(result < 0    ? -result
                     : written < 0 ? -written
                                   : EIO));
        return false;
    }
    fut_buf_append(out, fut_qfile_data(file), fut_qfile_length(file));
    return true;
}

bool fut_qdevices_save(FutVmm *vmm, FutBuf *out, GError **error)
{
    FutQdevices *devices = &((FutQvmm *)vmm)->devices;

    if (!devices->state) {
        devices->state = fut_qstate_new();
    }
    /* Part of the state, and the reader refuses it while it is empty. */
    global_state_store_running();
    return fut_qstate_save(devices->state, fut_engine_state_check_every(vmm->engine), out) ||
           save_stock(&devices->state->stock, out, error);
}

void fut_qdevices_stats(FutVmm *vmm, FutStateStats *ret)
{
    const FutQstate *state = ((FutQvmm *)vmm)->devices.state;

    *ret = state ? state->stats : (FutStateStats){ 0 };
}

/* -- loading -- */

static int load_from(FutQdevices *devices, QIOChannelBuffer *buffer)
{
    QEMUFile *file = qemu_file_new_input(QIO_CHANNEL(buffer));
    bool taken = fut_qvmm_lock();

    /* Under KVM: what is loaded now is newer than what the kernel has. */
    cpu_synchronize_all_pre_loadvm();
    int result = qemu_load_device_state(file);
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

    int result = load_from(&((FutQvmm *)vmm)->devices, buffer);
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
