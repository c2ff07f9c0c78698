/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folder of images: room for those that grow after they were promised, and what a VM has left there. */
#include <errno.h>
#include <string.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fut_error.h"
#include "receive_vm.h"
#include "reloc_files.h"

#define IMAGE_SUFFIX ".img"

int fut_receive_lock(const char *images, GError **error)
{
    g_autofree char *path = g_build_filename(images, ".futago-receive.lock", NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || flock(fd, LOCK_EX) < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s: %s: name a folder that can be written to (--images)", path,
                    g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

FutAddress *fut_receive_address(const char *text, GError **error)
{
    const char *colon = strrchr(text, ':');
    bool port = colon && (colon[-(colon > text)] == ']' || strchr(text, ':') == colon ||
                          g_str_has_prefix(text, "tcp:"));
    g_autofree char *whole = port ? g_strdup(text)
                             : strchr(text, ':') && *text != '['
                                 ? g_strdup_printf("[%s]:%d", text, FUT_RECEIVE_PORT)
                                 : g_strdup_printf("%s:%d", text, FUT_RECEIVE_PORT);
    FutAddress *address = fut_address_parse(whole, error);

    if (address && address->kind != FUT_ADDRESS_TCP) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%s': give HOST or HOST:PORT", text);
        g_clear_pointer(&address, fut_address_free);
    }
    return address;
}

/* What the images that are there lack of their size. */
static uint64_t promised(const char *images)
{
    g_autoptr(GDir) dir = g_dir_open(images, 0, NULL);
    const char *name;
    uint64_t bytes = 0;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(images, name, NULL);
        struct stat about;
        if (!g_str_has_suffix(name, IMAGE_SUFFIX) || stat(path, &about) != 0 ||
            !S_ISREG(about.st_mode)) {
            continue;
        }
        uint64_t size = (uint64_t)about.st_size, has = (uint64_t)about.st_blocks * 512;
        bytes += size > has ? size - has : 0;
    }
    return bytes;
}

bool fut_receive_room(const char *images, uint64_t bytes, GError **error)
{
    struct statvfs about;

    if (statvfs(images, &about) != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: %s", images, g_strerror(errno));
        return false;
    }
    uint64_t room = (uint64_t)about.f_bavail * about.f_frsize, others = promised(images);
    if (bytes > room || others > room - bytes) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s has room for %" G_GUINT64_FORMAT
                    " MB, the VM's disks need %" G_GUINT64_FORMAT
                    " MB and images there may still grow by %" G_GUINT64_FORMAT
                    " MB: make room or use another folder (--images)",
                    images, room >> 20, bytes >> 20, others >> 20);
        return false;
    }
    return true;
}

/* -- what a VM has left -- */

/* False also while a server has it. */
static bool is_whole(const char *image)
{
    FutRelocFiles files = { .cache_fd = -1, .bitmap_fd = -1 };
    g_autofree char *bitmap = g_strdup_printf("%s.bitmap", image);
    FutBitmapIdentity is;
    bool complete = false;

    if (access(bitmap, F_OK) != 0 || !fut_reloc_files_open(&files, image, bitmap, NULL)) {
        return false;
    }
    bool known = fut_bitmap_file_look(&files.io, &is, &complete, NULL);
    fut_reloc_files_close(&files);
    return known && complete;
}

void fut_incoming_left(const FutReceiver *receiver, const char *vm, json_int_t count,
                       json_t *status)
{
    json_int_t images = 0, whole = 0;

    if (!json_is_null(json_object_get(status, "vm"))) {
        return;
    }
    for (int i = 0; i < MIN(count, FUT_RECEIVE_DISKS_MAX); i++) {
        g_autofree char *image = g_strdup_printf("%s/%s-%d" IMAGE_SUFFIX, receiver->images, vm, i);
        if (access(image, F_OK) == 0) {
            images++;
            whole += is_whole(image);
        }
    }
    json_object_set_new(status, "images", json_integer(images));
    json_object_set_new(status, "whole", json_integer(whole));
}
