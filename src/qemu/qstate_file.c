/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMUFile into memory that is used again and again. */
#include "qstate.h"

#define FIRST_CAPACITY (256 * 1024)

QEMUFile *fut_qfile_begin(FutQfile *file)
{
    if (!file->file) {
        file->buffer = qio_channel_buffer_new(FIRST_CAPACITY);
        file->file = qemu_file_new_output(QIO_CHANNEL(file->buffer));
    }
    file->buffer->usage = file->buffer->offset = 0;
    return file->file;
}

bool fut_qfile_end(FutQfile *file)
{
    qemu_fflush(file->file);
    if (qemu_file_get_error(file->file) == 0) {
        return true;
    }
    /* A file keeps its first error for good. */
    fut_qfile_close(file);
    return false;
}

bool fut_qfile_pad(FutQfile *file)
{
    static const uint8_t zeros[FUT_PAGE_SIZE];
    size_t length = fut_qfile_length(file);

    qemu_put_buffer(file->file, zeros, ROUND_UP(length, FUT_PAGE_SIZE) - length);
    return fut_qfile_end(file);
}

void fut_qfile_close(FutQfile *file)
{
    if (file->file) {
        qemu_fclose(file->file);
        object_unref(OBJECT(file->buffer));
        *file = (FutQfile){ NULL, NULL };
    }
}
