/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of all devices and vCPUs, in QEMU's migration format without memory. */
#include "qvmm.h"

#include "fut_error.h"

/* QEMU's stream begins with magic and version; the reader for device state alone wants neither. */
#define STREAM_HEADER_SIZE 8
#define FIRST_CAPACITY (256 * 1024)
#define LENGTH_MAX (256u * 1024 * 1024)

/* -- saving -- */

static void open_file(FutQdevices *devices)
{
    if (!devices->file) {
        devices->buffer = qio_channel_buffer_new(FIRST_CAPACITY);
        devices->file = qemu_file_new_output(QIO_CHANNEL(devices->buffer));
    }
    devices->buffer->usage = devices->buffer->offset = 0;
}

/* A file keeps its first error for good. */
static void close_file(FutQdevices *devices)
{
    qemu_fclose(devices->file);
    object_unref(OBJECT(devices->buffer));
    devices->file = NULL;
    devices->buffer = NULL;
}

bool fut_qdevices_save(FutVmm *vmm, FutBuf *out, GError **error)
{
    FutQdevices *devices = &((FutQvmm *)vmm)->devices;

    open_file(devices);
    /* Part of the state, and the reader refuses it while it is empty. */
    global_state_store_running();
    int result = qemu_save_device_state(devices->file);
    qemu_fflush(devices->file);
    if (result == 0) {
        result = qemu_file_get_error(devices->file);
    }
    if (result < 0) {
        close_file(devices);
        g_set_error(
            error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
            "QEMU cannot save its devices (%s): leave out the device named in the line before",
            strerror(-result));
        return false;
    }
    fut_buf_append(out, devices->buffer->data, devices->buffer->usage);
    return true;
}

/* -- loading -- */

static int load_from(QIOChannelBuffer *buffer)
{
    QEMUFile *file = qemu_file_new_input(QIO_CHANNEL(buffer));
    bool taken = fut_qvmm_lock();

    /* Under KVM: what is loaded now is newer than what the kernel has. */
    cpu_synchronize_all_pre_loadvm();
    int result = qemu_load_device_state(file);
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

    int result = load_from(buffer);
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
